//! A session whose peer is the input.

#![allow(dead_code, reason = "no target uses all of it")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::egress::{Gate, GatePolicy};
use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, Role, Session, SessionConfig, SessionEvent,
    SessionOptions, SessionState, as_announced,
};
use tidegate_model::{
    CommandId, Community, Nlri, OutcomeKind, OwnedSpace, Prefix, Route, Timestamp,
};

const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000);
const OUR_AS: u16 = 65010;
const HEADER: usize = 19;
const OPEN: u8 = 1;
const KEEPALIVE: u8 = 4;

/// Bits of the octet that configures a session.
mod bit {
    pub(super) const EXTERNAL: u8 = 0x01;
    pub(super) const TWO_OCTET_AS: u8 = 0x02;
    pub(super) const LONG_MESSAGES: u8 = 0x04;
    pub(super) const STRICT: u8 = 0x08;
}

/// One message with this type and body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// Everything that a session did.
#[derive(Debug, PartialEq)]
pub(crate) struct Deeds {
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) actions: Vec<Action>,
    pub(crate) events: Vec<SessionEvent>,
    pub(crate) state: SessionState,
}

pub(crate) struct Peer {
    pub(crate) session: Session,
    mode: u8,
}

impl Peer {
    /// A session that waits for an OPEN and wants [`route`] at its peer. `mode` says how it is
    /// configured.
    pub(crate) fn new(mode: u8) -> Self {
        let config = SessionConfig {
            local_as: u32::from(OUR_AS),
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            peer_as: u32::from(peer_as(mode)),
            families: Family::ALL.into(),
            hold_time: Duration::from_secs(90),
            mode: ConnectMode::Passive,
            max_routes: 8,
            options: SessionOptions {
                role: (mode & bit::STRICT != 0).then_some(Role::Customer),
                four_octet_as: mode & bit::TWO_OCTET_AS == 0,
                extended_messages: mode & bit::LONG_MESSAGES != 0,
                ..SessionOptions::default()
            },
            seed: 1,
        };
        let space = OwnedSpace { owned: vec![target()], never_touch: Vec::new() };
        let gate = Gate::new(GatePolicy { space, ..GatePolicy::default() });
        let mut session = Session::new(NOW, config, Arc::new(gate));
        session.handle_announce(CommandId(1), route());
        session.handle_start(NOW);
        let ours = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(session.handle_connected(NOW, Direction::Incoming, ours), Admission::Admitted);
        Self { session, mode }
    }

    /// The same, in Established and with all routes sent.
    pub(crate) fn established(mode: u8) -> Self {
        let mut peer = Self::new(mode);
        let [high, low] = peer_as(mode).to_be_bytes();
        // Four families, route refresh, extended messages, 4-octet AS.
        let mut capabilities = vec![2, 0, 6, 0, 65, 4, 0, 0, high, low];
        for (afi, safi) in [(1, 1), (2, 1), (1, 133), (2, 133)] {
            capabilities.extend([1, 4, 0, afi, 0, safi]);
        }
        let length = u8::try_from(capabilities.len()).unwrap();
        let mut body = vec![4, high, low, 0, 90, 192, 0, 2, 2, length + 2, 2, length];
        body.extend(capabilities);
        peer.give(&message(OPEN, &body));
        peer.give(&message(KEEPALIVE, &[]));
        let deeds = peer.deeds();
        assert_eq!(deeds.state, SessionState::Established, "mode {}: {deeds:?}", peer.mode);
        assert!(deeds.sent.len() >= 3, "OPEN, KEEPALIVE and the route: {deeds:?}");
        peer
    }

    pub(crate) fn give(&mut self, octets: &[u8]) {
        self.session.handle_bytes(NOW, Direction::Incoming, octets);
    }

    /// What it did since the last call.
    pub(crate) fn deeds(&mut self) -> Deeds {
        let mut sent = Vec::new();
        while let Some(message) = self.session.poll_transmit(NOW, Direction::Incoming) {
            sent.push(message);
            self.session.handle_written(NOW, Direction::Incoming);
        }
        Deeds {
            sent,
            actions: std::iter::from_fn(|| self.session.poll_action()).collect(),
            events: std::iter::from_fn(|| self.session.poll_event()).collect(),
            state: self.session.status().state,
        }
    }

    /// Whatever the peer says, the connection ends in one of two ways or goes on, and what was
    /// wanted is still wanted, or said to be given up: the peer has no family for it, or said that it
    /// could not take it.
    pub(crate) fn check(&self, deeds: &Deeds) {
        let given_up = deeds.events.iter().any(|event| match event {
            SessionEvent::Answer(answer) => matches!(answer.kind, OutcomeKind::Rejected { .. }),
            _ => false,
        });
        let wanted = self.session.routes().eq([&as_announced(route())]);
        assert!(wanted != given_up, "a wanted route is gone: {deeds:?}");
        for sent in &deeds.sent {
            assert!((HEADER..=4096).contains(&sent.len()), "{sent:02x?}");
        }
        let up = deeds.state == SessionState::Established;
        match deeds.actions.as_slice() {
            [] => {}
            [Action::Close { direction: Direction::Incoming, last_words }] => {
                assert!(!up, "closed and up: {deeds:?}");
                if let Some(words) = last_words {
                    assert!((21..=4096).contains(&words.len()), "{words:02x?}");
                    assert_eq!(words[HEADER - 1], 3, "{words:02x?}");
                    assert_eq!(words[16..18], (words.len() as u16).to_be_bytes());
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

fn peer_as(mode: u8) -> u16 {
    if mode & bit::EXTERNAL == 0 { OUR_AS } else { 65001 }
}

fn target() -> Prefix {
    Prefix::host(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)))
}

/// A black hole.
pub(crate) fn route() -> Route {
    Route {
        nlri: Nlri::Unicast(target()),
        next_hop: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: Vec::new(),
    }
}
