//! The framing of multiplexed streams in attach, exec and logs answers.
//!
//! ```text
//! byte    0        1..4     4..8              8..
//!         channel  0 0 0    size, big endian  payload of `size` bytes
//! ```
//!
//! Frames are used when the container has no terminal. This file must not know what the
//! payload is. Source: Docker Engine API, "ContainerAttach", "Stream format".

use crate::Stream;
use thiserror::Error;

/// Length of a frame's header in bytes.
pub const HEADER_BYTES: usize = 8;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Input of the container; servers use it for an empty first frame only.
    Stdin = 0,
    /// Output of the container.
    Stdout = 1,
    /// Error output of the container.
    Stderr = 2,
    /// An error of the engine itself that ended the stream.
    SystemError = 3,
}

impl From<Stream> for Channel {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Channel::Stdout,
            Stream::Stderr => Channel::Stderr,
        }
    }
}

/// Why bytes are not a framed stream.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The first byte of a header is none of the four channels.
    #[error("unrecognized input header: {0}")]
    UnknownChannel(u8),
}

/// The header that announces a payload of `size_bytes`.
pub fn header(channel: impl Into<Channel>, size_bytes: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = size_bytes.to_be_bytes();
    [channel.into() as u8, 0, 0, 0, a, b, c, d]
}

/// Splits a received framed stream into payload pieces, however the transport cut it.
///
/// It holds eight bytes at most: payloads are handed on as they come, so the announced
/// size of a frame is never allocated.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: [u8; HEADER_BYTES],
    partial_len: usize,
    open: Option<(Channel, u32)>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of payload off the front of `input`.
    ///
    /// `None` means that all of `input` was consumed and more bytes are needed.
    /// A frame may come in several pieces, and an empty frame comes as one empty piece.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<(Channel, &'a [u8])>, FrameError> {
        let (channel, left) = match self.open.take() {
            Some(open) => open,
            None => {
                let wanted = (HEADER_BYTES - self.partial_len).min(input.len());
                let (head, rest) = input.split_at(wanted);
                self.partial[self.partial_len..self.partial_len + wanted].copy_from_slice(head);
                self.partial_len += wanted;
                *input = rest;
                if self.partial_len < HEADER_BYTES {
                    return Ok(None);
                }
                self.partial_len = 0;
                let [first, _, _, _, a, b, c, d] = self.partial;
                let channel = match first {
                    0 => Channel::Stdin,
                    1 => Channel::Stdout,
                    2 => Channel::Stderr,
                    3 => Channel::SystemError,
                    other => return Err(FrameError::UnknownChannel(other)),
                };
                let size_bytes = u32::from_be_bytes([a, b, c, d]);
                if size_bytes == 0 {
                    return Ok(Some((channel, &[])));
                }
                (channel, size_bytes)
            }
        };
        if input.is_empty() {
            self.open = Some((channel, left));
            return Ok(None);
        }
        let taken = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (payload, rest) = input.split_at(taken);
        *input = rest;
        let left = left - u32::try_from(taken).expect("taken is at most left, which is a u32");
        if left > 0 {
            self.open = Some((channel, left));
        }
        Ok(Some((channel, payload)))
    }

    /// Whether the stream may end here, between two frames.
    pub fn is_between_frames(&self) -> bool {
        self.open.is_none() && self.partial_len == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_is_the_channel_and_a_big_endian_size() {
        assert_eq!(header(Stream::Stdout, 0x23), [1, 0, 0, 0, 0, 0, 0, 0x23]);
        assert_eq!(
            header(Stream::Stderr, 0x0102_0304),
            [2, 0, 0, 0, 1, 2, 3, 4]
        );
        assert_eq!(header(Channel::SystemError, 0)[0], 3);
    }

    #[test]
    fn frames_survive_every_way_of_cutting_the_stream() {
        let mut wire = Vec::new();
        for (stream, text) in [
            (Stream::Stdout, &b"hello "[..]),
            (Stream::Stderr, b""),
            (Stream::Stdout, b"world"),
            (Stream::Stderr, b"oops\n"),
        ] {
            wire.extend(header(stream, u32::try_from(text.len()).unwrap()));
            wire.extend(text);
        }
        for size in 1..=wire.len() {
            let mut decoder = Decoder::new();
            let (mut out, mut err, mut empty) = (Vec::new(), Vec::new(), 0);
            for mut piece in wire.chunks(size) {
                while let Some((channel, payload)) = decoder.next(&mut piece).unwrap() {
                    empty += usize::from(payload.is_empty());
                    match channel {
                        Channel::Stdout => out.extend_from_slice(payload),
                        Channel::Stderr => err.extend_from_slice(payload),
                        other => panic!("unexpected {other:?}"),
                    }
                }
                assert!(piece.is_empty());
            }
            assert!(decoder.is_between_frames());
            assert_eq!(
                (out.as_slice(), err.as_slice(), empty),
                (&b"hello world"[..], &b"oops\n"[..], 1)
            );
        }
    }

    #[test]
    fn a_stream_without_frames_is_recognised() {
        let mut input = &b"plain text"[..];
        assert_eq!(
            Decoder::new().next(&mut input),
            Err(FrameError::UnknownChannel(b'p'))
        );
    }

    #[test]
    fn a_cut_frame_is_not_between_frames() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut &[1, 0, 0][..]), Ok(None));
        assert!(!decoder.is_between_frames());
        assert_eq!(
            decoder.next(&mut &[0, 0, 0, 0, 9, b'x'][..]),
            Ok(Some((Channel::Stdout, &b"x"[..])))
        );
        assert!(!decoder.is_between_frames());
    }
}
