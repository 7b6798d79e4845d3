//! What goes: blobs that are there, mounted or sent, and uploads that break off.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, media_type};
use conex_spec::reference::Reference;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::fixture::{Reply, Server, ann, hasty};
use crate::{BlobSource, Registries, Repository, Started};

struct Source(Bytes);

impl BlobSource for Source {
    fn read_from(&self, offset_bytes: u64) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let rest = self.0.slice(offset_bytes as usize..);
        let pieces: Vec<_> = rest
            .chunks(1000)
            .map(|p| Ok(Bytes::copy_from_slice(p)))
            .collect();
        Ok(stream::iter(pieces).boxed())
    }
}

fn content() -> Bytes {
    (0..9000u32)
        .flat_map(u32::to_le_bytes)
        .collect::<Vec<_>>()
        .into()
}

fn descriptor() -> Descriptor {
    let bytes = content();
    Descriptor::new(
        media_type::OCI_LAYER_GZIP,
        Digest::of(&bytes),
        bytes.len() as u64,
    )
}

async fn repository(server: &Server) -> Repository {
    let reference = Reference::parse(&format!("{}/a:1", server.address)).unwrap();
    Registries::new(hasty())
        .push(&reference, &ann())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_sent() {
    let registry = Server::start(|_| Reply::new(200, "")).await;
    let digest = descriptor().digest;
    let started = repository(&registry)
        .await
        .start_upload(Some(&digest), None)
        .await
        .unwrap();
    assert!(matches!(started, Started::Exists));
    assert_eq!(registry.lines(), [format!("HEAD /v2/a/blobs/{digest}")]);
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let registry = Server::start(|request| match &*request.method {
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(201, ""),
    })
    .await;
    let digest = descriptor().digest;
    let repository = repository(&registry).await;
    let started = repository
        .start_upload(Some(&digest), Some("b/c"))
        .await
        .unwrap();
    assert!(matches!(started, Started::Mounted));
    let target = &registry.requests()[1].target;
    let hex = digest.hex();
    assert_eq!(
        target,
        &format!("/v2/a/blobs/uploads/?mount=sha256%3A{hex}&from=b%2Fc")
    );
}

#[tokio::test]
async fn a_blob_is_sent_where_the_other_repository_may_not_be_read() {
    let address = Arc::new(OnceLock::new());
    let realm: Arc<OnceLock<String>> = Arc::clone(&address);
    let registry = Server::start(move |request| {
        let query = request.target.split_once('?').map(|(_, query)| query);
        match (&*request.method, query.unwrap_or_default()) {
            // The token server refuses whoever asks for both, and gives the other.
            ("GET", scopes) if scopes.contains("b%2Fc") => Reply::new(403, ""),
            ("GET", _) => Reply::new(200, r#"{"token":"t"}"#),
            _ if request.header("authorization") != "Bearer t" => Reply::new(401, "").with(
                "www-authenticate",
                format!("Bearer realm=\"http://{}/token\"", realm.get().unwrap()),
            ),
            ("HEAD", _) => Reply::new(404, ""),
            _ => Reply::new(202, "").with("location", "/v2/a/blobs/uploads/u"),
        }
    })
    .await;
    address.set(registry.address.clone()).unwrap();
    let repository = repository(&registry).await;
    let digest = descriptor().digest;
    let started = repository
        .start_upload(Some(&digest), Some("b/c"))
        .await
        .unwrap();
    assert!(matches!(started, Started::Upload(_)));
    let posts: Vec<String> = registry.lines();
    assert_eq!(posts.last().unwrap(), "POST /v2/a/blobs/uploads/");
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_the_registry_stopped() {
    let patches = AtomicUsize::new(0);
    let registry = Server::start(move |request| match &*request.method {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").with("location", "/v2/a/blobs/uploads/u?state=1"),
        "GET" => Reply::new(204, "")
            .with("range", "0-9999")
            .with("location", "/v2/a/blobs/uploads/u?state=2"),
        "PATCH" => match patches.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::new(502, ""),
            _ => Reply::new(202, "").with("location", "/v2/a/blobs/uploads/u?state=3"),
        },
        _ => Reply::new(201, ""),
    })
    .await;
    let blob = descriptor();
    let repository = repository(&registry).await;
    let Started::Upload(upload) = repository
        .start_upload(Some(&blob.digest), None)
        .await
        .unwrap()
    else {
        panic!("it has no such blob")
    };
    repository
        .upload(&blob, &Source(content()), upload, &())
        .await
        .unwrap();
    let requests = registry.requests();
    let second = requests
        .iter()
        .filter(|request| request.method == "PATCH")
        .nth(1)
        .unwrap();
    assert_eq!(second.target, "/v2/a/blobs/uploads/u?state=2");
    assert_eq!(second.header("content-range"), "10000-35999");
    assert!(second.body == content()[10_000..]);
    let put = requests.last().unwrap();
    assert_eq!(put.method, "PUT");
    assert_eq!(
        put.target,
        format!(
            "/v2/a/blobs/uploads/u?state=3&digest=sha256%3A{}",
            blob.digest.hex()
        )
    );
}

#[tokio::test]
async fn a_manifest_is_put_as_it_is_and_its_digest_compared() {
    let registry = Server::start(|request| {
        let digest = match request.target.ends_with("/1") {
            true => Digest::of(&request.body),
            false => Digest::of(b"other"),
        };
        Reply::new(201, "").with("docker-content-digest", digest)
    })
    .await;
    let repository = repository(&registry).await;
    let bytes = Bytes::from_static(b"{ \"exact\" : 1 }");
    let digest = repository
        .put_manifest("1", media_type::OCI_MANIFEST, &bytes)
        .await
        .unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    let request = &registry.requests()[0];
    assert_eq!(request.header("content-type"), media_type::OCI_MANIFEST);
    assert!(request.body == bytes);
    assert!(
        repository
            .put_manifest("2", media_type::OCI_MANIFEST, &bytes)
            .await
            .is_err()
    );
}
