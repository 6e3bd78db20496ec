//! What the ledger and the sensor tell, and what follows.

use super::*;
use crate::policy::{Otherwise, SensorPlace, Via};

fn keys_of(planner: &Planner) -> Vec<MitigationKey> {
    planner.desired().mitigations.keys().cloned().collect()
}

fn heard(planner: &mut Planner, now: Timestamp, standing: &Standing) {
    let news: Vec<_> = keys_of(planner).into_iter().map(|key| (key, standing.clone())).collect();
    planner.handle_standings(now, news);
}

fn awaited() -> Standing {
    Standing::Awaited { why: "pending: the session is down".to_owned() }
}

fn rejected() -> Standing {
    Standing::Rejected { why: "no CAP_NET_ADMIN".to_owned() }
}

fn sight(excess: f64) -> Sight {
    Sight { rate: now_at(attack(0, "203.0.113.7", 1.0), excess).current, excess }
}

/// Two peers that both carry blackholes.
fn two_peers() -> Policy {
    let mut policy = policy();
    policy.peers.push(peer("second", Family::ALL));
    policy.peers[1].location = Location::Host("10.99.0.3".parse().unwrap());
    policy.responses[0].peers.push("second".to_owned());
    policy
}

#[test]
fn what_is_refused_is_said_at_once_and_what_waits_after_the_deadline() {
    let mut planner = planner(policy());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    heard(&mut planner, at(0.1), &awaited());
    assert_eq!(kinds(&mut planner), ["mitigate filter"]);
    assert_eq!(planner.poll_timeout(), Some(at(10.1)));
    planner.handle_timeout(at(10.1));
    let said = decisions(&mut planner);
    assert_eq!(said[0].kind.name(), "not-enforced");
    assert_eq!(said[0].reason, format!("NOT enforced: {SYN_RULE}: pending: the session is down"));
    // Once, and again only after it was in force.
    heard(&mut planner, at(11.0), &rejected());
    assert_eq!(kinds(&mut planner), [""; 0]);
    heard(&mut planner, at(12.0), &Standing::Enforced);
    assert!(decisions(&mut planner)[0].reason.starts_with("enforced after all"));
    heard(&mut planner, at(13.0), &rejected());
    assert_eq!(kinds(&mut planner), ["not-enforced filter"]);
    // It stays wanted: the policy names nothing else to try.
    assert_eq!(desired(&planner), [SYN_RULE]);
}

#[test]
fn the_next_response_is_tried_where_the_policy_says_so() {
    let mut policy = policy();
    policy.responses[0].otherwise = Some(Otherwise::Next);
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    heard(&mut planner, at(0.1), &rejected());
    assert_eq!(desired(&planner), [SYN_RULE]);
    let said = decisions(&mut planner);
    assert_eq!(said[1].kind.name(), "not-enforced");
    assert!(said[2].reason.contains("not `blackhole`: tried in vain before"), "{}", said[2].reason);
    // The backend is back: the stronger answer is tried again.
    planner.handle_backend_up(at(20.0), &BackendId::Peer("router".to_owned()));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    // Nothing is left to try: what was wanted stays so.
    heard(&mut planner, at(21.0), &rejected());
    assert_eq!(desired(&planner), [SYN_RULE]);
    heard(&mut planner, at(22.0), &rejected());
    assert_eq!(desired(&planner), [SYN_RULE]);
}

#[test]
fn a_blackhole_that_no_peer_holds_neither_grows_nor_is_lifted() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    heard(&mut planner, at(0.0), &awaited());
    for second in 1..600 {
        planner.handle_timeout(at(f64::from(second)));
        planner.handle_attack(at(f64::from(second)), &updated(&flood));
    }
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(kinds(&mut planner), ["mitigate blackhole", "not-enforced blackhole"]);
    // Its first hold begins when it is in force.
    heard(&mut planner, at(600.0), &Standing::Enforced);
    assert_eq!(planner.poll_timeout(), Some(at(660.0)));
    // And it goes at once with an attack that ends while it is not.
    heard(&mut planner, at(610.0), &awaited());
    planner.handle_attack(at(611.0), &ended(&flood));
    assert!(desired(&planner).is_empty());
}

#[test]
fn nothing_is_lifted_while_the_sensor_is_blind() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_sensor(at(50.0), Sensor::Blind);
    planner.handle_timeout(at(100.0));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(planner.poll_timeout(), Some(at(6.0 * 3600.0)), "nothing to do before the end");
    // It sees again: what was due is done.
    planner.handle_sensor(at(120.0), Sensor::Seeing);
    assert!(desired(&planner).is_empty());
    // It goes blind during the look: back, and no longer than before.
    planner.handle_sensor(at(121.0), Sensor::Blind);
    assert_eq!(desired(&planner), [BLACKHOLE]);
    planner.handle_sensor(at(122.0), Sensor::Seeing);
    assert_eq!(planner.poll_timeout(), Some(at(181.0)));
}

#[test]
fn a_blackhole_is_lifted_at_one_peer_first() {
    let mut policy = two_peers();
    // The internal session is looked behind first: nobody damps it.
    policy.peers[1].asn = policy.speaker.asn;
    let mut planner = planner(policy);
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_timeout(at(60.0));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    // What comes through there shows that the attack goes on.
    planner.handle_sights(at(61.0), [(AttackId(1), sight(3.0))]);
    assert_eq!(desired(&planner).len(), 2);
    planner.handle_timeout(at(181.0));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    // Nothing comes through: lifted everywhere, and over when the detector says so.
    planner.handle_sights(at(182.0), [(AttackId(1), sight(0.1))]);
    planner.handle_timeout(at(193.0));
    assert!(desired(&planner).is_empty());
    planner.handle_attack(at(204.0), &ended(&flood));
    assert_eq!(planner.poll_timeout(), None);
}

#[test]
fn a_spent_flap_budget_keeps_a_blackhole_in_place() {
    let mut policy = policy();
    policy.flapping = FlapBudget::default();
    let mut planner = planner(policy);
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    let mut lifted = Vec::new();
    for second in 1..7200 {
        let now = at(f64::from(second));
        planner.handle_timeout(now);
        if desired(&planner).is_empty() {
            lifted.push(second);
            planner.handle_attack(now, &updated(&flood));
        }
    }
    assert_eq!(lifted, [60, 180, 3660, 4140], "{lifted:?}");
}

#[test]
fn a_spent_flap_budget_keeps_a_filter_armed() {
    let mut policy = policy();
    policy.flapping = FlapBudget::default();
    policy.responses.remove(0);
    let mut planner = planner(policy);
    // Pulses of one second every ten, each an attack of its own.
    let mut withdrawn = 0;
    for pulse in 0..360_u32 {
        let now = f64::from(pulse) * 10.0;
        let flood = attack(u64::from(pulse), "203.0.113.7", 6.0);
        planner.handle_attack(at(now), &started(&flood));
        planner.handle_attack(at(now + 3.0), &ended(&flood));
        planner.handle_timeout(at(now + 3.0));
        withdrawn += u32::from(desired(&planner).is_empty());
    }
    assert_eq!(withdrawn, 2);
}

/// A policy whose sensor stands behind the filters.
fn seeing() -> Policy {
    let mut policy = policy();
    policy.effect.sensor = SensorPlace::BehindFilters;
    policy
}

#[test]
fn what_has_no_effect_is_withdrawn_and_not_tried_again() {
    let mut planner = planner(seeing());
    let flood = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(0.0), &started(&flood));
    for second in 1..=40 {
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), sight(6.0))]);
    }
    assert!(desired(&planner).is_empty());
    let said = decisions(&mut planner);
    let kinds: Vec<_> = said.iter().map(|decision| decision.kind.name()).collect();
    assert_eq!(kinds, ["mitigate", "no-effect", "observe"]);
    assert!(
        said[1].reason.contains("`filter` has no effect for 30 s: 0 % of"),
        "{}",
        said[1].reason
    );
    planner.handle_attack(at(60.0), &updated(&flood));
    assert!(desired(&planner).is_empty());
}

#[test]
fn an_effect_is_seen_only_where_it_can_be() {
    let flood = attack(1, "203.0.113.7", 6.0);
    for (policy, after, expected) in [
        (seeing(), 1.5, "75 % of 60.0 kpps, 28.8 Mbps gone at the sensor"),
        (seeing(), 0.0, "100 % of 60.0 kpps, 28.8 Mbps gone at the sensor"),
        (policy(), 1.5, "effect unknown: the sensor stands before the filters"),
    ] {
        let mut planner = planner(policy);
        planner.handle_attack(at(0.0), &started(&flood));
        let effect = planner.effect(at(1.0), AttackId(1)).unwrap();
        assert_eq!(effect.coverage.share(), None, "{effect}");
        planner.handle_sights(at(5.0), [(AttackId(1), sight(after))]);
        let effect = planner.effect(at(5.0), AttackId(1)).unwrap();
        assert_eq!(effect.to_string(), expected);
        assert_eq!(desired(&planner), [SYN_RULE], "it has an effect");
    }
}

#[test]
fn rules_in_the_kernel_are_judged_by_their_counters() {
    let mut policy = seeing();
    policy.responses =
        vec![response("here", ResponseAction::Local(FilterAction::Discard), from(Severity::Low))];
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    planner.handle_sights(at(5.0), [(AttackId(1), sight(6.0))]);
    let coverage = |planner: &Planner| planner.effect(at(5.0), AttackId(1)).unwrap().coverage;
    assert_eq!(coverage(&planner), Coverage::Unknown("nothing counts what the rules match"));
    let matched = keys_of(&planner).into_iter().map(|key| (key, sight(3.0).rate));
    planner.handle_counters(matched);
    assert_eq!(coverage(&planner), Coverage::ByCounters(0.5));
}

/// The sensor sees the flood, but it is of a kind that the rule for a busy host does not stop: what
/// is normal for the host is not the attack's.
#[test]
fn what_is_left_below_the_limit_is_no_failure() {
    let mut planner = planner(seeing());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    for second in 1..=120 {
        let busy = Sight { excess: 0.9, ..sight(6.0) };
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), busy)]);
    }
    assert_eq!(desired(&planner), [SYN_RULE]);
}

/// What a routing daemon tells a peer is planned like what a session of ours does.
#[test]
fn a_routing_daemon_is_a_backend_like_others() {
    let mut policy = policy();
    policy.peers[0].via = Some(Via::new("gobgp"));
    policy.responses[0].otherwise = Some(Otherwise::Next);
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert_eq!(desired(&planner), ["203.0.113.7/32 at backend gobgp"]);
    heard(&mut planner, at(1.0), &rejected());
    assert_eq!(desired(&planner).len(), 1);
    planner.handle_backend_up(at(20.0), &BackendId::External("gobgp".to_owned()));
    assert_eq!(desired(&planner), ["203.0.113.7/32 at backend gobgp"]);
}

/// What the attack grew to before the rule was in force is what the effect is measured by.
#[test]
fn an_effect_is_measured_from_when_the_rule_is_in_force() {
    let mut planner = planner(seeing());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    heard(&mut planner, at(0.0), &awaited());
    let mut grown = attack(1, "203.0.113.7", 6.0);
    grown.peak = sight(60.0).rate;
    planner.handle_attack(at(0.5), &updated(&grown));
    heard(&mut planner, at(1.0), &Standing::Enforced);
    planner.handle_sights(at(5.0), [(AttackId(1), sight(6.0))]);
    let coverage = planner.effect(at(5.0), AttackId(1)).unwrap().coverage;
    assert!(coverage.share().is_some_and(|share| (share - 0.9).abs() < 1e-9), "{coverage:?}");
}
