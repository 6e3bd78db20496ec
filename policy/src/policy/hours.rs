//! Times of the week, on the policy's clock.

/// Minutes of a week, from Monday 00:00.
const WEEK: u32 = 7 * DAY;
const DAY: u32 = 24 * 60;

/// When in the week a response holds, in the time zone of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The days on which the span may begin, Monday first.
    pub days: [bool; 7],
    /// First minute of the day.
    pub from: u16,
    /// The minute of the day before which it ends; at or before `from` it is that of the next day.
    pub to: u16,
}

impl Hours {
    /// Whether `minute` of the week lies in it, Monday 00:00 being 0.
    #[must_use]
    pub fn contain(&self, minute: u32) -> bool {
        let (from, to) = (u32::from(self.from), u32::from(self.to));
        let length = if to > from { to - from } else { to + DAY - from };
        self.days.iter().zip(0..).any(|(chosen, day)| {
            let begin: u32 = day * DAY + from;
            *chosen && (minute % WEEK + WEEK - begin % WEEK) % WEEK < length
        })
    }
}

/// The minute of the week at `unix` seconds since 1970-01-01 UTC, `offset` minutes east of UTC.
#[must_use]
pub fn minute_of_week(unix: u64, offset: i16) -> u32 {
    // 1970-01-01 was a Thursday.
    let minutes = (unix / 60) % u64::from(WEEK) + u64::from(3 * DAY + WEEK);
    let minutes = minutes.saturating_add_signed(i64::from(offset));
    u32::try_from(minutes % u64::from(WEEK)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_begins_on_monday() {
        // 2026-11-23 was a Monday; 17:00 UTC.
        assert_eq!(minute_of_week(1_795_453_200, 0), 17 * 60);
        assert_eq!(minute_of_week(1_795_453_200, 60), 18 * 60);
        assert_eq!(minute_of_week(1_795_453_200 - 17 * 3600, -60), 6 * DAY + 23 * 60);
        assert_eq!(minute_of_week(0, 0), 3 * DAY);
    }

    #[test]
    fn spans_may_cross_midnight_and_the_end_of_the_week() {
        let sunday_night =
            Hours { days: [false, false, false, false, false, false, true], from: 1320, to: 360 };
        for (minute, inside) in [
            (6 * DAY + 1319, false),
            (6 * DAY + 1320, true),
            (0, true),
            (359, true),
            (360, false),
            (5 * DAY + 1400, false),
        ] {
            assert_eq!(sunday_night.contain(minute), inside, "{minute}");
        }
        let always = Hours { days: [true; 7], from: 0, to: 0 };
        assert!((0..WEEK).step_by(7).all(|minute| always.contain(minute)));
        let office =
            Hours { days: [true, true, true, true, true, false, false], from: 480, to: 1020 };
        assert!(office.contain(480) && !office.contain(1020) && !office.contain(5 * DAY + 600));
    }
}
