//! Images and registries: pull, push, logins and searches, composed of the registry protocol and this engine's images.
//!
//! ```text
//!            ┌ resolve ► manifest ► config ┐
//! pull ──────┤                             ├► ingest (image) ◄── Following ◄── blob files that grow ◄── download
//!            └ layers, several at a time ──┘
//! push ──────  layer archive ► compressed file ► upload ► manifest
//! ```
//!
//! It must not know HTTP: neither that of registries nor that of the API.

mod account;
mod blob;
mod fetch;
mod following;
mod progress;
mod pull;
mod push;
mod spool;

use std::sync::{Arc, Mutex, PoisonError};

use conex_distribution::Registries;
use tokio::sync::Semaphore;

use crate::error::{ErrorKind, chain};
use crate::{Config, Error};

pub(crate) use blob::Blobs;

/// The engine's side of registries.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) registries: Registries,
    pub(crate) blobs: Blobs,
    limits: Mutex<Limits>,
}

/// How much is under way at a time; replaced as a whole when settings change.
#[derive(Debug, Clone)]
struct Limits {
    downloads: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Limits {
    fn new(settings: &RegistrySettings) -> Self {
        Self {
            downloads: Arc::new(Semaphore::new(settings.max_downloads.max(1))),
            uploads: Arc::new(Semaphore::new(settings.max_uploads.max(1))),
        }
    }
}

/// What `daemon.json` says about registries.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// How they are reached.
    pub registries: conex_distribution::Settings,
    /// Layers fetched at a time, for each engine.
    pub max_downloads: usize,
    /// Layers sent at a time, for each engine.
    pub max_uploads: usize,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            registries: conex_distribution::Settings::default(),
            max_downloads: 3,
            max_uploads: 5,
        }
    }
}

impl Remote {
    pub(crate) fn new(config: &Config, blobs: Blobs) -> Self {
        Self {
            registries: Registries::new(config.registry.registries.clone()),
            blobs,
            limits: Mutex::new(Limits::new(&config.registry)),
        }
    }

    /// What is under way goes on as it began.
    pub(crate) fn replace(&self, settings: RegistrySettings) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        *limits = Limits::new(&settings);
        self.registries.replace(settings.registries);
    }

    fn limits(&self) -> Limits {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.clone()
    }
}

/// A registry's refusal as the engine's.
fn refused(error: &conex_distribution::Error) -> Error {
    use conex_distribution::Error as Remote;
    let kind = match error {
        Remote::NotFound(_) | Remote::Denied(_) => ErrorKind::NotFound,
        // Not `Unauthorized`: clients would ask their user for a password to this engine.
        _ => ErrorKind::System,
    };
    Error::new(kind, chain(error))
}
