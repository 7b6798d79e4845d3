//! The options of `run` and `create`: how their flags become the body of a create request.
//!
//! Only this machine's part is done here: files are read, relative paths made absolute, and what
//! Docker's client refuses is refused in its words. What needs the engine (images, networks,
//! limits of the kernel) is left to the engine. Each file of the folder knows one kind of flag.

mod address;
mod device;
pub(super) mod flags;
mod key_value;
mod mount;
mod network;
pub(super) mod policy;
mod port;
pub(super) mod resource;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use conex_api::container::{
    Config, CreateRequest, DeviceRequest, Empty, HealthConfig, HostConfig, LogConfig,
};

use crate::error::CliError;
use crate::flag::Matches;

pub(super) use address::is_loopback;
pub(super) use key_value::check_env;

/// The variables of `--env-file` and `--env`, in the order they win.
pub(super) fn variables(matches: &Matches) -> Result<Vec<String>, CliError> {
    let lookup = key_value::from_environment;
    let mut variables = Vec::new();
    for file in matches.list("env-file") {
        variables.extend(key_value::read_file(Path::new(file), &lookup)?);
    }
    for pair in matches.list("env") {
        variables.push(key_value::env(pair, &lookup).map_err(CliError::Message)?);
    }
    Ok(variables)
}

/// The body of a create request for the flags and arguments of `run` or `create`.
///
/// # Errors
/// A [`CliError::Message`] or [`CliError::Open`] with the text Docker's client prints; the caller
/// adds the exit code and the hint about help.
pub(super) fn create_request(matches: &Matches) -> Result<CreateRequest, CliError> {
    let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let variables = variables(matches)?;
    let mut labels = Vec::new();
    for file in matches.list("label-file") {
        labels.extend(key_value::read_file(Path::new(file), &|_| None)?);
    }
    labels.extend_from_slice(matches.list("label"));
    build(matches, variables, &labels, &current_dir).map_err(CliError::Message)
}

fn build(
    matches: &Matches,
    variables: Vec<String>,
    labels: &[String],
    current_dir: &Path,
) -> Result<CreateRequest, String> {
    let text = |flag: &str| matches.str(flag).to_owned();
    let mac = matches.str("mac-address");
    if !mac.is_empty() && !address::is_mac(mac) {
        return Err(format!("{mac} is not a valid mac address"));
    }
    let swappiness = matches.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }

    let (image, command) = matches.args().split_first().ok_or("an image is required")?;
    let (volumes, binds) = volumes(matches.list("volume"), current_dir)?;
    let ports = port::parse(matches.list("publish"), matches.list("expose"))?;
    let mut host = host_config(matches, current_dir)?;
    host.binds = some(binds);
    host.port_bindings = Some(ports.bindings);
    let networking_config = networks(matches, &mut host)?;

    let attach = |stream: &str| {
        matches
            .list("attach")
            .iter()
            .any(|s| s.eq_ignore_ascii_case(stream))
    };
    // Without --attach both outputs are.
    let attach_outputs = matches.list("attach").is_empty();
    let interactive = matches.bool("interactive");
    let attach_stdin = interactive || attach("stdin");
    let config = Config {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin,
        attach_stdout: attach_outputs || attach("stdout"),
        attach_stderr: attach_outputs || attach("stderr"),
        exposed_ports: ports.exposed,
        tty: matches.bool("tty"),
        open_stdin: interactive,
        // The container's input ends when this client leaves.
        stdin_once: interactive && attach_stdin,
        env: some(variables),
        cmd: some(command.to_vec()).map(Into::into),
        healthcheck: health(matches)?,
        image: image.clone(),
        volumes: Some(volumes),
        working_dir: text("workdir"),
        // `--entrypoint ""` is a list of one empty string: it drops the image's.
        entrypoint: matches
            .opt_str("entrypoint")
            .map(|word| vec![word.to_owned()].into()),
        labels: Some(key_value::map(labels)),
        stop_signal: text("stop-signal"),
        stop_timeout: matches
            .is_set("stop-timeout")
            .then(|| matches.int("stop-timeout")),
        ..Config::default()
    };
    Ok(CreateRequest {
        config,
        host_config: host,
        networking_config,
    })
}

/// `--volume` values as anonymous volumes and binds, each once.
fn volumes(
    values: &[String],
    current_dir: &Path,
) -> Result<(BTreeMap<String, Empty>, Vec<String>), String> {
    let mut anonymous = BTreeMap::new();
    let mut binds = Vec::new();
    for value in values {
        match volume::parse(value, current_dir)? {
            volume::Volume::Anonymous(target) => {
                anonymous.insert(target, Empty {});
            }
            volume::Volume::Bind(bind) if binds.contains(&bind) => {}
            volume::Volume::Bind(bind) => binds.push(bind),
        }
    }
    Ok((anonymous, binds))
}

fn host_config(matches: &Matches, current_dir: &Path) -> Result<HostConfig, String> {
    let text = |flag: &str| matches.str(flag).to_owned();
    let list = |flag: &str| matches.list(flag).to_vec();
    let each =
        |flag: &str, parse: fn(&str) -> Result<String, String>| -> Result<Vec<String>, String> {
            matches
                .list(flag)
                .iter()
                .map(|value| parse(value))
                .collect()
        };

    let (pid, uts, userns, cgroupns) = (text("pid"), text("uts"), text("userns"), text("cgroupns"));
    policy::check_namespaces(&pid, &uts, &userns, &cgroupns)?;
    let restart_policy = policy::restart(matches.str("restart"))?;
    let auto_remove = matches.bool("rm");
    if auto_remove && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    let log_driver = text("log-driver");
    let log_options = policy::log_options(&log_driver, matches.list("log-opt"))?;
    let security = policy::security(matches.list("security-opt"))?;
    let open_paths = || security.open_system_paths.then(Vec::new);
    let devices = device::parse(matches.list("device"))?;
    let mut device_requests = parse_each(matches, "gpus", device::gpus)?;
    if !devices.cdi_names.is_empty() {
        let device_ids = Some(devices.cdi_names);
        device_requests.push(DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids,
            ..DeviceRequest::default()
        });
    }
    let mounts: Result<Vec<_>, String> = matches
        .list("mount")
        .iter()
        .map(|value| mount::parse(value, current_dir))
        .collect();
    let swappiness = matches.int("memory-swappiness");
    let tmpfs = matches.list("tmpfs").iter().map(|value| {
        // The options are the kernel's; only the path is split off.
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        (path.to_owned(), options.to_owned())
    });

    Ok(HostConfig {
        container_id_file: text("cidfile"),
        log_config: LogConfig {
            driver: log_driver,
            config: Some(log_options),
        },
        restart_policy,
        auto_remove,
        volume_driver: text("volume-driver"),
        volumes_from: some(list("volumes-from")),
        annotations: key_value::map(matches.list("annotation")),
        cap_add: some(list("cap-add")).map(Into::into),
        cap_drop: some(list("cap-drop")).map(Into::into),
        cgroupns_mode: cgroupns,
        // Lists and never null, as Docker's client sends them.
        dns: Some(each("dns", address::ip)?),
        dns_options: Some([list("dns-option"), list("dns-opt")].concat()),
        dns_search: Some(each("dns-search", address::search_domain)?),
        extra_hosts: some(each("add-host", address::extra_host)?),
        group_add: some(list("group-add")),
        ipc_mode: text("ipc"),
        links: some(list("link")),
        oom_score_adj: i32::try_from(matches.int("oom-score-adj"))
            .map_err(|_| "--oom-score-adj: value out of range".to_owned())?,
        pid_mode: pid,
        privileged: matches.bool("privileged"),
        publish_all_ports: matches.bool("publish-all"),
        readonly_rootfs: matches.bool("read-only"),
        masked_paths: open_paths(),
        readonly_paths: open_paths(),
        security_opt: some(security.options),
        storage_opt: policy::storage_options(matches.list("storage-opt"))?,
        tmpfs: tmpfs.collect(),
        uts_mode: uts,
        userns_mode: userns,
        shm_size: matches.bytes("shm-size"),
        sysctls: key_value::map(matches.list("sysctl")),
        runtime: text("runtime"),
        isolation: text("isolation"),
        cpu_shares: matches.int("cpu-shares"),
        memory: matches.bytes("memory"),
        nano_cpus: optional(matches, "cpus", resource::nano_cpus)?,
        cgroup_parent: text("cgroup-parent"),
        blkio_weight: u16::try_from(matches.uint("blkio-weight"))
            .map_err(|_| "--blkio-weight: value out of range".to_owned())?,
        blkio_weight_device: Some(parse_each(matches, "blkio-weight-device", device::weight)?),
        blkio_device_read_bps: Some(parse_each(matches, "device-read-bps", device::bytes_rate)?),
        blkio_device_write_bps: Some(parse_each(matches, "device-write-bps", device::bytes_rate)?),
        blkio_device_read_iops: Some(parse_each(
            matches,
            "device-read-iops",
            device::operations_rate,
        )?),
        blkio_device_write_iops: Some(parse_each(
            matches,
            "device-write-iops",
            device::operations_rate,
        )?),
        cpu_period: matches.int("cpu-period"),
        cpu_quota: matches.int("cpu-quota"),
        cpu_realtime_period: matches.int("cpu-rt-period"),
        cpu_realtime_runtime: matches.int("cpu-rt-runtime"),
        cpuset_cpus: text("cpuset-cpus"),
        cpuset_mems: text("cpuset-mems"),
        devices: Some(devices.mappings),
        device_cgroup_rules: some(list("device-cgroup-rule")),
        device_requests: some(device_requests),
        memory_reservation: matches.bytes("memory-reservation"),
        memory_swap: optional(matches, "memory-swap", resource::memory_swap)?,
        memory_swappiness: (swappiness != -1).then_some(swappiness),
        oom_kill_disable: Some(matches.bool("oom-kill-disable")),
        pids_limit: matches
            .is_set("pids-limit")
            .then(|| matches.int("pids-limit")),
        ulimits: Some(resource::ulimits(matches.list("ulimit"))?),
        cpu_count: matches.int("cpu-count"),
        cpu_percent: matches.int("cpu-percent"),
        io_maximum_iops: matches.uint("io-maxiops"),
        io_maximum_bandwidth: u64::try_from(matches.bytes("io-maxbandwidth")).unwrap_or_default(),
        mounts: mounts?,
        init: matches.is_set("init").then(|| matches.bool("init")),
        ..HostConfig::default()
    })
}

fn networks(
    matches: &Matches,
    host: &mut HostConfig,
) -> Result<conex_api::container::NetworkingConfig, String> {
    let aliases = [matches.list("network-alias"), matches.list("net-alias")].concat();
    let legacy = network::Legacy {
        aliases: &aliases,
        links: matches.list("link"),
        ipv4: matches.str("ip"),
        ipv6: matches.str("ip6"),
        mac: matches.str("mac-address"),
        link_local_ips: matches.list("link-local-ip"),
    };
    let values = [matches.list("network"), matches.list("net")].concat();
    let networks = network::parse(&values, legacy)?;
    host.network_mode = networks.mode;
    Ok(networks.config)
}

fn health(matches: &Matches) -> Result<Option<HealthConfig>, String> {
    let command = matches.str("health-cmd");
    let health = HealthConfig {
        test: if command.is_empty() {
            Vec::new()
        } else {
            vec!["CMD-SHELL".to_owned(), command.to_owned()]
        },
        interval: matches.duration_ns("health-interval"),
        timeout: matches.duration_ns("health-timeout"),
        start_period: matches.duration_ns("health-start-period"),
        start_interval: matches.duration_ns("health-start-interval"),
        retries: matches.int("health-retries"),
    };
    let is_set = health != HealthConfig::default();
    if matches.bool("no-healthcheck") {
        if is_set {
            return Err("--no-healthcheck conflicts with --health-* options".to_owned());
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        }));
    }
    for (value, flag) in [
        (health.interval, "health-interval"),
        (health.timeout, "health-timeout"),
        (health.retries, "health-retries"),
        (health.start_period, "health-start-period"),
        (health.start_interval, "health-start-interval"),
    ] {
        if value < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
    }
    Ok(is_set.then_some(health))
}

/// A list, or null where Docker's client sends none.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn parse_each<T>(
    matches: &Matches,
    flag: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    matches
        .list(flag)
        .iter()
        .map(|value| parse(value))
        .collect()
}

/// A number's flag, 0 when not given.
pub(super) fn optional(
    matches: &Matches,
    flag: &str,
    parse: fn(&str) -> Result<i64, String>,
) -> Result<i64, String> {
    matches.opt_str(flag).map_or(Ok(0), parse)
}

#[cfg(test)]
mod tests;
