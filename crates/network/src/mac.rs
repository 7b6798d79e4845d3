//! Hardware addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A 48-bit Ethernet address; its text is `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// The text is not a hardware address an interface may have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("address {0}: invalid MAC address")]
pub struct MacError(pub String);

impl Mac {
    /// A random, locally administered unicast address.
    pub fn random() -> Mac {
        let mut bytes = [0; 6];
        crate::address::fill_random(&mut bytes);
        bytes[0] = (bytes[0] | 0x02) & !0x01;
        Mac(bytes)
    }

    /// The link-local IPv6 address the kernel derives from it (EUI-64,
    /// RFC 4291, appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let tail = [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f];
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&[0xfe, 0x80]);
        bytes[8..].copy_from_slice(&tail);
        bytes.into()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Six octets divided by colons or by dashes. Refuses what the kernel
    /// refuses an interface: a group address and all zeroes.
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let wrong = || MacError(text.to_owned());
        let divider = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut octets = text.split(divider);
        for byte in &mut bytes {
            let octet = octets.next().filter(|o| o.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(octet, 16).map_err(|_| wrong())?;
        }
        if octets.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Mac(bytes))
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Mac, MacError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_random_address_is_local_and_unicast() {
        for _ in 0..100 {
            let mac = Mac::random();
            assert_eq!(mac.0[0] & 0x03, 0x02, "{mac}");
            assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        }
    }

    #[test]
    fn what_no_interface_may_have_is_refused() {
        for text in ["", "02:42", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
            assert_eq!(text.parse::<Mac>(), Err(MacError(text.into())));
        }
        for text in [
            "02:42:ac:11:00:02:03",
            "0x:42:ac:11:00:02",
            "+2:42:ac:11:00:2",
        ] {
            text.parse::<Mac>().unwrap_err();
        }
        "92-d0-c6-0a-29-33".parse::<Mac>().unwrap();
    }

    #[test]
    fn the_link_local_address_is_the_kernels() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::42:acff:fe11:2");
    }
}
