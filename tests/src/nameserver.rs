//! A name server of a test's own, and a client that asks as a test wants to.
//!
//! What the server says is in the first label of the name: `big` is answered
//! over TCP alone, `missing` does not exist, `failing` and `refused` are what
//! they say, `silent` gets no answer; every other name has the server's one
//! address.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::netns::inside;

/// Kinds of records.
pub const A: u16 = 1;
/// Names of addresses.
pub const PTR: u16 = 12;
/// Addresses of IPv6.
pub const AAAA: u16 = 28;

/// Where a container finds its resolver.
pub const EMBEDDED: &str = "127.0.0.11:53";

/// How long an answer is waited for: more than any client waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of a name that is `big`.
pub const BIG: usize = 300;

/// A server; it ends with the test's process.
#[derive(Debug)]
pub struct NameServer {
    asked: Arc<AtomicUsize>,
}

/// How a question travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

impl NameServer {
    /// A server at port 53 of an address, which says `answer`.
    pub fn start(namespace: &Path, address: &str, answer: [u8; 4]) -> NameServer {
        let address: IpAddr = address.parse().expect("an address");
        let bound = inside(namespace, || {
            Ok::<_, io::Error>((
                UdpSocket::bind((address, 53))?,
                TcpListener::bind((address, 53))?,
            ))
        });
        let (datagrams, listener) = bound.unwrap_or_else(|e| panic!("port 53 of {address}: {e}"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(told) = tell(&buffer[..length], answer, Way::Udp) {
                    let _lost = datagrams.send_to(&told, from).is_err();
                }
            }
        });
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(query) = read(&mut stream) else {
                    continue;
                };
                if let Some(told) = tell(&query, answer, Way::Tcp) {
                    let _gone = write(&mut stream, &told).is_err();
                }
            }
        });
        NameServer { asked }
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn tell(query: &[u8], answer: [u8; 4], way: Way) -> Option<Vec<u8>> {
    let first = usize::from(*query.get(12)?);
    let label = query.get(13..13 + first)?.to_ascii_lowercase();
    let end = 12 + query.get(12..)?.iter().position(|b| *b == 0)? + 5;
    let mut told = query.get(..end)?.to_vec();
    told[2] |= 0x80;
    told[3] = 0x80;
    told[6..12].fill(0);
    let count = match label.as_slice() {
        b"silent" => return None,
        b"missing" => {
            told[3] |= 3;
            0
        }
        b"failing" => {
            told[3] |= 2;
            0
        }
        b"refused" => {
            told[3] |= 5;
            0
        }
        b"big" if way == Way::Udp => {
            told[2] |= 0x02;
            0
        }
        b"big" => BIG,
        _ => 1,
    };
    told[6..8].copy_from_slice(&u16::try_from(count).ok()?.to_be_bytes());
    for _ in 0..count {
        told.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        told.extend_from_slice(&answer);
    }
    Some(told)
}

fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(head))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut all = length.to_be_bytes().to_vec();
    all.extend_from_slice(message);
    stream.write_all(&all)
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0, or why there is no answer: 2 failed, 3 no such name, 5 refused.
    pub code: u8,
    /// There is more over TCP.
    pub is_truncated: bool,
    /// All addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// All names, in order.
    pub names: Vec<String>,
    /// How long it may be remembered, in seconds.
    pub ttl: Option<u32>,
}

/// A query for a name.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = vec![high, low, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// Asks a server from this thread's network namespace. Errors: no answer, or
/// none to this question.
pub fn ask(server: &str, name: &str, kind: u16, way: Way) -> Result<Answer, String> {
    let text = |error: io::Error| error.to_string();
    let server: SocketAddr = server.parse().map_err(|e| format!("{server}: {e}"))?;
    let query = query(0x4d2, name, kind);
    let answer = match way {
        Way::Udp => {
            let socket = UdpSocket::bind("0.0.0.0:0").map_err(text)?;
            socket.connect(server).map_err(text)?;
            socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
            socket.send(&query).map_err(text)?;
            let mut buffer = vec![0; 65536];
            let length = socket.recv(&mut buffer).map_err(text)?;
            buffer.truncate(length);
            buffer
        }
        Way::Tcp => {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(text)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
            write(&mut stream, &query).map_err(text)?;
            read(&mut stream).map_err(text)?
        }
    };
    if answer.get(..2) != query.get(..2) {
        return Err("an answer to something else".into());
    }
    parse(&answer, query.len()).ok_or_else(|| format!("not understood: {answer:02x?}"))
}

/// As [`ask`] in a datagram to the resolver of the container in this namespace.
pub fn resolve(namespace: &Path, name: &str) -> Answer {
    let answer = inside(namespace, || ask(EMBEDDED, name, A, Way::Udp));
    answer.unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn parse(answer: &[u8], mut at: usize) -> Option<Answer> {
    let mut parsed = Answer {
        code: answer.get(3)? & 0x0f,
        is_truncated: answer.get(2)? & 0x02 != 0,
        addresses: Vec::new(),
        names: Vec::new(),
        ttl: None,
    };
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    for _ in 0..count {
        let record = answer.get(at..at + 12)?;
        let kind = u16::from_be_bytes([record[2], record[3]]);
        parsed.ttl = Some(u32::from_be_bytes([
            record[6], record[7], record[8], record[9],
        ]));
        let length = usize::from(u16::from_be_bytes([record[10], record[11]]));
        let data = answer.get(at + 12..at + 12 + length)?;
        match kind {
            A => parsed
                .addresses
                .push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            AAAA => parsed
                .addresses
                .push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            PTR => parsed.names.push(name_in(data)?),
            _ => {}
        }
        at += 12 + length;
    }
    Some(parsed)
}

fn name_in(data: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut at = 0;
    loop {
        let length = usize::from(*data.get(at)?);
        if length == 0 {
            return Some(labels.join("."));
        }
        let label = data.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + length;
    }
}
