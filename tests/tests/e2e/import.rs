//! Images of archives that the engine fetches itself.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use conex_tests::archive;
use conex_tests::client::{Cli, Client, with_busybox};
use conex_tests::http;
use conex_tests::under_both_clients;

under_both_clients! {
    an_archive_is_fetched_from_a_url,
}

/// Serves a tar on loopback: `/tar` is it, `/moved` leads there, `/cut` ends
/// early, all else is missing. Gives its address; it ends with the process.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let address = listener
        .local_addr()
        .expect("it has an address")
        .to_string();
    std::thread::spawn(move || {
        let tar = archive::layer("fetched", b"x\n");
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a socket can be shared"));
            while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (head, body) = match path {
                "/tar" => ("200 OK", &tar[..]),
                "/cut" => ("200 OK", &tar[..700]),
                "/moved" => ("302 Found\r\nLocation: /tar", &[][..]),
                _ => ("404 Not Found", &[][..]),
            };
            let length = if head.starts_with("200") {
                tar.len()
            } else {
                0
            };
            let head =
                format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            // A client that has seen enough may be gone.
            let _gone = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body))
                .is_err();
        }
    });
    address
}

fn an_archive_is_fetched_from_a_url(cli: &Cli<'_>) {
    let address = server();
    let url = |path: &str| format!("http://{address}{path}");
    let said = cli.ok(&["import", "-c", "LABEL a=b", &url("/moved"), "fetched:1"]);
    assert!(
        said.contains(&format!("Downloading from {}", url("/moved"))),
        "{said}"
    );
    let field = |template: &str| cli.ok(&["image", "inspect", "-f", template, "fetched:1"]);
    assert_eq!(
        field("{{.Comment}}"),
        format!("Imported from {}", url("/moved"))
    );
    assert_eq!(field("{{json .Config.Labels}}"), r#"{"a":"b"}"#);
    assert_eq!(field("{{.Size}}"), "2");
    let images = cli.ok(&["images", "-q"]).lines().count();
    for (path, text) in [("/none", "404"), ("/cut", "")] {
        let told = cli.fails(1, &["import", &url(path), "broken"]);
        assert!(told.contains(text), "{told}");
    }
    let told = cli.fails(1, &["import", "http://127.0.0.1:1/x", "broken"]);
    assert!(told.contains("connection refused"), "{told}");
    assert_eq!(cli.ok(&["images", "-q"]).lines().count(), images);
}

#[test]
fn a_failure_under_way_is_told_in_the_stream() {
    with_busybox(Client::Conex, |cli| {
        // The second member says that there is more of it than comes.
        let mut tar = archive::layer("cut", b"x\n");
        tar.truncate(tar.len() - 1024);
        let whole = archive::layer("more", b"y\n");
        tar.extend_from_slice(&whole[..513]);
        let answer = http::request(
            &cli.engine.socket(),
            "POST",
            "/images/create?fromSrc=-&repo=cut",
            &[("Content-Type", "application/x-tar")],
            Some(&tar),
        )
        .expect("the engine answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let last = text.lines().last().expect("it says something");
        let told: serde_json::Value = serde_json::from_str(last).expect("a message is JSON");
        assert_eq!(told["error"], told["errorDetail"]["message"], "{text}");
        assert!(told["error"].is_string(), "{text}");
        assert_eq!(cli.ok(&["images", "-q", "-a"]).lines().count(), 1);
    });
}
