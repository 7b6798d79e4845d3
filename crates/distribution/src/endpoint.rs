//! The hosts that may have an image, in the order they are asked. Reads certificate folders and nothing else.
//!
//! ```text
//! 1. mirror rules, longest prefix first
//! 2. hosts.toml of the registry, or for Docker Hub without one: registry-mirrors
//! 3. the registry itself: https, and http after it if it is insecure
//! ```

use conex_spec::reference::{DEFAULT_DOMAIN, Reference};
use reqwest::Url;

use crate::certificates::{self, Trust};
use crate::error::Error;
use crate::hosts::{self, Capabilities, Host};
use crate::insecure::is_insecure;
use crate::rule::mirror_url;
use crate::settings::Settings;

/// The host behind the name `docker.io`.
const HUB_HOST: &str = "registry-1.docker.io";

/// What a host is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another host with the same content; it does not get the registry's credentials.
    Mirror,
    /// The registry the image is named after.
    Registry,
}

/// One host, and the image's repository on it.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The API's root, with a slash at its end: `https://host/v2/`.
    pub(crate) base: Url,
    /// `library/busybox`.
    pub(crate) repository: String,
    pub(crate) role: Role,
    pub(crate) capabilities: Capabilities,
    pub(crate) trust: Trust,
    pub(crate) headers: Vec<(String, String)>,
    /// The registry a mirror is asked about (`ns` of containerd's mirrors).
    pub(crate) namespace: Option<String>,
}

impl Endpoint {
    /// A URL of the repository: `manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, Error> {
        let joined = self.base.join(&format!("{}/{path}", self.repository));
        let mut url = joined.map_err(|error| Error::Answer {
            message: format!("{}: {error}", self.base),
            transient: false,
            after: None,
        })?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// `host` or `host:port`.
    pub(crate) fn authority(&self) -> String {
        authority(&self.base)
    }
}

/// `host` or `host:port` of a URL.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The hosts of an image. Blocks shortly.
pub(crate) fn of_reference(
    settings: &Settings,
    reference: &Reference,
) -> Result<Vec<Endpoint>, Error> {
    let registry = reference.domain();
    let mut endpoints = rules(settings, reference)?;
    let mut own = None;
    if let Some(folder) = certificates::folder(&settings.certificate_dirs, registry)
        && let Some(file) = hosts::read(&folder)?
    {
        let listed = file.hosts.into_iter();
        endpoints.extend(listed.map(|host| described(host, reference, Role::Mirror)));
        own = file
            .server
            .map(|server| described(server, reference, Role::Registry));
    } else if registry == DEFAULT_DOMAIN {
        for mirror in &settings.hub_mirrors {
            let url = mirror_url(mirror).map_err(|problem| Error::Configuration {
                path: "registry-mirrors".into(),
                problem: format!("invalid mirror: {mirror}: {problem}"),
            })?;
            endpoints.extend(plain(settings, &url, reference.path(), Role::Mirror)?);
        }
    }
    match own {
        Some(server) => endpoints.push(server),
        None => endpoints.extend(of_registry(settings, registry, reference.path())?),
    }
    Ok(endpoints)
}

/// The registry itself, without mirrors.
pub(crate) fn of_registry(
    settings: &Settings,
    registry: &str,
    repository: &str,
) -> Result<Vec<Endpoint>, Error> {
    let host = if registry == DEFAULT_DOMAIN {
        HUB_HOST
    } else {
        registry
    };
    let url = Url::parse(&format!("https://{host}")).map_err(|error| Error::Configuration {
        path: registry.into(),
        problem: error.to_string(),
    })?;
    let trust = trust_of(settings, registry)?;
    let mut secure = endpoint(&url, repository, Role::Registry, trust);
    if !is_insecure(&settings.insecure, registry) {
        return Ok(vec![secure]);
    }
    secure.trust.any_certificate = true;
    let mut open = secure.clone();
    // "https" to "http" keeps the port only if it is written.
    if let Ok(base) = Url::parse(&secure.base.as_str().replacen("https", "http", 1)) {
        open.base = base;
    }
    Ok(vec![secure, open])
}

fn rules(settings: &Settings, reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    let mut found: Vec<_> = settings
        .rules
        .iter()
        .filter_map(|rule| {
            let (length, repository) = rule.apply(reference.name())?;
            Some((length, repository, rule))
        })
        .collect();
    // Stable: of the same prefix the one named first.
    found.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    let mut endpoints = Vec::new();
    for (_, repository, rule) in found {
        let mut host = rule.host().clone();
        host.set_path("/");
        endpoints.extend(plain(settings, &host, &repository, Role::Mirror)?);
    }
    Ok(endpoints)
}

/// A host of settings: what its folder of certificates says of it, and plain HTTP only if it is written.
fn plain(
    settings: &Settings,
    url: &Url,
    repository: &str,
    role: Role,
) -> Result<Option<Endpoint>, Error> {
    let registry = authority(url);
    let mut trust = trust_of(settings, &registry)?;
    trust.any_certificate = is_insecure(&settings.insecure, &registry);
    Ok(Some(endpoint(url, repository, role, trust)))
}

fn trust_of(settings: &Settings, registry: &str) -> Result<Trust, Error> {
    match certificates::folder(&settings.certificate_dirs, registry) {
        Some(folder) => certificates::read(&folder),
        None => Ok(Trust::default()),
    }
}

fn endpoint(url: &Url, repository: &str, role: Role, trust: Trust) -> Endpoint {
    let mut base = url.clone();
    base.set_path(&format!("{}/v2/", url.path().trim_end_matches('/')));
    Endpoint {
        base,
        repository: repository.to_owned(),
        role,
        capabilities: match role {
            Role::Mirror => Capabilities::READ,
            Role::Registry => Capabilities::ALL,
        },
        trust,
        headers: Vec::new(),
        namespace: None,
    }
}

fn described(host: Host, reference: &Reference, role: Role) -> Endpoint {
    let mut base = host.url.clone();
    let path = host.url.path().trim_end_matches('/');
    base.set_path(&match host.override_path {
        true => format!("{path}/"),
        false => format!("{path}/v2/"),
    });
    let registry_host = match reference.domain() {
        DEFAULT_DOMAIN => HUB_HOST,
        domain => domain,
    };
    let other = authority(&base) != registry_host;
    Endpoint {
        base,
        repository: reference.path().to_owned(),
        role: if other { Role::Mirror } else { role },
        capabilities: host.capabilities,
        trust: host.trust,
        headers: host.headers,
        namespace: (other && role == Role::Mirror).then(|| reference.domain().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    fn urls(settings: &Settings, name: &str) -> Vec<String> {
        let reference = Reference::parse(name).unwrap();
        of_reference(settings, &reference)
            .unwrap()
            .iter()
            .map(|e| e.url("manifests/1").unwrap().to_string())
            .collect()
    }

    fn settings() -> Settings {
        Settings {
            certificate_dirs: Vec::new(),
            ..Settings::default()
        }
    }

    #[test]
    fn docker_hub_has_a_host_of_another_name_and_mirrors() {
        let mut settings = settings();
        settings.hub_mirrors = vec!["https://m.lan/hub".into()];
        assert_eq!(
            urls(&settings, "busybox"),
            [
                "https://m.lan/hub/v2/library/busybox/manifests/1",
                "https://registry-1.docker.io/v2/library/busybox/manifests/1",
            ]
        );
        assert_eq!(
            urls(&settings, "r.lan/a"),
            ["https://r.lan/v2/a/manifests/1"]
        );
    }

    #[test]
    fn an_insecure_registry_is_asked_in_both_ways() {
        assert_eq!(
            urls(&settings(), "127.0.0.1:5000/a/b"),
            [
                "https://127.0.0.1:5000/v2/a/b/manifests/1",
                "http://127.0.0.1:5000/v2/a/b/manifests/1",
            ]
        );
    }

    #[test]
    fn the_longest_rule_is_asked_first_and_the_registry_last() {
        let mut settings = settings();
        settings.rules = ["r.lan=http://all.lan", "r.lan/team=cache.lan/t"]
            .iter()
            .map(|rule| rule.parse().unwrap())
            .collect();
        assert_eq!(
            urls(&settings, "r.lan/team/app"),
            [
                "https://cache.lan/v2/t/app/manifests/1",
                "http://all.lan/v2/team/app/manifests/1",
                "https://r.lan/v2/team/app/manifests/1",
            ]
        );
    }

    #[test]
    fn hosts_toml_takes_the_place_of_registry_mirrors() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("docker.io");
        std::fs::create_dir(&folder).unwrap();
        let text = "[host.\"http://h.lan\"]\ncapabilities = [\"pull\"]\n[host.\"http://o.lan/x\"]\noverride_path = true\n";
        std::fs::write(folder.join("hosts.toml"), text).unwrap();
        let settings = Settings {
            certificate_dirs: vec![PathBuf::from(root.path())],
            hub_mirrors: vec!["https://m.lan".into()],
            ..Settings::default()
        };
        assert_eq!(
            urls(&settings, "busybox"),
            [
                "http://h.lan/v2/library/busybox/manifests/1?ns=docker.io",
                "http://o.lan/x/library/busybox/manifests/1?ns=docker.io",
                "https://registry-1.docker.io/v2/library/busybox/manifests/1",
            ]
        );
    }
}
