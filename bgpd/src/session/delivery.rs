//! Whether what was sent has arrived, as far as TCP tells.
//!
//! A message that the socket has taken may wait in the kernel for as long as the peer does not read.
//! Until the peer's TCP has acknowledged its octets, what it says is unconfirmed. That the router has
//! acted on it BGP does not tell at all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_model::{Nlri, Route};

use super::{Direction, Session, Slot};
use crate::rib::{Progress, SentKind};

/// Most NLRI of unconfirmed messages that are remembered one by one. Beyond that all that was sent
/// counts as unconfirmed, until all of it is acknowledged.
pub const MOST_UNCONFIRMED: usize = 65_536;

/// How far a route is on its way to the peer, on the session as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Not sent: there is no session, the socket is full, or it is held back.
    Waiting,
    /// Sent, and not acknowledged by the peer's TCP.
    Unconfirmed,
    /// Acknowledged by the peer's TCP.
    Confirmed,
}

impl Delivery {
    /// Name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Unconfirmed => "unconfirmed",
            Self::Confirmed => "confirmed",
        }
    }
}

#[derive(Debug)]
struct Message {
    /// How many octets of the connection go before its end.
    end: u64,
    kind: SentKind,
    nlris: Arc<Vec<Nlri>>,
}

/// The messages of one connection that were written and are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    messages: VecDeque<Message>,
    nlris: usize,
    /// Set where there were too many: what was sent before that octet.
    blurred: Option<u64>,
}

impl Unconfirmed {
    pub(super) fn handle_written(&mut self, end: u64, kind: SentKind, nlris: Arc<Vec<Nlri>>) {
        if nlris.is_empty() {
            return;
        }
        self.nlris += nlris.len();
        self.messages.push_back(Message { end, kind, nlris });
        if self.nlris > MOST_UNCONFIRMED {
            self.messages.clear();
            self.nlris = 0;
            self.blurred = Some(end);
        }
    }

    fn handle_acknowledged(&mut self, octets: u64) {
        while let Some(first) = self.messages.front()
            && first.end <= octets
        {
            self.nlris -= first.nlris.len();
            self.messages.pop_front();
        }
        self.blurred = self.blurred.filter(|end| *end > octets);
    }

    fn of_kind(&self, kind: SentKind) -> impl Iterator<Item = &Nlri> {
        let messages = self.messages.iter().filter(move |message| message.kind == kind);
        messages.flat_map(|message| message.nlris.iter())
    }
}

/// The NLRI that were handed out on a connection and are not known to have arrived.
fn under_way(slot: &Slot, kind: SentKind) -> BTreeSet<&Nlri> {
    let in_flight = slot.in_flight.iter().filter(|sent| sent.kind == kind);
    let in_flight = in_flight.flat_map(|sent| &sent.nlris);
    slot.unconfirmed.of_kind(kind).chain(in_flight).collect()
}

impl Session {
    /// The peer's TCP has acknowledged the first `octets` octets of what was written to this
    /// connection.
    pub fn handle_acknowledged(&mut self, direction: Direction, octets: u64) {
        if let Some(slot) = self.slot_mut(direction) {
            slot.unconfirmed.handle_acknowledged(octets);
        }
    }

    /// The Adj-RIB-Out: the wanted routes in order of their NLRI, each with how far it is. Those that
    /// are withheld are among them, those that are quarantined are not.
    #[must_use]
    pub fn deliveries(&self) -> Vec<(&Route, Delivery)> {
        let slot = self.up.as_ref().and_then(|up| self.slot(up.direction));
        let under_way = slot.map(|slot| under_way(slot, SentKind::Announce)).unwrap_or_default();
        let blurred = slot.is_some_and(|slot| slot.unconfirmed.blurred.is_some());
        let delivery = |route: &Route, progress| match progress {
            Progress::Due => Delivery::Waiting,
            Progress::DueAgain => Delivery::Unconfirmed,
            Progress::HandedOut if blurred || under_way.contains(&route.nlri) => {
                Delivery::Unconfirmed
            }
            Progress::HandedOut => Delivery::Confirmed,
        };
        let table = self.rib.progress().map(|(route, progress)| (route, delivery(route, progress)));
        let withheld = self.quarantine.withheld().map(|route| (route, Delivery::Waiting));
        let mut all: Vec<_> = table.chain(withheld).collect();
        all.sort_by(|(one, _), (other, _)| one.nlri.cmp(&other.nlri));
        all
    }

    /// What the peer should not hold any more and may: the withdraw waits, or is not acknowledged by
    /// the peer's TCP. When the session ends it is gone.
    #[must_use]
    pub fn unconfirmed_withdraws(&self) -> BTreeSet<&Nlri> {
        let Some(slot) = self.up.as_ref().and_then(|up| self.slot(up.direction)) else {
            return BTreeSet::new();
        };
        let mut withdraws = under_way(slot, SentKind::Withdraw);
        withdraws.extend(self.rib.due_withdraws());
        if !withdraws.is_empty() {
            for route in self.rib.routes() {
                withdraws.remove(&route.nlri);
            }
        }
        withdraws
    }
}
