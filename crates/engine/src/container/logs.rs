//! `logs`: the json-file log in Docker's frames, from the past into the
//! present.
//!
//! A reader is a blocking thing in a thread of its own while it has work; when
//! it reached the end and follows, it waits without a thread for the file to
//! change or the container to end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use conex_api::container::LogsOptions;
use conex_logs::driver::Selection;
use conex_logs::json_file::{Batch, Mark, Progress, Query, Reader, Watched, consume_watch};
use conex_logs::{frame, timestamp};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use super::{Container, Record, State};
use crate::{Engine, Error};

/// The log of a container, for one client.
pub struct Logs {
    /// Bytes are raw; otherwise they are Docker's frames.
    pub tty: bool,
    /// The messages. Ends at the end of the log, or of the container when it
    /// follows.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// Frames are gathered up to this size before they are sent.
const CHUNK: usize = 64 * 1024;

impl Engine {
    /// Reads a container's log. Errors: invalid parameter when no stream is
    /// wanted or the log driver keeps nothing.
    pub async fn container_logs(&self, name: &str, options: LogsOptions) -> Result<Logs, Error> {
        let container = self.inner.find(name)?;
        check_readable(&container, &options)?;
        Ok(Logs {
            tty: container.record.config.tty,
            stream: stream(&container, &options, None),
        })
    }
}

/// Whether there is anything to read for these options.
pub(super) fn check_readable(container: &Container, options: &LogsOptions) -> Result<(), Error> {
    if !options.stdout && !options.stderr {
        return Err(Error::invalid(
            "must specify at least one of 'stdout' or 'stderr'",
        ));
    }
    if container.record.log_path.is_none() {
        return Err(Error::not_implemented(
            "configured logging driver does not support reading",
        ));
    }
    Ok(())
}

/// The messages of a log that can be read; only those before `end`, if there is one.
pub(super) fn stream(
    container: &Arc<Container>,
    options: &LogsOptions,
    end: Option<Mark>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let path = container.record.log_path.clone().unwrap_or_default();
    let query = Query {
        since_ns: options.since_ns.filter(|s| *s != 0),
        until_ns: options.until_ns.filter(|u| *u != 0),
        tail: options.tail,
        stdout: options.stdout,
        stderr: options.stderr,
        follow: options.follow,
    };
    let shape = Shape {
        tty: container.record.config.tty,
        timestamps: options.timestamps,
        details: options.details,
    };
    let (sender, receiver) = mpsc::channel(4);
    let follow = options
        .follow
        .then(|| (container.watch(), Arc::clone(container)));
    tokio::spawn(async move {
        let opened = tokio::task::spawn_blocking(move || match end {
            Some(end) => Reader::open_before(&path, query, end),
            None => Reader::open(&path, query),
        });
        let reader = match opened.await {
            Ok(Ok(reader)) => reader,
            // Nothing was ever written.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound && follow.is_none() => {
                return;
            }
            Ok(Err(error)) => return failed(&sender, error).await,
            Err(error) => return failed(&sender, io::Error::other(error)).await,
        };
        if let Err(error) = send(reader, shape, &sender, follow).await {
            failed(&sender, error).await;
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
    .boxed()
}

/// How messages are written.
#[derive(Clone, Copy)]
struct Shape {
    tty: bool,
    timestamps: bool,
    details: bool,
}

type Sender = mpsc::Sender<io::Result<Bytes>>;
type Follow = Option<(watch::Receiver<Arc<State>>, Arc<Container>)>;

/// The client hears of a failure; one that is gone does not need to.
async fn failed(sender: &Sender, error: io::Error) {
    let _gone = sender.send(Err(error)).await.is_err();
}

async fn send(mut reader: Reader, shape: Shape, sender: &Sender, follow: Follow) -> io::Result<()> {
    let Some((mut states, container)) = follow else {
        let sender = sender.clone();
        let work = move || drain(&mut reader, shape, &sender).map(drop);
        return tokio::task::spawn_blocking(work).await?;
    };
    let path = container.record.log_path.clone().unwrap_or_default();
    // An inotify descriptor is read as a pipe is.
    let watch = pipe::Receiver::from_owned_fd_unchecked(reader.watch()?)?;
    // A created container's log begins with its start.
    let mut ran = container.state().started_ns != 0;
    drop(container);
    loop {
        // Looked at before the log, so that nothing written before the end is
        // missed.
        let over = {
            let state = states.borrow_and_update();
            let running = state.is_running() || state.status() == "restarting";
            ran |= running;
            state.removed || (ran && !running)
        };
        let out = sender.clone();
        let (back, progress) = tokio::task::spawn_blocking(move || {
            let progress = drain(&mut reader, shape, &out);
            (reader, progress)
        })
        .await?;
        reader = back;
        if progress? != Progress::AtEnd || over {
            return Ok(());
        }
        tokio::select! {
            ready = watch.readable() => {
                ready?;
                if consume_watch(&watch, &path)? == Watched::Gone {
                    return Ok(());
                }
                // Tells the runtime that it is empty; what came in between
                // makes us look again all the same.
                let _empty = watch.try_read(&mut [0; 4096]).is_err();
            }
            changed = states.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Sends everything there is now. Blocks. `AtEnd` says that more may come.
fn drain(reader: &mut Reader, shape: Shape, sender: &Sender) -> io::Result<Progress> {
    let mut batch = Batch::new();
    let mut out = Vec::with_capacity(CHUNK);
    loop {
        let progress = reader.next_batch(&mut batch)?;
        for entry in batch.iter() {
            write_entry(&mut out, &entry, shape);
            if out.len() >= CHUNK {
                let chunk = std::mem::replace(&mut out, Vec::with_capacity(CHUNK));
                if sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(Progress::PastUntil);
                }
            }
        }
        if progress != Progress::More {
            if !out.is_empty() && sender.blocking_send(Ok(out.into())).is_err() {
                return Ok(Progress::PastUntil);
            }
            return Ok(progress);
        }
    }
}

fn write_entry(out: &mut Vec<u8>, entry: &conex_logs::json_file::Entry<'_>, shape: Shape) {
    let at = out.len();
    if !shape.tty {
        out.extend_from_slice(&[0; 8]);
    }
    let body = out.len();
    if shape.timestamps {
        timestamp::push_fixed(out, entry.time_ns);
        out.push(b' ');
    }
    if shape.details {
        let attributes: BTreeMap<String, String> = entry
            .attrs
            .and_then(|json| serde_json::from_slice(json).ok())
            .unwrap_or_default();
        let words: Vec<String> = attributes
            .iter()
            .map(|(k, v)| {
                format!(
                    "{}={}",
                    conex_api::query::encode(k),
                    conex_api::query::encode(v)
                )
            })
            .collect();
        out.extend_from_slice(words.join(",").as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(entry.text);
    if !shape.tty {
        let length = (out.len() - body) as u32;
        out[at..body].copy_from_slice(&frame::header(entry.stream, length));
    }
}

/// What `labels`, `env` and `tag` options ask to be written with every line.
pub(super) fn attributes(record: &Record, wanted: &Selection) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let regex = |text: &Option<String>| text.as_deref().and_then(|t| regex::Regex::new(t).ok());
    let named = |list: &Option<String>, name: &str| {
        list.as_deref()
            .is_some_and(|l| l.split(',').any(|n| n.trim() == name))
    };
    let labels = regex(&wanted.labels_regex);
    for (name, value) in record.config.labels.iter().flatten() {
        if named(&wanted.labels, name) || labels.as_ref().is_some_and(|r| r.is_match(name)) {
            all.insert(name.clone(), value.clone());
        }
    }
    let variables = regex(&wanted.env_regex);
    for entry in record.config.env.iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if named(&wanted.env, name) || variables.as_ref().is_some_and(|r| r.is_match(name)) {
            all.insert(name.to_owned(), value.to_owned());
        }
    }
    if let Some(tag) = &wanted.tag {
        let short = crate::id::short(&record.id);
        let text = tag
            .replace("{{.ID}}", short)
            .replace("{{.FullID}}", &record.id)
            .replace("{{.Name}}", &record.name)
            .replace("{{.ImageName}}", &record.config.image);
        all.insert("tag".into(), text);
    }
    all
}
