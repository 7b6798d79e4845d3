//! `conex context import`: a context out of an archive that `export` made, ours or Docker's.
//!
//! The archive comes from anywhere: it is bounded, and its names are single components of paths or refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use conex_archive::tar::{EntryKind, Reader};

use crate::command::{Args, Command};
use crate::context::Context;
use crate::contexts::{Certificates, Stored};
use crate::error::CliError;
use crate::flag::Matches;

/// Longest archive read, as Docker's.
const MAX_BYTES: u64 = 10 << 20;
/// Longest member kept.
const MAX_MEMBER_BYTES: u64 = 1 << 20;

/// Imports a context.
pub static COMMAND: Command = Command {
    about: "Import a context from a tar file",
    usage: "CONTEXT FILE|-",
    spellings: &[],
    flags: &[],
    args: Args::Exactly(2),
    interspersed: true,
    run,
};

fn run(ctx: &mut Context, matches: &Matches) -> Result<ExitCode, CliError> {
    let [name, file] = matches.args() else {
        unreachable!("two arguments were checked");
    };
    super::check_new(ctx, name)?;
    let refused = |text: String| CliError::message(text);
    let unpacked = match file.as_str() {
        "-" => unpack(io::stdin().lock()),
        file => unpack(File::open(file).map_err(|error| CliError::open(file, error))?),
    };
    let (mut stored, certificates) = unpacked.map_err(refused)?;
    stored.name.clone_from(name);
    let store = super::store(ctx);
    store.save_certificates(name, &certificates)?;
    store.save(&stored)?;
    writeln!(ctx.out, "{name}")?;
    writeln!(ctx.err, "Successfully imported context \"{name}\"")?;
    Ok(ExitCode::SUCCESS)
}

fn unpack(from: impl Read) -> Result<(Stored, Certificates), String> {
    let mut from = io::BufReader::new(from.take(MAX_BYTES));
    if io::BufRead::fill_buf(&mut from).is_ok_and(|bytes| bytes.starts_with(b"PK\x03\x04")) {
        return Err("zip archives of contexts are not supported, export it as a tar".into());
    }
    let mut archive = Reader::new(from);
    let mut stored = None;
    let mut certificates = Certificates::new();
    while let Some(entry) = archive.next_entry().map_err(|error| error.to_string())? {
        if entry.header.kind != EntryKind::Regular {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.header.path).into_owned();
        if entry.header.size > MAX_MEMBER_BYTES {
            return Err(format!("{path}: too large for a context"));
        }
        let place = place(&path).map_err(|problem| format!("{path}: {problem}"))?;
        let mut bytes = Vec::new();
        let mut content = entry;
        content
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{path}: {error}"))?;
        match place {
            None => {
                let read: Stored =
                    serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
                stored = Some(read);
            }
            Some((endpoint, file)) => {
                let files: &mut BTreeMap<_, _> = certificates.entry(endpoint).or_default();
                files.insert(file, bytes);
            }
        }
    }
    let stored = stored.ok_or("invalid context: no metadata found")?;
    Ok((stored, certificates))
}

/// The endpoint and file a member is, or `None` for the description.
fn place(path: &str) -> Result<Option<(String, String)>, &'static str> {
    if path == "meta.json" {
        return Ok(None);
    }
    let Some(rest) = path.strip_prefix("tls/") else {
        return Err("unexpected context file");
    };
    if path.contains('\\') {
        return Err("unexpected '\\' in path");
    }
    let Some((endpoint, file)) = rest.split_once('/') else {
        return Err("archive format is invalid");
    };
    let is_name = |name: &str| {
        !matches!(name, "" | "." | "..") && !name.contains('/') && !name.contains('\0')
    };
    if !is_name(endpoint) || !is_name(file) {
        return Err("unexpected path format");
    }
    Ok(Some((endpoint.to_owned(), file.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use conex_archive::tar::{Header, Writer};

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Writer::new(Vec::new());
        for (path, bytes) in members {
            let mut header = Header::new(*path, EntryKind::Regular);
            header.size = bytes.len() as u64;
            archive.append(&header, &mut &**bytes).unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn a_member_that_would_leave_its_place_is_refused() {
        let meta = ("meta.json", &b"{\"Name\":\"x\"}"[..]);
        for (path, problem) in [
            ("other.json", "unexpected context file"),
            ("../meta.json", "unexpected context file"),
            ("tls/../../x", "unexpected path format"),
            ("tls/docker/../x", "unexpected path format"),
            ("tls//x", "unexpected path format"),
            ("tls/docker", "archive format is invalid"),
            ("tls/docker\\x/y", "unexpected '\\' in path"),
        ] {
            let error = unpack(&*archive(&[meta, (path, b"x")])).unwrap_err();
            assert_eq!(error, format!("{path}: {problem}"));
        }
        let (stored, certificates) =
            unpack(&*archive(&[meta, ("tls/docker/ca.pem", b"c")])).unwrap();
        assert_eq!(stored.name, "x");
        assert_eq!(certificates["docker"]["ca.pem"], b"c");
    }

    #[test]
    fn what_is_no_archive_of_a_context_is_said() {
        let text = |bytes: &[u8]| unpack(bytes).unwrap_err();
        assert_eq!(text(b""), "invalid context: no metadata found");
        assert!(text(b"PK\x03\x04 and so on").starts_with("zip archives"));
        assert!(text(&archive(&[("meta.json", b"[")])).starts_with("meta.json: "));
        let large = vec![0; 2 << 20];
        assert_eq!(
            text(&archive(&[("tls/docker/ca.pem", &large)])),
            "tls/docker/ca.pem: too large for a context"
        );
    }
}
