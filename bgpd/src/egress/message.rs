//! The gate's own decoder of messages (RFC 4271 §4, RFC 4760).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_model::{AddressFamily, Community, LargeCommunity, Prefix};

use super::flowspec::{self, Rule};
use super::reader::Reader;
use super::refusal::Refusal;

/// Longest message, RFC 4271 §4.1.
const LONGEST: usize = 4096;

/// What a message does to the peer's table.
pub(super) enum Contents<'a> {
    /// Not an UPDATE, or an End-of-RIB marker.
    NoRoutes,
    /// Nothing but withdrawals.
    Withdrawal,
    /// Announcements.
    Announcement(Announcement<'a>),
}

/// An UPDATE that announces.
#[derive(Default)]
pub(super) struct Announcement<'a> {
    pub(super) reached: Vec<Reached<'a>>,
    pub(super) next_hop: Option<IpAddr>,
    pub(super) communities: BTreeSet<Community>,
    pub(super) large_communities: BTreeSet<LargeCommunity>,
    /// Whether there are traffic filtering actions.
    pub(super) actions: bool,
    /// A traffic-rate that is negative or not finite.
    pub(super) bad_rate: Option<f32>,
}

/// One announced NLRI.
pub(super) enum Reached<'a> {
    Unicast(Prefix),
    FlowSpec(Rule<'a>),
}

/// Decodes one whole message.
pub(super) fn decode(message: &[u8]) -> Result<Contents<'_>, Refusal> {
    let mut reader = Reader::new(message);
    if message.len() > LONGEST {
        return Err(reader.malformed(format!("{} octets, at most {LONGEST}", message.len())));
    }
    if reader.array::<16>("the marker")? != [0xff; 16] {
        return Err(Refusal::Malformed { offset: 0, why: "the marker is not all ones".to_owned() });
    }
    if usize::from(reader.u16("the length")?) != message.len() {
        return Err(Refusal::Malformed {
            offset: 16,
            why: format!("the length is not that of the message, {}", message.len()),
        });
    }
    match reader.u8("the type")? {
        2 => decode_update(reader),
        // OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH.
        1 | 3..=5 => Ok(Contents::NoRoutes),
        other => Err(Refusal::NotUnderstood { what: format!("message type {other}") }),
    }
}

fn decode_update(mut reader: Reader<'_>) -> Result<Contents<'_>, Refusal> {
    let length = usize::from(reader.u16("the withdrawn routes length")?);
    let withdrawn = reader.part(length, "the withdrawn routes")?;
    let length = usize::from(reader.u16("the attribute length")?);
    let mut attributes = Attributes::default();
    attributes.read(reader.part(length, "the attributes")?)?;
    let classic = reader;

    let gone = unicast_prefixes(withdrawn, AddressFamily::Ipv4)?;
    let reached: Vec<Reached<'_>> =
        unicast_prefixes(classic, AddressFamily::Ipv4)?.into_iter().map(Reached::Unicast).collect();

    // RFC 7606 §5.1: one NLRI field to an UPDATE.
    let fields = usize::from(!gone.is_empty())
        + usize::from(!reached.is_empty())
        + usize::from(attributes.reach.is_some())
        + usize::from(attributes.unreach);
    match fields {
        0 if attributes.seen.is_empty() => return Ok(Contents::NoRoutes),
        0 => return Err(not_understood("attributes without a route")),
        1 => {}
        _ => return Err(not_understood("more than one NLRI field in an UPDATE")),
    }
    let next_hop = attributes.next_hop;
    match (attributes.reach.take(), reached.is_empty()) {
        (Some(_), _) if next_hop.is_some() => Err(not_understood("NEXT_HOP beside MP_REACH_NLRI")),
        (Some((reached, next_hop)), _) => attributes.announcement(reached, next_hop),
        (None, false) => attributes.announcement(reached, next_hop),
        (None, true) => Ok(Contents::Withdrawal),
    }
}

fn not_understood(what: impl Into<String>) -> Refusal {
    Refusal::NotUnderstood { what: what.into() }
}

/// Path attributes, as far as they bear on a judgement.
#[derive(Default)]
struct Attributes<'a> {
    seen: BTreeSet<u8>,
    next_hop: Option<IpAddr>,
    reach: Option<(Vec<Reached<'a>>, Option<IpAddr>)>,
    unreach: bool,
    communities: BTreeSet<Community>,
    large_communities: BTreeSet<LargeCommunity>,
    bad_rate: Option<f32>,
}

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const LOCAL_PREF: u8 = 5;
const COMMUNITIES: u8 = 8;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;
const EXTENDED_COMMUNITIES: u8 = 16;
const AS4_PATH: u8 = 17;
const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
const LARGE_COMMUNITIES: u8 = 32;
const ONLY_TO_CUSTOMER: u8 = 35;

impl<'a> Attributes<'a> {
    fn read(&mut self, mut reader: Reader<'a>) -> Result<(), Refusal> {
        while !reader.is_empty() {
            let start = reader;
            let [flags, code] = reader.array("an attribute header")?;
            let length = if flags & 0x10 == 0 {
                usize::from(reader.u8("an attribute length")?)
            } else {
                usize::from(reader.u16("an attribute length")?)
            };
            let expected = match code {
                ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF => 0x40,
                MP_REACH_NLRI | MP_UNREACH_NLRI => 0x80,
                COMMUNITIES
                | EXTENDED_COMMUNITIES
                | AS4_PATH
                | IPV6_EXTENDED_COMMUNITIES
                | LARGE_COMMUNITIES
                | ONLY_TO_CUSTOMER => 0xc0,
                other => return Err(not_understood(format!("attribute {other}"))),
            };
            if flags & !0x10 != expected {
                return Err(start.malformed(format!("flags {flags:#04x} on attribute {code}")));
            }
            if !self.seen.insert(code) {
                return Err(start.malformed(format!("attribute {code} stands twice")));
            }
            let value = reader.part(length, "an attribute value")?;
            self.read_one(code, value)?;
        }
        Ok(())
    }

    fn read_one(&mut self, code: u8, mut value: Reader<'a>) -> Result<(), Refusal> {
        match code {
            ORIGIN => {
                if value.u8("ORIGIN")? > 2 {
                    return Err(value.malformed("an ORIGIN that does not exist"));
                }
            }
            AS_PATH => return as_path(value, &[4, 2]),
            AS4_PATH => return as_path(value, &[4]),
            NEXT_HOP => {
                let address: [u8; 4] = value.array("NEXT_HOP")?;
                self.next_hop = Some(IpAddr::V4(Ipv4Addr::from(address)));
            }
            LOCAL_PREF => {
                value.u32("LOCAL_PREF")?;
            }
            ONLY_TO_CUSTOMER => {
                value.array::<4>("the AS number of Only to Customer")?;
            }
            MP_REACH_NLRI => return self.mp_reach(value),
            MP_UNREACH_NLRI => return self.mp_unreach(value),
            other => return self.read_communities(other, value),
        }
        value.end("an attribute")
    }

    fn read_communities(&mut self, code: u8, mut value: Reader<'_>) -> Result<(), Refusal> {
        if value.is_empty() {
            return Err(value.malformed(format!("attribute {code} is empty")));
        }
        while !value.is_empty() {
            match code {
                COMMUNITIES => {
                    self.communities.insert(Community(value.u32("a community")?));
                }
                LARGE_COMMUNITIES => {
                    let global = value.u32("a large community")?;
                    let local1 = value.u32("a large community")?;
                    let local2 = value.u32("a large community")?;
                    self.large_communities.insert(LargeCommunity { global, local1, local2 });
                }
                EXTENDED_COMMUNITIES => {
                    let bad_rate = read_action(value.array("an extended community")?)?;
                    self.bad_rate = self.bad_rate.or(bad_rate);
                }
                _ => read_ipv6_action(value.array("an IPv6 extended community")?)?,
            }
        }
        Ok(())
    }

    fn mp_reach(&mut self, mut value: Reader<'a>) -> Result<(), Refusal> {
        let family = family(&mut value)?;
        let length = usize::from(value.u8("the next hop length")?);
        let mut address = value.part(length, "the next hop")?;
        if value.u8("the reserved octet of MP_REACH_NLRI")? != 0 {
            return Err(value.malformed("the reserved octet of MP_REACH_NLRI is not zero"));
        }
        let next_hop = match (family, length) {
            // OpenBGPD resets the session over IPv4 unicast in MP_REACH_NLRI.
            (Family::Unicast(AddressFamily::Ipv4), _) => {
                return Err(not_understood("IPv4 unicast in MP_REACH_NLRI"));
            }
            (Family::Unicast(AddressFamily::Ipv6), 16) => {
                Some(IpAddr::V6(Ipv6Addr::from(address.array::<16>("the next hop")?)))
            }
            (Family::FlowSpec(_), 0) => None,
            _ => return Err(not_understood(format!("a next hop of {length} octets"))),
        };
        let reached = nlris(family, value)?;
        if reached.is_empty() {
            return Err(value.malformed("MP_REACH_NLRI without NLRI"));
        }
        self.reach = Some((reached, next_hop));
        Ok(())
    }

    fn mp_unreach(&mut self, mut value: Reader<'_>) -> Result<(), Refusal> {
        let family = family(&mut value)?;
        nlris(family, value)?;
        self.unreach = true;
        Ok(())
    }

    fn announcement(
        self,
        reached: Vec<Reached<'a>>,
        next_hop: Option<IpAddr>,
    ) -> Result<Contents<'a>, Refusal> {
        for (code, name) in [(ORIGIN, "ORIGIN"), (AS_PATH, "AS_PATH")] {
            if !self.seen.contains(&code) {
                return Err(not_understood(format!("an announcement without {name}")));
            }
        }
        let actions = [EXTENDED_COMMUNITIES, IPV6_EXTENDED_COMMUNITIES];
        let actions = actions.iter().any(|code| self.seen.contains(code));
        Ok(Contents::Announcement(Announcement {
            reached,
            next_hop,
            communities: self.communities,
            large_communities: self.large_communities,
            actions,
            bad_rate: self.bad_rate,
        }))
    }
}

/// Nothing, or one AS_SEQUENCE of numbers that are `widths` octets wide, whichever fits.
fn as_path(mut value: Reader<'_>, widths: &[usize]) -> Result<(), Refusal> {
    if value.is_empty() {
        return Ok(());
    }
    let [kind, count] = value.array("a path segment")?;
    let length = value.rest().len();
    let width = widths.iter().copied().find(|width| usize::from(count) * width == length);
    match width {
        Some(width) if kind == 2 && count > 0 => {
            let zero = value
                .rest()
                .chunks_exact(width)
                .any(|number| number.iter().all(|octet| *octet == 0));
            if zero { Err(value.malformed("AS 0 in a path")) } else { Ok(()) }
        }
        _ => Err(value.malformed("not a path of one AS_SEQUENCE")),
    }
}

#[derive(Clone, Copy)]
enum Family {
    Unicast(AddressFamily),
    FlowSpec(AddressFamily),
}

fn family(value: &mut Reader<'_>) -> Result<Family, Refusal> {
    let afi = value.u16("the AFI")?;
    let safi = value.u8("the SAFI")?;
    match (afi, safi) {
        (1, 1) => Ok(Family::Unicast(AddressFamily::Ipv4)),
        (2, 1) => Ok(Family::Unicast(AddressFamily::Ipv6)),
        (1, 133) => Ok(Family::FlowSpec(AddressFamily::Ipv4)),
        (2, 133) => Ok(Family::FlowSpec(AddressFamily::Ipv6)),
        _ => Err(not_understood(format!("AFI {afi} SAFI {safi}"))),
    }
}

fn nlris(family: Family, value: Reader<'_>) -> Result<Vec<Reached<'_>>, Refusal> {
    match family {
        Family::Unicast(family) => {
            Ok(unicast_prefixes(value, family)?.into_iter().map(Reached::Unicast).collect())
        }
        Family::FlowSpec(family) => {
            Ok(flowspec::rules(value, family)?.into_iter().map(Reached::FlowSpec).collect())
        }
    }
}

fn unicast_prefixes(mut reader: Reader<'_>, family: AddressFamily) -> Result<Vec<Prefix>, Refusal> {
    let mut prefixes = Vec::new();
    while !reader.is_empty() {
        let length = reader.u8("a prefix length")?;
        prefixes.push(prefix(&mut reader, family, length)?);
    }
    Ok(prefixes)
}

/// A prefix of `length` bits whose address follows. Bits behind the length must be clear.
pub(super) fn prefix(
    reader: &mut Reader<'_>,
    family: AddressFamily,
    length: u8,
) -> Result<Prefix, Refusal> {
    if length > family.bits() {
        return Err(reader.malformed(format!("{family} prefix of {length} bits")));
    }
    let start = *reader;
    let octets = reader.part(usize::from(length).div_ceil(8), "a prefix")?;
    // Left-aligned in 128 bits, whatever the family.
    let mut bits = 0_u128;
    for (octet, shift) in octets.rest().iter().zip((0..16_u32).map(|index| 120 - 8 * index)) {
        bits |= u128::from(*octet) << shift;
    }
    if bits.checked_shl(u32::from(length)).unwrap_or(0) != 0 {
        return Err(start.malformed("host bits are set"));
    }
    let address = match family {
        AddressFamily::Ipv4 => {
            let high = u32::try_from(bits >> 96).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(high))
        }
        AddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::from(bits)),
    };
    Prefix::new(address, length)
        .ok_or_else(|| start.malformed(format!("{address}/{length} is no prefix")))
}

/// Traffic filtering actions (RFC 8955 §7, RFC 7674) and nothing else. Returns a traffic-rate that
/// is none.
fn read_action(community: [u8; 8]) -> Result<Option<f32>, Refusal> {
    let [high, low, value @ ..] = community;
    let understood = match (high, low) {
        // traffic-rate-bytes and traffic-rate-packets
        (0x80, 0x06 | 0x0c) => {
            let [_, _, rate @ ..] = value;
            let rate = f32::from_be_bytes(rate);
            if !rate.is_finite() || rate.is_sign_negative() {
                return Ok(Some(rate));
            }
            true
        }
        // traffic-action: the S and T bits
        (0x80, 0x07) => matches!(value, [0, 0, 0, 0, 0, 0..=3]),
        // rt-redirect
        (0x80..=0x82, 0x08) => true,
        // traffic-marking
        (0x80, 0x09) => matches!(value, [0, 0, 0, 0, 0, 0..=63]),
        // redirect to an IPv4 address
        (0x01, 0x0c) => matches!(value, [.., 0, 0..=1]),
        _ => false,
    };
    if understood {
        Ok(None)
    } else {
        Err(not_understood(format!("extended community {:016x}", u64::from_be_bytes(community))))
    }
}

/// Redirect to an IPv6 address and nothing else.
fn read_ipv6_action(community: [u8; 20]) -> Result<(), Refusal> {
    match community {
        [0x00, 0x0c, .., 0, 0..=1] => Ok(()),
        [high, low, ..] => {
            Err(not_understood(format!("IPv6 extended community {high:02x}{low:02x}")))
        }
    }
}
