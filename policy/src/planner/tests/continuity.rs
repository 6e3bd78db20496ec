//! What a reload, a change of rules, a hold and a backend that comes back must not undo.

use super::*;
use crate::policy::{Condition, Otherwise, SensorPlace, Step};

fn told(planner: &mut Planner, now: f64, standing: &Standing) {
    let keys = planner.desired().mitigations.keys().cloned();
    let fresh: Vec<_> = keys.filter(|key| !planner.heard.contains_key(key)).collect();
    planner.handle_standings(at(now), fresh.into_iter().map(|key| (key, standing.clone())));
}

fn awaited() -> Standing {
    Standing::Awaited { why: "pending".to_owned() }
}

fn rejected() -> Standing {
    Standing::Rejected { why: "NOTIFICATION".to_owned() }
}

fn sight(excess: f64) -> Sight {
    Sight { rate: now_at(attack(0, "203.0.113.7", 1.0), excess).current, excess }
}

/// A blackhole is tried first, and the filter if no peer takes it.
fn falling_back() -> Policy {
    let mut policy = policy();
    policy.flapping = FlapBudget::default();
    policy.responses[0].otherwise = Some(Otherwise::Next);
    policy
}

/// The filter of [`falling_back`] in force, after the blackhole was refused.
fn fallen_back() -> Planner {
    let mut planner = planner(falling_back());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    told(&mut planner, 0.1, &rejected());
    assert_eq!(desired(&planner), [SYN_RULE]);
    told(&mut planner, 0.2, &Standing::Enforced);
    decisions(&mut planner);
    planner
}

#[test]
fn a_reload_is_no_flap() {
    let mut planner = planner(falling_back());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    for second in 1..=10 {
        planner.handle_policy(at(f64::from(second)), Arc::new(falling_back()));
    }
    assert_eq!(planner.desired().generation, 1, "nothing came or went");
    // So the blackhole is lifted to look when its hold is over.
    planner.handle_timeout(at(60.0));
    assert!(desired(&planner).is_empty());
}

#[test]
fn a_reload_keeps_a_fallback_that_works() {
    let mut planner = fallen_back();
    let mut other = falling_back();
    other.budgets.mitigations = 1000;
    planner.handle_policy(at(30.0), Arc::new(other.clone()));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(kinds(&mut planner), [""; 0]);
    let tracked = planner.attacks.values().next().unwrap();
    assert_eq!(tracked.plan().unwrap().in_force, Some(at(0.1)));
    let key = planner.desired().mitigations.keys().next().unwrap();
    assert!(planner.heard.contains_key(key), "what was heard of it still holds");
    // Another response of that name was never tried.
    other.responses[0].max_lifetime = Duration::from_secs(600);
    planner.handle_policy(at(40.0), Arc::new(other));
    assert_eq!(desired(&planner), [BLACKHOLE]);
}

/// The backend is up again: the filter goes when the blackhole is in force, and not before.
#[test]
fn the_stronger_answer_is_in_force_before_the_weaker_goes() {
    let back = |planner: &mut Planner, now| {
        planner.handle_backend_up(at(now), &BackendId::Peer("router".to_owned()));
        told(planner, now, &awaited());
    };
    let mut planner = fallen_back();
    back(&mut planner, 20.0);
    assert_eq!(desired(&planner), [BLACKHOLE, SYN_RULE]);
    let kept = planner.desired().mitigations.values().last().unwrap();
    assert_eq!(kept.response, "filter");
    assert!(kept.reason.ends_with("; stays until `blackhole` is in force"), "{}", kept.reason);
    // A reload in between changes nothing.
    planner.handle_policy(at(20.5), Arc::new(falling_back()));
    assert_eq!(desired(&planner), [BLACKHOLE, SYN_RULE]);
    let blackhole = planner.desired().mitigations.keys().next().unwrap().clone();
    planner.handle_standings(at(21.0), [(blackhole, Standing::Enforced)]);
    assert_eq!(desired(&planner), [BLACKHOLE]);

    // Refused again, the filter never left.
    let mut planner = fallen_back();
    back(&mut planner, 20.0);
    let blackhole = planner.desired().mitigations.keys().next().unwrap().clone();
    planner.handle_standings(at(21.0), [(blackhole, rejected())]);
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(planner.poll_timeout(), Some(at(21.0 + 6.0 * 3600.0)));
}

/// Where there is no room for both, the new takes the place of the old.
#[test]
fn what_has_no_room_beside_the_new_goes_first() {
    let mut policy = falling_back();
    policy.peers[0].max_routes = 1;
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    told(&mut planner, 0.1, &rejected());
    told(&mut planner, 0.2, &Standing::Enforced);
    planner.handle_backend_up(at(20.0), &BackendId::Peer("router".to_owned()));
    assert_eq!(desired(&planner), [BLACKHOLE]);
}

/// A flood of UDP to another port all the time.
fn restless(second: u32) -> Attack {
    let mut flood = with_vectors(attack(1, "203.0.113.7", 8.0), &[(AttackVector::UdpFlood, 1.0)]);
    flood.vectors[0].signature.destination_ports = vec![u16::try_from(1000 + second).unwrap()];
    flood
}

/// Plays `seconds` of [`restless`], whose port changes every `period` seconds, and gives what is
/// wanted in each.
fn play_restless(policy: Policy, period: u32, seconds: u32) -> (Planner, Vec<Vec<String>>) {
    let mut planner = planner(policy);
    let mut wanted = Vec::new();
    for second in 0..seconds {
        let now = f64::from(second);
        planner.handle_attack(at(now), &updated(&restless(second / period)));
        told(&mut planner, now + 0.01, &awaited());
        let keys: Vec<_> = planner.desired().mitigations.keys().cloned().collect();
        let news = keys.into_iter().map(|key| (key, Standing::Enforced));
        planner.handle_standings(at(now + 0.1), news);
        planner.handle_sights(at(now + 0.5), [(AttackId(1), sight(8.0))]);
        wanted.push(desired(&planner));
    }
    (planner, wanted)
}

#[test]
fn an_attack_that_changes_all_the_time_climbs_the_ladder() {
    let mut policy = policy();
    policy.effect.sensor = SensorPlace::BehindFilters;
    policy.responses.remove(0);
    policy.responses[0].then = vec![Step {
        when: vec![Condition {
            coverage_below: Some(0.9),
            after: Duration::from_secs(10),
            ..Condition::default()
        }],
        action: ResponseAction::Rtbh,
        peers: vec!["router".to_owned()],
        widen: Widen::Never,
        rules_from: RuleSource::Signature,
        min_lifetime: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(3600),
    }];
    for period in [1, 2, 3] {
        let (_, wanted) = play_restless(policy.clone(), period, 30);
        let climbed = wanted.iter().position(|wanted| wanted.contains(&BLACKHOLE.to_owned()));
        assert_eq!(climbed, Some(10), "every {period} s: {wanted:?}");
    }
}

#[test]
fn rules_that_never_catch_up_have_no_effect() {
    let mut policy = policy();
    policy.effect.sensor = SensorPlace::BehindFilters;
    policy.responses.remove(0);
    let (mut planner, wanted) = play_restless(policy, 2, 45);
    assert!(wanted[10].len() == 1 && wanted[44].is_empty(), "{wanted:?}");
    assert!(kinds(&mut planner).contains(&"no-effect filter".to_owned()));
}

/// A rule in the place of another is no withdrawal: routers damp the prefix, not the rule.
#[test]
fn rules_that_change_are_no_flap() {
    let mut policy = policy();
    policy.flapping = FlapBudget::default();
    let (mut planner, _) = play_restless(policy, 2, 20);
    planner.handle_attack(at(30.0), &ended(&restless(9)));
    assert!(desired(&planner).is_empty(), "its budget was never touched");
}

/// Other rules get the time that the first had to show an effect.
#[test]
fn one_change_of_rules_climbs_nothing_at_once() {
    let mut policy = policy();
    policy.effect.sensor = SensorPlace::BehindFilters;
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &updated(&restless(0)));
    planner.handle_sights(at(30.0), [(AttackId(1), sight(0.1))]);
    planner.handle_attack(at(31.0), &updated(&restless(1)));
    planner.handle_sights(at(31.5), [(AttackId(1), sight(8.0))]);
    let effect = planner.effect(at(31.5), AttackId(1)).unwrap();
    assert_eq!(effect.coverage, Coverage::Unknown("too early to say"));
}

#[test]
fn a_hold_during_a_probe_leaves_no_timer_in_the_past() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_timeout(at(60.0));
    assert!(desired(&planner).is_empty(), "lifted to look");
    let (id, by) = (AttackId(1), "anna".to_owned());
    planner.handle_order(at(61.0), &Order::Hold { attack: id, by: by.clone() }).unwrap();
    planner.handle_attack(at(62.0), &updated(&flood));
    assert!(desired(&planner).is_empty(), "everything stays as it is");
    planner.handle_attack(at(70.0), &ended(&flood));
    planner.handle_timeout(at(100.0));
    assert_eq!(planner.poll_timeout(), Some(at(6.0 * 3600.0)));
    planner.handle_order(at(101.0), &Order::Resume { attack: id, by }).unwrap();
    assert_eq!(planner.poll_timeout(), None);
}

/// What a call costs depends on what it is about, not on how many attacks there are.
#[test]
fn a_call_looks_at_what_it_is_about() {
    let mut policy = policy();
    policy.peers[0].max_routes = 100;
    let mut planner = planner(policy);
    let host = |id: u64| Ipv4Addr::from(0x0a00_0000 + u32::try_from(id).unwrap()).to_string();
    for id in 0..2000 {
        planner.handle_attack(at(0.0), &started(&attack(id, &host(id), 20.0)));
    }
    let before = planner.agenda.looks;
    for id in 0..2000 {
        planner.handle_attack(at(1.0), &updated(&attack(id, &host(id), 21.0)));
    }
    assert!(planner.agenda.looks - before <= 4000, "{}", planner.agenda.looks - before);
}
