//! One attack on one target, from its start to its end.
//!
//! ```text
//!                    a bucket of the judge overflows / Started
//!            Quiet ---------------------------------------------> Active
//!              ^                                                  |    ^
//!              |                        every rate below          |    |  a rate at or above
//!              |                        exit_ratio x threshold    v    |  exit_ratio x threshold
//!              +------------------------------------------------ Cooling
//!                exit_hold of watched, visible quiet / Ended
//!
//!   in Active and Cooling:  other vectors, a new peak, another signature / Updated
//!   over a threshold after Cooling: it comes in pulses: held open for twice the pause / Updated
//!   blind tick, gap:        the quiet does not grow: what was not watched was not quiet
//!   an interface is dark:   nor does it for ten minutes, if the attack was known before
//!   Blackholed:             the quiet does not grow: a mitigation hides its own evidence
//!   visible again:          the quiet starts from zero; still over a threshold / Updated
//!   input ends:             Ended(InputEnded);  policy drops the target: Ended(NotProtected)
//! ```
//!
//! The way out is longer than the way in: half the threshold, over a second, for ten seconds. What
//! came back once is expected to do so again: see [`crate::memory`].

use std::time::Duration;

use tidegate_model::{
    Attack, AttackId, AttackVector, Confidence, Evidence, Metric, Occlusion, Prefix, Signature,
    Thresholds, Timestamp, Trigger, VectorEstimate,
};

use crate::classify::classify;
use crate::config::{Group, Judging};
use crate::judge::{Crossing, Judge, MetricSet};
use crate::loss::LEAST_KEPT;
use crate::memory::{Past, hold_after};
use crate::sample::Sample;
use crate::summary::{MetricCounts, TargetTraffic};
use crate::window::{RateWindow, WINDOW};

/// When the first look after the detection is due: most vectors have shown themselves by then.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// How often the vectors are looked at again.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Growth of the excess that is worth an update.
const NOTABLE_GROWTH: f64 = 1.25;
/// Change of the main vector's confidence that is worth an update.
const NOTABLE_CONFIDENCE: f64 = 0.1;
/// For how long an attack is held open that may go on where an interface has gone dark.
const DARK_HOLD: Duration = Duration::from_secs(600);
/// A pause this long, the window not counted, is one between two pulses.
const PAUSE: Duration = Duration::from_millis(500);
/// Up to this many times over a threshold, errors about other hosts' packets are no attack. Beyond
/// it they do harm, whatever their cause, and may be forged to look like what they seem.
const BORNE: f64 = 10.0;
/// For how long what was found to be borne is not classified again.
const BORNE_FOR: Duration = Duration::from_millis(200);
/// A vector that is not seen any more is dropped below this share at the latest.
const LEAST_SHARE: f64 = 0.001;

/// What is known of a target before there is an attack on it: judge and sample.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) judge: Judge,
    pub(crate) sample: Sample,
    /// The attack before, if it was not long ago.
    past: Option<Past>,
    /// Until then it is borne without another look, unless there is more of it.
    borne_until: Timestamp,
}

impl Watch {
    pub(crate) fn new(start: Timestamp, past: Option<Past>) -> Self {
        let mut judge = Judge::new(start);
        if let Some(past) = past {
            judge.expect(past.over);
        }
        Self { judge, sample: Sample::new(start), past, borne_until: Timestamp::ZERO }
    }

    /// Takes in what came until `end`.
    pub(crate) fn add(
        &mut self,
        end: Timestamp,
        traffic: Option<&TargetTraffic>,
        thresholds: &Thresholds,
        judging: &Judging,
    ) {
        let counts = traffic.map(|traffic| traffic.unasked).unwrap_or_default();
        let excused = traffic.map_or(0, |traffic| traffic.connections.excused);
        self.judge.pour(end, &counts, excused, thresholds, judging.tolerance);
        self.sample.add(end, traffic);
    }

    /// Whether what crossed the thresholds is no attack on the target: errors about packets that
    /// others sent in its name, and not too many.
    ///
    /// How many is what came of late: the mean since the onset would let hours of a little hide the
    /// beginning of much.
    pub(crate) fn is_borne(
        &mut self,
        now: Timestamp,
        crossing: &Crossing,
        thresholds: &Thresholds,
        judging: &Judging,
    ) -> bool {
        let Trigger { metric, limit, .. } = crossing.trigger;
        let excess = crossing.excess.max(limit.excess(self.sample.rate(metric)));
        if excess >= BORNE || !matches!(metric, Metric::Icmp | Metric::Total) {
            return false;
        }
        if now < self.borne_until {
            return true;
        }
        let over = self.judge.over(thresholds, judging.tolerance);
        let borne = classify(&self.sample, over, thresholds, 0.0)
            .iter()
            .all(|estimate| estimate.vector == AttackVector::IcmpBackscatter);
        if borne {
            self.borne_until = now + BORNE_FOR;
        }
        borne
    }
}

/// One span of time as the tracker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick<'a> {
    pub(crate) end: Timestamp,
    pub(crate) span: Duration,
    /// Nothing could be seen.
    pub(crate) blind: bool,
    /// Since when one interface of several has carried nothing.
    pub(crate) dark_since: Option<Timestamp>,
    /// Part of the packets that the capture lost of late.
    pub(crate) loss: f64,
    pub(crate) traffic: Option<&'a TargetTraffic>,
}

impl Tick<'_> {
    /// Whether an attack that was known at `detected` may go on where nothing is seen.
    fn may_hide(&self, detected: Timestamp) -> bool {
        self.dark_since.is_some_and(|since| detected <= since && self.end.since(since) < DARK_HOLD)
    }
}

/// What a tick did to the attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing worth telling.
    Same,
    /// More is known.
    Updated,
    /// Quiet for as long as it takes.
    Over(Duration),
}

/// Where in its life an attack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Some rate is at or above the exit threshold. After a pause so long it will have come back once
    /// it is at or above the threshold.
    Active { after: Option<Duration> },
    /// All are below, for this long.
    Cooling(Duration),
}

/// A vector and when it was last among those found.
#[derive(Clone, Debug)]
struct Seen {
    estimate: VectorEstimate,
    at: Timestamp,
}

/// An attack that goes on.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) attack: Attack,
    thresholds: Thresholds,
    watch: Watch,
    window: RateWindow,
    state: State,
    occlusion: Occlusion,
    /// The target has just become visible again: that the flood is still there is news, even if it
    /// is the same flood.
    uncovered: bool,
    vectors: Vec<Seen>,
    look_at: Timestamp,
    /// For how long it must be quiet.
    hold: Duration,
    /// How often it came back after a pause, and how long the latest pause was.
    returns: u32,
    pause: Duration,
    /// Every metric that was over its threshold.
    over: MetricSet,
    /// Excess and confidence as last told.
    told_excess: f64,
    told_confidence: Confidence,
}

impl Tracked {
    /// The attack that `crossing` gave away.
    pub(crate) fn start(
        id: AttackId,
        target: Prefix,
        group: &Group,
        judging: &Judging,
        watch: Watch,
        crossing: &Crossing,
        tick: &Tick<'_>,
    ) -> Self {
        let thresholds = group.thresholds;
        let over = watch.judge.over(&thresholds, judging.tolerance);
        let vectors = classify(&watch.sample, over, &thresholds, tick.loss);
        let mut counts = MetricCounts::default();
        counts.set(crossing.trigger.metric, crossing.crossed);
        counts.set(Metric::Total, crossing.total);
        let window = RateWindow::new(crossing.onset, tick.end, &counts);
        let current = window.rate(Metric::Total);
        let attack = Attack {
            id,
            target,
            group: group.name.clone(),
            onset: crossing.onset,
            detected: tick.end,
            trigger: crossing.trigger,
            vectors: vectors.clone(),
            current,
            peak: current,
            excess: crossing.excess,
            packets: crossing.total.packets,
            bytes: crossing.total.bytes,
            sources: watch.sample.sources(),
        };
        let pause = watch.past.map(|past| tick.end.since(past.ended) + past.quiet);
        let returns = watch.past.map_or(0, |past| past.returns + 1);
        let pause = pause.unwrap_or_default();
        let mut tracked = Self {
            hold: hold_after(returns, pause, judging.exit_hold),
            returns,
            pause,
            over,
            told_excess: attack.excess,
            told_confidence: attack.confidence(),
            attack,
            thresholds,
            watch,
            window,
            state: State::Active { after: None },
            occlusion: Occlusion::Visible,
            uncovered: false,
            vectors: vectors.into_iter().map(|estimate| Seen { estimate, at: tick.end }).collect(),
            look_at: tick.end + FIRST_LOOK,
        };
        tracked.tell_pulses();
        tracked
    }

    /// What is remembered of it once it has been over for `quiet`.
    pub(crate) fn past(&self, ended: Timestamp, quiet: Duration) -> Past {
        Past { ended, quiet, returns: self.returns, over: self.over }
    }

    /// Takes in one span of time.
    pub(crate) fn advance(&mut self, tick: &Tick<'_>, judging: &Judging) -> Progress {
        self.watch.add(tick.end, tick.traffic, &self.thresholds, judging);
        let counts =
            tick.traffic.map(|traffic| traffic.unasked.without_syns(traffic.connections.excused));
        let counts = counts.unwrap_or_default();
        let total = counts.get(Metric::Total);
        self.attack.packets = self.attack.packets.saturating_add(total.packets);
        self.attack.bytes = self.attack.bytes.saturating_add(total.bytes);
        let frame_finished = self.window.add(tick.end, &counts);
        self.attack.current = self.window.rate(Metric::Total);
        self.attack.peak = self.attack.peak.max(self.attack.current);
        let excess = self.excess();
        self.attack.excess = self.attack.excess.max(excess);
        if frame_finished {
            self.attack.sources = self.attack.sources.max(self.watch.sample.sources());
        }
        let returns = self.returns;
        if let Some(quiet) = self.cool(excess, tick, judging) {
            return Progress::Over(quiet);
        }
        let mut told = returns != self.returns;
        told |= frame_finished && self.attack.excess >= self.told_excess * NOTABLE_GROWTH;
        if self.uncovered && !tick.blind && excess >= 1.0 {
            self.uncovered = false;
            told = true;
        }
        if tick.end >= self.look_at {
            self.look_at = tick.end + LOOK_INTERVAL;
            told |= self.look_again(tick, judging);
        }
        if !told {
            return Progress::Same;
        }
        self.told_excess = self.attack.excess;
        self.told_confidence = self.attack.confidence();
        Progress::Updated
    }

    /// The worst excess of any metric over the window.
    pub(crate) fn excess(&self) -> f64 {
        let excesses =
            self.thresholds.iter().map(|(metric, limit)| limit.excess(self.window.rate(metric)));
        excesses.fold(0.0, f64::max)
    }

    /// Moves between Active and Cooling; the length of the quiet when it has been long enough.
    fn cool(&mut self, excess: f64, tick: &Tick<'_>, judging: &Judging) -> Option<Duration> {
        if excess >= judging.exit_ratio {
            let after = match self.state {
                State::Active { after } => after,
                State::Cooling(quiet) => (quiet >= PAUSE).then_some(quiet + WINDOW),
            };
            self.state = State::Active { after };
            if let Some(pause) = after.filter(|_| excess >= 1.0) {
                self.come_back(pause, judging);
            }
            return None;
        }
        let kept = tick.loss < 1.0 - LEAST_KEPT;
        let unseen = tick.blind || tick.may_hide(self.attack.detected);
        let watched = !unseen && kept && self.occlusion == Occlusion::Visible;
        let quiet = match self.state {
            // The window still held the flood at first.
            State::Active { .. } if watched => tick.span.saturating_sub(WINDOW),
            State::Active { .. } => Duration::ZERO,
            State::Cooling(quiet) if watched => quiet + tick.span,
            State::Cooling(quiet) => quiet,
        };
        self.state = State::Cooling(quiet);
        (watched && quiet >= self.hold).then_some(quiet)
    }

    /// Over the threshold again after a pause.
    fn come_back(&mut self, pause: Duration, judging: &Judging) {
        self.state = State::Active { after: None };
        self.pause = pause;
        self.returns = self.returns.saturating_add(1);
        self.hold = self.hold.max(hold_after(self.returns, pause, judging.exit_hold));
        self.tell_pulses();
    }

    /// Classifies again; true if it tells something new.
    fn look_again(&mut self, tick: &Tick<'_>, judging: &Judging) -> bool {
        let over = self.watch.judge.over(&self.thresholds, judging.tolerance);
        let hidden = tick.blind || self.occlusion == Occlusion::Blackholed;
        if hidden || over.is_empty() || self.watch.sample.classes.is_empty() {
            return false;
        }
        let found = classify(&self.watch.sample, over, &self.thresholds, tick.loss);
        self.over = self.over.union(over);
        let changed = self.remember(found, tick.end, self.hold);
        let confidence = self.attack.confidence().get() - self.told_confidence.get();
        changed || confidence.abs() >= NOTABLE_CONFIDENCE
    }

    /// Merges `found` into the known vectors. One that is not found any more stays for `hold`, with
    /// half its share each time: a rule against it may be why it is not seen, and pulses come back.
    /// True if vectors came, went, changed places or look different.
    fn remember(&mut self, found: Vec<VectorEstimate>, now: Timestamp, hold: Duration) -> bool {
        let main_before = self.attack.main_vector();
        let mut changed = false;
        for seen in &mut self.vectors {
            seen.estimate.share /= 2.0;
        }
        for mut estimate in found {
            match self.vectors.iter_mut().find(|seen| seen.estimate.vector == estimate.vector) {
                Some(seen) => {
                    changed |= settle(&mut estimate.signature, &seen.estimate.signature);
                    *seen = Seen { estimate, at: now };
                }
                None => {
                    changed = true;
                    self.vectors.push(Seen { estimate, at: now });
                }
            }
        }
        let known = self.vectors.len();
        self.vectors.retain(|seen| {
            now.since(seen.at) < hold && (seen.at == now || seen.estimate.share >= LEAST_SHARE)
        });
        changed |= self.vectors.len() != known;
        self.publish();
        changed || self.attack.main_vector() != main_before
    }

    /// Puts the known vectors into the attack, largest first, shares adding up to one.
    fn publish(&mut self) {
        let sum: f64 = self.vectors.iter().map(|seen| seen.estimate.share).sum();
        for seen in &mut self.vectors {
            seen.estimate.share /= sum.max(f64::MIN_POSITIVE);
        }
        self.vectors.sort_by(|left, right| {
            let shares = right.estimate.share.total_cmp(&left.estimate.share);
            shares.then(left.estimate.vector.cmp(&right.estimate.vector))
        });
        self.attack.vectors = self.vectors.iter().map(|seen| seen.estimate.clone()).collect();
        self.tell_pulses();
    }

    /// Puts the pulses that there were among the evidence for the main vector.
    fn tell_pulses(&mut self) {
        const FACT: &str = "pulses";
        let Some(main) = self.attack.vectors.first_mut().filter(|_| self.returns > 0) else {
            return;
        };
        main.evidence.retain(|evidence| evidence.fact != FACT);
        let (returns, pause) = (self.returns, self.pause.as_secs_f64());
        let seen = format!("came back {returns} times, the last time after {pause:.1} s");
        main.evidence.push(Evidence { fact: FACT, seen });
    }

    /// A mitigation hides the target, or does so no longer.
    pub(crate) fn occlude(&mut self, now: Timestamp, occlusion: Occlusion) {
        if self.occlusion == occlusion {
            return;
        }
        self.occlusion = occlusion;
        self.uncovered = occlusion == Occlusion::Visible;
        if let State::Cooling(_) = self.state {
            self.state = State::Cooling(Duration::ZERO);
        }
        // That the vectors were not seen says nothing.
        for seen in &mut self.vectors {
            seen.at = now;
        }
    }

    /// The policy changed: another group, other thresholds.
    pub(crate) fn regroup(&mut self, group: &Group) {
        self.thresholds = group.thresholds;
        self.attack.group.clone_from(&group.name);
    }
}

/// Keeps `known` where `fresh` says the same in other words, so that rules do not change with
/// every packet; true if it does not.
fn settle(fresh: &mut Signature, known: &Signature) -> bool {
    let within = match (fresh.packet_length, known.packet_length) {
        (Some((low, high)), Some((known_low, known_high))) => {
            low >= known_low && high <= known_high
        }
        (None, None) => true,
        _ => false,
    };
    let sorted = |ports: &[u16]| {
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        ports
    };
    let same = within
        && fresh.protocol == known.protocol
        && sorted(&fresh.source_ports) == sorted(&known.source_ports)
        && sorted(&fresh.destination_ports) == sorted(&known.destination_ports)
        && fresh.tcp_flags == known.tcp_flags
        && fresh.icmp_type == known.icmp_type
        && fresh.fragments == known.fragments;
    if same {
        *fresh = known.clone();
    }
    !same
}
