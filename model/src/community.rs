//! BGP communities (RFC 1997) and large communities (RFC 8092).

use std::fmt;
use std::str::FromStr;

/// A standard community, RFC 1997.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// BLACKHOLE, RFC 7999 §5.
    pub const BLACKHOLE: Self = Self::new(65535, 666);
    /// NO_EXPORT, RFC 1997.
    pub const NO_EXPORT: Self = Self(0xFFFF_FF01);
    /// NO_ADVERTISE, RFC 1997.
    pub const NO_ADVERTISE: Self = Self(0xFFFF_FF02);
    /// NO_LLGR, RFC 9494 §4.2: never kept as long-lived stale.
    pub const NO_LLGR: Self = Self::new(65535, 7);

    /// `high:low`.
    #[must_use]
    pub const fn new(high: u16, low: u16) -> Self {
        Self((high as u32) << 16 | low as u32)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// Text that is not a community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a community; write `65535:666`, `65001:666:1` or a name such as `blackhole` or `no-export`"
)]
pub struct ParseCommunityError(String);

impl FromStr for Community {
    type Err = ParseCommunityError;

    fn from_str(text: &str) -> Result<Self, ParseCommunityError> {
        match text {
            "blackhole" => return Ok(Self::BLACKHOLE),
            "no-export" => return Ok(Self::NO_EXPORT),
            "no-advertise" => return Ok(Self::NO_ADVERTISE),
            "no-llgr" => return Ok(Self::NO_LLGR),
            _ => {}
        }
        let parts = text
            .split_once(':')
            .and_then(|(high, low)| Some(Self::new(high.parse().ok()?, low.parse().ok()?)));
        parts.ok_or_else(|| ParseCommunityError(text.to_owned()))
    }
}

/// A large community, RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global administrator, an AS number.
    pub global: u32,
    /// Local data part 1.
    pub local1: u32,
    /// Local data part 2.
    pub local2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = ParseCommunityError;

    fn from_str(text: &str) -> Result<Self, ParseCommunityError> {
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[global, local1, local2]) => Ok(Self { global, local1, local2 }),
            _ => Err(ParseCommunityError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_names() {
        assert_eq!("65535:666".parse(), Ok(Community::BLACKHOLE));
        assert_eq!("no-export".parse(), Ok(Community::NO_EXPORT));
        assert_eq!(Community::NO_EXPORT.to_string(), "65535:65281");
        let large: LargeCommunity = "65001:666:1".parse().unwrap();
        assert_eq!(large.to_string(), "65001:666:1");
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "65536:1", "1", "1:2:3", "blackhol", "-1:2"] {
            assert!(text.parse::<Community>().is_err(), "{text}");
        }
        assert!("1:2:3:4".parse::<LargeCommunity>().is_err());
    }
}
