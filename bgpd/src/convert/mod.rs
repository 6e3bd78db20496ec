//! Between model values and whole BGP messages.
//!
//! The codec crate is used here and nowhere else. It encodes attributes and rules; messages are put
//! together from these octets here, so that ten thousand routes are encoded once each. The codec
//! encodes what it is given, so this module first
//! refuses what a receiver may answer with a reset: values beyond their field, reserved bits, rules
//! over [`MAX_FLOWSPEC_LENGTH`] octets, next hops of the wrong family. Host bits, unsorted or
//! repeated components, IPv6 offsets and an AND bit on a first operator cannot be written in the
//! model. The session with OpenBGPD, BIRD or FRR that dies of each of these is a session without
//! its mitigations.
//!
//! IPv4 unicast travels in the classic NLRI and Withdrawn Routes fields (RFC 4271 §4.3), the other
//! families in MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), which come first and never share a
//! message with another NLRI field (RFC 7606 §5.1).

mod attributes;
mod decode;
mod nlri;
pub(crate) mod received;

use std::net::IpAddr;

use bytes::Bytes;
use rustbgpd_wire as wire;
use tidegate_model::{AddressFamily, InvalidAction, Nlri, Route, TrafficFilteringAction};

pub use self::decode::{DecodeError, DecodedUpdate, Origin, decode_flowspec, decode_update};
use crate::MAX_MESSAGE_LENGTH;
use crate::family::Family;
use crate::parameters::SessionParameters;

/// Longest FlowSpec NLRI that is sent, in octets without its length octet.
///
/// RFC 8955 §4.1 goes to 4095 with a two-octet length, which FRR and GoBGP answer with a reset or
/// with silence.
pub const MAX_FLOWSPEC_LENGTH: usize = 239;

/// LOCAL_PREF of every route on an iBGP session.
pub const LOCAL_PREFERENCE: u32 = 100;

/// Octets of an UPDATE without any field.
const EMPTY_UPDATE: usize = 23;
/// Octets of an attribute of more than 255 octets in front of them.
const ATTRIBUTE_HEADER: usize = 4;
const MP_REACH_NLRI: u8 = 14;
const MP_UNREACH_NLRI: u8 = 15;

/// A message and how many of the routes it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// One whole BGP UPDATE, marker included, at most [`MAX_MESSAGE_LENGTH`] octets.
    pub message: Vec<u8>,
    /// So many routes, counted from the first, are in it. At least one.
    pub taken: usize,
}

/// A route that cannot be put on the wire.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The list is empty.
    #[error("no route to encode")]
    Nothing,
    /// Routes that cannot share a message.
    #[error("{first} and {other} differ in family or attributes and cannot share an UPDATE")]
    Mixed {
        /// The route that set the attributes.
        first: Box<Nlri>,
        /// The first route that differs.
        other: Box<Nlri>,
    },
    /// A next hop that is missing, superfluous or of the other family.
    #[error("{nlri}: {}", next_hop_problem(*.next_hop))]
    NextHop {
        /// The route.
        nlri: Box<Nlri>,
        /// Its next hop.
        next_hop: Option<IpAddr>,
    },
    /// A unicast route with FlowSpec actions.
    #[error(
        "{nlri}: a unicast route carries no traffic filtering action, but this one has `{action}`"
    )]
    ActionOnUnicast {
        /// The route.
        nlri: Box<Nlri>,
        /// The first of its actions.
        action: TrafficFilteringAction,
    },
    /// An action with an impossible number.
    #[error("{nlri}: {source}")]
    Action {
        /// The route.
        nlri: Box<Nlri>,
        /// What is wrong with the number.
        source: InvalidAction,
    },
    /// A value beyond the field that it is compared with.
    #[error("{nlri}: {component} is compared with {value}, but goes to {most} at most")]
    Value {
        /// The route.
        nlri: Box<Nlri>,
        /// Name of the component.
        component: &'static str,
        /// The value.
        value: u64,
        /// The largest value that the field can hold.
        most: u64,
    },
    /// Bits that the field does not have.
    #[error("{nlri}: {component} has no bits {bits:#06x}")]
    Bits {
        /// The route.
        nlri: Box<Nlri>,
        /// Name of the component.
        component: &'static str,
        /// The bits that are not there.
        bits: u16,
    },
    /// A rule over [`MAX_FLOWSPEC_LENGTH`].
    #[error("{nlri}: {octets} octets; receivers take {MAX_FLOWSPEC_LENGTH} at most")]
    TooLong {
        /// The route.
        nlri: Box<Nlri>,
        /// Its length on the wire without the length octet.
        octets: usize,
    },
    /// The codec would not write it, for one because the attributes fill more than a message.
    #[error("the UPDATE cannot be written: {0}")]
    Codec(String),
}

fn next_hop_problem(next_hop: Option<IpAddr>) -> String {
    match next_hop {
        None => "a unicast route needs a next hop".to_owned(),
        Some(address) => format!("{address} cannot be the next hop of this family"),
    }
}

/// Announces as many of `routes` as fit one message, in their order. All must be of one family and
/// have the same attributes.
///
/// # Errors
/// [`EncodeError`] if one of the routes that would go into the message cannot be put on the wire.
pub fn encode_announce(
    parameters: &SessionParameters,
    routes: &[&Route],
) -> Result<Packed, EncodeError> {
    let first = *routes.first().ok_or(EncodeError::Nothing)?;
    let family = Family::of(&first.nlri);
    for other in routes {
        if Family::of(&other.nlri) != family || !same_attributes(first, other) {
            return Err(EncodeError::Mixed {
                first: Box::new(first.nlri.clone()),
                other: Box::new(other.nlri.clone()),
            });
        }
    }
    let next_hop = checked_next_hop(first)?;
    let attributes = attributes::octets(parameters, first)?;
    let nlris = routes.iter().map(|route| &route.nlri);
    if family == Family::Ipv4Unicast {
        let (reached, taken) = fill(nlris, attributes.len())?;
        return Ok(Packed { message: update(&[], &attributes, &reached), taken });
    }
    let address = match next_hop {
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        _ => Vec::new(),
    };
    // The length of the next hop in front of it, and a reserved octet behind (RFC 4760 §3). The next
    // hop of a FlowSpec family has length 0 (RFC 8955 §4).
    let mut head = family_octets(family).to_vec();
    head.push(u8::try_from(address.len()).unwrap_or_default());
    head.extend(address);
    head.push(0);
    let (reached, taken) = fill(nlris, attributes.len() + ATTRIBUTE_HEADER + head.len())?;
    let reach = optional_attribute(MP_REACH_NLRI, &head, &reached);
    Ok(Packed { message: update(&[], &[reach, attributes].concat(), &[]), taken })
}

/// Withdraws as many of `nlris` as fit one message, in their order. All must be of one family.
///
/// # Errors
/// [`EncodeError`] if one of the NLRI that would go into the message cannot be put on the wire.
pub fn encode_withdraw(nlris: &[&Nlri]) -> Result<Packed, EncodeError> {
    let first = *nlris.first().ok_or(EncodeError::Nothing)?;
    let family = Family::of(first);
    if let Some(other) = nlris.iter().find(|nlri| Family::of(nlri) != family) {
        return Err(EncodeError::Mixed {
            first: Box::new(first.clone()),
            other: Box::new((*other).clone()),
        });
    }
    let nlris = nlris.iter().copied();
    if family == Family::Ipv4Unicast {
        let (gone, taken) = fill(nlris, 0)?;
        return Ok(Packed { message: update(&gone, &[], &[]), taken });
    }
    let head = family_octets(family);
    let (gone, taken) = fill(nlris, ATTRIBUTE_HEADER + head.len())?;
    let unreach = optional_attribute(MP_UNREACH_NLRI, &head, &gone);
    Ok(Packed { message: update(&[], &unreach, &[]), taken })
}

/// The End-of-RIB marker of `family`: an empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI
/// for the others (RFC 4724 §2).
#[must_use]
pub fn encode_end_of_rib(family: Family) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    if family == Family::Ipv4Unicast {
        message.extend([0, 23, 2, 0, 0, 0, 0]);
    } else {
        message.extend([0, 29, 2, 0, 0, 0, 6, 0x80, 15, 3]);
        message.extend(family.afi().to_be_bytes());
        message.push(family.safi());
    }
    message
}

/// The octets of one NLRI as they stand in an UPDATE, a FlowSpec rule with its length octet.
///
/// # Errors
/// [`EncodeError`] if it cannot be put on the wire.
pub fn encode_nlri(nlri: &Nlri) -> Result<Vec<u8>, EncodeError> {
    let mut octets = Vec::new();
    nlri::write(nlri, &mut octets)?;
    Ok(octets)
}

/// Whether two routes may share an UPDATE, apart from their family.
pub(crate) fn same_attributes(one: &Route, other: &Route) -> bool {
    one.next_hop == other.next_hop
        && one.communities == other.communities
        && one.large_communities == other.large_communities
        && one.actions == other.actions
}

fn checked_next_hop(route: &Route) -> Result<Option<IpAddr>, EncodeError> {
    let fits = match (&route.nlri, route.next_hop) {
        (Nlri::FlowSpec(_), next_hop) => next_hop.is_none(),
        (Nlri::Unicast(prefix), Some(IpAddr::V4(_))) => prefix.family() == AddressFamily::Ipv4,
        (Nlri::Unicast(prefix), Some(IpAddr::V6(_))) => prefix.family() == AddressFamily::Ipv6,
        (Nlri::Unicast(_), None) => false,
    };
    if fits {
        Ok(route.next_hop)
    } else {
        Err(EncodeError::NextHop { nlri: Box::new(route.nlri.clone()), next_hop: route.next_hop })
    }
}

/// The octets of as many of `nlris` as fit one message beside `taken_up` octets of it, and how many
/// they are.
fn fill<'a>(
    nlris: impl Iterator<Item = &'a Nlri>,
    taken_up: usize,
) -> Result<(Vec<u8>, usize), EncodeError> {
    let room = MAX_MESSAGE_LENGTH.saturating_sub(EMPTY_UPDATE + taken_up);
    let mut octets = Vec::with_capacity(room);
    let mut taken = 0;
    for nlri in nlris {
        let length = octets.len();
        nlri::write(nlri, &mut octets)?;
        if octets.len() > room {
            octets.truncate(length);
            break;
        }
        taken += 1;
    }
    match taken {
        0 => Err(EncodeError::Codec("the attributes leave no room for a route".to_owned())),
        _ => Ok((octets, taken)),
    }
}

/// AFI and SAFI.
fn family_octets(family: Family) -> [u8; 3] {
    let [high, low] = family.afi().to_be_bytes();
    [high, low, family.safi()]
}

/// An optional non-transitive attribute of `head` and `tail`, with the length field that it needs.
fn optional_attribute(code: u8, head: &[u8], tail: &[u8]) -> Vec<u8> {
    let length = head.len() + tail.len();
    let mut attribute = Vec::with_capacity(ATTRIBUTE_HEADER + length);
    match u8::try_from(length) {
        Ok(short) => attribute.extend([0x80, code, short]),
        Err(_) => {
            attribute.extend([0x90, code]);
            attribute.extend(length_octets(length));
        }
    }
    attribute.extend(head);
    attribute.extend(tail);
    attribute
}

/// An UPDATE with these three fields (RFC 4271 §4.3).
fn update(withdrawn: &[u8], attributes: &[u8], reached: &[u8]) -> Vec<u8> {
    let length = EMPTY_UPDATE + withdrawn.len() + attributes.len() + reached.len();
    let mut message = Vec::with_capacity(length);
    message.extend([0xff; 16]);
    message.extend(length_octets(length));
    message.push(2);
    message.extend(length_octets(withdrawn.len()));
    message.extend(withdrawn);
    message.extend(length_octets(attributes.len()));
    message.extend(attributes);
    message.extend(reached);
    message
}

/// Nothing longer than a message comes here.
fn length_octets(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// Takes one whole UPDATE apart.
fn read(message: &[u8]) -> Result<wire::UpdateMessage, DecodeError> {
    let mut octets = Bytes::copy_from_slice(message);
    match wire::decode_message(&mut octets, wire::MAX_MESSAGE_LEN) {
        Ok(wire::Message::Update(update)) if octets.is_empty() => Ok(update),
        Ok(wire::Message::Update(_)) => {
            Err(DecodeError::new(format!("{} octets behind the message", octets.len())))
        }
        Ok(other) => {
            Err(DecodeError::new(format!("a {:?} message, not an UPDATE", other.message_type())))
        }
        Err(error) => Err(DecodeError::new(error.to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;
