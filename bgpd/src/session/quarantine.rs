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
//! was sent within [`SUSPICION_WINDOW`]. A connection that ends without one may have any cause:
//! suspects are what was sent shortly before each of [`UNEXPLAINED_LOSSES`] losses in a row. Any
//! other NOTIFICATION (a Cease, an expired hold timer) accuses no route.
//!
//! **Bounds.** Every loss that counts splits a group or convicts a route, and a hunt that saw
//! [`MOST_RESETS`] of them convicts whole groups. Whatever is not suspected is sent at once when the
//! session comes back, and so are new routes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidegate_model::{CommandId, Nlri, Route, Timestamp};

use crate::rib::Sent;

/// What was announced so long before the loss of a session is suspect.
pub const SUSPICION_WINDOW: Duration = Duration::from_secs(5);
/// A group on trial is cleared when the session has lasted so long after it was written. With a
/// peer that takes longer to object it is more, up to [`LONGEST_SETTLE_TIME`]: twice as long as it
/// was seen to take.
pub const SETTLE_TIME: Duration = Duration::from_millis(500);
/// The longest time that a group is watched.
pub const LONGEST_SETTLE_TIME: Duration = Duration::from_secs(4);
/// So many losses in a row without a NOTIFICATION make suspects of what was announced before each.
pub const UNEXPLAINED_LOSSES: u32 = 3;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing.
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

type Group = BTreeMap<Nlri, Suspect>;

/// What to do about the loss of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ruling {
    /// Take these from the table, and hand them to [`Quarantine::withhold`].
    pub(super) withhold: Vec<Vec<Nlri>>,
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
    nlris: Vec<Nlri>,
    commands: Vec<(CommandId, Nlri)>,
}

#[derive(Debug)]
struct Trial {
    nlris: BTreeSet<Nlri>,
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

/// The recent, suspected and convicted announcements of one peer.
#[derive(Debug)]
pub(super) struct Quarantine {
    written: VecDeque<Written>,
    written_nlris: usize,
    hunt: Option<Hunt>,
    settle: Duration,
    resets: u32,
    last_loss: Timestamp,
    /// How many unexplained losses there were in a row, and what was announced before each.
    doubt: (u32, BTreeSet<Nlri>),
    offenders: BTreeMap<Nlri, String>,
    order: VecDeque<Nlri>,
}

impl Quarantine {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            written: VecDeque::new(),
            written_nlris: 0,
            hunt: None,
            settle: SETTLE_TIME,
            resets: 0,
            last_loss: now,
            doubt: (0, BTreeSet::new()),
            offenders: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// An announcement is with the socket.
    pub(super) fn handle_written(&mut self, now: Timestamp, sent: Sent) {
        self.written_nlris += sent.nlris.len();
        self.written.push_back(Written { at: now, nlris: sent.nlris, commands: sent.commands });
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
            (Evidence::None, trial) => {
                // It proves nothing: once more.
                let again = trial.map(|trial| trial.nlris.into_iter()).into_iter().flatten();
                let again: Vec<Nlri> = again.filter(|nlri| wanted.contains(nlri)).collect();
                Ruling { withhold: one(again), convicted: Vec::new() }
            }
            (_, Some(trial)) => self.judge_trial(evidence, &trial, suspects),
            (Evidence::Accused, None) => {
                self.doubt = (0, BTreeSet::new());
                if self.hunt.is_none() && only && suspects.len() == 1 {
                    // Nothing else was sent, and the peer says what it did not take.
                    return Ruling {
                        convicted: suspects.into_iter().collect(),
                        ..Ruling::default()
                    };
                }
                self.suspect(suspects)
            }
            (Evidence::Unexplained, None) => {
                let common = match self.doubt.0 {
                    0 => suspects,
                    _ => suspects.intersection(&self.doubt.1).cloned().collect(),
                };
                let losses = if common.is_empty() { 0 } else { self.doubt.0 + 1 };
                if losses < UNEXPLAINED_LOSSES {
                    self.doubt = (losses, common);
                    return Ruling::default();
                }
                self.doubt = (0, BTreeSet::new());
                self.suspect(common)
            }
        }
    }

    /// How slow the peer is: it takes no less than from the last announcement until now.
    fn learn(&mut self, now: Timestamp) {
        if now.since(self.last_loss) > CALM {
            self.settle = SETTLE_TIME;
            self.resets = 0;
        }
        self.last_loss = now;
        if let Some(last) = self.written.back() {
            let took = now.since(last.at);
            self.settle = self.settle.max(took * 2).min(LONGEST_SETTLE_TIME);
        }
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
        match suspects.first() {
            Some(only) if suspects.len() == 1 => {
                let before = hunt.alone.take().filter(|(nlri, _)| nlri == only);
                let count = before.map_or(0, |(_, count)| count) + u32::from(trial.first);
                let enough = if evidence == Evidence::Accused { 1 } else { 2 };
                if count >= enough || exhausted {
                    return Ruling { convicted: vec![only.clone()], ..Ruling::default() };
                }
                // Another one may be at fault, if the peer is slow: now it comes first.
                hunt.alone = Some((only.clone(), count));
                Ruling { withhold: one(vec![only.clone()]), convicted: Vec::new() }
            }
            _ if exhausted => {
                let convicted = suspects.into_iter().collect();
                Ruling { convicted, ..Ruling::default() }
            }
            _ => Ruling { withhold: split(suspects), convicted: Vec::new() },
        }
    }

    /// Everything in `suspects` is to be tried. If some of it was cleared before, the peer is slower
    /// than it was given time for.
    fn suspect(&mut self, suspects: BTreeSet<Nlri>) -> Ruling {
        if suspects.is_empty() {
            return Ruling::default();
        }
        if self.resets > 0 {
            self.settle = (self.settle * 2).min(LONGEST_SETTLE_TIME);
        }
        self.resets += 1;
        if self.resets >= MOST_RESETS {
            let convicted = suspects.into_iter().collect();
            return Ruling { convicted, ..Ruling::default() };
        }
        Ruling { withhold: split(suspects), convicted: Vec::new() }
    }

    /// Takes suspects out of circulation. One that comes alone is the next to be tried, a group
    /// waits until those are back that are not known to hold an offender.
    pub(super) fn withhold(&mut self, group: Group) {
        if group.is_empty() {
            return;
        }
        let hunt = self.hunt.get_or_insert_with(|| Hunt {
            groups: VecDeque::new(),
            trial: None,
            quiet_since: None,
            tried: false,
            alone: None,
        });
        let next = hunt.alone.as_ref().is_some_and(|(nlri, _)| group.contains_key(nlri));
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
    pub(super) fn advance(&mut self, now: Timestamp, quiet: bool) -> Option<Group> {
        let hunt = self.hunt.as_mut()?;
        let settle = self.settle;
        let settled = |since: Option<Timestamp>| since.is_some_and(|at| at + settle <= now);
        match &mut hunt.trial {
            Some(trial) => {
                if quiet {
                    trial.written.get_or_insert(now);
                }
                if !settled(trial.written) {
                    return None;
                }
                hunt.trial = None;
            }
            None => {
                if quiet {
                    hunt.quiet_since.get_or_insert(now);
                }
                if !settled(hunt.quiet_since) {
                    return None;
                }
            }
        }
        let Some(group) = hunt.groups.pop_front() else {
            self.hunt = None;
            return None;
        };
        hunt.trial = Some(Trial {
            nlris: group.keys().cloned().collect(),
            since: now,
            written: None,
            first: !std::mem::replace(&mut hunt.tried, true),
        });
        // What was written before is cleared, as long as this session lasts.
        self.forget_written();
        Some(group)
    }

    /// When to call [`Self::advance`].
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let hunt = self.hunt.as_ref()?;
        let since = match &hunt.trial {
            Some(trial) => trial.written,
            None => hunt.quiet_since,
        };
        since.map(|at| at + self.settle)
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
        groups.flat_map(BTreeMap::values).map(|suspect| &suspect.route)
    }

    /// The withheld route with this NLRI.
    pub(super) fn withheld_mut(&mut self, nlri: &Nlri) -> Option<&mut Suspect> {
        let groups = self.hunt.iter_mut().flat_map(|hunt| &mut hunt.groups);
        groups.into_iter().find_map(|group| group.get_mut(nlri))
    }

    /// `nlri` is not wanted any more: neither suspect nor offender.
    pub(super) fn release(&mut self, nlri: &Nlri) {
        if self.offenders.remove(nlri).is_some() {
            self.order.retain(|other| other != nlri);
        }
        if let Some(hunt) = &mut self.hunt {
            for group in &mut hunt.groups {
                group.remove(nlri);
            }
            hunt.groups.retain(|group| !group.is_empty());
        }
    }

    /// No route is wanted any more.
    pub(super) fn clear(&mut self) {
        self.hunt = None;
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
