//! How long mitigations stay, and how they go.

use super::*;

fn seconds_left(planner: &Planner) -> Option<u64> {
    planner.poll_timeout().map(|due| due.as_nanos() / 1_000_000_000)
}

#[test]
fn a_filter_goes_with_its_attack() {
    let mut planner = planner(policy());
    let attack = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(1.0), &started(&attack));
    planner.handle_attack(at(20.0), &ended(&attack));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.desired().generation, 2);
    assert_eq!(planner.poll_timeout(), None);
    assert_eq!(kinds(&mut planner), ["mitigate filter", "release filter"]);
    // News of an attack that is over changes nothing.
    planner.handle_attack(at(21.0), &ended(&attack));
    assert_eq!(kinds(&mut planner), [""; 0]);
}

#[test]
fn a_filter_stays_for_its_minimum_lifetime() {
    let mut policy = policy();
    policy.responses[1].min_lifetime = Duration::from_secs(30);
    let mut planner = planner(policy);
    let attack = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(1.0), &started(&attack));
    planner.handle_attack(at(15.0), &ended(&attack));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_attack(at(16.0), &updated(&attack));
    planner.handle_timeout(at(30.9));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(seconds_left(&planner), Some(31));
    planner.handle_timeout(at(31.0));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), None);
}

#[test]
fn an_attack_that_is_not_followed_any_more_keeps_nothing() {
    for reason in [EndReason::InputEnded, EndReason::NotProtected] {
        let mut planner = planner(policy());
        let attack = attack(1, "203.0.113.7", 20.0);
        planner.handle_attack(at(1.0), &started(&attack));
        planner.handle_attack(at(2.0), &AttackEvent::Ended(attack.clone(), reason));
        assert!(desired(&planner).is_empty(), "{reason}");
    }
}

#[test]
fn a_blackhole_is_lifted_to_look() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 20.0);
    let target = flood.target;
    planner.handle_attack(at(1.0), &started(&flood));
    assert_eq!(planner.occlusion(target), Occlusion::Blackholed);
    assert_eq!(planner.occlusion(prefix("203.0.113.8")), Occlusion::Visible);
    // Quiet under the blackhole proves nothing.
    planner.handle_attack(at(30.0), &updated(&now_at(flood.clone(), 0.0)));
    planner.handle_timeout(at(60.9));
    assert_eq!(planner.occlusion(target), Occlusion::Blackholed);
    planner.handle_timeout(at(61.0));
    assert_eq!(planner.occlusion(target), Occlusion::Visible);
    assert!(desired(&planner).is_empty());
    // Still there: back at once, for twice as long.
    planner.handle_attack(at(61.3), &updated(&flood));
    assert_eq!(planner.occlusion(target), Occlusion::Blackholed);
    assert_eq!(planner.poll_timeout(), Some(at(181.3)));
    planner.handle_timeout(at(181.3));
    assert!(desired(&planner).is_empty());
    // Gone: the detector says so.
    planner.handle_attack(at(191.3), &ended(&flood));
    assert_eq!(planner.poll_timeout(), None);
    assert_eq!(
        kinds(&mut planner),
        [
            "mitigate blackhole",
            "release blackhole",
            "mitigate blackhole",
            "release blackhole",
            "release blackhole"
        ]
    );
}

#[test]
fn a_probe_that_learns_nothing_is_no_end() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_timeout(at(60.0));
    let window = Judging::default().exit_hold + PROBE_WINDOW;
    assert_eq!(planner.poll_timeout(), Some(at(60.0) + window));
    // Below its limit, and not called over.
    planner.handle_attack(at(61.0), &updated(&now_at(flood, 0.7)));
    assert!(desired(&planner).is_empty());
    planner.handle_timeout(at(60.0) + window);
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(planner.poll_timeout(), Some(at(180.0) + window));
}

#[test]
fn holds_double_up_to_an_hour() {
    let mut policy = policy();
    policy.responses[0].max_lifetime = Duration::from_secs(100 * 3600);
    let mut planner = planner(policy);
    let flood = attack(1, "203.0.113.7", 20.0);
    let mut now = at(0.0);
    planner.handle_attack(now, &started(&flood));
    let mut holds = Vec::new();
    for _ in 0..8 {
        let due = planner.poll_timeout().unwrap();
        holds.push(due.since(now).as_secs());
        planner.handle_timeout(due);
        now = due;
        planner.handle_attack(now, &updated(&flood));
    }
    assert_eq!(holds, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn a_target_that_relapses_is_held_longer() {
    let mut planner = planner(policy());
    let first = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&first));
    planner.handle_timeout(at(60.0));
    planner.handle_attack(at(70.0), &ended(&first));
    // Within the last hold: it comes in pulses.
    planner.handle_attack(at(129.0), &started(&attack(2, "203.0.113.7", 20.0)));
    assert_eq!(planner.poll_timeout(), Some(at(249.0)));
    // Another target is no relapse.
    planner.handle_attack(at(130.0), &started(&attack(3, "203.0.113.8", 20.0)));
    assert_eq!(planner.poll_timeout(), Some(at(190.0)));
}

#[test]
fn a_hidden_attack_does_not_make_a_filter_flap() {
    let mut planner = planner(policy());
    let mut now = at(0.0);
    for id in 0..100 {
        let flood = attack(id, "203.0.113.7", 6.0);
        planner.handle_attack(now, &started(&flood));
        // Behind the filter the target is quiet; the detector calls an end ten seconds later.
        now = now + Duration::from_secs(10);
        planner.handle_attack(now, &ended(&flood));
        while !desired(&planner).is_empty() {
            now = planner.poll_timeout().unwrap();
            planner.handle_timeout(now);
        }
        now = now + Duration::from_secs(1);
        if now > at(3600.0) {
            break;
        }
    }
    let changes = planner.desired().generation;
    assert!(changes <= 18, "{changes} changes in an hour");
}

#[test]
fn the_maximum_lifetime_is_a_hard_end() {
    let mut policy = policy();
    policy.responses[0].max_lifetime = Duration::from_secs(100);
    policy.responses[1].max_lifetime = Duration::from_secs(50);
    let mut planner = planner(policy);
    let filtered = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(0.0), &started(&filtered));
    let lifetime = planner.desired().mitigations.values().next().unwrap().lifetime;
    assert_eq!(lifetime.not_after, at(50.0));
    planner.handle_timeout(at(50.0));
    assert!(desired(&planner).is_empty());
    // Not again for this attack, however bad it gets; again for a new one.
    planner.handle_attack(at(51.0), &updated(&attack(1, "203.0.113.7", 100.0)));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), None);
    let decisions = decisions(&mut planner);
    assert_eq!(decisions.len(), 2);
    assert!(decisions[1].reason.contains("maximum lifetime of 50 s is over"));
    planner.handle_attack(at(52.0), &ended(&filtered));
    planner.handle_attack(at(53.0), &started(&attack(2, "203.0.113.7", 20.0)));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    // Probes and doubled holds do not move the end.
    planner.handle_timeout(at(113.0));
    planner.handle_attack(at(113.5), &updated(&attack(2, "203.0.113.7", 20.0)));
    assert_eq!(planner.poll_timeout(), Some(at(153.0)));
    planner.handle_timeout(at(153.0));
    assert!(desired(&planner).is_empty());
}

#[test]
fn a_new_policy_withdraws_what_it_does_not_allow() {
    let mut planner = planner(policy());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    planner.handle_attack(at(0.0), &started(&attack(2, "10.0.0.7", 20.0)));
    let lingering = attack(3, "203.0.113.9", 20.0);
    planner.handle_attack(at(0.0), &started(&lingering));
    planner.handle_attack(at(1.0), &ended(&lingering));
    let generation = planner.desired().generation;
    decisions(&mut planner);
    // The same policy again changes nothing.
    planner.handle_policy(at(2.0), Arc::new(policy()));
    assert_eq!(planner.desired().generation, generation);
    assert!(decisions(&mut planner).is_empty());

    let mut smaller = policy();
    smaller.space.owned.remove(1);
    smaller.space.never_touch.push(prefix("203.0.113.9"));
    planner.handle_policy(at(3.0), Arc::new(smaller));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(planner.desired().generation, generation + 1);
    let said = decisions(&mut planner);
    let released = said.iter().filter(|decision| decision.kind == DecisionKind::Release);
    assert_eq!(released.map(|decision| decision.attack.0).collect::<Vec<_>>(), [2, 3]);
    // The hold of what stays is counted from its start.
    assert_eq!(planner.poll_timeout(), Some(at(60.0)));
}

#[test]
fn a_new_policy_may_also_do_less() {
    let mut planner = planner(policy());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    let mut milder = policy();
    milder.responses.remove(0);
    planner.handle_policy(at(1.0), Arc::new(milder));
    assert_eq!(desired(&planner), [SYN_RULE]);
    let mut observing = policy();
    observing.responses.drain(..2);
    planner.handle_policy(at(2.0), Arc::new(observing));
    assert!(desired(&planner).is_empty());
    let mut silent = policy();
    silent.peers.clear();
    planner.handle_policy(at(3.0), Arc::new(silent));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), None);
}

#[test]
fn a_filter_that_becomes_a_blackhole_is_held_like_one() {
    let mut planner = planner(policy());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    let mut harder = policy();
    harder.responses[1].action = ResponseAction::Rtbh;
    harder.responses[1].min_lifetime = Duration::from_secs(60);
    planner.handle_policy(at(10.0), Arc::new(harder));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(planner.poll_timeout(), Some(at(70.0)));
}
