//! Commands about routes, and what becomes of them.

use tidegate_model::{CommandId, Community, Nlri, OutcomeKind, Route};

use super::quarantine::Suspect;
use super::{Direction, Phase, Session, SessionEvent};
use crate::rib::{Answer, SentKind};

/// `route` as a session sends it: with NO_LLGR (RFC 9494 §4.2), so that no peer keeps it for long
/// when the session is gone.
#[must_use]
pub fn as_announced(mut route: Route) -> Route {
    route.communities.insert(Community::NO_LLGR);
    route
}

impl Session {
    /// Wants `route` at the peer, see [`as_announced`]. The command is answered by [`SessionEvent::Answer`], unless a
    /// later one for the same NLRI overtakes it.
    pub fn handle_announce(&mut self, command: CommandId, route: Route) {
        let route = as_announced(route);
        let nlri = route.nlri.clone();
        self.forget_in_flight(&nlri);
        match self.phase {
            Phase::New | Phase::Running => {
                if let Some(kind) = self.held_back(command, &route) {
                    self.events.push_back(SessionEvent::Answer(Answer { command, nlri, kind }));
                    return;
                }
                self.rib.announce(command, route);
                self.join_in_flight(command, &nlri);
            }
            Phase::Stopping(_) | Phase::Stopped => {
                let kind = OutcomeKind::Failed { why: "the session is stopped".to_owned() };
                self.events.push_back(SessionEvent::Answer(Answer { command, nlri, kind }));
            }
        }
    }

    /// Wants `nlri` gone from the peer. Answered as an announcement is.
    pub fn handle_withdraw(&mut self, command: CommandId, nlri: &Nlri) {
        self.forget_in_flight(nlri);
        self.quarantine.release(nlri);
        self.rib.withdraw(command, nlri);
        self.join_in_flight(command, nlri);
    }

    /// The answer, if `route` does not go to the table now: it is known or suspected to make the
    /// peer reset the session, or there is no room beside those that are.
    fn held_back(&mut self, command: CommandId, route: &Route) -> Option<OutcomeKind> {
        if let Some(why) = self.quarantine.offence(&route.nlri) {
            return Some(OutcomeKind::Rejected { why: why.to_owned() });
        }
        let withheld = self.quarantine.withheld().count();
        if withheld == 0 {
            return None;
        }
        if let Some(suspect) = self.quarantine.withheld_mut(&route.nlri) {
            *suspect = Suspect { command, route: route.clone() };
            let why = "held back, as it may be what the peer reset the session for".to_owned();
            return Some(OutcomeKind::Pending { why });
        }
        let most = usize::try_from(self.config.max_routes).unwrap_or(usize::MAX);
        let full = self.rib.routes().count() + withheld >= most
            && self.rib.routes().all(|other| other.nlri != route.nlri);
        full.then(|| OutcomeKind::Failed { why: format!("the peer takes at most {most} routes") })
    }

    pub(super) fn command_again(&mut self, command: CommandId, nlri: &Nlri, kind: SentKind) {
        match kind {
            SentKind::Announce => {
                let route = self.rib.routes().find(|route| route.nlri == *nlri).cloned();
                if let Some(route) = route {
                    self.rib.announce(command, route);
                }
            }
            SentKind::Withdraw => self.rib.withdraw(command, nlri),
            SentKind::EndOfRib(_) => {}
        }
    }

    /// A later command for `nlri` overtakes those in flight: they are not answered.
    fn forget_in_flight(&mut self, nlri: &Nlri) {
        for direction in Direction::ALL {
            if let Some(slot) = self.slot_mut(direction) {
                for sent in &mut slot.in_flight {
                    sent.commands.retain(|(_, commanded)| commanded != nlri);
                }
            }
        }
    }

    /// The table takes what it handed out for sent, and so answers `command` at once if it changes
    /// nothing. While the message that it agrees with is in flight, that is too early: the command
    /// is answered with the message.
    fn join_in_flight(&mut self, command: CommandId, nlri: &Nlri) {
        while let Some(answer) = self.rib.poll_answer() {
            let nothing_to_do = OutcomeKind::Applied { bytes: [].into() };
            let early = answer.command == command && answer.kind == nothing_to_do;
            let direction = self.up.as_ref().map(|up| up.direction);
            let slot = direction.and_then(|direction| self.slot_mut(direction).as_mut());
            let in_flight = slot.filter(|_| early).and_then(|slot| {
                slot.in_flight.iter_mut().rev().find(|sent| sent.nlris.contains(nlri))
            });
            match in_flight {
                Some(sent) => sent.commands.push((command, nlri.clone())),
                None => {
                    if early {
                        self.quarantine.handle_renamed(command, nlri);
                    }
                    self.events.push_back(SessionEvent::Answer(answer));
                }
            }
        }
    }
}
