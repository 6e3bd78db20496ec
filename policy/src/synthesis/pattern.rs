//! What a group of packets has in common, and the rule that says so.

use std::collections::BTreeSet;

use tidegate_model::{
    BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, NumericMatch, NumericOperator,
    NumericTest, Part, Prefix,
};

use super::header_length;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// A packet that fills an Ethernet frame, or less that went on as fragments.
const FULL_LENGTH: u16 = 1500;
/// A fragment other than the first, and the first (RFC 8955 §4.2.2.12).
const LATER: u16 = 2;
const FIRST: u16 = 4;

/// TCP flags that are set, and that are not.
pub(super) type Flags = (u8, u8);

/// Conditions on a packet, all of which must hold. What is `None` or empty is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) protocol: u8,
    /// One of these.
    pub(super) source_ports: BTreeSet<u16>,
    /// One of these.
    pub(super) destination_ports: BTreeSet<u16>,
    pub(super) flags: Option<Flags>,
    pub(super) icmp_type: Option<u8>,
    /// A fragment other than the first, or any.
    pub(super) fragment: Option<Fragment>,
    /// Smallest and largest length, both inclusive.
    pub(super) length: Option<(u16, u16)>,
    /// Proved by handshakes.
    pub(super) source: Option<Prefix>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fragment {
    Any,
    Later,
}

impl Fragment {
    pub(super) fn of(part: Part) -> Option<Self> {
        match part {
            Part::Whole => None,
            Part::First => Some(Self::Any),
            Part::Later => Some(Self::Later),
        }
    }
}

impl Pattern {
    /// Whether it says more than what half of all traffic has in common.
    pub(super) fn is_narrow(&self) -> bool {
        let beside_length = !self.source_ports.is_empty()
            || !self.destination_ports.is_empty()
            || self.flags.is_some()
            || self.icmp_type.is_some()
            || self.fragment.is_some()
            || self.source.is_some();
        match self.protocol {
            TCP => beside_length && !self.is_any_segment(),
            UDP => beside_length || self.length.is_some(),
            _ => true,
        }
    }

    /// Established connections of every client, but for their length.
    fn is_any_segment(&self) -> bool {
        self.flags.is_some_and(|(set, _)| set & 0x10 != 0 && set & 0x07 == 0)
            && self.source_ports.is_empty()
            && self.source.is_none()
            && self.length.is_none()
    }

    /// How many conditions it has.
    pub(super) fn conditions(&self) -> usize {
        [
            !self.source_ports.is_empty(),
            !self.destination_ports.is_empty(),
            self.flags.is_some(),
            self.icmp_type.is_some(),
            self.fragment.is_some(),
            self.length.is_some(),
            self.source.is_some(),
        ]
        .into_iter()
        .filter(|has| *has)
        .count()
    }

    /// The rule for packets to `target`.
    pub(super) fn rule(&self, target: Prefix) -> Option<FlowSpecRule> {
        let mut components = vec![
            FlowSpecComponent::DestinationPrefix(target),
            FlowSpecComponent::IpProtocol(NumericMatch::equal(self.protocol.into())),
        ];
        components.extend(self.source.map(FlowSpecComponent::SourcePrefix));
        components.extend(one_of(&self.destination_ports).map(FlowSpecComponent::DestinationPort));
        components.extend(one_of(&self.source_ports).map(FlowSpecComponent::SourcePort));
        let kind = self.icmp_type.map(|kind| NumericMatch::equal(kind.into()));
        components.extend(kind.map(FlowSpecComponent::IcmpType));
        components.extend(self.flags.and_then(tcp_flags).map(FlowSpecComponent::TcpFlags));
        components.extend(self.fragment.and_then(fragment).map(FlowSpecComponent::Fragment));
        let least = header_length(target.family());
        components.extend(self.length.and_then(|(low, high)| {
            let low = low.max(least);
            let band = || match (low, high) {
                (low, high) if low == high => Some(NumericMatch::equal(low.into())),
                (low, u16::MAX) => at_least(low),
                (low, high) => Some(NumericMatch::range(low.into(), high.into())),
            };
            let excludes = low > least || high < FULL_LENGTH;
            let band = Some(low <= high && excludes).filter(|it| *it).and_then(|_| band());
            band.map(FlowSpecComponent::PacketLength)
        }));
        FlowSpecRule::new(target.family(), components).ok()
    }

    /// The same for packets of either, if they differ in the values of one port only.
    pub(super) fn merged(&self, other: &Self) -> Option<Self> {
        let length = match (self.length, other.length) {
            (Some((low, high)), Some((other_low, other_high))) => {
                Some((low.min(other_low), high.max(other_high)))
            }
            _ => None,
        };
        let both = |one: &BTreeSet<u16>, other: &BTreeSet<u16>| {
            if one.is_empty() || other.is_empty() { BTreeSet::new() } else { one | other }
        };
        let merged = Self {
            source_ports: both(&self.source_ports, &other.source_ports),
            destination_ports: both(&self.destination_ports, &other.destination_ports),
            length,
            ..self.clone()
        };
        let alike = Self {
            source_ports: other.source_ports.clone(),
            destination_ports: other.destination_ports.clone(),
            length: other.length,
            ..self.clone()
        };
        let source = self.source_ports != other.source_ports;
        let destination = self.destination_ports != other.destination_ports;
        (alike == *other && !(source && destination)).then_some(merged)
    }
}

fn one_of(ports: &BTreeSet<u16>) -> Option<NumericMatch> {
    let mut values = ports.iter().copied().map(u64::from);
    values.next().map(|first| NumericMatch::one_of(first, values))
}

fn at_least(value: u16) -> Option<NumericMatch> {
    let operator = NumericOperator::GreaterOrEqual;
    NumericMatch::new(vec![vec![NumericTest { operator, value: value.into() }]]).ok()
}

fn tcp_flags((set, clear): Flags) -> Option<BitmaskMatch> {
    let test = |negated: bool, bits: u8| BitmaskTest { all: !negated, negated, bits: bits.into() };
    let tests = [test(false, set), test(true, clear)].into_iter().filter(|test| test.bits != 0);
    BitmaskMatch::new(vec![tests.collect()]).ok()
}

fn fragment(fragment: Fragment) -> Option<BitmaskMatch> {
    // One bit a value: receivers that know only single fragment bits understand this form.
    let bit = |bits| vec![BitmaskTest { all: true, negated: false, bits }];
    match fragment {
        Fragment::Any => BitmaskMatch::new(vec![bit(LATER), bit(FIRST)]).ok(),
        Fragment::Later => Some(BitmaskMatch::all_of(LATER)),
    }
}
