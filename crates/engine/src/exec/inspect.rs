//! `exec inspect` and `exec resize`.

use std::time::Duration;

use conex_api::exec::{Inspect, ProcessConfig};
use tokio::sync::oneshot;

use super::Status;
use crate::container::task::Command;
use crate::{Engine, Error, ErrorKind};

/// How long a resize waits for the start of its exec, as Docker's does: clients
/// send both at once.
const START_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Everything about an exec. Errors: not found.
    pub fn exec_inspect(&self, id: &str) -> Result<Inspect, Error> {
        let exec = match self
            .inner
            .execs
            .get(id)
            .filter(|exec| exec.ended_just_now())
        {
            Some(exec) => exec,
            None => self.exec_find(id)?.0,
        };
        let (running, exit_code, pid) = match exec.status() {
            Status::Created | Status::Starting => (false, None, 0),
            Status::Running { pid } => (true, None, pid),
            Status::Failed { exit_code, .. } => (false, Some(exit_code), 0),
            Status::Ended { pid, exit_code, .. } => (false, Some(exit_code), pid),
        };
        let (entrypoint, arguments) = exec.program();
        let request = &exec.request;
        Ok(Inspect {
            id: exec.id.clone(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: request.tty,
                entrypoint: entrypoint.to_owned(),
                arguments: arguments.to_vec(),
                privileged: request.privileged,
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: false,
            container_id: exec.container_id.clone(),
            detach_keys: request.detach_keys.clone(),
            pid,
        })
    }

    /// Changes the size of an exec's terminal, once it is started.
    ///
    /// Errors: not found; conflict when it is over; deadline when nobody
    /// starts it.
    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let (exec, container) = self.exec_find(id)?;
        let mut status = exec.status.subscribe();
        let started = status.wait_for(|s| !matches!(s, Status::Created | Status::Starting));
        let is_over = match tokio::time::timeout(START_PATIENCE, started).await {
            Ok(status) => status.is_ok_and(|status| status.is_over()),
            Err(_) => {
                let text = "timeout waiting for exec session ready";
                return Err(Error::new(ErrorKind::Deadline, text));
            }
        };
        if is_over {
            return Err(Error::conflict(format!("exec {id} is not running")));
        }
        let (reply, answer) = oneshot::channel();
        container.command(Command::ExecResize {
            id: id.to_owned(),
            rows,
            columns,
            reply,
        })?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::no_container(container.id())))
    }
}
