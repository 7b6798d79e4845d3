//! `conex logs`: shows what a container wrote.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::Inspect;
use conex_client::stream::{Demultiplexer, Outputs};
use conex_client::{Client, query, segment};

use super::session::failure;
use super::terminal::Direct;
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::time::{now_s, query_timestamp};

/// Shows a container's log.
pub static COMMAND: Command = Command {
    about: "Fetch the logs of a container",
    usage: "[OPTIONS] CONTAINER",
    spellings: &["container logs", "logs"],
    flags: &[FLAGS],
    args: Args::Exactly(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::bool("details", "Show extra details provided to logs"),
    Flag::bool("follow", "Follow log output").short('f'),
    Flag::string(
        "since",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    Flag::string("tail", "Number of lines to show from the end of the logs")
        .short('n')
        .default("all"),
    Flag::bool("timestamps", "Show timestamps").short('t'),
    Flag::string(
        "until",
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let options = options(matches, now_s() as i64).map_err(CliError::Message)?;
    let client = Client::clone(&*ctx.client()?);
    let name = segment(&matches.args()[0]);
    ctx.block_on(show(&client, &name, &options))
}

/// The flags as a query; relative times are of this machine's clock.
fn options(matches: &Matches, now_s: i64) -> Result<String, String> {
    let time = |flag: &str| match matches.str(flag) {
        "" => Ok(None),
        text => query_timestamp(text, now_s)
            .map(Some)
            .map_err(|reason| format!("invalid value for \"{flag}\": {reason}")),
    };
    let (since, until) = (time("since")?, time("until")?);
    let mut pairs = vec![("stdout", "1"), ("stderr", "1")];
    for (key, time) in [("since", &since), ("until", &until)] {
        if let Some(time) = time {
            pairs.push((key, time.as_str()));
        }
    }
    for flag in ["timestamps", "details", "follow"] {
        if matches.bool(flag) {
            pairs.push((flag, "1"));
        }
    }
    pairs.push(("tail", matches.str("tail")));
    Ok(query(&pairs))
}

async fn show(client: &Client, name: &str, options: &str) -> Result<ExitCode, CliError> {
    let inspect_path = format!("/containers/{name}/json");
    let logs_path = format!("/containers/{name}/logs{options}");
    // Whether there are frames depends on the container, not on the answer of older engines.
    let (container, stream) = tokio::join!(
        client.get_json::<Inspect>(&inspect_path),
        client.get_stream(&logs_path),
    );
    let tty = container?.config.tty;
    let mut stream = stream?;
    let mut outputs = Outputs {
        stdout: Direct::stdout(),
        stderr: Direct::stderr(),
    };
    let mut demultiplexer = Demultiplexer::default();
    while let Some(chunk) = stream.next_chunk().await {
        let chunk = chunk?;
        if tty {
            outputs.stdout.write_all(&chunk)?;
        } else {
            demultiplexer.feed(&chunk, &mut outputs).map_err(failure)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::flag::parse;

    fn of(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        options(&parse(&[FLAGS], &words, true).unwrap(), 1_000_000)
    }

    #[test]
    fn flags_become_a_query() {
        assert_eq!(of(&["x"]).unwrap(), "?stdout=1&stderr=1&tail=all");
        assert_eq!(
            of(&[
                "-ft",
                "-n",
                "5",
                "--details",
                "--since",
                "10s",
                "--until",
                "1970-01-01T00:00:09Z",
                "x"
            ])
            .unwrap(),
            "?stdout=1&stderr=1&since=999990&until=9.000000000&timestamps=1&details=1&follow=1&tail=5"
        );
    }

    #[test]
    fn a_time_that_is_none_is_refused_here() {
        assert!(
            of(&["--since", "soon", "x"])
                .unwrap_err()
                .starts_with("invalid value for \"since\": ")
        );
    }
}
