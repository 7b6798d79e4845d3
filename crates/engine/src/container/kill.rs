//! `kill`: a signal to the container's first process.

use tokio::sync::oneshot;

use super::stop::{signal_of, wait};
use super::task::Command;
use crate::{Engine, Error};

impl Engine {
    /// Sends a signal, SIGKILL by default; SIGKILL returns when the container
    /// has ended. Errors: conflict when it does not run.
    pub async fn container_kill(&self, name: &str, signal: Option<String>) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let told = |e: Error| Error::new(e.kind(), format!("cannot kill container: {name}: {e}"));
        let word = signal
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| "KILL".into());
        let signal = signal_of(&word).map_err(told)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Kill { signal, reply })?;
        wait(answer, name).await.map_err(told)
    }

    /// Changes the size of a container's terminal.
    pub async fn container_resize(&self, name: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let container = self.inner.find(name)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Resize {
            rows,
            columns,
            reply,
        })?;
        wait(answer, name).await
    }
}
