//! The connections of a session: let in, listened to, and closed.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rustbgpd_fsm::NegotiatedSession;
use rustbgpd_wire::notification::cease_subcode;
use rustbgpd_wire::{Message, NotificationCode, NotificationMessage};
use tidegate_model::Timestamp;

use super::collision::{Identity, survivor};
use super::connection::{self, Closing, Connection, Input, Origin, Step};
use super::delivery::Unconfirmed;
use super::dump::Flow;
use super::quarantine::Evidence;
use super::refresh::Refresh;
use super::{
    Action, Admission, ConnectMode, Dial, Direction, GracefulRestart, Negotiated, Phase, Role,
    Session, SessionEvent, SessionState, Slot, Up, graceful, hunt,
};
use crate::family::Family;
use crate::parameters::SessionParameters;

impl Session {
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
        let first = self.counters.established == 0;
        let restart = graceful::capability(&self.config, self.replayed, first);
        *self.slot_mut(direction) = Some(Slot {
            connection: Connection::new(now, &self.config, restart, local_address),
            in_flight: Vec::new(),
            in_flight_octets: 0,
            handed_out: 0,
            unconfirmed: Unconfirmed::default(),
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

    /// The driver failed and has lost its connections and timers. What is wanted stays; the session
    /// waits for [`Self::handle_start`], or is over if it was stopping.
    pub fn handle_crash(&mut self, now: Timestamp, why: String) {
        for direction in Direction::ALL {
            let Some(slot) = self.slot_mut(direction).take() else { continue };
            if let Some(up) = self.up.take_if(|up| up.direction == direction) {
                self.lose_learnt(now, &up, graceful::Ending::Final);
                self.go_down(now, &up, slot, Evidence::None, why.clone());
            }
        }
        self.actions.clear();
        self.dial = Dial::Off;
        match self.phase {
            Phase::New | Phase::Running => self.phase = Phase::New,
            Phase::Stopping(_) | Phase::Stopped => {
                self.phase = Phase::Stopped;
                self.events.push_back(SessionEvent::Stopped);
            }
        }
        self.down.clone_from(&why);
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
            self.record(now, direction, Flow::Received, |session| {
                let frame = session.slot(direction)?.connection.frame();
                (!frame.is_empty()).then(|| frame.to_vec())
            });
            if self.resolve_collision(now, direction, &input) == Some(direction) {
                break;
            }
            self.handle_input(now, direction, input);
        }
        self.settle(now);
    }

    pub(super) fn slot(&self, direction: Direction) -> Option<&Slot> {
        match direction {
            Direction::Outgoing => self.outgoing.as_ref(),
            Direction::Incoming => self.incoming.as_ref(),
        }
    }

    pub(super) fn slot_mut(&mut self, direction: Direction) -> &mut Option<Slot> {
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

    pub(super) fn handle_step(&mut self, now: Timestamp, direction: Direction, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Established(negotiated)) => self.come_up(now, direction, &negotiated),
            Some(Step::Refresh(family)) => {
                let up = self.up.as_mut();
                if let Some(up) = up.filter(|up| up.negotiated.families.contains(&family)) {
                    up.refresh.request(now, family);
                }
            }
            Some(Step::Learnt(update)) => self.learn(update),
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
        let (restart, long_lived) = graceful::of_peer(session);
        let negotiated = Negotiated {
            router_id: session.peer_router_id,
            hold_time: Duration::from_secs(u64::from(session.hold_time)),
            families,
            four_octet_as: session.four_octet_as && options.four_octet_as,
            route_refresh: session.peer_route_refresh,
            enhanced_refresh: session.peer_enhanced_route_refresh && options.enhanced_refresh,
            extended_messages: session.peer_extended_message && options.extended_messages,
            restart,
            long_lived,
            peer_role: session.remote_role.and_then(Role::from_codec),
        };
        let parameters = SessionParameters {
            local_as: self.config.local_as,
            peer_as: session.peer_asn,
            local_address: slot.connection.local_address,
            four_octet_as: negotiated.four_octet_as,
            families: negotiated.families.clone(),
            role: self.config.role(),
        };
        let refresh = Refresh::new(negotiated.enhanced_refresh);
        let gate = self.gate.guarding(parameters.local_address);
        self.up = Some(Up { direction, parameters, gate, negotiated, since: now, refresh });
        self.counters.established = self.counters.established.wrapping_add(1);
        self.quarantine.handle_up();
        self.resume_learnt(now);
        self.rib.resend_all();
        self.events.push_back(SessionEvent::Established);
    }

    /// Closes a connection, if there is one, with a Cease.
    pub(super) fn cease(&mut self, now: Timestamp, direction: Direction, subcode: u8) {
        let notification = match subcode {
            cease_subcode::ADMINISTRATIVE_SHUTDOWN => {
                graceful::shutdown(&self.stop_text, self.outlives_notifications())
            }
            _ => NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new()),
        };
        let Some(slot) = self.slot(direction) else { return };
        let step = slot.connection.terminate(now, notification);
        self.handle_step(now, direction, Some(step));
    }

    /// Whether the peer may keep routes though a NOTIFICATION ends the session (RFC 8538 §2).
    fn outlives_notifications(&self) -> bool {
        let restart = self.up.as_ref().and_then(|up| up.negotiated.restart.as_ref());
        self.config.options.graceful_restart != GracefulRestart::Off
            && restart.is_some_and(|restart| restart.notification)
    }

    pub(super) fn close(&mut self, now: Timestamp, direction: Direction, closing: Closing) {
        self.record(now, direction, Flow::Sent, |_| closing.last_words.clone());
        let Some(slot) = self.slot_mut(direction).take() else { return };
        let Closing { last_words, error, why } = closing;
        let evidence = hunt::evidence(error.as_ref());
        let ending = graceful::ending(error.as_ref());
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
            Some(up) => {
                self.lose_learnt(now, &up, ending);
                self.go_down(now, &up, slot, evidence, why);
            }
            None if self.up.is_none() => self.down = why,
            None => {}
        }
    }
}

fn refuse(subcode: u8) -> Admission {
    let notification = NotificationMessage::new(NotificationCode::Cease, subcode, Bytes::new());
    let message = connection::encode(&Message::Notification(notification));
    Admission::Refused(message.unwrap_or_default())
}
