//! `conex top`: the processes of a container.

use std::io::Write;
use std::process::ExitCode;

use conex_api::container::Top;
use conex_client::{Client, query, segment};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::Matches;
use crate::table::{self, Layout};

/// Shows the processes of a container.
pub static COMMAND: Command = Command {
    about: "Display the running processes of a container",
    usage: "CONTAINER [ps OPTIONS]",
    spellings: &["container top", "top"],
    flags: &[],
    args: Args::AtLeast(1),
    interspersed: false,
    run,
};

/// Wider than lists: command lines follow their columns.
const LAYOUT: Layout = Layout {
    min_width: 20,
    padding: 3,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let client = Client::clone(&*ctx.client()?);
    let path = path(matches.args());
    let top: Top = ctx.block_on(client.get_json(&path))?;
    ctx.out.write_all(shown(&top).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn path(args: &[String]) -> String {
    let (container, options) = args.split_first().expect("the argument count was checked");
    let options = options.join(" ");
    let pairs = [("ps_args", options.as_str())];
    let pairs = if options.is_empty() { &[] } else { &pairs[..] };
    format!("/containers/{}/top{}", segment(container), query(pairs))
}

fn shown(top: &Top) -> String {
    let mut text = top.titles.join("\t") + "\n";
    for process in &top.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    table::align(&text, LAYOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_ps_are_sent_as_one() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            path(&words)
        };
        assert_eq!(of(&["web"]), "/containers/web/top");
        assert_eq!(
            of(&["web", "-o", "pid"]),
            "/containers/web/top?ps_args=-o%20pid"
        );
    }

    #[test]
    fn processes_are_shown_in_wide_columns() {
        let top = Top {
            titles: vec!["PID".into(), "CMD".into()],
            processes: vec![vec!["7".into(), "sleep 1000".into()]],
        };
        assert_eq!(
            shown(&top),
            "PID                 CMD\n7                   sleep 1000\n"
        );
    }
}
