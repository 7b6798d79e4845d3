//! From the host, or from an archive on standard input, into a container.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::process::ExitCode;

use conex_api::container::{GO_DEVICE, GO_DIRECTORY, GO_SYMLINK, PathStat};
use conex_client::Client;
use conex_layers::pack::Tree;
use futures_util::{Stream, TryStreamExt};

use super::download::absolute;
use super::pipe::{self, Piece};
use super::plan::{self, End, clean, followed, split_entry};
use super::progress::Progress;
use super::{Job, archive_path, stat_of};
use crate::context::Context;
use crate::error::{CliError, SystemError};
use crate::transfer::chunks;

/// An archive on its way.
type Pieces = Pin<Box<dyn Stream<Item = Piece> + Send>>;

pub(super) fn run(
    ctx: &mut Context,
    job: &Job<'_>,
    from: &str,
    to: &str,
) -> Result<ExitCode, CliError> {
    let from_stdin = from == "-";
    let from = match from_stdin {
        true => from.to_owned(),
        false => absolute(from)?,
    };
    let client = Client::clone(&*ctx.client()?);
    ctx.runtime().block_on(async {
        let destination = destination(&client, job, to).await?;
        let progress = Progress::new("Copying to container - ", job.quiet, ctx.err.is_terminal());
        let (into, pieces) = if from_stdin {
            if !destination.is_directory {
                return Err(CliError::message(format!(
                    "destination \"{}:{to}\" must be a directory",
                    job.container
                )));
            }
            (destination.path.clone(), stdin()?)
        } else {
            let source = source(&from, job.follow_link)?;
            let plan = plan::plan(&source, &destination).map_err(CliError::message)?;
            (plan.into, packed(&source, plan.name)?)
        };
        let mut more = vec![("noOverwriteDirNonDir", "true")];
        if job.archive {
            more.push(("copyUIDGID", "true"));
        }
        let path = archive_path(job.container, &into, &more);
        let mut counter = progress.clone();
        let body = pieces.inspect_ok(move |piece| counter.passed(piece.len()));
        let copied = client.put_stream(&path, "application/x-tar", body).await;
        progress.end();
        if !job.quiet && !from_stdin {
            let (size, to) = (progress.size(), &destination.path);
            writeln!(
                ctx.err,
                "Successfully copied {size} to {}:{to}",
                job.container
            )?;
        }
        Ok(copied?)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is there in the container; what cannot be looked at is taken for
/// nothing, and the engine refuses it if it has to.
async fn destination(client: &Client, job: &Job<'_>, to: &str) -> Result<End, CliError> {
    let mut path = to.to_owned();
    let mut found = look(client, job.container, &path).await;
    if let Some(stat) = found.as_ref().filter(|stat| stat.mode & GO_SYMLINK != 0) {
        path = match stat.link_target.starts_with('/') {
            true => stat.link_target.clone(),
            false => clean(&format!("{}/{}", split_entry(to).0, stat.link_target)),
        };
        found = look(client, job.container, &path).await;
    }
    let mode = found.as_ref().map_or(0, |stat| stat.mode);
    if mode & GO_DEVICE != 0 {
        return Err(CliError::message(format!(
            "destination \"{}:{to}\" must be a directory or a regular file: got a device",
            job.container
        )));
    }
    Ok(End {
        path,
        exists: found.is_some(),
        is_directory: mode & GO_DIRECTORY != 0,
        ..End::default()
    })
}

async fn look(client: &Client, container: &str, path: &str) -> Option<PathStat> {
    let path = archive_path(container, path, &[]);
    let answer = client.head_answer(&path).await.ok()?;
    let stat = stat_of(&answer).ok();
    answer.discard().await.ok()?;
    stat
}

/// What is on the host, links on the way to it resolved, the last one only if
/// that is asked for or a slash follows it.
fn source(path: &str, follow_link: bool) -> Result<End, CliError> {
    let lstat = |path: &str, error: io::Error| {
        let said = SystemError::from(error);
        CliError::message(format!("lstat {path}: {said}"))
    };
    let resolve = |path: &str| {
        let resolved = fs::canonicalize(path).map_err(|error| lstat(path, error))?;
        Ok::<_, CliError>(resolved.to_string_lossy().into_owned())
    };
    let (path, rebase) = if follow_link {
        followed(path, &resolve(path)?)
    } else {
        let at = path.rfind('/').map_or(0, |at| at + 1);
        let parent = resolve(&path[..at])?;
        let resolved = format!("{}/{}", parent.trim_end_matches('/'), &path[at..]);
        let rebase = match path.ends_with('/') && plan::base(path) != plan::base(&resolved) {
            true => plan::base(path).to_owned(),
            false => String::new(),
        };
        (resolved, rebase)
    };
    let found = fs::symlink_metadata(&path).map_err(|error| lstat(&path, error))?;
    Ok(End {
        path,
        exists: true,
        is_directory: found.is_dir(),
        rebase,
    })
}

/// The archive of a source, packed by a thread.
fn packed(source: &End, name: String) -> Result<Pieces, CliError> {
    let (directory, entry) = split_entry(&source.path);
    let place = match source.is_directory {
        true => source.path.clone(),
        false => directory,
    };
    let opened = File::open(&place).map_err(|error| CliError::open(place, error))?;
    let is_directory = source.is_directory;
    let (sender, receiver) = pipe::channel();
    tokio::task::spawn_blocking(move || {
        let mut writer = pipe::Writer::new(sender);
        let tree = Tree {
            name: name.into_bytes(),
            with_top: true,
            whole_seconds: true,
            ..Tree::default()
        };
        let packed = if is_directory {
            tree.pack(opened.as_fd(), &mut writer)
        } else {
            let entry = CString::new(entry).unwrap_or_default();
            tree.pack_one(opened.as_fd(), &entry, &mut writer)
        };
        if let Err(error) = packed {
            writer.fail(io::Error::other(crate::error::chain(&error)));
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    Ok(Box::pin(pieces))
}

fn stdin() -> Result<Pieces, CliError> {
    let stdin = rustix::io::dup(rustix::stdio::stdin())
        .map_err(|error| CliError::open("/dev/stdin", error.into()))?;
    Ok(Box::pin(chunks(File::from(stdin))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_source_is_resolved_up_to_its_last_name() {
        let temporary = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(temporary.path()).unwrap();
        let at = |path: &str| format!("{}/{path}", top.display());
        fs::create_dir(at("real")).unwrap();
        fs::write(at("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::os::unix::fs::symlink("file", at("real/to-file")).unwrap();
        let told = |path: &str, follow| {
            let end = source(&at(path), follow).unwrap();
            (end.path.replace(&at(""), ""), end.is_directory, end.rebase)
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(
            told("link/file", false),
            (text("real/file"), false, text(""))
        );
        assert_eq!(told("link", false), (text("link"), false, text("")));
        assert_eq!(told("link/", false), (text("real/"), true, text("link")));
        assert_eq!(told("link/.", false), (text("real/."), true, text("")));
        assert_eq!(told("link", true), (text("real"), true, text("link")));
        assert_eq!(
            told("real/to-file", true),
            (text("real/file"), false, text("to-file"))
        );
        let missing = source(&at("nosuch"), false).unwrap_err();
        let expected = format!("lstat {}: no such file or directory", at("nosuch"));
        assert_eq!(missing.text().unwrap(), expected);
    }
}
