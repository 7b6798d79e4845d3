//! The framing of container output on one connection.
//!
//! ```text
//! +--------+---+---+---+---------------------+---------
//! | stream | 0 | 0 | 0 | size, 32 bits, big- | payload
//! | 1 byte |   |   |   | endian              |
//! +--------+---+---+---+---------------------+---------
//! ```
//!
//! A container with a terminal has no frames: its bytes are the stream.

/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 8;

/// Media type of raw streams: a terminal, or any stream below API 1.42.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";

/// Media type of framed streams since API 1.42.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Input of the container; never sent by the engine.
    Stdin = 0,
    /// Output of the container.
    Stdout = 1,
    /// Error output of the container.
    Stderr = 2,
    /// An error of the engine itself.
    SystemErr = 3,
}

/// The header of a frame with `size` bytes of payload.
pub fn header(stream: Stream, size: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = size.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Reads a frame header: the stream and the payload's size in bytes; `None` if no stream has that number.
pub fn parse_header(header: [u8; HEADER_LEN]) -> Option<(Stream, u32)> {
    let [stream, _, _, _, a, b, c, d] = header;
    let stream = match stream {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemErr,
        _ => return None,
    };
    Some((stream, u32::from_be_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let bytes = header(Stream::Stderr, 0x0102_0304);
        assert_eq!(bytes, [2, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(parse_header(bytes), Some((Stream::Stderr, 0x0102_0304)));
    }

    #[test]
    fn an_unknown_stream_is_refused() {
        assert_eq!(parse_header([4, 0, 0, 0, 0, 0, 0, 1]), None);
    }
}
