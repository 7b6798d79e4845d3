//! DNS messages, as far as a resolver of containers reads and writes them:
//! the question of a query, answers of its own, and whether what came back
//! from another server answers what was asked.
//!
//! ```text
//!   header (12): id, flags, counts of the four sections
//!   question:    name, type (2), class (2)
//!   records:     name, type (2), class (2), TTL (4), length (2), data
//!   name:        labels of a length (1..63) and bytes, then 0; or a pointer back
//! ```
//!
//! Foreign bytes: nothing here allocates more than a message has, follows a
//! pointer, or loops past the end. What it does not understand it forwards as
//! it came. It knows no sockets, networks or containers.
//!
//! Source: RFC 1035, RFC 6891 (EDNS).

mod answer;
mod query;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Record, answers, code, failure, is_answer_to};
pub(crate) use query::{Query, Refused};

/// Bytes of the header.
const HEADER: usize = 12;

/// The longest message: its length has two bytes over TCP.
pub(crate) const MAX_MESSAGE: usize = 65535;

/// What every client takes over UDP.
const MIN_DATAGRAM: usize = 512;

/// Bytes of a name, its last zero among them.
const MAX_NAME: usize = 255;

/// Bytes of a label.
const MAX_LABEL: usize = 63;

/// How long answers may be remembered, in seconds: Docker's.
const TTL: u32 = 600;

/// Kinds of records.
pub(crate) const A: u16 = 1;
pub(crate) const PTR: u16 = 12;
pub(crate) const AAAA: u16 = 28;
const OPT: u16 = 41;

/// The class of everything on the internet.
pub(crate) const INTERNET: u16 = 1;

/// Response codes.
pub(crate) const FORMAT_ERROR: u8 = 1;
pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NOT_IMPLEMENTED: u8 = 4;
pub(crate) const REFUSED: u8 = 5;

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
