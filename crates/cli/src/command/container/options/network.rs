//! `--network` in both its forms, and the older flags that describe the first network's endpoint.

use std::collections::BTreeMap;

use conex_api::container::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::address::is_mac;
use super::key_value::cut;
use crate::flag::{parse_int, split_csv};

/// One network to join.
#[derive(Clone, Debug, Default, PartialEq)]
struct Attachment {
    target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local_ips: Vec<String>,
    mac: String,
    driver_opts: BTreeMap<String, String>,
    gw_priority: i64,
}

/// The older flags: they describe the endpoint in the first network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Legacy<'a> {
    /// `--network-alias`.
    pub(super) aliases: &'a [String],
    /// `--link`.
    pub(super) links: &'a [String],
    /// `--ip`.
    pub(super) ipv4: &'a str,
    /// `--ip6`.
    pub(super) ipv6: &'a str,
    /// `--mac-address`.
    pub(super) mac: &'a str,
    /// `--link-local-ip`.
    pub(super) link_local_ips: &'a [String],
}

/// Where a container is connected.
#[derive(Debug, PartialEq)]
pub(super) struct Networks {
    /// `HostConfig.NetworkMode`: the first network.
    pub(super) mode: String,
    /// Endpoints that have settings of their own.
    pub(super) config: NetworkingConfig,
}

/// Refuses what is no `--network`.
pub(super) fn check(text: &str) -> Result<(), String> {
    attachment(text).map(drop)
}

/// Reads every `--network` together with the older flags.
pub(super) fn parse(values: &[String], legacy: Legacy) -> Result<Networks, String> {
    let mut attachments = values
        .iter()
        .map(|text| attachment(text))
        .collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment {
            target: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let mode = attachments[0].target.clone();
    apply(&mut attachments[0], legacy)?;

    let mut config = NetworkingConfig::default();
    let single = attachments.len() == 1;
    let (mut user_defined, mut predefined) = (false, false);
    for attachment in attachments {
        if is_user_defined(&attachment.target) {
            user_defined = true;
        } else {
            predefined = true;
        }
        let target = attachment.target.clone();
        if config.endpoints_config.contains_key(&target) {
            return Err(format!("network \"{target}\" is specified multiple times"));
        }
        let endpoint = endpoint(attachment)?;
        // A network without settings is the engine's own business.
        if single && endpoint == EndpointSettings::default() {
            continue;
        }
        config.endpoints_config.insert(target, Some(endpoint));
    }
    if user_defined && predefined {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    Ok(Networks { mode, config })
}

/// `name` or `name=…,alias=…,ip=…`.
fn attachment(text: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !has_pair(text) {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for field in &split_csv(text)? {
        let (key, value) = cut(field);
        let value = value
            .filter(|_| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?
            .trim();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.target = value.to_owned(),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => attachment.ipv4 = value.to_owned(),
            "ip6" => attachment.ipv6 = value.to_owned(),
            "mac-address" => attachment.mac = value.to_owned(),
            "link-local-ip" => attachment.link_local_ips.push(value.to_owned()),
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                attachment
                    .driver_opts
                    .insert(name.trim().to_owned(), value.trim().to_owned());
            }
            "gw-priority" => {
                attachment.gw_priority = parse_int(value)
                    .map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// Whether the text has a word, `=` and another word somewhere: then it is the long form.
fn has_pair(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    text.as_bytes()
        .windows(3)
        .any(|w| word(&w[0]) && w[1] == b'=' && word(&w[2]))
}

fn apply(first: &mut Attachment, legacy: Legacy) -> Result<(), String> {
    for (both, flag, field) in [
        (
            !first.aliases.is_empty() && !legacy.aliases.is_empty(),
            "--network-alias",
            "alias",
        ),
        (
            !first.links.is_empty() && !legacy.links.is_empty(),
            "--link",
            "links",
        ),
        (
            !first.ipv4.is_empty() && !legacy.ipv4.is_empty(),
            "--ip",
            "IPv4 address",
        ),
        (
            !first.ipv6.is_empty() && !legacy.ipv6.is_empty(),
            "--ip6",
            "IPv6 address",
        ),
        (
            !first.mac.is_empty() && !legacy.mac.is_empty(),
            "--mac-address",
            "MAC address",
        ),
        (
            !first.link_local_ips.is_empty() && !legacy.link_local_ips.is_empty(),
            "--link-local-ip",
            "link-local IP addresses",
        ),
    ] {
        if both {
            return Err(format!(
                "conflicting options: cannot specify both {flag} and per-network {field}"
            ));
        }
    }
    if !legacy.aliases.is_empty() {
        first.aliases = legacy.aliases.to_vec();
    }
    // On the default bridge a link is the container's, not the endpoint's.
    if is_user_defined(&first.target) && !legacy.links.is_empty() {
        first.links = legacy.links.to_vec();
    }
    for (field, value) in [
        (&mut first.ipv4, legacy.ipv4),
        (&mut first.ipv6, legacy.ipv6),
        (&mut first.mac, legacy.mac),
    ] {
        if !value.is_empty() {
            *field = value.to_owned();
        }
    }
    if !legacy.link_local_ips.is_empty() {
        first.link_local_ips = legacy.link_local_ips.to_vec();
    }
    Ok(())
}

fn endpoint(attachment: Attachment) -> Result<EndpointSettings, String> {
    if attachment.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&attachment.target) {
        if !attachment.aliases.is_empty() {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
        if !attachment.links.is_empty() {
            return Err("links are only supported for user-defined networks".to_owned());
        }
    }
    if !attachment.mac.is_empty() && !is_mac(&attachment.mac) {
        return Err(format!("{} is not a valid mac address", attachment.mac));
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let ipam = EndpointIpamConfig {
        ipv4_address: attachment.ipv4,
        ipv6_address: attachment.ipv6,
        link_local_ips: attachment.link_local_ips,
    };
    Ok(EndpointSettings {
        ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
        links: some(attachment.links),
        aliases: some(attachment.aliases),
        driver_opts: (!attachment.driver_opts.is_empty()).then_some(attachment.driver_opts),
        gw_priority: attachment.gw_priority,
        mac_address: attachment.mac,
        ..EndpointSettings::default()
    })
}

/// Whether a network mode names a network somebody created.
fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none" | "nat")
        && !mode.starts_with("container:")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn of(values: &[&str], legacy: Legacy) -> Result<(String, Value), String> {
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let networks = parse(&values, legacy)?;
        let mut endpoints = serde_json::to_value(&networks.config.endpoints_config).unwrap();
        // Only what was asked for, to keep the expectations short.
        for endpoint in endpoints.as_object_mut().unwrap().values_mut() {
            let empty = [json!(null), json!(""), json!(0)];
            endpoint
                .as_object_mut()
                .unwrap()
                .retain(|_, v| !empty.contains(v));
        }
        Ok((networks.mode, endpoints))
    }

    #[test]
    fn a_plain_network_is_only_a_mode() {
        let none = Legacy::default();
        assert_eq!(of(&[], none).unwrap(), ("default".into(), json!({})));
        assert_eq!(of(&["none"], none).unwrap(), ("none".into(), json!({})));
        assert_eq!(
            of(&["container:x"], none).unwrap(),
            ("container:x".into(), json!({}))
        );
        assert_eq!(of(&["n1"], none).unwrap(), ("n1".into(), json!({})));
    }

    #[test]
    fn the_long_form_describes_its_endpoint() {
        let (mode, endpoints) = of(
            &["name=n1,alias=A,alias=b,ip=10.0.0.2,ip6=fd::2,driver-opt=k=v,gw-priority=5,link-local-ip=169.254.1.1,mac-address=02:00:00:00:00:01", "n2"],
            Legacy::default(),
        )
        .unwrap();
        assert_eq!(mode, "n1");
        assert_eq!(
            endpoints,
            json!({"n1": {"Aliases": ["A", "b"], "DriverOpts": {"k": "v"}, "GwPriority": 5,
                "MacAddress": "02:00:00:00:00:01",
                "IPAMConfig": {"IPv4Address": "10.0.0.2", "IPv6Address": "fd::2", "LinkLocalIPs": ["169.254.1.1"]}},
                "n2": {}})
        );
    }

    #[test]
    fn the_older_flags_describe_the_first_network() {
        let list = ["a".to_owned()];
        let legacy = Legacy {
            aliases: &list,
            links: &list,
            ipv4: "10.0.0.9",
            ..Legacy::default()
        };
        let (_, endpoints) = of(&["n1", "n2"], legacy).unwrap();
        assert_eq!(
            endpoints,
            json!({"n1": {"Aliases": ["a"], "Links": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}, "n2": {}})
        );
        // A link on the default bridge stays out of the endpoint.
        let legacy = Legacy {
            links: &list,
            mac: "02:00:00:00:00:01",
            ..Legacy::default()
        };
        let (_, endpoints) = of(&[], legacy).unwrap();
        assert_eq!(
            endpoints,
            json!({"default": {"MacAddress": "02:00:00:00:00:01"}})
        );
    }

    #[test]
    fn conflicts_are_named_as_docker_names_them() {
        let list = ["a".to_owned()];
        let alias = Legacy {
            aliases: &list,
            ..Legacy::default()
        };
        let ip = Legacy {
            ipv4: "1.2.3.4",
            ..Legacy::default()
        };
        let mac = Legacy {
            mac: "nope",
            ..Legacy::default()
        };
        let none = Legacy::default();
        for (values, legacy, want) in [
            (
                &["name=n,alias=x"][..],
                alias,
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ),
            (
                &["name=n,ip=1.1.1.1"],
                ip,
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
            (
                &["n", "bridge"],
                none,
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (
                &["n", "n"],
                none,
                "network \"n\" is specified multiple times",
            ),
            (
                &["host"],
                alias,
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (&["n"], mac, "nope is not a valid mac address"),
            (&[""], none, "no name set for network"),
            (&["alias=x"], none, "network name/id is not specified"),
            (&["name=n,foo=x"], none, "invalid field key foo"),
            (&["name=n,foo"], none, "invalid field foo"),
            (
                &["name=n,driver-opt=x"],
                none,
                "invalid key value pair format in driver options",
            ),
            (
                &["name=n,gw-priority=x"],
                none,
                "invalid gw-priority (x): invalid syntax",
            ),
        ] {
            assert_eq!(of(values, legacy).unwrap_err(), want, "{values:?}");
        }
    }
}
