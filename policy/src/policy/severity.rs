//! How severe an attack is.

use std::time::Duration;

use tidegate_model::{Attack, Confidence, Limit, Severity, Timestamp};

/// From where on an attack is how severe; anything less is low.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeverityScale {
    /// Times the crossed threshold. At least 1.0.
    pub medium: f64,
    /// More than `medium`.
    pub high: f64,
    /// More than `high`.
    pub critical: f64,
    /// Shares of the capacity of the group's links at medium, high and critical, ascending. Where
    /// a capacity is known, how often the threshold is exceeded makes an attack high at most: what
    /// does not fill the link is no reason to give up the target.
    pub of_capacity: [f64; 3],
    /// After how long an attack is medium, high and critical at least; ascending where given.
    pub after: [Option<Duration>; 3],
    /// Below this confidence an attack is no more severe than `uncertain_at_most`.
    pub uncertain_below: Confidence,
    /// See `uncertain_below`.
    pub uncertain_at_most: Severity,
}

impl Default for SeverityScale {
    fn default() -> Self {
        Self {
            medium: 2.0,
            high: 5.0,
            critical: 20.0,
            of_capacity: [0.2, 0.5, 0.8],
            after: [None; 3],
            uncertain_below: Confidence::default(),
            uncertain_at_most: Severity::Critical,
        }
    }
}

impl SeverityScale {
    /// Severity of an attack at `excess` times its threshold.
    #[must_use]
    pub fn severity(&self, excess: f64) -> Severity {
        match excess {
            _ if excess >= self.critical => Severity::Critical,
            _ if excess >= self.high => Severity::High,
            _ if excess >= self.medium => Severity::Medium,
            _ => Severity::Low,
        }
    }

    /// Severity of `attack` at `now`, on links of `capacity` if that is known.
    #[must_use]
    pub fn of(&self, now: Timestamp, attack: &Attack, capacity: Option<Limit>) -> Severity {
        let by_excess = self.severity(attack.excess);
        let by_rate = match capacity {
            None => by_excess,
            Some(capacity) => {
                let share = capacity.excess(attack.peak);
                let [medium, high, critical] = self.of_capacity;
                let by_share = match share {
                    _ if share >= critical => Severity::Critical,
                    _ if share >= high => Severity::High,
                    _ if share >= medium => Severity::Medium,
                    _ => Severity::Low,
                };
                by_share.max(by_excess.min(Severity::High))
            }
        };
        let lasted = now.since(attack.onset);
        let [medium, high, critical] = self.after;
        let reached = |after: Option<Duration>| after.is_some_and(|after| lasted >= after);
        let by_duration = match () {
            () if reached(critical) => Severity::Critical,
            () if reached(high) => Severity::High,
            () if reached(medium) => Severity::Medium,
            () => Severity::Low,
        };
        let severity = by_rate.max(by_duration);
        if attack.confidence() < self.uncertain_below {
            severity.min(self.uncertain_at_most)
        } else {
            severity
        }
    }

    /// When the severity of `attack` next grows by its duration alone.
    #[must_use]
    pub fn grows_at(&self, now: Timestamp, attack: &Attack) -> Option<Timestamp> {
        let steps = self.after.iter().flatten().map(|after| attack.onset + *after);
        steps.filter(|at| *at > now).min()
    }
}
