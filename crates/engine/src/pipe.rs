//! Bytes between blocking threads and async streams, a few pieces ahead. It
//! must not know what they are.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

/// Bytes of one piece: large enough that its way costs little.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces in flight.
const PIECES: usize = 4;

/// A stream of bytes, such as the body of a request or of an answer.
pub(crate) type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// What a stream brings, for a blocking thread to read. Must be called within
/// the runtime.
pub(crate) fn reader(mut stream: ByteStream) -> PipeReader {
    let (sender, receiver) = mpsc::channel(2 * PIECES);
    tokio::spawn(async move {
        while let Some(piece) = stream.next().await {
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
        }
    });
    PipeReader {
        receiver,
        current: Bytes::new(),
    }
}

/// The end that a blocking thread reads.
pub(crate) struct PipeReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for PipeReader {
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

/// A writer and a reader, each for a blocking thread.
pub(crate) fn pair() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let current = Bytes::new();
    (PipeWriter::new(sender), PipeReader { receiver, current })
}

/// A writer for a blocking thread, and the stream of what it writes.
pub(crate) fn writer() -> (PipeWriter, ByteStream) {
    let (sender, receiver) = mpsc::channel(PIECES);
    let writer = PipeWriter::new(sender);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    (writer, stream.boxed())
}

/// The end that a blocking thread writes; [`PipeWriter::finish`] says that all
/// of it was written, without it the stream ends in an error.
pub(crate) struct PipeWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
    finished: bool,
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if !self.finished {
            let error = io::Error::other("the writer ended early");
            let _reader_gone = self.sender.blocking_send(Err(error)).is_err();
        }
    }
}

impl PipeWriter {
    fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            sender,
            piece: BytesMut::new(),
            finished: false,
        }
    }

    /// Ends the stream, with an error if there was one.
    pub(crate) fn finish(mut self, result: io::Result<()>) {
        self.finished = true;
        let sent = result.and_then(|()| self.flush());
        if let Err(error) = sent {
            let _reader_gone = self.sender.blocking_send(Err(error)).is_err();
        }
    }
}

impl Write for PipeWriter {
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
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece).freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_is_written_in_a_thread_is_read_in_another() {
        let (mut writer, stream) = writer();
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect();
        let expected = bytes.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let result = writer.write_all(&bytes);
            writer.finish(result);
        });
        let mut reader = reader(stream);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        assert!(read.await.unwrap().unwrap() == expected);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn an_error_arrives_and_a_reader_that_left_is_noticed() {
        let (writer, mut stream) = writer();
        let failing = tokio::task::spawn_blocking(move || {
            writer.finish(Err(io::Error::other("broken")));
        });
        assert_eq!(
            stream.next().await.unwrap().unwrap_err().to_string(),
            "broken"
        );
        failing.await.unwrap();
        let (mut writer, stream) = self::writer();
        drop(stream);
        let gone = tokio::task::spawn_blocking(move || writer.write_all(&[0; 2 * PIECE_BYTES]));
        assert_eq!(
            gone.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
