//! What peers are given that cannot take everything.

use super::*;
use crate::profile::{ActionKind, Component, Lengths, builtin};

/// Peers `a` and `b`, and only the response for filters, which `change` may alter.
fn two_peers(filter: FilterAction, change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = policy();
    let mut second = peer("b", Family::ALL);
    second.location = Location::Host("10.99.0.3".parse().unwrap());
    policy.peers = vec![peer("a", Family::ALL), second];
    let action = ResponseAction::FlowSpec(filter);
    policy.responses = vec![response("filter", action, from(Severity::Low))];
    policy.responses[0].peers = vec!["a".to_owned(), "b".to_owned()];
    change(&mut policy);
    policy
}

/// An NTP reflection, from as many ports.
fn ntp(ports: u16) -> Attack {
    let mut attack = attack(1, "203.0.113.7", 6.0);
    attack.vectors = vec![estimate(NTP, 1.0)];
    attack.vectors[0].signature.source_ports = (1..=ports).collect();
    attack
}

/// What is desired without its target, and what was said behind the attack.
fn told(policy: Policy, attack: &Attack) -> (Vec<String>, String) {
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(attack));
    let keys = desired(&planner);
    let keys = keys.iter().map(|key| key.replace("flow4 { destination 203.0.113.7/32; ", "{ "));
    let reason = decisions(&mut planner).pop().unwrap().reason;
    let reason = reason.split_once("severity high; ").unwrap().1.to_owned();
    (keys.collect(), reason)
}

#[test]
fn each_peer_gets_its_own_form() {
    let policy = two_peers(FilterAction::Discard, |policy| {
        policy.peers[1].flowspec = builtin()["bird"].flowspec.clone();
    });
    let (keys, reason) = told(policy, &ntp(7));
    assert_eq!(
        keys,
        [
            "{ protocol =17; source-port =1 =2 =3 =4 =5; packet-length =468 } at peer a",
            "{ protocol =17; source-port =6 =7; packet-length =468 } at peer a",
            "{ protocol =17; source-port =1 =2 =3 =4 =5 =6 =7; packet-length =468 } at peer b",
        ]
    );
    assert_eq!(
        reason,
        "`filter`: discard by 1 FlowSpec rule at peer b and 2 FlowSpec rules at peer a; at least 0 s, at most 6 h"
    );
}

#[test]
fn a_peer_that_cannot_take_it_goes_without() {
    let policy = two_peers(FilterAction::Discard, |policy| {
        policy.peers[1].flowspec.components_v4.remove(&Component::PacketLength);
        policy.peers[1].profile = "old".to_owned();
    });
    let (keys, reason) = told(policy, &ntp(1));
    assert_eq!(keys, ["{ protocol =17; source-port =1; packet-length =468 } at peer a"]);
    insta::assert_snapshot!(reason, @"`filter`: discard by 1 FlowSpec rule at peer a; at least 0 s, at most 6 h; not `filter`: peer b does not honour `packet-length`, and `widen` of the response does not allow to leave it out (profile `old`)");
}

#[test]
fn what_is_lost_is_said() {
    let policy = two_peers(FilterAction::RateLimitPackets(1000), |policy| {
        policy.peers[1].flowspec.components_v4.remove(&Component::PacketLength);
        policy.peers[1].flowspec.actions.remove(&ActionKind::RateLimitPackets);
        policy.responses[0].widen = Widen::Allow;
    });
    let (keys, reason) = told(policy.clone(), &ntp(1));
    assert_eq!(keys.len(), 2);
    insta::assert_snapshot!(reason, @"`filter`: rate-limit 1.00 kpps by 1 FlowSpec rule at peer a, peer b; at peer b discard in place of rate-limit 1000 packets/s; at peer b wider, without `packet-length`; at least 0 s, at most 6 h");
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&ntp(1)));
    let actions = |key: &str| route_of(&planner, key).actions.clone();
    assert_eq!(
        actions("flow4 { destination 203.0.113.7/32; protocol =17; source-port =1 } at peer b"),
        [TrafficFilteringAction::DISCARD]
    );
}

#[test]
fn a_limit_that_nobody_honours_falls_to_the_next_response() {
    let policy = two_peers(FilterAction::RateLimitBytes(125_000), |policy| {
        for peer in &mut policy.peers {
            peer.flowspec = builtin()["frr"].flowspec.clone();
            peer.profile = "frr".to_owned();
        }
        let action = ResponseAction::FlowSpec(FilterAction::Discard);
        policy.responses.push(response("drop", action, from(Severity::Low)));
        policy.responses[1].peers = vec!["b".to_owned()];
    });
    let (keys, reason) = told(policy, &ntp(1));
    assert_eq!(keys, ["{ protocol =17; source-port =1; packet-length =468 } at peer b"]);
    insta::assert_snapshot!(reason, @"`drop`: discard by 1 FlowSpec rule at peer b; at least 0 s, at most 6 h; not `filter`: peer a does not honour rate-limit 125000 B/s (profile `frr`); not `filter`: peer b does not honour rate-limit 125000 B/s (profile `frr`)");
}

#[test]
fn what_is_wider_is_still_judged_by_the_guard() {
    let policy = two_peers(FilterAction::Discard, |policy| {
        // Ports without a protocol are nothing that a packet can have.
        policy.peers[1].flowspec.components_v4.remove(&Component::Protocol);
        policy.responses[0].widen = Widen::Allow;
    });
    let (keys, reason) = told(policy, &ntp(1));
    assert_eq!(keys.len(), 1);
    assert!(reason.contains("not `filter`: `source-port` exists only in TCP, UDP"), "{reason}");
}

#[test]
fn rules_have_a_budget_of_their_own() {
    let mut policy = two_peers(FilterAction::Discard, |policy| {
        policy.peers[1].flowspec.max_rules = 1;
    });
    policy.responses.push(response("blackhole", ResponseAction::Rtbh, from(Severity::Low)));
    policy.responses[1].peers = vec!["b".to_owned()];
    let (keys, reason) = told(policy.clone(), &ntp(7));
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(
        reason.ends_with("not `filter`: peer b is at its limit of 1 FlowSpec rules"),
        "{reason}"
    );
    // Blackholes are no rules.
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&ntp(1)));
    let second = with_vectors(attack(2, "203.0.113.8", 6.0), &[(AttackVector::Unknown, 1.0)]);
    planner.handle_attack(at(1.0), &started(&second));
    assert_eq!(desired(&planner).len(), 3);
}

#[test]
fn blackholes_have_lengths_and_communities() {
    let mut strict = policy();
    strict.peers[0].rtbh.lengths_v4 = Lengths { shortest: 24, longest: 31 };
    let mut planner = planner(strict);
    let flood = attack(1, "203.0.113.7", 100.0);
    planner.handle_attack(at(1.0), &started(&flood));
    let reason = decisions(&mut planner).pop().unwrap().reason;
    assert!(
        reason.ends_with(
            "not `blackhole`: peer router takes no /32 but only /24 to /31 (profile `rfc`)"
        ),
        "{reason}"
    );
}

#[test]
fn rules_that_a_peer_passes_on_are_not_confined() {
    for (confined_by, marked) in [(ConfinedBy::Community, true), (ConfinedBy::Peer, false)] {
        let mut policy = policy();
        policy.peers[0].confined_by = confined_by;
        let mut planner = planner(policy);
        planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 6.0)));
        let communities = &route_of(&planner, SYN_RULE).communities;
        assert_eq!(communities.contains(&Community::NO_EXPORT), marked, "{confined_by}");
    }
}

#[test]
fn a_new_profile_takes_effect_at_once() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(1.0), &started(&flood));
    assert_eq!(desired(&planner), [SYN_RULE]);
    let mut strict = policy();
    strict.peers[0].flowspec.components_v4.remove(&Component::TcpFlags);
    planner.handle_policy(at(2.0), Arc::new(strict.clone()));
    assert!(desired(&planner).is_empty());
    // What outlives its attack is judged by the new profile too.
    let mut lasting = policy();
    lasting.responses[1].min_lifetime = Duration::from_secs(60);
    let mut planner = super::planner(lasting);
    planner.handle_attack(at(1.0), &started(&flood));
    planner.handle_attack(at(2.0), &ended(&flood));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_policy(at(3.0), Arc::new(strict));
    assert!(desired(&planner).is_empty());
}
