//! What the owner of a container does about its execs: passes requests to the
//! monitor, and its news to the engine.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use conex_monitor::protocol::{ExecExit, ExecFailed, ExecRequest, ExecStarted, Request};
use conex_monitor::{send_exec, send_request};

use super::{Monitored, Task};
use crate::Error;
use crate::exec::Status;

impl Task {
    /// The monitor, if the container runs.
    fn active(&self) -> Result<&Monitored, Error> {
        let id = self.container.id();
        if self.container.state().is_paused() {
            return Err(Error::conflict(format!(
                "Container {id} is paused, unpause the container before exec"
            )));
        }
        self.monitored
            .as_ref()
            .filter(|_| !self.ended)
            .ok_or_else(|| Error::conflict(format!("container {id} is not running")))
    }

    pub(super) fn exec(
        &mut self,
        request: &ExecRequest,
        socket: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let link = self.active()?.link.as_fd();
        send_exec(link, request, socket.as_ref().map(AsFd::as_fd))
            .map_err(|e| Error::system("exec", &e))?;
        self.execs_starting += 1;
        Ok(())
    }

    pub(super) fn exec_resize(&self, id: String, rows: u16, columns: u16) -> Result<(), Error> {
        let request = Request::ExecResize { id, rows, columns };
        send_request(self.active()?.link.as_fd(), &request, &[])
            .map_err(|e| Error::system("resize", &e))
    }

    /// Possible while it is paused too: the signal waits.
    pub(super) fn exec_signal(&self, id: String, signal: i32) -> Result<(), Error> {
        let Some(monitored) = self.monitored.as_ref().filter(|_| !self.ended) else {
            let id = self.container.id();
            return Err(Error::conflict(format!("container {id} is not running")));
        };
        let request = Request::ExecSignal { id, signal };
        send_request(monitored.link.as_fd(), &request, &[])
            .map_err(|e| Error::system("signal an exec", &e))
    }

    pub(super) fn exec_started(&mut self, started: &ExecStarted) {
        self.execs_starting = self.execs_starting.saturating_sub(1);
        let execs = &self.engine.execs;
        match execs.get(&started.id) {
            Some(exec) => exec.advance(Status::Running { pid: started.pid }),
            None => execs.adopt(self.container.id(), &started.id, &started.note, started.pid),
        }
    }

    pub(super) fn exec_failed(&mut self, failed: ExecFailed) {
        self.execs_starting = self.execs_starting.saturating_sub(1);
        if let Some(exec) = self.engine.execs.get(&failed.id) {
            exec.advance(Status::Failed {
                exit_code: failed.failure.exit_code,
                message: format!(
                    "OCI runtime exec failed: exec failed: unable to start container process: {}",
                    failed.failure.message
                ),
                at: Instant::now(),
            });
        }
    }

    /// The client sees its streams end only after this was taken, so that it
    /// finds the exit code.
    pub(super) fn exec_exited(&self, exit: ExecExit) {
        if let Some(exec) = self.engine.execs.get(&exit.id) {
            let pid = match exec.status() {
                Status::Running { pid } => pid,
                _ => 0,
            };
            exec.advance(Status::Ended {
                pid,
                exit_code: exit.exit_code,
                at: Instant::now(),
            });
            let extra = [
                ("execID", exit.id.clone()),
                ("exitCode", exit.exit_code.to_string()),
            ];
            self.container
                .publish(&self.engine.events, "exec_die", &extra);
        }
        let Some(monitored) = &self.monitored else {
            return;
        };
        let taken = Request::ExecTaken { id: exit.id };
        if let Err(error) = send_request(monitored.link.as_fd(), &taken, &[]) {
            // A monitor that is going has ended its execs itself.
            tracing::debug!(container = self.container.id(), %error, "not told");
        }
    }
}
