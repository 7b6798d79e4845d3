//! `conex context …`: engines by name.

pub mod create;
pub mod export;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod r#use;

use std::collections::BTreeMap;
use std::io::Write;

use conex_client::{Host, Tls};

use crate::connect::{self, DEFAULT_CONTEXT};
use crate::context::Context;
use crate::contexts::{
    Certificates, Contexts, DOCKER, Endpoint, Endpoints, PEMS, Stored, read_pem,
};
use crate::error::CliError;
use crate::flag::{self, Flag};

/// `--docker` of create and update.
const DOCKER_FLAG: Flag = Flag::checked_list(
    "docker",
    "stringToString",
    check_pairs,
    "set the docker endpoint",
)
.default("[]");

const DESCRIPTION_FLAG: Flag = Flag::string("description", "Description of the context");

/// What the context without a name says of itself.
const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";

/// Refuses a value that is no list of `key=value`.
fn check_pairs(text: &str) -> Result<(), String> {
    match text.split(',').find(|pair| !pair.contains('=')) {
        Some(pair) => Err(format!("{pair} must be formatted as key=value")),
        None => Ok(()),
    }
}

/// The contexts of the configuration directory in use.
fn store(ctx: &Context) -> Contexts {
    Contexts::of(&ctx.globals.config_dir)
}

/// A context that was saved. Errors when there is none of that name.
fn stored(ctx: &Context, name: &str) -> Result<Stored, CliError> {
    let missing = || CliError::message(format!("context \"{name}\": context not found"));
    store(ctx).get(name).ok_or_else(missing)
}

/// Refuses a name that cannot be a new context's, or is one's already.
fn check_new(ctx: &Context, name: &str) -> Result<(), CliError> {
    check_name(name)?;
    match store(ctx).get(name) {
        Some(_) => Err(CliError::message(format!(
            "context \"{name}\" already exists"
        ))),
        None => Ok(()),
    }
}

/// Refuses a name that cannot be a context's.
fn check_name(name: &str) -> Result<(), CliError> {
    if name == DEFAULT_CONTEXT {
        return Err(CliError::message("\"default\" is a reserved context name"));
    }
    let mut bytes = name.bytes();
    let is_valid = name.len() > 1
        && bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte));
    match is_valid {
        true => Ok(()),
        false => Err(CliError::message(format!(
            "context name \"{name}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        ))),
    }
}

/// The endpoint that `--docker` describes and its certificates by file name, which are proved to be some.
fn endpoint(
    ctx: &Context,
    values: &[String],
) -> Result<(Endpoint, BTreeMap<String, Vec<u8>>), CliError> {
    let refused =
        |text: &str| CliError::message(format!("unable to create docker endpoint config: {text}"));
    let pairs = values.iter().flat_map(|value| value.split(','));
    let mut endpoint = Endpoint::default();
    let mut files = BTreeMap::new();
    for (key, value) in pairs.filter_map(|pair| pair.split_once('=')) {
        match key {
            "host" => value.clone_into(&mut endpoint.host),
            "skip-tls-verify" => {
                endpoint.skip_tls_verify = flag::parse_bool(value).map_err(|error| {
                    let error = error.trim_start_matches("strconv.ParseBool: ");
                    refused(&format!("skip-tls-verify: {error}"))
                })?;
            }
            "from" => {
                let (other, mut certificates) = copy_of(ctx, value)?;
                let endpoint = other.endpoints.docker.unwrap_or_default();
                return Ok((endpoint, certificates.remove(DOCKER).unwrap_or_default()));
            }
            _ => {
                let Some((_, file)) = PEMS.iter().find(|(word, _)| *word == key) else {
                    return Err(refused(&format!("unrecognized config key: {key}")));
                };
                let bytes = read_pem(value.as_ref()).map_err(|error| {
                    refused(&CliError::open(value, error).text().unwrap_or_default())
                })?;
                files.insert((*file).to_owned(), bytes);
            }
        }
    }
    if !endpoint.host.is_empty() {
        let host = Host::parse(&endpoint.host)
            .map_err(|error| refused(&format!("unable to parse docker host: {error}")))?;
        let is_tls = endpoint.skip_tls_verify || !files.is_empty();
        if is_tls && matches!(host, Host::Tcp(_)) {
            let material = connect::tls::material(files.clone(), endpoint.skip_tls_verify);
            Tls::new(&material)
                .map_err(|error| refused(&format!("invalid docker endpoint options: {error}")))?;
        }
    }
    Ok((endpoint, files))
}

/// Any context as it would be saved, the one without a name too, and its certificates.
fn copy_of(ctx: &Context, name: &str) -> Result<(Stored, Certificates), CliError> {
    if name != DEFAULT_CONTEXT {
        return Ok((stored(ctx, name)?, store(ctx).certificates(name)?));
    }
    let current = connect::default_endpoint(ctx)?;
    let tls = current.tls.unwrap_or_default();
    let stored = Stored {
        name: name.to_owned(),
        endpoints: Endpoints {
            docker: Some(Endpoint {
                host: current.host.to_string(),
                skip_tls_verify: tls.skip_verify,
            }),
            ..Endpoints::default()
        },
        ..Stored::default()
    };
    let bytes = [tls.ca, tls.cert, tls.key];
    let pems = PEMS.iter().zip(bytes);
    let files: BTreeMap<_, _> = pems
        .filter_map(|((_, file), bytes)| Some(((*file).to_owned(), bytes?)))
        .collect();
    let mut certificates = Certificates::new();
    if !files.is_empty() {
        certificates.insert(DOCKER.to_owned(), files);
    }
    Ok((stored, certificates))
}

/// Says that a variable wins over the context, where it does.
fn warn_of_host(ctx: &mut Context) -> Result<(), CliError> {
    let variable = ["CONEX_HOST", "DOCKER_HOST"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if let Some(name) = variable {
        writeln!(
            ctx.err,
            "Warning: {name} environment variable overrides the active context. To use a context, either set the global --context flag, or unset {name} environment variable."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_docker_does() {
        for good in ["ab", "a.b+c-d_e", "9x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-ab", "a b", "a/b", "default"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
