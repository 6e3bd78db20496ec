//! One peer's BGP session, without sockets or clocks (RFC 4271 §8).
//!
//! A driver tells the [`Session`] what happened (`handle_*`) and then carries out everything that
//! it wants: [`Session::poll_action`] for connections, [`Session::poll_transmit`] for octets,
//! [`Session::poll_event`] for news, [`Session::poll_timeout`] for the next wake-up. Time only
//! comes in as an argument.
//!
//! ```text
//!             handle_start                       handle_stop: withdraw all, then Cease/2
//!   +------+ ------------> +--------+             from any state
//!   | Idle |               | Active | <----------------------------------------------+
//!   +------+ <- - - - - -  +--------+                                                |
//!                            |    ^ connect fails, or takes longer than              |
//!       ConnectRetry expires |    | CONNECT_TIMEOUT: wait 1, 2, 4, 8, 10, 10 ... s   |
//!         (not if passive)   v    | less up to a quarter at random                   |
//!                          +---------+                                               |
//!                          | Connect |                                               |
//!                          +---------+                                               |
//!          connected (by us) |    connected (by the peer; from Active or Connect)    |
//!                            v    v                                                  |
//!   per connection:        +----------+  malformed or unacceptable OPEN: 1/x, 2/x    |
//!                          | OpenSent |  anything else: 5/1; hold timer (240 s): 4/0 |
//!            sends OPEN    +----------+ -------------------------------------------->+
//!                  valid OPEN |   collision: see below                               |
//!                             v                                                      |
//!                          +-------------+  no KEEPALIVE: 5/2; hold timer: 4/0       |
//!       sends KEEPALIVE    | OpenConfirm | ----------------------------------------->+
//!                          +-------------+                                           |
//!                   KEEPALIVE |                                                      |
//!                             v                                                      |
//!   sends the Adj-RIB-Out  +-------------+  hold timer: 4/0; second OPEN: 5/3        |
//!   and End-of-RIB         | Established |  UPDATE that RFC 7606 gives up: 3/x       |
//!                          +-------------+  peer does not read for SEND_HOLD_FACTOR  |
//!                                           hold times (RFC 9687)                    |
//!                                           connection or NOTIFICATION lost -------->+
//! ```
//!
//! Every state also ends with the TCP connection, with a NOTIFICATION from the peer, or with a
//! message that can not be framed (1/x, 7/1).
//!
//! **Collision** (RFC 4271 §6.8). A session has up to two connections, one opened by each side.
//! When a valid OPEN arrives on one while the other is in OpenConfirm, the one that the end with
//! the higher BGP Identifier (on a tie: the higher AS, RFC 6286) opened stays. If the other is
//! Established, that one stays. The loser gets Cease/7.
//!
//! **What leaves.** Updates are not queued: each is drawn from the [`AdjRibOut`] when the socket
//! has room for it, withdraws before announcements, and passes the [`Gate`] there. OPEN and
//! KEEPALIVE go before any UPDATE. So at most [`MAX_IN_FLIGHT`] octets stand before a withdraw.
//!
//! Absent on purpose: messages of more than 4096 octets (they are taken, RFC 8654, never sent), and
//! anything that would pass a route of the peer on.

#![deny(clippy::indexing_slicing)]

mod collision;
mod commands;
mod config;
mod connection;
mod delivery;
mod dump;
mod events;
mod framing;
mod graceful;
mod hunt;
mod options;
mod quarantine;
mod received;
mod refresh;
mod retry;
mod slots;
mod status;
mod timers;
mod transmit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustbgpd_wire::notification::cease_subcode;
use tidegate_model::{Route, Timestamp};

use crate::egress::Gate;
use crate::family::Family;
use crate::parameters::SessionParameters;
use crate::rib::{AdjRibOut, Sent};

use connection::Connection;
use delivery::Unconfirmed;
use dump::Recorder;
use graceful::Waiting;
use quarantine::Quarantine;
use refresh::Refresh;
use retry::ConnectRetry;

pub use collision::Direction;
pub use commands::as_announced;
pub use config::{ConnectMode, SessionConfig};
pub use delivery::{Delivery, MOST_UNCONFIRMED};
pub use dump::{Dump, DumpedMessage, Flow, MAX_DUMP, MrtEnds};
pub use events::{Action, Admission, SessionEvent};
pub use graceful::{GracefulRestart, MAX_HELPER_TIME, MAX_RESTART_TIME, PeerRestart};
pub use options::{Role, SessionOptions};
pub use quarantine::{
    CONTROL_FACTOR, CONTROL_TIME, DOUBT_LIFETIME, LONGEST_CONTROL_TIME, LONGEST_SETTLE_TIME,
    MOST_OFFENDERS, MOST_RESETS, SETTLE_TIME, SUSPICION_WINDOW, TRUCE, UNEXPLAINED_LOSSES,
};
pub use refresh::REFRESH_INTERVAL;
pub use status::{
    Counters, MessageCounters, Negotiated, SessionError, SessionState, SessionStatus,
};
pub(crate) use timers::send_hold;

/// An attempt to connect that takes longer is given up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most octets of updates that are handed out and not yet written to the socket. The message that
/// crosses the line still goes.
pub const MAX_IN_FLIGHT: usize = 16 * 1024;
/// After so many hold times in which the socket took nothing the session is given up: a withdraw
/// that is stuck is a route left behind. RFC 9687 §6 would wait 8 minutes.
pub const SEND_HOLD_FACTOR: u32 = 3;
/// The same where the hold time is zero.
pub const SEND_HOLD_WITHOUT_KEEPALIVES: Duration = Duration::from_secs(480);
/// A session that lasted so long is not to blame when it ends: the next attempt waits the
/// shortest time again.
pub const STABLE: Duration = Duration::from_secs(10);
/// How long a planned stop waits for its withdraws to be written.
pub const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started yet. Commands are taken.
    New,
    Running,
    /// Withdrawing everything, until this deadline.
    Stopping(Timestamp),
    /// For good.
    Stopped,
}

/// Our attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    Off,
    /// The next one is then.
    Waiting(Timestamp),
    /// One is under way and is given up then.
    Dialling(Timestamp),
}

#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// Updates handed out and not yet written.
    in_flight: Vec<Sent>,
    in_flight_octets: usize,
    /// Octets handed out since the connection was opened.
    handed_out: u64,
    unconfirmed: Unconfirmed,
    /// Since when something waits to be written.
    writing_since: Option<Timestamp>,
}

#[derive(Debug)]
struct Up {
    direction: Direction,
    parameters: SessionParameters,
    /// The gate, guarding our end of this session too: a policy cannot know an address that the
    /// routing table chose.
    gate: Gate,
    negotiated: Negotiated,
    since: Timestamp,
    refresh: Refresh,
}

/// The session with one peer.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    gate: Arc<Gate>,
    rib: AdjRibOut,
    quarantine: Quarantine,
    phase: Phase,
    stop_text: String,
    dial: Dial,
    retry: ConnectRetry,
    outgoing: Option<Slot>,
    incoming: Option<Slot>,
    up: Option<Up>,
    actions: VecDeque<Action>,
    events: VecDeque<SessionEvent>,
    counters: Counters,
    shown_state: (SessionState, Timestamp),
    down: String,
    /// Whether the wanted routes are complete, as far as a peer may have kept them.
    replayed: bool,
    /// Set while routes of the peer are kept that it has not announced on this session.
    waiting: Option<Waiting>,
    /// Set while messages are recorded.
    recorder: Option<Recorder>,
    last_error_sent: Option<SessionError>,
    last_error_received: Option<SessionError>,
}

impl Session {
    /// A session in Idle.
    #[must_use]
    pub fn new(now: Timestamp, config: SessionConfig, gate: Arc<Gate>) -> Self {
        Self {
            rib: AdjRibOut::new(config.max_routes),
            retry: ConnectRetry::new(config.seed),
            quarantine: Quarantine::new(now),
            config,
            gate,
            phase: Phase::New,
            stop_text: String::new(),
            dial: Dial::Off,
            outgoing: None,
            incoming: None,
            up: None,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            shown_state: (SessionState::Idle, now),
            down: "not started".to_owned(),
            replayed: false,
            waiting: None,
            recorder: None,
            last_error_sent: None,
            last_error_received: None,
        }
    }

    /// Lets the session come up. A session that was stopped stays so.
    pub fn handle_start(&mut self, now: Timestamp) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Running;
        self.down = "not connected yet".to_owned();
        self.events.push_back(SessionEvent::Down { why: self.down.clone() });
        if self.config.mode != ConnectMode::Passive {
            self.dial = Dial::Waiting(now);
        }
        self.handle_timeout(now);
    }

    /// A planned stop: withdraws every route, then closes with Cease, Administrative Shutdown and
    /// `text` (RFC 9003, cut to 128 octets). [`SessionEvent::Stopped`] tells when it is done, after
    /// [`STOP_TIMEOUT`] at the latest.
    pub fn handle_stop(&mut self, now: Timestamp, text: &str) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Stopped) {
            return;
        }
        text.clone_into(&mut self.stop_text);
        self.phase = Phase::Stopping(now + STOP_TIMEOUT);
        self.rib.withdraw_all();
        self.quarantine.clear();
        let up = self.up.as_ref().map(|up| up.direction);
        for direction in Direction::ALL {
            if up != Some(direction) {
                self.cease(now, direction, cease_subcode::ADMINISTRATIVE_SHUTDOWN);
            }
        }
        self.settle(now);
    }

    /// Everything that was wanted before the process restarted is wanted again, by commands: what a
    /// peer has kept ([`GracefulRestart::Restarting`]) is true until it hears otherwise. Without this
    /// it drops what it kept as soon as the session is back.
    pub fn handle_replayed(&mut self) {
        self.replayed = true;
    }

    /// From now on updates are judged by `gate`. What has left already is judged again, by sending
    /// it again: what `gate` refuses is withdrawn.
    pub fn handle_gate(&mut self, gate: Arc<Gate>) {
        if let Some(up) = &mut self.up {
            up.gate = gate.guarding(up.parameters.local_address);
        }
        self.gate = gate;
        for family in Family::ALL {
            self.rib.resend_family(family);
        }
    }

    /// The next thing for the driver to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front().or_else(|| self.rib.poll_answer().map(SessionEvent::Answer))
    }

    /// What is known of the session.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        let (state, since) = self.shown_state;
        SessionStatus {
            state,
            since,
            negotiated: self.up.as_ref().map(|up| up.negotiated.clone()),
            counters: self.counters,
            routes: self.rib.routes().count() + self.quarantine.withheld().count(),
            unconfirmed_withdraws: self.unconfirmed_withdraws().len(),
            withheld: self.quarantine.withheld().count(),
            quarantined: self.quarantine.offenders().count(),
            last_error_sent: self.last_error_sent.clone(),
            last_error_received: self.last_error_received.clone(),
            down: self.up.is_none().then(|| self.down.clone()),
        }
    }

    /// The wanted routes, in order of their NLRI. Those that are withheld are among them, those that
    /// are quarantined are not.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        let mut routes: Vec<&Route> = self.rib.routes().chain(self.quarantine.withheld()).collect();
        routes.sort_by(|one, other| one.nlri.cmp(&other.nlri));
        routes.into_iter()
    }
}
