//! FlowSpec rules as conditions on header fields that nftables can test.
//!
//! A rule becomes an OR of terms, each an AND of conditions: "this field, masked, lies in this
//! range (or does not)". One term is one nftables rule. Semantics are those of RFC 8955 §4.2.2 and
//! RFC 8956 §3: ports exist in TCP and UDP only and not in later fragments, ICMP types in ICMP only.

use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, NumericMatch, Prefix,
};

/// Most nftables rules that one filter may become.
pub(crate) const MAX_TERMS: usize = 32;

const PROTOCOL_ICMP: u64 = 1;
const PROTOCOL_TCP: u64 = 6;
const PROTOCOL_UDP: u64 = 17;
const PROTOCOL_ICMPV6: u64 = 58;
const IPV6_HEADER_LENGTH: u64 = 40;
/// Bits 12 to 15 of the TCP header's bytes 13 and 14 are the data offset, which is not matched.
const TCP_FLAG_BITS: u16 = 0x0FFF;

/// Why nftables cannot do what a route says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// A blackhole: there is no next hop to set in a packet filter.
    #[error("the kernel backend takes FlowSpec filters only, not unicast routes")]
    Unicast,
    /// A component without a counterpart.
    #[error("`{component}` cannot be expressed in nftables: {why}")]
    Component {
        /// The component's name.
        component: &'static str,
        /// What is in the way.
        why: &'static str,
    },
    /// No packet can satisfy it.
    #[error("the rule cannot match any packet")]
    MatchesNothing,
    /// Too many combinations of alternatives.
    #[error("the rule would become more than {MAX_TERMS} nftables rules")]
    TooManyTerms,
    /// An action other than one discard or one rate limit.
    #[error("the kernel backend takes one discard or one rate limit, not `{0}`")]
    Actions(String),
    /// nftables counts whole units.
    #[error("`{0}` is not a rate that nftables can limit to: 1 or more per second")]
    Rate(String),
}

/// The bit of the fragment component for fragments other than the first.
const LATER_FRAGMENT: u32 = 1;

/// Part of a packet that nftables can load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, one byte.
    FamilyNumber,
    /// The upper-layer protocol behind all extension headers, one byte.
    UpperLayerProtocol,
    /// Bytes of the IP header.
    Network {
        /// From its start.
        offset: u8,
        /// At most 16.
        length: u8,
    },
    /// Bytes of the upper-layer header. Means nothing in later fragments.
    Transport {
        /// From its start.
        offset: u8,
        /// At most 16.
        length: u8,
    },
    /// The offset and flags of the IPv6 fragment header, two bytes; absent without one.
    FragmentHeader,
    /// One byte: 1 if there is an IPv6 fragment header, else 0.
    FragmentHeaderPresent,
}

impl Field {
    /// Length in bytes.
    pub(crate) fn length(self) -> u8 {
        match self {
            Self::FamilyNumber | Self::UpperLayerProtocol | Self::FragmentHeaderPresent => 1,
            Self::FragmentHeader => 2,
            Self::Network { length, .. } | Self::Transport { length, .. } => length,
        }
    }

    /// All bits set.
    pub(crate) fn full_mask(self) -> u128 {
        u128::MAX >> 128_u32.saturating_sub(u32::from(self.length()) * 8).min(127)
    }
}

/// `field & mask` lies in `low..=high`, or does not. Never holds where the field is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) field: Field,
    pub(crate) mask: u128,
    pub(crate) low: u128,
    pub(crate) high: u128,
    pub(crate) negated: bool,
}

impl Condition {
    pub(super) fn equal(field: Field, mask: u128, value: u128) -> Self {
        Self { field, mask, low: value, high: value, negated: false }
    }

    fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

/// All of them hold.
pub(crate) type Term = Vec<Condition>;

/// One of them holds. Empty: never. With an empty term: always.
type Terms = Vec<Term>;

/// Every combination of one term of each.
fn both(left: &Terms, right: &Terms) -> Result<Terms, Untranslatable> {
    if left.len().saturating_mul(right.len()) > MAX_TERMS {
        return Err(Untranslatable::TooManyTerms);
    }
    let combine = |first: &Term| {
        let first = first.clone();
        right.iter().map(move |second| first.iter().chain(second).copied().collect())
    };
    Ok(left.iter().flat_map(combine).collect())
}

fn all_of(parts: impl IntoIterator<Item = Terms>) -> Result<Terms, Untranslatable> {
    parts.into_iter().try_fold(vec![vec![]], |sum, part| both(&sum, &part))
}

fn any_of(parts: impl IntoIterator<Item = Terms>) -> Terms {
    parts.into_iter().flatten().collect()
}

/// The terms of `rule`; at least one and at most [`MAX_TERMS`].
pub(crate) fn translate(rule: &FlowSpecRule) -> Result<Vec<Term>, Untranslatable> {
    let family = rule.family();
    let number = match family {
        AddressFamily::Ipv4 => 2,
        AddressFamily::Ipv6 => 10,
    };
    let mut terms = vec![vec![Condition::equal(Field::FamilyNumber, 0xFF, number)]];
    terms = both(&terms, &protocols(rule)?)?;
    for component in rule.components() {
        terms = both(&terms, &component_terms(family, component)?)?;
    }
    if terms.is_empty() { Err(Untranslatable::MatchesNothing) } else { Ok(terms) }
}

/// What the protocol component says, narrowed to packets that have what the others look at.
///
/// nftables itself does not keep to that: in later fragments its fast path takes the data that
/// stands where the upper-layer header would (IPv4), or the IP header (IPv6), for ports and flags.
fn protocols(rule: &FlowSpecRule) -> Result<Terms, Untranslatable> {
    let mut stated = None;
    let mut possible: Option<Vec<u64>> = None;
    for component in rule.components() {
        let has_it: &[u64] = match component {
            FlowSpecComponent::IpProtocol(numeric) => {
                stated = Some(numeric);
                continue;
            }
            FlowSpecComponent::Port(_)
            | FlowSpecComponent::DestinationPort(_)
            | FlowSpecComponent::SourcePort(_) => &[PROTOCOL_TCP, PROTOCOL_UDP],
            FlowSpecComponent::TcpFlags(_) => &[PROTOCOL_TCP],
            FlowSpecComponent::IcmpType(_) | FlowSpecComponent::IcmpCode(_) => {
                match rule.family() {
                    AddressFamily::Ipv4 => &[PROTOCOL_ICMP],
                    AddressFamily::Ipv6 => &[PROTOCOL_ICMPV6],
                }
            }
            _ => continue,
        };
        let both = possible.iter().flatten().filter(|number| has_it.contains(number));
        possible = Some(match possible {
            Some(_) => both.copied().collect(),
            None => has_it.to_vec(),
        });
    }
    let field = Field::UpperLayerProtocol;
    match (stated, possible) {
        (None, None) => Ok(vec![vec![]]),
        (Some(numeric), None) => Ok(numeric_terms(field, 0, numeric, 0..=255)),
        (stated, Some(possible)) => {
            let protocols: Terms = possible
                .into_iter()
                .filter(|number| stated.is_none_or(|numeric| numeric.matches(*number)))
                .map(|number| vec![Condition::equal(field, field.full_mask(), number.into())])
                .collect();
            both(&protocols, &fragment_bit(rule.family(), LATER_FRAGMENT, false)?)
        }
    }
}

fn component_terms(
    family: AddressFamily,
    component: &FlowSpecComponent,
) -> Result<Terms, Untranslatable> {
    let ipv6 = family == AddressFamily::Ipv6;
    let network = |offset, length| Field::Network { offset, length };
    let transport = |offset, length| Field::Transport { offset, length };
    Ok(match component {
        FlowSpecComponent::DestinationPrefix(prefix) => {
            prefix_terms(*prefix, if ipv6 { network(24, 16) } else { network(16, 4) })
        }
        FlowSpecComponent::SourcePrefix(prefix) => {
            prefix_terms(*prefix, if ipv6 { network(8, 16) } else { network(12, 4) })
        }
        // Together with what the other components need of the protocol: see `protocols`.
        FlowSpecComponent::IpProtocol(_) => vec![vec![]],
        FlowSpecComponent::Port(numeric) => any_of([
            numeric_terms(transport(0, 2), 0, numeric, 0..=0xFFFF),
            numeric_terms(transport(2, 2), 0, numeric, 0..=0xFFFF),
        ]),
        FlowSpecComponent::DestinationPort(numeric) => {
            numeric_terms(transport(2, 2), 0, numeric, 0..=0xFFFF)
        }
        FlowSpecComponent::SourcePort(numeric) => {
            numeric_terms(transport(0, 2), 0, numeric, 0..=0xFFFF)
        }
        FlowSpecComponent::IcmpType(numeric) => {
            numeric_terms(transport(0, 1), 0, numeric, 0..=0xFF)
        }
        FlowSpecComponent::IcmpCode(numeric) => {
            numeric_terms(transport(1, 1), 0, numeric, 0..=0xFF)
        }
        FlowSpecComponent::TcpFlags(mask) => bitmask_terms(mask, tcp_flag_test)?,
        FlowSpecComponent::PacketLength(numeric) if ipv6 => {
            // The header counts what follows it.
            let longest = 0xFFFF + IPV6_HEADER_LENGTH;
            numeric_terms(network(4, 2), 0, numeric, IPV6_HEADER_LENGTH..=longest)
        }
        FlowSpecComponent::PacketLength(numeric) => {
            numeric_terms(network(2, 2), 0, numeric, 0..=0xFFFF)
        }
        FlowSpecComponent::Dscp(numeric) if ipv6 => {
            numeric_terms(network(0, 2), 6, numeric, 0..=0x3F)
        }
        FlowSpecComponent::Dscp(numeric) => numeric_terms(network(1, 1), 2, numeric, 0..=0x3F),
        FlowSpecComponent::Fragment(mask) => {
            bitmask_terms(mask, |test| fragment_test(family, test))?
        }
        FlowSpecComponent::FlowLabel(numeric) => {
            numeric_terms(network(0, 4), 0, numeric, 0..=0xF_FFFF)
        }
    })
}

fn prefix_terms(prefix: Prefix, field: Field) -> Terms {
    let address = match prefix.address() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let host_bits = u32::from(prefix.family().bits().saturating_sub(prefix.length()));
    let mask = field.full_mask() & u128::MAX.checked_shl(host_bits).unwrap_or(0);
    vec![vec![Condition::equal(field, mask, address)]]
}

/// The values in `domain` that match, as ranges that do not touch.
fn ranges(numeric: &NumericMatch, domain: &std::ops::RangeInclusive<u64>) -> Vec<(u64, u64)> {
    // The outcome can only change at a value that is compared with, and just after it.
    let values = numeric.groups().iter().flatten().map(|test| test.value);
    let mut starts: Vec<u64> = values
        .flat_map(|value| [value, value.saturating_add(1)])
        .chain([*domain.start()])
        .filter(|value| domain.contains(value))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let mut found: Vec<(u64, u64)> = vec![];
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(*domain.end(), |next| next - 1);
        if !numeric.matches(*start) {
            continue;
        }
        match found.last_mut() {
            Some((_, last)) if last.saturating_add(1) == *start => *last = end,
            _ => found.push((*start, end)),
        }
    }
    found
}

/// Conditions on a field that holds `(value - first of domain) << shift`.
fn numeric_terms(
    field: Field,
    shift: u32,
    numeric: &NumericMatch,
    domain: std::ops::RangeInclusive<u64>,
) -> Terms {
    let found = ranges(numeric, &domain);
    let (first, last) = (*domain.start(), *domain.end());
    let placed = |value: u64| u128::from(value.saturating_sub(first)) << shift;
    let mask = placed(last);
    let condition = |(low, high): (u64, u64), negated| {
        vec![Condition { field, mask, low: placed(low), high: placed(high), negated }]
    };
    match found.as_slice() {
        // All but one range in the middle: one condition instead of two.
        [(low, before), (after, high)] if *low == first && *high == last => {
            vec![condition((before + 1, after - 1), true)]
        }
        ranges => ranges.iter().map(|range| condition(*range, false)).collect(),
    }
}

fn bitmask_terms(
    mask: &BitmaskMatch,
    test: impl Fn(BitmaskTest) -> Result<Terms, Untranslatable>,
) -> Result<Terms, Untranslatable> {
    let mut terms = vec![];
    for group in mask.groups() {
        let parts: Result<Vec<Terms>, _> = group.iter().map(|one| test(*one)).collect();
        terms.extend(all_of(parts?)?);
    }
    Ok(terms)
}

fn tcp_flag_test(test: BitmaskTest) -> Result<Terms, Untranslatable> {
    let field = Field::Transport { offset: 12, length: 2 };
    let bits = u128::from(test.bits & TCP_FLAG_BITS);
    let impossible = test.bits & !TCP_FLAG_BITS != 0;
    let hit = match (test.all, impossible) {
        // No packet has them all. That it has not holds only where there are flags at all.
        (true, true) if !test.negated => return Ok(vec![]),
        (true, true) => Condition::equal(field, 0, 0).not(),
        (true, false) => Condition::equal(field, bits, bits),
        (false, _) => Condition::equal(field, bits, 0).not(),
    };
    Ok(vec![vec![if test.negated { hit.not() } else { hit }]])
}

fn fragment_test(family: AddressFamily, test: BitmaskTest) -> Result<Terms, Untranslatable> {
    let bits = (0..16).filter(|bit| test.bits >> bit & 1 == 1);
    let parts: Result<Vec<Terms>, _> =
        bits.map(|bit| fragment_bit(family, bit, !test.negated)).collect();
    // Not all of them is one of them not; not any of them is all of them not.
    if test.all != test.negated { all_of(parts?) } else { Ok(any_of(parts?)) }
}

/// Whether one bit of the fragment component is set (or is not), RFC 8955 §4.2.2.12.
fn fragment_bit(family: AddressFamily, bit: u32, set: bool) -> Result<Terms, Untranslatable> {
    let field = match family {
        AddressFamily::Ipv4 => Field::Network { offset: 6, length: 2 },
        AddressFamily::Ipv6 => Field::FragmentHeader,
    };
    // Offset, more-fragments and both, where the family has them.
    let (offset, more) = match family {
        AddressFamily::Ipv4 => (0x1FFF, 0x2000),
        AddressFamily::Ipv6 => (0xFFF8, 0x0001),
    };
    let offset_zero = Condition::equal(field, offset, 0);
    let more_set = Condition::equal(field, more, more);
    let holds = match (family, bit) {
        (AddressFamily::Ipv4, 0) => vec![Condition::equal(field, 0x4000, 0x4000)],
        (AddressFamily::Ipv6, 0) => {
            let why = "IPv6 has no do-not-fragment bit (RFC 8956 §3.6)";
            return Err(Untranslatable::Component { component: "fragment", why });
        }
        (_, LATER_FRAGMENT) => vec![offset_zero.not()],
        (_, 2) => vec![offset_zero, more_set],
        (_, 3) => vec![offset_zero.not(), more_set.not()],
        _ => return Ok(if set { vec![] } else { vec![vec![]] }),
    };
    if set {
        return Ok(vec![holds]);
    }
    let mut terms: Terms = holds.into_iter().map(|condition| vec![condition.not()]).collect();
    if family == AddressFamily::Ipv6 {
        terms.push(vec![Condition::equal(Field::FragmentHeaderPresent, 0xFF, 0)]);
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tidegate_model::{NumericOperator, NumericTest};

    use crate::kernel::packets::{Packet, families, packets, rules};

    fn component(component: FlowSpecComponent) -> FlowSpecRule {
        FlowSpecRule::new(AddressFamily::Ipv4, vec![component]).unwrap()
    }

    /// The number of terms, or why there are none.
    fn terms_of(components: Vec<FlowSpecComponent>) -> Result<usize, Untranslatable> {
        let rule = FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap();
        translate(&rule).map(|terms| terms.len())
    }

    #[test]
    fn usual_filters_become_one_rule() {
        use FlowSpecComponent as Part;
        let target = || Part::DestinationPrefix("203.0.113.1".parse().unwrap());
        let udp = || Part::IpProtocol(NumericMatch::equal(17));
        let not_equal = NumericTest { operator: NumericOperator::NotEqual, value: 53 };
        for (components, terms) in [
            (vec![target()], 1),
            (vec![target(), udp(), Part::SourcePort(NumericMatch::equal(123))], 1),
            (vec![target(), udp(), Part::SourcePort(NumericMatch::range(1024, 65535))], 1),
            (vec![target(), udp(), Part::SourcePort(NumericMatch::one_of(53, [123]))], 2),
            (vec![target(), udp(), Part::Port(NumericMatch::equal(123))], 2),
            (vec![target(), Part::SourcePort(NumericMatch::equal(123))], 2),
            (vec![target(), Part::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10))], 1),
            (vec![target(), Part::Fragment(BitmaskMatch::all_of(0x02))], 1),
            (
                vec![
                    target(),
                    udp(),
                    Part::SourcePort(NumericMatch::new(vec![vec![not_equal]]).unwrap()),
                ],
                1,
            ),
            (vec![target(), udp(), Part::PacketLength(NumericMatch::range(100, 2000))], 1),
        ] {
            assert_eq!(terms_of(components.clone()), Ok(terms), "{components:?}");
        }
    }

    #[test]
    fn impossible_and_excessive_rules_are_refused() {
        use FlowSpecComponent as Part;
        let nothing = Err(Untranslatable::MatchesNothing);
        let tcp = || Part::IpProtocol(NumericMatch::equal(6));
        let odd = |count| NumericMatch::one_of(1, (1..count).map(|value| 2 * value + 1));
        for (components, expected) in [
            (vec![Part::SourcePort(NumericMatch::equal(65_536))], nothing.clone()),
            (vec![tcp(), Part::IcmpType(NumericMatch::equal(8))], nothing.clone()),
            (vec![Part::TcpFlags(BitmaskMatch::all_of(0xF002))], nothing.clone()),
            (vec![Part::Fragment(BitmaskMatch::all_of(0x10))], nothing),
            (vec![tcp(), Part::SourcePort(odd(32))], Ok(32)),
            (vec![tcp(), Part::SourcePort(odd(33))], Err(Untranslatable::TooManyTerms)),
            (
                vec![tcp(), Part::SourcePort(odd(8)), Part::DestinationPort(odd(8))],
                Err(Untranslatable::TooManyTerms),
            ),
        ] {
            assert_eq!(terms_of(components.clone()), expected, "{components:?}");
        }
        let mask = FlowSpecComponent::Fragment(BitmaskMatch::all_of(0x01));
        let rule = FlowSpecRule::new(AddressFamily::Ipv6, vec![mask]).unwrap();
        let why = translate(&rule).unwrap_err().to_string();
        assert!(why.contains("no do-not-fragment bit"), "{why}");
    }

    #[test]
    fn no_address_of_the_other_family_is_matched() {
        let rule = component(FlowSpecComponent::DestinationPrefix(Prefix::all_ipv4()));
        let terms = translate(&rule).unwrap();
        assert_eq!(terms[0][0], Condition::equal(Field::FamilyNumber, 0xFF, 2));
    }

    fn rule_and_packets() -> impl Strategy<Value = (FlowSpecRule, Vec<Packet>)> {
        families().prop_flat_map(|family| (rules(family), vec(packets(family), 40)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_terms_match_what_the_rfcs_say((rule, packets) in rule_and_packets()) {
            let terms = match translate(&rule) {
                Ok(terms) => terms,
                Err(Untranslatable::MatchesNothing) => vec![],
                Err(Untranslatable::TooManyTerms) => return Ok(()),
                Err(other) => panic!("{rule}: {other}"),
            };
            for packet in packets {
                let expected = packet.is_matched_by(&rule);
                prop_assert_eq!(packet.fulfils_any(&terms), expected, "{}: {:?}", rule, packet);
            }
        }

        #[test]
        fn ranges_are_exactly_the_matching_values(
            groups in vec(vec((0..8_usize, 0..300_u64), 1..4), 1..4),
            start in 0..50_u64,
        ) {
            use NumericOperator as Is;
            const OPERATORS: [NumericOperator; 8] = [Is::False, Is::Equal, Is::Greater,
                Is::GreaterOrEqual, Is::Less, Is::LessOrEqual, Is::NotEqual, Is::True];
            let test = |(operator, value)| NumericTest { operator: OPERATORS[operator], value };
            let groups = groups.into_iter().map(|group| group.into_iter().map(test).collect());
            let numeric = NumericMatch::new(groups.collect()).unwrap();
            let found = ranges(&numeric, &(start..=255));
            for value in start..=255 {
                let inside = found.iter().any(|(low, high)| (*low..=*high).contains(&value));
                prop_assert_eq!(inside, numeric.matches(value), "{}", value);
            }
            prop_assert!(found.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert!(found.iter().all(|(low, high)| start <= *low && low <= high && *high <= 255));
        }
    }
}
