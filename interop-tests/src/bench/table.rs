//! Figures in columns.

use std::time::Duration;

/// The value below which `percent` of the sorted `values` lie, by the nearest rank.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

/// Milliseconds with one decimal; microseconds below one.
pub(crate) fn milliseconds(value: Duration) -> String {
    if value < Duration::from_millis(1) {
        return format!("{} us", value.as_micros());
    }
    format!("{:.1} ms", value.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        for (percent, expected) in [(0, 1), (50, 10), (99, 20), (100, 20)] {
            assert_eq!(percentile(&values, percent), Duration::from_millis(expected), "{percent}");
        }
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
