//! What has lately come to one target: the material of a classification.

use std::time::Duration;

use tidegate_model::{Metric, Rate, Timestamp};

use crate::class::TrafficClass;
use crate::judge::rate;
use crate::summary::{ClassTraffic, Connections, Count, MetricCounts, TargetTraffic};

/// How often a sample forgets half of the past.
const HALF_LIFE: Duration = Duration::from_millis(500);

/// Traffic of late, older traffic counting less. Holds one entry for each class that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// What came without being asked for.
    pub(crate) unasked: MetricCounts,
    /// What the target had asked for.
    pub(crate) answers: Count,
    /// Connections that were completed.
    pub(crate) connections: Connections,
    /// What the unasked packets look like, sorted by class.
    pub(crate) classes: Vec<ClassTraffic>,
    /// Time that the counts stand for, in seconds.
    pub(crate) seconds: f64,
    now: Timestamp,
    halve_at: Timestamp,
}

impl Sample {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self {
            unasked: MetricCounts::default(),
            answers: Count::default(),
            connections: Connections::default(),
            classes: Vec::new(),
            seconds: 0.0,
            now: start,
            halve_at: start + HALF_LIFE,
        }
    }

    /// Adds what came until `end`, `None` is nothing.
    pub(crate) fn add(&mut self, end: Timestamp, traffic: Option<&TargetTraffic>) {
        self.seconds += end.since(self.now).as_secs_f64();
        self.now = end;
        if let Some(traffic) = traffic {
            self.unasked.add(&traffic.unasked);
            self.answers.add(traffic.answers);
            self.connections.add(traffic.connections);
            for class in &traffic.classes {
                match self.classes.binary_search_by_key(&class.class, |mine| mine.class) {
                    Ok(index) => {
                        if let Some(mine) = self.classes.get_mut(index) {
                            mine.merge(class);
                        }
                    }
                    Err(index) => self.classes.insert(index, class.clone()),
                }
            }
        }
        if end >= self.halve_at {
            self.halve_at = end + HALF_LIFE;
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.seconds /= 2.0;
        self.unasked.halve();
        self.answers.halve();
        self.connections.halve();
        self.classes.iter_mut().for_each(ClassTraffic::halve);
        self.classes.retain(|class| class.count.packets > 0);
    }

    /// Rate of what came unasked of late.
    pub(crate) fn rate(&self, metric: Metric) -> Rate {
        rate(self.unasked.get(metric), Duration::from_secs_f64(self.seconds.clamp(0.001, 1e6)))
    }

    pub(crate) fn class(&self, class: TrafficClass) -> Option<&ClassTraffic> {
        self.classes.iter().find(|traffic| traffic.class == class)
    }

    /// Distinct sources over all classes, about.
    pub(crate) fn sources(&self) -> u64 {
        let mut union = crate::sketch::SourceSketch::default();
        for class in &self.classes {
            union.merge(&class.sources);
        }
        union.estimate()
    }
}
