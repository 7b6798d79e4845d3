//! Random numbers, and the IPv6 prefixes made of them.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// Fills with random bytes from the kernel.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        // Fails only for a bad address, or when a signal came first.
        if let Ok(n) =
            rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())
        {
            done += n;
        }
    }
}

/// A random /64 of the unique local addresses (RFC 4193): what an IPv6
/// network gets when nobody names its subnet.
pub fn random_ula() -> Ipv6Net {
    let mut bytes = [0; 16];
    fill_random(&mut bytes[1..8]);
    bytes[0] = 0xfd;
    Ipv6Net::new_assert(Ipv6Addr::from(bytes), 64)
}
