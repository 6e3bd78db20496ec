//! Adj-RIB-Out: what one peer should hold, and what it was sent.

use std::collections::VecDeque;

use tidegate_model::{CommandId, Nlri, OutcomeKind, Route};

use crate::egress::Gate;
use crate::family::Family;
use crate::parameters::SessionParameters;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command.
    pub command: CommandId,
    /// The route it was about.
    pub nlri: Nlri,
    /// What became of it.
    pub kind: OutcomeKind,
}

/// What a message that is handed out does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentKind {
    /// Announces its NLRI.
    Announce,
    /// Withdraws its NLRI.
    Withdraw,
    /// Says that the whole set of this family has been sent.
    EndOfRib(Family),
}

/// One message for the socket. The gate has passed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The whole BGP message.
    pub message: Vec<u8>,
    /// What it does.
    pub kind: SentKind,
    /// The NLRI in it, in wire order.
    pub nlris: Vec<Nlri>,
    /// The commands it carries out, each with its NLRI.
    pub commands: Vec<(CommandId, Nlri)>,
}

impl Sent {
    /// The answers to give once the message is with the socket: all `Applied`, with its octets.
    pub fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.commands.iter().map(|(command, nlri)| Answer {
            command: *command,
            nlri: nlri.clone(),
            kind: OutcomeKind::Applied { bytes: self.message.clone() },
        })
    }
}

/// The routes of one peer.
#[derive(Clone, Debug)]
pub struct AdjRibOut {
    max_routes: u32,
    answers: VecDeque<Answer>,
}

impl AdjRibOut {
    /// An empty table of at most `max_routes` routes, its session down.
    #[must_use]
    pub fn new(max_routes: u32) -> Self {
        Self { max_routes, answers: VecDeque::new() }
    }

    /// Wants `route` at the peer, in place of what the same NLRI had before. A command that this
    /// one overtakes is never answered.
    pub fn announce(&mut self, command: CommandId, route: Route) {
        let _ = (command, route, self.max_routes);
    }

    /// Wants `nlri` gone from the peer.
    pub fn withdraw(&mut self, command: CommandId, nlri: &Nlri) {
        let _ = (command, nlri);
    }

    /// Wants every route gone, as for a planned stop. No command is answered for it.
    pub fn withdraw_all(&mut self) {}

    /// The next message: withdraws first, then announcements, then End-of-RIB once per negotiated
    /// family. `None` if there is nothing to send or the session is down.
    pub fn poll_update(&mut self, parameters: &SessionParameters, gate: &Gate) -> Option<Sent> {
        let _ = (parameters, gate);
        None
    }

    /// Answers other than `Applied`-by-message: pending, rejected, failed, and withdraws of what
    /// the peer does not hold. Drain it after every other call.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// The session is up: every route is to be sent, then End-of-RIB.
    pub fn resend_all(&mut self) {}

    /// The peer asks for `family` again (RFC 2918).
    pub fn resend_family(&mut self, family: Family) {
        let _ = family;
    }

    /// The session is down: the peer holds nothing of ours any more. The wanted routes stay.
    pub fn session_lost(&mut self) {}

    /// The wanted routes, in order of their NLRI.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        std::iter::empty()
    }

    /// Whether nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }
}
