//! The four address families that tidegate speaks.

use std::fmt;
use std::str::FromStr;

use tidegate_model::{AddressFamily, Nlri};

/// An AFI and SAFI pair (RFC 4760 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
    /// AFI 1, SAFI 133 (RFC 8955).
    Ipv4FlowSpec,
    /// AFI 2, SAFI 133 (RFC 8956).
    Ipv6FlowSpec,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] =
        [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::Ipv4FlowSpec, Self::Ipv6FlowSpec];

    /// The family that `nlri` belongs to.
    #[must_use]
    pub fn of(nlri: &Nlri) -> Self {
        match (nlri, nlri.family()) {
            (Nlri::Unicast(_), AddressFamily::Ipv4) => Self::Ipv4Unicast,
            (Nlri::Unicast(_), AddressFamily::Ipv6) => Self::Ipv6Unicast,
            (Nlri::FlowSpec(_), AddressFamily::Ipv4) => Self::Ipv4FlowSpec,
            (Nlri::FlowSpec(_), AddressFamily::Ipv6) => Self::Ipv6FlowSpec,
        }
    }

    /// Address Family Identifier.
    #[must_use]
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast | Self::Ipv4FlowSpec => 1,
            Self::Ipv6Unicast | Self::Ipv6FlowSpec => 2,
        }
    }

    /// Subsequent Address Family Identifier.
    #[must_use]
    pub const fn safi(self) -> u8 {
        match self {
            Self::Ipv4Unicast | Self::Ipv6Unicast => 1,
            Self::Ipv4FlowSpec | Self::Ipv6FlowSpec => 133,
        }
    }

    /// The family of an AFI and SAFI; `None` for one that tidegate does not speak.
    #[must_use]
    pub fn from_codes(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.afi() == afi && family.safi() == safi)
    }

    /// Name in policy files and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
            Self::Ipv4FlowSpec => "ipv4-flowspec",
            Self::Ipv6FlowSpec => "ipv6-flowspec",
        }
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub const fn addresses(self) -> AddressFamily {
        match self {
            Self::Ipv4Unicast | Self::Ipv4FlowSpec => AddressFamily::Ipv4,
            Self::Ipv6Unicast | Self::Ipv6FlowSpec => AddressFamily::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no family.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a family; there are ipv4-unicast, ipv6-unicast, ipv4-flowspec and ipv6-flowspec"
)]
pub struct ParseFamilyError(String);

impl FromStr for Family {
    type Err = ParseFamilyError;

    fn from_str(text: &str) -> Result<Self, ParseFamilyError> {
        Self::ALL
            .into_iter()
            .find(|family| family.name() == text)
            .ok_or_else(|| ParseFamilyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_read_back() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
            assert_eq!(Family::from_codes(family.afi(), family.safi()), Some(family));
        }
        assert_eq!(Family::from_codes(1, 134), None);
        assert!("ipv4".parse::<Family>().is_err());
    }
}
