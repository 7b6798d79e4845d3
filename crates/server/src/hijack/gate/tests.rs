//! Tests of the gate alone: what it reads of a first head, what it holds and what it rewrites.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Gate, Verdict, plain_answer, takes_the_socket};

const ATTACH: &[u8] = b"POST /v1.50/containers/c/attach?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n";
const INSERTED: &[u8] = b"Connection: Upgrade\r\nUpgrade: tcp\r\n";
const UPGRADE: &[u8] =
    b"POST /exec/e/start HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn only_attach_and_exec_start_take_the_socket() {
    for line in [
        "POST /containers/c/attach HTTP/1.1\r",
        "POST /v1.24/containers/c/attach?stdin=1 HTTP/1.1\r",
        "POST /exec/e/start HTTP/1.1\r",
    ] {
        assert!(takes_the_socket(line.as_bytes()), "{line}");
    }
    for line in [
        "POST /containers/c/attach HTTP/1.0\r",
        "POST /containers/c/start HTTP/1.1\r",
        "POST /containers/attach HTTP/1.1\r",
        "POST /containers/c/attach/ws HTTP/1.1\r",
        "GET /containers/c/attach HTTP/1.1\r",
        "POST  HTTP/1.1\r",
        "",
    ] {
        assert!(!takes_the_socket(line.as_bytes()), "{line}");
    }
}

#[test]
fn a_head_is_judged_as_early_as_it_can_be() {
    assert_eq!(Verdict::of(b""), Verdict::Undecided);
    assert_eq!(Verdict::of(b"PO"), Verdict::Undecided);
    assert_eq!(Verdict::of(b"GET /info"), Verdict::Undecided);
    assert_eq!(Verdict::of(b"GET /info HTTP/1.1\r\n"), Verdict::Ordinary);
    assert_eq!(Verdict::of(&[0xff; 3]), Verdict::Ordinary);
    assert_eq!(Verdict::of(&ATTACH[..40]), Verdict::Undecided);
    assert_eq!(
        Verdict::of(b"POST /images/create HTTP/1.1\r\n"),
        Verdict::Ordinary
    );
    assert_eq!(
        Verdict::of(ATTACH),
        Verdict::Hijack {
            head_len: ATTACH.len(),
            body_len: Some(0),
            upgrade: false
        }
    );
    assert_eq!(
        Verdict::of(UPGRADE),
        Verdict::Hijack {
            head_len: UPGRADE.len() - 2,
            body_len: Some(2),
            upgrade: true
        }
    );
    let chunked = b"POST /exec/e/start HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(matches!(
        Verdict::of(chunked),
        Verdict::Hijack { body_len: None, .. }
    ));
    let nonsense = b"POST /exec/e/start HTTP/1.1\r\nContent-Length: x\r\n\r\n";
    assert_eq!(Verdict::of(nonsense), Verdict::Ordinary);
}

#[test]
fn a_head_without_end_is_left_to_the_parser() {
    let long = [b"POST /".as_slice(), &vec![b'a'; crate::HEAD_LIMIT_BYTES]].concat();
    assert_eq!(Verdict::of(&long), Verdict::Ordinary);
}

#[test]
fn a_forced_answer_is_a_plain_200() {
    let head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nApi-Version: 1.56\r\nUpgrade: tcp\r\n\r\n";
    assert_eq!(
        plain_answer(head),
        b"HTTP/1.1 200 OK\r\nApi-Version: 1.56\r\n\r\n"
    );
}

#[tokio::test]
async fn the_parser_gets_an_upgrade_and_nothing_after_it() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    client.write_all(ATTACH).await.unwrap();
    client.write_all(b"early input").await.unwrap();
    client.shutdown().await.unwrap();

    let mut head = vec![0; ATTACH.len() + INSERTED.len()];
    gate.read_exact(&mut head).await.unwrap();
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with(
        "POST /v1.50/containers/c/attach?stream=1 HTTP/1.1\r\nConnection: Upgrade\r\n"
    ));
    assert!(head.ends_with("Upgrade: tcp\r\nHost: d\r\n\r\n"), "{head}");
    assert!(gate.forced().load(Ordering::Relaxed));

    // Neither the early input nor its end reaches the parser.
    let more = tokio::time::timeout(Duration::from_millis(20), gate.read_u8()).await;
    assert!(more.is_err());
    gate.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    gate.flush().await.unwrap();
    let (mut socket, mut early) = gate.into_parts();
    socket.read_to_end(&mut early).await.unwrap();
    assert_eq!(early, b"early input");
    drop(socket);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\n");
}

#[tokio::test]
async fn a_refusal_gives_the_connection_back_to_the_parser() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    client.write_all(ATTACH).await.unwrap();
    client
        .write_all(b"GET /_ping HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut head = vec![0; ATTACH.len() + INSERTED.len()];
    gate.read_exact(&mut head).await.unwrap();
    // The answer may come in parts of any size.
    for part in [b"HTTP/1.1 404".as_slice(), b" Not Found\r\n\r", b"\n{}"] {
        gate.write_all(part).await.unwrap();
    }
    gate.flush().await.unwrap();
    let mut next = [0; 23];
    gate.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"GET /_ping HTTP/1.1\r\n\r\n");
    let mut answer = [0; 28];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404 Not Found\r\n\r\n{}");
}

#[tokio::test]
async fn a_body_passes_and_a_wanted_upgrade_is_not_rewritten() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    // The body comes later than the head.
    client
        .write_all(&UPGRADE[..UPGRADE.len() - 2])
        .await
        .unwrap();
    let mut request = vec![0; UPGRADE.len()];
    gate.read_exact(&mut request[..UPGRADE.len() - 2])
        .await
        .unwrap();
    client.write_all(b"{}input").await.unwrap();
    gate.read_exact(&mut request[UPGRADE.len() - 2..])
        .await
        .unwrap();
    assert_eq!(request, UPGRADE);
    assert!(!gate.forced().load(Ordering::Relaxed));
    let answer = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n";
    gate.write_all(answer).await.unwrap();
    gate.flush().await.unwrap();
    let mut seen = vec![0; answer.len()];
    client.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, answer);
    let (mut socket, early) = gate.into_parts();
    assert_eq!(early, b"");
    let mut input = [0; 5];
    socket.read_exact(&mut input).await.unwrap();
    assert_eq!(&input, b"input");
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    client.write_all(ATTACH).await.unwrap();
    let mut head = vec![0; ATTACH.len()];
    gate.read_exact(&mut head).await.unwrap();
    gate.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .unwrap();
    gate.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
        .await
        .unwrap();
    gate.flush().await.unwrap();
    drop(gate);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    );
}

#[tokio::test]
async fn everything_else_passes_unchanged() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    let sent = b"GET /info HTTP/1.1\r\n\r\nPOST /containers/c/attach HTTP/1.1\r\n\r\n";
    client.write_all(sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut seen = Vec::new();
    gate.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, sent);
    let (_, early) = gate.into_parts();
    assert_eq!(early, b"");
}

#[tokio::test]
async fn a_filter_written_by_hand_is_encoded_for_the_parser() {
    let (mut client, server) = duplex(65536);
    let mut gate = Gate::new(server);
    client
        .write_all(b"GET /events?filters={\"type\":[\"<x>\"]} HTTP/1.1\r\nX: \"y\"\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let mut seen = String::new();
    gate.read_to_string(&mut seen).await.unwrap();
    assert_eq!(
        seen,
        "GET /events?filters={%22type%22:[%22%3Cx%3E%22]} HTTP/1.1\r\nX: \"y\"\r\n\r\n"
    );
}
