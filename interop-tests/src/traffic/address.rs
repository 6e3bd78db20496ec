//! Where packets come from and go to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_model::{AddressFamily, Prefix};

use super::random::{Random, mix};

/// Largest number of addresses of a prefix that a stream spreads over or comes from.
const MAX_SPREAD: u64 = 1 << 32;

/// The `index`-th address of `prefix`, wrapping around at its end.
fn member(prefix: &Prefix, index: u64) -> IpAddr {
    match prefix.address() {
        IpAddr::V4(first) => {
            let hosts = 1_u64 << (32 - u32::from(prefix.length().min(32)));
            let offset = u32::try_from(index % hosts).unwrap_or(0);
            Ipv4Addr::from(u32::from(first) | offset).into()
        }
        IpAddr::V6(first) => {
            let offset = match 128 - u32::from(prefix.length().min(128)) {
                bits @ 0..64 => u128::from(index % (1 << bits)),
                _ => u128::from(index),
            };
            Ipv6Addr::from(u128::from(first) | offset).into()
        }
    }
}

/// How many addresses of `prefix` are used.
fn size(prefix: &Prefix) -> u64 {
    let bits = match prefix.family() {
        AddressFamily::Ipv4 => 32,
        AddressFamily::Ipv6 => 128,
    };
    1_u64
        .checked_shl(bits - u32::from(prefix.length()))
        .map_or(MAX_SPREAD, |hosts| hosts.min(MAX_SPREAD))
}

/// The addresses that a stream goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Targets {
    prefix: Prefix,
    count: u64,
}

impl Targets {
    pub(crate) fn new(prefix: Prefix) -> Self {
        // A /64 has no use for 2^64 victims: an attack on a subnet walks its first addresses.
        let most = if prefix.family() == AddressFamily::Ipv6 { 1 << 16 } else { MAX_SPREAD };
        Self { prefix, count: size(&prefix).min(most) }
    }

    pub(crate) fn pick(&self, random: &mut Random) -> IpAddr {
        let index = if self.count == 1 { 0 } else { random.below(self.count) };
        member(&self.prefix, index)
    }
}

/// The addresses that a stream comes from: a set that costs no memory, whatever its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origins {
    seed: u64,
    count: u64,
    within: Option<Prefix>,
    avoid: Prefix,
}

impl Origins {
    /// `count` addresses inside `within`, or anywhere public but in `avoid`.
    pub(crate) fn new(seed: u64, count: u32, within: Option<Prefix>, avoid: Prefix) -> Self {
        Self { seed, count: u64::from(count.max(1)), within, avoid }
    }

    /// One of them, with a number that stays the same for that address.
    pub(crate) fn pick(&self, random: &mut Random) -> (IpAddr, u64) {
        let index = random.below(self.count);
        let identity = mix(self.seed ^ mix(index));
        let address = match self.within {
            // Consecutive members, so that `count` of them are distinct.
            Some(prefix) => member(&prefix, index),
            None => self.public(identity),
        };
        (address, identity)
    }

    fn public(&self, mut identity: u64) -> IpAddr {
        // One address in six is refused: sixty-four refusals in a row do not happen.
        for _ in 0..64 {
            let address = match self.avoid.family() {
                AddressFamily::Ipv4 => IpAddr::from(((identity >> 32) as u32).to_be_bytes()),
                AddressFamily::Ipv6 => public_ipv6(identity),
            };
            if is_public(address) && !self.avoid.contains_address(address) {
                return address;
            }
            identity = mix(identity);
        }
        member(&self.avoid, 0)
    }
}

/// An address out of 2400::/12, 2600::/12 or 2a00::/12, spread over /32 allocations.
fn public_ipv6(identity: u64) -> IpAddr {
    let registry = [0x2400_u128, 0x2600, 0x2a00][(identity % 3) as usize];
    let allocation = u128::from(identity >> 40);
    let host = u128::from(mix(identity));
    let address = (registry << 112) | ((allocation & 0x0ff_ffff) << 92) | host;
    Ipv6Addr::from(address).into()
}

/// Whether a source on the public internet may have `address`.
fn is_public(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return true };
    let [first, second, third, last] = address.octets();
    !matches!(
        (first, second, third),
        (0 | 10 | 127 | 224.., _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    ) && !matches!(last, 0 | 255)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn targets_stay_inside_and_reach_everything() {
        let mut random = Random::new(1);
        for (text, expected) in [("203.0.113.8/29", 8), ("203.0.113.8", 1), ("2001:db8::/125", 8)] {
            let targets = Targets::new(prefix(text));
            let seen: BTreeSet<IpAddr> = (0..500).map(|_| targets.pick(&mut random)).collect();
            assert_eq!(seen.len(), expected, "{text}");
            assert!(seen.iter().all(|address| prefix(text).contains_address(*address)));
        }
        for text in ["0.0.0.0/0", "::/0", "2001:db8::/64"] {
            Targets::new(prefix(text)).pick(&mut random);
        }
    }

    #[test]
    fn origins_are_as_many_as_asked() {
        let mut random = Random::new(1);
        for (within, avoid) in [
            (None, "203.0.113.10"),
            (None, "2001:db8::1"),
            (Some(prefix("198.18.0.0/15")), "203.0.113.10"),
            (Some(prefix("2001:db8:2::/48")), "2001:db8::1"),
        ] {
            let origins = Origins::new(7, 50, within, prefix(avoid));
            let seen: BTreeSet<IpAddr> = (0..2000).map(|_| origins.pick(&mut random).0).collect();
            assert_eq!(seen.len(), 50, "{within:?}");
            assert!(seen.iter().all(|address| !prefix(avoid).contains_address(*address)));
            if let Some(within) = within {
                assert!(seen.iter().all(|address| within.contains_address(*address)));
            }
        }
    }

    #[test]
    fn private_space_is_no_origin() {
        for text in
            ["10.1.2.3", "192.168.1.1", "172.20.1.1", "127.0.0.1", "224.0.0.5", "100.64.1.1"]
        {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.8.8", "172.15.1.1", "100.63.1.1", "2600::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }
}
