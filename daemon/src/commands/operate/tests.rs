use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::screen::{Shown, draw};
use super::{story, text};
use crate::api::v1;
use crate::incident::sample;

/// 2026-08-22T12:00:00Z.
const NOON: i64 = 1_787_400_000;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOON + seconds, nanos: 0 })
}

fn rate(packets: u64, bits: u64) -> Option<v1::Rate> {
    Some(v1::Rate { packets, bits })
}

/// Without styles, as it is in a pipe.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn backend(name: &str, state: v1::BackendState, why: &str) -> v1::Backend {
    v1::Backend {
        name: name.to_owned(),
        state: state.into(),
        why: why.to_owned(),
        since: at(-7_200),
        mitigations: 2,
        applied: u32::from(why.is_empty()),
    }
}

fn status() -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        version: "0.1.0".to_owned(),
        started: at(-86_400),
        interfaces: vec!["eth1".to_owned()],
        policy_commit: "2526821a0c1d".to_owned(),
        policy_directory: "/etc/tidegate/policy".to_owned(),
        attacks: 1,
        mitigations: 4,
        applied: 1,
        proposals: 1,
        backends: vec![
            backend("peer border1", v1::BackendState::Up, ""),
            backend("peer border2", v1::BackendState::Down, "Hold Timer Expired\u{1b}[2J"),
            backend("kernel", v1::BackendState::Unspecified, ""),
        ],
        panic: None,
        packets: 123_456_789,
        lost: 12,
        blind: false,
        caller: "alice (operator)".to_owned(),
    }
}

fn attacks() -> Vec<v1::Attack> {
    let attack = v1::Attack {
        id: "attack-7".to_owned(),
        target: "203.0.113.7/32".to_owned(),
        group: "web".to_owned(),
        vector: "dns-amplification".to_owned(),
        confidence: 0.97,
        severity: v1::Severity::High.into(),
        onset: at(-95),
        current: rate(410_000, 4_900_000_000),
        peak: rate(420_000, 5_000_000_000),
        excess: 42.0,
        sources: 5_123,
        response: "filter".to_owned(),
        ..v1::Attack::default()
    };
    vec![
        attack.clone(),
        v1::Attack {
            id: "reported-0".to_owned(),
            target: "2001:db8::7/128".to_owned(),
            vector: "syn-flood".to_owned(),
            severity: v1::Severity::Low.into(),
            response: String::new(),
            proposed: vec!["blackhole".to_owned()],
            ..attack.clone()
        },
        v1::Attack { id: "attack-6".to_owned(), held_by: "bob".to_owned(), over: true, ..attack },
    ]
}

fn mitigations() -> v1::ListMitigationsResponse {
    let rule = v1::Mitigation {
        backend: "peer border1".to_owned(),
        kind: v1::MitigationKind::Flowspec.into(),
        nlri: "destination 203.0.113.7/32, protocol =17, source-port =53".to_owned(),
        state: v1::MitigationState::Applied.into(),
        may_be_held: true,
        since: at(-90),
        not_after: at(3_500),
        attacks: vec!["attack-7".to_owned()],
        response: "filter".to_owned(),
        reason: "dns-amplification at 42 times its threshold".to_owned(),
        route: Some(v1::Route { actions: vec!["discard".to_owned()], ..v1::Route::default() }),
        ..v1::Mitigation::default()
    };
    let failing = v1::Mitigation {
        backend: "peer border2".to_owned(),
        state: v1::MitigationState::Pending.into(),
        why: "no session".to_owned(),
        ..rule.clone()
    };
    let proposed = v1::Mitigation {
        kind: v1::MitigationKind::Blackhole.into(),
        nlri: "2001:db8::7/128".to_owned(),
        state: v1::MitigationState::Proposed.into(),
        why: "waits for approval".to_owned(),
        not_after: None,
        attacks: vec!["reported-0".to_owned()],
        route: None,
        ..rule.clone()
    };
    v1::ListMitigationsResponse {
        mitigations: vec![rule, failing, proposed],
        holds: vec![v1::Hold { attack: "attack-6".to_owned(), by: "bob".to_owned() }],
    }
}

fn peers() -> v1::ListPeersResponse {
    let messages = v1::Messages { open: 1, update: 7, keepalive: 240, ..v1::Messages::default() };
    let up = v1::Peer {
        name: "border1".to_owned(),
        address: "192.0.2.1".to_owned(),
        asn: 65_001,
        state: "Established".to_owned(),
        in_state_for: Some(prost_types::Duration { seconds: 7_200, nanos: 0 }),
        negotiated: Some(v1::Negotiated {
            router_id: "192.0.2.1".to_owned(),
            hold_time: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
            families: vec!["ipv4-unicast".to_owned(), "ipv4-flowspec".to_owned()],
            four_octet_as: true,
            route_refresh: true,
            ..v1::Negotiated::default()
        }),
        sent: Some(messages),
        received: Some(messages),
        routes: 2,
        established: 1,
        ..v1::Peer::default()
    };
    let down = v1::Peer {
        name: "border2".to_owned(),
        address: "2001:db8:1::1".to_owned(),
        state: "Active".to_owned(),
        down: "connection refused".to_owned(),
        negotiated: None,
        last_error_received: Some(v1::SessionError {
            code: 6,
            subcode: 2,
            text: "Administrative Shutdown: maintenance".to_owned(),
            age: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        }),
        ..up.clone()
    };
    v1::ListPeersResponse { peers: vec![up, down] }
}

fn incidents() -> v1::ListIncidentsResponse {
    let first = v1::Incident {
        id: "20260822T120000.000Z-7".to_owned(),
        attack: "attack-7".to_owned(),
        target: "203.0.113.7/32".to_owned(),
        status: v1::IncidentStatus::Active.into(),
        severity: v1::Severity::High.into(),
        vector: "dns-amplification".to_owned(),
        peak: rate(420_000, 5_000_000_000),
        ..v1::Incident::default()
    };
    let second = v1::Incident {
        id: "20260822T110000.000Z-6".to_owned(),
        status: v1::IncidentStatus::Closed.into(),
        severity: v1::Severity::Low.into(),
        vector: "syn-flood".to_owned(),
        ..first.clone()
    };
    v1::ListIncidentsResponse { incidents: vec![first, second] }
}

#[test]
fn how_it_is() {
    insta::assert_snapshot!(plain(&text::status(&status(), NOON, 80)));
}

#[test]
fn how_it_is_in_a_panic() {
    let panic = v1::PanicState {
        by: "alice".to_owned(),
        reason: "routes of a customer are gone".to_owned(),
        since: at(-30),
    };
    let status = v1::GetStatusResponse { panic: Some(panic), blind: true, ..status() };
    insta::assert_snapshot!(plain(&text::status(&status, NOON, 80)));
}

#[test]
fn lists_fit_the_terminal() {
    insta::assert_snapshot!("incidents", plain(&text::incidents(&incidents(), 80)));
    insta::assert_snapshot!("mitigations", plain(&text::mitigations(&mitigations(), NOON, 80)));
    insta::assert_snapshot!("peers", plain(&text::peers(&peers(), 80)));
    insta::assert_snapshot!("peer", plain(&text::peer(&peers().peers[1])));
    for lines in [
        text::incidents(&incidents(), 80),
        text::peers(&peers(), 80),
        text::mitigations(&mitigations(), NOON, 80),
    ] {
        for line in plain(&lines).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let none = [
        text::incidents(&v1::ListIncidentsResponse::default(), 80),
        text::mitigations(&v1::ListMitigationsResponse::default(), NOON, 80),
        text::peers(&v1::ListPeersResponse::default(), 80),
    ];
    insta::assert_snapshot!(plain(&none.concat()));
}

#[test]
fn a_peers_routes() {
    let out = v1::ListAdjRibOutResponse {
        routes: vec![v1::AdjRibOutRoute {
            kind: v1::MitigationKind::Blackhole.into(),
            nlri: "203.0.113.7/32".to_owned(),
            route: Some(v1::Route {
                next_hop: "192.0.2.1".to_owned(),
                communities: vec!["65535:666".to_owned(), "65535:65281".to_owned()],
                ..v1::Route::default()
            }),
            delivery: v1::Delivery::Confirmed.into(),
        }],
        unconfirmed_withdraws: vec!["203.0.113.8/32".to_owned()],
    };
    let received = v1::ListReceivedRoutesResponse {
        routes: vec![v1::ReceivedRoute {
            nlri: "destination 203.0.113.0/24, protocol =17".to_owned(),
            neighbor_as: 65_001,
            verdict: "infeasible: there is no unicast route to its destination".to_owned(),
            actions: vec!["discard".to_owned()],
            ..v1::ReceivedRoute::default()
        }],
        omitted: 3,
    };
    let text = text::adj_rib_out(&out, 80) + &text::received(&received, 80);
    insta::assert_snapshot!(plain(&text));
}

#[test]
fn what_orders_bring() {
    let order = v1::OrderResponse { attack: "attack-7".to_owned(), mitigations: Vec::new() };
    let panics = [(0, 0), (1, 0), (12, 3)].map(|(withdrawing, unconfirmed)| {
        text::panicked(&v1::PanicResponse { withdrawing, unconfirmed }, 80)
    });
    let audit = v1::AuditResponse {
        backends: vec![
            v1::BackendAudit {
                backend: "peer border1".to_owned(),
                answered: true,
                matching: 2,
                missing: vec!["203.0.113.7/32".to_owned()],
                ..v1::BackendAudit::default()
            },
            v1::BackendAudit {
                backend: "peer border2".to_owned(),
                why: "it is down: connection refused".to_owned(),
                ..v1::BackendAudit::default()
            },
        ],
        clean: false,
    };
    let text = text::order(&order, "approved", 80) + &panics.concat() + &text::audit(&audit, 80);
    insta::assert_snapshot!(plain(&text));
}

#[test]
fn the_story_of_an_attack() {
    insta::assert_snapshot!("story_active", plain(&story::tell(&sample::incident(), 80)));
    insta::assert_snapshot!("story_closed", plain(&story::tell(&sample::closed(), 80)));
}

fn top() -> v1::GetTopResponse {
    let target = |address: &str, packets: u64, attack: &str| v1::TargetRate {
        target: address.to_owned(),
        unasked: rate(packets, packets * 8_000),
        asked: rate(1_200, 9_600_000),
        attack: attack.to_owned(),
    };
    v1::GetTopResponse {
        time: at(0),
        targets: vec![
            target("203.0.113.7", 410_000, "attack-7"),
            target("203.0.113.80", 120, ""),
            target("2001:db8::7", 75_000, "reported-0"),
        ],
        attacks: attacks(),
        captured: rate(500_000, 5_100_000_000),
        lost: 12,
        blind: false,
    }
}

fn screen(shown: &Shown, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, shown, NOON)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_live_screen() {
    let shown = Shown { status: status(), top: top(), mitigations: mitigations(), trouble: None };
    insta::assert_snapshot!("top_80x24", screen(&shown, 80, 24));
    insta::assert_snapshot!("top_nothing", screen(&Shown::default(), 80, 24));
    insta::assert_snapshot!("top_pipe", text::top(&top(), NOON, 80));
    // Whatever the terminal is, nothing panics.
    for (width, height) in [(1, 1), (20, 5), (80, 10), (300, 100)] {
        screen(&shown, width, height);
    }
}

#[test]
fn numbers_are_short() {
    assert_eq!(text::thousands(1_234_567), "1,234,567");
    assert_eq!([0, 999, 1000].map(text::thousands), ["0", "999", "1,000"]);
    let spans = [-5, 0, 119, 120, 7_200, 172_800].map(text::short);
    assert_eq!(spans, ["0 s", "0 s", "119 s", "2 min", "2 h", "2 d"]);
}
