//! Handlers of images.

use conex_api::container::Config;
use conex_api::filters::Filters;
use conex_api::image::{
    CommitOptions, CommitResponse, ImportOptions, ListOptions, LoadOptions, RemoveOptions,
    SaveOptions,
};
use futures_util::stream::StreamExt;
use hyper::{Response, StatusCode};

use super::{Call, to_the_end};
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;
use crate::legacy;

pub(super) fn list(call: &Call) -> Result<Response<Body>, Error> {
    let options = ListOptions {
        all: call.query.flag("all"),
        filters: Filters::parse(call.query.get("filters").unwrap_or_default())?,
        shared_size: call.query.flag("shared-size"),
        digests: call.query.flag("digests"),
        manifests: call.query.flag("manifests"),
    };
    let list = call.engine().image_list(options)?;
    let list = legacy::image_list_for(call.version, list);
    Ok(answer::json(StatusCode::OK, &list))
}

pub(super) fn inspect(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let image = call
        .engine()
        .image_inspect(name, call.query.non_empty("platform"))?;
    Ok(answer::json(
        StatusCode::OK,
        &legacy::image_inspect_for(call.version, &image),
    ))
}

/// Makes an image of a file system in the body. Pulling goes by the same route.
pub(super) async fn create(call: Call) -> Result<Response<Body>, Error> {
    let query = &call.query;
    if query.non_empty("fromImage").is_some() {
        return super::registry::pull(&call).await;
    }
    let source = query.non_empty("fromSrc").ok_or(Error::Invalid(
        "one of 'fromImage' and 'fromSrc' must be specified",
    ))?;
    let owned = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let options = ImportOptions {
        source: source.to_owned(),
        repo: owned("repo"),
        tag: owned("tag"),
        message: owned("message"),
        changes: query.all("changes").map(str::to_owned).collect(),
        platform: query.non_empty("platform").map(str::to_owned),
    };
    let context = std::sync::Arc::clone(&call.context);
    // Not to the end: what a client no longer sends cannot be imported.
    let progress = context
        .engine
        .image_import(options, body::stream(call.request))
        .await?;
    let lines = progress.map(|message| Ok(answer::to_line(&message, b"\r\n").into()));
    Ok(answer::stream("application/json", lines))
}

/// The archive of one image or several, as a stream.
pub(super) async fn save(call: &Call, name: Option<String>) -> Result<Response<Body>, Error> {
    let names: Vec<String> = match name {
        Some(name) => vec![name],
        None => call.query.all("names").map(str::to_owned).collect(),
    };
    let options = SaveOptions {
        names,
        platforms: platforms(call),
    };
    let archive = call.engine().image_save(options).await?;
    Ok(answer::stream("application/x-tar", archive))
}

/// Takes in the images of an archive in the body.
pub(super) async fn load(call: Call) -> Result<Response<Body>, Error> {
    let options = LoadOptions {
        quiet: call.query.flag("quiet"),
        platforms: platforms(&call),
    };
    let context = std::sync::Arc::clone(&call.context);
    // Not to the end: what a client no longer sends cannot be loaded.
    let progress = context
        .engine
        .image_load(options, body::stream(call.request))
        .await?;
    let lines = progress.map(|message| Ok(answer::to_line(&message, b"\r\n").into()));
    Ok(answer::stream("application/json", lines))
}

fn platforms(call: &Call) -> Vec<String> {
    let given = call.query.all("platform").filter(|text| !text.is_empty());
    given.map(str::to_owned).collect()
}

/// Makes an image of a container. Also without a client: what is committed may be wanted later.
pub(super) async fn commit(call: Call) -> Result<Response<Body>, Error> {
    let query = &call.query;
    let owned = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let options = CommitOptions {
        container: owned("container"),
        repo: owned("repo"),
        tag: owned("tag"),
        comment: owned("comment"),
        author: owned("author"),
        pause: query.get("pause").is_none_or(str::is_empty) || query.flag("pause"),
        changes: query
            .all("changes")
            .flat_map(str::lines)
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect(),
    };
    let engine = call.engine().clone();
    let config: Option<Option<Config>> = body::json(call.request).await?;
    let id =
        to_the_end(async move { engine.container_commit(options, config.flatten()).await }).await?;
    Ok(answer::json(StatusCode::CREATED, &CommitResponse { id }))
}

pub(super) async fn tag(call: &Call, name: String) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let repo = call.query.get("repo").unwrap_or_default().to_owned();
    let tag = call.query.get("tag").unwrap_or_default().to_owned();
    to_the_end(async move { engine.image_tag(&name, &repo, &tag).await }).await?;
    Ok(answer::empty(StatusCode::CREATED))
}

pub(super) async fn remove(call: &Call, name: String) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let options = RemoveOptions {
        force: call.query.flag("force"),
        noprune: call.query.flag("noprune"),
    };
    let items = to_the_end(async move { engine.image_remove(&name, options).await }).await?;
    Ok(answer::json(StatusCode::OK, &items))
}

pub(super) fn history(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let steps = call
        .engine()
        .image_history(name, call.query.non_empty("platform"))?;
    Ok(answer::json(StatusCode::OK, &steps))
}

pub(super) async fn prune(call: &Call) -> Result<Response<Body>, Error> {
    let engine = call.engine().clone();
    let filters = Filters::parse(call.query.get("filters").unwrap_or_default())?;
    let report = to_the_end(async move { engine.image_prune(filters).await }).await?;
    Ok(answer::json(StatusCode::OK, &report))
}

/// A route of this engine's own.
pub(super) async fn verify(call: &Call, name: Option<String>) -> Result<Response<Body>, Error> {
    let layers = call.engine().image_verify(name.as_deref()).await?;
    Ok(answer::json(StatusCode::OK, &layers))
}
