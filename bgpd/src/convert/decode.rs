//! UPDATE messages read back, for people and for tests.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use rustbgpd_wire as wire;
use tidegate_model::{
    AddressFamily, Community, FlowSpecRule, LargeCommunity, Nlri, Prefix, TrafficFilteringAction,
};

use super::{attributes, nlri};
use crate::family::Family;

/// Octets that are no UPDATE that can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// ORIGIN (RFC 4271 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words are the standard's")]
pub enum Origin {
    Igp,
    Egp,
    Incomplete,
}

/// An UPDATE, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedUpdate {
    /// Routes that become reachable, in wire order.
    pub announced: Vec<Nlri>,
    /// Routes that are taken back, in wire order.
    pub withdrawn: Vec<Nlri>,
    /// Set if the message is an End-of-RIB marker (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// AS_PATH, leftmost first, with the numbers of AS4_PATH in place of AS_TRANS.
    pub as_path: Option<Vec<u32>>,
    /// Next hop of the announced unicast routes.
    pub next_hop: Option<IpAddr>,
    /// LOCAL_PREF, on iBGP sessions.
    pub local_preference: Option<u32>,
    /// Communities.
    pub communities: BTreeSet<Community>,
    /// Large communities.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Traffic filtering actions, in wire order.
    pub actions: Vec<TrafficFilteringAction>,
    /// What else the message carries, in words.
    pub other: Vec<String>,
}

/// Reads one whole BGP UPDATE. Whether AS numbers have two or four octets shows in the lengths of
/// AS_PATH.
///
/// # Errors
/// [`DecodeError`] if `message` is anything else, is malformed, or carries an IPv6 FlowSpec prefix
/// with an offset.
pub fn decode_update(message: &[u8]) -> Result<DecodedUpdate, DecodeError> {
    let update = super::read(message)?;
    let parsed = update
        .parse(true, false, &[])
        .or_else(|error| update.parse(false, false, &[]).map_err(|_| error))
        .map_err(|error| DecodeError::new(error.to_string()))?;

    let mut decoded = DecodedUpdate::default();
    for entry in &parsed.withdrawn {
        decoded.withdrawn.push(unicast(IpAddr::V4(entry.prefix.addr), entry.prefix.len)?);
    }
    for attribute in &parsed.attributes {
        decoded.take(attribute)?;
    }
    for entry in &parsed.announced {
        decoded.announced.push(unicast(IpAddr::V4(entry.prefix.addr), entry.prefix.len)?);
    }
    decoded.end_of_rib = end_of_rib(&decoded, &parsed.attributes);
    Ok(decoded)
}

/// Reads FlowSpec NLRI, each with its length, as they stand in MP_REACH_NLRI.
///
/// # Errors
/// [`DecodeError`] if they are malformed or carry an IPv6 prefix with an offset.
pub fn decode_flowspec(
    family: AddressFamily,
    octets: &[u8],
) -> Result<Vec<FlowSpecRule>, DecodeError> {
    wire::flowspec::decode_flowspec_nlri(octets, nlri::afi(family))
        .map_err(|error| DecodeError::new(error.to_string()))?
        .iter()
        .map(|rule| nlri::rule_from_wire(family, rule).map_err(DecodeError::new))
        .collect()
}

fn unicast(address: IpAddr, length: u8) -> Result<Nlri, DecodeError> {
    Prefix::new(address, length)
        .map(Nlri::Unicast)
        .ok_or_else(|| DecodeError::new(format!("{address}/{length} is no prefix")))
}

/// The NLRI of an MP attribute.
fn mp_nlris(
    (afi, safi): (wire::Afi, wire::Safi),
    prefixes: &[wire::NlriEntry],
    rules: &[wire::FlowSpecRule],
) -> Result<Vec<Nlri>, DecodeError> {
    let Some(family) = Family::from_codes(afi as u16, safi as u8) else {
        return Err(DecodeError::new(format!(
            "AFI {} SAFI {} is not supported",
            afi as u16, safi as u8
        )));
    };
    let mut nlris = Vec::with_capacity(prefixes.len() + rules.len());
    for entry in prefixes {
        nlris.push(match entry.prefix {
            wire::Prefix::V4(prefix) => unicast(IpAddr::V4(prefix.addr), prefix.len)?,
            wire::Prefix::V6(prefix) => unicast(IpAddr::V6(prefix.addr), prefix.len)?,
        });
    }
    for rule in rules {
        let rule = nlri::rule_from_wire(family.addresses(), rule).map_err(DecodeError::new)?;
        nlris.push(Nlri::FlowSpec(rule));
    }
    Ok(nlris)
}

/// RFC 4724 §2: an empty UPDATE, or one with nothing but an empty MP_UNREACH_NLRI.
fn end_of_rib(decoded: &DecodedUpdate, attributes: &[wire::PathAttribute]) -> Option<Family> {
    if !decoded.announced.is_empty() || !decoded.withdrawn.is_empty() {
        return None;
    }
    match attributes {
        [] => Some(Family::Ipv4Unicast),
        [wire::PathAttribute::MpUnreachNlri(unreach)] => {
            Family::from_codes(unreach.afi as u16, unreach.safi as u8)
        }
        _ => None,
    }
}

impl DecodedUpdate {
    fn take(&mut self, attribute: &wire::PathAttribute) -> Result<(), DecodeError> {
        use wire::PathAttribute as Attribute;

        match attribute {
            Attribute::Origin(origin) => {
                self.origin = Some(match origin {
                    wire::Origin::Igp => Origin::Igp,
                    wire::Origin::Egp => Origin::Egp,
                    wire::Origin::Incomplete => Origin::Incomplete,
                });
            }
            Attribute::AsPath(path) => self.as_path = Some(path.asns().collect()),
            Attribute::NextHop(address) => self.next_hop = Some(IpAddr::V4(*address)),
            Attribute::LocalPref(preference) => self.local_preference = Some(*preference),
            Attribute::MpReachNlri(reach) => {
                let family = (reach.afi, reach.safi);
                self.announced = mp_nlris(family, &reach.announced, &reach.flowspec_announced)?;
                if reach.safi == wire::Safi::Unicast {
                    self.next_hop = attributes::real_next_hop(reach.next_hop);
                }
            }
            Attribute::MpUnreachNlri(unreach) => {
                let family = (unreach.afi, unreach.safi);
                let nlris = mp_nlris(family, &unreach.withdrawn, &unreach.flowspec_withdrawn)?;
                self.withdrawn.extend(nlris);
            }
            other => self.take_communities(other),
        }
        Ok(())
    }

    fn take_communities(&mut self, attribute: &wire::PathAttribute) {
        if let Some(communities) = attribute.communities() {
            self.communities.extend(communities.iter().copied().map(Community));
        } else if let Some(communities) = attribute.large_communities() {
            self.large_communities.extend(communities.iter().map(|community| LargeCommunity {
                global: community.global_admin,
                local1: community.local_data1,
                local2: community.local_data2,
            }));
        } else if let Some(communities) = attribute.extended_communities() {
            for community in communities {
                match attributes::action_from_wire(*community) {
                    Some(action) => self.actions.push(action),
                    None => self.other.push(attributes::show_extended(*community)),
                }
            }
        } else if let Some(communities) = attribute.ipv6_extended_communities() {
            for community in communities {
                match attributes::ipv6_action_from_wire(*community) {
                    Some(action) => self.actions.push(action),
                    None => self.other.push("IPv6 extended community".to_owned()),
                }
            }
        } else {
            self.other.push(format!("attribute {}", attribute.type_code()));
        }
    }
}

/// `; label one, two`, or nothing if there is nothing to list.
fn list<T: fmt::Display>(
    formatter: &mut fmt::Formatter<'_>,
    label: &str,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    let mut separator = label;
    for item in items {
        write!(formatter, "{separator} {item}")?;
        separator = ",";
    }
    Ok(())
}

impl fmt::Display for DecodedUpdate {
    /// `announce 203.0.113.7/32; next hop 192.0.2.1; AS path empty; communities 65535:666`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(family) = self.end_of_rib {
            return write!(formatter, "end of RIB {family}");
        }
        list(formatter, "withdraw", &self.withdrawn)?;
        if self.announced.is_empty() {
            return Ok(());
        }
        if !self.withdrawn.is_empty() {
            formatter.write_str("; ")?;
        }
        list(formatter, "announce", &self.announced)?;
        list(formatter, "; next hop", self.next_hop)?;
        match self.as_path.as_deref() {
            Some([]) => formatter.write_str("; AS path empty")?,
            Some(path) => {
                formatter.write_str("; AS path")?;
                for number in path {
                    write!(formatter, " {number}")?;
                }
            }
            None => {}
        }
        list(formatter, "; local preference", self.local_preference)?;
        list(formatter, "; communities", &self.communities)?;
        list(formatter, "; large communities", &self.large_communities)?;
        list(formatter, "; actions", &self.actions)?;
        list(formatter, "; also", &self.other)
    }
}
