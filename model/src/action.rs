//! Traffic filtering actions of FlowSpec (RFC 8955 §7).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// What a router does with traffic that matches a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrafficFilteringAction {
    /// Traffic-rate in bytes, 0x8006. Zero discards. Never negative, never NaN.
    RateLimitBytes(f32),
    /// Traffic-rate in packets, 0x800c.
    RateLimitPackets(f32),
    /// Traffic-action, 0x8007. `terminal = false` stops further rules from applying.
    TrafficAction {
        /// The S bit: sample and log.
        sample: bool,
        /// The T bit: later rules apply too.
        terminal: bool,
    },
    /// Redirect to a VRF by route target, 0x8008: 2-octet AS and 4-octet number.
    RedirectAs2(u16, u32),
    /// Redirect to a VRF by route target, 0x8108: IPv4 address and number.
    RedirectIpv4(Ipv4Addr, u16),
    /// Redirect to a VRF by route target, 0x8208: 4-octet AS and number.
    RedirectAs4(u32, u16),
    /// Redirect to an address (draft-ietf-idr-flowspec-redirect-ip), with the copy bit.
    RedirectToIp(IpAddr, bool),
    /// Traffic-marking, 0x8009: a DSCP below 64.
    Mark(u8),
}

/// A number that no action may carry.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidAction {
    /// Negative, infinite or not a number.
    #[error("{0} is not a traffic rate; it must be finite and not negative (RFC 8955 §7.1)")]
    Rate(f32),
    /// Beyond six bits.
    #[error("{0} is not a DSCP; it must be below 64")]
    Dscp(u8),
}

impl TrafficFilteringAction {
    /// Drop everything.
    pub const DISCARD: Self = Self::RateLimitBytes(0.0);

    /// Checks the numbers that the type cannot.
    ///
    /// # Errors
    /// [`InvalidAction`] for a rate that is negative or not finite, or a DSCP above 63.
    pub fn check(&self) -> Result<(), InvalidAction> {
        match *self {
            Self::RateLimitBytes(rate) | Self::RateLimitPackets(rate)
                if !rate.is_finite() || rate.is_sign_negative() =>
            {
                Err(InvalidAction::Rate(rate))
            }
            Self::Mark(dscp) if dscp > 63 => Err(InvalidAction::Dscp(dscp)),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for TrafficFilteringAction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RateLimitBytes(0.0) | Self::RateLimitPackets(0.0) => {
                formatter.write_str("discard")
            }
            Self::RateLimitBytes(rate) => write!(formatter, "rate-limit {rate} B/s"),
            Self::RateLimitPackets(rate) => write!(formatter, "rate-limit {rate} packets/s"),
            Self::TrafficAction { sample, terminal } => {
                write!(formatter, "traffic-action sample={sample} terminal={terminal}")
            }
            Self::RedirectAs2(asn, number) => write!(formatter, "redirect {asn}:{number}"),
            Self::RedirectIpv4(address, number) => write!(formatter, "redirect {address}:{number}"),
            Self::RedirectAs4(asn, number) => write!(formatter, "redirect {asn}:{number}"),
            Self::RedirectToIp(address, copy) => {
                write!(formatter, "{} {address}", if copy { "copy-to" } else { "redirect-to" })
            }
            Self::Mark(dscp) => write!(formatter, "mark {dscp}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_numbers_are_refused() {
        for rate in [-1.0, -0.0, f32::NAN, f32::INFINITY] {
            assert!(TrafficFilteringAction::RateLimitBytes(rate).check().is_err(), "{rate}");
        }
        assert!(TrafficFilteringAction::Mark(64).check().is_err());
        assert!(TrafficFilteringAction::DISCARD.check().is_ok());
        assert_eq!(TrafficFilteringAction::DISCARD.to_string(), "discard");
    }
}
