//! The same routes for everybody, as each wants to be told of them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use tidegate_model::{
    AddressFamily, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, Prefix, Route,
    TrafficFilteringAction,
};

use super::BenchError;
use crate::interop::Kind;

/// Next hop of the blackholes.
pub(super) const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Protocol that the rules match.
pub(super) const PROTOCOL: u8 = 17;
/// Source port that the rules match.
pub(super) const SOURCE_PORT: u16 = 123;
/// Owns the destinations.
pub(super) const OWNED: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// The destination of route number `index`.
pub(super) fn destination(index: usize) -> Ipv4Addr {
    let index = u32::try_from(index).unwrap_or_default();
    Ipv4Addr::from(u32::from(OWNED.0) + index)
}

/// For the speaker.
pub(super) fn route(kind: Kind, index: usize) -> Result<Route, BenchError> {
    let host = Prefix::host(destination(index).into());
    Ok(match kind {
        Kind::Rtbh => Route {
            nlri: Nlri::Unicast(host),
            next_hop: Some(NEXT_HOP.into()),
            communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
            large_communities: BTreeSet::new(),
            actions: Vec::new(),
        },
        Kind::FlowSpec => {
            let components = vec![
                FlowSpecComponent::DestinationPrefix(host),
                FlowSpecComponent::IpProtocol(NumericMatch::equal(PROTOCOL.into())),
                FlowSpecComponent::SourcePort(NumericMatch::equal(SOURCE_PORT.into())),
            ];
            let rule = FlowSpecRule::new(AddressFamily::Ipv4, components)
                .map_err(|error| BenchError::Unexpected(error.to_string()))?;
            Route {
                nlri: Nlri::FlowSpec(rule),
                next_hop: None,
                communities: BTreeSet::from([Community::NO_EXPORT]),
                large_communities: BTreeSet::new(),
                actions: vec![TrafficFilteringAction::DISCARD],
            }
        }
    })
}

/// One line of an include file of BIRD's.
pub(super) fn bird(kind: Kind, index: usize) -> String {
    let host = destination(index);
    match kind {
        Kind::Rtbh => format!(
            "route {host}/32 blackhole {{ bgp_community.add((65535,666)); bgp_community.add((65535,65281)); }};\n"
        ),
        Kind::FlowSpec => format!(
            "route flow4 {{ dst {host}/32; proto = {PROTOCOL}; sport = {SOURCE_PORT}; }} {{ bgp_ext_community.add((generic, 0x80060000, 0x0)); bgp_community.add((65535,65281)); }};\n"
        ),
    }
}

/// One line for ExaBGP's API.
pub(super) fn exabgp(kind: Kind, index: usize) -> String {
    let host = destination(index);
    match kind {
        Kind::Rtbh => format!(
            "announce route {host}/32 next-hop {NEXT_HOP} community [65535:666 65535:65281]\n"
        ),
        Kind::FlowSpec => format!(
            "announce flow route {{ match {{ destination {host}/32; protocol [ ={PROTOCOL} ]; source-port [ ={SOURCE_PORT} ]; }} then {{ discard; community [65535:65281]; }} }}\n"
        ),
    }
}
