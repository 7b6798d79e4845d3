//! What marks an engine's things in the kernel, so that several engines share
//! a machine.

use serde::{Deserialize, Serialize};

use crate::address::fill_random;

/// The names one engine uses in the kernel, derived from its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The nftables tables, of families `inet` and `bridge`: `conex-<12 hex>`.
    pub table: String,
    /// How the host's ends of all its interfaces begin: `cx<5 hex>`.
    pub prefix: String,
}

/// FNV-1a: what is derived from it needs to differ, not to be secret.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Owner {
    /// The names of the engine with this id, whatever the id looks like.
    pub fn new(engine_id: &str) -> Owner {
        let hex = format!("{:016x}", hash(engine_id));
        Owner {
            table: format!("conex-{}", &hex[..12]),
            prefix: format!("cx{}", &hex[..5]),
        }
    }

    /// A random name for the host's end of an interface pair: 15 characters,
    /// the most the kernel allows.
    pub fn interface(&self) -> String {
        let mut bytes = [0; 4];
        fill_random(&mut bytes);
        format!("{}{:08x}", self.prefix, u32::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_between_engines() {
        let one = Owner::new("7a5b0f0e-one");
        assert_eq!(one, Owner::new("7a5b0f0e-one"));
        assert_ne!(one, Owner::new("7a5b0f0e-two"));
        assert_eq!(one.interface().len(), 15);
        assert_ne!(one.interface(), one.interface());
    }
}
