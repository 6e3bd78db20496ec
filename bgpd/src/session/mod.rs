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
//! Absent on purpose: Graceful Restart (a peer must drop our routes when we are gone), messages of
//! more than 4096 octets (they are taken, RFC 8654, never sent), an Adj-RIB-In: routes of the peer
//! are counted and dropped.

#![deny(clippy::indexing_slicing)]

mod collision;
mod commands;
mod config;
mod connection;
mod framing;
mod hunt;
mod options;
mod quarantine;
mod received;
mod refresh;
mod retry;
mod status;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::NegotiatedSession;
use rustbgpd_wire::notification::{cease_subcode, encode_shutdown_communication};
use rustbgpd_wire::{Message, NotificationCode, NotificationMessage};
use tidegate_model::{Nlri, Route, Timestamp};

use crate::egress::Gate;
use crate::family::Family;
use crate::parameters::SessionParameters;
use crate::rib::{AdjRibOut, Answer, Sent, SentKind};

use collision::{Identity, survivor};
use connection::{Closing, Connection, Input, Origin, Step};
use quarantine::Quarantine;
use refresh::Refresh;
use retry::ConnectRetry;

pub use collision::Direction;
pub use config::{ConnectMode, SessionConfig};
pub use options::{Role, SessionOptions};
pub use quarantine::{
    LONGEST_SETTLE_TIME, MOST_OFFENDERS, MOST_RESETS, SETTLE_TIME, SUSPICION_WINDOW,
    UNEXPLAINED_LOSSES,
};
pub use refresh::REFRESH_INTERVAL;
pub use status::{
    Counters, MessageCounters, Negotiated, SessionError, SessionState, SessionStatus,
};

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

/// Something that only a driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the peer, and tell by [`Session::handle_connected`] or
    /// [`Session::handle_connect_failed`] what came of it.
    Connect,
    /// Give the attempt up. Nothing is to be told of it.
    AbortConnect,
    /// Close this connection, after what was polled for it and `last_words` are written, or at
    /// once if that takes long. Nothing is to be told of it.
    Close {
        /// Which one.
        direction: Direction,
        /// A NOTIFICATION.
        last_words: Option<Vec<u8>>,
    },
}

/// News of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It is up.
    Established,
    /// It is not up (any more).
    Down {
        /// For people.
        why: String,
    },
    /// What became of a command.
    Answer(Answer),
    /// This route made the peer end the session. Its command has been answered with `Rejected`, and
    /// it is not sent again until it has been withdrawn and announced anew.
    Quarantined {
        /// The route.
        nlri: Nlri,
        /// For people: with the NOTIFICATION, if there was one.
        why: String,
    },
    /// A planned stop is complete, and every connection given up by [`Action::Close`].
    Stopped,
}

/// Whether a connection may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may: give its octets to [`Session::handle_bytes`].
    Admitted,
    /// It may not: write this NOTIFICATION and close it.
    Refused(Vec<u8>),
}

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

/// What an established session has to say.
enum Next {
    /// BoRR or EoRR.
    Marker(Vec<u8>),
    Update(Sent),
}

impl Up {
    fn next(&mut self, now: Timestamp, rib: &mut AdjRibOut) -> Option<Next> {
        loop {
            while let Some(family) = self.refresh.begin(now) {
                rib.resend_family(family);
            }
            if let Some(marker) = self.refresh.poll_marker() {
                return Some(Next::Marker(marker));
            }
            if let Some(sent) = rib.poll_update(&self.parameters, &self.gate) {
                return Some(Next::Update(sent));
            }
            self.refresh.finish(now);
            if let Some(marker) = self.refresh.poll_marker() {
                return Some(Next::Marker(marker));
            }
            if !self.refresh.is_ripe() {
                return None;
            }
        }
    }
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

    /// A TCP connection is open; `local_address` is our end of it.
    pub fn handle_connected(
        &mut self,
        now: Timestamp,
        direction: Direction,
        local_address: IpAddr,
    ) -> Admission {
        let welcome = self.phase == Phase::Running
            && match direction {
                Direction::Outgoing => matches!(self.dial, Dial::Dialling(_)),
                Direction::Incoming => self.config.mode != ConnectMode::Active,
            };
        if !welcome {
            self.counters.refused_connections = self.counters.refused_connections.wrapping_add(1);
            return refuse(cease_subcode::CONNECTION_REJECTED);
        }
        if direction == Direction::Outgoing {
            self.dial = Dial::Off;
        }
        // A peer that connects again while its connection has not said anything yet has given
        // that one up. Any further one keeps its place.
        match self.slot(direction).map(|slot| slot.connection.state()) {
            None => {}
            Some(SessionState::OpenSent) => {
                self.cease(now, direction, cease_subcode::CONNECTION_COLLISION_RESOLUTION);
            }
            Some(_) => {
                self.counters.refused_connections =
                    self.counters.refused_connections.wrapping_add(1);
                return refuse(cease_subcode::CONNECTION_COLLISION_RESOLUTION);
            }
        }
        *self.slot_mut(direction) = Some(Slot {
            connection: Connection::new(now, &self.config, local_address),
            in_flight: Vec::new(),
            in_flight_octets: 0,
            writing_since: None,
        });
        self.settle(now);
        Admission::Admitted
    }

    /// The attempt to connect failed.
    pub fn handle_connect_failed(&mut self, now: Timestamp, why: String) {
        if !matches!(self.dial, Dial::Dialling(_)) {
            return;
        }
        self.counters.connect_failures = self.counters.connect_failures.wrapping_add(1);
        if self.up.is_none() {
            self.down = why;
        }
        self.dial = Dial::Off;
        self.settle(now);
    }

    /// The peer closed the connection, or it broke.
    pub fn handle_closed(&mut self, now: Timestamp, direction: Direction, why: String) {
        if self.slot(direction).is_none() {
            return;
        }
        self.close(now, direction, Closing { last_words: None, error: None, why });
        self.settle(now);
    }

    /// Octets from the peer, cut in any way.
    pub fn handle_bytes(&mut self, now: Timestamp, direction: Direction, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(slot) = self.slot_mut(direction) {
            let Some(input) = slot.connection.next_input() else {
                if rest.is_empty() {
                    break;
                }
                rest = slot.connection.push(rest);
                continue;
            };
            if self.resolve_collision(now, direction, &input) == Some(direction) {
                break;
            }
            self.handle_input(now, direction, input);
        }
        self.settle(now);
    }

    /// Everything that was polled for this connection is written to its socket.
    pub fn handle_written(&mut self, now: Timestamp, direction: Direction) {
        let Some(slot) = self.slot_mut(direction) else { return };
        slot.writing_since = None;
        slot.in_flight_octets = 0;
        for sent in std::mem::take(&mut slot.in_flight) {
            self.events.extend(sent.answers().map(SessionEvent::Answer));
            if sent.kind == SentKind::Announce {
                self.quarantine.handle_written(now, sent);
            }
        }
        self.settle(now);
    }

    /// To be called when [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        match self.dial {
            Dial::Waiting(at) if at <= now => {
                self.dial = Dial::Dialling(now + CONNECT_TIMEOUT);
                self.actions.push_back(Action::Connect);
            }
            Dial::Dialling(give_up) if give_up <= now => {
                self.actions.push_back(Action::AbortConnect);
                let seconds = CONNECT_TIMEOUT.as_secs();
                self.handle_connect_failed(now, format!("no connection within {seconds} s"));
            }
            _ => {}
        }
        if let Some(up) = &mut self.up {
            up.refresh.ripen(now);
        }
        for direction in Direction::ALL {
            if self.send_hold_expires(direction).is_some_and(|at| at <= now) {
                let code = NotificationCode::SendHoldTimerExpired;
                let notification = NotificationMessage::new(code, 0, Bytes::new());
                let error = SessionError::new(now, &notification);
                let why = "the peer has stopped reading (8/0 Send Hold Timer Expired)".to_owned();
                let error = Some((Origin::Ours, error));
                self.close(now, direction, Closing { last_words: None, error, why });
            }
            while let Some(slot) = self.slot_mut(direction)
                && slot.connection.poll_timeout().is_some_and(|at| at <= now)
            {
                let step = slot.connection.handle_timeout(now);
                self.handle_step(now, direction, step);
            }
        }
        self.settle(now);
    }

    /// The next whole message for this connection's socket. Tell by [`Self::handle_written`] when
    /// it and all before it are written. `None` if there is nothing, or enough is in flight.
    pub fn poll_transmit(&mut self, now: Timestamp, direction: Direction) -> Option<Vec<u8>> {
        let Self { outgoing, incoming, counters, up, rib, .. } = self;
        let slot = match direction {
            Direction::Outgoing => outgoing,
            Direction::Incoming => incoming,
        };
        let slot = slot.as_mut()?;
        let message = match slot.connection.poll_control(counters) {
            Some(message) => message,
            None => {
                let up = up.as_mut().filter(|up| up.direction == direction)?;
                if slot.in_flight_octets >= MAX_IN_FLIGHT {
                    return None;
                }
                match up.next(now, rib)? {
                    Next::Marker(message) => {
                        let counter = &mut counters.sent.route_refresh;
                        *counter = counter.wrapping_add(1);
                        slot.in_flight_octets += message.len();
                        message
                    }
                    Next::Update(sent) => {
                        counters.sent.update = counters.sent.update.wrapping_add(1);
                        slot.in_flight_octets += sent.message.len();
                        let message = sent.message.clone();
                        slot.in_flight.push(sent);
                        message
                    }
                }
            }
        };
        slot.writing_since.get_or_insert(now);
        Some(message)
    }

    /// The next thing for the driver to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front().or_else(|| self.rib.poll_answer().map(SessionEvent::Answer))
    }

    /// When [`Self::handle_timeout`] is to be called next. `None`: not before something happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::Waiting(at) | Dial::Dialling(at) => Some(at),
        };
        let stop = match self.phase {
            Phase::Stopping(deadline) => Some(deadline),
            Phase::New | Phase::Running | Phase::Stopped => None,
        };
        let connections = Direction::ALL.into_iter().flat_map(|direction| {
            let timers = self.slot(direction).and_then(|slot| slot.connection.poll_timeout());
            [timers, self.send_hold_expires(direction)]
        });
        let refresh = self.up.as_ref().and_then(|up| up.refresh.poll_timeout());
        let hunt = self.up.as_ref().and_then(|_| self.quarantine.poll_timeout());
        connections.chain([dial, stop, refresh, hunt]).flatten().min()
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

    fn slot(&self, direction: Direction) -> Option<&Slot> {
        match direction {
            Direction::Outgoing => self.outgoing.as_ref(),
            Direction::Incoming => self.incoming.as_ref(),
        }
    }

    fn slot_mut(&mut self, direction: Direction) -> &mut Option<Slot> {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    /// If `input` is the OPEN that makes two connections collide: closes one and says which.
    fn resolve_collision(
        &mut self,
        now: Timestamp,
        direction: Direction,
        input: &Input,
    ) -> Option<Direction> {
        let Input::Message(Message::Open(open)) = input else { return None };
        let (router_id, asn) = self.slot(direction)?.connection.identify(open)?;
        let loser = match self.slot(direction.other())?.connection.state() {
            SessionState::Established => direction,
            SessionState::OpenConfirm => {
                survivor(self.config.identity(), Identity { router_id, asn }).other()
            }
            _ => return None,
        };
        self.counters.collisions = self.counters.collisions.wrapping_add(1);
        self.cease(now, loser, cease_subcode::CONNECTION_COLLISION_RESOLUTION);
        Some(loser)
    }

    fn handle_input(&mut self, now: Timestamp, direction: Direction, input: Input) {
        let mut counters = self.counters;
        if let Some(slot) = self.slot_mut(direction) {
            let step = slot.connection.handle_input(now, input, &mut counters);
            self.counters = counters;
            self.handle_step(now, direction, step);
        }
    }

    fn handle_step(&mut self, now: Timestamp, direction: Direction, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Established(negotiated)) => self.come_up(now, direction, &negotiated),
            Some(Step::Refresh(family)) => {
                let up = self.up.as_mut();
                if let Some(up) = up.filter(|up| up.negotiated.families.contains(&family)) {
                    up.refresh.request(now, family);
                }
            }
            Some(Step::Close(closing)) => self.close(now, direction, closing),
        }
    }

    fn come_up(&mut self, now: Timestamp, direction: Direction, session: &NegotiatedSession) {
        let Some(slot) = self.slot(direction) else { return };
        let options = &self.config.options;
        let families = session
            .negotiated_families
            .iter()
            .filter_map(|(afi, safi)| Family::from_codes(*afi as u16, *safi as u8))
            .collect();
        let negotiated = Negotiated {
            router_id: session.peer_router_id,
            hold_time: Duration::from_secs(u64::from(session.hold_time)),
            families,
            four_octet_as: session.four_octet_as && options.four_octet_as,
            route_refresh: session.peer_route_refresh,
            enhanced_refresh: session.peer_enhanced_route_refresh && options.enhanced_refresh,
            extended_messages: session.peer_extended_message && options.extended_messages,
            peer_role: session.remote_role.and_then(Role::from_codec),
        };
        let parameters = SessionParameters {
            local_as: self.config.local_as,
            peer_as: session.peer_asn,
            local_address: slot.connection.local_address,
            four_octet_as: negotiated.four_octet_as,
            families: negotiated.families.clone(),
        };
        let refresh = Refresh::new(negotiated.enhanced_refresh);
        let gate = self.gate.guarding(parameters.local_address);
        self.up = Some(Up { direction, parameters, gate, negotiated, since: now, refresh });
        self.counters.established = self.counters.established.wrapping_add(1);
        self.quarantine.handle_up();
        self.rib.resend_all();
        self.events.push_back(SessionEvent::Established);
    }

    /// Closes a connection, if there is one, with a Cease.
    fn cease(&mut self, now: Timestamp, direction: Direction, subcode: u8) {
        let data = match subcode {
            cease_subcode::ADMINISTRATIVE_SHUTDOWN => {
                encode_shutdown_communication(&self.stop_text)
            }
            _ => Bytes::new(),
        };
        let Some(slot) = self.slot(direction) else { return };
        let notification = NotificationMessage::new(NotificationCode::Cease, subcode, data);
        let step = slot.connection.terminate(now, notification);
        self.handle_step(now, direction, Some(step));
    }

    fn close(&mut self, now: Timestamp, direction: Direction, closing: Closing) {
        let Some(slot) = self.slot_mut(direction).take() else { return };
        let Closing { last_words, error, why } = closing;
        let evidence = hunt::evidence(error.as_ref());
        match error {
            Some((Origin::Ours, error)) => self.last_error_sent = Some(error),
            Some((Origin::Peers, error)) => self.last_error_received = Some(error),
            None => {}
        }
        if last_words.is_some() {
            self.counters.sent.notification = self.counters.sent.notification.wrapping_add(1);
        }
        self.actions.push_back(Action::Close { direction, last_words });
        match self.up.take_if(|up| up.direction == direction) {
            Some(up) => self.go_down(now, &up, slot, evidence, why),
            None if self.up.is_none() => self.down = why,
            None => {}
        }
    }

    fn send_hold_expires(&self, direction: Direction) -> Option<Timestamp> {
        let since = self.slot(direction)?.writing_since?;
        let hold = self.up.as_ref().map_or(self.config.hold_time, |up| up.negotiated.hold_time);
        let limit = match hold {
            Duration::ZERO => SEND_HOLD_WITHOUT_KEEPALIVES,
            hold => hold * SEND_HOLD_FACTOR,
        };
        Some(since + limit)
    }

    /// Brings everything that follows from the rest of the state up to date.
    fn settle(&mut self, now: Timestamp) {
        self.settle_hunt(now);
        self.settle_stop(now);
        self.settle_dial(now);
        let state = self.state();
        if state != self.shown_state.0 {
            self.shown_state = (state, now);
        }
    }

    fn settle_stop(&mut self, now: Timestamp) {
        let Phase::Stopping(deadline) = self.phase else { return };
        let flushed = match self.up.as_ref().and_then(|up| self.slot(up.direction)) {
            Some(slot) => self.rib.is_idle() && slot.in_flight.is_empty(),
            None => true,
        };
        if flushed || deadline <= now {
            self.phase = Phase::Stopped;
            for direction in Direction::ALL {
                self.cease(now, direction, cease_subcode::ADMINISTRATIVE_SHUTDOWN);
            }
            self.events.push_back(SessionEvent::Stopped);
        }
    }

    fn settle_dial(&mut self, now: Timestamp) {
        let far = Direction::ALL.into_iter().filter_map(|direction| self.slot(direction));
        let wanted = self.phase == Phase::Running
            && self.config.mode != ConnectMode::Passive
            && self.outgoing.is_none()
            && far.into_iter().all(|slot| slot.connection.state() < SessionState::OpenConfirm);
        match self.dial {
            Dial::Off if wanted => self.dial = Dial::Waiting(now + self.retry.next_wait()),
            Dial::Waiting(_) if !wanted => self.dial = Dial::Off,
            Dial::Dialling(_) if !wanted => {
                self.actions.push_back(Action::AbortConnect);
                self.dial = Dial::Off;
            }
            _ => {}
        }
    }

    fn state(&self) -> SessionState {
        let dial = match (self.phase, self.dial) {
            (Phase::New | Phase::Stopped, _) => SessionState::Idle,
            (_, Dial::Dialling(_)) => SessionState::Connect,
            _ => SessionState::Active,
        };
        let connections = Direction::ALL.into_iter().filter_map(|direction| self.slot(direction));
        connections.map(|slot| slot.connection.state()).fold(dial, SessionState::max)
    }
}

fn refuse(subcode: u8) -> Admission {
    let notification = NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new());
    let message = connection::encode(&Message::Notification(notification));
    Admission::Refused(message.unwrap_or_default())
}
