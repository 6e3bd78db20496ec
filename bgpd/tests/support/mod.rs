//! Routes that the tests announce.

#![allow(dead_code, reason = "no test uses all of them")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{
    AddressFamily, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OwnedSpace,
    Prefix, Route, TrafficFilteringAction,
};

/// Owns 203.0.113.0/24 and 2001:db8:1::/48.
pub(crate) fn gate_policy() -> GatePolicy {
    GatePolicy {
        space: OwnedSpace {
            owned: vec![prefix("203.0.113.0/24"), prefix("2001:db8:1::/48")],
            never_touch: vec![prefix("203.0.113.53")],
        },
        ..GatePolicy::default()
    }
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// BLACKHOLE and NO_EXPORT.
pub(crate) fn blackhole(address: &str) -> Route {
    let prefix = prefix(address);
    let next_hop = match prefix.family() {
        AddressFamily::Ipv4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        AddressFamily::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
    };
    Route {
        nlri: Nlri::Unicast(prefix),
        next_hop: Some(next_hop),
        communities: [Community::BLACKHOLE, Community::NO_EXPORT].into(),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}

/// UDP from source port 123 to `address`, discarded.
pub(crate) fn ntp_filter(address: &str) -> Route {
    flowspec(
        address,
        [
            FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
            FlowSpecComponent::SourcePort(NumericMatch::equal(123)),
        ],
        TrafficFilteringAction::DISCARD,
    )
}

pub(crate) fn flowspec(
    address: &str,
    components: impl IntoIterator<Item = FlowSpecComponent>,
    action: TrafficFilteringAction,
) -> Route {
    let destination = prefix(address);
    let components =
        [FlowSpecComponent::DestinationPrefix(destination)].into_iter().chain(components).collect();
    let rule = FlowSpecRule::new(destination.family(), components);
    Route {
        nlri: Nlri::FlowSpec(rule.unwrap_or_else(|error| panic!("{address}: {error}"))),
        next_hop: None,
        communities: [Community::NO_EXPORT].into(),
        large_communities: BTreeSet::new(),
        actions: vec![action],
    }
}
