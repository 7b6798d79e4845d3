//! Handlers of networks.

use conex_api::filters::Filters;
use conex_api::network::{ConnectRequest, CreateRequest, DisconnectRequest};
use hyper::{Response, StatusCode};

use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;
use crate::legacy::{self, Shape};

fn filters(call: &Call) -> Result<Filters, Error> {
    Ok(Filters::parse(
        call.query.get("filters").unwrap_or_default(),
    )?)
}

pub(super) fn list(call: &Call) -> Result<Response<Body>, Error> {
    let networks = call.engine().network_list(&filters(call)?)?;
    let networks: Vec<_> = networks
        .iter()
        .map(|network| legacy::object_for(call.version, Shape::Network, network))
        .collect();
    Ok(answer::json(StatusCode::OK, &networks))
}

pub(super) fn inspect(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    if let Some(scope) = call.query.non_empty("scope").filter(|s| *s != "local") {
        let known = ["global", "swarm"].contains(&scope);
        return Err(match known {
            true => conex_engine::Error::new(
                conex_engine::ErrorKind::NotFound,
                format!("network {name} not found"),
            )
            .into(),
            false => Error::Invalid("invalid value for scope: must be local, global or swarm"),
        });
    }
    let network = call.engine().network_inspect(name)?;
    let network = legacy::object_for(call.version, Shape::Network, &network);
    Ok(answer::json(StatusCode::OK, &network))
}

pub(super) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let request: Option<Option<CreateRequest>> = body::json(call.request).await?;
    let request = request.flatten().unwrap_or_default();
    let created = to_the_end(async move { engine.network_create(request).await }).await?;
    Ok(answer::json(StatusCode::CREATED, &created))
}

pub(super) async fn remove(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let (engine, name) = (call.engine().clone(), name.to_owned());
    to_the_end(async move { engine.network_remove(&name).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn connect(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let (engine, name) = (call.engine().clone(), name.to_owned());
    let request: Option<Option<ConnectRequest>> = body::json(call.request).await?;
    let request = request.flatten().unwrap_or_default();
    to_the_end(async move { engine.network_connect(&name, request).await }).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(super) async fn disconnect(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let (engine, name) = (call.engine().clone(), name.to_owned());
    let request: Option<Option<DisconnectRequest>> = body::json(call.request).await?;
    let request = request.flatten().unwrap_or_default();
    to_the_end(async move { engine.network_disconnect(&name, request).await }).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(super) async fn prune(call: &Call) -> Result<Response<Body>, Error> {
    let (engine, filters) = (call.engine().clone(), filters(call)?);
    let pruned = to_the_end(async move { engine.network_prune(&filters).await }).await?;
    Ok(answer::json(StatusCode::OK, &pruned))
}
