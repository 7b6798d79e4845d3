//! Questions to a registry that bring no image: who one is, what there is, and what a name stands for.

use conex_api::filters::Filters;
use conex_api::image::{AuthConfig, AuthResponse, DistributionInspect, SearchResult};
use conex_distribution::{Credentials, SearchQuery};
use conex_spec::image::{Document, ImageConfig};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;

use super::refused;
use crate::error::{ErrorKind, chain};
use crate::{Engine, Error};

const SEARCH_FILTERS: [&str; 3] = ["is-automated", "is-official", "stars"];

impl Engine {
    /// Shows credentials to their registry.
    ///
    /// Errors: unauthorized if it does not believe them, system if it cannot be reached.
    pub async fn registry_login(&self, config: AuthConfig) -> Result<AuthResponse, Error> {
        let credentials = Credentials {
            username: config.username,
            password: config.password,
            auth: config.auth,
            server_address: config.server_address,
            identity_token: config.identity_token,
            registry_token: config.registry_token,
        }
        .completed();
        match self.inner.remote.registries.login(&credentials).await {
            Ok(login) => Ok(AuthResponse {
                status: "Login Succeeded".into(),
                identity_token: login.identity_token.unwrap_or_default(),
            }),
            Err(error @ conex_distribution::Error::Unauthorized(_)) => {
                Err(Error::new(ErrorKind::Unauthorized, error.to_string()))
            }
            Err(error) => Err(Error::new(ErrorKind::System, chain(&error))),
        }
    }

    /// Repositories of an index. `limit` 0 takes Docker's 25.
    pub async fn image_search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        auth: &str,
    ) -> Result<Vec<SearchResult>, Error> {
        filters.validate(&SEARCH_FILTERS)?;
        let automated = filters.boolean("is-automated")?;
        let official = filters.boolean("is-official")?;
        let mut stars = 0;
        for word in filters.get("stars") {
            let number: i64 = word
                .parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'stars={word}'")))?;
            stars = stars.max(number);
        }
        let limit = match limit {
            0 => 25,
            1..=100 => limit as u32,
            _ => {
                return Err(Error::invalid(format!(
                    "limit {limit} is outside the range of [1, 100]"
                )));
            }
        };
        if term.contains("://") {
            return Err(Error::invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let credentials = Credentials::from_header(auth).unwrap_or_default();
        let query = SearchQuery {
            term: term.to_owned(),
            limit,
        };
        let found = self.inner.remote.registries.search(&query, &credentials);
        let found = found.await.map_err(|e| refused(&e))?;
        let wanted = |result: &SearchResult| {
            automated.is_none_or(|wanted| wanted == result.is_automated)
                && official.is_none_or(|wanted| wanted == result.is_official)
                && result.star_count >= stars
        };
        let results = found.into_iter().map(|found| SearchResult {
            star_count: found.star_count,
            is_official: found.is_official,
            name: found.name,
            is_automated: found.is_automated,
            description: found.description,
        });
        Ok(results.filter(wanted).take(limit as usize).collect())
    }

    /// What a registry has under a name.
    pub async fn distribution_inspect(
        &self,
        name: &str,
        auth: &str,
    ) -> Result<DistributionInspect, Error> {
        let reference = Reference::parse(name).map_err(|e| Error::invalid(e.to_string()))?;
        let reference = reference.with_default_tag();
        let credentials = Credentials::from_header(auth).unwrap_or_default();
        let registries = &self.inner.remote.registries;
        let repository = registries.pull(&reference, &credentials).await;
        let repository = repository.map_err(|e| refused(&e))?;
        // Here the registry's answer is the engine's.
        let refused = |error: conex_distribution::Error| match error {
            conex_distribution::Error::Unauthorized(text) => {
                Error::new(ErrorKind::Unauthorized, text)
            }
            conex_distribution::Error::Denied(text) => Error::new(ErrorKind::Forbidden, text),
            other => refused(&other),
        };
        let resolved = repository.resolve().await.map_err(refused)?;
        let fetched = match resolved.fetched {
            Some(fetched) => fetched,
            None => {
                let fetched = repository.manifest(&resolved.digest).await;
                fetched.map_err(refused)?
            }
        };
        let platforms = match &fetched.document {
            Document::Index(index) => {
                let platforms = index.manifests.iter().filter_map(|m| m.platform.clone());
                platforms.collect()
            }
            Document::Manifest(manifest) => {
                let config = repository.config(&manifest.config).await;
                let config = config.map_err(refused)?;
                // An artifact's config has no platform.
                ImageConfig::load(&config)
                    .map(|config| vec![raw_platform(&config)])
                    .unwrap_or_default()
            }
        };
        Ok(DistributionInspect {
            descriptor: conex_api::descriptor::Descriptor {
                media_type: fetched.media_type.clone(),
                digest: fetched.digest.to_string(),
                size: i64::try_from(fetched.bytes.len()).unwrap_or(i64::MAX),
                ..conex_api::descriptor::Descriptor::default()
            },
            platforms: platforms.into_iter().map(api_platform).collect(),
        })
    }
}

/// As it is written, not as it is read.
fn raw_platform(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        os_features: config.os_features.clone(),
        variant: config.variant.clone(),
    }
}

fn api_platform(platform: Platform) -> conex_api::descriptor::Platform {
    conex_api::descriptor::Platform {
        architecture: platform.architecture,
        os: platform.os,
        os_version: platform.os_version.unwrap_or_default(),
        os_features: platform.os_features,
        variant: platform.variant.unwrap_or_default(),
    }
}
