//! The flag tables of `run` and `create`, in Docker's words.

use super::{address, device, key_value, mount, network, policy, resource};
use crate::flag::{Check, Flag, Kind};

/// A flag shown with another type's name than its own.
const fn typed(long: &'static str, name: &'static str, check: Check, help: &'static str) -> Flag {
    Flag::new(Kind::CheckedList { name, check }, long, help)
}

const fn bytes(long: &'static str, help: &'static str) -> Flag {
    Flag::new(Kind::Bytes, long, help)
}

const fn duration(long: &'static str, help: &'static str) -> Flag {
    Flag::new(Kind::Duration, long, help)
}

/// Refuses nothing: for maps, whose type name is all that is special.
fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

fn check_gpus(text: &str) -> Result<(), String> {
    device::gpus(text).map(drop)
}

fn check_weight(text: &str) -> Result<(), String> {
    device::weight(text).map(drop)
}

fn check_bytes_rate(text: &str) -> Result<(), String> {
    device::bytes_rate(text).map(drop)
}

fn check_operations_rate(text: &str) -> Result<(), String> {
    device::operations_rate(text).map(drop)
}

/// What `run` alone takes.
pub(in crate::command::container) const RUN: &[Flag] = &[
    Flag::bool(
        "detach",
        "Run container in background and print container ID",
    )
    .short('d'),
    Flag::string(
        "detach-keys",
        "Override the key sequence for detaching a container",
    ),
    Flag::bool("sig-proxy", "Proxy received signals to the process").default("true"),
    Flag::string(
        "pull",
        "Pull image before running (\"always\", \"missing\", \"never\")",
    )
    .default("missing"),
];

/// What `create` alone takes.
pub(in crate::command::container) const CREATE: &[Flag] = &[Flag::string(
    "pull",
    "Pull image before creating (\"always\", \"missing\", \"never\")",
)
.default("missing")];

/// What both take and the create request does not hold.
pub(in crate::command::container) const AROUND: &[Flag] = &[
    Flag::bool("disable-content-trust", "Skip image verification").default("true"),
    // `-h` is the host name here, so help has only its long form.
    Flag::bool("help", "Print usage"),
    Flag::string("name", "Assign a name to the container"),
    Flag::string(
        "platform",
        "Set platform if server is multi-platform capable",
    ),
    Flag::bool("quiet", "Suppress the pull output").short('q'),
];

/// What the create request holds.
pub(in crate::command::container) const REQUEST: &[Flag] = &[
    Flag::checked_list(
        "add-host",
        "list",
        address::check_extra_host,
        "Add a custom host-to-IP mapping (host:ip)",
    ),
    typed(
        "annotation",
        "map",
        anything,
        "Add an annotation to the container (passed through to the OCI runtime)",
    )
    .default("map[]"),
    typed(
        "attach",
        "list",
        policy::check_attach,
        "Attach to STDIN, STDOUT or STDERR",
    )
    .short('a'),
    Flag::new(
        Kind::Uint16,
        "blkio-weight",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    typed(
        "blkio-weight-device",
        "list",
        check_weight,
        "Block IO weight (relative device weight)",
    )
    .default("[]"),
    Flag::list("cap-add", "Add Linux capabilities"),
    Flag::list("cap-drop", "Drop Linux capabilities"),
    Flag::string("cgroup-parent", "Optional parent cgroup for the container"),
    Flag::string(
        "cgroupns",
        "Cgroup namespace to use (host|private)\n\
         'host':    Run the container in the Docker host's cgroup namespace\n\
         'private': Run the container in its own private cgroup namespace\n\
         '':        Use the cgroup namespace as configured by the\n\
         \x20          default-cgroupns-mode option on the daemon (default)",
    ),
    Flag::string("cidfile", "Write the container ID to the file"),
    Flag::int("cpu-count", "CPU count (Windows only)").hidden(),
    Flag::int("cpu-percent", "CPU percent (Windows only)").hidden(),
    Flag::int(
        "cpu-period",
        "Limit CPU CFS (Completely Fair Scheduler) period",
    ),
    Flag::int(
        "cpu-quota",
        "Limit CPU CFS (Completely Fair Scheduler) quota",
    ),
    Flag::int(
        "cpu-rt-period",
        "Limit CPU real-time period in microseconds",
    ),
    Flag::int(
        "cpu-rt-runtime",
        "Limit CPU real-time runtime in microseconds",
    ),
    Flag::int("cpu-shares", "CPU shares (relative weight)").short('c'),
    Flag::checked("cpus", "decimal", resource::check_cpus, "Number of CPUs"),
    Flag::string("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::string("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::list("device", "Add a host device to the container"),
    Flag::checked_list(
        "device-cgroup-rule",
        "list",
        device::check_cgroup_rule,
        "Add a rule to the cgroup allowed devices list",
    ),
    typed(
        "device-read-bps",
        "list",
        check_bytes_rate,
        "Limit read rate (bytes per second) from a device",
    )
    .default("[]"),
    typed(
        "device-read-iops",
        "list",
        check_operations_rate,
        "Limit read rate (IO per second) from a device",
    )
    .default("[]"),
    typed(
        "device-write-bps",
        "list",
        check_bytes_rate,
        "Limit write rate (bytes per second) to a device",
    )
    .default("[]"),
    typed(
        "device-write-iops",
        "list",
        check_operations_rate,
        "Limit write rate (IO per second) to a device",
    )
    .default("[]"),
    Flag::checked_list("dns", "list", address::check_ip, "Set custom DNS servers"),
    Flag::list("dns-opt", "Set DNS options").hidden(),
    Flag::list("dns-option", "Set DNS options"),
    Flag::checked_list(
        "dns-search",
        "list",
        address::check_search_domain,
        "Set custom DNS search domains",
    ),
    Flag::string("domainname", "Container NIS domain name"),
    Flag::string(
        "entrypoint",
        "Overwrite the default ENTRYPOINT of the image",
    ),
    Flag::checked_list(
        "env",
        "list",
        key_value::check_env,
        "Set environment variables",
    )
    .short('e'),
    Flag::list("env-file", "Read in a file of environment variables"),
    Flag::list("expose", "Expose a port or a range of ports"),
    typed(
        "gpus",
        "gpu-request",
        check_gpus,
        "GPU devices to add to the container ('all' to pass all GPUs)",
    ),
    Flag::list("group-add", "Add additional groups to join"),
    Flag::string("health-cmd", "Command to run to check health"),
    duration(
        "health-interval",
        "Time between running the check (ms|s|m|h) (default 0s)",
    ),
    Flag::int(
        "health-retries",
        "Consecutive failures needed to report unhealthy",
    ),
    duration(
        "health-start-interval",
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    duration(
        "health-start-period",
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    duration(
        "health-timeout",
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    Flag::string("hostname", "Container host name").short('h'),
    Flag::bool(
        "init",
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    Flag::bool("interactive", "Keep STDIN open even if not attached").short('i'),
    bytes(
        "io-maxbandwidth",
        "Maximum IO bandwidth limit for the system drive (Windows only)",
    )
    .hidden(),
    Flag::new(
        Kind::Uint,
        "io-maxiops",
        "Maximum IOps limit for the system drive (Windows only)",
    )
    .hidden(),
    Flag::string("ip", "IPv4 address (e.g., 172.30.100.104)"),
    Flag::string("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    Flag::string("ipc", "IPC mode to use"),
    Flag::string("isolation", "Container isolation technology"),
    bytes("kernel-memory", "Kernel memory limit")
        .deprecated("and no longer supported by the kernel"),
    Flag::checked_list(
        "label",
        "list",
        key_value::check_label,
        "Set meta data on a container",
    )
    .short('l'),
    Flag::list("label-file", "Read in a line delimited file of labels"),
    Flag::checked_list(
        "link",
        "list",
        address::check_link,
        "Add link to another container",
    ),
    Flag::list("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    Flag::string("log-driver", "Logging driver for the container"),
    Flag::list("log-opt", "Log driver options"),
    Flag::string(
        "mac-address",
        "Container MAC address (e.g., 92:d0:c6:0a:29:33)",
    ),
    bytes("memory", "Memory limit").short('m'),
    bytes("memory-reservation", "Memory soft limit"),
    Flag::checked(
        "memory-swap",
        "bytes",
        resource::check_memory_swap,
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    Flag::int(
        "memory-swappiness",
        "Tune container memory swappiness (0 to 100)",
    )
    .default("-1"),
    typed(
        "mount",
        "mount",
        mount::check,
        "Attach a filesystem mount to the container",
    ),
    typed(
        "net",
        "network",
        network::check,
        "Connect a container to a network",
    )
    .hidden(),
    Flag::list("net-alias", "Add network-scoped alias for the container").hidden(),
    typed(
        "network",
        "network",
        network::check,
        "Connect a container to a network",
    ),
    Flag::list(
        "network-alias",
        "Add network-scoped alias for the container",
    ),
    Flag::bool(
        "no-healthcheck",
        "Disable any container-specified HEALTHCHECK",
    ),
    Flag::bool("oom-kill-disable", "Disable OOM Killer"),
    Flag::int(
        "oom-score-adj",
        "Tune host's OOM preferences (-1000 to 1000)",
    ),
    Flag::string("pid", "PID namespace to use"),
    Flag::int(
        "pids-limit",
        "Tune container pids limit (set -1 for unlimited)",
    ),
    Flag::bool("privileged", "Give extended privileges to this container"),
    Flag::list("publish", "Publish a container's port(s) to the host").short('p'),
    Flag::bool("publish-all", "Publish all exposed ports to random ports").short('P'),
    Flag::bool(
        "read-only",
        "Mount the container's root filesystem as read only",
    ),
    Flag::string("restart", "Restart policy to apply when a container exits").default("no"),
    Flag::bool(
        "rm",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    Flag::string("runtime", "Runtime to use for this container"),
    Flag::list("security-opt", "Security Options"),
    bytes("shm-size", "Size of /dev/shm"),
    Flag::string("stop-signal", "Signal to stop the container"),
    Flag::int("stop-timeout", "Timeout (in seconds) to stop a container"),
    Flag::list("storage-opt", "Storage driver options for the container"),
    typed("sysctl", "map", resource::check_sysctl, "Sysctl options").default("map[]"),
    Flag::list("tmpfs", "Mount a tmpfs directory"),
    Flag::bool("tty", "Allocate a pseudo-TTY").short('t'),
    typed("ulimit", "ulimit", resource::check_ulimit, "Ulimit options").default("[]"),
    Flag::string("user", "Username or UID (format: <name|uid>[:<group|gid>])").short('u'),
    Flag::string("userns", "User namespace to use"),
    Flag::string("uts", "UTS namespace to use"),
    Flag::list("volume", "Bind mount a volume").short('v'),
    Flag::string("volume-driver", "Optional volume driver for the container"),
    Flag::list(
        "volumes-from",
        "Mount volumes from the specified container(s)",
    ),
    Flag::string("workdir", "Working directory inside the container").short('w'),
];
