//! What is offered and done about restarts (RFC 4724, RFC 8538, RFC 9494).

use std::time::Duration;

use tidegate_bgpd::session::{
    Action, ConnectMode, GracefulRestart, SessionConfig, SessionOptions, SessionState,
};
use tidegate_model::{CommandId, Community};

use crate::bench::{Bench, KEEPALIVE, OPEN, capabilities, message, open};
use crate::support::{blackhole, ntp_filter};
use crate::world::{World, config};

const PEER_AS: u16 = 65010;
const GRACEFUL_RESTART: u8 = 64;
const LONG_LIVED: u8 = 71;
/// Restarts in 90 s, keeps the state of IPv4 unicast, and keeps routes after a NOTIFICATION.
const WITH_NOTIFICATION: [u8; 8] = [GRACEFUL_RESTART, 6, 0x40, 90, 0, 1, 1, 0x80];
/// The same without the last.
const WITHOUT_NOTIFICATION: [u8; 8] = [GRACEFUL_RESTART, 6, 0, 90, 0, 1, 1, 0x80];

fn with(graceful_restart: GracefulRestart) -> SessionConfig {
    let options = SessionOptions { graceful_restart, ..SessionOptions::default() };
    SessionConfig { options, ..config(0, ConnectMode::Passive, 1) }
}

/// The value of a capability in the OPEN that is sent.
fn offered(bench: &mut Bench, wanted: u8) -> Option<Vec<u8>> {
    let sent = bench.drain().into_iter().find(|message| message[18] == OPEN).unwrap();
    let mut rest = &sent[31..];
    while let [code, length, value @ ..] = rest {
        let (value, behind) = value.split_at(usize::from(*length));
        if *code == wanted {
            return Some(value.to_vec());
        }
        rest = behind;
    }
    None
}

#[test]
fn nothing_is_offered_unless_asked_for() {
    let four = |flag: u8| {
        let families = [[0, 1, 1], [0, 2, 1], [0, 1, 133], [0, 2, 133]];
        families.iter().flat_map(|family| [&family[..], &[flag]].concat()).collect::<Vec<u8>>()
    };
    let minute = GracefulRestart::Restarting(Duration::from_secs(60));
    let second = GracefulRestart::Restarting(Duration::from_secs(1));
    for (name, choice, replayed, expected) in [
        ("off", GracefulRestart::Off, false, None),
        ("off, replayed", GracefulRestart::Off, true, None),
        ("helper", GracefulRestart::Helper, true, Some(vec![0, 0])),
        ("five seconds at most", minute, false, Some([&[0x40, 5][..], &four(0)].concat())),
        ("replayed", second, true, Some([&[0xc0, 1][..], &four(0x80)].concat())),
    ] {
        let mut bench = Bench::prepared(with(choice), |session| {
            if replayed {
                session.handle_replayed();
            }
        });
        assert_eq!(offered(&mut bench, GRACEFUL_RESTART), expected, "{name}");
        let mut bench = Bench::with(with(choice));
        assert_eq!(offered(&mut bench, LONG_LIVED), None, "{name}");
    }
}

/// Only the first session after a restart says that there was one.
#[test]
fn a_session_that_flaps_is_no_restart() {
    let choice = GracefulRestart::Restarting(Duration::from_secs(3));
    let mut bench = Bench::prepared(with(choice), |session| session.handle_replayed());
    assert_eq!(offered(&mut bench, GRACEFUL_RESTART).unwrap()[0], 0xc0);
    bench.give(&open(PEER_AS, &capabilities(PEER_AS)));
    bench.give(&message(KEEPALIVE, &[]));
    assert_eq!(bench.session.status().state, SessionState::Established);
    bench.reconnect();
    assert_eq!(offered(&mut bench, GRACEFUL_RESTART).unwrap()[0], 0x40);
}

#[test]
fn what_the_peer_offers_is_shown() {
    let mut bench = Bench::with(with(GracefulRestart::Off));
    let more = [&WITH_NOTIFICATION[..], &[LONG_LIVED, 7, 0, 1, 1, 0, 0, 1, 0]].concat();
    bench.give(&open(PEER_AS, &[capabilities(PEER_AS), more].concat()));
    bench.give(&message(KEEPALIVE, &[]));
    let negotiated = bench.session.status().negotiated.unwrap();
    let restart = negotiated.restart.unwrap();
    assert_eq!(restart.time, Duration::from_secs(90));
    assert_eq!(restart.families, [(tidegate_bgpd::Family::Ipv4Unicast, true)].into());
    assert!(restart.notification && !restart.restarted && negotiated.long_lived);
}

/// A peer that keeps routes after a NOTIFICATION drops them after a Hard Reset (RFC 8538 §3).
#[test]
fn a_planned_stop_flushes_under_the_n_bit() {
    let restarting = GracefulRestart::Restarting(Duration::from_secs(3));
    let plain = &b"\x06\x02\x03bye"[..];
    for (name, choice, theirs, expected) in [
        ("both", restarting, &WITH_NOTIFICATION[..], &b"\x06\x09\x06\x02\x03bye"[..]),
        ("helper", GracefulRestart::Helper, &WITH_NOTIFICATION, b"\x06\x09\x06\x02\x03bye"),
        ("the peer without", restarting, &WITHOUT_NOTIFICATION, plain),
        ("the peer with nothing", restarting, &[], plain),
        ("we with nothing", GracefulRestart::Off, &WITH_NOTIFICATION, plain),
    ] {
        let mut bench = Bench::with(with(choice));
        bench.give(&open(PEER_AS, &[&capabilities(PEER_AS), theirs].concat()));
        bench.give(&message(KEEPALIVE, &[]));
        bench.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
        bench.drain();
        bench.session.handle_stop(bench.now, "bye");
        // The withdraw goes first.
        let [withdraw] = &bench.drain()[..] else { panic!("{name}") };
        assert_eq!(withdraw[19..21], [0, 5], "{name}");
        let Some(Action::Close { last_words: Some(words), .. }) = bench.session.poll_action()
        else {
            panic!("{name}");
        };
        assert_eq!(&words[19..], expected, "{name}");
    }
}

/// RFC 9494 §4.2: nobody keeps what is sent for days.
#[test]
fn every_announcement_carries_no_llgr() {
    let mut world = World::new(1, [ConnectMode::Active, ConnectMode::Passive]);
    let routes = [
        blackhole("203.0.113.7"),
        blackhole("2001:db8:1::7"),
        ntp_filter("203.0.113.8"),
        ntp_filter("2001:db8:1::8"),
    ];
    for (command, route) in (0..).zip(routes) {
        assert!(!route.communities.contains(&Community::NO_LLGR));
        world.ends[0].session.handle_announce(CommandId(command), route);
    }
    world.run(Duration::from_secs(60), |world| world.ends[1].table.len() == 4);
    assert_eq!(world.ends[1].table.len(), 4);
    for (nlri, communities) in &world.ends[1].table {
        assert!(communities.contains(&Community::NO_LLGR), "{nlri}: {communities:?}");
    }
}
