//! `conex stop`: asks containers to end, and ends those that do not.

use std::process::ExitCode;

use conex_client::{query, segment};

use super::several;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Stops containers.
pub static COMMAND: Command = Command {
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    spellings: &["container stop", "stop"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    interspersed: true,
    run,
};

/// Flags of whatever ends containers, `restart` too.
pub(super) const FLAGS: &[Flag] = &[
    Flag::string("signal", "Signal to send to the container").short('s'),
    Flag::int("timeout", "Seconds to wait before killing the container").short('t'),
    Flag::int("time", "Seconds to wait before killing the container")
        .deprecated("use --timeout instead"),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = options(matches)?;
    let call = |client: conex_client::Client, name: String| {
        let path = format!("/containers/{}/stop{options}", segment(&name));
        async move { client.post_empty(&path).await }
    };
    several::each(ctx, matches.args(), call, |_| false)
}

/// The flags as a query; without them the container's own settings hold.
pub(super) fn options(matches: &Matches) -> Result<String, CliError> {
    if matches.is_set("time") && matches.is_set("timeout") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --timeout and --time",
        ));
    }
    let timeout = matches.opt_str("timeout").or(matches.opt_str("time"));
    let timeout = timeout.map(|_| {
        let flag = if matches.is_set("timeout") {
            "timeout"
        } else {
            "time"
        };
        matches.int(flag).to_string()
    });
    let mut pairs = Vec::new();
    if let Some(timeout) = &timeout {
        pairs.push(("t", timeout.as_str()));
    }
    if !matches.str("signal").is_empty() {
        pairs.push(("signal", matches.str("signal")));
    }
    Ok(query(&pairs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flag::parse;

    #[test]
    fn flags_not_given_are_not_sent() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            options(&parse(&[FLAGS], &words, true).unwrap()).map_err(|error| error.text())
        };
        assert_eq!(of(&["x"]), Ok(String::new()));
        assert_eq!(of(&["-t", "0", "x"]), Ok("?t=0".into()));
        assert_eq!(
            of(&["--time=-1", "-s", "INT", "x"]),
            Ok("?t=-1&signal=INT".into())
        );
        let both = "conflicting options: cannot specify both --timeout and --time";
        assert_eq!(of(&["--time=1", "-t", "1", "x"]), Err(Some(both.into())));
    }
}
