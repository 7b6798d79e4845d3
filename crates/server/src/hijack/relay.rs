//! The copy between a client that has taken its socket over and a container's streams.
//! Knows bytes only: frames, terminals and detach keys are the container's side.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bytes copied at a time in each direction.
const BUFFER_BYTES: usize = 128 * 1024;

/// How long a client may go on sending after the container has ended.
///
/// Closing a socket with unread bytes resets it, and a reset may overtake the last output.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// What becomes of the client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// They go to the container, and so does their end.
    Forwarded,
    /// Nobody wants them.
    Discarded,
}

/// The container's side of an attachment.
pub(crate) struct Streams {
    /// Output of the past, sent first.
    pub(crate) replay: Option<BoxStream<'static, io::Result<Bytes>>>,
    /// Output from now on; takes input.
    pub(crate) live: Option<UnixStream>,
}

/// Copies both ways until the container ends or the client is gone.
///
/// `early` is what the client had sent before. A half-closed client still gets all output; after the end of
/// the output the client's socket is shut down for writing and its input is read to its end. `hung_up` tells a
/// client that closed both directions from one that only ended its input.
pub(crate) async fn relay<C>(
    client: C,
    early: Vec<u8>,
    streams: Streams,
    input: Input,
    hung_up: impl Future<Output = ()>,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (client_read, mut client_write) = tokio::io::split(client);
    let (live_read, live_write) = streams.live.map(UnixStream::into_split).unzip();

    let output = async {
        if let Some(mut replay) = streams.replay {
            while let Some(chunk) = replay.next().await {
                client_write.write_all(&chunk?).await?;
                client_write.flush().await?;
            }
        }
        if let Some(live) = live_read {
            copy_output(live, &mut client_write).await?;
        }
        client_write.shutdown().await
    };
    let input = async {
        let mut client_read = client_read;
        match live_write {
            Some(live) if input == Input::Forwarded => {
                copy_input(&mut client_read, &early, live).await?;
                discard(&mut client_read).await
            }
            Some(live) => {
                // Dropped, it would tell the container that its input has ended.
                let discarded = discard(&mut client_read).await;
                live.forget();
                discarded
            }
            None => discard(&mut client_read).await,
        }
    };

    let (mut output, mut input, mut hung_up) = (pin!(output), pin!(input), pin!(hung_up));
    tokio::select! {
        ended = &mut output => {
            ended?;
            // A client that does not close in time is closed.
            return tokio::time::timeout(LINGER, input).await.unwrap_or(Ok(()));
        }
        ended = &mut input => ended?,
    }
    tokio::select! {
        ended = output => ended,
        // Everything it sent was passed on; nobody is there for the rest of the output.
        () = &mut hung_up => Ok(()),
    }
}

/// Copies the container's output to its end; only the client's failures count.
async fn copy_output(
    mut live: impl AsyncRead + Unpin,
    client: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        // A reset is the end of a container that left input unread.
        match live.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => {
                client.write_all(&buffer[..length]).await?;
                // Under TLS a record may wait behind a full socket until it is asked to go.
                client.flush().await?;
            }
        }
    }
}

/// Copies the client's input and its end; a container that takes no more is not an error.
async fn copy_input(
    client: &mut (impl AsyncRead + Unpin),
    early: &[u8],
    mut live: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    if live.write_all(early).await.is_err() {
        return Ok(());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = client.read(&mut buffer).await?;
        if length == 0 {
            // It may have ended meanwhile.
            live.shutdown().await.ok();
            return Ok(());
        }
        if live.write_all(&buffer[..length]).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads to the end.
async fn discard(client: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    while client.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hijack::hung_up;
    use futures_util::stream;
    use std::os::fd::AsFd;

    /// Client end, container end, and the relay between them.
    fn relayed(
        early: &[u8],
        input: Input,
    ) -> (
        UnixStream,
        UnixStream,
        tokio::task::JoinHandle<io::Result<()>>,
    ) {
        let (client, server) = UnixStream::pair().unwrap();
        let (container, live) = UnixStream::pair().unwrap();
        let streams = Streams {
            replay: None,
            live: Some(live),
        };
        let gone = hung_up(server.as_fd());
        let task = tokio::spawn(relay(server, early.to_vec(), streams, input, gone));
        (client, container, task)
    }

    #[tokio::test]
    async fn the_end_of_input_reaches_the_container_and_output_goes_on() {
        let (mut client, mut container, task) = relayed(b"early ", Input::Forwarded);
        client.write_all(b"input").await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = String::new();
        container.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "early input");
        container.write_all(b"late output").await.unwrap();
        drop(container);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "late output");
        drop(client);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_output_reaches_a_client_that_still_sends() {
        let (mut client, container, task) = relayed(b"", Input::Forwarded);
        client.write_all(b"never read").await.unwrap();
        let mut container = container;
        container.write_all(b"bye").await.unwrap();
        container.shutdown().await.unwrap();
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.unwrap();
        assert_eq!(output, b"bye");
        client.write_all(b"more").await.unwrap();
        client.shutdown().await.unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn megabytes_both_ways_lose_nothing() {
        let (client, container, task) = relayed(b"", Input::Forwarded);
        let data: Vec<u8> = (0..8_u32 << 20)
            .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect();
        let (mut client_read, mut client_write) = client.into_split();
        let sent = data.clone();
        let writer = tokio::spawn(async move {
            client_write.write_all(&sent).await.unwrap();
            client_write.shutdown().await.unwrap();
        });
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = container.into_split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let mut seen = Vec::new();
        client_read.read_to_end(&mut seen).await.unwrap();
        assert!(seen == data);
        writer.await.unwrap();
        echo.await.unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn discarded_input_and_its_end_do_not_reach_the_container() {
        let (mut client, mut container, task) = relayed(b"early", Input::Discarded);
        client.write_all(b"input").await.unwrap();
        client.shutdown().await.unwrap();
        container.write_all(b"output").await.unwrap();
        let mut output = [0; 6];
        client.read_exact(&mut output).await.unwrap();
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), container.read(&mut byte)).await;
        assert!(read.is_err(), "the container saw {read:?}");
        drop(container);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_past_comes_before_the_present() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (mut container, live) = UnixStream::pair().unwrap();
        container.write_all(b"now").await.unwrap();
        drop(container);
        let replay = stream::iter([
            Ok(Bytes::from_static(b"then ")),
            Ok(Bytes::from_static(b"and ")),
        ]);
        let streams = Streams {
            replay: Some(replay.boxed()),
            live: Some(live),
        };
        let task = tokio::spawn(relay(
            server,
            Vec::new(),
            streams,
            Input::Forwarded,
            std::future::pending(),
        ));
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "then and now");
        drop(client);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nothing_to_show_ends_at_once() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let streams = Streams {
            replay: None,
            live: None,
        };
        let task = tokio::spawn(relay(
            server,
            Vec::new(),
            streams,
            Input::Forwarded,
            std::future::pending(),
        ));
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.unwrap();
        assert_eq!(output, b"");
        drop(client);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_vanishes_ends_the_relay_to_a_silent_container() {
        for input in [Input::Forwarded, Input::Discarded] {
            let (mut client, mut container, task) = relayed(b"", input);
            client.write_all(b"last words").await.unwrap();
            drop(client);
            task.await.unwrap().unwrap();
            let mut rest = String::new();
            container.read_to_string(&mut rest).await.unwrap();
            let passed_on = if input == Input::Forwarded {
                "last words"
            } else {
                ""
            };
            assert_eq!(rest, passed_on);
        }
    }
}
