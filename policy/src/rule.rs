//! From what the packets of an attack have in common to FlowSpec rules (RFC 8955, RFC 8956).
//!
//! Each vector gives the narrowest rules that its signature supports, and none if what is left
//! would be a blackhole in disguise. What each kind of flood is matched by, beside the target:
//!
//! | vector | matched by |
//! |---|---|
//! | amplification | UDP, source ports, packet length |
//! | SYN flood | TCP, SYN without ACK, up to [`FEW_PORTS`] destination ports, packet length |
//! | SYN-ACK reflection or flood | TCP, SYN with ACK, source ports, packet length |
//! | other TCP | TCP, flags, ports, packet length; never TCP alone |
//! | LAND | the target as source, protocol, flags, packet length |
//! | UDP, DNS query or QUIC flood | UDP, ports, packet length |
//! | ICMP flood or backscatter | ICMP or ICMPv6, type, packet length |
//! | fragments | any fragment, protocol |
//! | GRE, ESP, IGMP, another protocol | its number, packet length |
//!
//! An attack that comes as fragments gets a second rule for all fragments but the first: those have
//! no ports to match. How many ports a rule may have at one receiver is in its
//! [profile](crate::profile), which spreads them over several if need be.

use std::collections::BTreeSet;

use tidegate_model::{
    AddressFamily, AttackVector, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule,
    NumericMatch, Prefix, Signature, TcpFlags, VectorEstimate,
};

use crate::guard::{self, MAX_VALUES};

/// A vector with a smaller share of the attack's packets gets no rule, unless it is the main one.
pub const MIN_SHARE: f64 = 0.1;
/// Rules that together match a smaller share of the attack's packets are not worth installing:
/// the target would stay down and a stronger response would not be tried.
pub const MIN_COVERED: f64 = 0.5;
/// Ports beside what tells the attack already are matched if they are no more than this.
pub const FEW_PORTS: usize = 5;
/// Most rules for one attack. The vectors with the smallest shares go without.
pub const MAX_RULES: usize = 8;

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;
/// The IPv6 extension header that makes a fragment; the protocol stands behind it.
const FRAGMENT_HEADER: u8 = 44;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FRAGMENT_IS: u16 = 2;
const FRAGMENT_FIRST: u16 = 4;
/// The packet length of a full Ethernet frame: a band up to here excludes nothing.
const FULL_LENGTH: u16 = 1500;

/// Why an attack gives no FlowSpec rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoRule {
    /// Not classified.
    #[error(
        "the kind of flood is not recognised: a rule for everything to {target} would be a \
         blackhole in disguise"
    )]
    Unknown {
        /// Where the attack goes.
        target: Prefix,
    },
    /// The packets agree on nothing that could be matched without cutting the target off.
    #[error(
        "the packets of the {vector} to {target} have nothing narrow in common: a rule would be \
         a blackhole in disguise"
    )]
    TooBroad {
        /// The kind of flood.
        vector: AttackVector,
        /// Where it goes.
        target: Prefix,
    },
    /// The signature denies what the vector is.
    #[error("the signature of the {vector} says protocol {protocol}, which it cannot have")]
    Contradiction {
        /// The kind of flood.
        vector: AttackVector,
        /// What the signature claims.
        protocol: u8,
    },
    /// Too much of the attack would pass.
    #[error("rules would match only {covered:.0} % of the attack's packets to {target}")]
    TooLittle {
        /// Share of packets matched, in percent.
        covered: f64,
        /// Where the attack goes.
        target: Prefix,
    },
}

/// The narrowest rules that match the vectors of an attack on `target`, those with the largest
/// share first, at most [`MAX_RULES`].
///
/// # Errors
/// [`NoRule`] if what can be matched is too little of the attack or too much of everything else.
pub fn synthesise(target: Prefix, vectors: &[VectorEstimate]) -> Result<Vec<FlowSpecRule>, NoRule> {
    let mut rules: Vec<FlowSpecRule> = Vec::new();
    let mut covered = 0.0;
    let mut failure = None;
    for (index, estimate) in vectors.iter().enumerate() {
        if index > 0 && estimate.share < MIN_SHARE {
            continue;
        }
        match rules_of_vector(target, estimate.vector, &estimate.signature) {
            Ok(new) if rules.len() + new.len() <= MAX_RULES => {
                covered += estimate.share;
                for rule in new {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
            Ok(_) => {}
            Err(reason) => failure = failure.or(Some(reason)),
        }
    }
    // A vector without a rule is why too little is covered: the more telling reason of the two.
    if covered < MIN_COVERED {
        return Err(failure.unwrap_or(NoRule::TooLittle { covered: covered * 100.0, target }));
    }
    Ok(rules)
}

type Components = Vec<FlowSpecComponent>;

fn rules_of_vector(
    target: Prefix,
    vector: AttackVector,
    signature: &Signature,
) -> Result<Vec<FlowSpecRule>, NoRule> {
    if vector == AttackVector::Unknown {
        return Err(NoRule::Unknown { target });
    }
    let too_broad = NoRule::TooBroad { vector, target };
    if *signature == Signature::default() {
        return Err(too_broad);
    }
    let protocol = protocol_of(vector, signature, target.family())?;
    let mut rules = match vector {
        AttackVector::SynFlood | AttackVector::TcpConnectionFlood => syn_flood(signature),
        AttackVector::SynAckReflection | AttackVector::SynAckFlood => syn_ack_reflection(signature),
        AttackVector::AckFlood
        | AttackVector::RstFlood
        | AttackVector::FinFlood
        | AttackVector::XmasFlood
        | AttackVector::NullFlood
        | AttackVector::MiddleboxReflection
        | AttackVector::TcpFlood => tcp_flood(signature),
        AttackVector::LandFlood => vec![land_flood(target, protocol, signature)],
        AttackVector::UdpFlood
        | AttackVector::DnsQueryFlood
        | AttackVector::DnsWaterTorture
        | AttackVector::QuicFlood => port_flood(vec![protocol_is(UDP)], signature),
        AttackVector::Amplification(_) => amplification(signature),
        AttackVector::IcmpFlood | AttackVector::IcmpBackscatter => {
            vec![icmp_flood(protocol, signature)]
        }
        AttackVector::FragmentFlood => {
            return one_rule(target, fragment_flood(protocol), too_broad);
        }
        AttackVector::GreFlood
        | AttackVector::EspFlood
        | AttackVector::IgmpFlood
        | AttackVector::ProtocolFlood => {
            protocol.map(|number| vec![protocol_is(number)]).into_iter().collect()
        }
        AttackVector::Unknown => Vec::new(),
    };
    let length = packet_length(signature, protocol, target.family());
    for components in &mut rules {
        components.extend(length.clone());
    }
    // TCP alone is the target's whole business.
    rules.retain(|components| components.iter().any(|part| *part != protocol_is(TCP)));
    if let Some(number) = protocol
        && signature.fragments
        && !rules.is_empty()
    {
        let later = FlowSpecComponent::Fragment(BitmaskMatch::all_of(FRAGMENT_IS));
        rules.push(vec![protocol_is(number), later]);
    }
    let rules: Vec<FlowSpecRule> =
        rules.into_iter().filter_map(|components| to_rule(target, components)).collect();
    if rules.is_empty() { Err(too_broad) } else { Ok(rules) }
}

fn one_rule(
    target: Prefix,
    components: Components,
    otherwise: NoRule,
) -> Result<Vec<FlowSpecRule>, NoRule> {
    to_rule(target, components).map(|rule| vec![rule]).ok_or(otherwise)
}

fn to_rule(target: Prefix, mut components: Components) -> Option<FlowSpecRule> {
    components.push(FlowSpecComponent::DestinationPrefix(target));
    FlowSpecRule::new(target.family(), components).ok()
}

/// The protocol that every packet of the vector has.
fn protocol_of(
    vector: AttackVector,
    signature: &Signature,
    family: AddressFamily,
) -> Result<Option<u8>, NoRule> {
    let implied = match vector {
        AttackVector::SynFlood
        | AttackVector::TcpConnectionFlood
        | AttackVector::SynAckReflection
        | AttackVector::SynAckFlood
        | AttackVector::AckFlood
        | AttackVector::RstFlood
        | AttackVector::FinFlood
        | AttackVector::XmasFlood
        | AttackVector::NullFlood
        | AttackVector::MiddleboxReflection
        | AttackVector::TcpFlood => Some(TCP),
        AttackVector::UdpFlood
        | AttackVector::DnsQueryFlood
        | AttackVector::DnsWaterTorture
        | AttackVector::QuicFlood
        | AttackVector::Amplification(_) => Some(UDP),
        AttackVector::IcmpFlood | AttackVector::IcmpBackscatter => Some(match family {
            AddressFamily::Ipv4 => ICMP,
            AddressFamily::Ipv6 => ICMPV6,
        }),
        AttackVector::GreFlood => Some(GRE),
        AttackVector::EspFlood => Some(ESP),
        AttackVector::IgmpFlood => Some(IGMP),
        AttackVector::LandFlood
        | AttackVector::FragmentFlood
        | AttackVector::ProtocolFlood
        | AttackVector::Unknown => None,
    };
    match (implied, signature.protocol) {
        (Some(implied), Some(protocol)) if implied != protocol => {
            Err(NoRule::Contradiction { vector, protocol })
        }
        _ => Ok(implied.or(signature.protocol)),
    }
}

fn syn_flood(signature: &Signature) -> Vec<Components> {
    let flags = with_flags(signature.tcp_flags, TcpFlags { set: SYN, clear: ACK });
    let ports = signature.destination_ports.as_slice();
    // Connection requests are told apart by their flags: many ports need not be listed.
    let ports = if ports.len() <= FEW_PORTS { ports } else { &[] };
    with_ports(&[protocol_is(TCP), flags], ports, FlowSpecComponent::DestinationPort)
}

fn syn_ack_reflection(signature: &Signature) -> Vec<Components> {
    let flags = with_flags(signature.tcp_flags, TcpFlags { set: SYN | ACK, clear: 0 });
    let fixed = [protocol_is(TCP), flags];
    with_ports(&fixed, &signature.source_ports, FlowSpecComponent::SourcePort)
}

fn tcp_flood(signature: &Signature) -> Vec<Components> {
    let flags = meaningful(signature.tcp_flags).map(tcp_flags);
    port_flood(std::iter::once(protocol_is(TCP)).chain(flags).collect(), signature)
}

/// Nothing honest comes from the target to the target.
fn land_flood(target: Prefix, protocol: Option<u8>, signature: &Signature) -> Components {
    let from = FlowSpecComponent::SourcePrefix(target);
    let flags = meaningful(signature.tcp_flags).filter(|_| protocol == Some(TCP)).map(tcp_flags);
    protocol.map(protocol_is).into_iter().chain([from]).chain(flags).collect()
}

/// The service's port is what makes it an answer: without it the rule would cut all UDP, unless
/// all answers are of one length.
fn amplification(signature: &Signature) -> Vec<Components> {
    if signature.source_ports.is_empty()
        && signature.packet_length.is_some_and(|(low, high)| low == high)
    {
        return vec![vec![protocol_is(UDP)]];
    }
    let most = signature.source_ports.len().min(MAX_VALUES);
    match signature.source_ports.get(..most) {
        Some(ports @ [_, ..]) => {
            with_ports(&[protocol_is(UDP)], ports, FlowSpecComponent::SourcePort)
        }
        _ => Vec::new(),
    }
}

fn icmp_flood(protocol: Option<u8>, signature: &Signature) -> Components {
    let kind = signature.icmp_type.map(|kind| NumericMatch::equal(kind.into()));
    let kind = kind.map(FlowSpecComponent::IcmpType);
    protocol.map(protocol_is).into_iter().chain(kind).collect()
}

fn fragment_flood(protocol: Option<u8>) -> Components {
    // One bit a value: receivers that know only single fragment bits understand this form.
    let bit = |bits| vec![BitmaskTest { all: true, negated: false, bits }];
    let any = BitmaskMatch::new(vec![bit(FRAGMENT_IS), bit(FRAGMENT_FIRST)]);
    let fragment = any.ok().map(FlowSpecComponent::Fragment);
    let protocol = protocol.filter(|number| *number != FRAGMENT_HEADER).map(protocol_is);
    protocol.into_iter().chain(fragment).collect()
}

/// Destination ports, and the source ports if they are few.
fn port_flood(mut fixed: Components, signature: &Signature) -> Vec<Components> {
    if signature.source_ports.len() <= FEW_PORTS {
        fixed.extend(port_match(&signature.source_ports).map(FlowSpecComponent::SourcePort));
    }
    with_ports(&fixed, &signature.destination_ports, FlowSpecComponent::DestinationPort)
}

/// One rule, without ports if they are more than [`MAX_VALUES`]: those are no concentration.
fn with_ports(
    fixed: &[FlowSpecComponent],
    ports: &[u16],
    component: fn(NumericMatch) -> FlowSpecComponent,
) -> Vec<Components> {
    let ports = Some(ports).filter(|ports| ports.len() <= MAX_VALUES).and_then(port_match);
    vec![fixed.iter().cloned().chain(ports.map(component)).collect()]
}

/// Sorted, so that the order in which ports were seen makes no other rule.
fn port_match(ports: &[u16]) -> Option<NumericMatch> {
    let sorted: BTreeSet<u64> = ports.iter().copied().map(u64::from).collect();
    let mut values = sorted.into_iter();
    values.next().map(|first| NumericMatch::one_of(first, values))
}

fn protocol_is(number: u8) -> FlowSpecComponent {
    FlowSpecComponent::IpProtocol(NumericMatch::equal(number.into()))
}

fn tcp_flags(flags: TcpFlags) -> FlowSpecComponent {
    let (set, clear) = (u16::from(flags.set), u16::from(flags.clear));
    let test = |negated: bool, bits| BitmaskTest { all: !negated, negated, bits };
    let tests: Vec<BitmaskTest> =
        [test(false, set), test(true, clear)].into_iter().filter(|test| test.bits != 0).collect();
    let mask = BitmaskMatch::new(vec![tests]);
    FlowSpecComponent::TcpFlags(mask.unwrap_or_else(|_| BitmaskMatch::all_of(set)))
}

/// Flags that say something, and do not contradict themselves.
fn meaningful(flags: Option<TcpFlags>) -> Option<TcpFlags> {
    flags.filter(|flags| flags.set & flags.clear == 0 && flags.set | flags.clear != 0)
}

/// What the vector is by definition, and flags beyond it that every packet has set. Flags that
/// happen to be clear are not demanded: an attacker sets one more bit and is through.
fn with_flags(seen: Option<TcpFlags>, defined: TcpFlags) -> FlowSpecComponent {
    let set = defined.set | seen.map_or(0, |seen| seen.set);
    tcp_flags(if set & defined.clear == 0 { TcpFlags { set, ..defined } } else { defined })
}

/// The band of packet lengths, if it excludes anything.
fn packet_length(
    signature: &Signature,
    protocol: Option<u8>,
    family: AddressFamily,
) -> Option<FlowSpecComponent> {
    let (low, high) = signature.packet_length?;
    let header = match family {
        AddressFamily::Ipv4 => 20,
        AddressFamily::Ipv6 => 40,
    };
    let transport = match protocol {
        Some(TCP) => 20,
        Some(UDP | ICMP | ICMPV6) => 8,
        _ => 0,
    };
    let low = low.max(header);
    let excludes = low > header + transport || high < FULL_LENGTH;
    let band = || NumericMatch::range(low.into(), high.into());
    (low <= high && excludes).then(|| FlowSpecComponent::PacketLength(band()))
}

/// Whether `old` matches every packet that `new` matches, as far as single rules tell, and is made
/// of the same components: then replacing it would be churn.
#[must_use]
pub fn still_fits(old: &[FlowSpecRule], new: &[FlowSpecRule]) -> bool {
    new.iter().all(|new| old.iter().any(|old| covers(old, new)))
}

fn covers(old: &FlowSpecRule, new: &FlowSpecRule) -> bool {
    old.family() == new.family()
        && old.components().len() == new.components().len()
        && old.components().iter().zip(new.components()).all(|(old_part, new_part)| {
            old_part == new_part || covers_values(old_part, new_part, new.family())
        })
}

fn covers_values(old: &FlowSpecComponent, new: &FlowSpecComponent, family: AddressFamily) -> bool {
    if old.type_code() != new.type_code() {
        return false;
    }
    let old = guard::numeric_part(old, family);
    let new = guard::numeric_part(new, family);
    let (Some((old, bounds)), Some((new, _))) = (old, new) else { return false };
    guard::points(old, bounds)
        .chain(guard::points(new, bounds))
        .all(|value| !new.matches(value) || old.matches(value))
}

#[cfg(test)]
mod tests;
