//! Which response decides, and what it asks for.

use super::*;

#[test]
fn severity_decides_which_response() {
    for (excess, wanted, kind) in [
        (1.0, vec![], "observe watch"),
        (4.9, vec![], "observe watch"),
        (5.0, vec![SYN_RULE], "mitigate filter"),
        (20.0, vec![BLACKHOLE], "mitigate blackhole"),
    ] {
        let mut planner = planner(policy());
        planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", excess)));
        assert_eq!(desired(&planner), wanted, "{excess}");
        assert_eq!(kinds(&mut planner), [kind], "{excess}");
    }
}

#[test]
fn the_first_response_that_matches_decides() {
    let mut policy = policy();
    let filter =
        |name, matcher| response(name, ResponseAction::FlowSpec(FilterAction::Discard), matcher);
    policy.responses = vec![
        filter("other-group", Matcher { groups: vec!["mail".into()], ..Matcher::default() }),
        filter("other-vector", Matcher { vectors: vec![NTP], ..Matcher::default() }),
        filter("surer", Matcher { confidence: Confidence::new(0.98), ..Matcher::default() }),
        filter("worse", from(Severity::Critical)),
        filter(
            "this",
            Matcher {
                groups: vec!["default".into()],
                vectors: vec![AttackVector::SynFlood],
                severity: Severity::High,
                confidence: Confidence::new(0.97),
                hours: Vec::new(),
            },
        ),
        response("too-late", ResponseAction::Rtbh, Matcher::default()),
    ];
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 6.0)));
    assert_eq!(kinds(&mut planner), ["mitigate this"]);
}

#[test]
fn routes_carry_the_profile_of_their_peer() {
    let mut planner = planner(policy());
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 20.0)));
    planner.handle_attack(at(1.0), &started(&attack(2, "2001:db8:1::7", 20.0)));
    planner.handle_attack(at(1.0), &started(&attack(3, "203.0.113.8", 5.0)));
    let ours = Community::new(65001, 1);
    let blackhole = route_of(&planner, BLACKHOLE);
    assert_eq!(blackhole.next_hop, Some("192.0.2.1".parse().unwrap()));
    let all = BTreeSet::from([ours, Community::BLACKHOLE, Community::NO_EXPORT]);
    assert_eq!(blackhole.communities, all);
    let v6 = route_of(&planner, "2001:db8:1::7/128 at peer router");
    assert_eq!(v6.next_hop, Some("100::1".parse().unwrap()));
    let filter = route_of(&planner, &SYN_RULE.replace("113.7", "113.8"));
    assert_eq!(filter.communities, BTreeSet::from([ours, Community::NO_EXPORT]));
    assert_eq!(filter.next_hop, None);
    assert_eq!(filter.actions, [TrafficFilteringAction::DISCARD]);
}

#[test]
fn rate_limits_and_local_rules() {
    let mut policy = policy();
    let limit = FilterAction::RateLimitBytes(125_000);
    policy.responses = vec![
        response("limit", ResponseAction::FlowSpec(limit), from(Severity::High)),
        response("here", ResponseAction::Local(FilterAction::Discard), Matcher::default()),
    ];
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 6.0)));
    planner.handle_attack(at(1.0), &started(&attack(2, "203.0.113.8", 1.0)));
    let here = SYN_RULE.replace("113.7", "113.8").replace("peer router", "kernel");
    assert_eq!(desired(&planner), [SYN_RULE, &here]);
    let limited = &route_of(&planner, SYN_RULE).actions;
    assert_eq!(limited, &[TrafficFilteringAction::RateLimitBytes(125_000.0)]);
    assert!(route_of(&planner, &here).communities.is_empty());
}

#[test]
fn what_cannot_be_carried_out_falls_to_the_next() {
    let mut no_flowspec = policy();
    no_flowspec.peers = vec![peer("router", &[Family::Ipv4Unicast])];
    no_flowspec.responses = vec![
        response("filter", ResponseAction::FlowSpec(FilterAction::Discard), Matcher::default()),
        response("blackhole", ResponseAction::Rtbh, Matcher::default()),
    ];
    let mut unknown = no_flowspec.clone();
    unknown.peers = vec![peer("router", Family::ALL)];
    let syn = attack(1, "203.0.113.7", 6.0);
    let unrecognised = with_vectors(syn.clone(), &[(AttackVector::Unknown, 1.0)]);
    for (policy, attack, why) in [
        (no_flowspec.clone(), syn, "none of its peers has the family ipv4-flowspec"),
        (unknown, unrecognised, "blackhole in disguise"),
    ] {
        let mut planner = planner(policy);
        planner.handle_attack(at(1.0), &started(&attack));
        assert_eq!(desired(&planner), [BLACKHOLE]);
        let decision = planner.poll_decision().unwrap();
        assert!(decision.reason.contains("; not `filter`: "), "{}", decision.reason);
        assert!(decision.reason.contains(why), "{}", decision.reason);
    }
    // An IPv6 target has no family at this peer at all.
    let mut planner = planner(no_flowspec);
    planner.handle_attack(at(1.0), &started(&attack(1, "2001:db8:1::7", 6.0)));
    let Some(DecisionKind::Refused(refusals)) = planner.poll_decision().map(|it| it.kind) else {
        panic!("refused")
    };
    assert_eq!(refusals.iter().map(|it| it.cause.code()).collect::<Vec<_>>(), ["no-peer"; 2]);
}

#[test]
fn the_guard_has_the_last_word() {
    for (target, part) in [
        ("203.0.113.53", "no mitigation may touch"),
        ("192.0.2.7", "no owned prefix"),
        ("10.99.0.2", "BGP session"),
        ("203.0.113.0/24", "too wide"),
    ] {
        let mut planner = planner(policy());
        planner.handle_attack(at(1.0), &started(&attack(1, target, 100.0)));
        assert!(desired(&planner).is_empty(), "{target}");
        let reason = planner.poll_decision().unwrap().reason;
        assert!(reason.contains(part), "{target}: {reason}");
    }
}

#[test]
fn it_steps_up_at_once_and_never_down() {
    let mut planner = planner(policy());
    let low = attack(1, "203.0.113.7", 1.5);
    planner.handle_attack(at(1.0), &started(&low));
    planner.handle_attack(at(1.1), &updated(&attack(1, "203.0.113.7", 6.0)));
    assert_eq!(desired(&planner), [SYN_RULE]);
    // The peak sinking is no step down, nor is a response that matches less.
    planner.handle_attack(at(1.2), &updated(&low));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_attack(at(1.3), &updated(&attack(1, "203.0.113.7", 25.0)));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    planner.handle_attack(at(1.4), &updated(&attack(1, "203.0.113.7", 6.0)));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(kinds(&mut planner), ["observe watch", "mitigate filter", "mitigate blackhole"]);
}

#[test]
fn severity_never_sinks() {
    let mut planner = planner(policy());
    let high = attack(1, "203.0.113.7", 6.0);
    let unrecognised = with_vectors(high, &[(AttackVector::Unknown, 1.0)]);
    planner.handle_attack(at(1.0), &started(&unrecognised));
    planner.handle_attack(at(1.1), &updated(&attack(1, "203.0.113.7", 1.5)));
    assert_eq!(kinds(&mut planner), ["observe watch", "mitigate filter"]);
}

#[test]
fn nothing_is_said_twice() {
    let mut planner = planner(policy());
    let watched = attack(1, "203.0.113.7", 1.5);
    let refused = attack(2, "203.0.113.53", 100.0);
    let mut policy = policy();
    policy.responses.pop();
    let mut strict = Planner::new(Arc::new(policy));
    for _ in 0..5 {
        planner.handle_attack(at(1.0), &updated(&watched));
        strict.handle_attack(at(1.0), &updated(&refused));
    }
    assert_eq!(kinds(&mut planner), ["observe watch"]);
    assert_eq!(kinds(&mut strict), ["refused -"]);
    assert_eq!(planner.desired().generation, 0);
}

#[test]
fn rules_follow_an_attack_that_gets_through() {
    let mut planner = planner(policy());
    let syn = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(1.0), &started(&syn));
    // Behind rules that work, another mixture proves nothing.
    let other = with_vectors(syn.clone(), &[(NTP, 1.0)]);
    planner.handle_attack(at(1.2), &updated(&now_at(other.clone(), 0.9)));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(planner.poll_timeout(), Some(at(1.0 + 6.0 * 3600.0)));
    // It gets through: looked at again when the interval is over, once.
    planner.handle_attack(at(1.4), &updated(&other));
    planner.handle_attack(at(1.5), &updated(&other));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(planner.poll_timeout(), Some(at(1.0) + REFRESH_INTERVAL));
    planner.handle_timeout(at(1.0) + REFRESH_INTERVAL);
    let ntp = "flow4 { destination 203.0.113.7/32; protocol =17; source-port =123; \
               packet-length =468 } at peer router";
    assert_eq!(desired(&planner), [ntp]);
    assert_eq!(planner.desired().generation, 2);
    assert_eq!(kinds(&mut planner), ["mitigate filter"; 2]);
}

#[test]
fn several_vectors_have_a_rule_each() {
    let mut planner = planner(policy());
    let mixed = with_vectors(
        attack(1, "203.0.113.7", 6.0),
        &[(NTP, 0.5), (AttackVector::SynFlood, 0.45), (AttackVector::UdpFlood, 0.05)],
    );
    planner.handle_attack(at(1.0), &started(&mixed));
    assert_eq!(desired(&planner).len(), 2);
}

#[test]
fn attacks_share_what_both_want() {
    let mut planner = planner(policy());
    let first = attack(1, "203.0.113.7", 20.0);
    let second = attack(2, "203.0.113.7", 30.0);
    planner.handle_attack(at(1.0), &started(&first));
    planner.handle_attack(at(5.0), &started(&second));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    let shared = planner.desired().mitigations.values().next().unwrap().clone();
    assert_eq!(shared.attacks, BTreeSet::from([AttackId(1), AttackId(2)]));
    assert_eq!(shared.lifetime.at_least_until, at(65.0));
    // The first one's hold is over; the second one's keeps both.
    planner.handle_timeout(at(61.0));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(kinds(&mut planner), ["mitigate blackhole"; 2]);
    planner.handle_timeout(at(65.0));
    assert!(desired(&planner).is_empty());
    assert_eq!(kinds(&mut planner), ["release blackhole"; 2]);
    planner.handle_attack(at(75.0), &ended(&first));
    planner.handle_attack(at(75.0), &ended(&second));
    assert_eq!(planner.poll_timeout(), None);
}

#[test]
fn all_peers_of_a_response_are_told() {
    let mut policy = policy();
    policy.peers.push(peer("transit", &[Family::Ipv4Unicast]));
    policy.responses[0].peers.push("transit".to_owned());
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert_eq!(desired(&planner), [BLACKHOLE, "203.0.113.7/32 at peer transit"]);
}

#[test]
fn no_response_is_an_observation() {
    let mut policy = policy();
    policy.responses.clear();
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert_eq!(kinds(&mut planner), ["observe -"]);
}
