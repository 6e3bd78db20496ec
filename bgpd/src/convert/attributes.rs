//! Path attributes that are not NLRI.

use std::net::{IpAddr, Ipv4Addr};

use rustbgpd_wire as wire;
use tidegate_model::{Nlri, Route, TrafficFilteringAction};

use super::{EMPTY_UPDATE, EncodeError, LOCAL_PREFERENCE};
use crate::family::Family;
use crate::parameters::SessionParameters;

/// The octets of everything but MP_REACH_NLRI.
pub(super) fn octets(
    parameters: &SessionParameters,
    route: &Route,
) -> Result<Vec<u8>, EncodeError> {
    let codec = |error: wire::EncodeError| EncodeError::Codec(error.to_string());
    let attributes = of_route(parameters, route)?;
    let update = wire::UpdateMessage::try_build(
        &[],
        &[],
        &attributes,
        parameters.four_octet_as,
        false,
        wire::Ipv4UnicastMode::Body,
    )
    .map_err(codec)?;
    let mut message = Vec::new();
    update.encode_with_limit(&mut message, wire::MAX_MESSAGE_LEN).map_err(codec)?;
    Ok(message.split_off(EMPTY_UPDATE.min(message.len())))
}

/// The same, in the order of their type codes.
fn of_route(
    parameters: &SessionParameters,
    route: &Route,
) -> Result<Vec<wire::PathAttribute>, EncodeError> {
    use wire::PathAttribute as Attribute;

    let mut attributes = vec![Attribute::Origin(wire::Origin::Igp), as_path(parameters)];
    if let Some(IpAddr::V4(next_hop)) = route.next_hop {
        attributes.push(Attribute::NextHop(next_hop));
    }
    if parameters.is_internal() {
        attributes.push(Attribute::LocalPref(LOCAL_PREFERENCE));
    }
    if !route.communities.is_empty() {
        let communities = route.communities.iter().map(|community| community.0);
        attributes.push(Attribute::Communities(communities.collect()));
    }
    let (extended, extended_ipv6) = extended_communities(route)?;
    if !extended.is_empty() {
        attributes.push(Attribute::ExtendedCommunities(extended));
    }
    if !extended_ipv6.is_empty() {
        attributes.push(Attribute::Ipv6ExtendedCommunities(extended_ipv6));
    }
    if !route.large_communities.is_empty() {
        let large = route.large_communities.iter().map(|community| {
            wire::LargeCommunity::new(community.global, community.local1, community.local2)
        });
        attributes.push(Attribute::LargeCommunities(large.collect()));
    }
    if let Some(asn) = parameters.only_to_customer(Family::of(&route.nlri)) {
        attributes.push(Attribute::OnlyToCustomer(asn));
    }
    Ok(attributes)
}

/// Empty within our AS, otherwise our AS alone. For a peer without 4-octet AS numbers the codec
/// writes AS_TRANS and adds AS4_PATH (RFC 6793 §4.2.2).
fn as_path(parameters: &SessionParameters) -> wire::PathAttribute {
    let segments = if parameters.is_internal() {
        Vec::new()
    } else {
        vec![wire::AsPathSegment::AsSequence(vec![parameters.local_as])]
    };
    wire::PathAttribute::AsPath(wire::AsPath { segments })
}

type ExtendedCommunities = (Vec<wire::ExtendedCommunity>, Vec<wire::Ipv6ExtendedCommunity>);

fn extended_communities(route: &Route) -> Result<ExtendedCommunities, EncodeError> {
    let mut short = Vec::new();
    let mut long = Vec::new();
    for action in &route.actions {
        if matches!(route.nlri, Nlri::Unicast(_)) {
            return Err(EncodeError::ActionOnUnicast {
                nlri: Box::new(route.nlri.clone()),
                action: *action,
            });
        }
        action
            .check()
            .map_err(|source| EncodeError::Action { nlri: Box::new(route.nlri.clone()), source })?;
        match to_wire(*action) {
            Encoded::Short(community) => short.push(community),
            Encoded::Ipv6(community) => long.push(community),
        }
    }
    Ok((short, long))
}

enum Encoded {
    Short(wire::ExtendedCommunity),
    Ipv6(wire::Ipv6ExtendedCommunity),
}

fn to_wire(action: TrafficFilteringAction) -> Encoded {
    use TrafficFilteringAction as Model;
    use wire::FlowSpecAction as Wire;

    // The AS number in a traffic-rate is informational (RFC 8955 §7.1). Zero says nothing, and is
    // what BIRD and ExaBGP send.
    let wire = match action {
        Model::RateLimitBytes(rate) => Wire::TrafficRateBytes { asn: 0, rate },
        Model::RateLimitPackets(rate) => Wire::TrafficRatePackets { asn: 0, rate },
        Model::TrafficAction { sample, terminal } => Wire::TrafficAction { sample, terminal },
        Model::RedirectAs2(asn, value) => Wire::Redirect2Octet { asn, value },
        Model::RedirectIpv4(addr, value) => Wire::RedirectIpv4 { addr, value },
        Model::RedirectAs4(asn, value) => Wire::Redirect4Octet { asn, value },
        Model::RedirectToIp(IpAddr::V4(addr), copy) => Wire::RedirectToIp { addr, copy },
        Model::RedirectToIp(IpAddr::V6(addr), copy) => {
            return Encoded::Ipv6(wire::Ipv6ExtendedCommunity::from_flowspec_redirect_to_ip(
                addr, copy,
            ));
        }
        Model::Mark(dscp) => Wire::TrafficMarking { dscp },
    };
    Encoded::Short(wire::ExtendedCommunity::from_flowspec_action(&wire))
}

/// The action of an extended community; `None` if it is not a traffic filtering action.
pub(super) fn action_from_wire(
    community: wire::ExtendedCommunity,
) -> Option<TrafficFilteringAction> {
    use TrafficFilteringAction as Model;
    use wire::FlowSpecAction as Wire;

    Some(match community.as_flowspec_action()? {
        Wire::TrafficRateBytes { rate, .. } => Model::RateLimitBytes(rate),
        Wire::TrafficRatePackets { rate, .. } => Model::RateLimitPackets(rate),
        Wire::TrafficAction { sample, terminal } => Model::TrafficAction { sample, terminal },
        Wire::TrafficMarking { dscp } => Model::Mark(dscp),
        Wire::Redirect2Octet { asn, value } => Model::RedirectAs2(asn, value),
        Wire::RedirectIpv4 { addr, value } => Model::RedirectIpv4(addr, value),
        Wire::Redirect4Octet { asn, value } => Model::RedirectAs4(asn, value),
        Wire::RedirectToIp { addr, copy } => Model::RedirectToIp(IpAddr::V4(addr), copy),
        _ => return None,
    })
}

/// The action of an IPv6-address-specific extended community.
pub(super) fn ipv6_action_from_wire(
    community: wire::Ipv6ExtendedCommunity,
) -> Option<TrafficFilteringAction> {
    let (address, copy) = community.as_flowspec_redirect_to_ip()?;
    Some(TrafficFilteringAction::RedirectToIp(IpAddr::V6(address), copy))
}

/// Sixteen hexadecimal digits of an extended community that is no action.
pub(super) fn show_extended(community: wire::ExtendedCommunity) -> String {
    format!("extended community {:016x}", community.as_u64())
}

/// `0.0.0.0` stands for "no next hop" in the codec's MP_REACH_NLRI of a FlowSpec family.
pub(super) fn real_next_hop(next_hop: IpAddr) -> Option<IpAddr> {
    (next_hop != IpAddr::V4(Ipv4Addr::UNSPECIFIED)).then_some(next_hop)
}
