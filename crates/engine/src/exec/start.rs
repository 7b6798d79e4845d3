//! `exec start`: builds the process from the container's record, has the
//! monitor run it, and connects the client.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use conex_api::exec::StartRequest;
use conex_api::stream::{self as frames, Stream};
use conex_monitor::protocol::{Attach, ExecRequest, Streams};
use conex_sys::socket;
use futures_util::StreamExt;
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketType;
use tokio::sync::oneshot;

use super::create::check_active;
use super::{Exec, NOT_STARTED, Status};
use crate::container::attach::{detach_keys, into_stream};
use crate::container::task::Command;
use crate::container::{Container, exec_process};
use crate::engine::Inner;
use crate::{Attachment, Engine, Error, ErrorKind};

/// How long a monitor may take to start a program.
const START_PATIENCE: Duration = Duration::from_secs(120);

impl Engine {
    /// Starts an exec and connects its client; a detached one has no streams.
    ///
    /// A client that stays hears of a failed start in its stream, as Docker's
    /// do. Errors: not found; conflict when the container does not run or is
    /// paused; any failure when detached.
    pub async fn exec_start(&self, id: &str, options: StartRequest) -> Result<Attachment, Error> {
        let (exec, container) = self.exec_find(id)?;
        check_active(&container, container.id())?;
        let failure = match self.exec_run(&exec, &container, &options).await {
            Ok(live) => {
                let live = live.map(into_stream).transpose();
                let live = live.map_err(|e| Error::system("attach", &e))?;
                return Ok(Attachment {
                    tty: options.tty,
                    replay: None,
                    live,
                });
            }
            Err(failure) if options.detach => return Err(failure),
            Err(failure) => failure,
        };
        let text = format!("{failure}\r\n");
        let told = if options.tty {
            Bytes::from(text)
        } else {
            framed(&text)
        };
        let replay = futures_util::stream::iter([Ok(told)]).boxed();
        Ok(Attachment {
            tty: options.tty,
            replay: Some(replay),
            live: None,
        })
    }

    async fn exec_run(
        &self,
        exec: &Arc<Exec>,
        container: &Arc<Container>,
        options: &StartRequest,
    ) -> Result<Option<OwnedFd>, Error> {
        if !exec.begin() {
            let problem = if exec.status().is_over() {
                "has already run"
            } else {
                "is already running"
            };
            return Err(Error::conflict(format!(
                "exec command {} {problem}",
                exec.id
            )));
        }
        let action = format!("exec_start: {}", exec.command_line());
        container.publish(&self.inner.events, &action, &[("execID", exec.id.clone())]);
        let started = self.exec_ask(exec, container, options).await;
        if let Err(error) = &started {
            let message = error.to_string();
            exec.advance(Status::Failed {
                exit_code: NOT_STARTED,
                message,
                at: Instant::now(),
            });
        }
        started
    }

    /// Has the monitor start it; returns the client's end of its streams.
    async fn exec_ask(
        &self,
        exec: &Arc<Exec>,
        container: &Arc<Container>,
        options: &StartRequest,
    ) -> Result<Option<OwnedFd>, Error> {
        let (ours, theirs) = if options.detach {
            (None, None)
        } else {
            let (ours, theirs) = socket::pair(SocketType::STREAM)
                .map_err(|e| Error::system("make an exec's socket", &e))?;
            (Some(ours), Some(theirs))
        };
        let request = {
            let (engine, exec) = (Arc::clone(&self.inner), Arc::clone(exec));
            let (container, options) = (Arc::clone(container), options.clone());
            tokio::task::spawn_blocking(move || engine.exec_request(&exec, &container, &options))
                .await
                .map_err(|e| Error::system("prepare the exec", &e))??
        };
        let mut status = exec.status.subscribe();
        let (reply, answer) = oneshot::channel();
        container.command(Command::Exec {
            request: Box::new(request),
            socket: theirs,
            reply,
        })?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::no_container(container.id())))?;
        let started = status.wait_for(|status| *status != Status::Starting);
        let Ok(outcome) = tokio::time::timeout(START_PATIENCE, started).await else {
            let text = "the container's monitor does not answer";
            return Err(Error::new(ErrorKind::System, text));
        };
        match outcome.as_deref() {
            Ok(Status::Failed {
                exit_code, message, ..
            }) => {
                let kind = if *exit_code == 127 || message.contains("permission denied") {
                    ErrorKind::InvalidParameter
                } else {
                    ErrorKind::System
                };
                Err(Error::new(kind, message.clone()))
            }
            _ => Ok(ours),
        }
    }

    pub(super) fn exec_find(&self, id: &str) -> Result<(Arc<Exec>, Arc<Container>), Error> {
        let unknown = || Error::not_found(format!("No such exec instance: {id}"));
        let exec = self.inner.execs.get(id).ok_or_else(unknown)?;
        match self.inner.find(&exec.container_id) {
            Ok(container) => Ok((exec, container)),
            Err(_) => {
                self.inner.execs.forget(id);
                Err(unknown())
            }
        }
    }
}

impl Inner {
    /// What the monitor is to run. Blocks: reads the container's user files.
    fn exec_request(
        &self,
        exec: &Exec,
        container: &Container,
        options: &StartRequest,
    ) -> Result<ExecRequest, Error> {
        let pid = container.state().pid;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
            .map_err(|e| Error::system("open the container's root", &e))?;
        let mut wanted = exec.request.clone();
        wanted.console_size = options.console_size.or(wanted.console_size);
        let (process, seccomp) = exec_process(self, container, &wanted, root.as_fd())?;
        let attach = (!options.detach).then(|| Attach {
            streams: Streams {
                stdin: wanted.attach_stdin,
                stdout: wanted.attach_stdout,
                stderr: wanted.attach_stderr,
            },
            detach_keys: detach_keys(Some(&wanted.detach_keys)).unwrap_or_default(),
            reads_log: false,
        });
        Ok(ExecRequest {
            id: exec.id.clone(),
            process,
            seccomp,
            attach,
            raw: options.tty,
            note: exec.note(),
        })
    }
}

/// A text of the engine in a framed stream, where Docker puts it.
fn framed(text: &str) -> Bytes {
    let size = u32::try_from(text.len()).expect("an error message is shorter than 4 GiB");
    [&frames::header(Stream::Stdout, size), text.as_bytes()]
        .concat()
        .into()
}
