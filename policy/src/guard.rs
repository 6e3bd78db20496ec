//! The guard: whether a route may exist at all.
//!
//! Every route that the planner wants passes here, whatever its backend. The reconciler and the
//! egress gate judge again with code of their own, so that one mistake cannot pass all three.
//!
//! A route may divert only what is owned, only as narrowly as its kind demands, and nothing that is
//! protected. A FlowSpec rule must also be one that can match a packet (RFC 8955 §4.2.2), and no
//! longer than 239 octets of NLRI, beyond which GoBGP corrupts it. What else a receiver needs is in
//! its [profile](crate::profile).

use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, BitmaskMatch, ComponentValue, FlowSpecComponent, FlowSpecRule, InvalidAction,
    Nlri, NumericMatch, NumericOperator, OwnedSpace, Prefix, Route, TrafficFilteringAction,
};

use crate::policy::ServicePort;

/// Shortest IPv4 destination of a FlowSpec rule.
pub const SHORTEST_FLOWSPEC_V4: u8 = 24;
/// Shortest IPv6 destination of a FlowSpec rule.
pub const SHORTEST_FLOWSPEC_V6: u8 = 48;
/// Most octets of an encoded FlowSpec rule: all that a one-octet length can say (RFC 8955 §4.1).
pub const MAX_NLRI_OCTETS: usize = 239;
/// Most values in one component of a FlowSpec rule: a longer list tells nothing apart.
pub const MAX_VALUES: usize = 20;
/// A rule that names more protocols than this names none.
const MAX_PROTOCOLS: usize = 5;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Numbers of extension headers: in IPv6 the component means the header behind them
/// (RFC 8956 §3.3), so it can never be one of these.
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];
const TCP_FLAG_BITS: u16 = 0x0fff;
const FRAGMENT_DF: u16 = 1;
const FRAGMENT_IS: u16 = 2;
const FRAGMENT_FIRST: u16 = 4;
const FRAGMENT_LAST: u16 = 8;
const TCP_SYN: u16 = 0x02;
const TCP_ACK: u16 = 0x10;
/// Some of the ports that clients send from (RFC 6335 §6).
const CLIENT_PORTS: [u64; 4] = [49_152, 52_525, 60_000, 65_535];

/// Why a route may not exist: what is wrong, why that matters and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Outside the owned space.
    #[error(
        "{destination} lies in no owned prefix: only owned address space may be diverted; \
         if it is yours, add it to `prefixes` of `[owned]`"
    )]
    NotOwned {
        /// Where the route leads.
        destination: Prefix,
    },
    /// A destination shorter than its kind of route may have.
    #[error(
        "{destination} is too wide: it must be a /{shortest} or longer, so that a mistake stays \
         small; name a narrower target"
    )]
    TooWide {
        /// Where the route leads.
        destination: Prefix,
        /// The shortest length that is allowed.
        shortest: u8,
    },
    /// Touches a protected prefix.
    #[error(
        "{prefix} touches {protected}, which no mitigation may touch; if it may be mitigated \
         after all, take it off `never-touch` of `[owned]`"
    )]
    NeverTouch {
        /// What the route matches.
        prefix: Prefix,
        /// What it would touch.
        protected: Prefix,
    },
    /// Touches an end of one of the speaker's own sessions.
    #[error(
        "{prefix} touches {address}, an end of a BGP session of tidegate: the route could cut \
         the session that carries it; use addresses outside the protected space for sessions"
    )]
    SessionAddress {
        /// What the route matches.
        prefix: Prefix,
        /// The end of the session.
        address: IpAddr,
    },
    /// Names a source that is allowed whatever comes from it.
    #[error(
        "{source_prefix} touches {allowed}, which is allowed as a source; if it may be filtered \
         after all, take it off `allow` of `[remotes]`"
    )]
    AllowedRemote {
        /// The source that the rule matches.
        source_prefix: Prefix,
        /// The allowed prefix.
        allowed: Prefix,
    },
    /// A unicast route that does not say where to send the traffic.
    #[error(
        "the blackhole for {destination} has no {family} next hop; set `next-hop` of the peer's \
         `rtbh` table"
    )]
    NoNextHop {
        /// Where the route leads.
        destination: Prefix,
        /// The family that the next hop must be of.
        family: AddressFamily,
    },
    /// A next hop that receivers ignore or reset the session for.
    #[error(
        "{next_hop} cannot be the next hop of {destination}: it must be a unicast address of the \
         same family, not in the prefix itself; use a discard address such as 192.0.2.1 or 100::1"
    )]
    BadNextHop {
        /// Where the route leads.
        destination: Prefix,
        /// The address that was given.
        next_hop: IpAddr,
    },
    /// A next hop or an action on a route that can have none.
    #[error("{what} does not belong on {nlri}; leave it out")]
    Misplaced {
        /// The next hop or action.
        what: String,
        /// The route.
        nlri: Nlri,
    },
    /// A FlowSpec rule for every destination.
    #[error(
        "the rule names no destination: it would match traffic to everybody (RFC 8955 §6); add \
         the target's prefix"
    )]
    NoDestination,
    /// A FlowSpec rule that matches everything to its destination.
    #[error(
        "the rule narrows nothing beside its destination {destination}: it would be a blackhole \
         in disguise; add what tells the attack from other traffic, or use `rtbh` knowingly"
    )]
    NoDiscriminator {
        /// Where the rule leads.
        destination: Prefix,
    },
    /// `!=`, `true` or `false`.
    #[error(
        "`{component}` uses an operator that matches nearly everything or nothing; write the \
         values or the range that is meant"
    )]
    WideOperator {
        /// The component.
        component: &'static str,
    },
    /// More values than receivers take.
    #[error(
        "`{component}` has {count} values; more than {MAX_VALUES} tell no attack from other \
         traffic; name a range, or fewer"
    )]
    TooManyValues {
        /// The component.
        component: &'static str,
        /// How many values it has.
        count: usize,
    },
    /// A number that the packet field cannot have.
    #[error("{value} cannot stand in `{component}`; packets carry {low} to {high} there")]
    OutOfRange {
        /// The component.
        component: &'static str,
        /// The number.
        value: u64,
        /// The smallest that can be.
        low: u64,
        /// The largest that can be.
        high: u64,
    },
    /// No packet can match.
    #[error("no packet can match `{component}` of this rule; correct the contradiction")]
    Impossible {
        /// The component.
        component: &'static str,
    },
    /// A field that only some protocols have.
    #[error("`{component}` exists only in {protocols}; say so with the `protocol` component")]
    NeedsProtocol {
        /// The component.
        component: &'static str,
        /// Those that have it.
        protocols: &'static str,
    },
    /// A protocol of the other family, or one that the component never sees.
    #[error("protocol {protocol} cannot be matched in {family}; use that family's own number")]
    ForeignProtocol {
        /// The protocol number.
        protocol: u8,
        /// The family of the rule.
        family: AddressFamily,
    },
    /// Longer than the one-octet length form.
    #[error(
        "the rule takes {octets} octets; beyond {MAX_NLRI_OCTETS} some speakers send it broken \
         and lose the session; split the rule"
    )]
    TooLong {
        /// Estimated length.
        octets: usize,
    },
    /// A FlowSpec route that does nothing.
    #[error("the rule has no action: matching traffic would pass; add `discard` or a rate limit")]
    NoAction,
    /// The same action twice with different numbers.
    #[error("`{action}` interferes with another action of the same kind; keep one")]
    Interference {
        /// The later one.
        action: TrafficFilteringAction,
    },
    /// A number that no action may carry.
    #[error(transparent)]
    Action(#[from] InvalidAction),
}

/// Judges one route.
///
/// `sessions` are both ends of every BGP session of tidegate.
///
/// # Errors
/// The first [`Refusal`] found; a route with several faults shows the gravest first.
pub fn judge(space: &OwnedSpace, sessions: &[IpAddr], route: &Route) -> Result<(), Refusal> {
    match &route.nlri {
        Nlri::Unicast(destination) => judge_unicast(space, sessions, route, *destination),
        Nlri::FlowSpec(rule) => judge_flowspec(space, sessions, route, rule),
    }
}

/// Judges the sources that a rule names: those that are `allowed` may be somebody else's address
/// in the attacker's packets, and are never filtered.
///
/// # Errors
/// [`Refusal::AllowedRemote`] for a source prefix that shares addresses with one of `allowed`.
pub fn judge_sources(allowed: &[Prefix], route: &Route) -> Result<(), Refusal> {
    let Nlri::FlowSpec(rule) = &route.nlri else { return Ok(()) };
    for component in rule.components() {
        if let FlowSpecComponent::SourcePrefix(source_prefix) = component
            && let Some(allowed) = allowed.iter().find(|other| other.overlaps(source_prefix))
        {
            return Err(Refusal::AllowedRemote {
                source_prefix: *source_prefix,
                allowed: *allowed,
            });
        }
    }
    Ok(())
}

/// Whether `rule` matches what any client sends to `service`: nothing beside destination,
/// protocol, destination port and the flags of ordinary segments tells the two apart.
#[must_use]
pub fn cuts_off(rule: &FlowSpecRule, service: ServicePort) -> bool {
    let is = |numeric: &NumericMatch, value: u64| numeric.matches(value);
    rule.components().iter().all(|component| match component {
        FlowSpecComponent::DestinationPrefix(_) => true,
        FlowSpecComponent::IpProtocol(numeric) => is(numeric, u64::from(service.protocol)),
        FlowSpecComponent::DestinationPort(numeric) | FlowSpecComponent::Port(numeric) => {
            is(numeric, u64::from(service.port))
        }
        FlowSpecComponent::TcpFlags(mask) => {
            service.protocol == TCP && (mask.matches(TCP_SYN) || mask.matches(TCP_ACK))
        }
        FlowSpecComponent::SourcePort(numeric) => {
            CLIENT_PORTS.into_iter().all(|port| is(numeric, port))
        }
        FlowSpecComponent::SourcePrefix(prefix) => prefix.length() == 0,
        FlowSpecComponent::IcmpType(_)
        | FlowSpecComponent::IcmpCode(_)
        | FlowSpecComponent::PacketLength(_)
        | FlowSpecComponent::Dscp(_)
        | FlowSpecComponent::Fragment(_)
        | FlowSpecComponent::FlowLabel(_) => false,
    })
}

fn judge_unicast(
    space: &OwnedSpace,
    sessions: &[IpAddr],
    route: &Route,
    destination: Prefix,
) -> Result<(), Refusal> {
    let family = destination.family();
    judge_destination(space, destination, family.bits())?;
    judge_untouched(space, sessions, destination)?;
    let Some(next_hop) = route.next_hop else {
        return Err(Refusal::NoNextHop { destination, family });
    };
    if !next_hop_works(destination, next_hop) {
        return Err(Refusal::BadNextHop { destination, next_hop });
    }
    match route.actions.first() {
        Some(action) => Err(misplaced(action.to_string(), route)),
        None => Ok(()),
    }
}

fn judge_flowspec(
    space: &OwnedSpace,
    sessions: &[IpAddr],
    route: &Route,
    rule: &FlowSpecRule,
) -> Result<(), Refusal> {
    let destination = rule.destination().ok_or(Refusal::NoDestination)?;
    let shortest = match rule.family() {
        AddressFamily::Ipv4 => SHORTEST_FLOWSPEC_V4,
        AddressFamily::Ipv6 => SHORTEST_FLOWSPEC_V6,
    };
    judge_destination(space, destination, shortest)?;
    for component in rule.components() {
        match component {
            FlowSpecComponent::DestinationPrefix(prefix) => {
                judge_untouched(space, sessions, *prefix)?;
            }
            // The whole Internet as a source narrows nothing; it is judged as no discriminator.
            FlowSpecComponent::SourcePrefix(prefix) if prefix.length() > 0 => {
                judge_untouched(space, sessions, *prefix)?;
            }
            _ => {}
        }
    }
    let octets = encoded_octets(rule);
    if octets > MAX_NLRI_OCTETS {
        return Err(Refusal::TooLong { octets });
    }
    judge_components(rule)?;
    if !rule.components().iter().any(|component| narrows(component, rule.family())) {
        return Err(Refusal::NoDiscriminator { destination });
    }
    if let Some(next_hop) = route.next_hop {
        return Err(misplaced(format!("next hop {next_hop}"), route));
    }
    judge_actions(&route.actions)
}

fn misplaced(what: String, route: &Route) -> Refusal {
    Refusal::Misplaced { what, nlri: route.nlri.clone() }
}

fn judge_destination(space: &OwnedSpace, destination: Prefix, shortest: u8) -> Result<(), Refusal> {
    if destination.length() < shortest {
        return Err(Refusal::TooWide { destination, shortest });
    }
    if space.owned.iter().any(|owned| owned.contains(&destination)) {
        Ok(())
    } else {
        Err(Refusal::NotOwned { destination })
    }
}

fn judge_untouched(space: &OwnedSpace, sessions: &[IpAddr], prefix: Prefix) -> Result<(), Refusal> {
    if let Some(protected) = space.never_touch.iter().find(|other| other.overlaps(&prefix)) {
        return Err(Refusal::NeverTouch { prefix, protected: *protected });
    }
    match sessions.iter().find(|address| prefix.contains_address(**address)) {
        Some(address) => Err(Refusal::SessionAddress { prefix, address: *address }),
        None => Ok(()),
    }
}

/// Loopback makes FRR reset the session; IPv4-mapped next hops are ignored by BIRD.
fn next_hop_works(destination: Prefix, next_hop: IpAddr) -> bool {
    let odd = next_hop.is_unspecified() || next_hop.is_loopback() || next_hop.is_multicast();
    let of_family = Prefix::host(next_hop).family() == destination.family();
    let disguised = match next_hop {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
    };
    of_family && !odd && !disguised && !destination.contains_address(next_hop)
}

fn judge_actions(actions: &[TrafficFilteringAction]) -> Result<(), Refusal> {
    if actions.is_empty() {
        return Err(Refusal::NoAction);
    }
    for (index, action) in actions.iter().enumerate() {
        action.check()?;
        if actions.iter().take(index).any(|other| action_kind(other) == action_kind(action)) {
            return Err(Refusal::Interference { action: *action });
        }
    }
    Ok(())
}

/// Actions of one kind interfere with each other (RFC 8955 §7.7).
fn action_kind(action: &TrafficFilteringAction) -> u8 {
    match action {
        TrafficFilteringAction::RateLimitBytes(_) => 0,
        TrafficFilteringAction::RateLimitPackets(_) => 1,
        TrafficFilteringAction::TrafficAction { .. } => 2,
        TrafficFilteringAction::RedirectAs2(..)
        | TrafficFilteringAction::RedirectIpv4(..)
        | TrafficFilteringAction::RedirectAs4(..)
        | TrafficFilteringAction::RedirectToIp(..) => 3,
        TrafficFilteringAction::Mark(_) => 4,
    }
}

fn judge_components(rule: &FlowSpecRule) -> Result<(), Refusal> {
    let family = rule.family();
    for component in rule.components() {
        let name = component.name();
        if let Some((numeric, bounds)) = numeric_part(component, family) {
            judge_numeric(name, numeric, bounds)?;
        }
        if let Some(mask) = bitmask_part(component) {
            judge_bitmask(component, mask, family)?;
        }
    }
    judge_protocols(rule)?;
    let only_later_fragments = rule.components().iter().any(|component| match component {
        FlowSpecComponent::Fragment(mask) => fragment_patterns(family)
            .filter(|bits| mask.matches(*bits))
            .all(|bits| bits & FRAGMENT_IS != 0),
        _ => false,
    });
    let transport =
        rule.components().iter().find(|component| needed_protocols(component).is_some());
    match transport {
        // Only the first fragment carries the transport header.
        Some(component) if only_later_fragments => {
            Err(Refusal::Impossible { component: component.name() })
        }
        _ => Ok(()),
    }
}

fn judge_numeric(
    component: &'static str,
    numeric: &NumericMatch,
    bounds: Bounds,
) -> Result<(), Refusal> {
    let tests = || numeric.groups().iter().flatten();
    let count = tests().count();
    if count > MAX_VALUES {
        return Err(Refusal::TooManyValues { component, count });
    }
    for test in tests() {
        if matches!(
            test.operator,
            NumericOperator::NotEqual | NumericOperator::True | NumericOperator::False
        ) {
            return Err(Refusal::WideOperator { component });
        }
        let Bounds { low, high, .. } = bounds;
        if test.value < low || test.value > high {
            return Err(Refusal::OutOfRange { component, value: test.value, low, high });
        }
    }
    if points(numeric, bounds).any(|value| numeric.matches(value)) {
        Ok(())
    } else {
        Err(Refusal::Impossible { component })
    }
}

fn judge_bitmask(
    component: &FlowSpecComponent,
    mask: &BitmaskMatch,
    family: AddressFamily,
) -> Result<(), Refusal> {
    let name = component.name();
    let count = mask.groups().iter().flatten().count();
    if count > MAX_VALUES {
        return Err(Refusal::TooManyValues { component: name, count });
    }
    let allowed = allowed_bits(component, family);
    for test in mask.groups().iter().flatten() {
        if test.bits & !allowed != 0 || test.bits == 0 {
            return Err(Refusal::OutOfRange {
                component: name,
                value: u64::from(test.bits),
                low: 1,
                high: u64::from(allowed),
            });
        }
    }
    if bit_patterns(component, mask, family).iter().any(|bits| mask.matches(*bits)) {
        Ok(())
    } else {
        Err(Refusal::Impossible { component: name })
    }
}

fn judge_protocols(rule: &FlowSpecRule) -> Result<(), Refusal> {
    let family = rule.family();
    let protocols = rule.components().iter().find_map(|component| match component {
        FlowSpecComponent::IpProtocol(numeric) => Some(matched_protocols(numeric)),
        _ => None,
    });
    let foreign = |protocol: &&u8| match family {
        AddressFamily::Ipv4 => **protocol == ICMPV6,
        AddressFamily::Ipv6 => **protocol == ICMP || EXTENSION_HEADERS.contains(*protocol),
    };
    let protocols = protocols.unwrap_or_default();
    // A range over most protocols names none; it does not count as narrowing either.
    let named = if protocols.len() <= MAX_PROTOCOLS { protocols.as_slice() } else { &[] };
    if let Some(protocol) = named.iter().find(foreign) {
        return Err(Refusal::ForeignProtocol { protocol: *protocol, family });
    }
    for component in rule.components() {
        let Some((names, needed)) = needed_protocols(component) else { continue };
        if protocols.is_empty() || protocols.iter().any(|protocol| !needed.contains(protocol)) {
            return Err(Refusal::NeedsProtocol { component: component.name(), protocols: names });
        }
    }
    Ok(())
}

/// The protocols that have the field which `component` looks at; `None` if all do.
fn needed_protocols(component: &FlowSpecComponent) -> Option<(&'static str, &'static [u8])> {
    match component {
        FlowSpecComponent::Port(_)
        | FlowSpecComponent::DestinationPort(_)
        | FlowSpecComponent::SourcePort(_) => Some(("TCP, UDP and SCTP", &[TCP, UDP, SCTP])),
        FlowSpecComponent::IcmpType(_) | FlowSpecComponent::IcmpCode(_) => {
            Some(("ICMP and ICMPv6", &[ICMP, ICMPV6]))
        }
        FlowSpecComponent::TcpFlags(_) => Some(("TCP", &[TCP])),
        _ => None,
    }
}

fn matched_protocols(numeric: &NumericMatch) -> Vec<u8> {
    (0..=u8::MAX).filter(|protocol| numeric.matches(u64::from(*protocol))).collect()
}

/// What a numeric component may name, and what packets can carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Smallest value that may be written.
    low: u64,
    /// Largest value, written or carried.
    high: u64,
    /// Smallest value that a packet of the family carries.
    carried: u64,
}

impl Bounds {
    /// Largest value, written or carried.
    pub(crate) const fn high(self) -> u64 {
        self.high
    }
}

/// The test values of a numeric component and their bounds.
pub(crate) fn numeric_part(
    component: &FlowSpecComponent,
    family: AddressFamily,
) -> Option<(&NumericMatch, Bounds)> {
    let up_to = |high| Bounds { low: 0, high, carried: 0 };
    Some(match component {
        FlowSpecComponent::IpProtocol(numeric)
        | FlowSpecComponent::IcmpType(numeric)
        | FlowSpecComponent::IcmpCode(numeric) => (numeric, up_to(255)),
        FlowSpecComponent::Port(numeric)
        | FlowSpecComponent::DestinationPort(numeric)
        | FlowSpecComponent::SourcePort(numeric) => (numeric, up_to(65_535)),
        FlowSpecComponent::PacketLength(numeric) => {
            let carried = match family {
                AddressFamily::Ipv4 => 20,
                AddressFamily::Ipv6 => 40,
            };
            (numeric, Bounds { low: 20, high: 65_535, carried })
        }
        FlowSpecComponent::Dscp(numeric) => (numeric, up_to(63)),
        FlowSpecComponent::FlowLabel(numeric) => (numeric, up_to(0xf_ffff)),
        FlowSpecComponent::DestinationPrefix(_)
        | FlowSpecComponent::SourcePrefix(_)
        | FlowSpecComponent::TcpFlags(_)
        | FlowSpecComponent::Fragment(_) => return None,
    })
}

fn bitmask_part(component: &FlowSpecComponent) -> Option<&BitmaskMatch> {
    match component {
        FlowSpecComponent::TcpFlags(mask) | FlowSpecComponent::Fragment(mask) => Some(mask),
        _ => None,
    }
}

/// The values around which a match can change its mind, and the ends of what packets carry. Between
/// two of these it answers the same, so they stand for every value.
pub(crate) fn points(numeric: &NumericMatch, bounds: Bounds) -> impl Iterator<Item = u64> {
    numeric
        .groups()
        .iter()
        .flatten()
        .flat_map(|test| [test.value.saturating_sub(1), test.value, test.value.saturating_add(1)])
        .chain([bounds.carried, bounds.high])
        .filter(move |value| (bounds.carried..=bounds.high).contains(value))
}

fn allowed_bits(component: &FlowSpecComponent, family: AddressFamily) -> u16 {
    match (component, family) {
        (FlowSpecComponent::Fragment(_), AddressFamily::Ipv4) => {
            FRAGMENT_DF | FRAGMENT_IS | FRAGMENT_FIRST | FRAGMENT_LAST
        }
        // IPv6 has no such bit (RFC 8956 §3.6).
        (FlowSpecComponent::Fragment(_), AddressFamily::Ipv6) => {
            FRAGMENT_IS | FRAGMENT_FIRST | FRAGMENT_LAST
        }
        _ => TCP_FLAG_BITS,
    }
}

/// Every combination of fragment bits that a packet can have (RFC 8955 §4.2.2.12): whole, first,
/// middle or last; in IPv4 each with and without do-not-fragment.
fn fragment_patterns(family: AddressFamily) -> impl Iterator<Item = u16> {
    let places = [0, FRAGMENT_FIRST, FRAGMENT_IS, FRAGMENT_IS | FRAGMENT_LAST];
    let flags: &[u16] = match family {
        AddressFamily::Ipv4 => &[0, FRAGMENT_DF],
        AddressFamily::Ipv6 => &[0],
    };
    places.into_iter().flat_map(move |place| flags.iter().map(move |flag| place | flag))
}

/// Bit patterns that stand for everything a packet can carry: every subset of the bits tested.
fn bit_patterns(
    component: &FlowSpecComponent,
    mask: &BitmaskMatch,
    family: AddressFamily,
) -> Vec<u16> {
    if matches!(component, FlowSpecComponent::Fragment(_)) {
        return fragment_patterns(family).collect();
    }
    let tested = mask.groups().iter().flatten().fold(0, |bits, test| bits | test.bits);
    (0..=tested & TCP_FLAG_BITS).filter(|bits| bits & !tested == 0).collect()
}

/// Whether `component` lets some of the destination's traffic pass.
fn narrows(component: &FlowSpecComponent, family: AddressFamily) -> bool {
    if let FlowSpecComponent::IpProtocol(numeric) = component {
        // A range over most protocols names none.
        return matched_protocols(numeric).len() <= MAX_PROTOCOLS;
    }
    if let Some((numeric, bounds)) = numeric_part(component, family) {
        return points(numeric, bounds).any(|value| !numeric.matches(value));
    }
    match component {
        FlowSpecComponent::SourcePrefix(prefix) => prefix.length() > 0,
        FlowSpecComponent::TcpFlags(mask) | FlowSpecComponent::Fragment(mask) => {
            bit_patterns(component, mask, family).iter().any(|bits| !mask.matches(*bits))
        }
        _ => false,
    }
}

/// Octets of the encoded rule without its length field (RFC 8955 §4.2, RFC 8956 §3.1).
#[must_use]
pub fn encoded_octets(rule: &FlowSpecRule) -> usize {
    let prefix_octets = |prefix: &Prefix| {
        let offset = usize::from(rule.family() == AddressFamily::Ipv6);
        2 + offset + usize::from(prefix.length()).div_ceil(8)
    };
    let value_octets = |value: u64| match value {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    rule.components()
        .iter()
        .map(|component| match component.value() {
            ComponentValue::Prefix(prefix) => prefix_octets(prefix),
            ComponentValue::Numeric(numeric) => {
                let tests = numeric.groups().iter().flatten();
                1 + tests.map(|test| 1 + value_octets(test.value)).sum::<usize>()
            }
            ComponentValue::Bitmask(mask) => {
                let tests = mask.groups().iter().flatten();
                1 + tests.map(|test| 1 + value_octets(u64::from(test.bits))).sum::<usize>()
            }
        })
        .sum()
}

#[cfg(test)]
mod tests;
