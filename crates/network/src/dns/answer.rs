//! What a client is told.

use std::net::IpAddr;

use super::{A, AAAA, HEADER, INTERNET, MAX_LABEL, MAX_NAME, OPT, PTR, Query, TTL, word};

/// A response.
const QR: u8 = 0x80;
/// Cut to fit the datagram: to be asked again over TCP.
const TC: u8 = 0x02;
/// Recursion is available.
const RA: u8 = 0x80;
/// Operation code and "recursion desired", which are the client's.
const KEPT: u8 = 0x79;
/// A name that points to the question's.
const QUESTION: [u8; 2] = [0xc0, HEADER as u8];
/// The datagram we take: what passes every path without fragments.
const ROOM: u16 = 1232;

/// One thing to say about the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// It has this address.
    Address(IpAddr),
    /// It is the address of this name, which ends without a dot.
    Name(String),
}

impl Record {
    /// Kind and data; none for a name that is none.
    fn encode(&self) -> Option<(u16, Vec<u8>)> {
        match self {
            Record::Address(IpAddr::V4(four)) => Some((A, four.octets().to_vec())),
            Record::Address(IpAddr::V6(six)) => Some((AAAA, six.octets().to_vec())),
            Record::Name(name) => {
                let mut data = Vec::new();
                for label in name.split('.') {
                    let length = u8::try_from(label.len()).ok()?;
                    if label.is_empty() || label.len() > MAX_LABEL {
                        return None;
                    }
                    data.push(length);
                    data.extend_from_slice(label.as_bytes());
                }
                data.push(0);
                (data.len() <= MAX_NAME).then_some((PTR, data))
            }
        }
    }
}

/// The answer with these records, of at most `limit` bytes: what does not fit
/// is left out, and the client told. `message` is the query as it came.
pub(crate) fn answers(query: &Query, message: &[u8], records: &[Record], limit: usize) -> Vec<u8> {
    let mut answer = head(query, message, 0);
    let options = options(query);
    let limit = limit.saturating_sub(options.len());
    let mut count = 0_u16;
    for (kind, data) in records.iter().filter_map(Record::encode) {
        let Ok(length) = u16::try_from(data.len()) else {
            continue;
        };
        if answer.len() + 12 + data.len() > limit || count == u16::MAX {
            answer[2] |= TC;
            break;
        }
        answer.extend_from_slice(&QUESTION);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&INTERNET.to_be_bytes());
        answer.extend_from_slice(&TTL.to_be_bytes());
        answer.extend_from_slice(&length.to_be_bytes());
        answer.extend_from_slice(&data);
        count += 1;
    }
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    answer.extend_from_slice(&options);
    answer
}

/// An answer that says only why there is none. Without a query that could be
/// read it is the header alone; nothing for a message shorter than that.
pub(crate) fn failure(query: Option<&Query>, message: &[u8], code: u8) -> Option<Vec<u8>> {
    match query {
        Some(query) => {
            let mut answer = head(query, message, code);
            answer.extend_from_slice(&options(query));
            Some(answer)
        }
        None => {
            let mut answer = message.get(..HEADER)?.to_vec();
            mark(&mut answer, code);
            answer[4..].fill(0);
            Some(answer)
        }
    }
}

/// Header and question, which is repeated to the letter: clients compare.
fn head(query: &Query, message: &[u8], code: u8) -> Vec<u8> {
    let mut answer = message[..query.end].to_vec();
    mark(&mut answer, code);
    answer[4..HEADER].fill(0);
    answer[5] = 1;
    answer[11] = u8::from(query.room.is_some());
    answer
}

fn mark(header: &mut [u8], code: u8) {
    header[2] = QR | header[2] & KEPT;
    header[3] = RA | code;
}

/// Who speaks EDNS is answered in it.
fn options(query: &Query) -> Vec<u8> {
    if query.room.is_none() {
        return Vec::new();
    }
    let mut options = vec![0];
    options.extend_from_slice(&OPT.to_be_bytes());
    options.extend_from_slice(&ROOM.to_be_bytes());
    options.extend_from_slice(&[0; 6]);
    options
}

/// Whether a response answers this very query: the id, and the question to the
/// letter but for the case. Servers that refuse may leave the question out.
pub(crate) fn is_answer_to(query: &Query, message: &[u8], response: &[u8]) -> bool {
    if response.len() < HEADER || response[..2] != message[..2] || response[2] & QR == 0 {
        return false;
    }
    match word(response, 4) {
        Some(0) => code(response) != 0,
        Some(1) => response
            .get(HEADER..query.end)
            .is_some_and(|question| question.eq_ignore_ascii_case(&message[HEADER..query.end])),
        _ => false,
    }
}

/// A response's code.
pub(crate) fn code(response: &[u8]) -> u8 {
    response.get(3).map_or(0, |flags| flags & 0x0f)
}
