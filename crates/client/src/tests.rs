//! The client against a server that speaks raw bytes on a unix socket.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Client, ContentKind, Error, Host};

/// One connection of the server: reads requests, writes whatever the test says.
struct Peer(UnixStream);

impl Peer {
    /// The next request's head and body; empty at the end of the connection.
    fn request(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return String::new(),
            }
        }
        let head = String::from_utf8(bytes).unwrap();
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|l| {
                l.strip_prefix("content-length: ")
                    .map(|n| n.parse::<usize>().unwrap())
            })
            .unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self, status: &str, body: &str) {
        self.say(&format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}

/// Serves connections one after the other with one closure each; joins to check their asserts.
struct Server {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

type Script = Box<dyn FnOnce(&mut Peer) + Send>;

impl Server {
    fn new(connections: Vec<Script>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "conex-client-{}-{}.sock",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            for script in connections {
                let (stream, _) = listener.accept().unwrap();
                script(&mut Peer(stream));
            }
        });
        Self {
            path,
            thread: Some(thread),
        }
    }

    fn client(&self) -> Client {
        Client::new(Host::Unix(self.path.clone()))
    }

    /// Waits for the scripts to end, and passes on a failed assertion of theirs.
    fn finish(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn calls_follow_each_other_on_one_connection() {
    let server = Server::new(vec![Box::new(|peer| {
        assert!(peer.request().starts_with("GET /v1.56/a?x=1 HTTP/1.1\r\n"));
        peer.answer("200 OK", r#"{"n":1}"#);
        let post = peer.request();
        assert!(post.starts_with("POST /v1.56/b HTTP/1.1\r\n"));
        assert!(
            post.to_ascii_lowercase()
                .contains("content-type: application/json\r\n")
        );
        assert!(post.ends_with(r#"{"k":[1]}"#));
        peer.answer("201 Created", r#"{"n":2}"#);
        assert!(peer.request().starts_with("POST /v1.56/c HTTP/1.1\r\n"));
        peer.say("HTTP/1.1 204 No Content\r\n\r\n");
        peer.request();
        peer.say("HTTP/1.1 304 Not Modified\r\n\r\n");
    })]);
    run(async {
        let client = server.client();
        assert_eq!(client.get_value("/a?x=1").await.unwrap(), json!({"n": 1}));
        let answer: Value = client
            .post_json("/b", Some(&json!({"k": [1]})))
            .await
            .unwrap();
        assert_eq!(answer, json!({"n": 2}));
        client.post_empty("/c").await.unwrap();
        client.post_empty("/c").await.unwrap();
    });
    server.finish();
}

#[test]
fn a_kept_connection_the_engine_closed_is_replaced() {
    let serve = |peer: &mut Peer| {
        peer.request();
        peer.answer("200 OK", "1");
    };
    let server = Server::new(vec![Box::new(serve), Box::new(serve)]);
    run(async {
        let client = server.client();
        assert_eq!(client.get_value("/a").await.unwrap(), 1);
        assert_eq!(client.get_value("/a").await.unwrap(), 1);
    });
    server.finish();
}

#[test]
fn an_engine_error_keeps_its_status_and_sentence() {
    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
        peer.answer("404 Not Found", r#"{"message":"No such container: x\n"}"#);
        peer.request();
        peer.answer("500 Internal Server Error", "plain words");
        peer.request();
        peer.answer("502 Bad Gateway", "");
    })]);
    run(async {
        let client = server.client();
        let error = client.get_value("/a").await.unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(
            error.to_string(),
            "Error response from daemon: No such container: x"
        );
        let error = client.delete_empty("/a").await.unwrap_err();
        assert_eq!(error.to_string(), "Error response from daemon: plain words");
        let error = client.get_value("/a").await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("request returned status 502 for GET /a"),
            "{error}"
        );
    });
    server.finish();
}

#[test]
fn a_too_new_version_is_lowered_once_and_remembered() {
    let server = Server::new(vec![Box::new(|peer| {
        assert!(peer.request().starts_with("POST /v1.56/a "));
        peer.answer(
            "400 Bad Request",
            r#"{"message":"client version 1.56 is too new. Maximum supported API version is 1.43"}"#,
        );
        let again = peer.request();
        assert!(again.starts_with("POST /v1.43/a "), "{again}");
        assert!(again.ends_with("{}"));
        peer.answer("200 OK", "1");
        assert!(peer.request().starts_with("GET /v1.43/b "));
        peer.answer("200 OK", "2");
    })]);
    run(async {
        let client = server.client();
        let one: Value = client.post_json("/a", Some(&json!({}))).await.unwrap();
        assert_eq!((one, client.version()), (json!(1), "1.43".to_owned()));
        assert_eq!(client.get_value("/b").await.unwrap(), 2);
    });
    server.finish();
}

#[test]
fn a_version_the_user_fixed_is_never_lowered() {
    let server = Server::new(vec![Box::new(|peer| {
        assert!(peer.request().starts_with("GET /v1.50/a "));
        peer.answer(
            "400 Bad Request",
            r#"{"message":"… Maximum supported API version is 1.43"}"#,
        );
    })]);
    run(async {
        let client = server
            .client()
            .with_version("1.50")
            .with_version("nonsense");
        assert_eq!(
            client.get_value("/a").await.unwrap_err().status(),
            Some(400)
        );
    });
    server.finish();
}

#[test]
fn a_streamed_body_asks_for_the_version_first() {
    let server = Server::new(vec![Box::new(|peer| {
        assert!(peer.request().starts_with("HEAD /_ping HTTP/1.1\r\n"));
        peer.say("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n");
        let head = peer.request();
        assert!(
            head.starts_with("POST /v1.41/images/create?fromSrc=- "),
            "{head}"
        );
        assert!(
            head.to_ascii_lowercase()
                .contains("content-type: application/x-tar\r\n")
        );
        let mut rest = [0; 20];
        peer.0.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"[..20].as_ref());
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        peer.say("d\r\n{\"status\":\"a\"\r\n4\r\n}\n{\"\r\nD\r\nstatus\":\"b\"}\n\r\n0\r\n\r\n");
    })]);
    run(async {
        let client = server.client();
        let pieces = [
            Ok(Bytes::from_static(b"abc")),
            Ok(Bytes::from_static(b"de")),
        ];
        let body = futures_util::stream::iter(pieces);
        let mut stream = client
            .post_stream::<Value>("/images/create?fromSrc=-", "application/x-tar", body)
            .await
            .unwrap();
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            json!({"status": "a"})
        );
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            json!({"status": "b"})
        );
        assert!(stream.next().await.is_none());
    });
    server.finish();
}

#[test]
fn a_stream_that_breaks_off_says_so_after_what_arrived() {
    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nxx");
    })]);
    run(async {
        let mut stream = server.client().get_stream("/logs").await.unwrap();
        assert_eq!(stream.next_chunk().await.unwrap().unwrap(), "abc");
        let mut rest = stream.next_chunk().await;
        if let Some(Ok(bytes)) = &rest {
            assert_eq!(bytes, "xx");
            rest = stream.next_chunk().await;
        }
        assert!(matches!(rest, Some(Err(Error::Lost { .. }))), "{rest:?}");
    });
    server.finish();
}

#[test]
fn an_answers_head_comes_before_its_body() {
    let (go, wait) = std::sync::mpsc::channel();
    let server = Server::new(vec![Box::new(move |peer| {
        peer.request();
        peer.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        wait.recv().unwrap();
        peer.say("10\r\n{\"StatusCode\":3}\r\n0\r\n\r\n");
    })]);
    run(async {
        let answer = server
            .client()
            .post_answer("/containers/x/wait")
            .await
            .unwrap();
        go.send(()).unwrap();
        assert_eq!(
            answer.json::<Value>().await.unwrap(),
            json!({"StatusCode": 3})
        );
    });
    server.finish();
}

#[test]
fn a_hijacked_connection_is_raw_after_101_and_after_200() {
    for head in [
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n",
    ] {
        let server = Server::new(vec![Box::new(move |peer| {
            let request = peer.request();
            assert!(request.starts_with("POST /v1.56/containers/x/attach?stream=1 HTTP/1.1\r\n"));
            assert!(request.contains("\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"));
            // Output may come with the head in one packet.
            peer.say(&format!("{head}early "));
            let mut input = String::new();
            peer.0.read_to_string(&mut input).unwrap();
            assert_eq!(input, "typed");
            // The client's end of input leaves the other direction open.
            peer.say("late");
        })]);
        run(async {
            let mut stream = server
                .client()
                .hijack::<()>("/containers/x/attach?stream=1", None)
                .await
                .unwrap();
            assert_eq!(stream.content(), ContentKind::Multiplexed);
            stream.write_all(b"typed").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut output = String::new();
            stream.read_to_string(&mut output).await.unwrap();
            assert_eq!(output, "early late");
        });
        server.finish();
    }
}

#[test]
fn threads_may_take_over_both_directions() {
    let server = Server::new(vec![Box::new(|peer| {
        assert!(peer.request().ends_with(r#"{"Tty":true}"#));
        peer.say("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nearly ");
        let mut input = String::new();
        peer.0.read_to_string(&mut input).unwrap();
        peer.say(&input.to_uppercase());
    })]);
    let stream = run(server
        .client()
        .hijack("/exec/x/start", Some(&json!({"Tty": true}))))
    .unwrap();
    assert_eq!(stream.content(), ContentKind::Raw);
    // The runtime is gone: the halves do not need it.
    let (mut reader, mut writer) = stream.into_blocking().unwrap();
    writer.write_all(b"typed").unwrap();
    writer.close().unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "early TYPED");
    server.finish();
}

#[test]
fn leaving_ends_the_thread_that_reads() {
    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
        peer.say("HTTP/1.1 101 UPGRADED\r\n\r\n");
        let mut input = String::new();
        peer.0.read_to_string(&mut input).unwrap();
    })]);
    let stream = run(server.client().hijack::<()>("/a", None)).unwrap();
    let (mut reader, writer) = stream.into_blocking().unwrap();
    let thread = std::thread::spawn(move || reader.read(&mut [0; 8]).unwrap());
    writer.detach().unwrap();
    assert_eq!(thread.join().unwrap(), 0);
    server.finish();
}

#[test]
fn a_refused_hijack_is_an_engine_error() {
    let body = r#"{"message":"container x is paused"}"#;
    let plain = format!(
        "HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let chunked = format!(
        "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for text in [plain, chunked] {
        let (done, hold) = std::sync::mpsc::channel::<()>();
        let server = Server::new(vec![Box::new(move |peer| {
            peer.request();
            peer.say(&text);
            // The connection stays open: the client must know where the body ends.
            hold.recv().ok();
        })]);
        let error = run(server.client().hijack::<()>("/containers/x/attach", None)).unwrap_err();
        assert_eq!(error.status(), Some(409));
        assert_eq!(
            error.to_string(),
            "Error response from daemon: container x is paused"
        );
        drop(done);
        server.finish();
    }
}

#[test]
fn a_hijack_steps_down_like_any_call() {
    let refuse = |peer: &mut Peer| {
        assert!(peer.request().starts_with("POST /v1.56/a "));
        peer.answer(
            "400 Bad Request",
            r#"{"message":"Maximum supported API version is 1.40"}"#,
        );
    };
    let accept = |peer: &mut Peer| {
        assert!(peer.request().starts_with("POST /v1.40/a "));
        peer.say("HTTP/1.1 101 UPGRADED\r\n\r\n");
    };
    let server = Server::new(vec![Box::new(refuse), Box::new(accept)]);
    run(server.client().hijack::<()>("/a", None)).unwrap();
    server.finish();
}

#[test]
fn an_absent_engine_is_told_from_a_broken_one() {
    let missing = Host::Unix(PathBuf::from("/nonexistent/conex.sock"));
    let error = run(Client::connect(&missing)).unwrap_err();
    assert!(error.is_nobody_listening());
    assert_eq!(
        error.to_string(),
        "Cannot connect to the Conex daemon at unix:///nonexistent/conex.sock. Is the conex daemon running?"
    );

    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
        peer.say("SSH-2.0-OpenSSH\r\n\r\n");
    })]);
    let error = run(server.client().hijack::<()>("/a", None)).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    server.finish();

    let error = run(server_that_hangs_up()).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
}

async fn server_that_hangs_up() -> Result<Value, Error> {
    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
    })]);
    let result = server.client().get_value("/a").await;
    server.finish();
    result
}

#[test]
fn the_connection_made_early_is_the_first_one_used() {
    let server = Server::new(vec![Box::new(|peer| {
        peer.request();
        peer.answer("200 OK", "1");
    })]);
    run(async {
        let client = Client::connect(&Host::Unix(server.path.clone()))
            .await
            .unwrap();
        assert_eq!(client.get_value("/a").await.unwrap(), 1);
    });
    server.finish();
}

#[test]
fn headers_of_the_settings_are_on_every_request() {
    let has = |request: &str| {
        assert!(
            request.to_ascii_lowercase().contains("\r\nx-a: b\r\n"),
            "{request}"
        )
    };
    let server = Server::new(vec![
        Box::new(move |peer| {
            has(&peer.request());
            peer.answer("200 OK", "1");
        }),
        Box::new(move |peer| {
            has(&peer.request());
            peer.say("HTTP/1.1 101 UPGRADED\r\n\r\n");
        }),
    ]);
    run(async {
        let client = server
            .client()
            .with_header("X-A", "b")
            .with_header("no name", "c")
            .with_header("C", "d\r\nE: f");
        assert_eq!(client.get_value("/a").await.unwrap(), 1);
        client.hijack::<()>("/a", None).await.unwrap();
    });
    server.finish();
}
