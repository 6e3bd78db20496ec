//! What happens without anybody saying anything: timers, and what follows from the state.

use std::time::Duration;

use bytes::Bytes;
use rustbgpd_wire::notification::cease_subcode;
use rustbgpd_wire::{NotificationCode, NotificationMessage};
use tidegate_model::Timestamp;

use super::connection::{Closing, Origin};
use super::{
    Action, CONNECT_TIMEOUT, ConnectMode, Dial, Direction, Phase, SEND_HOLD_FACTOR,
    SEND_HOLD_WITHOUT_KEEPALIVES, Session, SessionError, SessionEvent, SessionState,
};
use crate::learnt::News;

impl Session {
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
        if self.waiting.take_if(|waiting| waiting.until <= now).is_some() {
            self.events.push_back(SessionEvent::Learnt(News::WaitedEnough));
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
        let waiting = self.waiting.as_ref().map(|waiting| waiting.until);
        let hunt = self.up.as_ref().and_then(|_| self.quarantine.poll_timeout());
        connections.chain([dial, stop, refresh, hunt, waiting]).flatten().min()
    }

    fn send_hold_expires(&self, direction: Direction) -> Option<Timestamp> {
        let since = self.slot(direction)?.writing_since?;
        let hold = self.up.as_ref().map_or(self.config.hold_time, |up| up.negotiated.hold_time);
        Some(since + send_hold(hold))
    }

    /// Brings everything that follows from the rest of the state up to date.
    pub(super) fn settle(&mut self, now: Timestamp) {
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

/// How long a peer with this hold time may take nothing (RFC 9687).
pub(crate) fn send_hold(hold: Duration) -> Duration {
    match hold {
        Duration::ZERO => SEND_HOLD_WITHOUT_KEEPALIVES,
        hold => hold * SEND_HOLD_FACTOR,
    }
}
