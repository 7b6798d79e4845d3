//! `exec create`: what is to run, checked and remembered.

use std::sync::Arc;

use conex_api::exec::{CreateRequest, Created};

use super::{Exec, Status};
use crate::container::Container;
use crate::container::attach::detach_keys;
use crate::container::state::Phase;
use crate::{Engine, Error};

impl Engine {
    /// Remembers a command to run in a container.
    ///
    /// Errors: invalid parameter without a command; conflict when the
    /// container does not run, or is paused.
    pub fn exec_create(&self, name: &str, request: CreateRequest) -> Result<Created, Error> {
        if request.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.inner.find(name)?;
        check_active(&container, name)?;
        if request.console_size.is_some() && !request.tty {
            return Err(Error::invalid("console size is only supported with a TTY"));
        }
        if detach_keys(Some(&request.detach_keys)).is_none() {
            let keys = &request.detach_keys;
            return Err(Error::invalid(format!(
                "Invalid escape keys ({keys}) provided"
            )));
        }
        let id = crate::id::generate();
        let exec = Arc::new(Exec::new(
            id.clone(),
            container.id().to_owned(),
            request,
            Status::Created,
        ));
        self.inner
            .execs
            .insert(Arc::clone(&exec), |id| self.inner.find(id).is_ok());
        let action = format!("exec_create: {}", exec.command_line());
        container.publish(&self.inner.events, &action, &[("execID", id.clone())]);
        Ok(Created { id })
    }
}

/// Refuses a container in which nothing can be started now.
pub(super) fn check_active(container: &Container, named: &str) -> Result<(), Error> {
    let state = container.state();
    let id = container.id();
    match state.phase {
        Phase::Running => Ok(()),
        Phase::Restarting => Err(Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ))),
        _ => Err(Error::conflict(format!("container {id} is not running"))),
    }?;
    if state.is_paused() {
        return Err(Error::conflict(format!(
            "Container {named} is paused, unpause the container before exec"
        )));
    }
    Ok(())
}
