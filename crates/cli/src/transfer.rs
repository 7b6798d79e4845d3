//! Archives on their way to the engine and from it: files sent, streams written
//! to files, and what the engine says meanwhile. It must not know what is in
//! them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use conex_api::progress::Message;
use conex_client::{ByteStream, JsonStream};
use futures_util::Stream;

use crate::error::CliError;
use crate::output::Output;

/// Bytes read and sent at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A file's bytes; reading blocks another thread, so that the answer is seen meanwhile.
pub(crate) fn chunks(file: File) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures_util::stream::try_unfold(file, |mut file| async move {
        tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = loop {
                match file.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            chunk.truncate(length);
            Ok((length > 0).then(|| (Bytes::from(chunk), file)))
        })
        .await
        .map_err(io::Error::other)?
    })
}

/// Prints the engine's messages; an error among them ends the command.
pub(crate) async fn show(
    progress: &mut JsonStream<Message>,
    out: &mut Output,
) -> Result<(), CliError> {
    while let Some(message) = progress.next().await {
        let message = message?;
        if let Some(error) = message.error_detail {
            return Err(CliError::message(error.message));
        }
        if !message.error.is_empty() {
            return Err(CliError::message(message.error));
        }
        // Counters are for terminals; what stays is the line that names the image.
        if message
            .progress_detail
            .is_some_and(|detail| detail.current > 0 || detail.total > 0)
        {
            continue;
        }
        if !message.stream.is_empty() {
            out.write_all(message.stream.as_bytes())?;
        } else if !message.status.is_empty() {
            if !message.id.is_empty() {
                write!(out, "{}: ", message.id)?;
            }
            writeln!(out, "{}", message.status)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Where a stream goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Standard output, which is no terminal.
    Stdout,
    /// A file that appears under its name when it is complete.
    File(PathBuf),
    /// Something that is there and no regular file, such as `/dev/null`.
    Special(PathBuf),
}

impl Destination {
    /// What `--output` says; without it standard output, unless that is a
    /// terminal. `verb` and `what` are for messages: `save`, `image`.
    pub(crate) fn of(output: Option<&str>, verb: &str, what: &str) -> Result<Self, CliError> {
        let Some(path) = output.filter(|path| !path.is_empty()) else {
            if io::stdout().is_terminal() {
                return Err(CliError::message(format!(
                    "cowardly refusing to {verb} to a terminal. Use the -o flag or redirect"
                )));
            }
            return Ok(Self::Stdout);
        };
        let path = PathBuf::from(path);
        let kind = fs::metadata(&path).map(|status| status.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => {
                let shown = path.display();
                Err(CliError::message(format!("{shown} is a directory")))
            }
            Ok(kind) if !kind.is_file() => Ok(Self::Special(path)),
            _ => match parent(&path) {
                directory if directory.is_dir() => Ok(Self::File(path)),
                directory => Err(CliError::message(format!(
                    "failed to {verb} {what}: invalid output path: stat {}: no such file or \
                     directory",
                    directory.display()
                ))),
            },
        }
    }

    /// Writes the stream there to its end.
    pub(crate) async fn receive(self, stream: ByteStream) -> Result<(), CliError> {
        match self {
            Self::Stdout => copy(stream, &mut io::stdout().lock(), Path::new("/dev/stdout")).await,
            Self::Special(path) => {
                let opened = OpenOptions::new().write(true).open(&path);
                let mut file = opened.map_err(|error| CliError::open(&path, error))?;
                copy(stream, &mut file, &path).await
            }
            Self::File(path) => {
                let draft = draft_of(&path);
                let received = receive_file(stream, &draft, &path).await;
                if received.is_err() {
                    // The first failure is the one to tell.
                    drop(fs::remove_file(&draft));
                }
                received
            }
        }
    }
}

async fn receive_file(stream: ByteStream, draft: &Path, path: &Path) -> Result<(), CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).open(draft);
    let mut file = opened.map_err(|error| CliError::open(draft, error))?;
    copy(stream, &mut file, path).await?;
    fs::rename(draft, path).map_err(|error| CliError::open(path, error))
}

async fn copy(mut stream: ByteStream, sink: &mut dyn Write, path: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::message(format!("write {}: {error}", path.display()));
    while let Some(chunk) = stream.next_chunk().await {
        sink.write_all(&chunk?).map_err(failed)?;
    }
    sink.flush().map_err(failed)
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Beside the file, so that it can be renamed; of this process alone.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.{}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::TryStreamExt;

    use super::*;

    #[test]
    fn a_file_is_sent_whole_and_in_order() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES + 10).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let sent: Vec<Bytes> = runtime.block_on(chunks(file).try_collect()).unwrap();
        assert_eq!(sent.concat(), bytes);
    }

    #[test]
    fn an_output_path_is_judged_before_the_engine_is_asked() {
        let temporary = tempfile::tempdir().unwrap();
        let text = |path: &Path| {
            Destination::of(path.to_str(), "save", "image")
                .unwrap_err()
                .text()
                .unwrap()
        };
        assert!(text(temporary.path()).ends_with(" is a directory"));
        let missing = text(&temporary.path().join("nosuch/x.tar"));
        assert!(
            missing.starts_with("failed to save image: invalid output path: stat /"),
            "{missing}"
        );
        let of = |path: &str| Destination::of(Some(path), "save", "image").unwrap();
        assert!(matches!(of("/dev/null"), Destination::Special(_)));
        let new = temporary.path().join("x.tar");
        assert!(matches!(of(new.to_str().unwrap()), Destination::File(path) if path == new));
    }
}
