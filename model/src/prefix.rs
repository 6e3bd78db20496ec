//! Canonical address prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::flowspec::AddressFamily;

/// An IPv4 or IPv6 prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix of `length` bits that holds `address`; `None` if the family has no such length.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }

    /// The prefix that holds `address` alone.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The first address, all host bits zero.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> AddressFamily {
        match self.0 {
            IpNet::V4(_) => AddressFamily::Ipv4,
            IpNet::V6(_) => AddressFamily::Ipv6,
        }
    }

    /// Whether this is a single address.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether every address of `other` lies in this prefix.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether `address` lies in this prefix.
    #[must_use]
    pub fn contains_address(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// The same prefix as `ipnet` spells it.
    #[must_use]
    pub fn as_net(&self) -> IpNet {
        self.0
    }
}

impl From<IpNet> for Prefix {
    /// Clears the host bits.
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Text that is not a canonical prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// Neither an address nor a prefix.
    #[error("`{0}` is not an address or prefix; write one like `192.0.2.0/24` or `2001:db8::/48`")]
    NotAPrefix(String),
    /// Bits are set behind the prefix length: a typing error more often than not.
    #[error("`{text}` has bits set behind its length; did you mean `{canonical}`?")]
    HostBits {
        /// What was written.
        text: String,
        /// The same with the host bits cleared.
        canonical: Prefix,
    },
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads `192.0.2.0/24`, or a bare address as a host prefix. Host bits are an error.
    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::host(address));
        }
        let net: IpNet = text.parse().map_err(|_| ParsePrefixError::NotAPrefix(text.to_owned()))?;
        let canonical = Self(net.trunc());
        if canonical.0 == net {
            Ok(canonical)
        } else {
            Err(ParsePrefixError::HostBits { text: text.to_owned(), canonical })
        }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Prefix {
    /// All of IPv4.
    #[must_use]
    pub fn all_ipv4() -> Self {
        Self(IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// All of IPv6.
    #[must_use]
    pub fn all_ipv6() -> Self {
        Self(IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_prefixes() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn names_the_canonical_form() {
        let error = "192.0.2.7/24".parse::<Prefix>().unwrap_err();
        assert!(error.to_string().contains("did you mean `192.0.2.0/24`"), "{error}");
        assert!("192.0.2.0/33".parse::<Prefix>().is_err());
        assert!("example".parse::<Prefix>().is_err());
    }

    #[test]
    fn families_never_overlap() {
        assert!(!Prefix::all_ipv4().overlaps(&Prefix::all_ipv6()));
        assert!(Prefix::all_ipv4().overlaps(&"192.0.2.1".parse().unwrap()));
    }
}
