//! What a route must be to leave, stated on the model, apart from the gate's own code.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_bgpd::convert::encode_nlri;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{
    AddressFamily, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OwnedSpace,
    Prefix, Route,
};

/// The address space that is owned. Small, so that arbitrary routes meet its edges.
pub(crate) fn space() -> OwnedSpace {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    OwnedSpace {
        owned: prefixes(&["203.0.112.0/22", "2001:db8::/32"]),
        never_touch: prefixes(&["203.0.113.53", "203.0.114.64/26", "2001:db8:53::/48"]),
    }
}

/// Ends of BGP sessions inside the owned space.
pub(crate) fn session_addresses() -> Vec<IpAddr> {
    ["203.0.113.1", "203.0.115.9", "2001:db8:1::1"].map(|text| text.parse().unwrap()).into()
}

/// The policy that all this is about.
pub(crate) fn policy() -> GatePolicy {
    GatePolicy { space: space(), session_addresses: session_addresses(), ..GatePolicy::default() }
}

fn keeps_to_space(destination: Prefix) -> bool {
    let space = space();
    space.owned.iter().any(|owned| owned.contains(&destination))
        && !space.never_touch.iter().any(|protected| protected.overlaps(&destination))
}

fn sessions_in(prefix: Prefix) -> bool {
    session_addresses().into_iter().any(|address| prefix.contains_address(address))
}

fn unicast_is_safe(prefix: Prefix, route: &Route) -> bool {
    let scope = [Community::NO_EXPORT, Community::NO_ADVERTISE];
    let usable = route.next_hop.is_some_and(|next_hop| {
        !next_hop.is_unspecified() && !next_hop.is_loopback() && !next_hop.is_multicast()
    });
    keeps_to_space(prefix)
        && prefix.is_host()
        && !sessions_in(prefix)
        && usable
        && route.communities.contains(&Community::BLACKHOLE)
        && scope.iter().any(|one| route.communities.contains(one))
}

/// The values of a field, all of them.
fn values(component: &FlowSpecComponent, family: AddressFamily) -> std::ops::RangeInclusive<u64> {
    use FlowSpecComponent as Component;
    match component {
        Component::IpProtocol(_) | Component::IcmpType(_) | Component::IcmpCode(_) => 0..=255,
        Component::Dscp(_) => 0..=63,
        Component::FlowLabel(_) => 0..=0xf_ffff,
        Component::PacketLength(_) if family == AddressFamily::Ipv6 => 40..=65535,
        Component::PacketLength(_) => 20..=65535,
        _ => 0..=65535,
    }
}

fn numeric(component: &FlowSpecComponent) -> Option<&NumericMatch> {
    use FlowSpecComponent as Component;
    match component {
        Component::IpProtocol(numeric)
        | Component::Port(numeric)
        | Component::DestinationPort(numeric)
        | Component::SourcePort(numeric)
        | Component::IcmpType(numeric)
        | Component::IcmpCode(numeric)
        | Component::PacketLength(numeric)
        | Component::Dscp(numeric)
        | Component::FlowLabel(numeric) => Some(numeric),
        _ => None,
    }
}

/// Whether the component matches some packet, and whether it matches every packet.
fn reach(component: &FlowSpecComponent, family: AddressFamily) -> (bool, bool) {
    use FlowSpecComponent as Component;
    if let Some(numeric) = numeric(component) {
        let mut values = values(component, family);
        let some = values.clone().any(|value| numeric.matches(value));
        return (some, values.all(|value| numeric.matches(value)));
    }
    match component {
        Component::TcpFlags(mask) => {
            let hits = (0..0x1000).filter(|bits| mask.matches(*bits)).count();
            (hits > 0, hits == 0x1000)
        }
        Component::Fragment(mask) => {
            // Whole, first, middle, last; with and without DF in IPv4.
            let mut states = vec![0, 4, 2, 10];
            if family == AddressFamily::Ipv4 {
                states.extend([1, 5, 3, 11]);
            }
            let hits = states.iter().filter(|bits| mask.matches(**bits)).count();
            (hits > 0, hits == states.len())
        }
        Component::SourcePrefix(prefix) => (true, prefix.length() == 0),
        _ => (true, true),
    }
}

/// Whether a TCP segment or UDP datagram with these ports matches, as far as protocol and ports go.
fn matches(rule: &FlowSpecRule, number: u64, source: u64, destination: u64) -> bool {
    use FlowSpecComponent as Component;
    rule.components().iter().all(|component| match component {
        Component::IpProtocol(protocol) => protocol.matches(number),
        Component::TcpFlags(_) => number == 6,
        Component::Port(port) => port.matches(source) || port.matches(destination),
        Component::DestinationPort(port) => port.matches(destination),
        Component::SourcePort(port) => port.matches(source),
        Component::IcmpType(_) | Component::IcmpCode(_) => false,
        _ => true,
    })
}

/// Whether the ports that the rule names can go together in one packet.
fn ports_agree(rule: &FlowSpecRule) -> bool {
    use FlowSpecComponent as Component;
    let find = |code| rule.components().iter().find(|component| component.type_code() == code);
    let Some(Component::Port(either)) = find(4) else { return true };
    let one = |code| {
        let other = find(code).and_then(numeric);
        let both = |port| either.matches(port) && other.is_none_or(|other| other.matches(port));
        (0..65536).any(both)
    };
    one(5) || one(6)
}

/// Whether the rule lets packets through that have an upper-layer header, if it looks at one.
fn headers_are_there(rule: &FlowSpecRule) -> bool {
    let looks = rule.components().iter().any(|one| (4..=9).contains(&one.type_code()));
    rule.components().iter().all(|component| match component {
        FlowSpecComponent::Fragment(mask) if looks => {
            let df = rule.family() == AddressFamily::Ipv4;
            [0, 4].into_iter().any(|bits| mask.matches(bits) || df && mask.matches(bits | 1))
        }
        _ => true,
    })
}

fn only(rule: &FlowSpecRule, allowed: &[u64]) -> bool {
    rule.components().iter().all(|component| match component {
        FlowSpecComponent::IpProtocol(protocol) => {
            (0..256).all(|number| !protocol.matches(number) || allowed.contains(&number))
        }
        _ => true,
    })
}

fn rule_is_safe(rule: &FlowSpecRule, route: &Route) -> bool {
    let Some(destination) = rule.destination() else { return false };
    let family = rule.family();
    let (least, icmp) = match family {
        AddressFamily::Ipv4 => (24, 1),
        AddressFamily::Ipv6 => (48, 58),
    };
    let codes: BTreeSet<u8> = rule.components().iter().map(FlowSpecComponent::type_code).collect();
    let reaches: Vec<_> =
        rule.components().iter().map(|component| reach(component, family)).collect();
    let rates = route.actions.iter().all(|action| action.check().is_ok());
    let ports = codes.iter().any(|code| (4..=6).contains(code));
    let icmp_fields = codes.contains(&7) || codes.contains(&8);
    // BGP and BFD.
    let services = [(6, 179), (17, 3784), (17, 3785), (17, 4784)];
    let session = sessions_in(destination)
        && services.into_iter().any(|(number, port)| {
            let either = |far| matches(rule, number, port, far) || matches(rule, number, far, port);
            (1024..65536).any(either)
        });
    // With its length octet, which is one up to 239.
    let short = encode_nlri(&route.nlri).is_ok_and(|octets| octets.len() <= 240);
    keeps_to_space(destination)
        && short
        && destination.length() >= least
        && reaches.iter().all(|(some, _)| *some)
        && reaches.iter().any(|(_, every)| !*every)
        && rates
        && !route.actions.is_empty()
        && (!ports || only(rule, &[6, 17, 132]))
        && (!codes.contains(&9) || only(rule, &[6]))
        && (!icmp_fields || codes.contains(&3) && only(rule, &[icmp]))
        && !(icmp_fields && (ports || codes.contains(&9)))
        && ports_agree(rule)
        && headers_are_there(rule)
        && !session
}

/// Whether the route may leave under [`policy`].
pub(crate) fn is_safe(route: &Route) -> bool {
    match &route.nlri {
        Nlri::Unicast(prefix) => unicast_is_safe(*prefix, route),
        Nlri::FlowSpec(rule) => rule_is_safe(rule, route),
    }
}
