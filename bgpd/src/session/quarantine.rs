//! Which announcement makes the peer reset the session, so that it is not sent again.
//!
//! ```text
//!                        the peer resets shortly after an announcement
//!   (nothing) ------------------------------------------------------------> suspects, withheld
//!       ^                                                                        |
//!       |           the session is up and quiet for the settle time: a group of them is sent
//!       |                                                                        v
//!       |<-- quiet for the settle time: cleared ------------------------------ on trial
//!                                                                                |
//!   offender, rejected <-- reset, it was one, and alone in its session ----------+
//!                                                                                |
//!   suspects again, in up to eight groups that come last <-- reset --------------+
//! ```
//!
//! **Evidence.** A NOTIFICATION about a message (1/x, 3/x) is taken at its word: suspects are what
//! was sent within [`SUSPICION_WINDOW`]. A connection that ends without one may have any cause, a
//! link that flaps above all: suspects are what was sent shortly before each of
//! [`UNEXPLAINED_LOSSES`] losses in a row, none more than [`DOUBT_LIFETIME`] after the last. They are
//! tried only in a session that has lasted without them, for [`CONTROL_TIME`] and several times as
//! long as sessions lasted with them. If it ends before that, without a NOTIFICATION again, the
//! suspects are acquitted, and for [`TRUCE`] nobody is suspected on such grounds. Any other
//! NOTIFICATION (a Cease, an expired hold timer) accuses no route.
//!
//! **Bounds.** Every loss that counts splits a group or convicts a route, and a hunt that saw
//! [`MOST_RESETS`] of them convicts whole groups. Whatever is not suspected is sent at once when the
//! session comes back, and so are new routes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{CommandId, Nlri, Route, Timestamp};

/// What was announced so long before the loss of a session is suspect.
pub const SUSPICION_WINDOW: Duration = Duration::from_secs(5);
/// A group on trial is cleared when the session has lasted so long after it was written. With a
/// peer that takes longer to object it is more, up to [`LONGEST_SETTLE_TIME`]: twice as long as it
/// was seen to take.
pub const SETTLE_TIME: Duration = Duration::from_millis(500);
/// The longest time that a group is watched. Longer than [`SUSPICION_WINDOW`], so that whatever was
/// suspect is found.
pub const LONGEST_SETTLE_TIME: Duration = Duration::from_secs(6);
/// So many losses in a row without a NOTIFICATION make suspects of what was announced before each.
pub const UNEXPLAINED_LOSSES: u32 = 3;
/// Unexplained losses that are further apart have nothing to do with each other.
pub const DOUBT_LIFETIME: Duration = Duration::from_secs(60);
/// How long a session must last without the suspects of unexplained losses before one of them is
/// tried. It is [`CONTROL_FACTOR`] times as long as a session lasted with them, if that is more, up
/// to [`LONGEST_CONTROL_TIME`].
pub const CONTROL_TIME: Duration = Duration::from_secs(5);
/// The longest time that a session must last without the suspects.
pub const LONGEST_CONTROL_TIME: Duration = Duration::from_secs(30);
/// See [`CONTROL_TIME`].
pub const CONTROL_FACTOR: u32 = 5;
/// After a session ended without the suspects as it had ended with them, unexplained losses make
/// no suspects for so long.
pub const TRUCE: Duration = Duration::from_secs(60);
/// A hunt that has seen so many resets does not split groups any more, and convicts them whole.
pub const MOST_RESETS: u32 = 32;
/// After so long without a loss that counts, what was learnt of the peer's speed is forgotten, and
/// resets are counted anew.
const CALM: Duration = Duration::from_secs(60);
/// Most offenders that are remembered; the oldest is forgotten.
pub const MOST_OFFENDERS: usize = 1024;
/// Most announcements of the window that are remembered; the oldest are forgotten.
const MOST_RECENT: usize = 65_536;
/// A group of suspects is split into so many.
const PARTS: usize = 8;

/// What the loss of a session says about what was announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing.
    #[default]
    None,
    /// The connection ended without a NOTIFICATION.
    Unexplained,
    /// The peer could not take a message.
    Accused,
}

/// A route that is withheld, with its last command.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) command: CommandId,
    pub(super) route: Route,
}

type Suspects = BTreeMap<Nlri, Suspect>;

/// Suspects that are tried together.
#[derive(Debug)]
struct Group {
    suspects: Suspects,
    /// What makes them suspect.
    evidence: Evidence,
}

/// What to do about the loss of a session.
#[derive(Debug, Default)]
pub(super) struct Ruling {
    /// Take these from the table, and hand them to [`Quarantine::withhold`].
    pub(super) withhold: Vec<Vec<Nlri>>,
    /// What makes them suspect.
    pub(super) evidence: Evidence,
    /// Back to the table with these: they are suspects no more.
    pub(super) acquitted: Suspects,
    /// This one is never sent again.
    pub(super) convicted: Vec<Nlri>,
}

impl Ruling {
    /// Every route that it is about.
    pub(super) fn nlris(&self) -> BTreeSet<Nlri> {
        self.withhold.iter().flatten().chain(&self.convicted).cloned().collect()
    }

    /// Whether something follows from the loss, so that the next session is a step further.
    pub(super) fn is_progress(&self) -> bool {
        !self.withhold.is_empty() || !self.convicted.is_empty()
    }
}

/// Announcements that were written together.
#[derive(Debug)]
struct Written {
    at: Timestamp,
    nlris: Arc<Vec<Nlri>>,
    commands: Vec<(CommandId, Nlri)>,
}

#[derive(Debug)]
struct Trial {
    nlris: BTreeSet<Nlri>,
    evidence: Evidence,
    /// Whether the session lasted for the control time before.
    controlled: bool,
    since: Timestamp,
    written: Option<Timestamp>,
    /// Whether it is the first of its session.
    first: bool,
}

#[derive(Debug)]
struct Hunt {
    groups: VecDeque<Group>,
    trial: Option<Trial>,
    /// When all that is not withheld was written, in this session.
    quiet_since: Option<Timestamp>,
    /// Whether something was on trial in this session already.
    tried: bool,
    /// How often this one ended a session without a NOTIFICATION, being alone on trial.
    alone: Option<(Nlri, u32)>,
}

/// Unexplained losses in a row.
#[derive(Debug)]
struct Doubt {
    losses: u32,
    /// What was announced before each.
    common: BTreeSet<Nlri>,
    /// The last of them.
    last: Timestamp,
    /// The longest time from an announcement to a loss.
    took: Duration,
}

/// The recent, suspected and convicted announcements of one peer.
#[derive(Debug)]
pub(super) struct Quarantine {
    written: VecDeque<Written>,
    written_nlris: usize,
    hunt: Option<Hunt>,
    /// How long a session must last without the suspects, once the hunt rests on unexplained losses.
    control: Option<Duration>,
    settle: Duration,
    resets: u32,
    last_loss: Timestamp,
    doubt: Option<Doubt>,
    /// Until then unexplained losses make no suspects.
    truce: Timestamp,
    offenders: BTreeMap<Nlri, String>,
    order: VecDeque<Nlri>,
}

impl Quarantine {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            written: VecDeque::new(),
            written_nlris: 0,
            hunt: None,
            control: None,
            settle: SETTLE_TIME,
            resets: 0,
            last_loss: now,
            doubt: None,
            truce: now,
            offenders: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// An announcement is with the socket.
    pub(super) fn handle_written(
        &mut self,
        now: Timestamp,
        nlris: Arc<Vec<Nlri>>,
        commands: Vec<(CommandId, Nlri)>,
    ) {
        self.written_nlris += nlris.len();
        self.written.push_back(Written { at: now, nlris, commands });
        while let Some(oldest) = self.written.front()
            && (now.since(oldest.at) > SUSPICION_WINDOW || self.written_nlris > MOST_RECENT)
        {
            self.written_nlris -= oldest.nlris.len();
            self.written.pop_front();
        }
    }

    /// `command` is the last one now for a route that was written already.
    pub(super) fn handle_renamed(&mut self, command: CommandId, nlri: &Nlri) {
        if let Some(last) = self.written.back_mut() {
            last.commands.push((command, nlri.clone()));
        }
    }

    /// The last command of each recent announcement.
    pub(super) fn commands(&self) -> BTreeMap<&Nlri, CommandId> {
        let commands = self.written.iter().flat_map(|written| &written.commands);
        commands.map(|(command, nlri)| (nlri, *command)).collect()
    }

    /// A session has come up. What is not withheld is sent now.
    pub(super) fn handle_up(&mut self) {
        self.forget_written();
        if let Some(hunt) = &mut self.hunt {
            hunt.trial = None;
            hunt.quiet_since = None;
            hunt.tried = false;
        }
    }

    /// The session is lost. `wanted` says which routes the table has.
    pub(super) fn handle_lost(
        &mut self,
        now: Timestamp,
        evidence: Evidence,
        wanted: &BTreeSet<&Nlri>,
    ) -> Ruling {
        let trial = self.hunt.as_mut().and_then(|hunt| hunt.trial.take());
        let since = trial.as_ref().map(|trial| trial.since);
        let recent = self.recent(now, since);
        let only = recent.len() == 1;
        if evidence != Evidence::None {
            self.learn(now);
        }
        let mut suspects: BTreeSet<Nlri> = recent;
        suspects.extend(trial.iter().flat_map(|trial| trial.nlris.iter().cloned()));
        suspects.retain(|nlri| wanted.contains(nlri));
        match (evidence, trial) {
            // It proves nothing: once more.
            (Evidence::None, trial) => trial.map_or_else(Ruling::default, |trial| Ruling {
                withhold: one(still_wanted(trial.nlris, wanted)),
                evidence: trial.evidence,
                ..Ruling::default()
            }),
            (Evidence::Unexplained, Some(trial)) if !trial.controlled => {
                // Neither does that, unless the session lasted without them.
                self.control = Some(control_time(self.took(now)));
                Ruling {
                    withhold: one(still_wanted(trial.nlris, wanted)),
                    evidence: trial.evidence,
                    ..Ruling::default()
                }
            }
            (_, Some(trial)) => self.judge_trial(evidence, &trial, suspects),
            (Evidence::Accused, None) => {
                self.doubt = None;
                if self.hunt.is_none() && only && suspects.len() == 1 {
                    // Nothing else was sent, and the peer says what it did not take.
                    return Ruling {
                        convicted: suspects.into_iter().collect(),
                        ..Ruling::default()
                    };
                }
                self.suspect(suspects, evidence)
            }
            (Evidence::Unexplained, None) => match self.acquit(now) {
                acquitted if !acquitted.is_empty() => Ruling { acquitted, ..Ruling::default() },
                _ => self.doubt(now, suspects),
            },
        }
    }

    /// A session ended without the suspects of unexplained losses as others did with them: those
    /// suspects, who are none any more.
    fn acquit(&mut self, now: Timestamp) -> Suspects {
        let Some(hunt) = &mut self.hunt else { return Suspects::new() };
        let doubted = |group: &Group| group.evidence == Evidence::Unexplained;
        let (acquitted, kept): (VecDeque<Group>, _) = hunt.groups.drain(..).partition(doubted);
        hunt.groups = kept;
        if hunt.groups.is_empty() {
            self.end_hunt();
        }
        if !acquitted.is_empty() {
            self.truce = now + TRUCE;
        }
        acquitted.into_iter().flat_map(|group| group.suspects).collect()
    }

    /// An unexplained loss, after `suspects` were announced.
    fn doubt(&mut self, now: Timestamp, suspects: BTreeSet<Nlri>) -> Ruling {
        if now < self.truce {
            return Ruling::default();
        }
        let took = self.took(now);
        let before = self.doubt.take().filter(|doubt| now.since(doubt.last) <= DOUBT_LIFETIME);
        let common = before.as_ref().map(|before| &before.common & &suspects);
        let doubt = match (before, common) {
            (Some(before), Some(common)) if !common.is_empty() => {
                let (losses, took) = (before.losses + 1, took.max(before.took));
                Doubt { losses, common, last: now, took }
            }
            _ => Doubt { losses: 1, common: suspects, last: now, took },
        };
        if doubt.losses < UNEXPLAINED_LOSSES {
            self.doubt = Some(doubt);
            return Ruling::default();
        }
        self.control = Some(control_time(doubt.took));
        self.suspect(doubt.common, Evidence::Unexplained)
    }

    /// From the last announcement until now.
    fn took(&self, now: Timestamp) -> Duration {
        self.written.back().map_or(Duration::ZERO, |last| now.since(last.at))
    }

    /// How slow the peer is: it takes no less than from the last announcement until now.
    fn learn(&mut self, now: Timestamp) {
        if now.since(self.last_loss) > CALM {
            self.settle = SETTLE_TIME;
            self.resets = 0;
        }
        self.last_loss = now;
        self.settle = self.settle.max(self.took(now) * 2).min(LONGEST_SETTLE_TIME);
    }

    fn judge_trial(
        &mut self,
        evidence: Evidence,
        trial: &Trial,
        suspects: BTreeSet<Nlri>,
    ) -> Ruling {
        let Some(hunt) = &mut self.hunt else { return Ruling::default() };
        self.resets += 1;
        let exhausted = self.resets >= MOST_RESETS;
        let mut ruling = Ruling { evidence: trial.evidence, ..Ruling::default() };
        match suspects.first() {
            Some(only) if suspects.len() == 1 => {
                let before = hunt.alone.take().filter(|(nlri, _)| nlri == only);
                let count = before.map_or(0, |(_, count)| count) + u32::from(trial.first);
                let enough = if evidence == Evidence::Accused { 1 } else { 2 };
                if count >= enough || exhausted {
                    ruling.convicted = vec![only.clone()];
                } else {
                    // Another one may be at fault, if the peer is slow: now it comes first.
                    hunt.alone = Some((only.clone(), count));
                    ruling.withhold = one(vec![only.clone()]);
                }
            }
            _ if exhausted => ruling.convicted = suspects.into_iter().collect(),
            _ => ruling.withhold = split(suspects),
        }
        ruling
    }

    /// Everything in `suspects` is to be tried. If some of it was cleared before, the peer is slower
    /// than it was given time for.
    fn suspect(&mut self, suspects: BTreeSet<Nlri>, evidence: Evidence) -> Ruling {
        if suspects.is_empty() {
            return Ruling::default();
        }
        if self.resets > 0 {
            self.settle = (self.settle * 2).min(LONGEST_SETTLE_TIME);
        }
        // Unexplained losses alone convict nobody.
        self.resets += u32::from(evidence == Evidence::Accused);
        if self.resets >= MOST_RESETS && evidence == Evidence::Accused {
            let convicted = suspects.into_iter().collect();
            return Ruling { convicted, evidence, ..Ruling::default() };
        }
        Ruling { withhold: split(suspects), evidence, ..Ruling::default() }
    }

    /// Takes suspects out of circulation. One that comes alone is the next to be tried, a group
    /// waits until those are back that are not known to hold an offender.
    pub(super) fn withhold(&mut self, suspects: Suspects, evidence: Evidence) {
        if suspects.is_empty() {
            return;
        }
        let hunt = self.hunt.get_or_insert_with(|| Hunt {
            groups: VecDeque::new(),
            trial: None,
            quiet_since: None,
            tried: false,
            alone: None,
        });
        let next = hunt.alone.as_ref().is_some_and(|(nlri, _)| suspects.contains_key(nlri));
        let group = Group { suspects, evidence };
        if next {
            hunt.groups.push_front(group);
        } else {
            hunt.groups.push_back(group);
        }
    }

    /// Never again, until [`Self::release`]. `why` is for people.
    pub(super) fn convict(&mut self, nlri: Nlri, why: String) {
        if self.offenders.insert(nlri.clone(), why).is_none() {
            self.order.push_back(nlri);
        }
        while self.order.len() > MOST_OFFENDERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.offenders.remove(&oldest);
        }
    }

    /// Time has passed or something was written; `quiet` if nothing waits any more. The group to
    /// send now, if any.
    pub(super) fn advance(&mut self, now: Timestamp, quiet: bool) -> Option<Suspects> {
        let hunt = self.hunt.as_mut()?;
        let settle = self.settle;
        let control = self.control.map_or(settle, |control| control.max(settle));
        let lasted = |since: Option<Timestamp>, time| since.is_some_and(|at| at + time <= now);
        match &mut hunt.trial {
            Some(trial) => {
                if quiet {
                    trial.written.get_or_insert(now);
                }
                if !lasted(trial.written, settle) {
                    return None;
                }
                hunt.trial = None;
            }
            None => {
                if quiet {
                    hunt.quiet_since.get_or_insert(now);
                }
                if !lasted(hunt.quiet_since, control) {
                    return None;
                }
            }
        }
        let Some(group) = hunt.groups.pop_front() else {
            self.end_hunt();
            return None;
        };
        hunt.trial = Some(Trial {
            nlris: group.suspects.keys().cloned().collect(),
            evidence: group.evidence,
            controlled: self.control.is_some(),
            since: now,
            written: None,
            first: !std::mem::replace(&mut hunt.tried, true),
        });
        // What was written before is cleared, as long as this session lasts.
        self.forget_written();
        Some(group.suspects)
    }

    /// When to call [`Self::advance`].
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let hunt = self.hunt.as_ref()?;
        match &hunt.trial {
            Some(trial) => trial.written.map(|at| at + self.settle),
            None => {
                let control = self.control.unwrap_or_default().max(self.settle);
                hunt.quiet_since.map(|at| at + control)
            }
        }
    }

    /// Why `nlri` is not sent, if it is an offender.
    pub(super) fn offence(&self, nlri: &Nlri) -> Option<&str> {
        self.offenders.get(nlri).map(String::as_str)
    }

    /// The offenders, each with what is known.
    pub(super) fn offenders(&self) -> impl Iterator<Item = (&Nlri, &str)> {
        self.offenders.iter().map(|(nlri, why)| (nlri, why.as_str()))
    }

    /// The withheld routes.
    pub(super) fn withheld(&self) -> impl Iterator<Item = &Route> {
        let groups = self.hunt.iter().flat_map(|hunt| &hunt.groups);
        groups.flat_map(|group| group.suspects.values()).map(|suspect| &suspect.route)
    }

    /// The withheld route with this NLRI.
    pub(super) fn withheld_mut(&mut self, nlri: &Nlri) -> Option<&mut Suspect> {
        let groups = self.hunt.iter_mut().flat_map(|hunt| &mut hunt.groups);
        groups.into_iter().find_map(|group| group.suspects.get_mut(nlri))
    }

    /// `nlri` is not wanted any more: neither suspect nor offender.
    pub(super) fn release(&mut self, nlri: &Nlri) {
        if self.offenders.remove(nlri).is_some() {
            self.order.retain(|other| other != nlri);
        }
        if let Some(hunt) = &mut self.hunt {
            for group in &mut hunt.groups {
                group.suspects.remove(nlri);
            }
            hunt.groups.retain(|group| !group.suspects.is_empty());
        }
    }

    /// No route is wanted any more.
    pub(super) fn clear(&mut self) {
        self.end_hunt();
    }

    fn end_hunt(&mut self) {
        self.hunt = None;
        self.control = None;
    }

    fn forget_written(&mut self) {
        self.written.clear();
        self.written_nlris = 0;
    }

    fn recent(&self, now: Timestamp, since: Option<Timestamp>) -> BTreeSet<Nlri> {
        let written = self.written.iter().filter(|written| {
            now.since(written.at) <= SUSPICION_WINDOW && since.is_none_or(|at| written.at >= at)
        });
        written.flat_map(|written| written.nlris.iter().cloned()).collect()
    }
}

fn control_time(took: Duration) -> Duration {
    (took * CONTROL_FACTOR).clamp(CONTROL_TIME, LONGEST_CONTROL_TIME)
}

fn still_wanted(nlris: BTreeSet<Nlri>, wanted: &BTreeSet<&Nlri>) -> Vec<Nlri> {
    nlris.into_iter().filter(|nlri| wanted.contains(nlri)).collect()
}

/// A group, unless it is empty.
fn one(group: Vec<Nlri>) -> Vec<Vec<Nlri>> {
    if group.is_empty() { Vec::new() } else { vec![group] }
}

/// Up to [`PARTS`] groups of the same size, one more or less.
fn split(suspects: BTreeSet<Nlri>) -> Vec<Vec<Nlri>> {
    let suspects: Vec<Nlri> = suspects.into_iter().collect();
    let size = suspects.len().div_ceil(PARTS).max(1);
    suspects.chunks(size).map(<[Nlri]>::to_vec).collect()
}
