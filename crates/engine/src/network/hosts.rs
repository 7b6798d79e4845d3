//! `/etc/hosts` of containers: lines for localhost, for other machines and for
//! the container itself (COMPAT D9.4). Pure: files are read and written
//! elsewhere.
//!
//! ```text
//! 127.0.0.1   localhost                  always
//! 10.0.0.9    db                         --add-host, --link
//! 172.17.0.2  web.example.org web        one line per address of an endpoint
//! ```
//!
//! Source: moby `daemon/libnetwork/etchosts`.

use std::net::IpAddr;

/// The lines every container begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost\n";
const LOCAL_V6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                        ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The file a container starts with.
pub(crate) fn first_lines(host_file: Option<&str>, others: &[(IpAddr, String)]) -> String {
    let mut text = match host_file {
        Some(own) if !own.is_empty() => own.to_owned(),
        _ => format!("{LOCAL}{LOCAL_V6}"),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (address, names) in others {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

/// What a container is called in its own line: the full name first.
pub(crate) fn own_names(hostname: &str, domain: &str) -> String {
    if domain.is_empty() {
        // A host name may have brought its domain.
        return match hostname.split_once('.') {
            Some((short, _)) if !short.is_empty() => format!("{hostname} {short}"),
            _ => hostname.to_owned(),
        };
    }
    format!("{hostname}.{domain} {hostname}")
}

/// The file with lines of its own for these addresses, after all others.
pub(crate) fn with_own(text: &str, addresses: &[IpAddr], names: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for address in addresses {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

/// The file without the lines of its own for these addresses; whatever else
/// somebody wrote into it stays.
pub(crate) fn without_own(text: &str, addresses: &[IpAddr], names: &str) -> String {
    let own: Vec<String> = addresses.iter().map(|a| format!("{a}\t{names}")).collect();
    text.lines()
        .filter(|line| !own.iter().any(|o| o == line))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_container_finds_itself_by_both_its_names() {
        assert_eq!(own_names("web", ""), "web");
        assert_eq!(own_names("web", "example.org"), "web.example.org web");
        assert_eq!(own_names("web.example.org", ""), "web.example.org web");
    }

    #[test]
    fn own_lines_come_last_and_go_alone() {
        let start = first_lines(None, &[(ip("10.0.0.9"), "db".into())]);
        let own = with_own(&start, &[ip("172.17.0.2"), ip("fd00::2")], "web");
        assert!(own.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(own.ends_with("10.0.0.9\tdb\n172.17.0.2\tweb\nfd00::2\tweb\n"));
        let edited = format!("{own}1.2.3.4 mine\n");
        let left = without_own(&edited, &[ip("172.17.0.2"), ip("fd00::2")], "web");
        assert_eq!(left, format!("{start}1.2.3.4 mine\n"));
    }

    #[test]
    fn the_hosts_file_is_taken_over_where_its_network_is_shared() {
        let text = first_lines(Some("127.0.0.1 here"), &[(ip("1.2.3.4"), "x".into())]);
        assert_eq!(text, "127.0.0.1 here\n1.2.3.4\tx\n");
        assert!(first_lines(Some(""), &[]).starts_with(LOCAL));
    }
}
