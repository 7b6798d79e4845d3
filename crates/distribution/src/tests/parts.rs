//! Blobs over several connections, from a host that is slow for each.

use std::sync::Mutex;
use std::time::Duration;

use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, media_type};
use conex_spec::reference::Reference;

use crate::fixture::{Reply, Request, Server, Sink, hasty};
use crate::{Credentials, Parts, Registries, Repository, Settings};

const PART_BYTES: u64 = 100_000;

fn blob() -> Vec<u8> {
    (0..200_000u32).flat_map(u32::to_le_bytes).collect()
}

/// One that takes every connection for slow.
async fn impatient(server: &Server) -> Repository {
    let settings = Settings {
        parts: Parts {
            watched: Duration::ZERO,
            patience: Duration::ZERO,
            part_bytes: PART_BYTES,
            at_a_time: 3,
        },
        ..hasty()
    };
    let reference = Reference::parse(&format!("{}/x:1", server.address)).unwrap();
    let registries = Registries::new(settings);
    let opened = registries.pull(&reference, &Credentials::default()).await;
    opened.unwrap()
}

/// First and last byte that are asked for; the last is open without parts.
fn range(request: &Request) -> (usize, Option<usize>) {
    let range = request.header("range").trim_start_matches("bytes=");
    let (first, last) = range.split_once('-').unwrap_or(("0", ""));
    (first.parse().unwrap(), last.parse().ok())
}

fn answer(request: &Request) -> Reply {
    let blob = blob();
    let (first, last) = range(request);
    let last = last.unwrap_or(blob.len() - 1);
    match (first, request.header("range")) {
        (0, "") => Reply::new(200, blob),
        _ => {
            let shown = format!("bytes {first}-{last}/{}", blob.len());
            Reply::new(206, &blob[first..=last]).with("content-range", shown)
        }
    }
}

async fn fetched(server: &Server) -> Vec<u8> {
    let bytes = blob();
    let descriptor = Descriptor::new(
        media_type::OCI_LAYER_GZIP,
        Digest::of(&bytes),
        bytes.len() as u64,
    );
    let mut sink = Sink::default();
    let repository = impatient(server).await;
    repository
        .download(&descriptor, &mut sink, &())
        .await
        .unwrap();
    sink.bytes
}

#[tokio::test]
async fn the_rest_of_a_slow_blob_comes_in_parts_without_gap_or_repeat() {
    let server = Server::start(|request| {
        // The later, the sooner: what comes early has to wait.
        let (first, last) = range(request);
        let silence = last.map_or(0, |_| 20u64.saturating_sub(first as u64 / 50_000));
        answer(request).after(Duration::from_millis(silence))
    })
    .await;
    assert!(fetched(&server).await == blob());
    let asked: Vec<_> = server.requests().iter().map(range).collect();
    assert_eq!(asked[0], (0, None), "first it is tried with one");
    let mut parts: Vec<_> = asked[1..].to_vec();
    parts.sort_unstable();
    assert!(parts.len() >= 7, "{asked:?}");
    for pair in parts.windows(2) {
        assert_eq!(pair[0].1.unwrap() + 1, pair[1].0, "{asked:?}");
    }
    assert_eq!(parts.last().unwrap().1, Some(blob().len() - 1));
}

#[tokio::test]
async fn a_part_that_breaks_off_is_asked_for_again_from_the_last_byte_in_order() {
    let broken = Mutex::new(false);
    let server = Server::start(move |request| {
        let reply = answer(request);
        let (first, last) = range(request);
        let is_third = last.is_some() && (200_000..500_000).contains(&first);
        match is_third && !std::mem::replace(&mut *broken.lock().unwrap(), true) {
            true => reply.cut_after(1000),
            false => reply,
        }
    })
    .await;
    assert!(fetched(&server).await == blob());
}

#[tokio::test]
async fn a_host_that_sends_other_parts_than_asked_for_is_asked_for_all() {
    for wrong in ["bytes 0-1/2", "nonsense", ""] {
        let server = Server::start(move |request| match range(request) {
            // Everything, or another part.
            (_, Some(_)) if wrong.is_empty() => Reply::new(200, blob()),
            (_, Some(_)) => Reply::new(206, "xy").with("content-range", wrong),
            (_, None) => answer(request),
        })
        .await;
        assert!(fetched(&server).await == blob(), "{wrong:?}");
        let asked: Vec<_> = server.requests().iter().map(range).collect();
        let parts = asked.iter().filter(|(_, last)| last.is_some()).count();
        assert!((1..=3).contains(&parts), "{asked:?}");
        assert!(asked.last().unwrap().1.is_none(), "{asked:?}");
    }
}
