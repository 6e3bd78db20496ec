//! A peer that ends the session over some routes: they are found and not sent again, and the others
//! are back soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, MOST_RESETS, Session, SessionConfig, SessionEvent,
    SessionState,
};
use tidegate_model::{CommandId, Nlri, OutcomeKind, Timestamp};

use crate::bench::{KEEPALIVE, NOTIFICATION, message, open};
use crate::support::{blackhole, ntp_filter};
use crate::world::{Random, address, config, gate};

const OUTGOING: Direction = Direction::Outgoing;

/// How the router ends a session over a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Notification(u8, u8),
    Close,
}

use Ending::{Close, Notification};

/// A router with a fault.
struct Router {
    now: Timestamp,
    session: Session,
    connected: bool,
    /// What it holds.
    table: BTreeSet<Nlri>,
    poison: BTreeSet<Nlri>,
    /// How long it thinks about a route before it ends the session.
    slowness: Duration,
    ending: Ending,
    ends_at: Option<Timestamp>,
    keepalive_at: Timestamp,
    resets: u32,
    /// How often it was sent something it cannot take.
    poisoned: u32,
    events: Vec<SessionEvent>,
}

impl Router {
    fn new(poison: &[Nlri], ending: Ending) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000);
        let config: SessionConfig = config(0, ConnectMode::Active, 1);
        let mut session = Session::new(now, config, gate());
        session.handle_start(now);
        Self {
            now,
            session,
            connected: false,
            table: BTreeSet::new(),
            poison: poison.iter().cloned().collect(),
            slowness: Duration::from_millis(20),
            ending,
            ends_at: None,
            keepalive_at: now,
            resets: 0,
            poisoned: 0,
            events: Vec::new(),
        }
    }

    /// A session that has been up for a minute, with `count` routes announced together after it.
    fn with_routes(count: u64, poison: &[u64], ending: Ending) -> Self {
        let poison: Vec<Nlri> = poison.iter().map(|number| nlri(*number)).collect();
        let mut router = Self::new(&poison, ending);
        router.run(60);
        for number in 0..count {
            router.announce(number);
        }
        router
    }

    fn announce(&mut self, number: u64) {
        self.session.handle_announce(CommandId(number), route(number));
    }

    fn withdraw(&mut self, command: u64, number: u64) {
        self.session.handle_withdraw(CommandId(command), &nlri(number));
    }

    fn is_up(&self) -> bool {
        self.session.status().state == SessionState::Established
    }

    fn quarantined(&self) -> Vec<Nlri> {
        self.session.quarantined().map(|(nlri, _)| nlri.clone()).collect()
    }

    fn run(&mut self, seconds: u64) {
        self.run_until(seconds, |_| false);
    }

    fn run_for(&mut self, limit: Duration) {
        self.run_within(limit, |_| false);
    }

    /// How many milliseconds it took; `None` if it never was.
    fn run_until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) -> Option<u128> {
        self.run_within(Duration::from_secs(seconds), done)
    }

    fn run_within(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<u128> {
        let start = self.now;
        let end = start + limit;
        loop {
            self.pump();
            if done(self) {
                return Some(self.now.since(start).as_millis());
            }
            let mut next = self.session.poll_timeout().unwrap_or(end).min(end);
            if self.connected {
                next = next.min(self.keepalive_at);
                next = self.ends_at.map_or(next, |at| next.min(at));
            }
            self.now = self.now.max(next);
            if self.now >= end {
                self.now = end;
                return None;
            }
            if self.connected && self.ends_at.is_some_and(|at| at <= self.now) {
                self.end(self.ending);
            } else if self.connected && self.keepalive_at <= self.now {
                self.keepalive_at = self.now + Duration::from_secs(3);
                self.session.handle_bytes(self.now, OUTGOING, &message(KEEPALIVE, &[]));
            }
            self.session.handle_timeout(self.now);
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ends_at = None;
        self.resets += 1;
        match ending {
            Notification(code, subcode) => {
                let octets = message(NOTIFICATION, &[code, subcode]);
                self.session.handle_bytes(self.now, OUTGOING, &octets);
            }
            Close => self.session.handle_closed(self.now, OUTGOING, "closed".to_owned()),
        }
        self.pump();
    }

    fn pump(&mut self) {
        loop {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Connect => self.connect(),
                    Action::AbortConnect => {}
                    Action::Close { .. } => {
                        self.connected = false;
                        self.table.clear();
                        self.ends_at = None;
                    }
                }
            }
            let mut sent = false;
            while let Some(octets) = self.session.poll_transmit(self.now, OUTGOING) {
                sent = true;
                self.take(&octets);
            }
            if sent {
                self.session.handle_written(self.now, OUTGOING);
            }
            while let Some(event) = self.session.poll_event() {
                self.events.push(event);
            }
            if !sent {
                break;
            }
        }
    }

    fn connect(&mut self) {
        let admission = self.session.handle_connected(self.now, OUTGOING, address(0));
        assert_eq!(admission, Admission::Admitted);
        self.connected = true;
        self.keepalive_at = self.now;
        let mut capabilities = vec![65, 4, 0, 0, 0xfd, 0xf2];
        for (afi, safi) in [(1, 1), (2, 1), (1, 133), (2, 133)] {
            capabilities.extend([1, 4, 0, afi, 0, safi]);
        }
        let hello = [open(65010, &capabilities), message(KEEPALIVE, &[])].concat();
        self.session.handle_bytes(self.now, OUTGOING, &hello);
    }

    fn take(&mut self, octets: &[u8]) {
        if octets[18] != 2 {
            return;
        }
        let update = decode_update(octets).unwrap();
        for nlri in &update.withdrawn {
            self.table.remove(nlri);
        }
        if !self.poison.is_disjoint(&update.announced.iter().cloned().collect()) {
            self.poisoned += 1;
            self.ends_at.get_or_insert(self.now + self.slowness);
        }
        self.table.extend(update.announced);
    }

    fn last_answer(&self, number: u64) -> &OutcomeKind {
        let mut answers = self.events.iter().rev().filter_map(|event| match event {
            SessionEvent::Answer(answer) if answer.command == CommandId(number) => {
                Some(&answer.kind)
            }
            _ => None,
        });
        answers.next().unwrap()
    }
}

/// Blackholes, then rules.
fn route(number: u64) -> tidegate_model::Route {
    match number {
        0..100 => blackhole(&format!("203.0.113.{}", 100 + number)),
        100..200 => ntp_filter(&format!("203.0.113.{number}")),
        _ => blackhole(&format!("2001:db8:1::{number:x}")),
    }
}

fn nlri(number: u64) -> Nlri {
    route(number).nlri
}

fn innocents(count: u64, poison: &[u64]) -> BTreeSet<Nlri> {
    (0..count).filter(|number| !poison.contains(number)).map(nlri).collect()
}

/// The offender is found among however many, and what the hunt costs is bounded.
#[test]
fn the_offender_is_found_and_the_others_are_back() {
    let mut table = BTreeMap::new();
    for (count, poison, most_resets, most_seconds) in [
        (1, &[0][..], 1, 2),
        (2, &[1], 3, 6),
        (2, &[0], 2, 5),
        (50, &[0], 4, 15),
        (50, &[49], 5, 15),
        (50, &[7, 30], 8, 25),
        (1000, &[777], 6, 30),
        (50, &[], 0, 1),
    ] {
        let mut router = Router::with_routes(count, poison, Notification(3, 9));
        let innocents = innocents(count, poison);
        let convicted: Vec<Nlri> =
            BTreeSet::from_iter(poison.iter().map(|number| nlri(*number))).into_iter().collect();
        let done = |router: &Router| router.table == innocents && router.quarantined() == convicted;
        let took = router.run_until(120, done);
        let took = took.unwrap_or_else(|| {
            panic!("{count}, {poison:?}: {} resets, {:?}", router.resets, router.quarantined())
        });
        assert!(took <= most_seconds * 1000, "{count}, {poison:?}: {took} ms");
        assert!(router.resets <= most_resets, "{count}, {poison:?}: {} resets", router.resets);
        table.insert((count, poison), (took, router.resets));
        // It stays so.
        let resets = router.resets;
        router.run(3600);
        assert_eq!(router.resets, resets, "{count}, {poison:?}");
        assert!(router.is_up() && router.table == innocents);
        for number in 0..count {
            let answer = router.last_answer(number);
            match poison.contains(&number) {
                true => assert!(
                    matches!(answer, OutcomeKind::Rejected { why } if why.contains("3/9")),
                    "{answer:?}"
                ),
                false => assert!(matches!(answer, OutcomeKind::Applied { .. }), "{answer:?}"),
            }
        }
        let told = router.events.iter().filter(|e| matches!(e, SessionEvent::Quarantined { .. }));
        assert_eq!(told.count(), poison.len());
        let status = router.session.status();
        assert_eq!((status.withheld, status.quarantined), (0, poison.len()));
        assert_eq!(status.routes, innocents.len());
    }
    for ((count, poison), (took, resets)) in table {
        println!("{count} routes, offenders {poison:?}: {took} ms, {resets} resets");
    }
}

/// A router that crashes says nothing. It takes longer to be sure, and it ends all the same.
#[test]
fn an_offender_is_found_by_closed_connections_alone() {
    for (count, poison) in [(1, &[0][..]), (2, &[1]), (50, &[20])] {
        let mut router = Router::with_routes(count, poison, Close);
        let innocents = innocents(count, poison);
        let took = router.run_until(240, |router| {
            router.table == innocents && router.quarantined().len() == poison.len()
        });
        assert!(took.is_some(), "{count}: {} resets", router.resets);
        assert!(router.resets <= 10, "{count}: {} resets", router.resets);
        assert_eq!(router.quarantined(), [nlri(poison[0])]);
        let resets = router.resets;
        router.run(3600);
        assert_eq!(router.resets, resets);
    }
}

/// A router that crashes some time after it has taken the route in.
#[test]
fn an_offender_is_found_though_the_crash_comes_late() {
    for slowness in [500, 1500, 4500] {
        let mut router = Router::with_routes(20, &[5], Close);
        router.slowness = Duration::from_millis(slowness);
        router.run(900);
        assert_eq!(router.quarantined(), [nlri(5)], "{slowness} ms");
        assert!(router.resets <= 20, "{slowness} ms: {} resets", router.resets);
        assert!(router.is_up() && router.table == innocents(20, &[5]));
    }
}

/// A link that comes and goes, without any NOTIFICATION: the routes have nothing to do with it.
#[test]
fn a_link_that_flaps_convicts_nobody() {
    let all = innocents(50, &[]);
    for (seed, longest) in (0..).zip([500, 1000, 2000, 3000, 6000, 10_000].repeat(6)) {
        let mut random = Random(seed);
        let mut router = Router::with_routes(50, &[], Close);
        let end = router.now + Duration::from_secs(3600);
        let (mut lives, mut whole) = (0, 0);
        while router.now < end {
            router.run_until(60, Router::is_up).unwrap();
            router.run_for(Duration::from_millis(1 + random.below(longest) as u64));
            (lives, whole) = (lives + 1, whole + u32::from(router.table == all));
            router.end(Close);
            assert_eq!(router.quarantined(), [], "seed {seed}, {longest} ms");
        }
        // And little of the time is spent on suspicion.
        assert!(whole * 10 > lives * 7, "seed {seed}, {longest} ms: whole in {whole} of {lives}");
        router.run(300);
        assert!(router.is_up() && router.table == all, "seed {seed}, {longest} ms");
        assert_eq!(router.session.status().withheld, 0);
    }
}

/// A peer that takes long to find the fault: it ends, and it is the right one.
#[test]
fn a_slow_router_is_given_time() {
    for slowness in [100, 400, 700, 1500] {
        let mut router = Router::with_routes(20, &[5], Notification(3, 1));
        router.slowness = Duration::from_millis(slowness);
        router.run(600);
        assert_eq!(router.quarantined(), [nlri(5)], "{slowness} ms");
        assert!(router.resets <= 5, "{slowness} ms: {} resets", router.resets);
        assert!(router.is_up());
    }
}

/// Sessions end for many reasons. These accuse no route: everything is sent again at once.
#[test]
fn other_endings_accuse_nobody() {
    for ending in [
        Notification(6, 2),
        Notification(6, 4),
        Notification(6, 1),
        Notification(6, 8),
        Notification(4, 0),
        Notification(2, 2),
        Notification(5, 3),
        Notification(7, 1),
        Close,
    ] {
        let mut router = Router::with_routes(50, &[], ending);
        router.run(1);
        router.end(ending);
        assert!(!router.is_up());
        let status = router.session.status();
        assert_eq!((status.withheld, status.quarantined, status.routes), (0, 0, 50), "{ending:?}");
        let back = router.run_until(30, |router| router.table.len() == 50);
        assert!(back.is_some_and(|took| took <= 2000), "{ending:?}: {back:?}");
    }
    // Nor does an error long after anything was announced.
    let mut router = Router::with_routes(50, &[], Notification(3, 1));
    router.run(60);
    router.end(Notification(3, 1));
    assert_eq!(router.session.status().withheld, 0);
}

#[test]
fn a_quarantined_route_is_sent_again_once_it_is_renewed() {
    let mut router = Router::with_routes(1, &[0], Notification(3, 9));
    router.run(10);
    assert_eq!(router.quarantined(), [nlri(0)]);
    // The same again, without having been withdrawn.
    router.announce(0);
    router.run(10);
    assert!(matches!(router.last_answer(0), OutcomeKind::Rejected { .. }));
    assert_eq!(router.poisoned, 1);
    // The router has been mended.
    router.poison.clear();
    router.withdraw(1, 0);
    router.run(1);
    assert!(matches!(router.last_answer(1), OutcomeKind::Applied { .. }));
    assert_eq!(router.quarantined(), []);
    router.announce(0);
    router.run(1);
    assert_eq!(router.table, [nlri(0)].into());
    assert!(matches!(router.last_answer(0), OutcomeKind::Applied { .. }));
}

/// A hunt does not stand in the way of anything else.
#[test]
fn commands_during_a_hunt() {
    let mut router = Router::with_routes(50, &[49], Notification(3, 9));
    let held_back = |router: &Router| router.is_up() && router.session.status().withheld > 20;
    router.run_until(30, held_back).unwrap();
    assert_eq!(router.session.routes().count(), 50);
    assert!(matches!(router.last_answer(48), OutcomeKind::Pending { .. }));
    // A new route goes at once.
    router.announce(60);
    router.run_until(1, |router| router.table.contains(&nlri(60))).unwrap();
    // A suspect that is not wanted any more is gone at once, and not tried.
    router.withdraw(1048, 48);
    router.withdraw(1049, 49);
    router.run_until(1, |router| router.session.routes().count() == 49).unwrap();
    assert!(matches!(router.last_answer(1049), OutcomeKind::Applied { .. }));
    // One that is announced again keeps its place, with its new command.
    router.session.handle_announce(CommandId(1047), route(47));
    router.run(30);
    assert!(matches!(router.last_answer(1047), OutcomeKind::Applied { .. }));
    assert_eq!(router.table, (0..48).chain([60]).map(nlri).collect());
    assert_eq!((router.resets, router.quarantined().len()), (1, 0));
}

#[test]
fn a_stop_ends_the_hunt() {
    let mut router = Router::with_routes(50, &[0], Notification(3, 9));
    router.run_until(30, |router| router.is_up() && router.session.status().withheld > 20).unwrap();
    router.session.handle_stop(router.now, "stop");
    router.run(10);
    assert_eq!(router.session.status().routes, 0);
    assert!(router.events.contains(&SessionEvent::Stopped));
    assert_eq!(router.table, BTreeSet::new());
}

/// A router that takes nothing at all: the number of resets is bounded, and then it is quiet.
#[test]
fn it_is_never_a_loop() {
    let all: Vec<u64> = (0..60).collect();
    for ending in [Notification(3, 9), Close] {
        let mut router = Router::with_routes(60, &all, ending);
        router.run(3600);
        let resets = router.resets;
        assert!(resets <= MOST_RESETS + 60, "{ending:?}: {resets} resets");
        router.run(3600);
        assert_eq!(router.resets, resets, "{ending:?}");
        assert_eq!(router.quarantined().len(), 60, "{ending:?}");
        assert!(router.is_up());
    }
}
