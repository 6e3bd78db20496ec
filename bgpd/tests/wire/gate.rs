//! Whatever passes the gate keeps its rules, stated once more in [`crate::safety`].

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
use crate::safety::{is_safe, policy};

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
