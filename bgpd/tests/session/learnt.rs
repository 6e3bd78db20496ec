//! What a session takes from its peer's announcements.

use std::net::IpAddr;
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::learnt::{News, Update};
use tidegate_bgpd::session::{
    ConnectMode, Direction, GracefulRestart, Role, SessionConfig, SessionEvent, SessionOptions,
};
use tidegate_model::{Timestamp, TrafficFilteringAction};

use crate::bench::{
    ATTRIBUTES, Bench, KEEPALIVE, NLRI, NOTIFICATION, capabilities, message, open, update,
};
use crate::world;

const PEER_AS: u16 = 65001;

fn up(options: SessionOptions, peer_as: u16, more: &[u8]) -> Bench {
    let peer = u32::from(peer_as);
    let config = world::config(0, ConnectMode::Passive, 1);
    let mut bench = Bench::with(SessionConfig { peer_as: peer, options, ..config });
    establish(&mut bench, peer_as, more);
    bench
}

/// With both IPv4 families.
fn establish(bench: &mut Bench, peer_as: u16, more: &[u8]) {
    let list = [&capabilities(peer_as)[..], &[1, 4, 0, 1, 0, 133], more].concat();
    bench.give(&open(peer_as, &list));
    bench.give(&message(KEEPALIVE, &[]));
    bench.drain();
}

fn news(bench: &mut Bench) -> Vec<News> {
    let events = std::iter::from_fn(|| bench.session.poll_event());
    let news = events.filter_map(|event| match event {
        SessionEvent::Learnt(news) => Some(news),
        _ => None,
    });
    news.collect()
}

fn only(bench: &mut Bench) -> Update {
    match &news(bench)[..] {
        [News::Update(update)] => (**update).clone(),
        other => panic!("{other:?}"),
    }
}

/// A rule for 192.0.2.9 with this traffic-rate.
fn rule(rate: f32) -> Vec<u8> {
    let reach = [0x90, 14, 0, 12, 0, 1, 133, 0, 0, 6, 1, 32, 192, 0, 2, 9];
    let community = [&[0xc0, 16, 8, 0x80, 6, 0, 0][..], &rate.to_be_bytes()].concat();
    update(&[], &[&reach[..], &ATTRIBUTES[..13], &community].concat(), &[])
}

#[test]
fn routes_and_rules_are_taken_in() {
    let mut bench = up(SessionOptions::default(), PEER_AS, &[]);
    assert_eq!(news(&mut bench), [News::Back([].into())]);
    bench.give(&update(&[], &ATTRIBUTES, &NLRI));
    let taken = only(&mut bench);
    assert_eq!(taken.announced.len(), 1);
    let path = &taken.path;
    assert_eq!((path.neighbor_as, path.as_path_length, path.is_internal), (Some(65001), 1, false));
    assert_eq!(path.originator, (65001, [192, 0, 2, 2].into()));
    bench.give(&rule(125_000.0));
    let taken = only(&mut bench);
    assert_eq!(taken.announced[0].to_string(), "flow4 { destination 192.0.2.9/32 }");
    assert_eq!(taken.path.actions, [TrafficFilteringAction::RateLimitBytes(125_000.0)]);
    bench.give(&update(&NLRI, &[], &[]));
    assert_eq!(only(&mut bench).withdrawn.len(), 1);
    bench.give(&update(&[], &[], &[]));
    assert_eq!(only(&mut bench).end_of_rib, Some(Family::Ipv4Unicast));
    // A family that was not agreed on is of no interest.
    let ipv6 =
        [0x90, 14, 0, 22, 0, 2, 1, 16, 0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    bench.give(&update(&[], &[&ipv6[..], &[0, 0], &ATTRIBUTES[..13]].concat(), &[]));
    assert_eq!(only(&mut bench).announced, []);
    bench.session.handle_closed(bench.now, Direction::Incoming, "broken".to_owned());
    assert_eq!(news(&mut bench), [News::Lost]);
}

/// RFC 4760 §3, RFC 2545 §3: one address or, in IPv6, a second one of the link. FlowSpec has none.
#[test]
fn next_hops_have_their_lengths() {
    let mut bench = up(SessionOptions::default(), PEER_AS, &[1, 4, 0, 2, 0, 1]);
    news(&mut bench);
    let global: IpAddr = "2001:db8::2".parse().unwrap();
    for (length, taken) in [(16, true), (32, true), (4, false), (15, false), (255, false)] {
        let mut value = vec![0, 2, 1, length];
        value.extend([0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        value.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        value.truncate(4 + usize::from(length));
        value.extend([0, 48, 0x20, 1, 13, 0xb8, 0, 7]);
        let attribute = [&[0x80, 14, value.len() as u8][..], &value].concat();
        bench.give(&update(&[], &[&attribute, &ATTRIBUTES[..13]].concat(), &[]));
        let update = only(&mut bench);
        let hop = update.path.next_hop.filter(|_| !update.announced.is_empty());
        assert_eq!(hop, taken.then_some(global), "{length}");
    }
    bench.give(&rule(0.0));
    assert_eq!(only(&mut bench).path.next_hop, None);
}

/// RFC 7606 §2: what is malformed withdraws what it is about.
#[test]
fn what_is_malformed_is_withdrawn() {
    let mut bench = up(SessionOptions::default(), PEER_AS, &[]);
    news(&mut bench);
    for (name, octets) in [
        ("no attributes", update(&[], &[], &NLRI)),
        ("a rate that is no number", rule(f32::NAN)),
        ("a rate without end", rule(f32::INFINITY)),
        ("a rate of next to nothing", rule(1e-40)),
        ("another AS to the left", {
            let mut attributes = ATTRIBUTES;
            attributes[12] = 9;
            update(&[], &attributes, &NLRI)
        }),
    ] {
        bench.give(&octets);
        let taken = only(&mut bench);
        assert_eq!((taken.announced.len(), taken.withdrawn.len()), (0, 1), "{name}");
    }
    assert_eq!(bench.session.status().counters.malformed_updates, 5);
    bench.give(&rule(-1.0));
    assert_eq!(only(&mut bench).path.actions, [TrafficFilteringAction::RateLimitBytes(0.0)]);
    // A message that is about nobody knows what.
    bench.give(&update(&[], &[0x80, 15, 2, 0, 1], &[]));
    assert!(only(&mut bench).is_unreadable);
}

/// RFC 9234 §5: what comes from below or from the side and says that it may not is a leak.
#[test]
fn leaks_are_seen() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let with = |otc: u32| {
        let attribute = [&[0xc0, 35, 4][..], &otc.to_be_bytes()].concat();
        update(&[], &[&ATTRIBUTES, &attribute[..]].concat(), &NLRI)
    };
    let plain = || update(&[], &ATTRIBUTES, &NLRI);
    for (ours, theirs, octets, leaks) in [
        (Provider, 3, with(65001), true),
        (Provider, 3, plain(), false),
        (RouteServer, 2, with(65009), true),
        (Peer, 4, with(65001), false),
        (Peer, 4, with(65009), true),
        (Customer, 0, with(65009), false),
        (RouteServerClient, 1, with(65009), false),
    ] {
        let options = SessionOptions { role: Some(ours), ..SessionOptions::default() };
        let mut bench = up(options, PEER_AS, &[9, 1, theirs]);
        news(&mut bench);
        bench.give(&octets);
        assert_eq!(only(&mut bench).path.leaks, leaks, "{ours:?}");
        assert_eq!(bench.session.status().counters.leaks_received, u64::from(leaks), "{ours:?}");
    }
}

/// Keeps the state of IPv4 unicast and FlowSpec for 90 s; with the N bit, or without.
fn restart(notification: bool, forwarding: u8) -> Vec<u8> {
    let flags = if notification { 0x40 } else { 0 };
    vec![64, 10, flags, 90, 0, 1, 1, forwarding, 0, 1, 133, forwarding]
}

/// RFC 4724 §4.2, RFC 8538 §4: when the peer's routes are kept, and when not.
#[test]
fn the_peer_is_waited_for_only_if_both_want_it() {
    const IBGP: u16 = 65010;
    let keeping = [Family::Ipv4Unicast, Family::Ipv4FlowSpec];
    let seconds = GracefulRestart::Restarting(Duration::from_secs(5));
    let helper = GracefulRestart::Helper;
    #[derive(Clone, Copy, Debug)]
    enum End {
        Lost,
        Notification(u8, u8),
        HoldTimer,
    }
    use End::{HoldTimer, Lost, Notification};
    for (ours, n_bit, end, kept) in [
        (GracefulRestart::Off, true, Lost, false),
        (helper, false, Lost, true),
        (helper, true, Notification(6, 4), false),
        (helper, true, HoldTimer, false),
        (seconds, true, Lost, true),
        (seconds, true, Notification(6, 4), true),
        (seconds, true, HoldTimer, true),
        (seconds, true, Notification(6, 9), false),
        (seconds, false, Notification(6, 4), false),
        (seconds, false, HoldTimer, false),
    ] {
        let options = SessionOptions { graceful_restart: ours, ..SessionOptions::default() };
        let mut bench = up(options, IBGP, &restart(n_bit, 0x80));
        news(&mut bench);
        match end {
            Lost => {
                bench.session.handle_closed(bench.now, Direction::Incoming, "broken".to_owned());
            }
            Notification(code, subcode) => bench.give(&message(NOTIFICATION, &[code, subcode])),
            HoldTimer => {
                bench.now = bench.now + Duration::from_secs(9);
                bench.session.handle_timeout(bench.now);
            }
        }
        let expected = match kept {
            true => News::Restarting(keeping.into()),
            false => News::Lost,
        };
        assert_eq!(news(&mut bench), [expected], "{ours:?}, {n_bit}, {end:?}");
    }
}

#[test]
fn nobody_is_waited_for_without_end() {
    let options =
        SessionOptions { graceful_restart: GracefulRestart::Helper, ..SessionOptions::default() };
    let run = |bench: &mut Bench| -> Timestamp {
        loop {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.session.handle_timeout(bench.now);
            if news(bench) == [News::WaitedEnough] {
                return bench.now;
            }
        }
    };
    // As long as it asks for, while it is away.
    let mut bench = up(options.clone(), 65010, &restart(false, 0x80));
    let lost = bench.now;
    bench.session.handle_closed(lost, Direction::Incoming, "broken".to_owned());
    news(&mut bench);
    assert_eq!(run(&mut bench).since(lost), Duration::from_secs(90));
    // It comes back, and the families that it has kept are waited for.
    let mut bench = up(options.clone(), 65010, &restart(false, 0x80));
    bench.reconnect();
    news(&mut bench);
    establish(&mut bench, 65010, &restart(false, 0x80));
    let kept = [Family::Ipv4Unicast, Family::Ipv4FlowSpec];
    assert_eq!(news(&mut bench), [News::Back(kept.into())]);
    bench.give(&update(&[], &[], &[]));
    bench.give(&update(&[], &[0x80, 15, 3, 0, 1, 133], &[]));
    assert_eq!(news(&mut bench).len(), 2);
    // Complete: the timer is off.
    bench.reconnect();
    assert!(!news(&mut bench).contains(&News::WaitedEnough));
    // It comes back and has kept nothing.
    establish(&mut bench, 65010, &restart(false, 0));
    assert_eq!(news(&mut bench), [News::Back([].into())]);
}
