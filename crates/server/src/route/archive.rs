//! Handlers of a container's files: what changed, export, and files in and out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conex_api::container::{ExtractOptions, PATH_STAT_HEADER, PathStat};
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use super::Call;
use crate::answer::{self, Body};
use crate::body;
use crate::error::Error;

const TAR: &str = "application/x-tar";

pub(super) async fn changes(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let changes = call.engine().container_changes(name).await?;
    Ok(answer::json(StatusCode::OK, &changes))
}

pub(super) async fn export(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let archive = call.engine().container_export(name).await?;
    Ok(answer::stream("application/octet-stream", archive))
}

pub(super) async fn stat(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let stat = call.engine().container_path_stat(name, path(call)?).await?;
    Ok(with_stat(answer::empty(StatusCode::OK), &stat))
}

pub(super) async fn get(call: &Call, name: &str) -> Result<Response<Body>, Error> {
    let (stat, archive) = call.engine().container_archive(name, path(call)?).await?;
    Ok(with_stat(answer::stream(TAR, archive), &stat))
}

pub(super) async fn put(call: Call, name: &str) -> Result<Response<Body>, Error> {
    let options = ExtractOptions {
        path: path(&call)?.to_owned(),
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let engine = call.engine().clone();
    // Not to the end: what a client no longer sends cannot be unpacked.
    engine
        .container_extract(name, options, body::stream(call.request))
        .await?;
    Ok(answer::empty(StatusCode::OK))
}

fn path(call: &Call) -> Result<&str, Error> {
    call.query
        .non_empty("path")
        .ok_or(Error::Invalid("bad parameter: 'path' cannot be empty"))
}

fn with_stat(mut response: Response<Body>, stat: &PathStat) -> Response<Body> {
    let json = serde_json::to_vec(stat).expect("API types serialise infallibly");
    let value = HeaderValue::try_from(STANDARD.encode(json)).expect("base64 is plain ASCII");
    response.headers_mut().insert(
        hyper::header::HeaderName::from_bytes(PATH_STAT_HEADER.as_bytes())
            .expect("the constant is a header name"),
        value,
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_travel_in_a_header() {
        let stat = PathStat {
            name: "passwd".into(),
            size: 30,
            mode: 420,
            mtime: "2026-11-22T03:40:07Z".into(),
            ..PathStat::default()
        };
        let response = with_stat(answer::empty(StatusCode::OK), &stat);
        assert_eq!(
            response.headers()["x-docker-container-path-stat"],
            "eyJuYW1lIjoicGFzc3dkIiwic2l6ZSI6MzAsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTExLTIyVDAzOjQwOjA3WiIsImxpbmtUYXJnZXQiOiIifQ=="
        );
    }
}
