//! Path attributes and NLRI as octets, for daemons that are told or show them so.
//!
//! Everything goes through [`tidegate_bgpd::convert`]; here messages are only taken apart and put
//! together.

use std::net::{IpAddr, Ipv4Addr};

use tidegate_bgpd::convert::{DecodedUpdate, EncodeError, decode_update, encode_announce};
use tidegate_bgpd::{Family, MAX_MESSAGE_LENGTH, SessionParameters};
use tidegate_model::{Route, TrafficFilteringAction};

/// Marker, length, type, and the lengths of both fields before the attributes (RFC 4271 §4.3).
const BEFORE_ATTRIBUTES: usize = 16 + 2 + 1 + 2 + 2;
/// EXTENDED_COMMUNITIES (RFC 4360 §2).
pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
/// IPv6 Address Specific Extended Communities (RFC 5701 §2).
pub(crate) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
/// MP_REACH_NLRI (RFC 4760 §3).
pub(crate) const MP_REACH_NLRI: u8 = 14;

/// Of a session that leaves AS_PATH empty: the daemon adds its own.
pub(crate) fn parameters() -> SessionParameters {
    SessionParameters {
        local_as: 1,
        peer_as: 1,
        local_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        four_octet_as: true,
        families: Family::ALL.into(),
        role: None,
    }
}

/// One path attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawAttribute {
    /// Its type code.
    pub(crate) code: u8,
    /// With flags, type and length.
    pub(crate) octets: Vec<u8>,
    value_at: usize,
}

impl RawAttribute {
    /// Without flags, type and length.
    pub(crate) fn value(&self) -> &[u8] {
        self.octets.get(self.value_at..).unwrap_or_default()
    }

    /// The first of `octets`, and what follows it.
    fn split(octets: &[u8]) -> Option<(Self, &[u8])> {
        let (&flags, &code) = (octets.first()?, octets.get(1)?);
        // The Extended Length bit.
        let (length, value_at) = if flags & 0x10 == 0 {
            (usize::from(*octets.get(2)?), 3)
        } else {
            (usize::from(u16::from_be_bytes([*octets.get(2)?, *octets.get(3)?])), 4)
        };
        let (whole, rest) = octets.split_at_checked(value_at + length)?;
        Some((Self { code, octets: whole.to_vec(), value_at }, rest))
    }
}

/// One attribute of these octets and nothing else.
pub(crate) fn split_attribute(octets: &[u8]) -> Option<RawAttribute> {
    let (attribute, rest) = RawAttribute::split(octets)?;
    rest.is_empty().then_some(attribute)
}

/// The path attributes of `route`, in the order of the message.
///
/// # Errors
/// [`EncodeError`] if it cannot be put on the wire.
pub(crate) fn attributes(route: &Route) -> Result<Vec<RawAttribute>, EncodeError> {
    let packed = encode_announce(&parameters(), &[route])?;
    let mut attributes = Vec::new();
    let mut rest = packed.message.get(BEFORE_ATTRIBUTES..).unwrap_or_default();
    // The NLRI field follows without a sign, so count.
    let length = packed.message.get(BEFORE_ATTRIBUTES - 2..BEFORE_ATTRIBUTES);
    let length = length.and_then(|octets| octets.try_into().ok()).map_or(0, u16::from_be_bytes);
    rest = rest.get(..usize::from(length)).unwrap_or_default();
    while let Some((attribute, after)) = RawAttribute::split(rest) {
        attributes.push(attribute);
        rest = after;
    }
    Ok(attributes)
}

/// What an UPDATE with these attributes, each with flags, type and length, and these octets in the
/// NLRI field would say.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read_update(attributes: &[Vec<u8>], nlri: &[u8]) -> Result<DecodedUpdate, String> {
    let fields: usize = attributes.iter().map(Vec::len).sum();
    let total = BEFORE_ATTRIBUTES + fields + nlri.len();
    if total > MAX_MESSAGE_LENGTH {
        return Err(format!("attributes and NLRI of {total} octets"));
    }
    let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
    let mut message = vec![0xff; 16];
    message.extend(length(total));
    message.extend([2, 0, 0]);
    message.extend(length(fields));
    for attribute in attributes {
        message.extend(attribute);
    }
    message.extend(nlri);
    decode_update(&message).map_err(|error| error.to_string())
}

/// The extended communities of `route` as 64-bit numbers, the type in the highest bits.
///
/// # Errors
/// For an action that is not an extended community of eight octets, or cannot be encoded.
pub(crate) fn extended_communities(route: &Route) -> Result<Vec<u64>, String> {
    let attributes = attributes(route).map_err(|error| error.to_string())?;
    if attributes.iter().any(|one| one.code == IPV6_EXTENDED_COMMUNITIES) {
        return Err("redirection to an IPv6 address".to_owned());
    }
    let value = attributes.iter().find(|one| one.code == EXTENDED_COMMUNITIES);
    let chunks = value.map_or(&[][..], RawAttribute::value).chunks_exact(8);
    Ok(chunks.filter_map(|chunk| chunk.try_into().ok()).map(u64::from_be_bytes).collect())
}

/// The actions that these extended communities are; those that are none are left out.
pub(crate) fn actions(communities: &[u64]) -> Vec<TrafficFilteringAction> {
    let mut attribute = vec![0xd0, EXTENDED_COMMUNITIES];
    let length = u16::try_from(communities.len() * 8).unwrap_or(u16::MAX);
    attribute.extend(length.to_be_bytes());
    attribute.extend(communities.iter().flat_map(|one| one.to_be_bytes()));
    read_update(&[attribute], &[]).map(|update| update.actions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::{AddressFamily, FlowSpecComponent, FlowSpecRule, Nlri};

    fn rule(actions: Vec<TrafficFilteringAction>) -> Route {
        let destination = FlowSpecComponent::DestinationPrefix("203.0.113.1".parse().unwrap());
        let rule = FlowSpecRule::new(AddressFamily::Ipv4, vec![destination]).unwrap();
        Route {
            nlri: Nlri::FlowSpec(rule),
            next_hop: None,
            communities: ["65001:1".parse().unwrap()].into(),
            large_communities: ["65010:666:1".parse().unwrap()].into(),
            actions,
        }
    }

    #[test]
    fn actions_survive_the_way_through_extended_communities() {
        use TrafficFilteringAction as Action;
        let all = vec![
            Action::DISCARD,
            Action::TrafficAction { sample: true, terminal: false },
            Action::RedirectAs2(65_001, 100),
            Action::RedirectAs4(4_200_000_001, 100),
            Action::RedirectIpv4([192, 0, 2, 1].into(), 7),
            Action::RedirectToIp(IpAddr::from([10, 1, 2, 3]), true),
            Action::Mark(46),
        ];
        for action in all {
            let communities = extended_communities(&rule(vec![action])).unwrap();
            assert_eq!(communities.len(), 1, "{action}");
            assert_eq!(actions(&communities), [action]);
        }
        let limit = extended_communities(&rule(vec![Action::RateLimitBytes(12_500.0)])).unwrap();
        assert_eq!(
            limit.iter().map(|one| one & 0xffff_0000_ffff_ffff).collect::<Vec<_>>(),
            [0x8006_0000_4643_5000]
        );
        let ipv6 = Action::RedirectToIp("2001:db8::1".parse().unwrap(), false);
        assert!(extended_communities(&rule(vec![ipv6])).is_err());
    }

    #[test]
    fn a_route_can_be_taken_apart_and_read_again() {
        let route = rule(vec![TrafficFilteringAction::DISCARD]);
        let attributes: Vec<_> =
            attributes(&route).unwrap().into_iter().map(|one| one.octets).collect();
        let read = read_update(&attributes, &[]).unwrap();
        assert_eq!(read.announced, [route.nlri]);
        assert_eq!(read.communities, route.communities);
        assert_eq!(read.large_communities, route.large_communities);
        assert_eq!(read.actions, route.actions);
    }

    #[test]
    fn hostile_attributes_are_refused() {
        for octets in [
            vec![],
            vec![0x40],
            vec![0x40, 1],
            vec![0x40, 1, 9, 0],
            vec![0x50, 1, 0xff],
            vec![0x50, 1, 0xff, 0xff, 1],
        ] {
            assert_eq!(RawAttribute::split(&octets), None, "{octets:?}");
        }
        assert!(read_update(&[vec![0x40, 14, 200, 1]], &[]).is_err());
        assert!(read_update(&[vec![0; 5000]], &[]).is_err());
        assert_eq!(actions(&[0; 600]), []);
    }
}
