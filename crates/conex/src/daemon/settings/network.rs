//! The flags of networks, resolved: dockerd's, and the two of our own that say
//! whom published ports are for.

use std::net::IpAddr;

use conex_engine::{DefaultBridge, NetworkConfig};
use ipnet::IpNet;

use super::{Values, pair};

/// Reads every flag of networks.
pub(super) fn resolve(values: &Values<'_>) -> Result<NetworkConfig, String> {
    let bridge = match values.text("bridge").as_str() {
        "" => DefaultBridge::Own,
        "none" => DefaultBridge::Disabled,
        name if name.len() > 15 || name.contains(['/', ' ']) => {
            return Err(format!("invalid bridge name: {name}"));
        }
        name => DefaultBridge::Existing(name.to_owned()),
    };
    let own_address = values.given("bip") && !values.text("bip").is_empty();
    if bridge != DefaultBridge::Own && own_address {
        return Err(
            "you specified -b & --bip, mutually exclusive options. Please specify only one".into(),
        );
    }
    let inter_container = values.yes("icc");
    if !values.yes("ip-forward") {
        return Err(
            "--ip-forward=false is not supported yet: bridge networks switch the kernel's forwarding on"
                .into(),
        );
    }
    let mtu = match values.text("mtu").as_str() {
        "" | "0" => 1500,
        text => text
            .parse()
            .ok()
            .filter(|mtu| (68..=65535).contains(mtu))
            .ok_or_else(|| format!("invalid MTU: {text}"))?,
    };
    let pools = values.all("default-address-pool");
    Ok(NetworkConfig {
        bridge,
        bridge_ipv4: parsed(values, "bip")?,
        bridge_ipv6: parsed(values, "bip6")?,
        fixed_ipv4: parsed(values, "fixed-cidr")?,
        fixed_ipv6: parsed(values, "fixed-cidr-v6")?,
        gateway_ipv4: parsed(values, "default-gateway")?,
        gateway_ipv6: parsed(values, "default-gateway-v6")?,
        mtu,
        inter_container,
        ipv6: values.yes("ipv6"),
        publish_address: publish_address(&values.text("ip"))?,
        respect_host_firewall: values.yes("respect-host-firewall"),
        address_pools: pools
            .iter()
            .map(|text| pool(text))
            .collect::<Result<_, _>>()?,
        ipv4_rules: values.yes("iptables"),
        ipv6_rules: values.yes("ip6tables"),
        direct_routing: values.yes("allow-direct-routing"),
        masquerade: values.yes("ip-masq"),
        dns: servers(&values.all("dns"))?,
        dns_search: values.all("dns-search"),
        dns_options: values.all("dns-opt"),
        host_gateway: addresses(&values.all("host-gateway-ip"), "host-gateway-ip")?,
        default_options: options(&values.all("default-network-opt"))?,
    })
}

fn parsed<T: std::str::FromStr>(values: &Values<'_>, flag: &str) -> Result<Option<T>, String> {
    match values.text(flag).as_str() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("invalid --{flag}: {text}")),
    }
}

/// Every address, in whatever family, means that none was chosen.
fn publish_address(text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        "" => Ok(None),
        text => match text.parse::<IpAddr>() {
            Ok(address) => Ok(Some(address).filter(|a| !a.is_unspecified())),
            Err(_) => Err(format!("invalid --ip: {text} is not an ip address")),
        },
    }
}

/// `base=10.10.0.0/16,size=24`, also `scope` and unknown order.
fn pool(text: &str) -> Result<(IpNet, u8), String> {
    let invalid = |why: &str| format!("invalid default address pool {text:?}: {why}");
    let (mut base, mut size) = (None, None);
    for field in text.split(',') {
        let (key, value) = pair(field, "default address pool")?;
        match key.as_str() {
            "base" => {
                let net: IpNet = value.parse().map_err(|_| invalid("base is no subnet"))?;
                base = Some(net.trunc());
            }
            "size" => size = Some(value.parse::<u8>().map_err(|_| invalid("size"))?),
            "scope" if value == "local" => {}
            _ => return Err(invalid(&format!("unexpected key {key}"))),
        }
    }
    let (Some(base), Some(size)) = (base, size) else {
        return Err(invalid("base and size are needed"));
    };
    if size < base.prefix_len() || size > base.max_prefix_len() {
        return Err(invalid("size is not within the base"));
    }
    Ok((base, size))
}

fn servers(words: &[String]) -> Result<Vec<String>, String> {
    for word in words {
        let bare = word.split('%').next().unwrap_or_default();
        if bare.parse::<IpAddr>().is_err() {
            return Err(format!("IP address is not correctly formatted: {word}"));
        }
    }
    Ok(words.to_vec())
}

fn addresses(words: &[String], flag: &str) -> Result<Vec<IpAddr>, String> {
    words
        .iter()
        .flat_map(|word| word.split(','))
        .map(|word| {
            let word = word.trim();
            word.parse()
                .map_err(|_| format!("invalid --{flag}: {word} is not an ip address"))
        })
        .collect()
}

type ByDriver = std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;

/// `driver=option=value`.
fn options(words: &[String]) -> Result<ByDriver, String> {
    let mut all = ByDriver::new();
    for word in words {
        let (driver, option) = pair(word, "default network option")?;
        let (key, value) = pair(&option, "default network option")?;
        all.entry(driver).or_default().insert(key, value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pool_has_a_base_and_a_size_within_it() {
        assert_eq!(
            pool("base=10.10.0.0/16,size=24").unwrap(),
            ("10.10.0.0/16".parse().unwrap(), 24)
        );
        for text in [
            "base=10.10.0.0/16",
            "size=24",
            "base=10.10.0.0/16,size=8",
            "base=10.10.0.0/16,size=33",
            "base=x,size=24",
            "base=10.0.0.0/8,size=24,x=y",
        ] {
            assert!(pool(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_address_is_no_choice() {
        assert_eq!(publish_address("0.0.0.0"), Ok(None));
        assert_eq!(
            publish_address("127.0.0.1"),
            Ok(Some("127.0.0.1".parse().unwrap()))
        );
        assert!(publish_address("nowhere").is_err());
    }

    #[test]
    fn options_are_by_driver() {
        let all = options(&["bridge=com.docker.network.driver.mtu=1400".into()]).unwrap();
        assert_eq!(all["bridge"]["com.docker.network.driver.mtu"], "1400");
        assert!(options(&["bridge".into()]).is_err());
    }
}
