//! A session whose peer is the test, and octets to give it.

use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, Session, SessionConfig, SessionState,
};
use tidegate_model::Timestamp;

pub(crate) use crate::octets::*;
use crate::world::{address, config, gate};

/// What became of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// It stays.
    Stays(SessionState),
    /// NOTIFICATION with this code and subcode.
    Reset(u8, u8),
    /// Closed without an answer.
    Closed,
}

/// A session whose peer is the test.
pub(crate) struct Bench {
    pub(crate) now: Timestamp,
    pub(crate) session: Session,
}

impl Bench {
    /// A session in `state`, internal (both in AS 65010) or external (the peer in AS 65001).
    pub(crate) fn new(state: SessionState, peer_as: u16) -> Self {
        let mut config = config(0, ConnectMode::Passive, 1);
        config.peer_as = u32::from(peer_as);
        let mut bench = Self::with(config);
        if state >= SessionState::OpenConfirm {
            bench.give(&open(peer_as, &capabilities(peer_as)));
        }
        if state >= SessionState::Established {
            bench.give(&message(KEEPALIVE, &[]));
        }
        bench.drain();
        assert_eq!(bench.session.status().state, state);
        bench
    }

    /// A session that waits for an OPEN.
    pub(crate) fn with(config: SessionConfig) -> Self {
        Self::prepared(config, |_| {})
    }

    /// The same, after something was done to the session before its start.
    pub(crate) fn prepared(config: SessionConfig, prepare: impl FnOnce(&mut Session)) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000);
        let mut session = Session::new(now, config, gate());
        prepare(&mut session);
        session.handle_start(now);
        let mut bench = Self { now, session };
        bench.connect();
        bench
    }

    fn connect(&mut self) {
        let admission = self.session.handle_connected(self.now, Direction::Incoming, address(0));
        assert_eq!(admission, Admission::Admitted);
    }

    /// The connection breaks, and the peer connects again.
    pub(crate) fn reconnect(&mut self) {
        self.session.handle_closed(self.now, Direction::Incoming, "broken".to_owned());
        while self.session.poll_action().is_some() {}
        self.connect();
    }

    pub(crate) fn give(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(self.now, Direction::Incoming, bytes);
    }

    /// Everything that the session sends now.
    pub(crate) fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(message) = self.session.poll_transmit(self.now, Direction::Incoming) {
            sent.push(message);
            self.session.handle_written(self.now, Direction::Incoming);
        }
        sent
    }

    pub(crate) fn reaction(&mut self) -> Reaction {
        match self.session.poll_action() {
            None => Reaction::Stays(self.session.status().state),
            Some(Action::Close { last_words: None, .. }) => Reaction::Closed,
            Some(Action::Close { last_words: Some(message), .. }) => {
                assert_eq!(message[18], NOTIFICATION);
                Reaction::Reset(message[19], message[20])
            }
            Some(action) => panic!("{action:?}"),
        }
    }
}
