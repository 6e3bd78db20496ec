//! Attacks that other detectors recognised and feed in.
//!
//! A report is known by its reporter and its id: told again it renews the lease and says what has
//! changed, and makes no second attack. A reporter that falls silent ends its attacks with their
//! leases. Pure: time is a parameter.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_model::{
    Attack, AttackEvent, AttackId, AttackVector, Confidence, EndReason, Prefix, Rate, Signature,
    Timestamp,
};
use tidegate_policy::{Policy, play};

/// Most attacks that are reported at once. Further ones are refused until one ends.
pub const MAX_REPORTED: usize = 1_024;
/// Longest id of a report, in octets.
pub const MAX_ID: usize = 128;
/// The shortest and the longest lease.
pub const LEASES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// The lease of a report that names none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// What another detector says of an attack.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Who says so.
    pub reporter: String,
    /// The reporter's name of the attack.
    pub id: String,
    /// Whom it hits.
    pub target: Prefix,
    /// What it is.
    pub vector: AttackVector,
    /// How certain that is.
    pub confidence: Confidence,
    /// What its packets have in common.
    pub signature: Signature,
    /// Rate now.
    pub rate: Rate,
    /// Distinct sources.
    pub sources: u64,
    /// When it began; the first report counts.
    pub onset: Timestamp,
    /// Packets and bytes since then.
    pub volume: (u64, u64),
    /// Without another report the attack is over then.
    pub lease: Duration,
    /// It is over.
    pub ended: bool,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is an attack now.
    Started(AttackId),
    /// The attack goes on.
    Renewed(AttackId),
    /// The attack is over.
    Ended(AttackId),
}

/// Why a report is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// An id that cannot be kept.
    #[error("the id is {0} octets long; give it 1 to {MAX_ID}")]
    Id(usize),
    /// A lease that cannot be.
    #[error("the lease must be from {} to {} s", LEASES.0.as_secs(), LEASES.1.as_secs())]
    Lease,
    /// Nobody here cares about the target.
    #[error("{0} lies in no owned prefix of the policy; report only what is protected here")]
    NotProtected(Prefix),
    /// The id is in use.
    #[error("this id names the attack on {0}; give another target another id")]
    OtherTarget(Prefix),
    /// There is nothing to end.
    #[error("no attack of this id goes on; its lease may be over")]
    Unknown,
    /// Too many.
    #[error("{MAX_REPORTED} reported attacks go on already; end some first")]
    Full,
}

#[derive(Clone, Debug)]
struct Held {
    attack: Attack,
    lease: Duration,
    /// The lease ends then.
    until: Timestamp,
}

/// The attacks that were reported and go on.
#[derive(Debug, Default)]
pub struct Reports {
    /// By reporter and id.
    held: BTreeMap<(String, String), Held>,
    started: u64,
    /// Drained by the engine after each call: at most two for each attack.
    events: VecDeque<AttackEvent>,
}

impl Reports {
    /// Takes a report under `policy`; what becomes of it.
    ///
    /// # Errors
    /// [`ReportRefused`]. Nothing has changed then.
    pub fn handle_report(
        &mut self,
        now: Timestamp,
        policy: &Policy,
        report: Report,
    ) -> Result<Reported, ReportRefused> {
        self.handle_timeout(now);
        if report.id.is_empty() || report.id.len() > MAX_ID {
            return Err(ReportRefused::Id(report.id.len()));
        }
        if !(LEASES.0..=LEASES.1).contains(&report.lease) {
            return Err(ReportRefused::Lease);
        }
        let key = (report.reporter.clone(), report.id.clone());
        if let Some(held) = self.held.get(&key) {
            if held.attack.target != report.target {
                return Err(ReportRefused::OtherTarget(held.attack.target));
            }
            let id = held.attack.id;
            return Ok(if report.ended {
                self.end(&key, id)
            } else {
                self.renew(now, policy, &key, report)
            });
        }
        if report.ended {
            return Err(ReportRefused::Unknown);
        }
        if !policy.space.owned.iter().any(|owned| owned.contains(&report.target)) {
            return Err(ReportRefused::NotProtected(report.target));
        }
        if self.held.len() >= MAX_REPORTED {
            return Err(ReportRefused::Full);
        }
        let id = AttackId(AttackId::REPORTED + self.started);
        self.started += 1;
        let lease = report.lease;
        let attack = attack(policy, id, now, report);
        self.events.push_back(AttackEvent::Started(attack.clone()));
        self.held.insert(key, Held { attack, lease, until: now + lease });
        Ok(Reported::Started(id))
    }

    /// Ends what nobody has confirmed in time.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let events = &mut self.events;
        self.held.retain(|_, held| {
            let goes_on = held.until > now;
            if !goes_on {
                let why = EndReason::Unconfirmed(held.lease);
                events.push_back(AttackEvent::Ended(held.attack.clone(), why));
            }
            goes_on
        });
    }

    /// Ends what the new policy does not own.
    pub fn handle_policy(&mut self, policy: &Policy) {
        let events = &mut self.events;
        self.held.retain(|_, held| {
            let target = held.attack.target;
            let owned = policy.space.owned.iter().any(|owned| owned.contains(&target));
            if !owned {
                events.push_back(AttackEvent::Ended(held.attack.clone(), EndReason::NotProtected));
            }
            owned
        });
    }

    /// Ends everything: there will be no more reports.
    pub fn handle_input_end(&mut self) {
        let held = std::mem::take(&mut self.held).into_values();
        let ended = |held: Held| AttackEvent::Ended(held.attack, EndReason::InputEnded);
        self.events.extend(held.map(ended));
    }

    /// What the planner is to be told, oldest first.
    pub fn poll_event(&mut self) -> Option<AttackEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is next needed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.until).min()
    }

    fn end(&mut self, key: &(String, String), id: AttackId) -> Reported {
        if let Some(held) = self.held.remove(key) {
            self.events.push_back(AttackEvent::Ended(held.attack, EndReason::Reported));
        }
        Reported::Ended(id)
    }

    fn renew(
        &mut self,
        now: Timestamp,
        policy: &Policy,
        key: &(String, String),
        report: Report,
    ) -> Reported {
        let Some(held) = self.held.get_mut(key) else { return Reported::Renewed(AttackId(0)) };
        held.lease = report.lease;
        held.until = now + report.lease;
        let before = held.attack.clone();
        let new = attack(policy, before.id, now, report);
        held.attack = Attack {
            onset: before.onset,
            detected: before.detected,
            trigger: before.trigger,
            peak: before.peak.max(new.current),
            excess: before.excess.max(new.excess),
            packets: before.packets.max(new.packets),
            bytes: before.bytes.max(new.bytes),
            ..new
        };
        // A blackhole that is lifted to look waits for news, also for news that all is as it was.
        self.events.push_back(AttackEvent::Updated(held.attack.clone()));
        Reported::Renewed(before.id)
    }
}

fn attack(policy: &Policy, id: AttackId, now: Timestamp, report: Report) -> Attack {
    let vector = (report.vector, report.confidence, report.signature);
    Attack {
        onset: report.onset.min(now),
        detected: now,
        packets: report.volume.0,
        bytes: report.volume.1,
        sources: report.sources,
        ..play::attack(policy, id, report.target, vector, report.rate)
    }
}

#[cfg(test)]
#[path = "reports/tests.rs"]
mod tests;
