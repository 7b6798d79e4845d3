//! `docker-credential-<name>`: a program that keeps credentials.
//!
//! ```text
//! get      stdin: server                              stdout: {"ServerURL","Username","Secret"}
//! store    stdin: {"ServerURL","Username","Secret"}
//! erase    stdin: server
//! ```
//!
//! The user `<token>` says that the secret is an identity token.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use conex_api::image::AuthConfig;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

const TOKEN_USER: &str = "<token>";
/// What helpers say to a server they do not know.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

/// A registry's credentials, empty ones if the helper has none.
pub(super) fn get(name: &str, server: &str) -> Result<AuthConfig, CliError> {
    let Some(answer) = call(name, Verb::Get, server.as_bytes())? else {
        return Ok(AuthConfig::default());
    };
    let entry: Entry = serde_json::from_slice(&answer)
        .map_err(|error| failed(Verb::Get, &format!("the answer is no JSON: {error}"), b""))?;
    Ok(match entry.username.as_str() {
        TOKEN_USER => AuthConfig {
            identity_token: entry.secret,
            ..AuthConfig::default()
        },
        _ => AuthConfig {
            username: entry.username,
            password: entry.secret,
            ..AuthConfig::default()
        },
    })
}

/// Gives a registry's credentials to the helper.
pub(super) fn store(name: &str, server: &str, auth: &AuthConfig) -> Result<(), CliError> {
    let (username, secret) = match auth.identity_token.is_empty() {
        true => (auth.username.clone(), auth.password.clone()),
        false => (TOKEN_USER.to_owned(), auth.identity_token.clone()),
    };
    let entry = Entry {
        server_url: server.to_owned(),
        username,
        secret,
    };
    let input = serde_json::to_vec(&entry).expect("an entry is a JSON object");
    call(name, Verb::Store, &input).map(drop)
}

/// Has the helper forget a registry.
pub(super) fn erase(name: &str, server: &str) -> Result<(), CliError> {
    call(name, Verb::Erase, server.as_bytes()).map(drop)
}

/// What a helper is told to do.
#[derive(Clone, Copy)]
enum Verb {
    Get,
    Store,
    Erase,
}

impl Verb {
    /// As its argument, and in Docker's words for its failure.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("get", "getting"),
            Self::Store => ("store", "storing"),
            Self::Erase => ("erase", "erasing"),
        }
    }
}

/// Runs the helper; `None` if it knows no such server.
fn call(name: &str, verb: Verb, input: &[u8]) -> Result<Option<Vec<u8>>, CliError> {
    let program = format!("docker-credential-{name}");
    let started = Command::new(&program)
        .arg(verb.words().0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = started.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
            _ => error.to_string(),
        };
        failed(verb, &format!("exec: {program:?}: {reason}"), b"")
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input has said so by its exit code.
        stdin.write_all(input).ok();
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(verb, &error.to_string(), b""))?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    if output.stdout.trim_ascii() == NOT_FOUND.as_bytes() {
        return Ok(None);
    }
    let status = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    Err(failed(verb, &status, &output.stdout))
}

fn failed(verb: Verb, problem: &str, said: &[u8]) -> CliError {
    let said = String::from_utf8_lossy(said.trim_ascii());
    let doing = verb.words().1;
    CliError::message(format!(
        "error {doing} credentials - err: {problem}, out: `{said}`"
    ))
}
