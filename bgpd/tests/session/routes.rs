//! What a session sends, and what the other end holds of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::Gate;
use tidegate_bgpd::session::{ConnectMode, Delivery, Direction, Session, SessionEvent};
use tidegate_model::{CommandId, Nlri, OutcomeKind, Route, Timestamp};

use crate::support::{blackhole, gate_policy, ntp_filter, prefix};
use crate::world::{Random, World, config, gate};

const MODES: [ConnectMode; 2] = [ConnectMode::Active, ConnectMode::Passive];
const BOTH: [ConnectMode; 2] = [ConnectMode::Both, ConnectMode::Both];
const MINUTE: Duration = Duration::from_secs(60);

fn up(seed: u64) -> World {
    let mut world = World::new(seed, MODES);
    assert!(world.run(MINUTE, |world| world.ends.iter().all(|end| end.is_up())));
    world
}

fn routes() -> [Route; 4] {
    [
        blackhole("203.0.113.7"),
        blackhole("2001:db8:1::7"),
        ntp_filter("203.0.113.8"),
        ntp_filter("2001:db8:1::8"),
    ]
}

fn announce(world: &mut World, command: u64, route: &Route) {
    world.ends[0].session.handle_announce(CommandId(command), route.clone());
    world.pump(0);
}

fn withdraw(world: &mut World, command: u64, nlri: &Nlri) {
    world.ends[0].session.handle_withdraw(CommandId(command), nlri);
    world.pump(0);
}

fn settle(world: &mut World) {
    world.run(Duration::from_secs(1), |_| false);
}

fn kinds(world: &World, command: u64) -> Vec<&OutcomeKind> {
    let answers = world.ends[0].answers();
    answers.filter(|answer| answer.command == CommandId(command)).map(|a| &a.kind).collect()
}

fn wanted(world: &World) -> BTreeSet<Nlri> {
    world.ends[0].session.routes().map(|route| route.nlri.clone()).collect()
}

fn held(world: &World) -> BTreeSet<Nlri> {
    world.ends[1].table.keys().cloned().collect()
}

#[test]
fn the_peer_holds_what_was_announced_and_nothing_else() {
    let mut world = up(1);
    for (command, route) in routes().iter().enumerate() {
        announce(&mut world, command as u64, route);
    }
    settle(&mut world);
    assert_eq!(held(&world), routes().map(|route| route.nlri).into());
    for (nlri, communities) in &world.ends[1].table {
        let route = routes().into_iter().find(|route| route.nlri == *nlri).unwrap();
        assert!(communities.is_superset(&route.communities), "{nlri}");
    }
    for command in 0..4 {
        let [OutcomeKind::Applied { bytes }] = kinds(&world, command)[..] else {
            panic!("{:?}", kinds(&world, command));
        };
        assert!(world.ends[0].sent.iter().any(|(_, message)| message[..] == bytes[..]));
        let update = decode_update(bytes).unwrap();
        assert!(update.announced.contains(&routes()[command as usize].nlri));
    }
    for (command, route) in (10..).zip(routes()) {
        withdraw(&mut world, command, &route.nlri);
        assert!(matches!(kinds(&world, command)[..], [OutcomeKind::Applied { .. }]));
    }
    settle(&mut world);
    assert_eq!(held(&world), BTreeSet::new());
}

#[test]
fn every_session_begins_with_all_routes_and_end_of_rib() {
    let mut world = World::new(4, MODES);
    world.reachable = false;
    for (command, route) in routes().iter().enumerate() {
        announce(&mut world, command as u64, route);
        let pending = OutcomeKind::Pending { why: "the session is down".to_owned() };
        assert_eq!(kinds(&world, command as u64), [&pending]);
    }
    world.reachable = true;
    for round in 1..4 {
        assert!(world.run(MINUTE, |world| world.ends[1].ends_of_rib.len() == 4));
        assert_eq!(held(&world), routes().map(|route| route.nlri).into(), "round {round}");
        assert_eq!(BTreeSet::from_iter(world.ends[1].ends_of_rib.clone()), Family::ALL.into());
        assert!(matches!(kinds(&world, 2).last(), Some(OutcomeKind::Applied { .. })));
        world.reset();
        assert_eq!(held(&world), BTreeSet::new());
    }
}

#[test]
fn commands_are_taken_before_the_start() {
    let now = Timestamp::ZERO;
    let mut session = Session::new(now, config(0, ConnectMode::Both, 1), gate());
    session.handle_announce(CommandId(1), routes()[0].clone());
    session.handle_start(now);
    let answers: Vec<_> = std::iter::from_fn(|| session.poll_event()).collect();
    let pending = OutcomeKind::Pending { why: "the session is down".to_owned() };
    assert!(
        answers
            .iter()
            .any(|event| matches!(event, SessionEvent::Answer(answer) if answer.kind == pending)),
        "{answers:?}"
    );
    assert_eq!(session.routes().count(), 1);
}

#[test]
fn what_the_gate_refuses_does_not_leave() {
    let mut world = up(2);
    let before = world.ends[0].sent.len();
    for (command, address) in ["198.51.100.1", "203.0.113.53", "203.0.113.0/24"].iter().enumerate()
    {
        announce(&mut world, command as u64, &blackhole(address));
        let kinds = kinds(&world, command as u64);
        assert!(matches!(kinds[..], [OutcomeKind::Rejected { .. }]), "{address}: {kinds:?}");
    }
    assert_eq!(world.ends[0].sent.len(), before);
    assert_eq!(wanted(&world), BTreeSet::new());
}

#[test]
fn a_stricter_gate_takes_back_what_it_refuses() {
    let mut world = up(2);
    for (command, route) in routes().iter().enumerate() {
        announce(&mut world, command as u64, route);
    }
    let mut policy = gate_policy();
    policy.space.never_touch.push(prefix("203.0.113.7"));
    world.ends[0].session.handle_gate(Arc::new(Gate::new(policy)));
    world.pump(0);
    settle(&mut world);
    let kept: BTreeSet<Nlri> = routes().into_iter().skip(1).map(|route| route.nlri).collect();
    assert_eq!(held(&world), kept);
    assert_eq!(wanted(&world), kept);
    assert!(matches!(kinds(&world, 0)[..], [_, OutcomeKind::Rejected { .. }]));
}

/// The routing table may choose our address on a session, so that no policy knows it.
#[test]
fn our_own_end_of_a_session_is_never_cut_off() {
    let mut world = up(5);
    let mut policy = gate_policy();
    policy.space.owned.push(prefix("192.0.2.0/24"));
    policy.session_addresses.clear();
    world.ends[0].session.handle_gate(Arc::new(Gate::new(policy)));
    for (command, target) in [(0, "192.0.2.1"), (1, "192.0.2.77")] {
        announce(&mut world, command, &blackhole(target));
    }
    settle(&mut world);
    assert!(matches!(kinds(&world, 0)[..], [OutcomeKind::Rejected { .. }]));
    assert_eq!(held(&world), BTreeSet::from([blackhole("192.0.2.77").nlri]));
}

/// The peer asks again (RFC 2918), while a blackhole is being withdrawn.
#[test]
fn a_refresh_sends_the_family_again_and_resurrects_nothing() {
    let mut world = up(3);
    for (command, route) in routes().iter().enumerate() {
        announce(&mut world, command as u64, route);
    }
    announce(&mut world, 4, &blackhole("203.0.113.9"));
    settle(&mut world);
    let mut refresh = vec![0xff; 16];
    refresh.extend([0, 23, 5, 0, 1, 0, 1]);
    let before = world.ends[0].sent.len();
    let now = world.now;
    let session = &mut world.ends[0].session;
    for _ in 0..1000 {
        session.handle_bytes(now, Direction::Outgoing, &refresh);
    }
    session.handle_withdraw(CommandId(5), &blackhole("203.0.113.9").nlri);
    world.pump(0);
    settle(&mut world);
    // A thousand requests cost one answer, between BoRR and EoRR, and what is withdrawn meanwhile
    // is not in it.
    let [(_, begin), (_, withdrawn), (_, again), (_, end)] = &world.ends[0].sent[before..] else {
        panic!("{} messages", world.ends[0].sent.len() - before);
    };
    assert_eq!(begin[16..], [0, 23, 5, 0, 1, 1, 1]);
    assert_eq!(end[16..], [0, 23, 5, 0, 1, 2, 1]);
    assert_eq!(decode_update(withdrawn).unwrap().withdrawn, [blackhole("203.0.113.9").nlri]);
    assert_eq!(decode_update(again).unwrap().announced, [blackhole("203.0.113.7").nlri]);
    assert_eq!(held(&world), routes().map(|route| route.nlri).into());
}

#[test]
fn a_planned_stop_withdraws_before_it_ceases() {
    for seed in 0..20 {
        let mut world = up(seed);
        for (command, route) in routes().iter().enumerate() {
            announce(&mut world, command as u64, route);
        }
        settle(&mut world);
        let before = world.ends[0].sent.len();
        let now = world.now;
        world.ends[0].session.handle_stop(now, "bye");
        world.pump(0);
        let withdrawn: BTreeSet<Nlri> = world.ends[0].sent[before..]
            .iter()
            .flat_map(|(_, message)| decode_update(message).unwrap().withdrawn)
            .collect();
        assert_eq!(withdrawn, routes().map(|route| route.nlri).into());
        assert!(world.run(Duration::from_secs(1), |world| !world.ends[1].is_up()));
        let error = world.ends[1].session.status().last_error_received.unwrap();
        assert_eq!((error.code, error.subcode), (6, 2));
        announce(&mut world, 99, &routes()[0]);
        assert!(matches!(kinds(&world, 99)[..], [OutcomeKind::Failed { .. }]));
    }
}

/// A withdraw does not wait for announcements that stand before it.
#[test]
fn a_withdraw_overtakes_announcements() {
    let mut world = up(8);
    announce(&mut world, 1, &blackhole("203.0.113.7"));
    settle(&mut world);
    let now = world.now;
    let session = &mut world.ends[0].session;
    for host in 1..=200 {
        let route = ntp_filter(&format!("203.0.113.{}", 54 + host));
        session.handle_announce(CommandId(1000 + host), route);
    }
    session.handle_withdraw(CommandId(2), &blackhole("203.0.113.7").nlri);
    let first = session.poll_transmit(now, Direction::Outgoing).unwrap();
    assert_eq!(decode_update(&first).unwrap().withdrawn, [blackhole("203.0.113.7").nlri]);
}

/// A connection that breaks before its octets were written: the commands wait for the next one.
#[test]
fn commands_in_flight_survive_the_session() {
    let mut world = up(9);
    let now = world.now;
    let route = &routes()[0];
    let session = &mut world.ends[0].session;
    session.handle_announce(CommandId(1), route.clone());
    session.handle_announce(CommandId(2), routes()[1].clone());
    while session.poll_transmit(now, Direction::Outgoing).is_some() {}
    // Overtaken while it waits for the socket: not answered.
    session.handle_announce(CommandId(3), routes()[1].clone());
    session.handle_closed(now, Direction::Outgoing, "broken".to_owned());
    world.pump(0);
    let pending = OutcomeKind::Pending { why: "the session is down".to_owned() };
    assert_eq!(kinds(&world, 1), [&pending]);
    assert_eq!(kinds(&world, 2), Vec::<&OutcomeKind>::new());
    assert_eq!(kinds(&world, 3).last(), Some(&&pending));
    world.reset();
    assert!(world.run(MINUTE, |world| held(world).len() == 2));
    assert!(matches!(kinds(&world, 1)[..], [_, OutcomeKind::Applied { .. }]));
    assert!(matches!(kinds(&world, 3).last(), Some(OutcomeKind::Applied { .. })));
}

/// Sent is not delivered: each route says how far it is.
#[test]
fn deliveries_follow_the_octets() {
    use Delivery::{Confirmed, Unconfirmed, Waiting};
    let mut world = World::new(9, MODES);
    let [first, second, ..] = routes();
    world.ends[0].session.handle_announce(CommandId(1), first.clone());
    let how = |world: &World| -> Vec<Delivery> {
        world.ends[0].session.deliveries().into_iter().map(|(_, how)| how).collect()
    };
    assert_eq!(how(&world), [Waiting], "there is no session");
    assert!(world.run(MINUTE, |world| world.ends.iter().all(|end| end.is_up())));
    assert_eq!(how(&world), [Unconfirmed], "written, and nobody says that it arrived");
    let total =
        |world: &World| world.ends[0].sent.iter().map(|(_, message)| message.len() as u64).sum();
    let acknowledge = |world: &mut World, octets: u64| {
        world.ends[0].session.handle_acknowledged(Direction::Outgoing, octets);
    };
    let octets: u64 = total(&world);
    acknowledge(&mut world, 0);
    assert_eq!(how(&world), [Unconfirmed]);
    acknowledge(&mut world, octets);
    assert_eq!(how(&world), [Confirmed]);
    // In flight is unconfirmed too, and a change makes what was confirmed so again.
    let now = world.now;
    world.ends[0].session.handle_announce(CommandId(2), second.clone());
    assert_eq!(how(&world), [Confirmed, Waiting]);
    let mut changed = first.clone();
    changed.communities.insert(tidegate_model::Community(65010 << 16 | 7));
    world.ends[0].session.handle_announce(CommandId(3), changed);
    assert_eq!(how(&world), [Unconfirmed, Waiting]);
    while world.ends[0].session.poll_transmit(now, Direction::Outgoing).is_some() {}
    assert_eq!(how(&world), [Unconfirmed, Unconfirmed]);
    world.ends[0].session.handle_written(now, Direction::Outgoing);
    acknowledge(&mut world, u64::MAX);
    assert_eq!(how(&world), [Confirmed, Confirmed]);
    // A withdraw is told of until it is acknowledged.
    let unconfirmed = |world: &World| world.ends[0].session.unconfirmed_withdraws().len();
    world.ends[0].session.handle_withdraw(CommandId(4), &first.nlri);
    assert_eq!((unconfirmed(&world), how(&world)), (1, vec![Confirmed]));
    while world.ends[0].session.poll_transmit(now, Direction::Outgoing).is_some() {}
    assert_eq!(unconfirmed(&world), 1);
    world.ends[0].session.handle_written(now, Direction::Outgoing);
    assert_eq!(unconfirmed(&world), 1);
    acknowledge(&mut world, u64::MAX);
    assert_eq!(unconfirmed(&world), 0);
    // A lost session has delivered nothing, and the peer drops what it held.
    world.ends[0].session.handle_withdraw(CommandId(5), &second.nlri);
    world.ends[0].session.handle_announce(CommandId(6), first.clone());
    world.ends[0].session.handle_closed(now, Direction::Outgoing, "broken".to_owned());
    assert_eq!((unconfirmed(&world), how(&world)), (0, vec![Waiting]));
}

/// Whatever is commanded while connections come and go: in the end the peer holds what is wanted.
#[test]
fn converges_after_any_faults() {
    for seed in 0..400 {
        let mut world = World::new(seed, BOTH);
        let mut random = Random(!seed);
        let mut last: BTreeMap<Nlri, u64> = BTreeMap::new();
        for command in 0..60 {
            let route = match random.below(3) {
                0 => blackhole(&format!("203.0.113.{}", 60 + random.below(6))),
                1 => blackhole(&format!("2001:db8:1::{}", 1 + random.below(6))),
                _ => ntp_filter(&format!("203.0.113.{}", 60 + random.below(6))),
            };
            last.insert(route.nlri.clone(), command);
            match random.below(2) {
                0 => announce(&mut world, command, &route),
                _ => withdraw(&mut world, command, &route.nlri),
            }
            match random.below(20) {
                0 => world.reset(),
                1 => world.cut(),
                2 => world.reachable = true,
                _ => {}
            }
            let span = Duration::from_millis(random.below(2000) as u64);
            world.run(span, |_| false);
        }
        world.reachable = true;
        let converged = |world: &World| world.ends[1].is_up() && held(world) == wanted(world);
        assert!(world.run(MINUTE, converged), "seed {seed}");
        for (nlri, command) in last {
            let answer = kinds(&world, command).last().copied();
            assert!(matches!(answer, Some(OutcomeKind::Applied { .. })), "seed {seed}: {nlri}");
        }
    }
}
