//! HTTP routes of the Engine API, version negotiation, errors to statuses, streams.
//!
//! ```text
//! listen ─► connection ─► hijack::gate ─► hyper ─► route ─► engine
//!   (accept loops)  (tls, limits, life)       │      └─ body, legacy, error, answer
//!                                             └─ hijack::relay once a client takes its socket over
//! ```
//!
//! *Invariant*: no decision about containers or images is made here; a handler reads the request, asks the
//! engine once and writes down what it said. Differences of old API versions are one table, `legacy`.

mod answer;
mod body;
mod connection;
mod error;
mod hijack;
mod legacy;
mod listen;
mod route;
mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use conex_api::version::{self, ApiVersion};
use conex_engine::Engine;
use tokio::task::JoinSet;

use connection::Closing;
pub use connection::Connections;
pub use listen::{ListenError, Listener, ParseListenerError};
use tls::Tls;
pub use tls::{TlsError, TlsFiles};

/// Bytes of a request's head at most; more is answered with 431.
const HEAD_LIMIT_BYTES: usize = 64 * 1024;

/// How long requests may take to finish once the server is told to end.
const GRACE: Duration = Duration::from_secs(5);

/// What the server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// What TCP listeners are served with; `None` serves them in clear text.
    pub tls: Option<TlsFiles>,
    /// The oldest API version answered (`DOCKER_MIN_API_VERSION`).
    pub min_api_version: ApiVersion,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            tls: None,
            min_api_version: version::MIN,
        }
    }
}

/// A server whose listeners are open: clients may connect, and are answered once it serves.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<listen::Open>,
    min_api_version: ApiVersion,
    connections: Connections,
}

impl Server {
    /// Reads the certificates and opens the listeners.
    ///
    /// Errors: certificates that cannot be used, else the first listener that cannot be opened; those before it are
    /// closed again.
    pub async fn bind(config: Config) -> Result<Self, ListenError> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            listeners.append(&mut listener.open(tls.as_ref()).await?);
        }
        let min_api_version = config.min_api_version.clamp(version::MIN, version::MAX);
        Ok(Self {
            listeners,
            min_api_version,
            connections: Connections::default(),
        })
    }

    /// The connections open now, hijacked ones included.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Answers clients until `shutdown` resolves and the requests under way have ended or had their time.
    pub async fn serve(self, engine: Engine, shutdown: impl Future<Output = ()>) {
        let (closing, closed) = Closing::channel();
        let context = Arc::new(route::Context {
            engine,
            min_api_version: self.min_api_version,
            closing: closed.clone(),
        });
        let handler = move |request, peer| route::answer(Arc::clone(&context), request, peer);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            let accept = connection::accept(
                listener,
                handler.clone(),
                self.connections.clone(),
                closed.clone(),
            );
            accepting.spawn(accept);
        }
        shutdown.await;
        closing.send_replace(true);
        // Each returns when its connections have; whoever stays past the grace period is dropped.
        let ended = async { while accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!(
                connections = self.connections.count(),
                "connections cut off"
            );
        }
    }
}

/// Opens the listeners of `config` and answers clients until `shutdown` resolves.
///
/// Errors: as [`Server::bind`].
pub async fn serve(
    engine: Engine,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ListenError> {
    Server::bind(config).await?.serve(engine, shutdown).await;
    Ok(())
}
