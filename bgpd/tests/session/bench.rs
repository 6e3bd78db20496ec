//! A session whose peer is the test, and octets to give it.

use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, Session, SessionConfig, SessionState,
};
use tidegate_model::Timestamp;

use crate::world::{address, config, gate};

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

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
        let now = Timestamp::from_nanos(1_000_000_000);
        let mut session = Session::new(now, config, gate());
        session.handle_start(now);
        let admission = session.handle_connected(now, Direction::Incoming, address(0));
        assert_eq!(admission, Admission::Admitted);
        Self { now, session }
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

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    lying_message(kind, 19 + body.len() as u16, body)
}

/// A message whose length field is not its length.
pub(crate) fn lying_message(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// OPEN with one optional parameter of type 2 that holds `capabilities`.
pub(crate) fn open(asn: u16, capabilities: &[u8]) -> Vec<u8> {
    let mut parameters = vec![2, capabilities.len() as u8];
    parameters.extend(capabilities);
    open_with(4, asn, 9, [192, 0, 2, 2], &parameters)
}

pub(crate) fn open_with(
    version: u8,
    asn: u16,
    hold: u16,
    id: [u8; 4],
    parameters: &[u8],
) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id);
    body.push(parameters.len() as u8);
    body.extend(parameters);
    message(OPEN, &body)
}

/// IPv4 unicast, route refresh, 4-octet AS.
pub(crate) fn capabilities(asn: u16) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    vec![1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, high, low]
}

pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// ORIGIN, AS_PATH (65001), NEXT_HOP.
pub(crate) const ATTRIBUTES: [u8; 20] =
    [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 2];
pub(crate) const NLRI: [u8; 4] = [24, 198, 51, 100];
