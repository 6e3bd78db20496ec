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
    /// A window at `now` into which `counts` came since `start`, evenly.
    pub(crate) fn new(start: Timestamp, now: Timestamp, counts: &MetricCounts) -> Self {
        let age = now.since(start).as_secs_f64();
        // Of a past longer than the window only its mean rate is known.
        let seconds = age.min(WINDOW.as_secs_f64());
        let filled = (seconds / FRAME.as_secs_f64()).ceil().clamp(1.0, 10.0);
        let share = if age > 0.0 { seconds / age / filled } else { 1.0 };
        let mut frames = [MetricCounts::default(); FRAMES];
        // The past lies behind the current frame, which ends now.
        for (number, frame) in (0_u8..).zip(frames.iter_mut().rev()) {
            if f64::from(number) < filled {
                *frame = counts.scaled(share);
            }
        }
        let start = start.max(now - WINDOW);
        Self { frames, current: FRAMES - 1, frame_end: now, start, now }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TICK;
    use crate::class::TrafficClass;
    use crate::packet::Fragment;

    fn packets(number: u64) -> MetricCounts {
        let mut counts = MetricCounts::default();
        for _ in 0..number {
            counts.add_packet(TrafficClass::Udp, Fragment::Whole, 125);
        }
        counts
    }

    fn near(window: &RateWindow, expected: u64) {
        let rate = window.rate(Metric::Total);
        let off = rate.packets.0.abs_diff(expected);
        assert!(off * 8 <= expected, "{rate} instead of {expected} pps");
        assert!((rate.bits.0 / 1000).abs_diff(rate.packets.0) * 50 <= expected, "{rate}");
    }

    #[test]
    fn a_steady_rate_stays_steady_whenever_the_window_was_opened() {
        for age in [10, 60, 250, 760, 1000, 5000] {
            let now = Timestamp::ZERO + Duration::from_secs(10);
            let start = now - Duration::from_millis(age);
            let mut window = RateWindow::new(start, now, &packets(age));
            near(&window, 1000);
            for tick in 1..300 {
                window.add(now + TICK * tick, &packets(10));
                near(&window, 1000);
            }
        }
    }

    #[test]
    fn what_is_older_than_a_second_is_gone() {
        let now = Timestamp::ZERO + Duration::from_secs(10);
        let mut window = RateWindow::new(now - WINDOW, now, &packets(1000));
        for tick in 1..=110 {
            window.add(now + TICK * tick, &packets(0));
        }
        assert_eq!(window.rate(Metric::Total), Rate::default());

        let mut window = RateWindow::new(now - WINDOW, now, &packets(1000));
        window.add(now + WINDOW * 60, &packets(0));
        assert_eq!(window.rate(Metric::Total), Rate::default());
        window.add(now + WINDOW * 61, &packets(50));
        near(&window, 50);
    }
}
