//! An HTTP proxy as companies have them: `CONNECT` for TLS, whole URLs for plain HTTP. Whatever host it is asked for, it
//! leads to one place, so that a name nobody can resolve proves that the proxy was asked.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running proxy; it serves until the test ends.
#[derive(Debug)]
pub struct ForwardProxy {
    /// `host:port`.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: String,
    /// The value `Proxy-Authorization` must have; empty asks nobody.
    password: String,
    seen: Mutex<Vec<String>>,
}

impl ForwardProxy {
    /// Leads to `to`, for everybody.
    pub fn start(to: &str) -> ForwardProxy {
        ForwardProxy::guarded(to, "")
    }

    /// Leads to `to`, for those who show this `Proxy-Authorization`.
    pub fn guarded(to: &str, password: &str) -> ForwardProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            password: password.to_owned(),
            seen: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(stream, &shared).ok());
            }
        });
        ForwardProxy { address, shared }
    }

    /// What it was asked so far: `CONNECT host:443`, `GET http://host/…`.
    pub fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().expect("nobody panics").clone()
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_end_matches(" HTTP/1.1").to_owned();
    shared
        .seen
        .lock()
        .expect("nobody panics")
        .push(line.clone());
    let shown = text.lines().filter_map(|line| line.split_once(": "));
    let shown = shown
        .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .map(|(_, value)| value)
        .next();
    if !shared.password.is_empty() && shown != Some(&shared.password) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes());
    }
    let mut there = TcpStream::connect(&shared.to)?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // `GET http://host/path` becomes `GET /path`, on a connection for this request alone.
        let (verb, url) = line.split_once(' ').unwrap_or_default();
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let rest = text
            .split_once("\r\n")
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        let request = format!("{verb} /{path} HTTP/1.1\r\nConnection: close\r\n{rest}");
        there.write_all(request.as_bytes())?;
    }
    let (mut from, mut to) = (client.try_clone()?, there.try_clone()?);
    std::thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut there, &mut client)?;
    client.shutdown(Shutdown::Both)
}
