//! Capabilities, system call filter and kernel parameters. It must not know
//! how any of it is enforced.

use std::collections::BTreeMap;
use std::path::Path;

use conex_api::container::{HostConfig, StrSlice};
use conex_runtime::capability::{self, CapSet};
use conex_runtime::seccomp::{self, Arch, Conditions, KernelVersion};
use conex_spec::runtime::Seccomp;
use conex_store::persist;

use crate::Error;
use crate::container::validate::SecurityOptions;
use crate::error::chain;

const MAX_PROFILE_BYTES: u64 = 4 << 20;

/// The container's bounding set.
pub(super) fn capabilities(asked: &HostConfig) -> Result<CapSet, Error> {
    let words = |list: &Option<StrSlice>| list.clone().unwrap_or_default().0;
    capability::apply(
        &words(&asked.cap_add),
        &words(&asked.cap_drop),
        asked.privileged,
    )
    .map_err(|error| Error::invalid(error.to_string()))
}

/// The filter: what the container asks for, what the engine is told, or the
/// built-in one; none for a privileged container that asks for none.
pub(super) fn seccomp(
    engine: &crate::Config,
    asked: &HostConfig,
    options: &SecurityOptions,
    capabilities: CapSet,
) -> Result<Option<Seccomp>, Error> {
    let builtin = || Ok(Some(seccomp::default_profile(capabilities, Arch::native())));
    match options
        .seccomp
        .as_deref()
        .filter(|profile| !profile.is_empty())
    {
        Some("unconfined") => return Ok(None),
        Some("builtin") => return builtin(),
        Some(profile) => return load(profile.as_bytes(), capabilities),
        None if asked.privileged => return Ok(None),
        None => {}
    }
    match engine.seccomp_profile.as_deref() {
        None => builtin(),
        Some(path) if path == Path::new("builtin") => builtin(),
        Some(path) if path == Path::new("unconfined") => Ok(None),
        Some(path) => {
            let profile = persist::read_limited(path, MAX_PROFILE_BYTES)
                .map_err(|error| Error::system("opening seccomp profile failed", &error))?;
            load(&profile, capabilities)
        }
    }
}

fn load(profile: &[u8], capabilities: CapSet) -> Result<Option<Seccomp>, Error> {
    let conditions = Conditions {
        capabilities,
        arch: Arch::native(),
        kernel: KernelVersion::running(),
    };
    seccomp::from_json(profile, &conditions).map_err(|error| Error::invalid(chain(&error)))
}

/// What was asked for, and in a network of its own what lets a program without
/// privileges have low ports and ping (COMPAT D9.12).
pub(super) fn sysctls(asked: &HostConfig) -> BTreeMap<String, String> {
    let mut sysctls = asked.sysctls.clone();
    let mode = asked.network_mode.as_str();
    if mode == "host" || mode.starts_with("container:") {
        return sysctls;
    }
    for (name, file, value) in [
        (
            "net.ipv4.ip_unprivileged_port_start",
            "ip_unprivileged_port_start",
            "0",
        ),
        (
            "net.ipv4.ping_group_range",
            "ping_group_range",
            "0 2147483647",
        ),
    ] {
        let is_said = sysctls.contains_key(name) || sysctls.contains_key(&name.replace('.', "/"));
        if !is_said && Path::new("/proc/sys/net/ipv4").join(file).exists() {
            sysctls.insert(name.to_owned(), value.to_owned());
        }
    }
    sysctls
}
