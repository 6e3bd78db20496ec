//! From the timestamps of a file to a time that never runs backwards.

use std::time::Duration;

use tidegate_model::Timestamp;

use crate::capture::Jump;

/// Frames out of order by no more than this are clamped: capture threads and merged files do that.
const REORDER_WINDOW: i128 = 1_000_000_000;

/// A jump, either way, beyond which a timestamp is not believed: five years. Captures with weeks of
/// silence exist; a field of another unit, or of garbage, jumps by decades.
const MAX_JUMP: i128 = 5 * 365 * 24 * 3600 * 1_000_000_000;

/// Makes time monotonic.
///
/// A frame that is earlier than the one before it by up to a second is given the time of the one
/// before it. If it is earlier by more, the clock of its interface was set back, or another capture
/// was appended: that interface's time goes on from there, so that its frames keep their distances
/// and do not pile up into one instant that would look like a flood. A jump of more than five years
/// in either direction is refused.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: Option<i128>,
    /// What is added to the timestamps of each interface.
    shifts: Vec<i128>,
    reordered: u64,
    set_back: u64,
}

impl Clock {
    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    pub(super) fn set_back(&self) -> u64 {
        self.set_back
    }

    /// The time of a frame with timestamp `raw`, in nanoseconds since the Unix epoch, that was
    /// captured on `interface`.
    pub(super) fn admit(&mut self, interface: usize, raw: Option<i128>) -> Result<Timestamp, Jump> {
        let Some(raw) = raw else { return Ok(timestamp(self.last.unwrap_or(0))) };
        if self.shifts.len() <= interface {
            self.shifts.resize(interface + 1, 0);
        }
        let mut unknown = 0;
        let shift = self.shifts.get_mut(interface).unwrap_or(&mut unknown);
        let time = raw + *shift;
        let last = self.last.unwrap_or(time);
        let ahead = time - last;
        if ahead.abs() > MAX_JUMP {
            let seconds = u64::try_from(ahead.unsigned_abs() / 1_000_000_000).unwrap_or(u64::MAX);
            let span = Duration::from_secs(seconds);
            return Err(if ahead < 0 { Jump::Earlier(span) } else { Jump::Later(span) });
        }
        if !(0..=i128::from(u64::MAX)).contains(&time) {
            return Err(Jump::OutOfRange);
        }
        if ahead < -REORDER_WINDOW {
            *shift -= ahead;
            self.set_back += 1;
        } else if ahead < 0 {
            self.reordered += 1;
        }
        let time = time.max(last);
        self.last = Some(time);
        Ok(timestamp(time))
    }
}

fn timestamp(nanoseconds: i128) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;
    const START: i128 = 1_600_000_000 * SECOND;

    fn run(times: &[(usize, i128)]) -> (Vec<i128>, Clock) {
        let mut clock = Clock::default();
        let out = times
            .iter()
            .map(|(interface, time)| {
                let time = clock.admit(*interface, Some(START + time)).unwrap();
                i128::from(time.as_nanos()) - START
            })
            .collect();
        (out, clock)
    }

    #[test]
    fn small_disorder_is_clamped() {
        let (out, clock) = run(&[(0, 0), (0, 500), (0, 200), (0, 499), (0, 501)]);
        assert_eq!(out, [0, 500, 500, 500, 501]);
        assert_eq!((clock.reordered(), clock.set_back()), (2, 0));
    }

    #[test]
    fn a_clock_set_back_keeps_distances() {
        let back = -3600 * SECOND;
        let (out, clock) = run(&[(0, 0), (0, 10), (0, back), (0, back + 5), (0, back + 7)]);
        assert_eq!(out, [0, 10, 10, 15, 17]);
        assert_eq!((clock.reordered(), clock.set_back()), (0, 1));
    }

    #[test]
    fn interfaces_with_different_clocks_do_not_drive_each_other() {
        let behind = -3600 * SECOND;
        let (out, clock) = run(&[(0, 0), (1, behind), (0, 10), (1, behind + 12), (0, 20)]);
        assert_eq!(out, [0, 0, 10, 12, 20]);
        assert_eq!(clock.set_back(), 1);
    }

    #[test]
    fn weeks_pass_and_decades_do_not() {
        let (out, _) = run(&[(0, 0), (0, 1_901_908 * SECOND)]);
        assert_eq!(out, [0, 1_901_908 * SECOND]);
        let mut clock = Clock::default();
        clock.admit(0, Some(START)).unwrap();
        let later = clock.admit(0, Some(START + MAX_JUMP + 1)).unwrap_err();
        assert_eq!(later.to_string(), "5 years after the one before it");
        let earlier = clock.admit(0, Some(START - 2 * MAX_JUMP)).unwrap_err();
        assert_eq!(earlier.to_string(), "10 years before the one before it");
        for impossible in [-1, i128::from(u64::MAX) + 1] {
            assert_eq!(Clock::default().admit(0, Some(impossible)), Err(Jump::OutOfRange));
        }
    }

    #[test]
    fn no_time_is_the_time_before() {
        let mut clock = Clock::default();
        assert_eq!(clock.admit(0, None), Ok(Timestamp::ZERO));
        let time = clock.admit(0, Some(START)).unwrap();
        assert_eq!(clock.admit(0, None), Ok(time));
    }
}
