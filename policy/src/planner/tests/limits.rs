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
