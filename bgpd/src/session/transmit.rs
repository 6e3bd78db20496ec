//! What a session sends: drawn when the socket has room for it.

use std::sync::Arc;

use tidegate_model::Timestamp;

use super::dump::Flow;
use super::{Direction, MAX_IN_FLIGHT, Session, SessionEvent, Slot, Up};
use crate::rib::{AdjRibOut, Sent, SentKind};

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

impl Session {
    /// Everything that was polled for this connection is written to its socket.
    pub fn handle_written(&mut self, now: Timestamp, direction: Direction) {
        let slot = match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        };
        let Some(slot) = slot else { return };
        slot.writing_since = None;
        slot.in_flight_octets = 0;
        let Slot { handed_out, unconfirmed, in_flight, .. } = slot;
        for sent in std::mem::take(in_flight) {
            self.events.extend(sent.answers().map(SessionEvent::Answer));
            let nlris = Arc::new(sent.nlris);
            unconfirmed.handle_written(*handed_out, sent.kind, Arc::clone(&nlris));
            if sent.kind == SentKind::Announce {
                self.quarantine.handle_written(now, nlris, sent.commands);
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
                        let message = sent.message.to_vec();
                        slot.in_flight.push(sent);
                        message
                    }
                }
            }
        };
        slot.handed_out += u64::try_from(message.len()).unwrap_or_default();
        slot.writing_since.get_or_insert(now);
        self.record(now, direction, Flow::Sent, |_| Some(message.clone()));
        Some(message)
    }
}
