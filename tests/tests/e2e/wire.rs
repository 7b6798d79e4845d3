//! The engine's socket under raw bytes: negotiation, garbage, sizes beyond
//! reason, clients that vanish, hijacked streams.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;

use conex_tests::client::{Cli, Client, engine_for, with_busybox};
use conex_tests::engine::Engine;
use conex_tests::http;
use serde_json::json;

fn on_an_engine(case: impl FnOnce(&mut Engine)) {
    let Some(mut engine) = engine_for(Client::Conex) else {
        return;
    };
    case(&mut engine);
    assert!(engine.lives(), "the daemon died:\n{}", engine.log());
    assert_eq!(engine.api("GET", "/_ping", None).text(), "OK");
}

/// Sends raw bytes, says no more and reads what comes until the engine closes.
fn raw(engine: &Engine, bytes: &[u8]) -> String {
    let mut stream = http::connect(&engine.socket()).expect("the engine listens");
    // The engine may have heard enough before the end.
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn versions_from_1_24_to_1_56_are_spoken() {
    on_an_engine(|engine| {
        for version in ["/v1.24", "/v1.43", "/v1.56", ""] {
            let answer = engine.api("GET", &format!("{version}/info"), None);
            assert_eq!(answer.status, 200, "{version}");
            assert_eq!(answer.header("api-version"), Some("1.56"));
            assert_eq!(answer.header("ostype"), Some("linux"));
        }
        let new = engine.api("GET", "/v1.57/info", None);
        assert_eq!(new.status, 400);
        assert_eq!(
            new.message(),
            "client version 1.57 is too new. Maximum supported API version is 1.56"
        );
        let old = engine.api("GET", "/v1.23/info", None);
        assert_eq!(old.status, 400);
        assert!(
            old.message().starts_with(
                "client version 1.23 is too old. Minimum supported API version is 1.24"
            ),
            "{}",
            old.message()
        );
    });
}

#[test]
fn the_lowest_version_can_be_raised() {
    let Some(engine) = Engine::start_with(&[], &[("DOCKER_MIN_API_VERSION", "1.44")]) else {
        return;
    };
    assert_eq!(engine.api("GET", "/v1.43/info", None).status, 400);
    assert_eq!(engine.api("GET", "/v1.44/info", None).status, 200);
}

#[test]
fn a_ping_carries_what_negotiation_needs() {
    on_an_engine(|engine| {
        for method in ["GET", "HEAD"] {
            let ping = engine.api(method, "/_ping", None);
            assert_eq!(ping.status, 200);
            assert_eq!(ping.body.len(), if method == "GET" { 2 } else { 0 });
            for name in [
                "api-version",
                "builder-version",
                "docker-experimental",
                "ostype",
            ] {
                assert!(ping.header(name).is_some(), "{method} has no {name}");
            }
            assert_eq!(
                ping.header("cache-control"),
                Some("no-cache, no-store, must-revalidate")
            );
        }
    });
}

#[test]
fn garbage_instead_of_http_is_answered_and_survived() {
    on_an_engine(|engine| {
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"hello\r\n\r\n",
            b"GET\r\n\r\n",
            b"\0\0\0\0\0\0\0\0",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\r\n\r\n\r\n",
            b"",
        ] {
            let answer = raw(engine, garbage);
            assert!(
                answer.is_empty()
                    || answer.starts_with("HTTP/1.1 400")
                    || answer.starts_with("HTTP/1.1 505"),
                "{garbage:?}: {answer}"
            );
        }
        let lying = raw(engine, b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}");
        assert!(
            lying.is_empty() || lying.starts_with("HTTP/1.1 4"),
            "{lying}"
        );
        let chunks = raw(engine, b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        assert!(
            chunks.is_empty() || chunks.starts_with("HTTP/1.1 4"),
            "{chunks}"
        );
    });
}

#[test]
fn headers_beyond_reason_are_refused() {
    on_an_engine(|engine| {
        let mut request = b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: ".to_vec();
        request.resize(request.len() + (1 << 20), b'a');
        request.extend_from_slice(b"\r\n\r\n");
        let answer = raw(engine, &request);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{}",
            &answer[..answer.len().min(200)]
        );

        let mut many = b"GET /_ping HTTP/1.1\r\nHost: x\r\n".to_vec();
        for number in 0..20_000 {
            many.extend_from_slice(format!("X-{number}: a\r\n").as_bytes());
        }
        many.extend_from_slice(b"\r\n");
        let answer = raw(engine, &many);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{}",
            &answer[..answer.len().min(200)]
        );
    });
}

#[test]
fn bodies_that_are_no_json_are_refused_in_words() {
    on_an_engine(|engine| {
        let post = |kind: &str, body: &[u8]| {
            http::request(
                &engine.socket(),
                "POST",
                "/containers/create",
                &[("Content-Type", kind)],
                Some(body),
            )
            .expect("an answer")
        };
        for body in [
            "{",
            "{\"Image\": }",
            "[]",
            "\"text\"",
            "{} trailing",
            "{\"Image\":5}",
            "nul",
        ] {
            let answer = post("application/json", body.as_bytes());
            assert_eq!(answer.status, 400, "{body}: {}", answer.text());
            assert!(!answer.message().is_empty(), "{body}");
        }
        let mut deep = "[".repeat(200_000);
        deep.insert_str(0, "{\"Labels\":");
        assert_eq!(post("application/json", deep.as_bytes()).status, 400);
        assert_eq!(post("text/plain", b"{}").status, 400);
        assert_eq!(
            post("application/json", b"{\"Image\":\"a\\u0000b\"}").status / 100,
            4
        );
    });
}

#[test]
fn unknown_things_are_not_found() {
    on_an_engine(|engine| {
        let page = engine.api("GET", "/nosuch/route", None);
        assert_eq!(
            (page.status, page.message().as_str()),
            (404, "page not found")
        );
        let container = engine.api("GET", "/containers/nosuch/json", None);
        assert_eq!(
            (container.status, container.message().as_str()),
            (404, "No such container: nosuch")
        );
        let image = engine.api(
            "POST",
            "/containers/create",
            Some(&json!({"Image": "nosuch", "Cmd": ["true"]})),
        );
        assert_eq!(
            (image.status, image.message().as_str()),
            (404, "No such image: nosuch:latest")
        );
        let filter = engine.api(
            "GET",
            "/containers/json?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D",
            None,
        );
        assert_eq!(
            (filter.status, filter.message().as_str()),
            (400, "invalid filter 'nosuch'")
        );
    });
}

#[test]
fn what_is_done_already_is_not_modified() {
    with_busybox(Client::Conex, |cli| {
        let id = cli.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
        let again = cli
            .engine
            .api("POST", &format!("/containers/{id}/start"), None);
        assert_eq!((again.status, again.body.len()), (304, 0));
        cli.ok(&["kill", &id]);
        cli.ok(&["wait", &id]);
        assert_eq!(
            cli.engine
                .api("POST", &format!("/containers/{id}/stop"), None)
                .status,
            304
        );
        assert_eq!(
            cli.engine
                .api("POST", &format!("/containers/{id}/kill"), None)
                .status,
            409
        );
        assert_eq!(
            cli.engine
                .api("DELETE", &format!("/containers/{id}"), None)
                .status,
            204
        );
        assert_eq!(
            cli.engine
                .api("DELETE", &format!("/containers/{id}"), None)
                .status,
            404
        );
    });
}

/// A container that echoes what it reads and says so at the end of it.
fn echo(cli: &Cli<'_>) -> String {
    let created = cli.engine.api(
        "POST",
        "/containers/create",
        Some(&json!({
            "Image": "busybox", "Cmd": ["sh", "-c", "cat; echo end"],
            "OpenStdin": true, "StdinOnce": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true,
            "HostConfig": {"NetworkMode": "none"}
        })),
    );
    assert_eq!(created.status, 201, "{}", created.text());
    created.json()["Id"].as_str().expect("an id").to_owned()
}

/// Attaches, starts, half-closes; gives status, headers and the framed bytes.
fn attach_and_talk(
    cli: &Cli<'_>,
    upgrade: &str,
    version: &str,
) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let id = echo(cli);
    let mut stream = http::connect(&cli.engine.socket()).expect("the engine listens");
    let request = format!(
        "POST {version}/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{upgrade}\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .expect("the engine reads");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be shared"));
    let (status, headers) = http::read_head(&mut reader).expect("an answer");
    assert_eq!(
        cli.engine
            .api("POST", &format!("/containers/{id}/start"), None)
            .status,
        204
    );
    stream.write_all(b"hello\n").expect("the container reads");
    stream
        .shutdown(Shutdown::Write)
        .expect("a socket can be half closed");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("output to its end");
    (status, headers, bytes)
}

/// Undoes Docker's framing; all of it must be of standard output.
fn unframe(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(8);
        assert_eq!(head[..4], [1, 0, 0, 0], "a frame of standard output");
        let size = u32::from_be_bytes(head[4..].try_into().expect("four bytes")) as usize;
        text.push_str(std::str::from_utf8(&rest[..size]).expect("text"));
        bytes = &rest[size..];
    }
    text
}

#[test]
fn an_attach_with_an_upgrade_is_hijacked_and_half_closed() {
    with_busybox(Client::Conex, |cli| {
        let (status, headers, bytes) =
            attach_and_talk(cli, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "/v1.45");
        assert_eq!(status, 101);
        let kind = headers
            .iter()
            .find(|(name, _)| name == "content-type")
            .map(|(_, value)| value.as_str());
        assert_eq!(kind, Some("application/vnd.docker.multiplexed-stream"));
        assert_eq!(unframe(&bytes), "hello\nend\n");
    });
}

#[test]
fn an_attach_without_an_upgrade_is_hijacked_too() {
    with_busybox(Client::Conex, |cli| {
        let (status, headers, bytes) = attach_and_talk(cli, "", "/v1.41");
        assert_eq!(status, 200);
        let kind = headers
            .iter()
            .find(|(name, _)| name == "content-type")
            .map(|(_, value)| value.as_str());
        assert_eq!(kind, Some("application/vnd.docker.raw-stream"));
        assert_eq!(unframe(&bytes), "hello\nend\n");
    });
}

#[test]
fn a_wait_is_answered_before_it_is_over() {
    with_busybox(Client::Conex, |cli| {
        let id = cli.ok(&[
            "create",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "exit 11",
        ]);
        let mut stream = http::connect(&cli.engine.socket()).expect("the engine listens");
        write!(stream, "POST /containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").expect("the engine reads");
        let mut reader = BufReader::new(stream);
        let (status, headers) = http::read_head(&mut reader).expect("headers before the end");
        assert_eq!(status, 200);
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "transfer-encoding" && value == "chunked")
        );
        cli.ok(&["start", &id]);
        let mut body = Vec::new();
        while let Some(chunk) = http::read_chunk(&mut reader).expect("a chunk") {
            body.extend_from_slice(&chunk);
        }
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(answer["StatusCode"], 11);
    });
}

#[test]
fn clients_that_vanish_in_mid_stream_are_forgotten() {
    with_busybox(Client::Conex, |cli| {
        let id = cli.ok(&[
            "run",
            "-d",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "while :; do echo some words of output; usleep 1000; done",
        ]);
        let descriptors = || {
            std::fs::read_dir(format!("/proc/{}/fd", cli.engine.pid()))
                .expect("the daemon lives")
                .count()
        };
        let before = descriptors();
        for path in [
            format!("GET /containers/{id}/logs?follow=1&stdout=1"),
            format!("POST /containers/{id}/attach?stream=1&stdout=1"),
            "GET /events".to_owned(),
            format!("POST /containers/{id}/wait"),
        ] {
            for _ in 0..10 {
                let mut stream = http::connect(&cli.engine.socket()).expect("the engine listens");
                write!(
                    stream,
                    "{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                )
                .expect("the engine reads");
                let mut first = [0; 16];
                stream.read_exact(&mut first).expect("an answer begins");
                assert!(first.starts_with(b"HTTP/1.1 "), "{path}");
            }
        }
        // The container and new clients are as before.
        assert_eq!(cli.inspect(&id, "{{.State.Running}}"), "true");
        cli.ok(&["kill", &id]);
        cli.ok(&["wait", &id]);
        cli.ok(&["rm", &id]);
        let after = descriptors();
        assert!(
            after <= before + 8,
            "{before} descriptors before, {after} after"
        );
    });
}
