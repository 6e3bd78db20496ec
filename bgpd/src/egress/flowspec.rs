//! The gate's own reading of FlowSpec rules (RFC 8955 §4, RFC 8956 §3): their octets, and which
//! packets they can match.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use tidegate_model::{AddressFamily, Prefix};

use super::message::prefix;
use super::reader::Reader;
use super::refusal::Refusal;

/// Longest rule that real receivers take, in octets without the length octet.
const LONGEST: usize = 239;

/// Ports below this are never the far end of a BGP connection or of BFD: who begins takes an
/// ephemeral port (RFC 6335 §6, RFC 5881 §4).
const FIRST_USER_PORT: u64 = 1024;

const ICMP: u64 = 1;
const TCP: u64 = 6;
const UDP: u64 = 17;
const ICMPV6: u64 = 58;
/// TCP, UDP and SCTP.
const PROTOCOLS_WITH_PORTS: [u64; 3] = [TCP, UDP, 132];
/// BFD control and echo on one hop (RFC 5881 §4), control over several (RFC 5883 §5).
const BFD_PORTS: [u16; 3] = [3784, 3785, 4784];

/// The AND and end-of-list bits of an operator.
const AND: u8 = 0x40;
const END_OF_LIST: u8 = 0x80;

/// Component types.
mod kind {
    pub(super) const DESTINATION: u8 = 1;
    pub(super) const SOURCE: u8 = 2;
    pub(super) const PROTOCOL: u8 = 3;
    pub(super) const PORT: u8 = 4;
    pub(super) const DESTINATION_PORT: u8 = 5;
    pub(super) const SOURCE_PORT: u8 = 6;
    pub(super) const ICMP_TYPE: u8 = 7;
    pub(super) const ICMP_CODE: u8 = 8;
    pub(super) const TCP_FLAGS: u8 = 9;
    pub(super) const PACKET_LENGTH: u8 = 10;
    pub(super) const DSCP: u8 = 11;
    pub(super) const FRAGMENT: u8 = 12;
    pub(super) const FLOW_LABEL: u8 = 13;
}

/// A well-formed rule.
pub(super) struct Rule<'a> {
    family: AddressFamily,
    octets: &'a [u8],
    components: Vec<Component<'a>>,
}

struct Component<'a> {
    kind: u8,
    content: Content<'a>,
}

enum Content<'a> {
    Prefix(Prefix),
    Number(Terms<'a>),
    Bits(Terms<'a>),
}

/// Operators and values as they stand in the message, found well-formed. Those with the AND bit
/// belong to the one before them; a packet matches if one such group does.
#[derive(Clone, Copy)]
struct Terms<'a>(&'a [u8]);

/// Reads rules until the part ends.
pub(super) fn rules(
    mut reader: Reader<'_>,
    family: AddressFamily,
) -> Result<Vec<Rule<'_>>, Refusal> {
    let mut rules = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        let length = usize::from(reader.u8("a FlowSpec length")?);
        if length > LONGEST {
            return Err(Refusal::TooLong { offset, most: LONGEST });
        }
        rules.push(rule(reader.part(length, "a FlowSpec rule")?, family)?);
    }
    Ok(rules)
}

fn rule(mut reader: Reader<'_>, family: AddressFamily) -> Result<Rule<'_>, Refusal> {
    let octets = reader.rest();
    let mut components: Vec<Component<'_>> = Vec::new();
    while !reader.is_empty() {
        let start = reader;
        let kind = reader.u8("a component type")?;
        if components.last().is_some_and(|last| last.kind >= kind) {
            return Err(start.malformed(format!("component type {kind} out of order")));
        }
        let content = match kind {
            kind::DESTINATION | kind::SOURCE => {
                let length = reader.u8("a prefix length")?;
                if family == AddressFamily::Ipv6 && reader.u8("a prefix offset")? != 0 {
                    return Err(start.malformed("IPv6 prefix offset"));
                }
                Content::Prefix(prefix(&mut reader, family, length)?)
            }
            kind::TCP_FLAGS => Content::Bits(terms(&mut reader, 0x0c, 2, 0x0fff)?),
            kind::FRAGMENT => {
                let known = if family == AddressFamily::Ipv4 { 0x0f } else { 0x0e };
                Content::Bits(terms(&mut reader, 0x0c, 1, known)?)
            }
            kind::FLOW_LABEL if family == AddressFamily::Ipv4 => {
                return Err(start.malformed("flow label in an IPv4 rule"));
            }
            kind::PROTOCOL..=kind::FLOW_LABEL => {
                let (widest, most) = match kind {
                    kind::DSCP => (1, 0x3f),
                    kind::PROTOCOL | kind::ICMP_TYPE | kind::ICMP_CODE => (1, 0xff),
                    kind::FLOW_LABEL => (4, 0x000f_ffff),
                    _ => (2, 0xffff),
                };
                Content::Number(terms(&mut reader, 0x08, widest, most)?)
            }
            other => return Err(start.malformed(format!("component type {other}"))),
        };
        components.push(Component { kind, content });
    }
    if components.is_empty() {
        return Err(reader.malformed("an empty FlowSpec rule"));
    }
    Ok(Rule { family, octets, components })
}

/// Reads operators and values up to the end-of-list bit. `reserved` are the operator bits that
/// must be clear; values take at most `widest` octets, no more than they need, and set no bit
/// outside `known`.
fn terms<'a>(
    reader: &mut Reader<'a>,
    reserved: u8,
    widest: usize,
    known: u64,
) -> Result<Terms<'a>, Refusal> {
    let whole = reader.rest();
    let mut first = true;
    loop {
        let start = *reader;
        let operator = reader.u8("an operator")?;
        let width = width(operator);
        let value = number(reader.part(width, "a value")?.rest());
        if operator & reserved != 0 {
            return Err(start.malformed("a reserved operator bit is set"));
        }
        let needed = match value {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        if width > widest || width > needed {
            return Err(start.malformed(format!("value {value} in {width} octets")));
        }
        if value & !known != 0 {
            return Err(start.malformed(format!("value {value} does not fit its field")));
        }
        if operator & AND != 0 && first {
            return Err(start.malformed("AND bit on the first operator"));
        }
        first = false;
        if operator & END_OF_LIST != 0 {
            let length = whole.len() - reader.rest().len();
            return Ok(Terms(whole.get(..length).unwrap_or_default()));
        }
    }
}

/// How many octets the value behind `operator` has.
const fn width(operator: u8) -> usize {
    1 << (operator >> 4 & 3)
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |value, octet| value << 8 | u64::from(*octet))
}

impl<'a> Terms<'a> {
    /// Operator octet and value of each.
    fn each(self) -> impl Iterator<Item = (u8, u64)> + 'a {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (operator, behind) = rest.split_first()?;
            let (value, behind) = behind.split_at_checked(width(*operator))?;
            rest = behind;
            Some((*operator, number(value)))
        })
    }

    fn any_group(self, holds: impl Fn(u8, u64) -> bool) -> bool {
        let mut group = false;
        for (operator, value) in self.each() {
            if operator & AND == 0 {
                if group {
                    return true;
                }
                group = true;
            }
            group = group && holds(operator, value);
        }
        group
    }

    /// Whether a packet whose field has this number matches.
    fn holds_number(self, number: u64) -> bool {
        self.any_group(|operator, value| {
            (operator & 0x04 != 0 && number < value)
                || (operator & 0x02 != 0 && number > value)
                || (operator & 0x01 != 0 && number == value)
        })
    }

    /// Whether a packet whose field has these bits matches.
    fn holds_bits(self, bits: u64) -> bool {
        self.any_group(|operator, value| {
            let hit = if operator & 0x01 != 0 { bits & value == value } else { bits & value != 0 };
            hit != (operator & 0x02 != 0)
        })
    }

    /// Numbers of `domain` among which there is one of every run of equal answers.
    fn samples(self, domain: RangeInclusive<u64>) -> impl Iterator<Item = u64> + 'a {
        let ends = [*domain.start(), *domain.end()];
        let around = self.each().flat_map(|(_, value)| [value.saturating_sub(1), value, value + 1]);
        around.filter(move |number| domain.contains(number)).chain(ends)
    }
}

/// Whether one number of `domain` satisfies all of `conditions`.
fn possible(domain: &RangeInclusive<u64>, conditions: &[Terms<'_>]) -> bool {
    let ends = [*domain.start(), *domain.end()];
    let mut samples = conditions.iter().flat_map(|terms| terms.samples(domain.clone())).chain(ends);
    samples.any(|number| conditions.iter().all(|terms| terms.holds_number(number)))
}

impl<'a> Rule<'a> {
    pub(super) fn family(&self) -> AddressFamily {
        self.family
    }

    pub(super) fn destination(&self) -> Option<Prefix> {
        self.components.iter().find_map(|component| match component.content {
            Content::Prefix(prefix) if component.kind == kind::DESTINATION => Some(prefix),
            _ => None,
        })
    }

    fn terms(&self, kind: u8) -> Option<Terms<'a>> {
        self.components.iter().find_map(|component| match component.content {
            Content::Number(terms) | Content::Bits(terms) if component.kind == kind => Some(terms),
            _ => None,
        })
    }

    /// All values that the field of a numeric component can have in a packet.
    fn domain(&self, kind: u8) -> RangeInclusive<u64> {
        match kind {
            // An IPv6 header alone has 40 octets.
            kind::PACKET_LENGTH if self.family == AddressFamily::Ipv6 => 40..=0xffff,
            kind::PACKET_LENGTH => 20..=0xffff,
            kind::PROTOCOL | kind::ICMP_TYPE | kind::ICMP_CODE => 0..=0xff,
            kind::DSCP => 0..=0x3f,
            kind::FLOW_LABEL => 0..=0x000f_ffff,
            _ => 0..=0xffff,
        }
    }

    /// All values that the field of a bitmask component can have in a packet.
    fn bit_patterns(&self, kind: u8) -> Vec<u64> {
        if kind == kind::TCP_FLAGS {
            return (0..=0x0fff).collect();
        }
        // Whole, first, middle and last fragment (RFC 8955 §4.2.2.12).
        let states = [0x00, FIRST_FRAGMENT, 0x02, 0x0a];
        let do_not_fragment: &[u64] =
            if self.family == AddressFamily::Ipv4 { &[0, 1] } else { &[0] };
        states.iter().flat_map(|state| do_not_fragment.iter().map(move |bit| state | bit)).collect()
    }

    /// Finds the contradiction in a rule that no packet can match.
    pub(super) fn check_possible(&self) -> Result<(), String> {
        for component in &self.components {
            let matches_some = match &component.content {
                Content::Prefix(_) => true,
                Content::Number(terms) => possible(&self.domain(component.kind), &[*terms]),
                Content::Bits(terms) => {
                    self.bit_patterns(component.kind).iter().any(|bits| terms.holds_bits(*bits))
                }
            };
            if !matches_some {
                return Err(format!("component type {} excludes every value", component.kind));
            }
        }
        self.check_ports()?;
        self.check_protocol()?;
        self.check_fragments()
    }

    /// `port` must be able to hold beside `source-port` and `destination-port`.
    fn check_ports(&self) -> Result<(), String> {
        let Some(either) = self.terms(kind::PORT) else { return Ok(()) };
        let ports = self.domain(kind::PORT);
        let with = |kind| match self.terms(kind) {
            Some(terms) => possible(&ports, &[either, terms]),
            None => true,
        };
        if with(kind::SOURCE_PORT) || with(kind::DESTINATION_PORT) {
            Ok(())
        } else {
            Err("its port is neither its source port nor its destination port".to_owned())
        }
    }

    /// Fields of the upper layer need a protocol that has them. Where the rule names protocols,
    /// all of them must: a router that matches by position would read other protocols' octets.
    fn check_protocol(&self) -> Result<(), String> {
        let has = |kinds: &[u8]| kinds.iter().any(|kind| self.terms(*kind).is_some());
        let ports = has(&[kind::PORT, kind::DESTINATION_PORT, kind::SOURCE_PORT]);
        let flags = has(&[kind::TCP_FLAGS]);
        let icmp = has(&[kind::ICMP_TYPE, kind::ICMP_CODE]);
        if icmp && (ports || flags) {
            return Err("ICMP has neither ports nor TCP flags".to_owned());
        }
        let Some(protocol) = self.terms(kind::PROTOCOL) else {
            return if icmp { Err("ICMP fields without protocol ICMP".to_owned()) } else { Ok(()) };
        };
        let own_icmp = if self.family == AddressFamily::Ipv4 { ICMP } else { ICMPV6 };
        let domain = self.domain(kind::PROTOCOL);
        // A number that holds and is not allowed lies in a run of equal answers, so it is the end of
        // one, or a number in it stands beside an allowed one.
        let only = |allowed: &[u64]| {
            let beside = allowed.iter().flat_map(|number| [number.saturating_sub(1), number + 1]);
            let mut numbers = protocol.samples(domain.clone()).chain(beside);
            numbers.all(|number| !protocol.holds_number(number) || allowed.contains(&number))
        };
        if icmp && !only(&[own_icmp]) {
            Err("ICMP fields with another protocol".to_owned())
        } else if flags && !only(&[TCP]) {
            Err("TCP flags with another protocol".to_owned())
        } else if ports && !only(&PROTOCOLS_WITH_PORTS) {
            Err("ports with a protocol that has none".to_owned())
        } else {
            Ok(())
        }
    }

    /// Only whole packets and first fragments have an upper-layer header.
    fn check_fragments(&self) -> Result<(), String> {
        let Some(fragment) = self.terms(kind::FRAGMENT) else { return Ok(()) };
        let upper = kind::PORT..=kind::TCP_FLAGS;
        if !self.components.iter().any(|component| upper.contains(&component.kind)) {
            return Ok(());
        }
        let headed = self.bit_patterns(kind::FRAGMENT);
        let mut headed = headed.iter().filter(|bits| **bits & 0x02 == 0);
        if headed.any(|bits| fragment.holds_bits(*bits)) {
            Ok(())
        } else {
            Err("later fragments have no upper-layer header".to_owned())
        }
    }

    /// Whether the rule leaves some of the traffic to its destination alone.
    pub(super) fn discriminates(&self) -> bool {
        self.components.iter().any(|component| match &component.content {
            Content::Prefix(prefix) => component.kind == kind::SOURCE && prefix.length() > 0,
            Content::Number(terms) => {
                let mut samples = terms.samples(self.domain(component.kind));
                samples.any(|number| !terms.holds_number(number))
            }
            Content::Bits(terms) => {
                self.bit_patterns(component.kind).iter().any(|bits| !terms.holds_bits(*bits))
            }
        })
    }

    /// Whether a packet to the destination may match that keeps a BGP session up: a segment of its
    /// connection, or a BFD packet. Sources, flags, lengths and fragments are not looked at: they
    /// would only make fewer packets match.
    pub(super) fn may_match_session(&self, session_ports: &BTreeSet<u16>) -> bool {
        let icmp = [kind::ICMP_TYPE, kind::ICMP_CODE];
        if icmp.iter().any(|kind| self.terms(*kind).is_some()) {
            return false;
        }
        self.may_match(TCP, session_ports.iter().copied()) || self.may_match(UDP, BFD_PORTS)
    }

    /// Whether a packet of this protocol may match that has one of `ports` at either end.
    fn may_match(&self, protocol: u64, ports: impl IntoIterator<Item = u16>) -> bool {
        if self.terms(kind::PROTOCOL).is_some_and(|terms| !terms.holds_number(protocol))
            || protocol != TCP && self.terms(kind::TCP_FLAGS).is_some()
        {
            return false;
        }
        let source = self.terms(kind::SOURCE_PORT);
        let destination = self.terms(kind::DESTINATION_PORT);
        ports.into_iter().map(u64::from).any(|port| {
            self.ports_may_match(port, destination, source)
                || self.ports_may_match(port, source, destination)
        })
    }

    /// Whether a packet with the session's port at the end that `near` speaks of, and any
    /// ephemeral port at the end that `far` speaks of, has ports that match.
    fn ports_may_match(&self, port: u64, near: Option<Terms<'_>>, far: Option<Terms<'_>>) -> bool {
        if near.is_some_and(|terms| !terms.holds_number(port)) {
            return false;
        }
        let either = self.terms(kind::PORT).filter(|either| !either.holds_number(port));
        let user_ports = FIRST_USER_PORT..=0xffff;
        match (far, either) {
            (None, None) => true,
            (Some(one), None) | (None, Some(one)) => possible(&user_ports, &[one]),
            (Some(far), Some(either)) => possible(&user_ports, &[far, either]),
        }
    }
}

/// The FF bit alone: a first fragment.
const FIRST_FRAGMENT: u64 = 0x04;

impl fmt::Display for Rule<'_> {
    /// `flow4 to 198.51.100.10/32 (0120c633640a038111)`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.family {
            AddressFamily::Ipv4 => "flow4",
            AddressFamily::Ipv6 => "flow6",
        })?;
        if let Some(destination) = self.destination() {
            write!(formatter, " to {destination}")?;
        }
        formatter.write_str(" (")?;
        for octet in self.octets {
            write!(formatter, "{octet:02x}")?;
        }
        formatter.write_str(")")
    }
}
