//! From a container to the host, or to standard output as an archive.
//!
//! The archive comes from a container: whatever its names and links say, it is
//! unpacked below the one directory, owned by whoever copies.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;

use conex_api::container::{GO_DIRECTORY, GO_SYMLINK};
use conex_client::{ByteStream, Client};
use conex_layers::extract::{Copying, Extractor, Limits, Options, Ownership, Whiteouts};

use super::plan::{self, End, clean, followed, split_entry, with_end_of};
use super::progress::Progress;
use super::{Job, archive_path, pipe, stat_of};
use crate::context::Context;
use crate::error::CliError;

pub(super) fn run(
    ctx: &mut Context,
    job: &Job<'_>,
    from: &str,
    to: &str,
) -> Result<ExitCode, CliError> {
    let to_stdout = to == "-";
    let to = match to_stdout {
        true => to.to_owned(),
        false => absolute(to)?,
    };
    if !to_stdout {
        check_output(&to)?;
    }
    let client = Client::clone(&*ctx.client()?);
    ctx.runtime().block_on(async {
        let (mut from, mut rebase) = (from.to_owned(), String::new());
        if job.follow_link
            && let Ok(answer) = client
                .head_answer(&archive_path(job.container, &from, &[]))
                .await
        {
            let stat = stat_of(&answer)?;
            answer.discard().await?;
            if stat.mode & GO_SYMLINK != 0 {
                (from, rebase) = followed(&from, &stat.link_target);
            }
        }
        let answer = client
            .get_answer(&archive_path(job.container, &from, &[]))
            .await?;
        let stat = stat_of(&answer)?;
        let stream = answer.into_stream();
        if to_stdout {
            return print(stream).await;
        }
        let source = End {
            path: from.clone(),
            exists: true,
            is_directory: stat.mode & GO_DIRECTORY != 0,
            rebase,
        };
        let destination = destination(&to)?;
        let plan = plan::plan(&source, &destination).map_err(CliError::message)?;
        // As the engine calls it in the archive; the top is the empty name.
        let archived = split_entry(&from).1;
        let top = |name: &str| match name {
            "." | "/" => Vec::new(),
            name => name.as_bytes().to_vec(),
        };
        let rules = Copying {
            rename: Some((top(&archived), top(&plan.name))),
            ownership: Ownership::Unpacker,
            keep_kinds: true,
            ..Copying::default()
        };
        let mut progress = Progress::new(
            "Copying from container - ",
            job.quiet,
            ctx.err.is_terminal(),
        );
        let copied = unpack(stream, &plan.into, rules, &mut progress).await;
        progress.end();
        if !job.quiet {
            writeln!(ctx.err, "Successfully copied {} to {to}", progress.size())?;
        }
        copied
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn print(mut stream: ByteStream) -> Result<(), CliError> {
    let mut stdout = io::stdout();
    while let Some(piece) = stream.next_chunk().await {
        stdout.write_all(&piece?)?;
    }
    stdout.flush()?;
    Ok(())
}

async fn unpack(
    mut stream: ByteStream,
    into: &str,
    rules: Copying,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let root = fs::File::open(into).map_err(|error| CliError::open(into, error))?;
    let (sender, receiver) = pipe::channel();
    let unpacking = tokio::task::spawn_blocking(move || {
        let options = Options {
            limits: Limits::default(),
            whiteouts: Whiteouts::AsIs,
        };
        Extractor::new(OwnedFd::from(root), options)
            .copying(rules)
            .extract(pipe::Reader::new(receiver))
    });
    let mut lost = None;
    while let Some(piece) = stream.next_chunk().await {
        let piece = match piece {
            Ok(piece) => {
                progress.passed(piece.len());
                Ok(piece)
            }
            Err(error) => {
                lost = Some(error);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        let is_last = piece.is_err();
        if sender.send(piece).await.is_err() || is_last {
            break;
        }
    }
    drop(sender);
    let unpacked = unpacking.await.map_err(io::Error::other)?;
    match (lost, unpacked) {
        (Some(error), _) => Err(error.into()),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) => Err(CliError::message(crate::error::chain(&error))),
    }
}

/// An absolute path with the end it was given with.
pub(super) fn absolute(path: &str) -> Result<String, CliError> {
    let here = match path.starts_with('/') {
        true => String::new(),
        false => std::env::current_dir()
            .map_err(|error| CliError::open(".", error))?
            .to_string_lossy()
            .into_owned(),
    };
    Ok(with_end_of(&clean(&format!("{here}/{path}")), path))
}

fn check_output(path: &str) -> Result<(), CliError> {
    let (directory, _) = split_entry(&clean(path));
    if !Path::new(&directory).exists() {
        return Err(CliError::message(format!(
            "invalid output path: directory {directory:?} does not exist"
        )));
    }
    let is_device = fs::metadata(path).is_ok_and(|found| {
        found.file_type().is_block_device() || found.file_type().is_char_device()
    });
    if is_device {
        return Err(CliError::message(format!(
            "invalid output path: {path:?} must be a directory or a regular file: got a device"
        )));
    }
    Ok(())
}

/// What is there, links at the end followed; one that leads nowhere is the
/// place where the copy appears.
fn destination(path: &str) -> Result<End, CliError> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::symlink_metadata(path.trim_end_matches('/')) {
            Ok(found) if found.is_symlink() => {
                let bare = path.trim_end_matches('/');
                let target = fs::read_link(bare).map_err(|error| CliError::open(bare, error))?;
                let target = target.to_string_lossy();
                path = match target.starts_with('/') {
                    true => target.into_owned(),
                    false => format!("{}/{target}", split_entry(&path).0),
                };
            }
            Ok(found) => {
                return Ok(End {
                    path,
                    exists: true,
                    is_directory: found.is_dir(),
                    ..End::default()
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split_entry(&path);
                let found = fs::metadata(&parent);
                let found = found.map_err(|error| CliError::open(parent.clone(), error))?;
                if !found.is_dir() {
                    return Err(CliError::message("not a directory"));
                }
                return Ok(End {
                    path,
                    ..End::default()
                });
            }
            Err(error) => return Err(CliError::open(path, error)),
        }
    }
    Err(CliError::message("too many symbolic links"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_destination_is_what_its_links_lead_to() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |path: &str| temporary.path().join(path).to_string_lossy().into_owned();
        fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("dir", at("link")).unwrap();
        std::os::unix::fs::symlink("new", at("dangling")).unwrap();
        let found = destination(&at("link")).unwrap();
        assert_eq!((found.path, found.is_directory), (at("dir"), true));
        let found = destination(&at("dangling")).unwrap();
        assert_eq!((found.path, found.exists), (at("new"), false));
        assert!(destination(&at("no/such")).is_err());
    }

    #[test]
    fn what_cannot_be_a_destination_is_refused() {
        let text = |path: &str| check_output(path).unwrap_err().text().unwrap();
        assert_eq!(
            text("/nosuch/file"),
            "invalid output path: directory \"/nosuch\" does not exist"
        );
        assert_eq!(
            text("/dev/null"),
            "invalid output path: \"/dev/null\" must be a directory or a regular file: got a device"
        );
        assert!(check_output("/tmp/").is_ok());
    }
}
