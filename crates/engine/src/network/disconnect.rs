//! `POST /networks/{id}/disconnect`: to the container's owner, who may do it.

use conex_api::network::DisconnectRequest;
use tokio::sync::oneshot;

use crate::container::task::Command;
use crate::{Engine, Error};

impl Engine {
    /// Takes a container off a network, running or not. Errors: not found for
    /// either, forbidden where it is not on it.
    pub async fn network_disconnect(
        &self,
        word: &str,
        request: DisconnectRequest,
    ) -> Result<(), Error> {
        let network = self.inner.networks.find(word)?;
        let container = match self.inner.find(&request.container) {
            // Nothing of a container that is gone is left on any network.
            Err(error) if request.force && error.kind() == crate::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        let (reply, answer) = oneshot::channel();
        container.command(Command::Disconnect {
            network: network.id.clone(),
            reply,
        })?;
        crate::container::answered(answer, &request.container).await
    }
}
