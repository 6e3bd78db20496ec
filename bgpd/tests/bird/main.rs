//! The speaker with a real router: BIRD 2. What counts is what BIRD shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop at a surprise too")]

mod graceful;
#[path = "../support/namespace.rs"]
mod namespace;
mod options;
mod router;
#[path = "../support/mod.rs"]
mod support;
mod transport;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::session::{ConnectMode, SessionOptions, SessionState};
use tidegate_bgpd::speaker::{
    BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, SpeakerEvent, SpeakerHandle, Transport,
};
use tidegate_model::{
    BitmaskMatch, CommandId, FlowSpecComponent, NumericMatch, OutcomeKind, Route,
    TrafficFilteringAction,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use router::{AS, Mode, ROUTER_ID, Router};
use support::{blackhole, flowspec, gate_policy, ntp_filter};

const PEER: &str = "router";
const PATIENCE: Duration = Duration::from_secs(30);

/// A speaker in a runtime of its own, which ends with it.
struct Bench {
    runtime: Runtime,
    speaker: SpeakerHandle,
    events: mpsc::Receiver<SpeakerEvent>,
}

impl Bench {
    fn start(router: &Router, asn: u32, mode: ConnectMode) -> Self {
        Self::over(router, asn, mode, Transport::default())
    }

    fn over(router: &Router, asn: u32, mode: ConnectMode, transport: Transport) -> Self {
        Self::with(router, asn, mode, transport, SessionOptions::default())
    }

    fn with(
        router: &Router,
        asn: u32,
        mode: ConnectMode,
        transport: Transport,
        options: SessionOptions,
    ) -> Self {
        let bench = Self::waiting(router, asn, mode, transport, options);
        bench.speaker.begin();
        bench
    }

    /// One that is told something before its sessions come up.
    fn prepared(router: &Router, options: SessionOptions, prepare: impl FnOnce(&Self)) -> Self {
        let mode = ConnectMode::Active;
        let bench = Self::waiting(router, AS, mode, Transport::default(), options);
        prepare(&bench);
        bench.speaker.begin();
        bench
    }

    fn waiting(
        router: &Router,
        asn: u32,
        mode: ConnectMode,
        transport: Transport,
        options: SessionOptions,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let config = SpeakerConfig {
            asn,
            router_id: Ipv4Addr::LOCALHOST,
            listen: vec![SocketAddr::new(router.speaker, router.speaker_port)],
            peers: vec![PeerConfig {
                name: PEER.to_owned(),
                address: router.address,
                asn: AS,
                port: router.port,
                local_address: Some(router.speaker),
                mode,
                hold_time: Duration::from_secs(9),
                families: Family::ALL.into(),
                max_routes: 1000,
                transport,
                options,
                blackhole: BlackholeProfile::default(),
            }],
            dynamic: Vec::new(),
            gate: gate_policy(),
            seed: 1,
        };
        let (speaker, events) = runtime.block_on(async { Speaker::prepare(config) }).unwrap();
        Self { runtime, speaker, events }
    }

    fn announce(&self, command: u64, route: &Route) {
        self.speaker.announce(PEER, CommandId(command), route.clone()).unwrap();
    }

    fn withdraw(&self, command: u64, route: &Route) {
        self.speaker.withdraw(PEER, CommandId(command), &route.nlri).unwrap();
    }

    fn wait_for(&mut self, what: &str, done: impl Fn(&SpeakerEvent) -> bool) -> SpeakerEvent {
        let events = &mut self.events;
        let found = async {
            loop {
                let event = events.recv().await.unwrap();
                if done(&event) {
                    break event;
                }
            }
        };
        let found = async { tokio::time::timeout(PATIENCE, found).await };
        self.runtime.block_on(found).unwrap_or_else(|_| {
            panic!("not within {PATIENCE:?}: {what}\n{:#?}", self.speaker.peers());
        })
    }

    /// Waits until `command` has gone out, and returns the octets.
    fn applied(&mut self, command: u64) -> Vec<u8> {
        let event = self.wait_for(&format!("command {command} is applied"), |event| {
            matches!(event, SpeakerEvent::Outcome(outcome)
                if outcome.command == CommandId(command)
                    && matches!(outcome.kind, OutcomeKind::Applied { .. }))
        });
        match event {
            SpeakerEvent::Outcome(outcome) => match outcome.kind {
                OutcomeKind::Applied { bytes } => bytes.to_vec(),
                kind => panic!("{kind:?}"),
            },
            event => panic!("{event:?}"),
        }
    }
}

/// A blackhole and a rule in each address family.
fn routes() -> [Route; 4] {
    let syn = FlowSpecComponent::TcpFlags(BitmaskMatch::set_and_clear(0x02, 0x10));
    let tcp = FlowSpecComponent::IpProtocol(NumericMatch::equal(6));
    [
        blackhole("203.0.113.7"),
        blackhole("2001:db8:1::7"),
        ntp_filter("203.0.113.8"),
        flowspec("2001:db8:1::8", [tcp, syn], TrafficFilteringAction::RateLimitBytes(125_000.0)),
    ]
}

/// BIRD's text for one route: from the line that begins with `prefix` to the next route.
fn entry<'a>(routes: &'a str, prefix: &str) -> &'a str {
    let start = routes.find(prefix).unwrap_or_else(|| panic!("no {prefix} in\n{routes}"));
    let rest = &routes[start..];
    let end = rest
        .match_indices('\n')
        .map(|(at, _)| at)
        .find(|at| !rest[at + 1..].starts_with(['\t', ' ']))
        .unwrap_or(rest.len());
    &rest[..end]
}

fn has_all(routes: &str) -> bool {
    ["203.0.113.7/32", "2001:db8:1::7/128", "203.0.113.8/32", "2001:db8:1::8/128"]
        .iter()
        .all(|prefix| routes.contains(prefix))
}

fn has_none(routes: &str) -> bool {
    !routes.contains("203.0.113.") && !routes.contains("2001:db8:1::")
}

fn announce_all(bench: &Bench) {
    for (command, route) in routes().iter().enumerate() {
        bench.announce(command as u64, route);
    }
}

#[test]
fn shows_blackholes_and_rules_until_they_are_withdrawn() {
    if !router::installed("shows_blackholes_and_rules_until_they_are_withdrawn") {
        return;
    }
    // iBGP, and eBGP with an AS number of four octets.
    for (asn, mode, bird) in [
        (AS, ConnectMode::Active, Mode::Passive),
        (4_200_000_001, ConnectMode::Passive, Mode::Both),
    ] {
        let router = Router::start(asn, bird);
        let mut bench = Bench::start(&router, asn, mode);
        announce_all(&bench);
        let shown = router.wait_for_routes("all routes", has_all);
        for prefix in ["203.0.113.7/32", "2001:db8:1::7/128"] {
            let entry = entry(&shown, prefix);
            let community = "BGP.community: (65535,7) (65535,666)";
            assert!(entry.contains(community) && entry.contains("(65535,65281)"), "{entry}");
            assert!(entry.contains("unreachable"), "{entry}");
        }
        for (prefix, rule, action) in [
            ("203.0.113.8/32", "proto 17; sport 123", "(generic, 0x80060000, 0x0)"),
            (
                "2001:db8:1::8/128",
                "next header 6; tcp flags 0x2/0x2 && 0x0/0x10",
                "(generic, 0x80060000, 0x47f42400)",
            ),
        ] {
            let entry = entry(
                &shown,
                &format!("flow{} {{ dst {prefix}", if prefix.contains(':') { 6 } else { 4 }),
            );
            assert!(entry.contains(rule), "{rule}: {entry}");
            assert!(entry.contains(action), "{action}: {entry}");
            assert!(entry.contains("(65535,65281)"), "{entry}");
        }
        for (command, route) in (10..).zip(routes()) {
            bench.withdraw(command, &route);
            assert!(!bench.applied(command).is_empty());
        }
        router.wait_for_routes("no route", has_none);
        assert!(!router.log().contains("<ERR>"), "{}", router.log());
    }
}

#[test]
fn gets_everything_again_after_a_restart() {
    if !router::installed("gets_everything_again_after_a_restart") {
        return;
    }
    let mut router = Router::start(AS, Mode::Both);
    let mut bench = Bench::start(&router, AS, ConnectMode::Both);
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    router.crash();
    bench.wait_for("the session is down", |event| {
        matches!(
            event,
            SpeakerEvent::State { state: tidegate_model::BackendState::Down { .. }, .. }
        )
    });
    // What changes meanwhile is part of it.
    bench.withdraw(20, &routes()[0]);
    bench.announce(21, &blackhole("203.0.113.9"));
    router.resume();
    let shown = router.wait_for_routes("the routes of now", |routes| {
        routes.contains("203.0.113.9/32") && routes.contains("2001:db8:1::8/128")
    });
    assert!(!shown.contains("203.0.113.7/32"), "{shown}");
    bench.applied(21);
}

#[test]
fn drops_everything_when_the_speaker_dies() {
    if !router::installed("drops_everything_when_the_speaker_dies") {
        return;
    }
    let router = Router::start(AS, Mode::Passive);
    let bench = Bench::start(&router, AS, ConnectMode::Active);
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    bench.runtime.shutdown_background();
    router.wait_for_routes("no route", has_none);
}

#[test]
fn is_told_why_at_a_planned_stop() {
    if !router::installed("is_told_why_at_a_planned_stop") {
        return;
    }
    let router = Router::start(AS, Mode::Passive);
    let bench = Bench::start(&router, AS, ConnectMode::Active);
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    bench.runtime.block_on(bench.speaker.shutdown("tidegate stops for an update"));
    router.wait_for_routes("no route", has_none);
    router.wait("the text in the log", |router| {
        router.log().contains("Administrative shutdown: \"tidegate stops for an update\"")
            || router.log().contains("tidegate stops for an update")
    });
    assert_eq!(bench.speaker.peers()[0].session.state, SessionState::Idle);
    assert_eq!(bench.speaker.peers()[0].session.routes, 0);
}

/// Both connect at once, again and again: in the end there is one session, and it holds.
#[test]
fn collides_and_recovers() {
    if !router::installed("collides_and_recovers") {
        return;
    }
    let mut router = Router::start(AS, Mode::Both);
    let bench = Bench::start(&router, AS, ConnectMode::Both);
    announce_all(&bench);
    for _ in 0..3 {
        router.wait_for_routes("all routes", has_all);
        router.crash();
        router.resume();
    }
    router.wait_for_routes("all routes", has_all);
}

/// BIRD asks for the routes again (RFC 2918).
#[test]
fn can_ask_again() {
    if !router::installed("can_ask_again") {
        return;
    }
    let router = Router::start(AS, Mode::Passive);
    let bench = Bench::start(&router, AS, ConnectMode::Active);
    announce_all(&bench);
    router.wait_for_routes("all routes", has_all);
    router.ask("reload in tidegate");
    router.wait("the requests have arrived", |_| {
        bench.speaker.peers()[0].session.counters.received.route_refresh >= 4
    });
    router.wait_for_routes("all routes", has_all);
    assert_eq!(bench.speaker.peers()[0].session.counters.established, 1);
}

#[test]
fn says_what_it_knows_of_a_peer() {
    if !router::installed("says_what_it_knows_of_a_peer") {
        return;
    }
    let mut router = Router::start(AS, Mode::Passive);
    router.crash();
    let mut bench = Bench::start(&router, AS, ConnectMode::Active);
    bench.announce(1, &routes()[0]);
    let event = bench.wait_for("an answer", |event| matches!(event, SpeakerEvent::Outcome(_)));
    let SpeakerEvent::Outcome(outcome) = event else { panic!("{event:?}") };
    assert_eq!(outcome.kind, OutcomeKind::Pending { why: "the session is down".to_owned() });
    router.resume();
    bench.applied(1);
    let status = bench.speaker.peers().remove(0);
    assert_eq!(status.session.state, SessionState::Established);
    assert_eq!(status.session.routes, 1);
    let negotiated = status.session.negotiated.unwrap();
    assert_eq!(negotiated.router_id, ROUTER_ID);
    assert_eq!(negotiated.families, Family::ALL.into());
    assert_eq!(negotiated.hold_time, Duration::from_secs(9));
    let nlris: Vec<_> = bench.speaker.routes(PEER).unwrap().into_iter().map(|r| r.nlri).collect();
    assert_eq!(nlris, [routes()[0].nlri.clone()]);
    let unknown = bench.speaker.announce("nobody", CommandId(2), routes()[0].clone());
    assert_eq!(unknown.unwrap_err().to_string(), "there is no peer named `nobody`");
    // An address that is not ours never leaves.
    bench.announce(3, &blackhole("198.51.100.1"));
    let event = bench.wait_for(
        "a refusal",
        |event| matches!(event, SpeakerEvent::Outcome(outcome) if outcome.command == CommandId(3)),
    );
    let SpeakerEvent::Outcome(outcome) = event else { panic!("{event:?}") };
    assert!(matches!(outcome.kind, OutcomeKind::Rejected { .. }), "{outcome:?}");
    router.wait_for_routes("the blackhole", |routes| routes.contains("203.0.113.7/32"));
    assert!(!router.routes().contains("198.51.100.1"));
}
