//! dockerd's flags. Every one parses; those that have no effect here say so
//! when they are used (`settings.rs`).

use conex_cli::flag::{self, Flag, Matches};

/// What a command line asks for.
pub(super) enum Asked {
    /// The usage text.
    Help(String),
    /// The version.
    Version,
    /// A daemon.
    Run(Matches),
}

/// Flags that do something.
pub(super) const EFFECTIVE: &[Flag] = &[
    Flag::bool(
        "allow-direct-routing",
        "Allow remote access to published ports on container IP addresses",
    ),
    Flag::bool(
        "auto-start",
        "Leave when idle and say \"ready\" on standard output",
    )
    .hidden(),
    Flag::string("bip", "IPv4 address for the default bridge"),
    Flag::string("bip6", "IPv6 address for the default bridge"),
    Flag::string("bridge", "Attach containers to a network bridge").short('b'),
    Flag::string("cgroup-parent", "Set parent cgroup for all containers"),
    Flag::string("config-file", "Daemon configuration file").default("/etc/conex/daemon.json"),
    Flag::string("data-root", "Root directory of persistent state").default("/var/lib/conex"),
    Flag::bool("debug", "Enable debug mode").short('D'),
    Flag::list(
        "default-address-pool",
        "Default address pools for node specific local networks",
    ),
    Flag::string(
        "default-cgroupns-mode",
        "Default mode for containers cgroup namespace (\"host\" | \"private\")",
    ),
    Flag::string(
        "default-gateway",
        "Default gateway IPv4 address for the default bridge network",
    ),
    Flag::string(
        "default-gateway-v6",
        "Default gateway IPv6 address for the default bridge network",
    ),
    Flag::list("default-network-opt", "Default network options"),
    Flag::string("default-runtime", "Default OCI runtime for containers").default("conex"),
    Flag::new(
        flag::Kind::Bytes,
        "default-shm-size",
        "Default shm size for containers",
    )
    .default("64MiB"),
    Flag::list("default-ulimit", "Default ulimits for containers"),
    Flag::list("dns", "DNS server to use"),
    Flag::list("dns-opt", "DNS options to use"),
    Flag::list("dns-search", "DNS search domains to use"),
    Flag::string("exec-root", "Root directory for execution state files").default("/run/conex"),
    Flag::bool("experimental", "Enable experimental features"),
    Flag::string("fixed-cidr", "IPv4 subnet for the default bridge network"),
    Flag::string(
        "fixed-cidr-v6",
        "IPv6 subnet for the default bridge network",
    ),
    Flag::string("group", "Group for the unix socket").short('G'),
    Flag::list("host", "Daemon socket(s) to connect to").short('H'),
    Flag::list(
        "host-gateway-ip",
        "IP addresses that the special 'host-gateway' string resolves to",
    ),
    Flag::bool(
        "icc",
        "Enable inter-container communication for the default bridge network",
    )
    .default("true"),
    Flag::string(
        "ip",
        "Host IP for port publishing from the default bridge network",
    )
    .default("0.0.0.0"),
    Flag::bool("ip-forward", "Enable IP forwarding in system configuration").default("true"),
    Flag::bool(
        "ip-masq",
        "Enable IP masquerading for the default bridge network",
    )
    .default("true"),
    Flag::bool("ip6tables", "Enable addition of ip6tables rules").default("true"),
    Flag::bool("iptables", "Enable addition of iptables rules").default("true"),
    Flag::bool(
        "ipv6",
        "Enable IPv6 networking for the default bridge network",
    ),
    Flag::list("label", "Set key=value labels to the daemon"),
    Flag::bool(
        "live-restore",
        "Keep containers running while the daemon is down (false: stop them with it)",
    )
    .default("true"),
    Flag::string("log-driver", "Default driver for container logs").default("json-file"),
    Flag::string("log-format", "Set the logging format (\"text\"|\"json\")").default("text"),
    Flag::string(
        "log-level",
        "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
    )
    .short('l')
    .default("info"),
    Flag::bool(
        "init",
        "Run an init in the container to forward signals and reap processes",
    ),
    Flag::list("log-opt", "Default log driver options for containers"),
    Flag::string("http-proxy", "HTTP proxy URL to use for outgoing traffic"),
    Flag::string("https-proxy", "HTTPS proxy URL to use for outgoing traffic"),
    Flag::list(
        "insecure-registry",
        "Use insecure communication with this registry",
    ),
    Flag::int(
        "max-concurrent-downloads",
        "Set the max concurrent downloads",
    )
    .default("3"),
    Flag::int("max-concurrent-uploads", "Set the max concurrent uploads").default("5"),
    Flag::int(
        "max-download-attempts",
        "Set the max download attempts for each pull",
    )
    .default("5"),
    Flag::string(
        "no-proxy",
        "Comma-separated list of hosts or IP addresses for which the proxy is skipped",
    ),
    Flag::list("registry-mirror", "Preferred registry mirror"),
    Flag::list(
        "certificate-dir",
        "Directory of registries' certificates and hosts.toml (default /etc/conex/certs.d, then /etc/docker/certs.d)",
    ),
    Flag::list(
        "mirror",
        "Place asked before a registry, for any image (PREFIX=URL)",
    ),
    Flag::int("mtu", "Set the MTU for the default bridge network").default("1500"),
    Flag::bool(
        "no-new-privileges",
        "Set no-new-privileges by default for new containers",
    ),
    Flag::string("pidfile", "Path to use for daemon PID file")
        .short('p')
        .default("/run/conex.pid"),
    Flag::bool(
        "respect-host-firewall",
        "Let the host's own firewall decide who reaches published ports",
    ),
    Flag::string(
        "seccomp-profile",
        "Path to seccomp profile. Set to \"unconfined\" to disable the default seccomp profile",
    )
    .default("builtin"),
    Flag::int("shutdown-timeout", "Set the default shutdown timeout").default("15"),
    Flag::string("storage-driver", "Storage driver to use").short('s'),
    Flag::bool("tls", "Use TLS; implied by --tlsverify"),
    Flag::string("tlscacert", "Trust certs signed only by this CA"),
    Flag::string("tlscert", "Path to TLS certificate file"),
    Flag::string("tlskey", "Path to TLS key file"),
    Flag::bool("tlsverify", "Use TLS and verify the remote"),
    Flag::bool("userland-proxy", "Use userland proxy for loopback traffic").default("true"),
    Flag::bool("validate", "Validate daemon configuration and exit"),
    Flag::bool("version", "Print version information and quit").short('v'),
];

/// Flags that are understood and change nothing, each with the reason why that
/// does no harm, or what is missing. Refused instead: see [`REFUSED`].
pub(super) const WITHOUT_EFFECT: &[Flag] = &[
    Flag::list(
        "add-runtime",
        "Register an additional OCI compatible runtime",
    ),
    Flag::string(
        "bridge-accept-fwmark",
        "In bridge networks, accept packets with this firewall mark/mask",
    ),
    Flag::list("cdi-spec-dir", "CDI specification directories to use"),
    Flag::string("containerd", "containerd grpc address"),
    Flag::string("containerd-namespace", "Containerd namespace to use"),
    Flag::string(
        "containerd-plugins-namespace",
        "Containerd namespace to use for plugins",
    ),
    Flag::int(
        "cpu-rt-period",
        "Limit the CPU real-time period in microseconds",
    ),
    Flag::int(
        "cpu-rt-runtime",
        "Limit the CPU real-time runtime in microseconds",
    ),
    Flag::bool("cri-containerd", "start containerd with cri"),
    Flag::string(
        "default-ipc-mode",
        "Default mode for containers ipc (\"shareable\" | \"private\")",
    ),
    Flag::list("exec-opt", "Runtime execution options"),
    Flag::list("feature", "Enable feature in the daemon"),
    Flag::string(
        "firewall-backend",
        "Firewall backend to use, iptables or nftables",
    ),
    Flag::string("init-path", "Path to the docker-init binary"),
    Flag::bool(
        "ip-forward-no-drop",
        "Do not set the filter-FORWARD policy to DROP",
    ),
    Flag::string(
        "metrics-addr",
        "Set default address and port to serve the metrics api on",
    ),
    Flag::int("network-control-plane-mtu", "Network Control plane MTU"),
    Flag::list("node-generic-resource", "Advertise user-defined resource"),
    Flag::int("oom-score-adjust", "Set the oom_score_adj for the daemon"),
    Flag::bool("raw-logs", "Full timestamps without ANSI coloring"),
    Flag::bool("selinux-enabled", "Enable selinux support"),
    Flag::list("storage-opt", "Storage driver options"),
    Flag::string(
        "swarm-default-advertise-addr",
        "Set default address or interface for swarm advertised address",
    ),
    Flag::string("userland-proxy-path", "Path to the userland proxy binary"),
];

/// Flags whose silent absence would open a door: a daemon that cannot honour
/// them does not start.
pub(super) const REFUSED: &[Flag] = &[
    Flag::list("authorization-plugin", "Authorization plugins to load"),
    Flag::bool("rootless", "Enable rootless mode"),
    Flag::string("userns-remap", "User/Group setting for user namespaces"),
];

const ALL: &[&[Flag]] = &[EFFECTIVE, WITHOUT_EFFECT, REFUSED];

/// Parses the words after `daemon`.
pub(super) fn parse(words: &[String]) -> Result<Asked, String> {
    let matches = flag::parse(ALL, words, true).map_err(|e| e.to_string())?;
    if matches.wants_help() {
        return Ok(Asked::Help(help()));
    }
    if matches.bool("version") {
        return Ok(Asked::Version);
    }
    if let Some(word) = matches.args().first() {
        return Err(format!(
            "\"conex daemon\" accepts no arguments, but got {word:?}"
        ));
    }
    Ok(Asked::Run(matches))
}

fn help() -> String {
    let mut text = String::from(
        "Usage:  conex daemon [OPTIONS]\n\nA self-sufficient engine for containers.\n\nOptions:\n",
    );
    let mut flags: Vec<&Flag> = ALL
        .iter()
        .flat_map(|t| t.iter())
        .filter(|f| !f.hidden)
        .collect();
    flags.sort_by_key(|f| f.long);
    for flag in flags {
        let short = flag
            .short
            .map_or_else(|| "    ".to_owned(), |c| format!("-{c}, "));
        let spelling = format!("{short}--{} {}", flag.long, flag.kind.type_name());
        let default = match flag.default {
            "" => String::new(),
            value => format!(" (default {value:?})"),
        };
        let idle = WITHOUT_EFFECT.iter().any(|f| f.long == flag.long);
        let note = if idle { " (no effect)" } else { "" };
        text.push_str(&format!(
            "  {:<42} {}{default}{note}\n",
            spelling.trim_end(),
            flag.help
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_one_name() {
        let mut names: Vec<&str> = ALL.iter().flat_map(|t| t.iter()).map(|f| f.long).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn help_names_every_flag() {
        let text = help();
        for flag in ALL.iter().flat_map(|t| t.iter()).filter(|f| !f.hidden) {
            assert!(text.contains(&format!("--{}", flag.long)), "{}", flag.long);
        }
    }
}
