//! `info` and `version`: what this engine is and what its host can do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use conex_api::event::Query;
use conex_api::system::{
    Commit, ComponentVersion, IndexInfo, Info, PluginsInfo, RegistryServiceConfig, Runtime,
    SwarmInfo, Version, VersionPlatform,
};
use conex_api::version::{MAX, MIN};
use conex_runtime::cgroup::Mode;
use conex_spec::platform::Platform;

use crate::time::{now_ns, rfc3339};
use crate::{Engine, Error, event};

/// The release.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

impl Engine {
    /// Facts about engine and host.
    pub fn info(&self) -> Info {
        let inner = &self.inner;
        let (mut running, mut paused, mut stopped, mut all) = (0, 0, 0, 0);
        for container in inner.table().iter() {
            all += 1;
            let state = container.state();
            match () {
                () if state.is_paused() => paused += 1,
                () if state.is_running() => running += 1,
                () => stopped += 1,
            }
        }
        let cgroups = &inner.cgroups;
        let unified = cgroups.mode() == Mode::Unified;
        let has = |name: &str| cgroups.has_controller(name);
        let host = rustix::system::uname();
        let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
        let security = match unified {
            true => vec![
                "name=seccomp,profile=builtin".into(),
                "name=cgroupns".into(),
            ],
            false => vec!["name=seccomp,profile=builtin".into()],
        };
        let mut warnings = inner.config.warnings.clone();
        warnings.extend(self.missing());
        let proxies = inner.remote.registries.settings().proxies.or_environment();
        Info {
            id: inner.id.clone(),
            containers: all,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: stopped,
            images: inner.images.count() as i64,
            driver: inner.driver.kind().name().into(),
            driver_status: Some(
                inner
                    .driver
                    .status()
                    .into_iter()
                    .map(|(k, v)| [k, v])
                    .collect(),
            ),
            plugins: PluginsInfo {
                volume: Some(vec!["local".into()]),
                network: Some(vec!["bridge".into(), "host".into(), "null".into()]),
                authorization: None,
                log: Some(vec!["json-file".into(), "none".into()]),
            },
            memory_limit: has("memory"),
            swap_limit: has("memory") && swap_limit(unified),
            cpu_cfs_period: has("cpu"),
            cpu_cfs_quota: has("cpu"),
            cpu_shares: has("cpu"),
            cpu_set: has("cpuset"),
            pids_limit: has("pids"),
            ipv4_forwarding: reads("/proc/sys/net/ipv4/ip_forward", "1"),
            debug: inner.config.debug,
            n_fd: fs::read_dir("/proc/self/fd").map_or(0, |d| d.count() as i64),
            oom_kill_disable: has("memory") && !unified,
            n_goroutines: fs::read_dir("/proc/self/task").map_or(0, |d| d.count() as i64),
            system_time: rfc3339(now_ns()),
            logging_driver: inner.config.log_driver.clone(),
            cgroup_driver: "cgroupfs".into(),
            cgroup_version: if unified { "2" } else { "1" }.into(),
            n_events_listener: inner.events.listeners() as i64,
            kernel_version: text(host.release()),
            operating_system: os_release("PRETTY_NAME"),
            os_version: os_release("VERSION_ID"),
            os_type: "linux".into(),
            architecture: text(host.machine()),
            index_server_address: "https://index.docker.io/v1/".into(),
            registry_config: Some(registry()),
            http_proxy: proxies.http.as_deref().map(masked).unwrap_or_default(),
            https_proxy: proxies.https.as_deref().map(masked).unwrap_or_default(),
            no_proxy: proxies.none_for.unwrap_or_default(),
            ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as i64),
            mem_total: memory_bytes(),
            docker_root_dir: inner.root.data().display().to_string(),
            name: text(host.nodename()),
            labels: inner.config.labels.clone(),
            experimental_build: inner.config.experimental,
            server_version: RELEASE.into(),
            runtimes: runtimes(),
            default_runtime: "conex".into(),
            swarm: SwarmInfo {
                local_node_state: "inactive".into(),
                ..SwarmInfo::default()
            },
            live_restore_enabled: inner.config.live_restore,
            isolation: String::new(),
            init_binary: "docker-init".into(),
            containerd_commit: Commit::default(),
            runc_commit: Commit { id: RELEASE.into() },
            init_commit: Commit::default(),
            security_options: security,
            warnings: Some(warnings).filter(|w| !w.is_empty()),
            ..Info::default()
        }
    }

    /// What users should know before they rely on it.
    fn missing(&self) -> Vec<String> {
        let mut all = Vec::new();
        let unified = self.inner.cgroups.mode() == Mode::Unified;
        if !swap_limit(unified) {
            all.push("WARNING: No swap limit support".into());
        }
        all
    }

    /// Versions of everything in the engine.
    pub fn version(&self) -> Version {
        let platform = Platform::host();
        let host = rustix::system::uname();
        let kernel = host.release().to_string_lossy().into_owned();
        let details: BTreeMap<String, String> = [
            ("ApiVersion", MAX.to_string()),
            ("Arch", platform.architecture.clone()),
            ("BuildTime", String::new()),
            ("Experimental", self.inner.config.experimental.to_string()),
            ("GitCommit", String::new()),
            ("GoVersion", "none (Rust)".into()),
            ("KernelVersion", kernel.clone()),
            ("MinAPIVersion", MIN.to_string()),
            ("Os", platform.os.clone()),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
        Version {
            platform: VersionPlatform {
                name: "Conex".into(),
            },
            version: RELEASE.into(),
            api_version: MAX.to_string(),
            min_api_version: MIN.to_string(),
            os: platform.os,
            arch: platform.architecture,
            components: vec![
                ComponentVersion {
                    name: "Engine".into(),
                    version: RELEASE.into(),
                    details,
                },
                ComponentVersion {
                    name: "conex-runtime".into(),
                    version: RELEASE.into(),
                    details: BTreeMap::new(),
                },
            ],
            go_version: "none (Rust)".into(),
            kernel_version: kernel,
            experimental: self.inner.config.experimental,
            ..Version::default()
        }
    }

    /// Events from now on, or from `since` on, up to `until`.
    pub fn events(
        &self,
        query: Query,
    ) -> Result<impl futures_util::Stream<Item = conex_api::event::Message> + Send + use<>, Error>
    {
        query.filters.validate(&event::FILTERS)?;
        Ok(self.inner.events.subscribe(query))
    }
}

fn runtimes() -> BTreeMap<String, Runtime> {
    let own = Runtime {
        path: "conex".into(),
        ..Runtime::default()
    };
    [("conex".to_owned(), own)].into()
}

fn registry() -> RegistryServiceConfig {
    let index = IndexInfo {
        name: "docker.io".into(),
        secure: true,
        official: true,
        ..IndexInfo::default()
    };
    RegistryServiceConfig {
        insecure_registry_cidrs: vec!["::1/128".into(), "127.0.0.0/8".into()],
        index_configs: [("docker.io".to_owned(), index)].into(),
        ..RegistryServiceConfig::default()
    }
}

fn swap_limit(unified: bool) -> bool {
    unified || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

fn reads(path: &str, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

/// Of the machine.
pub(crate) fn memory_bytes() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A value of os-release(5).
fn os_release(key: &str) -> String {
    let text = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or("").trim_matches('"').to_owned()
}

/// A proxy's URL without its password.
fn masked(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}
