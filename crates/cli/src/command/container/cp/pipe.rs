//! Bytes of an archive between the thread that packs or unpacks and the
//! connection.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

const PIECE_BYTES: usize = 256 * 1024;
const PIECES: usize = 4;

/// A piece of an archive, or why there will be no more.
pub(super) type Piece = io::Result<Bytes>;

/// A channel of pieces.
pub(super) fn channel() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(PIECES)
}

/// Gathers what a thread writes.
pub(super) struct Writer {
    sender: mpsc::Sender<Piece>,
    piece: BytesMut,
}

impl Writer {
    pub(super) fn new(sender: mpsc::Sender<Piece>) -> Self {
        Self {
            sender,
            piece: BytesMut::new(),
        }
    }

    /// Cuts the stream.
    pub(super) fn fail(self, error: io::Error) {
        let _reader_gone = self.sender.blocking_send(Err(error)).is_err();
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve(PIECE_BYTES);
        }
        let length = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece).freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What a thread reads.
pub(super) struct Reader {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
}

impl Reader {
    pub(super) fn new(receiver: mpsc::Receiver<Piece>) -> Self {
        Self {
            receiver,
            current: Bytes::new(),
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
