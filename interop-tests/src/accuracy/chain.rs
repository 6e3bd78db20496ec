//! Meter and detector without anything around them, in the time of the packets.

use std::time::Duration;

use tidegate_detector::{Config, Detector, Group, LinkType, Meter, TICK};
use tidegate_model::{
    Attack, AttackEvent, AttackId, AttackVector, Limit, Metric, PacketsPerSecond, Prefix,
    Thresholds, Timestamp,
};

/// A pause in a capture longer than this is skipped.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Least share of an attack's packets that makes a vector one of those that were named.
const NAMED_SHARE: f64 = 0.15;

/// One attack as it was told.
#[derive(Clone, Debug)]
pub(super) struct Found {
    id: AttackId,
    pub(super) target: Prefix,
    pub(super) detected: Timestamp,
    /// Main vector and its confidence when the attack started.
    pub(super) first: (AttackVector, f64),
    /// The same when it was told of last.
    pub(super) settled: (AttackVector, f64),
    /// Every vector with a good share that was ever told.
    pub(super) named: Vec<AttackVector>,
}

impl Found {
    fn new(attack: &Attack) -> Self {
        let main = (attack.main_vector(), attack.confidence().get());
        let (id, target, detected) = (attack.id, attack.target, attack.detected);
        Self { id, target, detected, first: main, settled: main, named: Vec::new() }
    }

    fn learn(&mut self, attack: &Attack) {
        self.settled = (attack.main_vector(), attack.confidence().get());
        for estimate in attack.vectors.iter().filter(|vector| vector.share >= NAMED_SHARE) {
            if !self.named.contains(&estimate.vector) {
                self.named.push(estimate.vector);
            }
        }
    }
}

/// What one run told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Attacks in the order of their starts.
    pub(super) found: Vec<Found>,
    /// Time that was watched.
    pub(super) watched: Duration,
}

/// One limit for every class of traffic and another for the total, in packets a second.
pub(super) fn thresholds(class: u64, total: u64) -> Thresholds {
    let mut thresholds = Thresholds::default();
    for metric in Metric::ALL {
        let limit = if metric == Metric::Total { total } else { class };
        thresholds.set(metric, Limit { packets: Some(PacketsPerSecond(limit)), bits: None });
    }
    thresholds
}

/// Everything protected by these thresholds, alone and by networks.
pub(super) fn config(thresholds: Thresholds, aggregate: Option<Thresholds>) -> Config {
    let prefixes = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|text| text.parse().ok());
    Config {
        groups: vec![Group {
            name: "all".into(),
            prefixes: prefixes.collect(),
            thresholds,
            aggregate,
        }],
        ..Config::default()
    }
}

/// A run under way.
pub(super) struct Chain {
    meter: Meter,
    detector: Detector,
    /// End of the tick that is being filled; `None` before the first packet.
    tick_end: Option<Timestamp>,
    told: Told,
}

impl Chain {
    pub(super) fn new(config: Config, seed: u64) -> Self {
        let meter = Meter::new(&config, seed);
        Self { meter, detector: Detector::new(config), tick_end: None, told: Told::default() }
    }

    pub(super) fn see(&mut self, time: Timestamp, link: LinkType, frame: &[u8], wire_length: u32) {
        let mut tick_end = self.tick_end.unwrap_or(time + TICK);
        while tick_end <= time {
            self.tick(tick_end);
            tick_end = tick_end + TICK;
            if time.since(tick_end) > MAX_PAUSE {
                tick_end = time;
            }
        }
        self.tick_end = Some(tick_end);
        self.meter.observe(link, frame, wire_length);
    }

    fn tick(&mut self, end: Timestamp) {
        let summary = self.meter.finish_tick(end);
        self.told.watched += summary.span().min(TICK);
        self.detector.handle_summary(&summary);
        while let Some(event) = self.detector.poll_event() {
            let attack = event.attack();
            if let AttackEvent::Started(_) = event {
                self.told.found.push(Found::new(attack));
            }
            if let Some(found) = self.told.found.iter_mut().find(|found| found.id == attack.id) {
                found.learn(attack);
            }
        }
    }

    pub(super) fn finish(mut self) -> Told {
        if let Some(end) = self.tick_end {
            self.tick(end);
        }
        self.told
    }
}

/// What a run would have told that found these attacks in its first second.
#[cfg(test)]
pub(super) fn told_of(found: &[(&str, AttackVector)]) -> Told {
    let found = found.iter().zip(1..).map(|(&(target, vector), id)| Found {
        id: AttackId(id),
        target: target.parse().unwrap(),
        detected: Timestamp::from_nanos(500_000_000),
        first: (vector, 0.9),
        settled: (vector, 0.9),
        named: vec![vector],
    });
    Told { found: found.collect(), watched: Duration::from_secs(1) }
}
