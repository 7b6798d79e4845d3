//! What registries say to `manifest`: read and written by this program itself.

use bytes::Bytes;
use conex_distribution::Started;
use conex_distribution::{Credentials, Error, Fetched, Insecure, Registries, Repository, Settings};
use conex_spec::digest::Digest;
use conex_spec::image::{Descriptor, Document, ImageConfig, Index, Manifest};
use conex_spec::platform::Platform;
use conex_spec::reference::Reference;

use crate::context::Context;
use crate::credential;
use crate::error::CliError;
use crate::manifests::{Entry, type_of_list};

/// What a name means at its registry.
pub(super) enum Found {
    /// One image.
    Image(Box<Entry>),
    /// Several.
    List(Vec<Entry>),
}

/// The way to the registries of one command.
pub(super) struct Remote<'a> {
    ctx: &'a Context,
    insecure: bool,
}

impl<'a> Remote<'a> {
    /// `insecure` believes every certificate, and does without one.
    pub(super) fn new(ctx: &'a Context, insecure: bool) -> Self {
        Self { ctx, insecure }
    }

    fn registries(&self, reference: &Reference) -> Registries {
        let mut settings = Settings::default();
        if self.insecure {
            let domain = reference.domain().to_owned();
            settings.insecure.push(Insecure::Host(domain));
        }
        Registries::new(settings)
    }

    fn credentials(&self, reference: &Reference) -> Credentials {
        let server = credential::server_of(reference);
        let auth = crate::command::image::remote::credentials(self.ctx, &server);
        Credentials {
            username: auth.username,
            password: auth.password,
            auth: auth.auth,
            server_address: auth.server_address,
            identity_token: auth.identity_token,
            registry_token: auth.registry_token,
        }
    }

    /// A manifest, or every manifest of an index.
    ///
    /// Errors: `no such manifest: NAME` as Docker says it, or what the registry says.
    pub(super) async fn get(&self, reference: &Reference) -> Result<Found, CliError> {
        let opened = self.registries(reference);
        let opened = opened.pull(reference, &self.credentials(reference)).await;
        let repository = opened?;
        let missing = |error| match error {
            Error::NotFound(_) => CliError::message(format!("no such manifest: {reference}")),
            other => CliError::from(other),
        };
        let resolved = repository.resolve().await.map_err(missing)?;
        let fetched = match resolved.fetched {
            Some(fetched) => fetched,
            None => repository
                .manifest(&resolved.digest)
                .await
                .map_err(missing)?,
        };
        match &fetched.document {
            Document::Manifest(manifest) => {
                let name = reference.to_string();
                let entry = entry(&repository, name, &fetched, manifest, None).await?;
                Ok(Found::Image(Box::new(entry)))
            }
            Document::Index(index) => {
                let entries = entries(&repository, reference, index).await?;
                Ok(Found::List(entries))
            }
        }
    }

    /// Makes a list known under its name, with what it lists. Gives each image's name and digest there, and the
    /// list's digest.
    ///
    /// Errors: an image is of another registry, or has blobs this repository cannot have.
    pub(super) async fn push(
        &self,
        list: &Reference,
        entries: &[Entry],
        bytes: Vec<u8>,
    ) -> Result<(Vec<Reference>, Digest), CliError> {
        let repository = self.registries(list);
        let repository = repository.push(list, &self.credentials(list)).await?;
        let mut pushed = Vec::new();
        for entry in entries {
            let origin = super::named(&entry.name)?;
            if origin.domain() != list.domain() {
                return Err(CliError::message(format!(
                    "cannot use source images from a different registry than the target image: \
                     {} != {}",
                    origin.domain(),
                    list.domain()
                )));
            }
            if origin.name() == list.name() {
                continue;
            }
            for blob in entry.blobs() {
                let digest: Digest = blob
                    .parse()
                    .map_err(|error| CliError::message(format!("{}: {error}", entry.name)))?;
                mount(&repository, &digest, &origin, list).await?;
            }
            let digest = &entry.descriptor.digest;
            let manifest = Bytes::from(entry.bytes()?);
            let media_type = &entry.descriptor.media_type;
            repository
                .put_manifest(digest.as_str(), media_type, &manifest)
                .await?;
            pushed.push(list.clone().without_tag().with_digest(digest.clone()));
        }
        let tag = list.tag().unwrap_or_default();
        let digest = repository
            .put_manifest(tag, type_of_list(entries), &Bytes::from(bytes))
            .await?;
        Ok((pushed, digest))
    }
}

async fn entry(
    repository: &Repository,
    name: String,
    fetched: &Fetched,
    manifest: &Manifest,
    platform: Option<Platform>,
) -> Result<Entry, CliError> {
    let platform = match platform {
        Some(platform) => platform,
        None => {
            let config = repository.config(&manifest.config).await?;
            // An artifact's config has no platform.
            let config = ImageConfig::load(&config).ok();
            config.map(|config| config.platform()).unwrap_or_default()
        }
    };
    let size = fetched.bytes.len() as u64;
    let mut descriptor = Descriptor::new(&fetched.media_type, fetched.digest.clone(), size);
    descriptor.platform = Some(platform);
    Entry::new(name, descriptor, &fetched.bytes)
}

async fn entries(
    repository: &Repository,
    reference: &Reference,
    index: &Index,
) -> Result<Vec<Entry>, CliError> {
    let mut entries = Vec::new();
    for listed in &index.manifests {
        let fetched = repository.manifest(&listed.digest).await?;
        let Document::Manifest(manifest) = &fetched.document else {
            return Err(CliError::message(format!(
                "{reference}: the list leads to another list, {}",
                listed.digest
            )));
        };
        let name = reference.clone().with_digest(listed.digest.clone());
        let platform = listed.platform.clone();
        entries.push(entry(repository, name.to_string(), &fetched, manifest, platform).await?);
    }
    Ok(entries)
}

async fn mount(
    repository: &Repository,
    digest: &Digest,
    origin: &Reference,
    list: &Reference,
) -> Result<(), CliError> {
    let started = repository.start_upload(Some(digest), Some(origin.path()));
    match started.await? {
        Started::Exists | Started::Mounted => Ok(()),
        Started::Upload(_) => Err(CliError::message(format!(
            "{} does not let {} have the blob {digest}",
            origin.name(),
            list.name()
        ))),
    }
}
