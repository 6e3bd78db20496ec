//! Rates over the last second.

use std::time::Duration;

use tidegate_model::{Metric, Rate, Timestamp};

use crate::judge::rate;
use crate::summary::{Count, MetricCounts};

/// A tenth of the window.
const FRAME: Duration = Duration::from_millis(100);
const FRAMES: usize = 10;
/// Over how long rates are taken.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// Counts of the last second in frames of 100 ms.
#[derive(Clone, Debug)]
pub(crate) struct RateWindow {
    frames: [MetricCounts; FRAMES],
    current: usize,
    /// When the current frame ends.
    frame_end: Timestamp,
    /// Before this nothing was counted.
    start: Timestamp,
    now: Timestamp,
}

impl RateWindow {
    /// A window at `now` into which `counts` came since `start`.
    pub(crate) fn new(start: Timestamp, now: Timestamp, counts: &MetricCounts) -> Self {
        let age = now.since(start);
        // Of a longer past only its mean rate is known.
        let share = if age > WINDOW { 1.0 / age.as_secs_f64() } else { 1.0 };
        let mut frames = [MetricCounts::default(); FRAMES];
        let [first, ..] = &mut frames;
        *first = counts.scaled(share);
        let start = if age > WINDOW { now - WINDOW } else { start };
        Self { frames, current: 0, frame_end: now + FRAME, start, now }
    }

    /// Adds what came until `end`; true if a frame was finished.
    pub(crate) fn add(&mut self, end: Timestamp, counts: &MetricCounts) -> bool {
        let mut finished = false;
        let mut turns = 0;
        while end > self.frame_end && turns <= FRAMES {
            self.current = (self.current + 1) % FRAMES;
            if let Some(frame) = self.frames.get_mut(self.current) {
                *frame = MetricCounts::default();
            }
            self.frame_end = self.frame_end + FRAME;
            turns += 1;
            finished = true;
        }
        if end > self.frame_end {
            self.frame_end = end + FRAME;
            self.start = self.start.max(self.now);
        }
        if let Some(frame) = self.frames.get_mut(self.current) {
            frame.add(counts);
        }
        self.now = end;
        finished
    }

    /// Rate of `metric` over the window, or since its start if that is later.
    pub(crate) fn rate(&self, metric: Metric) -> Rate {
        let mut sum = Count::default();
        for frame in &self.frames {
            sum.add(frame.get(metric));
        }
        // The oldest frame is gone when the current one begins.
        let into_frame = FRAME.saturating_sub(self.frame_end.since(self.now));
        let covered = (WINDOW - FRAME + into_frame).min(self.now.since(self.start));
        rate(sum, covered.max(Duration::from_millis(1)))
    }
}
