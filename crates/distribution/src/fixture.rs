//! A server of the tests' own that answers as it is told, also badly. It knows nothing of registries.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{BlobSink, Credentials, Registries, Repository, Settings};
use conex_spec::reference::Reference;

/// A blob in memory.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) bytes: Vec<u8>,
}

impl BlobSink for Sink {
    fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, piece: Bytes) -> std::io::Result<()> {
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Break off after so many bytes of the body.
    cut: Option<usize>,
    /// Say nothing for so long first.
    silence: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn after(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on a port of its own, for as long as the runtime of the test runs.
pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { address, seen }
    }

    /// Method and target of every request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Request>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            // A TLS handshake is not for this server: it answers as web servers do.
            Ok(1) if head.is_empty() && byte[0] == 0x16 => {
                let text = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                stream.write_all(text).await.ok();
                return;
            }
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut request = Request {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers,
        body: vec![0; length],
    };
    let mut filled = 0;
    while filled < length {
        match stream.read(&mut request.body[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
    }
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    tokio::time::sleep(reply.silence).await;
    let mut text = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    let has_length = reply
        .headers
        .iter()
        .any(|(name, _)| name == "content-length");
    if !has_length {
        text += &format!("content-length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    stream.write_all(text.as_bytes()).await.ok();
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len());
        stream.write_all(&reply.body[..end]).await.ok();
    }
    stream.shutdown().await.ok();
}

/// Settings that do not wait.
pub(crate) fn hasty() -> Settings {
    Settings {
        certificate_dirs: Vec::new(),
        first_delay: Duration::from_millis(1),
        stall_timeout: Duration::from_millis(500),
        attempts: 3,
        ..Settings::default()
    }
}

pub(crate) async fn repository(server: &Server, name: &str) -> Repository {
    repository_as(server, name, &Credentials::default()).await
}

pub(crate) async fn repository_as(
    server: &Server,
    name: &str,
    credentials: &Credentials,
) -> Repository {
    let reference = Reference::parse(&format!("{}/{name}", server.address)).unwrap();
    Registries::new(hasty())
        .pull(&reference, credentials)
        .await
        .unwrap()
}

pub(crate) fn ann() -> Credentials {
    Credentials {
        username: "ann".into(),
        password: "secret".into(),
        ..Credentials::default()
    }
}
