//! A request's body for threads that block. It must not know what is in it.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::mpsc;

/// Passes a request's body on to the thread that unpacks it.
async fn feed(
    mut body: BoxStream<'static, io::Result<Bytes>>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    while let Some(chunk) = body.next().await {
        let failed = chunk.is_err();
        if sender.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

/// The body as a blocking reader.
#[derive(Debug)]
pub(super) struct BodyReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl BodyReader {
    /// Starts to take the body in; within a tokio runtime.
    pub(super) fn of(body: BoxStream<'static, io::Result<Bytes>>) -> Self {
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(feed(body, sender));
        Self {
            receiver,
            current: Bytes::new(),
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
