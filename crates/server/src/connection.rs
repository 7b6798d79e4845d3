//! One client's connection: its socket, in clear text or under TLS, its limits, its end; and how many there are.
//! Knows requests and answers, not what is asked.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::HEAD_LIMIT_BYTES;
use crate::answer::Body;
use crate::hijack::gate::Gate;
use crate::listen::Open;
use crate::tls::Tls;

/// How long a client may take for a head, and a connection may stay without a request (moby's figure).
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Header lines of a request at most.
const MAX_HEADERS: usize = 256;

/// How long accepting rests when the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The number of open connections, hijacked ones included; shared.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    count: Arc<watch::Sender<usize>>,
}

impl Connections {
    /// How many are open now.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Tells of every change of the count.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Counts one until it is dropped.
    pub(crate) fn enter(&self) -> Counted {
        self.count.send_modify(|count| *count += 1);
        Counted(self.clone())
    }
}

/// Tells that the server ends; shared.
#[derive(Clone, Debug)]
pub(crate) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// The sender of the news, and who gets it.
    pub(crate) fn channel() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the server ends, told so or not.
    pub(crate) async fn begun(&mut self) {
        self.0.wait_for(|closing| *closing).await.ok();
    }
}

/// One connection in the count.
#[derive(Debug)]
pub(crate) struct Counted(Connections);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

/// What a request knows of its connection.
#[derive(Clone)]
pub(crate) struct Peer {
    forced: Arc<AtomicBool>,
    counted: Arc<Counted>,
}

impl Peer {
    /// Whether the upgrade of the connection's first request was not the client's own.
    pub(crate) fn upgrade_was_forced(&self) -> bool {
        self.forced.load(Ordering::Relaxed)
    }

    /// Keeps the connection in the count.
    pub(crate) fn keep(&self) -> Arc<Counted> {
        Arc::clone(&self.counted)
    }
}

/// Accepts clients and answers them until the server ends, then waits for those there are.
pub(crate) async fn accept<H, F>(
    listener: Open,
    handler: H,
    connections: Connections,
    mut closing: Closing,
) where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.begun() => break,
            Some(_) = clients.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(newcomer) => {
                let (handler, counted) = (handler.clone(), connections.enter());
                let mut closing = closing.clone();
                clients.spawn(async move {
                    let socket = tokio::select! {
                        socket = newcomer.greet() => socket,
                        () = closing.begun() => None,
                    };
                    if let Some(socket) = socket {
                        serve(socket, handler, counted, closing).await;
                    }
                });
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody new finds it while the last ones are answered.
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// Whether accepting failed because of a client that is gone already.
fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | InvalidInput
    )
}

/// Answers one client until it or the server ends.
pub(crate) async fn serve<H, F>(socket: Socket, handler: H, counted: Counted, mut closing: Closing)
where
    H: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<Body>>,
{
    let gate = Gate::new(socket);
    let peer = Peer {
        forced: gate.forced(),
        counted: Arc::new(counted),
    };
    let service = service_fn(move |request| {
        let answer = handler(request, peer.clone());
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(HEAD_LIMIT_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients leave as they like; it is nobody's fault.
        tracing::debug!(%error, "connection ended");
    }
}

/// Somebody at the door.
#[derive(Debug)]
pub(crate) enum Newcomer {
    /// Over a UNIX socket.
    Unix(UnixStream),
    /// Over TCP, and what has to happen first.
    Tcp(TcpStream, Option<Tls>),
}

impl Newcomer {
    /// Lets it in; `None` if it did not get through the handshake.
    async fn greet(self) -> Option<Socket> {
        match self {
            Self::Unix(socket) => Some(Socket::Unix(socket)),
            Self::Tcp(socket, None) => Some(Socket::Tcp(socket)),
            Self::Tcp(socket, Some(tls)) => tls.greet(socket).await.map(Box::new).map(Socket::Tls),
        }
    }
}

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Over a UNIX socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
    /// Over TCP under TLS. Shutting it down for writing is a close_notify and leaves the other direction open.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

/// Does the same to any socket.
macro_rules! either {
    ($socket:expr, $inner:ident => $action:expr) => {
        match $socket.get_mut() {
            Socket::Unix($inner) => $action,
            Socket::Tcp($inner) => $action,
            Socket::Tls($inner) => $action,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match either!(self, socket => Pin::new(socket).poll_read(cx, buf)) {
            // A TLS client that closes without a close_notify, as Python's does and Go's server allows. HTTP
            // knows by itself whether a message is whole.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            read => read,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write(cx, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, socket => Pin::new(socket).poll_write_vectored(cx, data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests;
