//! What a new container may ask for: every check of `create` in Docker's
//! words, and the defaults that inspect shows afterwards. It must not know
//! images, volumes or how a configuration becomes an OCI one.
//!
//! Order, as clients see it when more than one thing is wrong: conflicts of
//! modes, the portable half, the host half, then what this machine lacks.
//! What is accepted and not done is said in a warning, never passed over.
//!
//! Source: moby `daemon/container.go`, `daemon/daemon_unix.go`,
//! `runconfig/hostconfig_unix.go`.

mod machine;
mod modes;
mod resources;
mod security;

use std::net::IpAddr;
use std::path::Path;

use conex_api::container::{Config, HealthConfig, HostConfig, PortMap, RestartPolicy};
use conex_logs::driver::{Kind, Options};

use crate::error::chain;
use crate::{Error, id};
use machine::Machine;
pub(super) use security::SecurityOptions;

/// Checks a request and fills in its defaults; what is returned are the
/// warnings of the answer.
///
/// `config` is already merged with its image's, so what comes from an image
/// (exposed ports, for one) is no conflict of the user's.
pub(super) fn normalise(
    engine: &crate::Config,
    config: &mut Config,
    host: &mut HostConfig,
    id: &str,
) -> Result<Vec<String>, Error> {
    normalise_on(Machine::this(), engine, config, host, id)
}

/// Checks limits and policy by themselves, whatever container they are for.
pub(super) fn check_limits(wanted: &mut HostConfig) -> Result<(), Error> {
    check_restart(&wanted.restart_policy)?;
    // Swap alone changes the one of a container that has a limit of memory.
    if wanted.memory == 0 {
        wanted.memory_swap = 0;
    }
    resources::check(Machine::this(), wanted, &mut Vec::new())
}

/// Checks limits and policy that are to replace those of a container; warnings as above.
pub(super) fn check_update(host: &mut HostConfig) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    check_restart(&host.restart_policy)?;
    resources::check(Machine::this(), host, &mut warnings)?;
    Ok(warnings)
}

fn normalise_on(
    machine: &Machine,
    engine: &crate::Config,
    config: &mut Config,
    host: &mut HostConfig,
    id: &str,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    modes::check_conflicts(config, host)?;
    check_config(config)?;
    check_host(host)?;
    resources::check(machine, host, &mut warnings)?;
    modes::check(host)?;
    security::check(machine, host, &mut warnings)?;
    check_unsupported(host)?;
    set_defaults(machine, engine, config, host, id)?;
    modes::check_sysctls(host)?;
    warn_of_omissions(host, &mut warnings);
    Ok(warnings)
}

fn check_config(config: &mut Config) -> Result<(), Error> {
    if !config.working_dir.is_empty() {
        config.working_dir = absolute_dir(&config.working_dir)?;
    }
    super::stop::signal_of(&config.stop_signal)?;
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!(
                "invalid environment variable: {variable}"
            )));
        }
    }
    check_name("hostname", &config.hostname)?;
    check_name("domain name", &config.domainname)?;
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

/// A working directory, absolute and without `.` and `..`.
pub(super) fn absolute_dir(dir: &str) -> Result<String, Error> {
    if !dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(super::mount::clean(dir))
}

/// What sethostname(2) takes and what may stand in a line of `/etc/hosts`.
fn check_name(what: &str, name: &str) -> Result<(), Error> {
    const MAX_BYTES: usize = 64;
    let has_break = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if name.len() > MAX_BYTES || name.contains(has_break) || name.starts_with('-') {
        return Err(Error::invalid(format!("invalid {what} format: {name}")));
    }
    Ok(())
}

fn check_health(health: &HealthConfig) -> Result<(), Error> {
    const MIN_NS: i64 = 1_000_000;
    for (name, ns) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if ns != 0 && ns < MIN_NS {
            return Err(Error::invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

fn check_host(host: &HostConfig) -> Result<(), Error> {
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if host.auto_remove && restarts {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    host.mounts.iter().try_for_each(super::mount::check)?;
    for entry in host.extra_hosts.iter().flatten() {
        check_extra_host(entry)?;
    }
    check_ports(host.port_bindings.as_ref())?;
    check_restart(&host.restart_policy)?;
    for (path, words) in &host.tmpfs {
        super::mount::check_target(path).map_err(Error::invalid)?;
        super::spec::tmpfs_options(words)?;
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        let isolation = &host.isolation;
        return Err(Error::invalid(format!(
            "invalid isolation '{isolation}' on linux"
        )));
    }
    if host.annotations.contains_key("") {
        return Err(Error::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    if Path::new(&host.cgroup_parent)
        .components()
        .any(|part| part.as_os_str() == "..")
    {
        let parent = &host.cgroup_parent;
        return Err(Error::invalid(format!("invalid cgroup parent: {parent}")));
    }
    Ok(())
}

fn check_extra_host(entry: &str) -> Result<(), Error> {
    let Some((name, address)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
        return Err(Error::invalid(format!(
            "bad format for add-host: {entry:?}"
        )));
    };
    check_name("add-host", name)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(Error::invalid(format!(
            "invalid IP address in add-host: {address:?}"
        )));
    }
    Ok(())
}

fn check_ports(ports: Option<&PortMap>) -> Result<(), Error> {
    let invalid = |text: &str| Error::invalid(format!("invalid port specification: {text:?}"));
    let is_port = |text: &str| text.is_empty() || is_digits(text) && text.parse::<u16>().is_ok();
    for (port, bindings) in ports.into_iter().flatten() {
        let number = port
            .split_once('/')
            .map_or(port.as_str(), |(number, _)| number);
        if !is_port(number) {
            return Err(invalid(number));
        }
        for binding in bindings.iter().flatten() {
            let text = binding.host_port.as_str();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let is_backwards = || last.parse::<u16>().ok() < first.parse::<u16>().ok();
            if !is_port(first) || !is_port(last) || is_backwards() {
                return Err(invalid(text));
            }
        }
    }
    Ok(())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_restart(policy: &RestartPolicy) -> Result<(), Error> {
    let (name, count) = (policy.name.as_str(), policy.maximum_retry_count);
    let problem = match name {
        "" => return Ok(()),
        "no" | "always" | "unless-stopped" if count == 0 => return Ok(()),
        "on-failure" if count >= 0 => return Ok(()),
        "no" | "always" | "unless-stopped" if count < 0 => {
            "maximum retry count can only be used with 'on-failure' and cannot be negative".into()
        }
        "no" | "always" | "unless-stopped" => {
            "maximum retry count can only be used with 'on-failure'".into()
        }
        "on-failure" => "maximum retry count cannot be negative".into(),
        _ => format!(
            "unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ),
    };
    Err(Error::invalid(format!("invalid restart policy: {problem}")))
}

/// What this engine cannot do at all.
fn check_unsupported(host: &HostConfig) -> Result<(), Error> {
    if !matches!(
        host.runtime.as_str(),
        "" | RUNTIME | "runc" | "io.containerd.runc.v2"
    ) {
        let runtime = &host.runtime;
        return Err(Error::invalid(format!(
            "unknown or invalid runtime name: {runtime}"
        )));
    }
    if let Some(request) = host.device_requests.iter().flatten().next() {
        let alternatives: Vec<String> = request
            .capabilities
            .iter()
            .flatten()
            .map(|words| format!("[{}]", words.join(" ")))
            .collect();
        return Err(Error::not_implemented(format!(
            "could not select device driver {:?} with capabilities: [{}]",
            request.driver,
            alternatives.join(" ")
        )));
    }
    super::storage::size_bytes(&host.storage_opt).map(drop)
}

/// The runtime's name in inspect.
const RUNTIME: &str = "conex";

fn set_defaults(
    machine: &Machine,
    engine: &crate::Config,
    config: &mut Config,
    host: &mut HostConfig,
    id: &str,
) -> Result<(), Error> {
    host.port_bindings.get_or_insert_default();
    let or = |text: &mut String, default: &str| {
        if text.is_empty() {
            default.clone_into(text);
        }
    };
    modes::set_defaults(machine, engine, host);
    resources::set_defaults(machine, engine, host);
    security::set_defaults(machine, host);
    or(&mut host.runtime, RUNTIME);
    or(&mut host.restart_policy.name, "no");
    let shares_names = host.network_mode == "host" || host.uts_mode == "host";
    or(
        &mut config.hostname,
        if shares_names {
            &machine.hostname
        } else {
            id::short(id)
        },
    );

    let log = &mut host.log_config;
    or(&mut log.driver, &engine.log_driver);
    let options = log.config.get_or_insert_default();
    if log.driver == engine.log_driver {
        for (name, value) in &engine.log_options {
            options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let kind = Kind::from_name(&log.driver).map_err(|e| Error::invalid(chain(&e)))?;
    let words = options.clone().into_iter().collect();
    Options::parse(kind, &words).map_err(|e| Error::invalid(chain(&e)))?;
    Ok(())
}

/// What is accepted, so that clients go on working, and not done yet.
fn warn_of_omissions(host: &HostConfig, warnings: &mut Vec<String>) {
    let mut say = |is_asked: bool, text: &str| {
        if is_asked {
            warnings.push(text.to_owned());
        }
    };
    let publishes = host.publish_all_ports
        || host.port_bindings.iter().flatten().any(|(_, bindings)| {
            bindings
                .as_ref()
                .is_some_and(|bindings| !bindings.is_empty())
        });
    let is_host = host.network_mode == "host";
    say(
        publishes && is_host,
        "Published ports are discarded when using host network mode",
    );
    say(
        host.init == Some(true) && !matches!(host.pid_mode.as_str(), "" | "private"),
        "An init process is discarded without a PID namespace of the container's own",
    );
}

#[cfg(test)]
mod tests;
