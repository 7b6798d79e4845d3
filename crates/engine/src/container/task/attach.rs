//! The owner's part in attaching: the monitor serves who is attached, and whoever
//! comes before a start waits for it. A client that also reads the log learns where
//! in it its streams begin.

use std::os::fd::{AsFd, OwnedFd};

use conex_logs::json_file::Mark;
use conex_monitor::protocol::{Attach, Request};
use conex_monitor::send_request;
use rustix::event::PollFlags;
use tokio::sync::oneshot;

use super::Task;
use super::monitored::is_ready;
use crate::Error;

/// Answered when the streams begin, with the end of the log before them; without one
/// there is nothing after what the log holds.
pub(crate) type Reply = oneshot::Sender<Result<Option<Mark>, Error>>;

impl Task {
    pub(super) fn attach(&mut self, wanted: Attach, socket: OwnedFd, reply: Reply) {
        let mut reply = Some(reply);
        let mut answered = Ok(None);
        match &self.monitored {
            Some(monitored) if !self.ended => {
                let awaits_log = wanted.reads_log;
                let request = Request::Attach(wanted);
                match send_request(monitored.link.as_fd(), &request, &[socket.as_fd()]) {
                    Ok(()) => {
                        let awaited = if awaits_log { reply.take() } else { None };
                        self.attaching.push_back(awaited);
                    }
                    Err(error) => answered = Err(Error::system("attach", &error)),
                }
            }
            _ => {
                // Clients that gave up waiting for a start leave no socket.
                self.pending
                    .retain(|(_, socket)| !is_ready(socket, PollFlags::empty()));
                if wanted.reads_log {
                    answered = Ok(self.log_end());
                }
                self.pending.push((wanted, socket));
            }
        }
        if answered.is_ok() {
            self.container.publish(&self.engine.events, "attach", &[]);
        }
        if let Some(reply) = reply {
            // A caller that went away does not need its answer.
            let _nobody = reply.send(answered).is_err();
        }
    }

    /// Where the log of a container ends that does not run.
    fn log_end(&self) -> Option<Mark> {
        let path = self.container.record.log_path.as_ref()?;
        let file = std::fs::File::open(path).ok()?;
        let bytes = file.metadata().ok()?.len();
        Some(Mark { file, bytes })
    }

    /// The monitor serves the attacher that waited longest.
    pub(super) fn attached(&mut self, log_bytes: u64, fds: Vec<OwnedFd>) {
        let Some(Some(reply)) = self.attaching.pop_front() else {
            return;
        };
        let mark = match fds.into_iter().next() {
            Some(fd) => Some(Mark {
                file: fd.into(),
                bytes: log_bytes,
            }),
            // A monitor of a release that did not send the file.
            None => self.log_end().map(|end| Mark {
                bytes: log_bytes,
                ..end
            }),
        };
        let _nobody = reply.send(Ok(mark)).is_err();
    }

    /// An attacher, of an exec or the container itself, typed its detach keys.
    pub(super) fn detached(&self, exec: Option<String>) {
        let events = &self.engine.events;
        match exec {
            Some(id) => self
                .container
                .publish(events, "exec_detach", &[("execID", id)]),
            None => self.container.publish(events, "detach", &[]),
        }
    }
}
