//! Whatever passes the gate keeps its rules, stated here once more on the model.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_bgpd::convert::{decode_update, encode_announce, encode_withdraw};
use tidegate_bgpd::egress::{Gate, GatePolicy};
use tidegate_model::{
    AddressFamily, Community, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, Prefix, Route,
    TrafficFilteringAction,
};

use crate::routes;

fn policy() -> GatePolicy {
    GatePolicy {
        space: routes::space(),
        session_addresses: routes::session_addresses(),
        ..GatePolicy::default()
    }
}

fn keeps_to_space(destination: Prefix) -> bool {
    let space = routes::space();
    space.owned.iter().any(|owned| owned.contains(&destination))
        && !space.never_touch.iter().any(|protected| protected.overlaps(&destination))
}

fn sessions_in(prefix: Prefix) -> bool {
    routes::session_addresses().into_iter().any(|address| prefix.contains_address(address))
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

/// Whether a TCP segment with these ports matches, as far as protocol and ports go.
fn matches_tcp(rule: &FlowSpecRule, source: u64, destination: u64) -> bool {
    use FlowSpecComponent as Component;
    rule.components().iter().all(|component| match component {
        Component::IpProtocol(protocol) => protocol.matches(6),
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
    let session = sessions_in(destination)
        && (1024..65536).any(|far| matches_tcp(rule, 179, far) || matches_tcp(rule, far, 179));
    keeps_to_space(destination)
        && destination.length() >= least
        && reaches.iter().all(|(some, _)| *some)
        && reaches.iter().any(|(_, every)| !*every)
        && rates
        && (!ports || only(rule, &[6, 17, 132]))
        && (!codes.contains(&9) || only(rule, &[6]))
        && (!icmp_fields || codes.contains(&3) && only(rule, &[icmp]))
        && !(icmp_fields && (ports || codes.contains(&9)))
        && ports_agree(rule)
        && headers_are_there(rule)
        && !session
}

fn is_safe(route: &Route) -> bool {
    match &route.nlri {
        Nlri::Unicast(prefix) => unicast_is_safe(*prefix, route),
        Nlri::FlowSpec(rule) => rule_is_safe(rule, route),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What passes is safe, and what is refused is refused for cause. Only next hops are refused
    /// for more reasons than are stated here.
    #[test]
    fn what_passes_is_safe(parameters in routes::parameters(), route in routes::route()) {
        if let Ok(packed) = encode_announce(&parameters, &[&route]) {
            match Gate::new(policy()).judge(&packed.message) {
                Ok(()) => prop_assert!(is_safe(&route), "{} passed", route.nlri),
                Err(refusal) => {
                    let next_hop = refusal.rule() == "next-hop";
                    prop_assert!(next_hop || !is_safe(&route), "{}", refusal);
                }
            }
        }
    }

    #[test]
    fn every_withdrawal_passes(route in routes::route()) {
        if let Ok(packed) = encode_withdraw(&[&route.nlri]) {
            prop_assert_eq!(Gate::new(GatePolicy::default()).judge(&packed.message), Ok(()));
        }
    }

    /// What a planner asks for when one of our hosts is flooded.
    #[test]
    fn usual_mitigations_pass(
        parameters in routes::parameters(),
        host in 128_u8..,
        protocol in prop::sample::select(vec![6_u64, 17]),
        from in any::<u16>(),
        rate in 0.0..1e9_f32,
    ) {
        use FlowSpecComponent as Component;
        let target: Prefix = format!("203.0.113.{host}").parse().unwrap();
        let rule = FlowSpecRule::new(AddressFamily::Ipv4, vec![
            Component::DestinationPrefix(target),
            Component::IpProtocol(NumericMatch::equal(protocol)),
            Component::SourcePort(NumericMatch::equal(u64::from(from))),
        ]).unwrap();
        let flow = Route {
            nlri: Nlri::FlowSpec(rule),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            actions: vec![TrafficFilteringAction::RateLimitBytes(rate)],
        };
        let blackhole = Route {
            nlri: Nlri::Unicast(target),
            next_hop: Some("192.0.2.1".parse().unwrap()),
            communities: [Community::BLACKHOLE, Community::NO_EXPORT].into(),
            large_communities: BTreeSet::new(),
            actions: Vec::new(),
        };
        for route in [flow, blackhole] {
            let packed = encode_announce(&parameters, &[&route]).unwrap();
            prop_assert_eq!(Gate::new(policy()).judge(&packed.message), Ok(()));
        }
    }

    #[test]
    fn arbitrary_octets_do_no_harm(octets in vec(any::<u8>(), 0..120), kind in 0_u8..7) {
        let gate = Gate::new(policy());
        let _ = gate.judge(&octets);
        let length = ((octets.len() + 19) as u16).to_be_bytes();
        let whole = [[0xff; 16].as_slice(), &length, &[kind], &octets].concat();
        let _ = gate.judge(&whole);
    }

    /// A message that the gate lets out after a change of octets decodes, and what it announces is
    /// still safe: the gate does not depend on the encoder's manners.
    #[test]
    fn mutated_messages_are_judged_as_they_are(
        parameters in routes::parameters(),
        route in routes::route(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if let Ok(packed) = encode_announce(&parameters, &[&route]) {
            let mut message = packed.message;
            for (index, octet) in changes {
                let index = index.index(message.len() - 19) + 19;
                message[index] = octet;
            }
            if Gate::new(policy()).judge(&message).is_ok() {
                let decoded = decode_update(&message).unwrap();
                for nlri in &decoded.announced {
                    let sent = Route {
                        nlri: nlri.clone(),
                        next_hop: decoded.next_hop,
                        communities: decoded.communities.clone(),
                        large_communities: decoded.large_communities.clone(),
                        actions: decoded.actions.clone(),
                    };
                    prop_assert!(is_safe(&sent), "{} passed", nlri);
                }
            }
        }
    }
}
