//! `POST /networks/{id}/connect`: to the container's owner, who may do it.

use conex_api::container::EndpointSettings;
use conex_api::network::ConnectRequest;
use tokio::sync::oneshot;

use super::{Driver, Record};
use crate::container::task::Command;
use crate::{Engine, Error};

impl Engine {
    /// Puts a container on a network, running or not. Errors: not found for
    /// either, forbidden where it cannot be or is already.
    pub async fn network_connect(&self, word: &str, request: ConnectRequest) -> Result<(), Error> {
        let network = self.inner.networks.find(word)?;
        let container = self.inner.find(&request.container)?;
        let (reply, answer) = oneshot::channel();
        container.command(Command::Connect {
            network: network.id.clone(),
            settings: Box::new(super::normalise::wanted_only(
                request.endpoint_config.unwrap_or_default(),
            )),
            reply,
        })?;
        crate::container::answered(answer, &request.container).await
    }
}

impl Record {
    /// Whether a container can have this on the network, in Docker's words.
    pub(crate) fn check_endpoint(&self, asked: &EndpointSettings) -> Result<(), Error> {
        if !asked.mac_address.is_empty()
            && let Err(error) = asked.mac_address.parse::<conex_network::Mac>()
        {
            return Err(Error::invalid(format!(
                "invalid endpoint settings:\n{error}"
            )));
        }
        for link in asked.links.iter().flatten() {
            crate::container::link::parse(link)?;
        }
        let has_aliases = asked.aliases.as_ref().is_some_and(|list| !list.is_empty());
        if has_aliases && self.is_predefined() {
            return Err(Error::invalid(
                "network-scoped alias is supported only for containers in user defined networks",
            ));
        }
        let ipam = asked.ipam_config.as_ref();
        let asks = [
            (ipam.map(|i| i.ipv4_address.as_str()), self.own_ipv4, false),
            (ipam.map(|i| i.ipv6_address.as_str()), self.own_ipv6, true),
        ];
        for (text, has_own_subnet, is_v6) in asks {
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                continue;
            };
            if self.is_predefined() {
                return Err(Error::invalid(
                    "user specified IP address is supported on user defined networks only",
                ));
            }
            if !has_own_subnet {
                return Err(Error::invalid(
                    "user specified IP address is supported only when connecting to networks \
                     with user configured subnets",
                ));
            }
            let address = text.parse::<std::net::IpAddr>().ok();
            let address = address.filter(|address| address.is_ipv6() == is_v6);
            let inside = |address| self.subnets().any(|subnet| subnet.contains(&address));
            match address {
                Some(address) if inside(address) => {}
                Some(address) => {
                    return Err(Error::invalid(format!(
                        "invalid endpoint settings:\nno configured subnet contains IP address \
                         {address}"
                    )));
                }
                None => {
                    let family = if is_v6 { "IPv6" } else { "IPv4" };
                    return Err(Error::invalid(format!(
                        "invalid endpoint settings:\ninvalid {family} address: {text}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn is_predefined(&self) -> bool {
        self.is_default() || self.driver != Driver::Bridge
    }
}
