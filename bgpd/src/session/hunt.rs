//! What follows from the loss of a session, for its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::{CommandId, Nlri, OutcomeKind, Timestamp};

use super::connection::Origin;
use super::quarantine::{Evidence, Suspect};
use super::{STABLE, Session, SessionError, SessionEvent, Slot, Up};
use crate::rib::{Answer, SentKind};

/// Error codes that speak of a message of ours: Message Header Error and UPDATE Message Error.
const ABOUT_A_MESSAGE: [u8; 2] = [1, 3];

/// What the end of a connection says about the routes that were announced on it.
pub(super) fn evidence(error: Option<&(Origin, SessionError)>) -> Evidence {
    match error {
        None => Evidence::Unexplained,
        Some((Origin::Peers, error)) if ABOUT_A_MESSAGE.contains(&error.code) => Evidence::Accused,
        Some(_) => Evidence::None,
    }
}

impl Session {
    /// The offenders: routes that ended sessions and are not sent any more, until they are
    /// withdrawn and announced again. Each with what is known of it.
    pub fn quarantined(&self) -> impl Iterator<Item = (&Nlri, &str)> {
        self.quarantine.offenders()
    }

    pub(super) fn go_down(
        &mut self,
        now: Timestamp,
        up: &Up,
        slot: Slot,
        evidence: Evidence,
        why: String,
    ) {
        if now.since(up.since) >= STABLE {
            self.retry.reset();
        }
        self.rib.session_lost();
        // The table takes what it handed out for sent. What was not written by now is not, so its
        // commands go back and are answered as those that were not handed out. The peer may have
        // read it all the same.
        for sent in slot.in_flight {
            for (command, nlri) in &sent.commands {
                self.command_again(*command, nlri, sent.kind);
            }
            if sent.kind == SentKind::Announce {
                self.quarantine.handle_written(now, Arc::new(sent.nlris), sent.commands);
            }
        }
        self.down.clone_from(&why);
        self.rule(now, evidence, &why);
        self.events.push_back(SessionEvent::Down { why });
    }

    /// Withholds the suspects and rejects the offenders.
    fn rule(&mut self, now: Timestamp, evidence: Evidence, why: &str) {
        let wanted: BTreeSet<&Nlri> = self.rib.routes().map(|route| &route.nlri).collect();
        let mut ruling = self.quarantine.handle_lost(now, evidence, &wanted);
        for suspect in std::mem::take(&mut ruling.acquitted).into_values() {
            self.rib.announce(suspect.command, suspect.route);
        }
        if !ruling.is_progress() {
            return;
        }
        // Whatever comes of it, the next session is a step further.
        self.retry.reset();
        let mut suspects = self.take(ruling.nlris());
        for group in &ruling.withhold {
            let group = group.iter().filter_map(|nlri| {
                let suspect = suspects.remove(nlri)?;
                let why = "held back, as it may be what the peer reset the session for".to_owned();
                self.answer(suspect.command, nlri, OutcomeKind::Pending { why });
                Some((nlri.clone(), suspect))
            });
            let group = group.collect();
            self.quarantine.withhold(group, ruling.evidence);
        }
        for nlri in ruling.convicted {
            let Some(suspect) = suspects.remove(&nlri) else { continue };
            let why = format!("the session ended each time that it was announced: {why}");
            self.answer(suspect.command, &nlri, OutcomeKind::Rejected { why: why.clone() });
            self.quarantine.convict(nlri.clone(), why.clone());
            self.events.push_back(SessionEvent::Quarantined { nlri, why });
        }
    }

    /// The last command of each recent announcement. Those that the table has not answered before
    /// have just been answered.
    fn last_commands(&mut self) -> BTreeMap<Nlri, CommandId> {
        let recent = self.quarantine.commands();
        let mut commands: BTreeMap<Nlri, CommandId> =
            recent.into_iter().map(|(nlri, command)| (nlri.clone(), command)).collect();
        while let Some(answer) = self.rib.poll_answer() {
            commands.insert(answer.nlri.clone(), answer.command);
            self.events.push_back(SessionEvent::Answer(answer));
        }
        commands
    }

    /// Takes routes from the table, which is not told to anybody.
    fn take(&mut self, nlris: BTreeSet<Nlri>) -> BTreeMap<Nlri, Suspect> {
        let commands = self.last_commands();
        let routes = self.rib.routes().filter(|route| nlris.contains(&route.nlri));
        let suspects: BTreeMap<Nlri, Suspect> = routes
            .filter_map(|route| {
                let suspect =
                    Suspect { command: *commands.get(&route.nlri)?, route: route.clone() };
                Some((route.nlri.clone(), suspect))
            })
            .collect();
        for (nlri, suspect) in &suspects {
            self.rib.withdraw(suspect.command, nlri);
        }
        while self.rib.poll_answer().is_some() {}
        suspects
    }

    fn answer(&mut self, command: CommandId, nlri: &Nlri, kind: OutcomeKind) {
        let nlri = nlri.clone();
        self.events.push_back(SessionEvent::Answer(Answer { command, nlri, kind }));
    }

    /// Sends the next group of suspects, if its time has come.
    pub(super) fn settle_hunt(&mut self, now: Timestamp) {
        let Some(slot) = self.up.as_ref().and_then(|up| self.slot(up.direction)) else { return };
        let quiet = self.rib.is_idle() && slot.in_flight.is_empty();
        while let Some(group) = self.quarantine.advance(now, quiet && self.rib.is_idle()) {
            for suspect in group.into_values() {
                self.rib.announce(suspect.command, suspect.route);
            }
        }
    }
}
