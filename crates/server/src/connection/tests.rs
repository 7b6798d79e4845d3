//! Tests of whole connections over real sockets, with an engine's part played by a few lines.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use conex_api::version::ApiVersion;
use futures_util::stream::{self, StreamExt};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;
use crate::answer;
use crate::hijack::{self, Input, Streams};
use crate::listen::Listener;

/// A server on a socket of its own, and what its handler reports.
struct Served {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    connections: Connections,
    closing: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    /// The container's end of each attachment.
    containers: mpsc::UnboundedReceiver<UnixStream>,
    /// A message for each endless answer that was dropped.
    dropped: mpsc::UnboundedReceiver<()>,
}

struct TellsWhenDropped(mpsc::UnboundedSender<()>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

impl Served {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let mut open = Listener::Unix {
            path: path.clone(),
            group: None,
        }
        .open(None)
        .await
        .unwrap();
        let (attached, containers) = mpsc::unbounded_channel();
        let (drops, dropped) = mpsc::unbounded_channel();
        let (closing, closed) = Closing::channel();
        let ended = closed.clone();
        let handler = move |request: Request<Incoming>, peer: Peer| {
            let (attached, drops, ended) = (attached.clone(), drops.clone(), ended.clone());
            async move {
                let path = request.uri().path().to_owned();
                let response = if path.ends_with("/attach") {
                    let (container, live) = UnixStream::pair().unwrap();
                    attached.send(container).unwrap();
                    let streams = Streams {
                        replay: None,
                        live: Some(live),
                    };
                    let shape = (ApiVersion::new(1, 50), false);
                    hijack::hand_over(request, &peer, ended, shape, streams, Input::Forwarded)
                } else if path == "/endless" {
                    let guard = TellsWhenDropped(drops);
                    let first = stream::iter([Ok(Bytes::from_static(b"first"))]);
                    let rest = stream::pending().map(move |item| {
                        let _ = &guard;
                        item
                    });
                    answer::stream("text/plain", first.chain(rest))
                } else if path == "/containers/gone" {
                    answer::empty(StatusCode::NOT_MODIFIED)
                } else {
                    answer::full(StatusCode::OK, "text/plain", "OK")
                };
                answer::finish(response)
            }
        };
        let connections = Connections::default();
        let accepting = tokio::spawn(accept(open.remove(0), handler, connections.clone(), closed));
        Self {
            _dir: dir,
            path,
            connections,
            closing,
            accepting,
            containers,
            dropped,
        }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }
}

/// Reads until the empty line that ends a head.
async fn read_head(socket: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn read_all(socket: &mut UnixStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn requests_follow_each_other_and_answers_carry_the_common_headers() {
    let served = Served::start().await;
    let mut client = served.connect().await;
    for _ in 0..2 {
        client
            .write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for header in [
            "Api-Version: 1.56",
            "Ostype: linux",
            "Docker-Experimental: false",
            "Content-Length: 2",
        ] {
            assert!(
                head.contains(&format!("\r\n{header}\r\n")),
                "{header} in {head}"
            );
        }
        assert!(head.contains("\r\nServer: Conex/"));
        let mut body = [0; 2];
        client.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"OK");
    }
    assert_eq!(served.connections.count(), 1);
}

#[tokio::test]
async fn an_unmodified_answer_is_a_head_alone() {
    let served = Served::start().await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /containers/gone HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = read_all(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 304 Not Modified\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn garbage_is_a_bad_request_and_harms_nobody() {
    let served = Served::start().await;
    for garbage in [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".as_slice(),
        b"nonsense\r\n\r\n",
        b"POST \r\n\r\n",
    ] {
        let mut client = served.connect().await;
        client.write_all(garbage).await.unwrap();
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let mut client = served.connect().await;
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_head_that_never_ends_is_too_large() {
    let served = Served::start().await;
    for start in [
        "GET /x HTTP/1.1\r\nX: ",
        "POST /containers/c/attach HTTP/1.1\r\nX: ",
    ] {
        let mut client = served.connect().await;
        client.write_all(start.as_bytes()).await.unwrap();
        let (mut read, mut write) = client.into_split();
        // The server may close before it has seen all of it.
        let writing = tokio::spawn(async move {
            write
                .write_all(&vec![b'a'; 2 * HEAD_LIMIT_BYTES])
                .await
                .is_ok()
        });
        let mut answer = [0; 12];
        read.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
        drop(read);
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn an_upgraded_client_gets_the_socket_with_both_half_closes() {
    let mut served = Served::start().await;
    let mut client = served.connect().await;
    client
        .write_all(b"POST /v1.50/containers/c/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    for header in [
        "Content-Type: application/vnd.docker.multiplexed-stream",
        "Connection: Upgrade",
        "Upgrade: tcp",
    ] {
        assert!(
            head.contains(&format!("\r\n{header}\r\n")),
            "{header} in {head}"
        );
    }
    let mut container = served.containers.recv().await.unwrap();
    client.write_all(b"input").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut container).await, "input");
    container.write_all(b"output").await.unwrap();
    assert_eq!(served.connections.count(), 1);
    drop(container);
    assert_eq!(read_all(&mut client).await, "output");
    drop(client);
    served
        .connections
        .watch()
        .wait_for(|count| *count == 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn input_and_its_end_sent_before_the_answer_are_not_lost() {
    for upgrade in ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""] {
        for input in ["input", ""] {
            let mut served = Served::start().await;
            let mut client = served.connect().await;
            let request =
                format!("POST /containers/c/attach HTTP/1.1\r\nHost: d\r\n{upgrade}\r\n{input}");
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let mut container = served.containers.recv().await.unwrap();
            assert_eq!(read_all(&mut container).await, input);
            container.write_all(b"output").await.unwrap();
            drop(container);
            let answer = read_all(&mut client).await;
            assert!(answer.ends_with("\r\n\r\noutput"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_without_upgrade_gets_the_socket_after_a_plain_200() {
    let mut served = Served::start().await;
    let mut client = served.connect().await;
    client
        .write_all(
            b"POST /containers/c/attach HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\n\r\n",
        )
        .await
        .unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: application/vnd.docker.raw-stream\r\n"),
        "{head}"
    );
    for absent in [
        "Upgrade:",
        "Connection:",
        "Transfer-Encoding:",
        "Content-Length:",
    ] {
        assert!(!head.contains(absent), "{absent} in {head}");
    }
    let mut container = served.containers.recv().await.unwrap();
    client.write_all(b"input").await.unwrap();
    let mut input = [0; 5];
    container.read_exact(&mut input).await.unwrap();
    assert_eq!(&input, b"input");
    container.write_all(b"output").await.unwrap();
    container.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "output");
}

#[tokio::test]
async fn a_later_request_without_upgrade_still_gets_the_output() {
    let mut served = Served::start().await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut client).await;
    client.read_exact(&mut [0; 2]).await.unwrap();
    client
        .write_all(b"POST /containers/c/attach HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut container = served.containers.recv().await.unwrap();
    container.write_all(b"output").await.unwrap();
    drop(container);
    let answer = read_all(&mut client).await;
    assert!(answer.contains("\r\n6\r\noutput\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stream_is_sent_as_it_comes_and_dropped_with_its_client() {
    let mut served = Served::start().await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /endless HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut client).await;
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    let mut first = [0; 10];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"5\r\nfirst\r\n");
    drop(client);
    served.dropped.recv().await.unwrap();
    served
        .connections
        .watch()
        .wait_for(|count| *count == 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_end_of_the_server_is_the_end_of_its_connections() {
    let mut served = Served::start().await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut idle).await;
    let mut attached = served.connect().await;
    attached
        .write_all(b"POST /containers/c/attach HTTP/1.1\r\nHost: d\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut attached).await;
    let _container = served.containers.recv().await.unwrap();
    served.closing.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), served.accepting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read_all(&mut idle).await, "OK");
    assert_eq!(read_all(&mut attached).await, "");
    assert!(UnixStream::connect(&served.path).await.is_err());
}
