//! What comes: manifests and blobs, cut, wrong, long, late; and how it is gone on with.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, media_type};

use crate::fixture::{Reply, Request, Server, Sink, repository};
use crate::{Error, Watch};

fn blob() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(
        media_type::OCI_LAYER_GZIP,
        Digest::of(bytes),
        bytes.len() as u64,
    )
}

/// The rest of a blob, as a range is asked for.
fn ranged(request: &Request, blob: &[u8]) -> Reply {
    let from = request
        .header("range")
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'))
        .map_or(0, |from| from.parse::<usize>().unwrap());
    match from {
        0 => Reply::new(200, blob),
        _ => Reply::new(206, &blob[from..]).with(
            "content-range",
            format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()),
        ),
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let tries = AtomicUsize::new(0);
    let registry = Server::start(move |request| {
        let reply = ranged(request, &blob());
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => reply.cut_after(500_000),
            _ => reply,
        }
    })
    .await;
    let mut sink = Sink::default();
    let watch = Told::default();
    let repository = repository(&registry, "a:1").await;
    repository
        .download(&descriptor(&blob()), &mut sink, &watch)
        .await
        .unwrap();
    assert!(sink.bytes == blob());
    assert_eq!(registry.requests()[1].header("range"), "bytes=500000-");
    assert_eq!(*watch.retries.lock().unwrap(), [1]);
}

#[derive(Default)]
struct Told {
    retries: Mutex<Vec<u64>>,
}

impl Watch for Told {
    fn retrying(&self, seconds: u64) {
        self.retries.lock().unwrap().push(seconds);
    }
}

#[tokio::test]
async fn bytes_of_an_earlier_day_are_not_fetched_again() {
    let registry = Server::start(|request| ranged(request, &blob())).await;
    let repository = repository(&registry, "a:1").await;
    let mut sink = Sink {
        bytes: blob()[..1_000_000].to_vec(),
    };
    repository
        .download(&descriptor(&blob()), &mut sink, &())
        .await
        .unwrap();
    assert!(sink.bytes == blob());
    assert_eq!(registry.requests()[0].header("range"), "bytes=1000000-");
    // And of a whole one nothing is asked.
    repository
        .download(&descriptor(&blob()), &mut sink, &())
        .await
        .unwrap();
    assert_eq!(registry.lines().len(), 1);
}

#[tokio::test]
async fn a_server_without_ranges_sends_what_is_there_and_it_is_skipped() {
    let registry = Server::start(|_| Reply::new(200, blob())).await;
    let mut sink = Sink {
        bytes: blob()[..777].to_vec(),
    };
    let repository = repository(&registry, "a:1").await;
    repository
        .download(&descriptor(&blob()), &mut sink, &())
        .await
        .unwrap();
    assert!(sink.bytes == blob());
}

#[tokio::test]
async fn a_download_that_always_breaks_fails_after_its_attempts() {
    let registry = Server::start(|request| ranged(request, &blob()).cut_after(1000)).await;
    let mut sink = Sink::default();
    let repository = repository(&registry, "a:1").await;
    let error = repository
        .download(&descriptor(&blob()), &mut sink, &())
        .await
        .unwrap_err();
    assert!(error.to_string().ends_with("unexpected EOF"), "{error}");
    assert_eq!(registry.lines().len(), 3);
    assert_eq!(sink.bytes.len(), 3000, "what came is kept");
}

#[tokio::test]
async fn a_registry_that_lies_about_a_length_is_not_believed() {
    let registry = Server::start(|_| Reply::new(200, blob())).await;
    let repository = repository(&registry, "a:1").await;
    for wrong in [-1i64, 1] {
        let mut blob = descriptor(&blob());
        blob.size_bytes = blob.size_bytes.checked_add_signed(wrong).unwrap();
        let error = repository
            .download(&blob, &mut Sink::default(), &())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{error}");
    }
    assert_eq!(registry.lines().len(), 2, "it is not asked again");
}

#[tokio::test]
async fn a_registry_that_stalls_is_given_up() {
    let registry = Server::start(|_| Reply::new(200, blob()).after(Duration::from_secs(600))).await;
    let repository = repository(&registry, "a:1").await;
    let error = repository
        .download(&descriptor(&blob()), &mut Sink::default(), &())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("timeout awaiting response headers"),
        "{error}"
    );
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_not_asked_for_again() {
    let registry = Server::start(|_| Reply::new(404, "")).await;
    let repository = repository(&registry, "a:1").await;
    let error = repository
        .download(&descriptor(&blob()), &mut Sink::default(), &())
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("blob unknown: "), "{error}");
    assert_eq!(registry.lines().len(), 1);
}

#[tokio::test]
async fn too_many_requests_are_made_again_when_the_registry_says() {
    let tries = AtomicUsize::new(0);
    let registry = Server::start(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::new(429, "").with("retry-after", "1"),
        _ => Reply::new(200, blob()),
    })
    .await;
    let repository = repository(&registry, "a:1").await;
    let before = std::time::Instant::now();
    repository
        .download(&descriptor(&blob()), &mut Sink::default(), &())
        .await
        .unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_layer_that_says_where_it_is_is_fetched_there() {
    let elsewhere = Server::start(|_| Reply::new(200, blob())).await;
    let registry = Server::start(|_| Reply::new(404, "")).await;
    let mut blob = descriptor(&blob());
    blob.media_type = media_type::DOCKER_FOREIGN_LAYER_GZIP.to_owned();
    blob.urls = vec![format!("http://{}/layer", elsewhere.address)];
    let repository = repository(&registry, "a:1").await;
    let mut sink = Sink::default();
    repository.download(&blob, &mut sink, &()).await.unwrap();
    assert_eq!(elsewhere.lines(), ["GET /layer"]);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let other = Digest::of(b"other");
    for (reply, part) in [
        (
            Reply::new(200, vec![b' '; 10 << 20]),
            "longer than 4194304 bytes",
        ),
        (
            Reply::new(200, "<html></html>").with("content-type", "text/html"),
            "manifest for",
        ),
        (
            Reply::new(200, "{}").with("docker-content-digest", &other),
            "manifest verification failed for digest",
        ),
    ] {
        let registry = Server::start(move |request| match &*request.method {
            "HEAD" => Reply::new(405, ""),
            _ => reply.clone(),
        })
        .await;
        let error = repository(&registry, "a:1")
            .await
            .resolve()
            .await
            .unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn tags_are_gathered_from_all_pages() {
    let registry = Server::start(|request| match &*request.target {
        "/v2/a/tags/list" => Reply::new(200, r#"{"name":"a","tags":["b","a"]}"#)
            .with("link", "</v2/a/tags/list?last=b>; rel=\"next\""),
        _ => Reply::new(200, r#"{"name":"a","tags":["c"]}"#),
    })
    .await;
    let tags = repository(&registry, "a").await.tags().await.unwrap();
    assert_eq!(tags, ["a", "b", "c"]);
}
