//! `conex context …`: engines by name.

pub mod create;
pub mod inspect;
pub mod ls;
pub mod rm;
pub mod show;
pub mod update;
pub mod r#use;

use std::io::Write;

use crate::connect::DEFAULT_CONTEXT;
use crate::context::Context;
use crate::contexts::{Contexts, Endpoint, PEMS, Stored};
use crate::error::CliError;
use crate::flag::Flag;

/// `--docker` of create and update.
const DOCKER_FLAG: Flag = Flag::checked_list(
    "docker",
    "stringToString",
    check_pairs,
    "set the docker endpoint",
)
.default("[]");

const DESCRIPTION_FLAG: Flag = Flag::string("description", "Description of the context");

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

/// Refuses a name that cannot be a new context's.
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

/// An endpoint with copies of its certificates, by file name.
type NewEndpoint = (Endpoint, Vec<(&'static str, Vec<u8>)>);

/// The endpoint that `--docker` describes.
fn endpoint(ctx: &Context, values: &[String]) -> Result<NewEndpoint, CliError> {
    let pairs = values.iter().flat_map(|value| value.split(','));
    let mut endpoint = Endpoint::default();
    let mut files = Vec::new();
    for (key, value) in pairs.filter_map(|pair| pair.split_once('=')) {
        match key {
            "host" => {
                conex_client::Host::parse(value).map_err(|error| {
                    CliError::message(format!("unable to parse docker host: {error}"))
                })?;
                value.clone_into(&mut endpoint.host);
            }
            "skip-tls-verify" => {
                endpoint.skip_tls_verify = value.parse().map_err(|_| {
                    CliError::message(format!("skip-tls-verify: {value} is no boolean"))
                })?;
            }
            "from" => {
                let other = stored(ctx, value)?;
                endpoint = other.endpoints.docker.unwrap_or_default();
                let dir = store(ctx).tls_dir(value).join("docker");
                for (_, file) in PEMS {
                    if let Ok(bytes) = std::fs::read(dir.join(file)) {
                        files.push((file, bytes));
                    }
                }
            }
            _ => match PEMS.iter().find(|(word, _)| *word == key) {
                Some((_, file)) => {
                    let bytes =
                        std::fs::read(value).map_err(|error| CliError::open(value, error))?;
                    files.push((file, bytes));
                }
                None => {
                    return Err(CliError::message(format!("unrecognized config key: {key}")));
                }
            },
        }
    }
    Ok((endpoint, files))
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
