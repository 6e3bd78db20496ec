//! The words of which a profile is made.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use tidegate_model::{BitmaskTest, FlowSpecComponent, NumericOperator, TrafficFilteringAction};

use crate::policy::named;

named! {
    /// A component of a rule, without its values.
    Component, "a component of a FlowSpec rule" {
        /// Type 1.
        Destination "destination",
        /// Type 2.
        Source "source",
        /// Type 3.
        Protocol "protocol",
        /// Type 4.
        Port "port",
        /// Type 5.
        DestinationPort "destination-port",
        /// Type 6.
        SourcePort "source-port",
        /// Type 7.
        IcmpType "icmp-type",
        /// Type 8.
        IcmpCode "icmp-code",
        /// Type 9.
        TcpFlags "tcp-flags",
        /// Type 10.
        PacketLength "packet-length",
        /// Type 11.
        Dscp "dscp",
        /// Type 12.
        Fragment "fragment",
        /// Type 13, IPv6 only.
        FlowLabel "flow-label",
    }
}

impl Component {
    /// Which component `part` is.
    #[must_use]
    pub const fn of(part: &FlowSpecComponent) -> Self {
        match part {
            FlowSpecComponent::DestinationPrefix(_) => Self::Destination,
            FlowSpecComponent::SourcePrefix(_) => Self::Source,
            FlowSpecComponent::IpProtocol(_) => Self::Protocol,
            FlowSpecComponent::Port(_) => Self::Port,
            FlowSpecComponent::DestinationPort(_) => Self::DestinationPort,
            FlowSpecComponent::SourcePort(_) => Self::SourcePort,
            FlowSpecComponent::IcmpType(_) => Self::IcmpType,
            FlowSpecComponent::IcmpCode(_) => Self::IcmpCode,
            FlowSpecComponent::TcpFlags(_) => Self::TcpFlags,
            FlowSpecComponent::PacketLength(_) => Self::PacketLength,
            FlowSpecComponent::Dscp(_) => Self::Dscp,
            FlowSpecComponent::Fragment(_) => Self::Fragment,
            FlowSpecComponent::FlowLabel(_) => Self::FlowLabel,
        }
    }
}

named! {
    /// A comparison of a numeric component (RFC 8955 §4.2.1.1).
    Comparison, "a comparison" {
        /// Equal.
        Equal "=",
        /// Greater.
        Greater ">",
        /// Greater or equal.
        GreaterOrEqual ">=",
        /// Less.
        Less "<",
        /// Less or equal.
        LessOrEqual "<=",
        /// Not equal.
        NotEqual "!=",
    }
}

impl Comparison {
    /// Which comparison `operator` is; `None` for those that look at no value.
    #[must_use]
    pub const fn of(operator: NumericOperator) -> Option<Self> {
        Some(match operator {
            NumericOperator::Equal => Self::Equal,
            NumericOperator::Greater => Self::Greater,
            NumericOperator::GreaterOrEqual => Self::GreaterOrEqual,
            NumericOperator::Less => Self::Less,
            NumericOperator::LessOrEqual => Self::LessOrEqual,
            NumericOperator::NotEqual => Self::NotEqual,
            NumericOperator::True | NumericOperator::False => return None,
        })
    }
}

named! {
    /// A form of a bitmask test (RFC 8955 §4.2.1.2).
    BitmaskForm, "a form of a bitmask test" {
        /// All of several bits: the m bit.
        AllOf "all-of",
        /// Any of several bits.
        AnyOf "any-of",
        /// Inverted: the not bit.
        Not "not",
    }
}

impl BitmaskForm {
    /// The forms that `test` needs.
    #[must_use]
    pub fn of(test: &BitmaskTest) -> BTreeSet<Self> {
        let several = test.bits.count_ones() > 1;
        let set = several.then_some(if test.all { Self::AllOf } else { Self::AnyOf });
        set.into_iter().chain(test.negated.then_some(Self::Not)).collect()
    }
}

named! {
    /// What a rule has done, without its numbers (RFC 8955 §7).
    ActionKind, "an action of a FlowSpec rule" {
        /// Traffic-rate zero.
        Discard "discard",
        /// Traffic-rate in bytes, 0x8006.
        RateLimitBytes "rate-limit-bytes",
        /// Traffic-rate in packets, 0x800c.
        RateLimitPackets "rate-limit-packets",
        /// Traffic-action, 0x8007.
        TrafficAction "traffic-action",
        /// Redirect to a VRF, 0x8008, 0x8108 and 0x8208.
        Redirect "redirect",
        /// Redirect to an address.
        RedirectToIp "redirect-to-ip",
        /// Traffic-marking, 0x8009.
        TrafficMarking "traffic-marking",
    }
}

impl ActionKind {
    /// Which kind `action` is.
    #[must_use]
    pub fn of(action: &TrafficFilteringAction) -> Self {
        match action {
            TrafficFilteringAction::RateLimitBytes(rate)
            | TrafficFilteringAction::RateLimitPackets(rate)
                if *rate == 0.0 =>
            {
                Self::Discard
            }
            TrafficFilteringAction::RateLimitBytes(_) => Self::RateLimitBytes,
            TrafficFilteringAction::RateLimitPackets(_) => Self::RateLimitPackets,
            TrafficFilteringAction::TrafficAction { .. } => Self::TrafficAction,
            TrafficFilteringAction::RedirectAs2(..)
            | TrafficFilteringAction::RedirectIpv4(..)
            | TrafficFilteringAction::RedirectAs4(..) => Self::Redirect,
            TrafficFilteringAction::RedirectToIp(..) => Self::RedirectToIp,
            TrafficFilteringAction::Mark(_) => Self::TrafficMarking,
        }
    }
}

/// TCP flags by name, the bits as in `FlowSpecComponent::TcpFlags`.
pub(crate) const TCP_FLAGS: [(&str, u16); 9] = [
    ("fin", 0x001),
    ("syn", 0x002),
    ("rst", 0x004),
    ("psh", 0x008),
    ("ack", 0x010),
    ("urg", 0x020),
    ("ece", 0x040),
    ("cwr", 0x080),
    ("ns", 0x100),
];

/// Fragment bits by name, as in `FlowSpecComponent::Fragment`.
pub(crate) const FRAGMENT_BITS: [(&str, u16); 4] =
    [("df", 1), ("is", 2), ("first", 4), ("last", 8)];
