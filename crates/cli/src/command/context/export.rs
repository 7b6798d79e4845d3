//! `conex context export`: a context with its certificates as a tar archive.
//!
//! ```text
//! meta.json                     as it is saved
//! tls/<endpoint>/<file>         certificates and keys, which is why only its owner may read the file
//! ```
//!
//! Source: docker/cli `cli/context/store`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use conex_archive::tar::{EntryKind, Error, Header, Writer};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::contexts::{Certificates, Stored};
use crate::error::CliError;
use crate::flag::Matches;

/// Exports a context.
pub static COMMAND: Command = Command {
    about: "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    usage: "[OPTIONS] CONTEXT [FILE|-]",
    spellings: &[],
    flags: &[],
    args: Args::Range(1, 2),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let name = &matches.args()[0];
    let file = match matches.args().get(1) {
        Some(file) => file.clone(),
        None => format!("{name}.dockercontext"),
    };
    if file == "-" && ctx.out.is_terminal() {
        return Err(CliError::message(
            "cowardly refusing to export to a terminal, specify a file path",
        ));
    }
    let (stored, certificates) = super::copy_of(ctx, name)?;
    let archive = pack(&stored, &certificates)
        .map_err(|error| CliError::message(format!("cannot pack context {name:?}: {error}")))?;
    if file == "-" {
        ctx.out.write_all(&archive)?;
        ctx.out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(&file)
        .and_then(|mut to| to.write_all(&archive))
        .map_err(|error| CliError::open(&file, error))?;
    writeln!(ctx.err, "Written file {file:?}")?;
    Ok(ExitCode::SUCCESS)
}

/// A context has few and small files: the archive is made in memory.
fn pack(stored: &Stored, certificates: &Certificates) -> Result<Vec<u8>, Error> {
    let mut archive = Writer::new(Vec::new());
    let mut file = |path: String, mode: u32, bytes: &[u8]| {
        let mut header = Header::new(path, EntryKind::Regular);
        header.mode = mode;
        header.size = bytes.len() as u64;
        archive.append(&header, &mut &*bytes)
    };
    let json = serde_json::to_vec(stored).expect("a context is a JSON object");
    file("meta.json".into(), 0o644, &json)?;
    for (endpoint, files) in certificates {
        for (name, bytes) in files {
            file(format!("tls/{endpoint}/{name}"), 0o600, bytes)?;
        }
    }
    archive.finish()
}
