//! `conex manifest inspect`: shows an image's manifest or the list of its manifests, from here or from its registry.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::remote::{Found, Remote};
use super::{INSECURE, named, no_list, store};
use crate::command::{Args, Command};
use crate::context::Context;
use crate::error::CliError;
use crate::flag::{Flag, Matches};
use crate::manifests::list_of;

/// Shows a manifest.
pub static COMMAND: Command = Command {
    about: "Display an image manifest, or manifest list",
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    spellings: &[],
    flags: &[FLAGS],
    args: Args::Range(1, 2),
    interspersed: true,
    run,
};

const FLAGS: &[Flag] = &[
    INSECURE,
    Flag::bool(
        "verbose",
        "Output additional info including layers and platform",
    )
    .short('v'),
];

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let verbose = matches.bool("verbose");
    let found = match matches.args() {
        [list, image] => {
            let (list, image) = (named(list)?, named(image)?);
            let entry = store(ctx).get(&list, &image)?;
            Found::Image(Box::new(entry.ok_or_else(|| no_list(&image))?))
        }
        args => {
            let name = named(args.first().map(String::as_str).unwrap_or_default())?;
            match store(ctx).list(&name)? {
                Some(entries) => Found::List(entries),
                None => {
                    let remote = Remote::new(ctx, matches.bool("insecure"));
                    ctx.block_on(remote.get(&name))?
                }
            }
        }
    };
    let text = match (&found, verbose) {
        (Found::Image(entry), true) => indented(&**entry),
        (Found::List(entries), true) => indented(entries),
        (Found::Image(entry), false) => indented(entry.manifest()),
        (Found::List(entries), false) => list_of(entries),
    };
    ctx.out.write_all(&text)?;
    writeln!(ctx.out)?;
    Ok(ExitCode::SUCCESS)
}

fn indented<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"\t"));
    value
        .serialize(&mut serializer)
        .expect("memory takes everything");
    bytes
}
