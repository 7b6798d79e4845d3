//! Which engine a command speaks to, and the connection to it.
//!
//! The order is Docker's, with our own variable before its: `--context`, `--host`, `CONEX_HOST`,
//! `DOCKER_HOST`, `DOCKER_CONTEXT`, `currentContext` of the settings, and last the default socket.
//! Only an engine at the default socket is started when nobody answers ([`autostart`]).

mod autostart;
pub(crate) mod tls;

use std::path::PathBuf;

use conex_client::{Client, Host, TlsMaterial};

use crate::context::Context;
use crate::contexts::Contexts;
use crate::error::CliError;

/// The socket of an engine nobody configured.
const DEFAULT_SOCKET: &str = "/run/conex.sock";
/// Where an engine with TLS is looked for when nobody said where.
const DEFAULT_TLS_HOST: &str = "tcp://localhost:2376";
/// The context that stands for "no context".
pub const DEFAULT_CONTEXT: &str = "default";

/// An engine's address and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub host: Host,
    /// The context it was taken from, `default` without one.
    pub context: String,
    /// Whether it is the default socket, whose engine may be started on demand.
    pub is_default: bool,
    /// The certificates for it, whether or not its host is one that needs them.
    pub tls: Option<TlsMaterial>,
}

/// What the choice of an engine depends on.
#[derive(Debug, Default)]
struct Choice<'a> {
    context_flag: Option<&'a str>,
    host_flag: Option<&'a str>,
    conex_host: Option<String>,
    docker_host: Option<String>,
    docker_context: Option<String>,
    current_context: &'a str,
    exec_root: Option<PathBuf>,
    /// TLS is asked for, which has a default place of its own.
    is_tls: bool,
}

/// The engine the options and the environment name; opens no connection.
///
/// # Errors
/// For `--host` beside `--context`, an address of no known form, an unknown context, and certificates that
/// cannot be used.
pub fn endpoint(ctx: &Context) -> Result<Endpoint, CliError> {
    let choice = choice(ctx);
    secured(
        ctx,
        choose(&choice, &Contexts::of(&ctx.globals.config_dir))?,
    )
}

fn choice(ctx: &Context) -> Choice<'_> {
    let globals = &ctx.globals;
    Choice {
        context_flag: globals.context.as_deref(),
        host_flag: globals.hosts.last().map(String::as_str),
        conex_host: variable("CONEX_HOST"),
        docker_host: variable("DOCKER_HOST"),
        docker_context: variable("DOCKER_CONTEXT"),
        current_context: &ctx.config().current_context,
        exec_root: variable("CONEX_EXEC_ROOT").map(PathBuf::from),
        is_tls: tls::is_asked(globals),
    }
}

/// The engine of the context `default`, whichever context is in use.
///
/// # Errors
/// For an address of no known form, and certificates that cannot be used.
pub fn default_endpoint(ctx: &Context) -> Result<Endpoint, CliError> {
    let choice = Choice {
        host_flag: ctx.globals.hosts.last().map(String::as_str),
        conex_host: variable("CONEX_HOST"),
        docker_host: variable("DOCKER_HOST"),
        exec_root: variable("CONEX_EXEC_ROOT").map(PathBuf::from),
        is_tls: tls::is_asked(&ctx.globals),
        ..Choice::default()
    };
    secured(
        ctx,
        choose(&choice, &Contexts::of(&ctx.globals.config_dir))?,
    )
}

/// The name of the context in use. Errors as [`endpoint`], but for certificates.
pub fn context_name(ctx: &Context) -> Result<String, CliError> {
    let choice = choice(ctx);
    Ok(choose(&choice, &Contexts::of(&ctx.globals.config_dir))?.context)
}

/// The endpoint with its certificates. A context's own are no matter of options.
fn secured(ctx: &Context, endpoint: Endpoint) -> Result<Endpoint, CliError> {
    let material = match endpoint.context.as_str() {
        DEFAULT_CONTEXT => match &endpoint.host {
            Host::Tcp(_) => tls::of_options(&ctx.globals)?,
            // Certificates that are named for a socket are not even looked at.
            _ => None,
        },
        name => {
            let contexts = Contexts::of(&ctx.globals.config_dir);
            match contexts.get(name) {
                Some(stored) => tls::of_context(&contexts, &stored)?,
                None => None,
            }
        }
    };
    Ok(Endpoint {
        host: tls::apply(endpoint.host, material.as_ref())?,
        tls: material,
        ..endpoint
    })
}

/// A client of that engine with its first connection made; starts the default engine if need be.
///
/// # Errors
/// What [`endpoint`] says, and [`CliError::Client`] when nobody answers.
pub fn client(ctx: &Context) -> Result<Client, CliError> {
    let endpoint = endpoint(ctx)?;
    let connected = match ctx.block_on(Client::connect(&endpoint.host)) {
        Err(error) if error.is_nobody_listening() && endpoint.is_default => {
            match autostart::plan(&endpoint.host) {
                Some(plan) => autostart::start(ctx, &endpoint.host, &plan, error)?,
                None => return Err(error.into()),
            }
        }
        result => result?,
    };
    let headers = &ctx.config().http_headers;
    let connected = headers.iter().fold(connected, |client, (name, value)| {
        client.with_header(name, value)
    });
    Ok(match variable("DOCKER_API_VERSION") {
        Some(version) => connected.with_version(&version),
        None => connected,
    })
}

fn choose(choice: &Choice, contexts: &Contexts) -> Result<Endpoint, CliError> {
    if choice.context_flag.is_some() && choice.host_flag.is_some() {
        return Err(CliError::message(
            "conflicting options: cannot specify both --host and --context",
        ));
    }
    let environment = choice
        .conex_host
        .as_deref()
        .or(choice.docker_host.as_deref());
    let context = match choice.context_flag {
        Some(name) => name,
        None if choice.host_flag.is_some() || environment.is_some() => DEFAULT_CONTEXT,
        None => choice
            .docker_context
            .as_deref()
            .unwrap_or(choice.current_context),
    };
    if !matches!(context, "" | DEFAULT_CONTEXT) {
        let host = context_host(context, contexts)?;
        return Ok(Endpoint {
            host,
            context: context.to_owned(),
            is_default: false,
            tls: None,
        });
    }
    let context = DEFAULT_CONTEXT.to_owned();
    let tls_default = choice.is_tls.then_some(DEFAULT_TLS_HOST);
    Ok(match choice.host_flag.or(environment).or(tls_default) {
        Some(text) => Endpoint {
            host: parse(text)?,
            context,
            is_default: false,
            tls: None,
        },
        None => {
            // A private run root has a private socket, so that engines do not meet by accident.
            let socket = match &choice.exec_root {
                Some(root) => root.join("conex.sock"),
                None => PathBuf::from(DEFAULT_SOCKET),
            };
            Endpoint {
                host: Host::Unix(socket),
                context,
                is_default: true,
                tls: None,
            }
        }
    })
}

fn parse(text: &str) -> Result<Host, CliError> {
    Host::parse(text).map_err(|error| CliError::message(error.to_string()))
}

/// The address a saved context holds.
fn context_host(name: &str, contexts: &Contexts) -> Result<Host, CliError> {
    let stored = contexts
        .get(name)
        .ok_or_else(|| CliError::message(format!("context \"{name}\": context not found")))?;
    let docker = stored
        .endpoints
        .docker
        .ok_or_else(|| CliError::message(format!("context \"{name}\": no docker endpoint")))?;
    parse(&docker.host)
}

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    fn choose(choice: &Choice, config: &Path) -> Result<Endpoint, CliError> {
        super::choose(choice, &Contexts::of(config))
    }

    fn host_of(choice: &Choice) -> String {
        choose(choice, Path::new("/nonexistent"))
            .unwrap()
            .host
            .to_string()
    }

    #[test]
    fn the_default_socket_may_be_started_and_no_other() {
        let choice = Choice::default();
        let endpoint = choose(&choice, Path::new("/")).unwrap();
        assert_eq!(endpoint.host.to_string(), "unix:///run/conex.sock");
        assert!(endpoint.is_default);
        let choice = Choice {
            exec_root: Some("/tmp/x".into()),
            ..choice
        };
        assert_eq!(host_of(&choice), "unix:///tmp/x/conex.sock");
        let choice = Choice {
            host_flag: Some("unix:///run/conex.sock"),
            ..choice
        };
        assert!(!choose(&choice, Path::new("/")).unwrap().is_default);
    }

    #[test]
    fn tls_without_an_address_is_dockers_port_for_it() {
        let choice = Choice {
            is_tls: true,
            exec_root: Some("/tmp/x".into()),
            ..Choice::default()
        };
        assert_eq!(host_of(&choice), "tcp://localhost:2376");
        let choice = Choice {
            docker_host: Some("tcp://there:1".into()),
            ..choice
        };
        assert_eq!(host_of(&choice), "tcp://there:1");
    }

    #[test]
    fn flags_go_before_variables_and_ours_before_dockers() {
        let all = || Choice {
            host_flag: Some("tcp://flag:1"),
            conex_host: Some("tcp://conex:1".into()),
            docker_host: Some("tcp://docker:1".into()),
            docker_context: Some("nope".into()),
            current_context: "nope",
            ..Choice::default()
        };
        assert_eq!(host_of(&all()), "tcp://flag:1");
        assert_eq!(
            host_of(&Choice {
                host_flag: None,
                ..all()
            }),
            "tcp://conex:1"
        );
        assert_eq!(
            host_of(&Choice {
                host_flag: None,
                conex_host: None,
                ..all()
            }),
            "tcp://docker:1"
        );
        let contexts_only = Choice {
            host_flag: None,
            conex_host: None,
            docker_host: None,
            ..all()
        };
        let error = choose(&contexts_only, Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.text().unwrap(), "context \"nope\": context not found");
    }

    #[test]
    fn a_context_is_found_by_the_name_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, text) in [
            ("aa", "{"),
            (
                "bb",
                r#"{"Name":"other","Endpoints":{"docker":{"Host":"tcp://other:1"}}}"#,
            ),
            (
                "cc",
                r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://far:1","SkipTLSVerify":false}}}"#,
            ),
        ] {
            let folder = dir.path().join("contexts/meta").join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("meta.json"), text).unwrap();
        }
        let flag = Choice {
            context_flag: Some("far"),
            docker_host: Some("tcp://no:1".into()),
            ..Choice::default()
        };
        let endpoint = choose(&flag, dir.path()).unwrap();
        assert_eq!(
            (
                endpoint.host.to_string().as_str(),
                endpoint.context.as_str()
            ),
            ("tcp://far:1", "far")
        );
        let current = Choice {
            current_context: "other",
            ..Choice::default()
        };
        assert_eq!(
            choose(&current, dir.path()).unwrap().host.to_string(),
            "tcp://other:1"
        );
        let default = Choice {
            context_flag: Some("default"),
            docker_host: Some("tcp://d:1".into()),
            ..Choice::default()
        };
        assert_eq!(
            choose(&default, dir.path()).unwrap().host.to_string(),
            "tcp://d:1"
        );
    }

    #[test]
    fn host_and_context_together_are_refused() {
        let choice = Choice {
            context_flag: Some("a"),
            host_flag: Some("b"),
            ..Choice::default()
        };
        assert_eq!(
            choose(&choice, Path::new("/")).unwrap_err().text().unwrap(),
            "conflicting options: cannot specify both --host and --context"
        );
        let ssh = Choice {
            host_flag: Some("npipe://x"),
            ..Choice::default()
        };
        assert_eq!(
            choose(&ssh, Path::new("/")).unwrap_err().text().unwrap(),
            "npipe:// hosts are not supported yet"
        );
    }
}
