//! `conex volume create`: makes a volume.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use conex_api::volume::{CreateRequest, Volume};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};

/// Makes a volume.
pub static COMMAND: Command = Command {
    about: "Create a volume",
    usage: "[OPTIONS] [VOLUME]",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::AtMost(1),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    Flag::string("driver", "Specify volume driver name")
        .short('d')
        .default("local"),
    Flag::list("label", "Set metadata for a volume"),
    Flag::checked_list("opt", "map", check_option, "Set driver specific options")
        .short('o')
        .default("map[]"),
];

/// Refuses nothing: only the type's name is special.
fn check_option(_: &str) -> Result<(), String> {
    Ok(())
}

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let request = CreateRequest {
        name: matches.args().first().cloned().unwrap_or_default(),
        driver: matches.str("driver").to_owned(),
        driver_opts: pairs(matches.list("opt")),
        labels: pairs(matches.list("label")),
    };
    let client = ctx.client()?;
    let volume: Volume = ctx.block_on(client.post_json("/volumes/create", Some(&request)))?;
    writeln!(ctx.out, "{}", volume.name)?;
    Ok(ExitCode::SUCCESS)
}

/// `name=value` pairs as a map; the last of a name wins.
fn pairs(list: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    list.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_cut_at_the_first_equals_sign() {
        let list = ["o=addr=1,rw", "bare", "a=1", "a=2"].map(str::to_owned);
        let expected = [("a", "2"), ("bare", ""), ("o", "addr=1,rw")];
        let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(&list), expected.into());
    }
}
