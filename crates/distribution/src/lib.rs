//! The registry protocol from the client's side: resolving names, fetching and sending manifests and blobs, tokens,
//! mirrors, certificates and search.
//!
//! ```text
//! Registries ──(reference, credentials)──► Repository ──► Session (one host) ──► Authorizer
//!  settings, roots                          order of hosts    one HTTP client      tokens by scope
//! ```
//!
//! It must not know images, layers or an engine: blobs leave through a [`BlobSink`] and come from a [`BlobSource`].

mod authorizer;
mod backoff;
mod certificates;
mod challenge;
mod credentials;
mod download;
mod endpoint;
mod error;
mod hosts;
mod insecure;
mod login;
mod manifest;
mod parts;
mod registries;
mod repository;
mod rule;
mod search;
mod session;
mod settings;
mod tags;
mod transport;
mod upload;
mod url;
mod word;

pub use backoff::Watch;
pub use credentials::Credentials;
pub use download::BlobSink;
pub use error::Error;
pub use insecure::{Insecure, InvalidInsecure};
pub use login::Login;
pub use manifest::{Fetched, Resolved};
pub use registries::Registries;
pub use repository::Repository;
pub use rule::{InvalidRule, MirrorRule};
pub use search::{Found, SearchQuery};
pub use settings::{Parts, Proxies, Settings};
pub use upload::{BlobSource, Started};
pub use url::RemoteFile;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
