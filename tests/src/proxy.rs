//! Something between an engine and its registry that can go wrong as it is told. It knows HTTP/1.1 and no registry.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

/// What becomes of one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It passes.
    None,
    /// So many bytes of its body pass; then the connection ends.
    CutAfter(usize),
    /// So many bytes of its body pass; then nothing comes. That moment, and the one at which the client hangs up, are
    /// told to [`Proxy::wait_for_stall`].
    StallAfter(usize),
    /// So many bytes of its body pass, which is told to [`Proxy::wait_for_stall`]; the rest after [`Proxy::release`].
    HoldAfter(usize),
    /// The same, but in place of the rest the connection ends.
    HoldAndCutAfter(usize),
    /// One byte of its body, at this place, is another.
    Corrupt(usize),
    /// Another answer: status line and headers, and a body.
    Answer(String, Vec<u8>),
}

/// One request that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET /v2/…`.
    pub line: String,
    /// The header `Range`, empty without one.
    pub range: String,
    /// The header `Authorization`, empty without one.
    pub authorization: String,
    /// The body of a small request.
    pub body: String,
}

/// The proxy; what waits in it goes on when it is dropped, or the test ends.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port`, as references name it.
    pub address: String,
    shared: Arc<Shared>,
    stalls: Mutex<Receiver<()>>,
}

/// Bodies of requests that are kept are no longer.
const SMALL_BYTES: u64 = 8 << 10;

type Judge = dyn Fn(&Asked) -> Fault + Send + Sync;

struct Shared {
    to: String,
    judge: Mutex<Arc<Judge>>,
    seen: Mutex<Vec<Asked>>,
    stalled: Mutex<Sender<()>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Stands before a registry; everything passes.
    pub fn start(to: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (stalled, stalls) = channel();
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            judge: Mutex::new(Arc::new(|_: &Asked| Fault::None)),
            seen: Mutex::default(),
            stalled: Mutex::new(stalled),
            released: Mutex::new(false),
            release: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || pass(stream, &shared).ok());
            }
        });
        Proxy {
            address,
            shared,
            stalls: Mutex::new(stalls),
        }
    }

    /// Lets go on what is held, and whatever would be from now on.
    pub fn release(&self) {
        *self.shared.released.lock().expect("nobody panics") = true;
        self.shared.release.notify_all();
    }

    /// Decides from now on what becomes of each answer.
    pub fn judge(&self, judge: impl Fn(&Asked) -> Fault + Send + Sync + 'static) {
        *self.shared.judge.lock().expect("no judge panics") = Arc::new(judge);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Asked> {
        self.shared.seen.lock().expect("nobody panics").clone()
    }

    /// Requests for blobs' bytes so far.
    pub fn fetched(&self) -> Vec<Asked> {
        let mut seen = self.seen();
        seen.retain(|asked| asked.line.starts_with("GET") && asked.line.contains("/blobs/sha256:"));
        seen
    }

    /// Until an answer stalls, and the next time until whoever waits for its rest gives up.
    pub fn wait_for_stall(&self) {
        let stalls = self.stalls.lock().expect("nobody panics");
        stalls
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("an answer stalls");
    }
}

fn pass(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let head = read_head(&mut client)?;
    if head.first() == Some(&0x16) {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let line = text.lines().next().unwrap_or_default();
    let length: u64 = field("content-length").parse().unwrap_or(0);
    let mut body = Vec::new();
    if length <= SMALL_BYTES {
        (&mut client).take(length).read_to_end(&mut body)?;
    }
    let asked = Asked {
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        range: field("range"),
        authorization: field("authorization"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    shared
        .seen
        .lock()
        .expect("nobody panics")
        .push(asked.clone());
    let judge = Arc::clone(&shared.judge.lock().expect("no judge panics"));
    let fault = judge(&asked);
    if let Fault::Answer(head, body) = &fault {
        let head = format!(
            "{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes())?;
        return client.write_all(body);
    }
    let mut registry = TcpStream::connect(&shared.to)?;
    // One request a connection, so that the end of an answer is the end of it.
    let request = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    registry.write_all(request.as_bytes())?;
    registry.write_all(&body)?;
    let left = length - body.len() as u64;
    io::copy(&mut (&mut client).take(left), &mut registry)?;
    let answer = read_head(&mut registry)?;
    client.write_all(&answer)?;
    match fault {
        Fault::CutAfter(bytes) => {
            io::copy(&mut registry.take(bytes as u64), &mut client)?;
        }
        Fault::StallAfter(bytes) => {
            io::copy(&mut registry.take(bytes as u64), &mut client)?;
            shared.stalled.lock().expect("nobody panics").send(()).ok();
            // Until the client hangs up, which says that it has given up.
            while client.read(&mut [0])? > 0 {}
            shared.stalled.lock().expect("nobody panics").send(()).ok();
        }
        Fault::HoldAfter(bytes) | Fault::HoldAndCutAfter(bytes) => {
            io::copy(&mut (&mut registry).take(bytes as u64), &mut client)?;
            shared.stalled.lock().expect("nobody panics").send(()).ok();
            let released = shared.released.lock().expect("nobody panics");
            let released = shared.release.wait_while(released, |released| !*released);
            drop(released.expect("nobody panics"));
            if matches!(fault, Fault::HoldAfter(_)) {
                io::copy(&mut registry, &mut client)?;
            }
        }
        Fault::Corrupt(place) => {
            io::copy(&mut (&mut registry).take(place as u64), &mut client)?;
            let mut byte = [0];
            registry.read_exact(&mut byte)?;
            client.write_all(&[!byte[0]])?;
            io::copy(&mut registry, &mut client)?;
        }
        Fault::None | Fault::Answer(..) => {
            io::copy(&mut registry, &mut client)?;
        }
    }
    Ok(())
}

fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head == [0x16] {
            break;
        }
    }
    Ok(head)
}
