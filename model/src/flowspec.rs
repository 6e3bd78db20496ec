//! FlowSpec rules in canonical form (RFC 8955 §4, RFC 8956 §3).
//!
//! What the wire computes is not stored: the end-of-list bit, value lengths and the AND bit of the
//! first operator follow from the structure. IPv6 prefix offsets are absent: receivers disagree
//! about them, so tidegate never sends one.

use std::fmt;
use std::sync::Arc;

use crate::prefix::Prefix;

/// Address family of a rule or route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// AFI 1.
    Ipv4,
    /// AFI 2.
    Ipv6,
}

impl AddressFamily {
    /// Length of an address in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// Comparison of a numeric operator, RFC 8955 §4.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NumericOperator {
    /// Always false (no lt, gt or eq bit).
    False,
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `!=`
    NotEqual,
    /// Always true (all three bits).
    True,
}

/// One `operator value` pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumericTest {
    /// How the packet's value is compared.
    pub operator: NumericOperator,
    /// With what.
    pub value: u64,
}

/// An OR of ANDs of numeric tests. Never empty, nor is any of its groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumericMatch(Vec<Vec<NumericTest>>);

impl NumericMatch {
    /// From groups of tests: a value matches if all tests of any one group hold.
    ///
    /// # Errors
    /// [`InvalidRule::EmptyMatch`] if there is no group or an empty group.
    pub fn new(groups: Vec<Vec<NumericTest>>) -> Result<Self, InvalidRule> {
        if groups.is_empty() || groups.iter().any(Vec::is_empty) {
            return Err(InvalidRule::EmptyMatch);
        }
        Ok(Self(groups))
    }

    /// Equal to `value`.
    #[must_use]
    pub fn equal(value: u64) -> Self {
        Self(vec![vec![NumericTest { operator: NumericOperator::Equal, value }]])
    }

    /// Equal to one of `first` and `rest`.
    #[must_use]
    pub fn one_of(first: u64, rest: impl IntoIterator<Item = u64>) -> Self {
        let equal = |value| vec![NumericTest { operator: NumericOperator::Equal, value }];
        Self(std::iter::once(first).chain(rest).map(equal).collect())
    }

    /// Within `low..=high`.
    #[must_use]
    pub fn range(low: u64, high: u64) -> Self {
        if low == high {
            return Self::equal(low);
        }
        Self(vec![vec![
            NumericTest { operator: NumericOperator::GreaterOrEqual, value: low },
            NumericTest { operator: NumericOperator::LessOrEqual, value: high },
        ]])
    }

    /// The groups of tests.
    #[must_use]
    pub fn groups(&self) -> &[Vec<NumericTest>] {
        &self.0
    }

    /// Whether `value` satisfies the match.
    #[must_use]
    pub fn matches(&self, value: u64) -> bool {
        self.0.iter().any(|group| group.iter().all(|test| test.holds(value)))
    }
}

impl NumericTest {
    /// Whether `value` passes.
    #[must_use]
    pub fn holds(&self, value: u64) -> bool {
        match self.operator {
            NumericOperator::False => false,
            NumericOperator::Equal => value == self.value,
            NumericOperator::Greater => value > self.value,
            NumericOperator::GreaterOrEqual => value >= self.value,
            NumericOperator::Less => value < self.value,
            NumericOperator::LessOrEqual => value <= self.value,
            NumericOperator::NotEqual => value != self.value,
            NumericOperator::True => true,
        }
    }
}

/// One bitmask test, RFC 8955 §4.2.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitmaskTest {
    /// The m bit: all of `bits` must be set (`true`), or at least one of them (`false`).
    pub all: bool,
    /// The not bit: the outcome is inverted.
    pub negated: bool,
    /// The bits looked at.
    pub bits: u16,
}

/// An OR of ANDs of bitmask tests. Never empty, nor is any of its groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitmaskMatch(Vec<Vec<BitmaskTest>>);

impl BitmaskMatch {
    /// From groups of tests: bits match if all tests of any one group hold.
    ///
    /// # Errors
    /// [`InvalidRule::EmptyMatch`] if there is no group or an empty group.
    pub fn new(groups: Vec<Vec<BitmaskTest>>) -> Result<Self, InvalidRule> {
        if groups.is_empty() || groups.iter().any(Vec::is_empty) {
            return Err(InvalidRule::EmptyMatch);
        }
        Ok(Self(groups))
    }

    /// All of `bits` set.
    #[must_use]
    pub fn all_of(bits: u16) -> Self {
        Self(vec![vec![BitmaskTest { all: true, negated: false, bits }]])
    }

    /// All of `set` set and none of `clear` set.
    #[must_use]
    pub fn set_and_clear(set: u16, clear: u16) -> Self {
        Self(vec![vec![
            BitmaskTest { all: true, negated: false, bits: set },
            BitmaskTest { all: false, negated: true, bits: clear },
        ]])
    }

    /// The groups of tests.
    #[must_use]
    pub fn groups(&self) -> &[Vec<BitmaskTest>] {
        &self.0
    }

    /// Whether `bits` satisfy the match.
    #[must_use]
    pub fn matches(&self, bits: u16) -> bool {
        self.0.iter().any(|group| group.iter().all(|test| test.holds(bits)))
    }
}

impl BitmaskTest {
    /// Whether `bits` pass.
    #[must_use]
    pub fn holds(&self, bits: u16) -> bool {
        let hit = if self.all { bits & self.bits == self.bits } else { bits & self.bits != 0 };
        hit != self.negated
    }
}

/// One component of a rule. The order of the variants is the order of the type codes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowSpecComponent {
    /// Type 1.
    DestinationPrefix(Prefix),
    /// Type 2.
    SourcePrefix(Prefix),
    /// Type 3; in IPv6 the upper-layer protocol (RFC 8956 §3.3).
    IpProtocol(NumericMatch),
    /// Type 4: source or destination port.
    Port(NumericMatch),
    /// Type 5.
    DestinationPort(NumericMatch),
    /// Type 6.
    SourcePort(NumericMatch),
    /// Type 7.
    IcmpType(NumericMatch),
    /// Type 8.
    IcmpCode(NumericMatch),
    /// Type 9: header bytes 13 and 14, data offset masked out (FIN is bit 0).
    TcpFlags(BitmaskMatch),
    /// Type 10: IP packet length in bytes, without the link layer.
    PacketLength(NumericMatch),
    /// Type 11.
    Dscp(NumericMatch),
    /// Type 12: bit 0 do-not-fragment, 1 is-a-fragment, 2 first, 3 last.
    Fragment(BitmaskMatch),
    /// Type 13, IPv6 only.
    FlowLabel(NumericMatch),
}

/// What a component asks for, whatever field it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentValue<'a> {
    /// An address inside it.
    Prefix(&'a Prefix),
    /// A number.
    Numeric(&'a NumericMatch),
    /// Bits.
    Bitmask(&'a BitmaskMatch),
}

impl FlowSpecComponent {
    /// What is asked for.
    #[must_use]
    pub const fn value(&self) -> ComponentValue<'_> {
        match self {
            Self::DestinationPrefix(prefix) | Self::SourcePrefix(prefix) => {
                ComponentValue::Prefix(prefix)
            }
            Self::IpProtocol(numeric)
            | Self::Port(numeric)
            | Self::DestinationPort(numeric)
            | Self::SourcePort(numeric)
            | Self::IcmpType(numeric)
            | Self::IcmpCode(numeric)
            | Self::PacketLength(numeric)
            | Self::Dscp(numeric)
            | Self::FlowLabel(numeric) => ComponentValue::Numeric(numeric),
            Self::TcpFlags(bitmask) | Self::Fragment(bitmask) => ComponentValue::Bitmask(bitmask),
        }
    }

    /// Type code on the wire.
    #[must_use]
    pub const fn type_code(&self) -> u8 {
        match self {
            Self::DestinationPrefix(_) => 1,
            Self::SourcePrefix(_) => 2,
            Self::IpProtocol(_) => 3,
            Self::Port(_) => 4,
            Self::DestinationPort(_) => 5,
            Self::SourcePort(_) => 6,
            Self::IcmpType(_) => 7,
            Self::IcmpCode(_) => 8,
            Self::TcpFlags(_) => 9,
            Self::PacketLength(_) => 10,
            Self::Dscp(_) => 11,
            Self::Fragment(_) => 12,
            Self::FlowLabel(_) => 13,
        }
    }

    /// The standard's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::DestinationPrefix(_) => "destination",
            Self::SourcePrefix(_) => "source",
            Self::IpProtocol(_) => "protocol",
            Self::Port(_) => "port",
            Self::DestinationPort(_) => "destination-port",
            Self::SourcePort(_) => "source-port",
            Self::IcmpType(_) => "icmp-type",
            Self::IcmpCode(_) => "icmp-code",
            Self::TcpFlags(_) => "tcp-flags",
            Self::PacketLength(_) => "packet-length",
            Self::Dscp(_) => "dscp",
            Self::Fragment(_) => "fragment",
            Self::FlowLabel(_) => "flow-label",
        }
    }
}

/// A rule: components in strictly increasing type order, each at most once, all of one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowSpecRule {
    family: AddressFamily,
    /// Shared, since a rule is the key of its route wherever that is kept.
    components: Arc<[FlowSpecComponent]>,
}

/// A rule that cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// No component at all: it would match everything.
    #[error("a FlowSpec rule needs at least one component")]
    Empty,
    /// The same component twice.
    #[error("component `{0}` stands twice; each may stand once (RFC 8955 §4.2)")]
    Duplicate(&'static str),
    /// A prefix of the other family, or a flow label in an IPv4 rule.
    #[error("component `{0}` does not belong to {1}")]
    WrongFamily(&'static str, AddressFamily),
    /// A component without tests.
    #[error("a component needs at least one value")]
    EmptyMatch,
}

impl FlowSpecRule {
    /// Sorts `components` by type and checks them.
    ///
    /// # Errors
    /// [`InvalidRule`] if there is none, one stands twice, or one is of the other family.
    pub fn new(
        family: AddressFamily,
        mut components: Vec<FlowSpecComponent>,
    ) -> Result<Self, InvalidRule> {
        components.sort_by_key(FlowSpecComponent::type_code);
        if components.is_empty() {
            return Err(InvalidRule::Empty);
        }
        for pair in components.windows(2) {
            if let [first, second] = pair
                && first.type_code() == second.type_code()
            {
                return Err(InvalidRule::Duplicate(first.name()));
            }
        }
        for component in &components {
            let wrong = match component {
                FlowSpecComponent::DestinationPrefix(prefix)
                | FlowSpecComponent::SourcePrefix(prefix) => prefix.family() != family,
                FlowSpecComponent::FlowLabel(_) => family == AddressFamily::Ipv4,
                _ => false,
            };
            if wrong {
                return Err(InvalidRule::WrongFamily(component.name(), family));
            }
        }
        Ok(Self { family, components: components.into() })
    }

    /// IPv4 or IPv6.
    #[must_use]
    pub fn family(&self) -> AddressFamily {
        self.family
    }

    /// The components in type order.
    #[must_use]
    pub fn components(&self) -> &[FlowSpecComponent] {
        &self.components
    }

    /// The destination prefix, if the rule has one.
    #[must_use]
    pub fn destination(&self) -> Option<Prefix> {
        self.components.iter().find_map(|component| match component {
            FlowSpecComponent::DestinationPrefix(prefix) => Some(*prefix),
            _ => None,
        })
    }
}

fn join<T>(
    formatter: &mut fmt::Formatter<'_>,
    groups: &[Vec<T>],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            formatter.write_str(" ")?;
        }
        for (position, test) in group.iter().enumerate() {
            if position > 0 {
                formatter.write_str("&")?;
            }
            write(formatter, test)?;
        }
    }
    Ok(())
}

impl fmt::Display for NumericMatch {
    /// `=53 >=1000&<=2000`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(formatter, &self.0, |formatter, test| {
            let sign = match test.operator {
                NumericOperator::False => return formatter.write_str("false"),
                NumericOperator::True => return formatter.write_str("true"),
                NumericOperator::Equal => "=",
                NumericOperator::Greater => ">",
                NumericOperator::GreaterOrEqual => ">=",
                NumericOperator::Less => "<",
                NumericOperator::LessOrEqual => "<=",
                NumericOperator::NotEqual => "!=",
            };
            write!(formatter, "{sign}{}", test.value)
        })
    }
}

fn write_bitmask(
    formatter: &mut fmt::Formatter<'_>,
    mask: &BitmaskMatch,
    names: &[&str],
) -> fmt::Result {
    join(formatter, &mask.0, |formatter, test| {
        if test.negated {
            formatter.write_str("!")?;
        }
        let separator = if test.all { "+" } else { "|" };
        let mut first = true;
        for bit in 0..16_usize {
            if test.bits >> bit & 1 == 0 {
                continue;
            }
            if !first {
                formatter.write_str(separator)?;
            }
            first = false;
            match names.get(bit) {
                Some(name) => formatter.write_str(name)?,
                None => write!(formatter, "bit{bit}")?,
            }
        }
        if first { formatter.write_str("none") } else { Ok(()) }
    })
}

const TCP_FLAG_NAMES: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
const FRAGMENT_NAMES: [&str; 4] = ["df", "is", "first", "last"];

impl fmt::Display for FlowSpecComponent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.name())?;
        match self.value() {
            ComponentValue::Prefix(prefix) => prefix.fmt(formatter),
            ComponentValue::Numeric(numeric) => numeric.fmt(formatter),
            ComponentValue::Bitmask(bitmask) => {
                let is_fragment = matches!(self, Self::Fragment(_));
                let names: &[&str] = if is_fragment { &FRAGMENT_NAMES } else { &TCP_FLAG_NAMES };
                write_bitmask(formatter, bitmask, names)
            }
        }
    }
}

impl fmt::Display for FlowSpecRule {
    /// `flow4 { destination 192.0.2.1/32; protocol =17; source-port =123 }`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            AddressFamily::Ipv4 => "flow4",
            AddressFamily::Ipv6 => "flow6",
        };
        write!(formatter, "{family} {{ ")?;
        for (index, component) in self.components.iter().enumerate() {
            if index > 0 {
                formatter.write_str("; ")?;
            }
            component.fmt(formatter)?;
        }
        formatter.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(text: &str) -> FlowSpecComponent {
        FlowSpecComponent::DestinationPrefix(text.parse().unwrap())
    }

    #[test]
    fn components_are_sorted_and_shown() {
        let rule = FlowSpecRule::new(
            AddressFamily::Ipv4,
            vec![
                FlowSpecComponent::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10)),
                FlowSpecComponent::SourcePort(NumericMatch::one_of(53, [123])),
                FlowSpecComponent::PacketLength(NumericMatch::range(100, 200)),
                destination("192.0.2.1"),
            ],
        )
        .unwrap();
        assert_eq!(
            rule.to_string(),
            "flow4 { destination 192.0.2.1/32; source-port =53 =123; tcp-flags syn&!ack; packet-length >=100&<=200 }"
        );
        assert_eq!(rule.destination(), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn impossible_rules_are_refused() {
        let family = AddressFamily::Ipv4;
        assert_eq!(FlowSpecRule::new(family, vec![]), Err(InvalidRule::Empty));
        assert_eq!(
            FlowSpecRule::new(family, vec![destination("192.0.2.1"), destination("192.0.2.2")]),
            Err(InvalidRule::Duplicate("destination"))
        );
        assert_eq!(
            FlowSpecRule::new(family, vec![destination("2001:db8::1")]),
            Err(InvalidRule::WrongFamily("destination", family))
        );
        assert_eq!(NumericMatch::new(vec![vec![]]), Err(InvalidRule::EmptyMatch));
    }

    #[test]
    fn matches_follow_rfc_8955() {
        let range = NumericMatch::range(10, 20);
        assert!(range.matches(10) && range.matches(20) && !range.matches(21));
        let syn_only = BitmaskMatch::set_and_clear(0x02, 0x10);
        assert!(syn_only.matches(0xc2) && !syn_only.matches(0x12) && !syn_only.matches(0x10));
    }
}
