//! What does not fit is refused, and gets its turn when there is room.

use super::*;

const MAX_NEW_TARGETS: usize = 100;

fn host(index: u32) -> String {
    Ipv4Addr::from(0x0a00_0000 + index).to_string()
}

fn code(decision: &Decision) -> Option<&'static str> {
    match &decision.kind {
        DecisionKind::Refused(refusals) => refusals.last().map(|refusal| refusal.cause.code()),
        _ => None,
    }
}

#[test]
fn a_peer_is_filled_to_four_fifths() {
    for (max_routes, limit) in [(0, 0), (1, 1), (2, 1), (10, 8)] {
        let mut policy = policy();
        policy.peers[0].max_routes = max_routes;
        policy.responses.truncate(1);
        let mut planner = planner(policy);
        for id in 0..20 {
            planner.handle_attack(at(0.0), &started(&attack(u64::from(id), &host(id), 20.0)));
        }
        assert_eq!(desired(&planner).len(), limit, "{max_routes}");
    }
}

#[test]
fn room_goes_to_the_worst_that_waits() {
    let mut policy = policy();
    policy.peers[0].max_routes = 1;
    policy.severities.medium = 1.0;
    policy.responses = vec![response("blackhole", ResponseAction::Rtbh, from(Severity::Low))];
    let mut planner = planner(policy);
    let first = attack(1, &host(1), 6.0);
    planner.handle_attack(at(0.0), &started(&first));
    planner.handle_attack(at(1.0), &started(&attack(2, &host(2), 6.0)));
    planner.handle_attack(at(1.0), &started(&attack(3, &host(3), 30.0)));
    assert_eq!(desired(&planner), ["10.0.0.1/32 at peer router"]);
    let refused: Vec<_> = decisions(&mut planner).iter().filter_map(code).collect();
    assert_eq!(refused, ["backend-full"; 2]);
    // Lifted for a probe, its place stays its own.
    planner.handle_timeout(at(60.0));
    assert!(desired(&planner).is_empty());
    planner.handle_attack(at(70.0), &ended(&first));
    assert_eq!(desired(&planner), ["10.0.0.3/32 at peer router"]);
}

#[test]
fn a_full_peer_does_not_stop_the_others() {
    let mut policy = policy();
    policy.peers.push(peer("transit", &[Family::Ipv4Unicast]));
    policy.peers[1].max_routes = 1;
    policy.responses[0].peers.push("transit".to_owned());
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, &host(1), 20.0)));
    decisions(&mut planner);
    planner.handle_attack(at(0.0), &started(&attack(2, &host(2), 20.0)));
    let reason = planner.poll_decision().unwrap().reason;
    assert!(reason.contains("peer transit is at its limit of 1 routes"), "{reason}");
    assert_eq!(desired(&planner).len(), 3);
}

#[test]
fn a_mass_trigger_adds_nothing_until_it_is_over() {
    let mut policy = policy();
    policy.peers[0].max_routes = 10_000;
    policy.responses.truncate(1);
    let mut planner = planner(policy);
    let known = attack(0, &host(0), 20.0);
    for index in 0..300 {
        planner.handle_attack(at(0.0), &started(&attack(u64::from(index), &host(index), 20.0)));
    }
    assert_eq!(desired(&planner).len(), MAX_NEW_TARGETS);
    let refused: Vec<_> = decisions(&mut planner).iter().filter_map(code).collect();
    assert_eq!(refused, vec!["mass-trigger"; 200]);
    // Updates do not get round it; what is installed stays and may be looked after.
    planner.handle_attack(at(30.0), &updated(&attack(200, &host(200), 20.0)));
    planner.handle_attack(at(30.0), &updated(&known));
    assert_eq!(desired(&planner).len(), MAX_NEW_TARGETS);
    assert_eq!(planner.poll_timeout(), Some(at(60.0)));
    planner.handle_timeout(at(60.0));
    let lifted = planner.attacks.values().filter_map(Tracked::plan).count();
    assert_eq!(lifted, MAX_NEW_TARGETS + MAX_RECONSIDERED);
    assert!(desired(&planner).len() <= MAX_RECONSIDERED + MAX_NEW_TARGETS);
}

#[test]
fn everyone_that_waits_gets_a_turn_without_any_news() {
    let mut policy = policy();
    policy.peers[0].max_routes = 10_000;
    policy.responses.truncate(1);
    let mut planner = planner(policy);
    for index in 0..1000 {
        planner.handle_attack(at(0.0), &started(&attack(u64::from(index), &host(index), 20.0)));
    }
    let mitigated = |planner: &Planner| planner.attacks.values().filter_map(Tracked::plan).count();
    assert_eq!(mitigated(&planner), MAX_NEW_TARGETS);
    let mut now = at(0.0);
    while mitigated(&planner) < 1000 {
        let due = planner.poll_timeout().unwrap();
        assert!(due > now && due < at(300.0), "{} of 1000 at {now}", mitigated(&planner));
        now = due;
        planner.handle_timeout(now);
    }
}

#[test]
fn the_table_of_attacks_is_bounded() {
    let mut policy = policy();
    policy.responses.clear();
    let mut planner = planner(policy);
    let most = u32::try_from(MAX_ATTACKS).unwrap();
    for index in 0..most {
        planner.handle_attack(at(0.0), &started(&attack(u64::from(index), &host(index), 20.0)));
    }
    let lost = planner.decisions_lost();
    assert_eq!(lost, u64::from(most) - MAX_DECISIONS as u64);
    decisions(&mut planner);
    let extra = attack(u64::from(most), &host(most), 20.0);
    planner.handle_attack(at(0.0), &started(&extra));
    planner.handle_attack(at(0.0), &updated(&extra));
    let said: Vec<_> = decisions(&mut planner).iter().filter_map(code).collect();
    assert_eq!(said, ["too-many-attacks"]);
}

/// Carpet bombing over a /22: however many hosts are hit, the budgets hold, and one tenant does not
/// use up what the others need.
#[test]
fn carpet_bombing_stays_within_the_budgets() {
    let group = |name: &str, owned: &str| crate::policy::Group {
        name: name.to_owned(),
        prefixes: vec![prefix(owned)],
        thresholds: crate::policy::default_thresholds(),
        prefix_thresholds: None,
        capacity: None,
        allowed_ports: Vec::new(),
        approvals: crate::policy::Approvals::default(),
    };
    let mut policy = policy();
    policy.peers[0].max_routes = 10_000;
    policy.responses.remove(0);
    policy.responses.truncate(1);
    policy.groups = vec![group("bombed", "10.0.0.0/22"), group("other", "10.1.0.0/16")];
    policy.breaker.targets = 4096;
    policy.budgets = Budgets { mitigations: 60, per_group: 40, ..Budgets::default() };
    let mut planner = planner(policy);
    let of = |id: u64, target: &str, group: &str| {
        let mut attack = attack(id, target, 6.0);
        attack.group = group.to_owned();
        started(&attack)
    };
    for index in 0..1024_u32 {
        let target = std::net::Ipv4Addr::from(0x0a00_0000 + index).to_string();
        planner.handle_attack(at(f64::from(index)), &of(u64::from(index), &target, "bombed"));
        assert!(desired(&planner).len() <= 40, "{index}");
    }
    assert_eq!(desired(&planner).len(), 40);
    let full: Vec<_> = decisions(&mut planner).iter().filter_map(code).collect();
    assert_eq!(full.iter().filter(|code| **code == "group-full").count(), 1024 - 40);
    for index in 0..100 {
        let target = format!("10.1.0.{index}");
        planner.handle_attack(at(2000.0), &of(5000 + index, &target, "other"));
    }
    assert_eq!(desired(&planner).len(), 60);
}

/// Answers of resolvers in the victim's name: the resolvers are not named by any rule.
#[test]
fn spoofed_resolvers_get_no_source_rule() {
    let mut policy = policy();
    policy.allowed_remotes = vec![prefix("192.0.2.53"), prefix("203.0.113.8")];
    let mut planner = planner(policy);
    let dns = AttackVector::Amplification(Reflector::Dns);
    planner.handle_attack(
        at(0.0),
        &started(&with_vectors(attack(1, "203.0.113.7", 6.0), &[(dns, 1.0)])),
    );
    planner.handle_attack(
        at(0.0),
        &started(&with_vectors(attack(2, "203.0.113.9", 6.0), &[(NTP, 1.0)])),
    );
    // Packets that name their target as the source, which is a remote that is allowed.
    let mut land = with_vectors(attack(3, "203.0.113.8", 6.0), &[(AttackVector::LandFlood, 1.0)]);
    land.vectors[0].signature.protocol = Some(6);
    land.vectors[0].signature.tcp_flags = Some(tidegate_model::TcpFlags { set: 2, clear: 16 });
    planner.handle_attack(at(0.0), &started(&land));
    let rules = desired(&planner);
    assert!(!rules.is_empty());
    assert!(
        rules.iter().all(|rule| !rule.contains("source 1") && !rule.contains("source 2")),
        "{rules:?}"
    );
    let refused = decisions(&mut planner).pop().unwrap().reason;
    assert!(refused.contains("203.0.113.8/32, which is allowed as a source"), "{refused}");
}
