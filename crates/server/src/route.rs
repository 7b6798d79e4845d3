//! From a request to its handler: the version prefix, the table of routes, the common end of every answer.
//! Handlers are in `route/`, one file per resource.

mod archive;
mod container;
mod exec;
mod image;
mod network;
mod registry;
mod system;
mod table;
mod volume;

use std::future::Future;
use std::sync::Arc;

use conex_api::query::{self, Query};
use conex_api::version::{self, ApiVersion};
use conex_engine::Engine;
use futures_util::stream::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::answer::{self, Body};
use crate::connection::{Closing, Peer};
use crate::error::Error;
use table::Route;

/// What all requests share.
pub(crate) struct Context {
    /// Who knows.
    pub(crate) engine: Engine,
    /// The oldest version answered.
    pub(crate) min_api_version: ApiVersion,
    /// Tells that the server ends.
    pub(crate) closing: Closing,
}

/// A request on its way to its handler.
struct Call {
    context: Arc<Context>,
    version: ApiVersion,
    query: Query,
    peer: Peer,
    request: Request<Incoming>,
}

impl Call {
    fn engine(&self) -> &Engine {
        &self.context.engine
    }

    /// Ends a stream that would go on when the server is told to end.
    fn until_closing<S>(&self, stream: S) -> impl Stream<Item = S::Item> + Send + use<S>
    where
        S: Stream + Send,
    {
        let mut closing = self.context.closing.clone();
        stream.take_until(async move { closing.begun().await })
    }
}

/// Answers a request.
pub(crate) async fn answer(
    context: Arc<Context>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    let response = match dispatch(context, request, peer).await {
        Ok(response) => response,
        Err(error) => error.into_answer(),
    };
    answer::finish(response)
}

async fn dispatch(
    context: Arc<Context>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let path = query::decode_segment(request.uri().path()).ok_or(Error::Route)?;
    let (asked, path) = split_version(&path);
    // A name may come with its slash: `/containers//web/json`.
    let path = path
        .trim_start_matches('/')
        .replacen("containers//", "containers/", 1);
    let segments: Vec<&str> = path.split('/').collect();
    // A route nobody knows is unknown in every version.
    let route = table::find(request.method(), &segments).ok_or(Error::Route)?;
    let version = check_version(asked, context.min_api_version)?;
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let call = Call {
        context,
        version,
        query,
        peer,
        request,
    };
    match route {
        Route::Ping => Ok(system::ping(&call)),
        Route::Info => Ok(system::info(&call)),
        Route::Version => Ok(system::version(&call)),
        Route::Events => system::events(&call),
        Route::ContainerList => container::list(&call),
        Route::ContainerCreate => container::create(call).await,
        Route::ContainerInspect(name) => container::inspect(&call, name),
        Route::ContainerStart(name) => container::start(&call, name).await,
        Route::ContainerStop(name) => container::stop(&call, name).await,
        Route::ContainerRestart(name) => container::restart(&call, name).await,
        Route::ContainerKill(name) => container::kill(&call, name).await,
        Route::ContainerResize(name) => container::resize(&call, name).await,
        Route::ContainerRemove(name) => container::remove(&call, name).await,
        Route::ContainerWait(name) => container::wait(&call, name),
        Route::ContainerAttach(name) => container::attach(call, name).await,
        Route::ContainerAttachWebsocket(name) => container::attach_websocket(call, name).await,
        Route::ContainerLogs(name) => container::logs(&call, name).await,
        Route::ContainerPause(name) => container::pause(&call, name).await,
        Route::ContainerUnpause(name) => container::unpause(&call, name).await,
        Route::ContainerRename(name) => container::rename(&call, name).await,
        Route::ContainerTop(name) => container::top(&call, name).await,
        Route::ContainerStats(name) => container::stats(&call, name),
        Route::ContainerUpdate(name) => container::update(call, name).await,
        Route::ContainerPrune => container::prune(&call).await,
        Route::ContainerExec(name) => exec::create(call, name).await,
        Route::ContainerChanges(name) => archive::changes(&call, name).await,
        Route::ContainerExport(name) => archive::export(&call, name).await,
        Route::ContainerPathStat(name) => archive::stat(&call, name).await,
        Route::ContainerArchive(name) => archive::get(&call, name).await,
        Route::ContainerExtract(name) => archive::put(call, name).await,
        Route::Commit => image::commit(call).await,
        Route::ExecStart(id) => exec::start(call, id).await,
        Route::ExecResize(id) => exec::resize(&call, id).await,
        Route::ExecInspect(id) => exec::inspect(&call, id),
        Route::ImageList => image::list(&call),
        Route::ImageCreate => image::create(call).await,
        Route::ImageInspect(name) => image::inspect(&call, &name),
        Route::ImageSave(name) => image::save(&call, name).await,
        Route::ImageLoad => image::load(call).await,
        Route::ImagePush(name) => registry::push(&call, name).await,
        Route::ImageSearch => registry::search(&call).await,
        Route::DistributionInspect(name) => registry::inspect(&call, &name).await,
        Route::Auth => registry::auth(call).await,
        Route::ImageTag(name) => image::tag(&call, name).await,
        Route::ImageRemove(name) => image::remove(&call, name).await,
        Route::ImageHistory(name) => image::history(&call, &name),
        Route::ImagePrune => image::prune(&call).await,
        Route::DiskUsage => system::disk_usage(&call).await,
        Route::Check { repair } => system::check(&call, repair).await,
        Route::Verify(name) => image::verify(&call, name).await,
        Route::VolumeList => volume::list(&call),
        Route::VolumeCreate => volume::create(call).await,
        Route::VolumePrune => volume::prune(&call).await,
        Route::VolumeInspect(name) => volume::inspect(&call, name),
        Route::VolumeRemove(name) => volume::remove(&call, name).await,
        Route::BuildPrune => Ok(system::build_prune()),
        Route::NetworkList => network::list(&call),
        Route::NetworkCreate => network::create(call).await,
        Route::NetworkPrune => network::prune(&call).await,
        Route::NetworkInspect(name) => network::inspect(&call, name),
        Route::NetworkRemove(name) => network::remove(&call, name).await,
        Route::NetworkConnect(name) => network::connect(call, name).await,
        Route::NetworkDisconnect(name) => network::disconnect(call, name).await,
        Route::Swarm => Err(Error::NotASwarmManager),
        Route::SwarmSetup => Err(Error::NotImplemented(
            "swarm mode is not supported by this engine",
        )),
    }
}

/// Splits `/v1.50/info` into its version and `/info`.
fn split_version(path: &str) -> (Option<ApiVersion>, &str) {
    let Some(rest) = path.strip_prefix("/v") else {
        return (None, path);
    };
    match rest.split_once('/') {
        Some((version, after)) => match version.parse() {
            Ok(version) => (Some(version), after),
            Err(_) => (None, path),
        },
        None => (None, path),
    }
}

/// The version a client is answered in: the one it asked for, or the newest.
fn check_version(asked: Option<ApiVersion>, min: ApiVersion) -> Result<ApiVersion, Error> {
    match asked {
        None => Ok(version::MAX),
        Some(asked) if asked > version::MAX => Err(Error::TooNew(asked)),
        Some(asked) if asked < min => Err(Error::TooOld { asked, min }),
        Some(asked) => Ok(asked),
    }
}

/// Does the engine's work to its end, also when the client goes away meanwhile.
async fn to_the_end<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, conex_engine::Error>> + Send + 'static,
{
    tokio::spawn(work)
        .await
        .map_err(Error::Interrupted)?
        .map_err(Error::Engine)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_split_off_the_path() {
        assert_eq!(
            split_version("/v1.50/info"),
            (Some(ApiVersion::new(1, 50)), "info")
        );
        assert_eq!(split_version("/info"), (None, "/info"));
        assert_eq!(split_version("/version"), (None, "/version"));
        assert_eq!(split_version("/volumes/x"), (None, "/volumes/x"));
        assert_eq!(split_version("/v1.50"), (None, "/v1.50"));
        assert_eq!(split_version("/v1.x/info"), (None, "/v1.x/info"));
    }

    #[test]
    fn a_client_is_answered_in_its_version_or_told_the_limit() {
        let min = ApiVersion::new(1, 40);
        assert_eq!(check_version(None, min).unwrap(), version::MAX);
        assert_eq!(check_version(Some(min), min).unwrap(), min);
        assert!(matches!(
            check_version(Some(ApiVersion::new(1, 39)), min),
            Err(Error::TooOld { .. })
        ));
        assert!(matches!(
            check_version(Some(ApiVersion::new(1, 57)), min),
            Err(Error::TooNew(_))
        ));
        assert!(matches!(
            check_version(Some(ApiVersion::new(2, 0)), min),
            Err(Error::TooNew(_))
        ));
    }
}
