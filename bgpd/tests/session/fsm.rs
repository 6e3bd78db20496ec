//! The state machine as a table (RFC 4271 §8): every state, every event, what follows. To be read
//! whenever it changes.
//!
//! Of the 28 events, those that are optional and not here have no row: automatic start and stop
//! (3 to 8: an operator's start holds, and is tried again without end), DelayOpen (12, 20) and the
//! IdleHold timer (13: the wait before a new attempt is the ConnectRetry timer's). 14 and 15, a
//! connection that is looked at before it is taken, are decided where it is accepted.
//!
//! A row is the event, the state after it (`-`: the same), the seconds until the next timer, and what
//! was done. `ours` is the connection that we opened, `theirs` the peer's.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, Session, SessionEvent, SessionState,
};
use tidegate_model::{CommandId, Timestamp};

use crate::bench::{
    ATTRIBUTES, KEEPALIVE, NLRI, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, capabilities, message,
    open_with, update,
};
use crate::support::blackhole;
use crate::world::{address, config, gate};

const PEER_AS: u16 = 65010;
/// Ours is 192.0.2.1.
const HIGHER: [u8; 4] = [192, 0, 2, 2];
const LOWER: [u8; 4] = [192, 0, 2, 0];

/// A session that has come so far by connecting itself.
struct Machine {
    now: Timestamp,
    session: Session,
    refused: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    New,
    Stopped,
    Active,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
}

impl Start {
    const ALL: [(Self, &'static str); 7] = [
        (Self::New, "Idle"),
        (Self::Stopped, "Idle (stopped)"),
        (Self::Active, "Active"),
        (Self::Connect, "Connect"),
        (Self::OpenSent, "OpenSent"),
        (Self::OpenConfirm, "OpenConfirm"),
        (Self::Established, "Established"),
    ];
}

fn open_from(identifier: [u8; 4]) -> Vec<u8> {
    let capabilities = capabilities(PEER_AS);
    let parameters = [&[2, capabilities.len() as u8][..], &capabilities].concat();
    open_with(4, PEER_AS, 9, identifier, &parameters)
}

impl Machine {
    fn new(start: Start) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000);
        let session = Session::new(now, config(0, ConnectMode::Both, 1), gate());
        let mut machine = Self { now, session, refused: None };
        machine.session.handle_announce(CommandId(1), blackhole("203.0.113.7"));
        if start != Start::New {
            machine.session.handle_start(now);
        }
        match start {
            Start::New | Start::Connect => {}
            Start::Stopped => machine.session.handle_stop(now, ""),
            Start::Active => machine.session.handle_connect_failed(now, "refused".to_owned()),
            Start::OpenSent | Start::OpenConfirm | Start::Established => {
                let admitted =
                    machine.session.handle_connected(now, Direction::Outgoing, address(0));
                assert_eq!(admitted, Admission::Admitted);
                if start != Start::OpenSent {
                    machine.give(Direction::Outgoing, &open_from(HIGHER));
                }
                if start == Start::Established {
                    machine.give(Direction::Outgoing, &message(KEEPALIVE, &[]));
                }
            }
        }
        machine.what_followed();
        machine
    }

    fn give(&mut self, direction: Direction, octets: &[u8]) {
        self.session.handle_bytes(self.now, direction, octets);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.session.handle_timeout(self.now);
    }

    /// The peer connects too, and sends this OPEN on that connection.
    fn collide(&mut self, identifier: [u8; 4]) {
        self.connect(THEIRS);
        self.give(THEIRS, &open_from(identifier));
    }

    fn connect(&mut self, direction: Direction) {
        let admission = self.session.handle_connected(self.now, direction, address(0));
        if let Admission::Refused(words) = admission {
            self.refused = Some(words);
        }
    }

    /// The peer talks and does not read.
    fn stall(&mut self, start: Start) {
        // Before that there is nothing to wait for (RFC 9687 §3.1).
        for _ in 0..if start == Start::Established { 10 } else { 0 } {
            for direction in Direction::ALL {
                while self.session.poll_transmit(self.now, direction).is_some() {}
            }
            self.give(Direction::Outgoing, &message(KEEPALIVE, &[]));
            self.wait(Duration::from_secs(3));
        }
    }

    /// In words, what has been done since the last call.
    fn what_followed(&mut self) -> String {
        let refused =
            self.refused.take().map(|words| format!("refuse with {}/{}", words[19], words[20]));
        let mut words: Vec<String> = refused.into_iter().collect();
        loop {
            let before = words.len();
            while let Some(action) = self.session.poll_action() {
                words.push(match action {
                    Action::Connect => "connect".to_owned(),
                    Action::AbortConnect => "abort connecting".to_owned(),
                    Action::Close { direction, last_words: None } => {
                        format!("close {}", name(direction))
                    }
                    Action::Close { direction, last_words: Some(words) } => {
                        format!(
                            "send NOTIFICATION {}/{}, close {}",
                            words[19],
                            words[20],
                            name(direction)
                        )
                    }
                });
            }
            for direction in Direction::ALL {
                while let Some(sent) = self.session.poll_transmit(self.now, direction) {
                    words.push(format!("send {} ({})", kind(&sent), name(direction)));
                    self.session.handle_written(self.now, direction);
                }
            }
            while let Some(event) = self.session.poll_event() {
                match event {
                    SessionEvent::Established => words.push("tell Established".to_owned()),
                    SessionEvent::Down { .. } => words.push("tell Down".to_owned()),
                    SessionEvent::Stopped => words.push("tell Stopped".to_owned()),
                    SessionEvent::Quarantined { .. } => words.push("quarantine".to_owned()),
                    // Routes are another table.
                    SessionEvent::Answer(_) | SessionEvent::Learnt(_) => {}
                }
            }
            if words.len() == before {
                return words.join("; ");
            }
        }
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Outgoing => "ours",
        Direction::Incoming => "theirs",
    }
}

fn kind(sent: &[u8]) -> &'static str {
    match sent[18] {
        OPEN => "OPEN",
        UPDATE if sent.len() == 23 => "End-of-RIB",
        UPDATE if sent[19..21] != [0, 0] => "withdraw",
        UPDATE => "UPDATE",
        KEEPALIVE => "KEEPALIVE",
        ROUTE_REFRESH => "ROUTE-REFRESH",
        _ => "?",
    }
}

type Event = fn(&mut Machine, Start);

const OURS: Direction = Direction::Outgoing;
const THEIRS: Direction = Direction::Incoming;

const EVENTS: [(&str, Event); 21] = [
    (" 1 ManualStart", |m, _| m.session.handle_start(m.now)),
    (" 2 ManualStop", |m, _| m.session.handle_stop(m.now, "")),
    (" 9 ConnectRetryTimer_Expires", |m, _| m.wait(Duration::from_secs(1))),
    ("   the attempt takes too long", |m, _| m.wait(Duration::from_secs(5))),
    ("10 HoldTimer_Expires", |m, start| {
        m.wait(Duration::from_secs(if start == Start::OpenSent { 240 } else { 9 }));
    }),
    ("11 KeepaliveTimer_Expires", |m, _| m.wait(Duration::from_secs(3))),
    ("16 Tcp_CR_Acked (ours)", |m, _| {
        m.connect(OURS);
    }),
    ("17 TcpConnectionConfirmed (theirs)", |m, _| {
        m.connect(THEIRS);
    }),
    ("18 TcpConnectionFails", |m, _| {
        m.session.handle_connect_failed(m.now, "refused".to_owned());
        m.session.handle_closed(m.now, OURS, "reset".to_owned());
    }),
    ("19 BGPOpen", |m, _| m.give(OURS, &open_from(HIGHER))),
    ("21 BGPHeaderErr", |m, _| m.give(OURS, &[0; 19])),
    ("22 BGPOpenMsgErr", |m, _| m.give(OURS, &open_with(3, PEER_AS, 9, HIGHER, &[]))),
    ("23 OpenCollisionDump (ours stays)", |m, _| m.collide(LOWER)),
    ("23 OpenCollisionDump (theirs stays)", |m, _| m.collide(HIGHER)),
    ("24 NotifMsgVerErr", |m, _| m.give(OURS, &message(NOTIFICATION, &[2, 1, 0, 4]))),
    ("25 NotifMsg", |m, _| m.give(OURS, &message(NOTIFICATION, &[6, 4]))),
    ("26 KeepAliveMsg", |m, _| m.give(OURS, &message(KEEPALIVE, &[]))),
    ("27 UpdateMsg", |m, _| m.give(OURS, &update(&[], &ATTRIBUTES, &NLRI))),
    ("28 UpdateMsgErr", |m, _| m.give(OURS, &message(UPDATE, &[0, 9, 0, 0]))),
    ("   ROUTE-REFRESH (RFC 2918)", |m, _| m.give(OURS, &message(ROUTE_REFRESH, &[0, 1, 0, 1]))),
    ("29 SendHoldTimer_Expires", Machine::stall),
];

#[test]
fn the_table_is_as_reviewed() {
    let mut table = String::new();
    for (start, state) in Start::ALL {
        writeln!(table, "{state}").unwrap();
        for (name, event) in EVENTS {
            let mut machine = Machine::new(start);
            event(&mut machine, start);
            let followed = machine.what_followed();
            let next = machine.session.status().state;
            let next = if state.starts_with(next.name()) { "-" } else { next.name() };
            let followed = if followed.is_empty() { "-" } else { &followed };
            let timer = machine.session.poll_timeout().map(|at| at.since(machine.now));
            let timer = timer.map_or("-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
            writeln!(table, "  {name:<35} {next:<11} {timer:>5}  {followed}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

/// From everywhere but the end there is a way to every state.
#[test]
fn every_state_can_be_reached() {
    for (start, state) in Start::ALL {
        let mut machine = Machine::new(start);
        assert!(state.starts_with(machine.session.status().state.name()), "{state}");
        if start == Start::Stopped {
            machine.session.handle_start(machine.now);
            assert_eq!(machine.session.status().state, SessionState::Idle, "it is the end");
            continue;
        }
        machine.session.handle_start(machine.now);
        machine.give(OURS, &message(NOTIFICATION, &[6, 4]));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            seen.insert(machine.session.status().state);
            machine.wait(Duration::from_secs(1));
            while let Some(action) = machine.session.poll_action() {
                if action == Action::Connect {
                    seen.insert(machine.session.status().state);
                    machine.session.handle_connected(machine.now, OURS, address(0));
                    seen.insert(machine.session.status().state);
                    machine.give(OURS, &open_from(HIGHER));
                    seen.insert(machine.session.status().state);
                    machine.give(OURS, &message(KEEPALIVE, &[]));
                }
            }
        }
        machine.what_followed();
        machine.session.handle_stop(machine.now, "");
        machine.what_followed();
        seen.insert(machine.session.status().state);
        let all = [
            SessionState::Idle,
            SessionState::Connect,
            SessionState::OpenSent,
            SessionState::OpenConfirm,
            SessionState::Established,
        ];
        assert!(all.iter().all(|state| seen.contains(state)), "{state}: {seen:?}");
    }
}
