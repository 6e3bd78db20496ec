//! From events to records.
//!
//! ```text
//!  attack started --> (waits for the policy) --decision--> Active --attack ended--> Ended
//!                                                            |                       |
//!                               a mitigation comes and goes  +--- nothing is left ---+--> Closed
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_model::{
    Attack, AttackEvent, AttackId, BackendId, BackendState, MitigationKey, OutcomeKind, Timestamp,
};
use tidegate_policy::{Cause, DecisionKind};
use tidegate_reconciler::{Change as LedgerChange, EntryState};

use super::change::{Change, ChangeKind};
use super::convert;
use super::record::{
    Capture, Decision, Effect, GuardVerdict, Incident, Mitigation, MitigationState, Outcome,
    PolicyRef, Rate, SCHEMA, Status, Times,
};
use super::time::WallTime;
use crate::clock::WallOrigin;
use crate::event::{Event, EventKind, Verb};
use crate::json::{ledger_text, outcome_name};

/// Incidents that are open at once. An attack beyond it gets no record; it is counted.
const MAX_OPEN: usize = 8_192;

/// Entries of each list of a record. What is beyond is counted in `omitted`.
const MAX_DECISIONS: usize = 64;
const MAX_MITIGATIONS: usize = 256;
const MAX_OUTCOMES: usize = 16;

/// UPDATEs of one record that are kept byte for byte.
const MAX_UPDATES: usize = 64;

/// The traffic has fallen when it is reduced by at least this much.
const EFFECTIVE: f64 = 0.5;

/// The record is told anew when the measured reduction has moved by this much.
const EFFECT_STEP: f64 = 0.05;

/// What the engine's events do not tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The rate toward the target of an attack now.
    Traffic {
        /// The attack.
        attack: AttackId,
        /// Packets and bits of every kind.
        rate: tidegate_model::Rate,
    },
    /// Where the traffic of an attack comes from.
    Census {
        /// The attack.
        attack: AttackId,
        /// The document that the record takes in as it is.
        census: serde_json::Value,
    },
    /// The packets of an attack were written to a file. This may come after the record is closed.
    Capture {
        /// The attack.
        attack: AttackId,
        /// The file.
        capture: Capture,
    },
    /// Someone has taken note of an incident.
    Acknowledged {
        /// [`Incident::id`].
        incident: String,
        /// Who.
        by: String,
    },
    /// So many events did not reach the assembler.
    Lost(u64),
}

/// A record that still changes, and what is needed to change it.
struct Open {
    incident: Incident,
    /// Whether [`ChangeKind::Opened`] was said.
    told: bool,
    /// Which entry of the record each mitigation is.
    places: BTreeMap<MitigationKey, usize>,
    /// Mitigations of which it was said that they are not enforced.
    not_enforced: BTreeSet<MitigationKey>,
    updates: usize,
}

/// The state machine.
pub struct Assembler {
    wall: WallOrigin,
    /// Commit of the policy that was in force at the latest event.
    commit: Option<String>,
    open: BTreeMap<AttackId, Open>,
    /// The attacks that each mitigation answers.
    owners: BTreeMap<MitigationKey, BTreeSet<AttackId>>,
    /// The latest closed records, for what is learnt of them later.
    closed: VecDeque<(AttackId, Arc<Incident>)>,
    changes: VecDeque<Change>,
    /// Records with nothing but [`ChangeKind::Updated`] to say.
    dirty: BTreeSet<AttackId>,
    unrecorded: u64,
    now: WallTime,
}

/// Closed records that are remembered, so that a capture finished later finds its own.
const MAX_CLOSED: usize = 256;

impl Assembler {
    /// No incidents; `wall` relates the times of events to wall time.
    #[must_use]
    pub fn new(wall: WallOrigin) -> Self {
        Self {
            wall,
            commit: None,
            open: BTreeMap::new(),
            owners: BTreeMap::new(),
            closed: VecDeque::new(),
            changes: VecDeque::new(),
            dirty: BTreeSet::new(),
            unrecorded: 0,
            now: WallTime::default(),
        }
    }

    /// Takes one event of the engine.
    pub fn handle(&mut self, event: &Event) {
        self.now = self.at(event.time);
        self.commit = event.policy.as_ref().map(ToString::to_string);
        match &event.kind {
            EventKind::Attack(change) => self.attack(change),
            EventKind::Decision(decision) => self.decision(decision),
            EventKind::Announce { key, route, attacks, .. } => {
                self.own(key, attacks.iter().copied());
                self.each(key, |now, mitigation| {
                    mitigation.state = MitigationState::Pending;
                    mitigation.announced.get_or_insert(now);
                    mitigation.withdrawn = None;
                    mitigation.route = Some(convert::route(route));
                    mitigation.kernel_rule = convert::kernel_rule(key, route);
                });
            }
            EventKind::Withdraw { key, why, .. } => self.each(key, |_, mitigation| {
                mitigation.state = MitigationState::Withdrawing;
                mitigation.withdraw_reason = Some(why.clone());
            }),
            EventKind::Outcome { verb, outcome } => {
                let key =
                    MitigationKey { backend: outcome.backend.clone(), nlri: outcome.nlri.clone() };
                self.outcome(*verb, &key, &outcome.kind);
            }
            EventKind::Backend(backend, BackendState::Down { why }) => {
                self.backend_down(backend, why);
            }
            EventKind::Backend(_, BackendState::Up) => {}
            EventKind::Ledger(change) => self.ledger(&change.key, &change.change),
        }
    }

    /// Takes what the events do not tell, at `time`.
    pub fn handle_note(&mut self, time: Timestamp, note: Note) {
        self.now = self.at(time);
        match note {
            Note::Traffic { attack, rate } => self.traffic(attack, convert::rate(rate)),
            Note::Census { attack, census } => {
                self.amend(attack, |incident| incident.census = Some(census));
            }
            Note::Capture { attack, capture } => {
                self.amend(attack, |incident| incident.capture = Some(capture));
            }
            Note::Acknowledged { incident, by } => {
                let open = self.open.iter().find(|(_, open)| open.incident.id == incident);
                if let Some((attack, _)) = open {
                    self.say(*attack, ChangeKind::Acknowledged(by));
                }
            }
            Note::Lost(events) => {
                for open in self.open.values_mut() {
                    open.incident.lost_events += events;
                }
                self.dirty.extend(self.open.keys());
            }
        }
    }

    /// Ends and closes every record: tidegate stops, and what it installed goes with it.
    pub fn stop(&mut self, time: Timestamp) {
        self.now = self.at(time);
        for attack in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(attack, "tidegate was stopped while the attack went on");
            if let Some(open) = self.open.get_mut(&attack) {
                for mitigation in &mut open.incident.mitigations {
                    mitigation.leave(self.now, "tidegate was stopped");
                }
            }
            self.close(attack);
        }
    }

    /// The next change, in order; at the end one for each record that merely knows more.
    pub fn poll_change(&mut self) -> Option<Change> {
        if let Some(change) = self.changes.pop_front() {
            return Some(change);
        }
        while let Some(attack) = self.dirty.pop_first() {
            if let Some(open) = self.open.get(&attack).filter(|open| open.told) {
                let incident = Arc::new(open.incident.clone());
                return Some(Change { kind: ChangeKind::Updated, incident });
            }
        }
        None
    }

    /// Attacks that got no record because too many were open.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// The records that still change.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.values().map(|open| &open.incident)
    }

    /// Mitigations that belong to some open record.
    #[cfg(test)]
    pub(super) fn owned(&self) -> usize {
        self.owners.len()
    }

    fn at(&self, time: Timestamp) -> WallTime {
        WallTime::from_nanos(self.wall.nanos_at(time))
    }

    fn attack(&mut self, change: &AttackEvent) {
        let attack = change.attack();
        if let AttackEvent::Started(_) = change {
            self.start(attack);
            return;
        }
        // The policy says something of every attack, at once. If it did not, people still hear.
        self.tell(attack.id);
        let now = self.now;
        let Some(open) = self.open.get_mut(&attack.id) else { return };
        let incident = &mut open.incident;
        incident.vectors = convert::vectors(attack);
        incident.current = convert::rate(attack.current);
        incident.peak = convert::rate(attack.peak);
        incident.excess = attack.excess;
        (incident.packets, incident.bytes) = (attack.packets, attack.bytes);
        incident.sources = attack.sources;
        incident.updated = now;
        self.dirty.insert(attack.id);
        match change {
            AttackEvent::Ended(_, reason) => {
                self.end(attack.id, &reason.to_string());
                self.close_if_over(attack.id);
            }
            _ => self.traffic(attack.id, convert::rate(attack.current)),
        }
    }

    fn start(&mut self, attack: &Attack) {
        if self.open.len() >= MAX_OPEN {
            self.unrecorded += 1;
            return;
        }
        let (onset, detected) = (self.at(attack.onset), self.at(attack.detected));
        let incident = Incident {
            schema: SCHEMA,
            id: format!("{}-{}", onset.compact(), attack.id.0),
            attack: attack.id.to_string(),
            target: attack.target,
            group: attack.group.clone(),
            status: Status::Active,
            severity: None,
            times: Times {
                onset,
                detected,
                decided: None,
                announced: None,
                at_peer: None,
                effective: None,
                ended: None,
                withdrawn: None,
            },
            updated: self.now,
            trigger: convert::trigger(attack),
            vectors: convert::vectors(attack),
            current: convert::rate(attack.current),
            peak: convert::rate(attack.peak),
            excess: attack.excess,
            packets: attack.packets,
            bytes: attack.bytes,
            sources: attack.sources,
            census: None,
            policy: PolicyRef { commit: self.commit.clone(), response: None },
            decisions: Vec::new(),
            guard: Vec::new(),
            mitigations: Vec::new(),
            effect: None,
            capture: None,
            end_reason: None,
            withdraw_reason: None,
            omitted: 0,
            lost_events: 0,
        };
        let open = Open {
            incident,
            told: false,
            places: BTreeMap::new(),
            not_enforced: BTreeSet::new(),
            updates: 0,
        };
        self.open.insert(attack.id, open);
    }

    fn decision(&mut self, decision: &tidegate_policy::Decision) {
        let (attack, now, commit) = (decision.attack, self.now, self.commit.clone());
        let Some(open) = self.open.get_mut(&attack) else { return };
        let incident = &mut open.incident;
        let outcome = decision.kind.name();
        let worse = incident.severity.is_some_and(|severity| decision.severity > severity);
        incident.severity = incident.severity.max(Some(decision.severity));
        incident.times.decided.get_or_insert(now);
        incident.policy.commit.clone_from(&commit);
        if decision.response.is_some() {
            incident.policy.response.clone_from(&decision.response);
        }
        let entry = Decision {
            time: now,
            outcome: outcome.to_owned(),
            severity: decision.severity.name().to_owned(),
            response: decision.response.clone(),
            commit,
            reason: decision.reason.clone(),
        };
        push(&mut incident.decisions, entry, MAX_DECISIONS, &mut incident.omitted);
        incident.updated = now;
        self.guard_verdicts(decision);
        if let DecisionKind::Mitigate(keys) = &decision.kind {
            for key in keys {
                self.own(key, [attack]);
            }
        }
        self.dirty.insert(attack);
        let told = self.tell(attack);
        if worse && !told {
            self.say(attack, ChangeKind::Escalated);
        }
        if matches!(decision.kind, DecisionKind::Refused(_) | DecisionKind::NotEnforced(_)) {
            self.say(attack, ChangeKind::NotEnforced(decision.reason.clone()));
        }
    }

    fn guard_verdicts(&mut self, decision: &tidegate_policy::Decision) {
        let now = self.now;
        let Some(open) = self.open.get_mut(&decision.attack) else { return };
        let incident = &mut open.incident;
        let verdict = |subject: &Option<String>, verdict: &str, why| GuardVerdict {
            time: now,
            by: "planner".to_owned(),
            subject: subject.clone().unwrap_or_else(|| "every response".to_owned()),
            verdict: verdict.to_owned(),
            why,
        };
        match &decision.kind {
            DecisionKind::Mitigate(_) => {
                let passed = verdict(&decision.response, "passed", None);
                push(&mut incident.guard, passed, MAX_DECISIONS, &mut incident.omitted);
            }
            DecisionKind::Refused(refusals) => {
                for refusal in refusals {
                    let by_guard = matches!(refusal.cause, Cause::Guard(_));
                    let word = if by_guard { "refused" } else { "not possible" };
                    let why = Some(refusal.cause.to_string());
                    let refused = verdict(&refusal.response, word, why);
                    push(&mut incident.guard, refused, MAX_DECISIONS, &mut incident.omitted);
                }
            }
            _ => {}
        }
    }

    /// Notes that `key` answers `attacks`, and gives it an entry in their records.
    fn own(&mut self, key: &MitigationKey, attacks: impl IntoIterator<Item = AttackId>) {
        for attack in attacks {
            let Some(open) = self.open.get_mut(&attack) else { continue };
            if !open.places.contains_key(key) {
                if open.incident.mitigations.len() >= MAX_MITIGATIONS {
                    open.incident.omitted += 1;
                    continue;
                }
                open.places.insert(key.clone(), open.incident.mitigations.len());
                open.incident.mitigations.push(convert::mitigation(key));
            }
            self.owners.entry(key.clone()).or_default().insert(attack);
        }
    }

    /// Changes the entry of `key` in every record that has one, and what follows from it.
    fn each(&mut self, key: &MitigationKey, change: impl Fn(WallTime, &mut Mitigation)) {
        let now = self.now;
        for attack in self.owners.get(key).into_iter().flatten() {
            let Some(open) = self.open.get_mut(attack) else { continue };
            let Some(place) = open.places.get(key) else { continue };
            let Some(mitigation) = open.incident.mitigations.get_mut(*place) else { continue };
            change(now, mitigation);
            open.incident.updated = now;
            if mitigation.announced.is_some() {
                open.incident.times.announced.get_or_insert(now);
            }
            self.dirty.insert(*attack);
        }
    }

    fn outcome(&mut self, verb: Verb, key: &MitigationKey, kind: &OutcomeKind) {
        let (state, why, bytes) = match (verb, kind) {
            (Verb::Announce, OutcomeKind::Applied { bytes }) => {
                (MitigationState::Installed, None, bytes.as_ref())
            }
            (Verb::Withdraw, OutcomeKind::Applied { bytes }) => {
                (MitigationState::Withdrawn, None, bytes.as_ref())
            }
            (Verb::Announce, OutcomeKind::Pending { why }) => {
                (MitigationState::Pending, Some(why), [].as_slice())
            }
            (Verb::Announce, OutcomeKind::Rejected { why } | OutcomeKind::Failed { why }) => {
                (MitigationState::Failed, Some(why), [].as_slice())
            }
            (
                Verb::Withdraw,
                OutcomeKind::Pending { why }
                | OutcomeKind::Rejected { why }
                | OutcomeKind::Failed { why },
            ) => (MitigationState::Withdrawing, Some(why), [].as_slice()),
        };
        let owners = self.owners.get(key).cloned().unwrap_or_default();
        for attack in owners {
            self.add_outcome(attack, key, outcome_name(verb, kind), state, why, bytes);
            let failed = matches!(kind, OutcomeKind::Rejected { .. } | OutcomeKind::Failed { .. });
            if failed {
                let done = if verb == Verb::Announce { "announced" } else { "withdrawn" };
                let why = why.map_or("", String::as_str);
                self.say_not_enforced(attack, key, format!("{key}: NOT {done}: {why}"));
            }
            self.close_if_over(attack);
        }
        if state == MitigationState::Withdrawn {
            self.owners.remove(key);
        }
    }

    fn add_outcome(
        &mut self,
        attack: AttackId,
        key: &MitigationKey,
        name: &str,
        state: MitigationState,
        why: Option<&String>,
        bytes: &[u8],
    ) {
        let now = self.now;
        let Some(open) = self.open.get_mut(&attack) else { return };
        let Some(place) = open.places.get(key) else { return };
        let incident = &mut open.incident;
        let Some(mitigation) = incident.mitigations.get_mut(*place) else { return };
        mitigation.state = state;
        let mut outcome =
            Outcome { time: now, outcome: name.to_owned(), why: why.cloned(), update: None };
        let room = mitigation.outcomes.len() < MAX_OUTCOMES;
        if room && open.updates < MAX_UPDATES {
            outcome.update = convert::update(bytes);
            open.updates += usize::from(outcome.update.is_some());
        } else if room && !bytes.is_empty() {
            incident.omitted += 1;
        }
        push(&mut mitigation.outcomes, outcome, MAX_OUTCOMES, &mut incident.omitted);
        incident.updated = now;
        self.dirty.insert(attack);
        match state {
            MitigationState::Installed => {
                mitigation.at_peer.get_or_insert(now);
                open.not_enforced.remove(key);
                let first = incident.times.at_peer.is_none();
                incident.times.at_peer.get_or_insert(now);
                if first {
                    self.say(attack, ChangeKind::Mitigated);
                }
            }
            MitigationState::Withdrawn => {
                mitigation.withdrawn = Some(now);
                incident.withdraw_reason.clone_from(&mitigation.withdraw_reason);
                // It comes back with the next announcement, if there is one.
                open.not_enforced.remove(key);
            }
            _ => {}
        }
    }

    /// A peer drops our routes with the session; they come back with it.
    fn backend_down(&mut self, backend: &BackendId, why: &str) {
        let keys = self.owners.iter().filter(|(key, _)| key.backend == *backend);
        let held: Vec<(MitigationKey, BTreeSet<AttackId>)> =
            keys.map(|(key, attacks)| (key.clone(), attacks.clone())).collect();
        for (key, attacks) in held {
            for attack in attacks {
                let installed = self.state_of(attack, &key) == Some(MitigationState::Installed);
                if installed {
                    let state = MitigationState::Pending;
                    let reason = Some(why.to_owned());
                    self.add_outcome(attack, &key, "backend-down", state, reason.as_ref(), &[]);
                    self.say_not_enforced(attack, &key, format!("{key}: lost: {why}"));
                }
            }
        }
    }

    fn state_of(&self, attack: AttackId, key: &MitigationKey) -> Option<MitigationState> {
        let open = self.open.get(&attack)?;
        let mitigation = open.incident.mitigations.get(*open.places.get(key)?)?;
        Some(mitigation.state)
    }

    fn ledger(&mut self, key: &MitigationKey, change: &LedgerChange) {
        let text = ledger_text(change);
        let refused = matches!(change, LedgerChange::Entered(EntryState::Refused(_)));
        let now = self.now;
        for attack in self.owners.get(key).cloned().unwrap_or_default() {
            if let Some(open) = self.open.get_mut(&attack).filter(|_| refused) {
                let verdict = GuardVerdict {
                    time: now,
                    by: "ledger".to_owned(),
                    subject: key.to_string(),
                    verdict: "refused".to_owned(),
                    why: Some(text.clone()),
                };
                let incident = &mut open.incident;
                push(&mut incident.guard, verdict, MAX_DECISIONS, &mut incident.omitted);
            }
            self.dirty.insert(attack);
            self.say_not_enforced(attack, key, format!("{key}: {text}"));
        }
    }

    /// Says once, until it is enforced, that `key` is not.
    fn say_not_enforced(&mut self, attack: AttackId, key: &MitigationKey, text: String) {
        let Some(open) = self.open.get_mut(&attack) else { return };
        if open.not_enforced.insert(key.clone()) {
            self.say(attack, ChangeKind::NotEnforced(text));
        }
    }

    /// The sensor sees what upstream lets through, so a fall after a peer has the route is the
    /// effect. What the kernel drops here was seen before: nothing can be said of it this way.
    fn traffic(&mut self, attack: AttackId, rate: Rate) {
        let now = self.now;
        let Some(open) = self.open.get_mut(&attack) else { return };
        let incident = &mut open.incident;
        let upstream = incident.mitigations.iter().any(|mitigation| {
            mitigation.kernel_rule.is_none() && mitigation.state == MitigationState::Installed
        });
        if !upstream {
            incident.current = rate;
            return;
        }
        let before = incident.effect.map_or(incident.current, |effect| effect.before);
        let after = incident.effect.map_or(rate, |effect| lower(effect.after, rate));
        incident.current = rate;
        if before.packets_per_second == 0 {
            return;
        }
        let left = after.packets_per_second as f64 / before.packets_per_second as f64;
        let reduction = (1.0 - left).clamp(0.0, 1.0);
        let told = incident.effect.map_or(0.0, |effect| effect.reduction);
        if incident.effect.is_none() || reduction - told >= EFFECT_STEP {
            incident.effect = Some(Effect { before, after, reduction });
            incident.updated = now;
            self.dirty.insert(attack);
        }
        if reduction >= EFFECTIVE {
            incident.times.effective.get_or_insert(now);
        }
    }

    /// Says that the record is there, if that was not said yet; whether it was said now.
    fn tell(&mut self, attack: AttackId) -> bool {
        match self.open.get_mut(&attack) {
            Some(open) if !open.told => {
                open.told = true;
                self.say(attack, ChangeKind::Opened);
                true
            }
            _ => false,
        }
    }

    fn say(&mut self, attack: AttackId, kind: ChangeKind) {
        if let Some(open) = self.open.get(&attack) {
            let incident = Arc::new(open.incident.clone());
            self.changes.push_back(Change { kind, incident });
            self.dirty.remove(&attack);
        }
    }

    fn end(&mut self, attack: AttackId, reason: &str) {
        self.tell(attack);
        let now = self.now;
        let Some(open) = self.open.get_mut(&attack) else { return };
        let incident = &mut open.incident;
        if incident.status == Status::Active {
            incident.status = Status::Ended;
            incident.times.ended = Some(now);
            incident.end_reason = Some(reason.to_owned());
            incident.updated = now;
            self.say(attack, ChangeKind::Ended);
        }
    }

    fn close_if_over(&mut self, attack: AttackId) {
        let over = self.open.get(&attack).is_some_and(|open| {
            open.incident.status == Status::Ended && !open.incident.may_be_mitigated()
        });
        if over {
            self.close(attack);
        }
    }

    fn close(&mut self, attack: AttackId) {
        let Some(mut open) = self.open.remove(&attack) else { return };
        let incident = &mut open.incident;
        incident.status = Status::Closed;
        incident.updated = self.now;
        let last = incident.mitigations.iter().filter_map(|mitigation| mitigation.withdrawn).max();
        incident.times.withdrawn = last;
        for key in open.places.keys() {
            if let Some(owners) = self.owners.get_mut(key) {
                owners.remove(&attack);
                if owners.is_empty() {
                    self.owners.remove(key);
                }
            }
        }
        self.dirty.remove(&attack);
        let incident = Arc::new(open.incident);
        self.closed.push_back((attack, Arc::clone(&incident)));
        if self.closed.len() > MAX_CLOSED {
            self.closed.pop_front();
        }
        self.changes.push_back(Change { kind: ChangeKind::Closed, incident });
    }

    /// Adds what was learnt to a record, also to one that was closed a while ago.
    fn amend(&mut self, attack: AttackId, change: impl FnOnce(&mut Incident)) {
        if let Some(open) = self.open.get_mut(&attack) {
            change(&mut open.incident);
            open.incident.updated = self.now;
            self.dirty.insert(attack);
        } else if let Some((_, closed)) =
            self.closed.iter_mut().rev().find(|(closed, _)| *closed == attack)
        {
            let incident = Arc::make_mut(closed);
            change(incident);
            incident.updated = self.now;
            let incident = Arc::clone(closed);
            self.changes.push_back(Change { kind: ChangeKind::Updated, incident });
        }
    }
}

fn lower(one: Rate, other: Rate) -> Rate {
    Rate {
        packets_per_second: one.packets_per_second.min(other.packets_per_second),
        bits_per_second: one.bits_per_second.min(other.bits_per_second),
    }
}

/// Adds to a list within its bound. The first entries stay: they tell how it began.
fn push<T>(list: &mut Vec<T>, item: T, bound: usize, omitted: &mut u64) {
    if list.len() < bound {
        list.push(item);
    } else {
        *omitted += 1;
    }
}
