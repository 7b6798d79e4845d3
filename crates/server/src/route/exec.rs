//! Handlers of execs.

use bytes::Bytes;
use conex_api::exec::{CreateRequest, StartRequest};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};

use super::container::terminal_side;
use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;
use crate::hijack::{self, Input, Streams};

pub(super) async fn create(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let request: Option<Option<CreateRequest>> = body::json(call.request).await?;
    let created = engine.exec_create(name, request.flatten().unwrap_or_default())?;
    Ok(answer::json(StatusCode::CREATED, &created))
}

pub(super) async fn start(call: Call, id: &str) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let (socket, request) = split(call.request);
    let options: Option<Option<StartRequest>> = body::json(request).await?;
    let options = options.flatten().unwrap_or_default();
    let takes_input = engine.exec_inspect(id)?.open_stdin;
    let detach = options.detach;
    let id = id.to_owned();
    let attachment = to_the_end(async move { engine.exec_start(&id, options).await }).await?;
    if detach {
        return Ok(answer::empty(StatusCode::OK));
    }
    let streams = Streams {
        replay: attachment.replay,
        live: attachment.live,
    };
    let input = if takes_input {
        Input::Forwarded
    } else {
        Input::Discarded
    };
    let closing = call.context.closing.clone();
    let shape = (call.version, attachment.tty);
    Ok(hijack::hand_over(
        socket, &call.peer, closing, shape, streams, input,
    ))
}

/// The part of a request that can have the socket, and the part with the body.
fn split(mut request: Request<Incoming>) -> (Request<Bytes>, Request<Incoming>) {
    let mut socket = Request::new(Bytes::new());
    *socket.version_mut() = request.version();
    *socket.headers_mut() = request.headers().clone();
    if let Some(taking) = request.extensions_mut().remove::<OnUpgrade>() {
        socket.extensions_mut().insert(taking);
    }
    (socket, request)
}

pub(super) async fn resize(call: &Call, id: &str) -> Result<Response<Body>, Error> {
    let rows = terminal_side(&call.query, "height", "h")?;
    let columns = terminal_side(&call.query, "width", "w")?;
    call.engine().exec_resize(id, rows, columns).await?;
    Ok(answer::empty(StatusCode::OK))
}

pub(super) fn inspect(call: &Call, id: &str) -> Result<Response<Body>, Error> {
    let exec = call.engine().exec_inspect(id)?;
    Ok(answer::json(StatusCode::OK, &exec))
}
