//! What the owner of a machine decides about registries. Pure.

use std::path::PathBuf;
use std::time::Duration;

use crate::insecure::Insecure;
use crate::rule::MirrorRule;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Registries whose certificate is not checked and that may speak plain HTTP; the loopback networks always may.
    pub insecure: Vec<Insecure>,
    /// URLs asked before Docker Hub, for images of Docker Hub.
    pub hub_mirrors: Vec<String>,
    /// Places asked before the registry, for any image.
    pub rules: Vec<MirrorRule>,
    /// Directories of certificates and `hosts.toml`, one folder a registry; the first that has the folder counts.
    pub certificate_dirs: Vec<PathBuf>,
    /// Proxies; what is missing is taken from the environment.
    pub proxies: Proxies,
    /// Times a transfer is tried before it fails.
    pub attempts: u32,
    /// Pause before the second try; it doubles each time.
    pub first_delay: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next byte.
    pub stall_timeout: Duration,
    /// When one connection is not enough for a blob.
    pub parts: Parts,
    /// The `User-Agent` header.
    pub user_agent: String,
}

/// How a blob is fetched over several connections once one has shown to be slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// How long one connection is watched.
    pub watched: Duration,
    /// A blob whose rest would take longer than this over it is fetched in parts.
    pub patience: Duration,
    /// Length of a part. So many bytes of each part under way are held in memory.
    pub part_bytes: u64,
    /// Parts fetched at a time.
    pub at_a_time: usize,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            watched: Duration::from_secs(1),
            patience: Duration::from_secs(3),
            part_bytes: 4 << 20,
            at_a_time: 4,
        }
    }
}

/// Proxies, as `http://user:password@host:port` or `socks5://…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For plain registries.
    pub http: Option<String>,
    /// For registries with TLS.
    pub https: Option<String>,
    /// Hosts and networks reached without a proxy, separated by commas.
    pub none_for: Option<String>,
}

impl Proxies {
    /// These, and from the environment what they leave open.
    #[must_use]
    pub fn or_environment(&self) -> Proxies {
        let variable = |names: [&str; 2]| {
            names
                .iter()
                .filter_map(|name| std::env::var(name).ok())
                .find(|value| !value.is_empty())
        };
        let own = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        Proxies {
            http: own(&self.http).or_else(|| variable(["HTTP_PROXY", "http_proxy"])),
            https: own(&self.https).or_else(|| variable(["HTTPS_PROXY", "https_proxy"])),
            none_for: own(&self.none_for).or_else(|| variable(["NO_PROXY", "no_proxy"])),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            hub_mirrors: Vec::new(),
            rules: Vec::new(),
            certificate_dirs: vec!["/etc/conex/certs.d".into(), "/etc/docker/certs.d".into()],
            proxies: Proxies::default(),
            attempts: 5,
            first_delay: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            parts: Parts::default(),
            user_agent: concat!("conex/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
