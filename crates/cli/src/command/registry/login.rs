//! `conex login`: has a registry believe a user, and keeps what it gives.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use conex_api::image::{AuthConfig, AuthResponse};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcsetattr};

use super::server;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::credential::Credentials;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Logs in.
pub static COMMAND: Command = Command {
    about: "Authenticate to a registry",
    usage: "[OPTIONS] [SERVER]",
    spellings: &["login"],
    flags: &[FLAGS],
    args: Args::AtMost(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("password", "Password or Personal Access Token (PAT)").short('p'),
    Flag::bool(
        "password-stdin",
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    Flag::string("username", "Username").short('u'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let server = server(matches.args().first());
    let mut username = matches.str("username").trim().to_owned();
    let mut password = matches.str("password").to_owned();
    if matches.is_set("password") {
        writeln!(
            ctx.err,
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin."
        )?;
        ctx.err.flush()?;
        if matches.bool("password-stdin") {
            return Err(CliError::message(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
    }
    if matches.bool("password-stdin") {
        if username.is_empty() {
            return Err(CliError::message(
                "the --password-stdin option requires --username to be set",
            ));
        }
        password = password_from(&mut std::io::stdin().lock())?;
    }
    let mut store = Credentials::open(&ctx.globals.config_dir)?;
    let mut auth = AuthConfig::default();
    if username.is_empty() && password.is_empty() {
        // Where they cannot be had the user is asked.
        auth = store.get(&server).unwrap_or_default();
        if !auth.username.is_empty() || !auth.identity_token.is_empty() {
            writeln!(ctx.out, "Authenticating with existing credentials...")?;
            ctx.out.flush()?;
            match log_in(ctx, &auth) {
                Ok(answer) => return finish(ctx, &mut store, &server, auth, answer),
                Err(error) => {
                    let text = error.text().unwrap_or_default();
                    writeln!(ctx.err, "Login did not succeed, error: {text}")?;
                    ctx.err.flush()?;
                }
            }
        }
    }
    if username.is_empty() || password.is_empty() {
        if !isatty(rustix::stdio::stdin()) {
            return Err(CliError::message(
                "Error: Cannot perform an interactive login from a non TTY device",
            ));
        }
        if username.is_empty() {
            username = ask(ctx, &format!("Username ({}): ", auth.username))?;
            if username.is_empty() {
                username = auth.username.clone();
            }
        }
        if username.is_empty() {
            return Err(CliError::message("username is required"));
        }
        if password.is_empty() {
            password = ask_secret(ctx, "Password: ")?;
        }
        if password.is_empty() {
            return Err(CliError::message("password is required"));
        }
    }
    let auth = AuthConfig {
        username,
        password,
        server_address: server.clone(),
        ..AuthConfig::default()
    };
    let answer = log_in(ctx, &auth)?;
    finish(ctx, &mut store, &server, auth, answer)
}

fn log_in(ctx: &Context, auth: &AuthConfig) -> Result<AuthResponse, CliError> {
    let client = ctx.client()?;
    Ok(ctx.block_on(client.post_json("/auth", Some(auth)))?)
}

fn finish(
    ctx: &mut Context,
    store: &mut Credentials,
    server: &str,
    mut auth: AuthConfig,
    answer: AuthResponse,
) -> Result<ExitCode, CliError> {
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identity_token = answer.identity_token;
    }
    let in_the_open = store.put(server, &auth)?;
    if in_the_open {
        writeln!(
            ctx.err,
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential \
             helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            store.path().display()
        )?;
        ctx.err.flush()?;
    }
    if !answer.status.is_empty() {
        writeln!(ctx.out, "{}", answer.status)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything, without one line end.
fn password_from(input: &mut dyn Read) -> Result<String, CliError> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut text = String::new();
    input
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| CliError::message(format!("cannot read the password: {error}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn ask(ctx: &mut Context, prompt: &str) -> Result<String, CliError> {
    write!(ctx.out, "{prompt}")?;
    ctx.out.flush()?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| CliError::message(format!("cannot read the answer: {error}")))?;
    Ok(line.trim().to_owned())
}

/// The same without showing what is typed.
fn ask_secret(ctx: &mut Context, prompt: &str) -> Result<String, CliError> {
    let stdin = rustix::stdio::stdin();
    let failed = |e: rustix::io::Errno| CliError::message(format!("the terminal fails: {e}"));
    let before = tcgetattr(stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin, OptionalActions::Now, &silent).map_err(failed)?;
    let answer = ask(ctx, prompt);
    tcsetattr(stdin, OptionalActions::Now, &before).map_err(failed)?;
    writeln!(ctx.out)?;
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_line_end_is_not_part_of_the_password() {
        for (input, password) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("a\nb\n\n", "a\nb\n"),
            ("", ""),
        ] {
            assert_eq!(password_from(&mut input.as_bytes()).unwrap(), password);
        }
    }
}
