//! Handlers that lead to registries: pull, push, login, search.

use conex_api::filters::Filters;
use conex_api::image::{AuthConfig, PullOptions, PushOptions};
use conex_api::progress::Message;
use futures_util::stream::{BoxStream, StreamExt};
use hyper::{Response, StatusCode};

use super::Call;
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;

/// Who the client is to the registry (COMPAT D1.17).
fn auth_header(call: &Call) -> String {
    header(call, "x-registry-auth")
}

fn header(call: &Call, name: &str) -> String {
    let header = call.request.headers().get(name);
    let value = header.and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Ended by a client that goes away, which drops the stream.
fn progress(call: &Call, messages: BoxStream<'static, Message>) -> Response<Body> {
    let lines = messages.map(|message| Ok(answer::to_line(&message, b"\r\n").into()));
    answer::stream("application/json", call.until_closing(lines))
}

pub(super) async fn pull(call: &Call) -> Result<Response<Body>, Error> {
    let query = &call.query;
    let options = PullOptions {
        image: query.get("fromImage").unwrap_or_default().to_owned(),
        tag: query.get("tag").unwrap_or_default().to_owned(),
        platform: query.non_empty("platform").map(str::to_owned),
        auth: auth_header(call),
    };
    let messages = call.engine().image_pull(options).await?;
    Ok(progress(call, messages))
}

pub(super) async fn push(call: &Call, name: String) -> Result<Response<Body>, Error> {
    let query = &call.query;
    let options = PushOptions {
        tag: query.get("tag").unwrap_or_default().to_owned(),
        platform: query.non_empty("platform").map(str::to_owned),
        // The name Podman's API has for it.
        compression: query
            .get("compressionFormat")
            .unwrap_or_default()
            .to_owned(),
        auth: auth_header(call),
        other_auths: header(call, "x-registry-config"),
    };
    let messages = call.engine().image_push(&name, options).await?;
    Ok(progress(call, messages))
}

pub(super) async fn auth(call: Call) -> Result<Response<Body>, Error> {
    let context = std::sync::Arc::clone(&call.context);
    let config: AuthConfig = body::json(call.request).await?.unwrap_or_default();
    let answer = context.engine.registry_login(config).await?;
    Ok(answer::json(StatusCode::OK, &answer))
}

pub(super) async fn search(call: &Call) -> Result<Response<Body>, Error> {
    let query = &call.query;
    let filters = Filters::parse(query.get("filters").unwrap_or_default())?;
    let limit = match query.non_empty("limit") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Error::Invalid("the limit is not a number"))?,
    };
    let term = query.get("term").unwrap_or_default();
    let auth = auth_header(call);
    let results = call.engine().image_search(term, limit, &filters, &auth);
    Ok(answer::json(StatusCode::OK, &results.await?))
}

pub(super) async fn inspect(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let auth = auth_header(call);
    let answer = call.engine().distribution_inspect(name, &auth).await?;
    Ok(answer::json(StatusCode::OK, &answer))
}
