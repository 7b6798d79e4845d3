//! Handlers of volumes.

use conex_api::filters::Filters;
use conex_api::volume::CreateRequest;
use hyper::{Response, StatusCode};

use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;
use crate::legacy;

fn filters(call: &Call) -> Result<Filters, Error> {
    let json = call.query.get("filters").unwrap_or_default();
    Ok(Filters::parse(json)?)
}

pub(super) fn list(call: &Call) -> Result<Response<Body>, Error> {
    let volumes = call.engine().volume_list(&filters(call)?)?;
    Ok(answer::json(StatusCode::OK, &volumes))
}

pub(super) fn inspect(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let volume = call.engine().volume_inspect(name)?;
    Ok(answer::json(StatusCode::OK, &volume))
}

pub(super) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let request: Option<Option<CreateRequest>> = body::json(call.request).await?;
    let request = request.flatten().unwrap_or_default();
    let volume = to_the_end(async move { engine.volume_create(request).await }).await?;
    Ok(answer::json(StatusCode::CREATED, &volume))
}

pub(super) async fn remove(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let (engine, name) = (call.engine().clone(), name.to_owned());
    let force = call.query.flag("force");
    to_the_end(async move { engine.volume_remove(&name, force).await }).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn prune(call: &Call) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let mut filters = filters(call)?;
    legacy::volume_prune_from(call.version, &mut filters);
    let report = to_the_end(async move { engine.volume_prune(filters).await }).await?;
    Ok(answer::json(StatusCode::OK, &report))
}
