//! `rename`: another name, at once and for good.

use tokio::sync::oneshot;

use super::task::Command;
use crate::{Engine, Error, name as names};

impl Engine {
    /// Gives a container another name.
    ///
    /// Errors: invalid parameter for a name that is none, or its own; conflict
    /// for one that is taken.
    pub async fn container_rename(&self, name: &str, new_name: &str) -> Result<(), Error> {
        if name.is_empty() || new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let container = self.inner.find(name)?;
        let new_name = names::check(new_name)?.to_owned();
        let (reply, answer) = oneshot::channel();
        container.command(Command::Rename { new_name, reply })?;
        super::stop::wait(answer, name).await
    }
}
