//! `docker-credential-<name>`: a program that keeps credentials.
//!
//! ```text
//! get      stdin: server                              stdout: {"ServerURL","Username","Secret"}
//! store    stdin: {"ServerURL","Username","Secret"}
//! erase    stdin: server
//! ```
//!
//! The user `<token>` says that the secret is an identity token.

use std::io::Write;
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
    let Some(answer) = call(name, "get", server.as_bytes())? else {
        return Ok(AuthConfig::default());
    };
    let entry: Entry = serde_json::from_slice(&answer)
        .map_err(|error| failed(name, &format!("its answer is no JSON: {error}")))?;
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
    call(name, "store", &input).map(drop)
}

/// Has the helper forget a registry.
pub(super) fn erase(name: &str, server: &str) -> Result<(), CliError> {
    call(name, "erase", server.as_bytes()).map(drop)
}

/// Runs the helper; `None` if it knows no such server.
fn call(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, CliError> {
    let program = format!("docker-credential-{name}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(name, &format!("exec: {program:?}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input has said so by its exit code.
        stdin.write_all(input).ok();
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(name, &error.to_string()))?;
    if output.status.success() {
        return Ok(Some(output.stdout));
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match text == NOT_FOUND {
        true => Ok(None),
        false => Err(failed(
            name,
            &format!("exit status {}: {text}", output.status),
        )),
    }
}

fn failed(name: &str, problem: &str) -> CliError {
    CliError::message(format!(
        "error getting credentials - err: {name}: {problem}"
    ))
}
