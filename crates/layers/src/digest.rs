//! Hashing a stream while it is being used, on a thread of its own.
//!
//! ```text
//! source ──read──► worker: sha256 ──bounded channel──► DigestReader::read
//!                     ▲────────── empty buffers ───────────┘
//! ```
//!
//! The worker also does the reading, so that decompression and hashing of the
//! next pieces overlap with unpacking the last ones.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use conex_spec::digest::{Digest, Sha256};

const PIECE_BYTES: usize = 256 * 1024;
/// Pieces in flight: enough to ride over a slow write, 2 MiB in all.
const PIECES: usize = 8;

/// Passes a stream through and knows its digest at the end.
///
/// Dropped early, it leaves the worker to notice at its next piece.
#[derive(Debug)]
pub struct DigestReader {
    pieces: Receiver<Message>,
    empties: Sender<Vec<u8>>,
    piece: Vec<u8>,
    position: usize,
    end: Option<End>,
}

/// What a stream turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// SHA-256 of the whole stream.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

#[derive(Debug)]
enum Message {
    Piece(Vec<u8>),
    End(Digested),
    Failed(io::Error),
}

#[derive(Debug)]
enum End {
    Complete(Digested),
    Failed(io::ErrorKind),
}

impl DigestReader {
    /// Starts the worker on `source`. Errors: the thread cannot be started.
    pub fn spawn(source: Box<dyn Read + Send>) -> io::Result<Self> {
        let (piece_sender, pieces) = sync_channel(PIECES);
        let (empties, empty_receiver) = channel();
        std::thread::Builder::new()
            .name("layer-digest".to_owned())
            .spawn(move || work(source, &piece_sender, &empty_receiver))?;
        Ok(Self {
            pieces,
            empties,
            piece: Vec::new(),
            position: 0,
            end: None,
        })
    }

    /// Reads what is left to the stream's end and returns digest and length.
    pub fn finish(mut self) -> io::Result<Digested> {
        loop {
            if let Some(End::Complete(digested)) = self.end {
                return Ok(digested);
            }
            self.next_piece()?;
        }
    }

    /// Takes the next piece; `false` at the end of the stream.
    fn next_piece(&mut self) -> io::Result<bool> {
        match &self.end {
            Some(End::Complete(_)) => return Ok(false),
            Some(End::Failed(kind)) => return Err((*kind).into()),
            None => {}
        }
        // Nobody takes it any more once the worker has ended.
        drop(self.empties.send(std::mem::take(&mut self.piece)));
        self.position = 0;
        match self.pieces.recv() {
            Ok(Message::Piece(piece)) => {
                self.piece = piece;
                Ok(true)
            }
            Ok(Message::End(digested)) => {
                self.end = Some(End::Complete(digested));
                Ok(false)
            }
            Ok(Message::Failed(error)) => {
                self.end = Some(End::Failed(error.kind()));
                Err(error)
            }
            Err(_) => {
                self.end = Some(End::Failed(io::ErrorKind::BrokenPipe));
                Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    "the thread that read the stream has ended",
                ))
            }
        }
    }
}

impl Read for DigestReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.piece.len() {
            if !self.next_piece()? {
                return Ok(0);
            }
        }
        let left = &self.piece[self.position..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.position += length;
        Ok(length)
    }
}

fn work(
    mut source: Box<dyn Read + Send>,
    pieces: &SyncSender<Message>,
    empties: &Receiver<Vec<u8>>,
) {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let mut piece = empties.try_recv().unwrap_or_default();
        piece.resize(PIECE_BYTES, 0);
        let filled = match fill(&mut source, &mut piece) {
            Ok(filled) => filled,
            Err(error) => {
                // A reader that is gone wants no error either.
                drop(pieces.send(Message::Failed(error)));
                return;
            }
        };
        piece.truncate(filled);
        if filled == 0 {
            let digest = hash.finish();
            drop(pieces.send(Message::End(Digested { digest, bytes })));
            return;
        }
        hash.update(&piece);
        bytes += filled as u64;
        if pieces.send(Message::Piece(piece)).is_err() {
            return;
        }
    }
}

/// Reads until the buffer is full or the stream ends.
fn fill(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_stream_passes_unchanged_and_its_digest_is_known_at_the_end() {
        for length in [0, 1, PIECE_BYTES, 20 * PIECE_BYTES + 7] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut reader = DigestReader::spawn(Box::new(Cursor::new(bytes.clone()))).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert!(out == bytes);
            let digested = reader.finish().unwrap();
            assert_eq!(digested.bytes, length as u64);
            assert_eq!(digested.digest, Digest::of(&bytes));
        }
    }

    #[test]
    fn what_was_not_read_counts_too() {
        let bytes = vec![5; 3 * PIECE_BYTES];
        let mut reader = DigestReader::spawn(Box::new(Cursor::new(bytes.clone()))).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        assert_eq!(reader.finish().unwrap().digest, Digest::of(&bytes));
    }

    #[test]
    fn an_error_of_the_source_arrives_and_stays() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::InvalidData, "corrupt"))
            }
        }
        let mut reader = DigestReader::spawn(Box::new(Failing)).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_err().to_string(), "corrupt");
        let error = reader.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
