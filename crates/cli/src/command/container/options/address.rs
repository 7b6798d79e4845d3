//! Addresses and names of hosts: `--dns`, `--dns-search`, `--add-host`, `--link`, `--mac-address`.

use std::net::IpAddr;

/// An IP address in its normal form, as `--dns` wants it.
pub(super) fn ip(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<IpAddr>()
        .map(|address| address.to_string())
        .map_err(|_| format!("IP address is not correctly formatted: {text}"))
}

/// Refuses what is no IP address.
pub(super) fn check_ip(text: &str) -> Result<(), String> {
    ip(text).map(drop)
}

/// A search domain without its final dot; a lone dot means none at all.
pub(super) fn search_domain(text: &str) -> Result<String, String> {
    let trimmed = text.trim_matches(' ');
    if trimmed == "." {
        return Ok(trimmed.to_owned());
    }
    let domain = trimmed.trim_end();
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let fits = domain.len() < 255
        && domain.bytes().any(|b| b.is_ascii_alphabetic())
        && domain.split('.').all(label);
    if fits {
        Ok(domain.to_owned())
    } else {
        Err(format!("{trimmed} is not a valid domain"))
    }
}

/// Refuses what is no search domain.
pub(super) fn check_search_domain(text: &str) -> Result<(), String> {
    search_domain(text).map(drop)
}

/// `name:address` or `name=address` as `name:address`; the address may be `host-gateway`.
pub(super) fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty() && !name.contains(':'))
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|bare| !bare.is_empty());
    let address = bare.unwrap_or(address);
    // Shown in /etc/hosts as it was written, so only checked.
    ip(address).map_err(|_| format!("invalid IP address in add-host: {address:?}"))?;
    Ok(format!("{name}:{address}"))
}

/// Refuses what is no line for `/etc/hosts`.
pub(super) fn check_extra_host(text: &str) -> Result<(), String> {
    extra_host(text).map(drop)
}

/// Refuses what is no `container[:alias]`.
pub(super) fn check_link(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if text.split(':').count() > 2 {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(())
}

/// Whether the text is a hardware address of 6, 8 or 20 bytes in one of the usual notations.
pub(super) fn is_mac(text: &str) -> bool {
    let text = text.trim();
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let by = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len() * digits / 2, 6 | 8 | 20) && parts.iter().all(|part| hex(part, digits))
    };
    by(':', 2) || by('-', 2) || by('.', 4)
}

/// Whether a name server is on this very machine.
pub(in crate::command::container) fn is_loopback(text: &str) -> bool {
    text.parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        assert_eq!(ip(" 1.2.3.4 "), Ok("1.2.3.4".into()));
        assert_eq!(ip("0:0:0:0:0:0:0:1"), Ok("::1".into()));
        assert_eq!(
            ip("[::1]"),
            Err("IP address is not correctly formatted: [::1]".into())
        );
        assert_eq!(
            check_ip(""),
            Err("IP address is not correctly formatted: ".into())
        );
    }

    #[test]
    fn search_domains_are_domains() {
        for (text, want) in [
            (".", "."),
            ("a.b-c.d", "a.b-c.d"),
            ("foo.com.", "foo.com"),
            ("9x", "9x"),
            (" a ", "a"),
        ] {
            assert_eq!(search_domain(text), Ok(want.to_owned()), "{text}");
        }
        for text in ["", "12", "-a", "a-", "a..b", "a_b", "foo com"] {
            assert_eq!(
                search_domain(text),
                Err(format!("{text} is not a valid domain"))
            );
        }
    }

    #[test]
    fn extra_hosts_come_in_both_notations() {
        for (text, want) in [
            ("h:1.2.3.4", "h:1.2.3.4"),
            ("h=1.2.3.4", "h:1.2.3.4"),
            ("h:::1", "h:::1"),
            ("h=[0:0::1]", "h:0:0::1"),
            ("h:host-gateway", "h:host-gateway"),
        ] {
            assert_eq!(extra_host(text), Ok(want.to_owned()), "{text}");
        }
        assert_eq!(
            extra_host("h"),
            Err("bad format for add-host: \"h\"".into())
        );
        assert_eq!(
            extra_host(":1.2.3.4"),
            Err("bad format for add-host: \":1.2.3.4\"".into())
        );
        assert_eq!(
            extra_host("a:b=1.2.3.4"),
            Err("bad format for add-host: \"a:b=1.2.3.4\"".into())
        );
        assert_eq!(
            extra_host("h:nope"),
            Err("invalid IP address in add-host: \"nope\"".into())
        );
    }

    #[test]
    fn links_have_at_most_two_parts() {
        assert_eq!(check_link("a:b"), Ok(()));
        assert_eq!(
            check_link(""),
            Err("empty string specified for links".into())
        );
        assert_eq!(
            check_link("a:b:c"),
            Err("bad format for links: a:b:c".into())
        );
    }

    #[test]
    fn hardware_addresses_have_six_bytes_or_more() {
        for good in [
            "02:42:ac:11:00:02",
            "02-42-ac-11-00-02",
            "0242.ac11.0002",
            " 02:42:ac:11:00:02 ",
        ] {
            assert!(is_mac(good), "{good}");
        }
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:0g",
            "0242ac110002",
            "02:42-ac:11:00:02",
        ] {
            assert!(!is_mac(bad), "{bad}");
        }
    }
}
