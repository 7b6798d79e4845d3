//! Client of the Engine API: unix sockets, TCP, TLS and ssh, JSON calls, progress streams, hijacked streams.
//!
//! It knows HTTP and the shapes of the API, nothing about commands, terminals or how an engine is
//! started. One [`Client`] may be used by many tasks at once; every call is one request on one
//! connection, and a connection whose answer was read to its end serves the next call.

mod answer;
mod body;
mod client;
mod error;
mod head;
mod hijack;
mod host;
mod query;
mod socket;
mod ssh;
pub mod stream;
mod tls;

pub use answer::Answer;
pub use body::{ByteStream, JsonStream};
pub use client::Client;
pub use error::Error;
pub use hijack::{BlockingReader, BlockingWriter, ContentKind, Hijacked, dial};
pub use host::{Host, HostError};
pub use query::{query, segment};
pub use ssh::SshHost;
pub use tls::{Tls, TlsError, TlsMaterial};

#[cfg(test)]
mod tests;
