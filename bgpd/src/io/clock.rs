//! The speaker's monotonic clock.

use std::time::Duration;

use tidegate_model::Timestamp;
use tokio::time::Instant;

/// Counts from the start of the speaker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ZERO + self.origin.elapsed()
    }

    /// The moment that `at` stands for.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        // Tokio's timers reach years ahead; later than that is never.
        const HORIZON: Duration = Duration::from_secs(365 * 24 * 3600);
        self.origin + at.since(Timestamp::ZERO).min(HORIZON)
    }
}
