//! Two sessions with each other.

use std::time::Duration;

use tidegate_bgpd::session::{ConnectMode, SessionEvent, SessionState};

use crate::world::{World, config};

const BOTH: [ConnectMode; 2] = [ConnectMode::Both, ConnectMode::Both];
const MINUTE: Duration = Duration::from_secs(60);

fn both_up(world: &World) -> bool {
    world.ends.iter().all(|end| end.is_up())
}

#[test]
fn comes_up_in_every_mode_that_can() {
    use ConnectMode::{Active, Both, Passive};
    for modes in [
        [Active, Passive],
        [Passive, Active],
        [Active, Both],
        [Both, Active],
        [Both, Passive],
        [Passive, Both],
        [Both, Both],
    ] {
        for seed in 0..50 {
            let mut world = World::new(seed, modes);
            assert!(world.run(MINUTE, both_up), "{modes:?}, seed {seed}");
        }
    }
    for modes in [[Passive, Passive], [Active, Active]] {
        let mut world = World::new(1, modes);
        assert!(!world.run(MINUTE, both_up), "{modes:?}");
    }
}

/// RFC 4271 §6.8: whatever happens first, one connection is left, and it stays.
#[test]
fn of_two_connections_one_survives() {
    let mut collisions = 0;
    for seed in 0..10_000 {
        let mut world = World::new(seed, BOTH);
        assert!(world.run(MINUTE, both_up), "seed {seed}");
        world.run(Duration::from_secs(30), |_| false);
        assert!(both_up(&world), "seed {seed}");
        assert_eq!(world.connections(), 1, "seed {seed}");
        collisions +=
            world.ends.iter().map(|end| end.session.status().counters.collisions).sum::<u64>();
    }
    assert!(collisions > 1000, "only {collisions} collisions in 10,000 worlds");
}

#[test]
fn agrees_on_the_smaller_hold_time_and_the_common_families() {
    use tidegate_bgpd::Family;
    let mut configs = [config(0, ConnectMode::Active, 1), config(1, ConnectMode::Passive, 2)];
    configs[1].hold_time = Duration::from_secs(30);
    configs[1].families = [Family::Ipv4Unicast, Family::Ipv6FlowSpec].into();
    let mut world = World::with(3, configs.clone());
    assert!(world.run(MINUTE, both_up));
    for end in &world.ends {
        let negotiated = end.session.status().negotiated.unwrap();
        assert_eq!(negotiated.hold_time, Duration::from_secs(9));
        assert_eq!(negotiated.families, configs[1].families);
        assert!(negotiated.four_octet_as && negotiated.route_refresh);
    }
}

#[test]
fn stays_up_on_keepalives_alone() {
    let mut world = World::new(7, [ConnectMode::Active, ConnectMode::Passive]);
    assert!(world.run(MINUTE, both_up));
    let before = world.ends[0].session.status().counters;
    world.run(Duration::from_secs(3600), |_| false);
    let status = world.ends[0].session.status();
    assert_eq!(status.state, SessionState::Established);
    assert_eq!(status.counters.established, 1);
    // A third of the hold time of 9 s.
    let sent = status.counters.sent.keepalive - before.sent.keepalive;
    assert!((1195..=1205).contains(&sent), "{sent} keepalives in an hour");
}

#[test]
fn a_hold_time_of_zero_sends_no_keepalives() {
    let mut configs = [config(0, ConnectMode::Active, 1), config(1, ConnectMode::Passive, 2)];
    configs[0].hold_time = Duration::ZERO;
    let mut world = World::with(3, configs);
    assert!(world.run(MINUTE, both_up));
    world.run(Duration::from_secs(3600), |_| false);
    assert!(both_up(&world));
    // The one that confirms the OPEN.
    assert_eq!(world.ends[0].session.status().counters.sent.keepalive, 1);
}

#[test]
fn silence_ends_the_session_within_the_hold_time() {
    for seed in 0..100 {
        let mut world = World::new(seed, BOTH);
        assert!(world.run(MINUTE, both_up));
        world.run(Duration::from_millis(seed * 37), |_| false);
        world.cut();
        let start = world.now;
        assert!(world.run(MINUTE, |world| world.ends.iter().all(|end| !end.is_up())));
        // What was under way when the line was cut takes the world a few milliseconds.
        let silence = world.now.since(start);
        assert!(silence <= Duration::from_millis(9100), "{silence:?}, seed {seed}");
        for end in &world.ends {
            let error = end.session.status().last_error_sent.unwrap();
            assert_eq!((error.code, error.subcode), (4, 0), "seed {seed}");
            assert!(matches!(end.events.last(), Some(SessionEvent::Down { .. })), "seed {seed}");
        }
        world.reachable = true;
        // The longest wait, and the longest attempt before it.
        assert!(world.run(Duration::from_secs(16), both_up), "seed {seed}");
    }
}

#[test]
fn a_lost_connection_is_back_in_seconds() {
    for seed in 0..200 {
        let mut world = World::new(seed, BOTH);
        assert!(world.run(MINUTE, both_up));
        world.run(Duration::from_secs(20), |_| false);
        world.reset();
        assert!(world.ends.iter().all(|end| !end.is_up()), "seed {seed}");
        assert!(world.run(Duration::from_secs(2), both_up), "seed {seed}");
    }
}

#[test]
fn a_peer_that_is_away_is_tried_every_ten_seconds_at_least() {
    let mut world = World::new(5, [ConnectMode::Active, ConnectMode::Passive]);
    world.reachable = false;
    world.run(Duration::from_secs(600), |_| false);
    let failures = world.ends[0].session.status().counters.connect_failures;
    // Each attempt takes 5 s to fail, and 10 s or less pass before the next.
    assert!((40..=60).contains(&failures), "{failures} attempts in ten minutes");
    world.reachable = true;
    assert!(world.run(Duration::from_secs(11), both_up));
}

#[test]
fn a_planned_stop_says_why() {
    for seed in 0..100 {
        let mut world = World::new(seed, BOTH);
        assert!(world.run(MINUTE, both_up));
        let now = world.now;
        world.ends[0].session.handle_stop(now, "maintenance, back at 10:00");
        world.pump(0);
        assert!(world.ends[0].events.contains(&SessionEvent::Stopped), "seed {seed}");
        assert!(world.run(Duration::from_secs(1), |world| !world.ends[1].is_up()));
        let status = world.ends[1].session.status();
        let error = status.last_error_received.unwrap();
        assert_eq!(
            error.to_string(),
            "6/2 Administrative Shutdown: maintenance, back at 10:00",
            "seed {seed}"
        );
        // A stopped session takes no connection, and says so.
        world.run(MINUTE, |_| false);
        assert_eq!(world.ends[0].session.status().state, SessionState::Idle);
        assert!(world.ends[0].session.status().counters.refused_connections > 0);
        let error = world.ends[1].session.status().last_error_received.unwrap();
        assert_eq!((error.code, error.subcode), (6, 5), "seed {seed}");
    }
}
