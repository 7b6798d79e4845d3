//! The registries as an engine sees them: settings that may be replaced, and conversations opened with them.

use std::sync::{Arc, PoisonError, RwLock};

use conex_spec::reference::Reference;

use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::Error;
use crate::repository::{Access, Repository};
use crate::session::Session;
use crate::settings::Settings;

/// The way to all registries.
#[derive(Debug)]
pub struct Registries {
    settings: RwLock<Arc<Settings>>,
}

impl Registries {
    /// With these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: RwLock::new(Arc::new(settings)),
        }
    }

    /// The settings that hold now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&settings)
    }

    /// Replaces the settings; what is under way goes on with the old ones.
    pub fn replace(&self, settings: Settings) {
        let mut current = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(settings);
    }

    /// An image's repository for reading: mirrors, then its registry.
    ///
    /// Nothing is asked yet. Errors: certificates, `hosts.toml` or a proxy cannot be used.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Repository, Error> {
        self.open(reference, credentials, Access::Pull).await
    }

    /// An image's repository for writing: its registry alone.
    ///
    /// Nothing is asked yet. Errors: as [`Registries::pull`].
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Repository, Error> {
        self.open(reference, credentials, Access::Push).await
    }

    async fn open(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        access: Access,
    ) -> Result<Repository, Error> {
        let settings = self.settings();
        let (reference, credentials) = (reference.clone(), credentials.clone());
        let opening = tokio::task::spawn_blocking(move || {
            let mut endpoints = endpoint::of_reference(&settings, &reference)?;
            if access == Access::Push {
                endpoints.retain(|e| e.capabilities.push);
            }
            let sessions = endpoints
                .into_iter()
                .map(|endpoint| Session::new(&settings, endpoint, &credentials))
                .collect::<Result<_, _>>()?;
            Ok(Repository::new(settings, reference, sessions, access))
        });
        opening.await.map_err(|error| Error::Local(error.into()))?
    }
}
