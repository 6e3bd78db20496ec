//! Figures in columns.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{BenchError, system};

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

/// Puts `table` into the document at `path`, between the lines that mark `part`.
pub(super) fn write_part(path: &Path, part: &str, table: &str) -> Result<(), BenchError> {
    let [begin, end] =
        [format!("<!-- {part}: written by the benchmark -->\n"), format!("<!-- {part}: end -->")];
    let text = fs::read_to_string(path).map_err(system("read the document"))?;
    let found = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{table}{end}{after}"))
    });
    let Some(text) = found else {
        let path = path.display();
        return Err(BenchError::Unexpected(format!("{path} has no lines that mark `{part}`")));
    };
    fs::write(path, text).map_err(system("write the document"))
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

    #[test]
    fn a_part_of_a_document_is_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let marked = |inside: &str| {
            format!("a\n<!-- x: written by the benchmark -->\n{inside}<!-- x: end -->\nb\n")
        };
        fs::write(file.path(), marked("old\n")).unwrap();
        write_part(file.path(), "x", "| new |\n").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), marked("| new |\n"));
        assert!(write_part(file.path(), "y", "").unwrap_err().to_string().contains("mark `y`"));
    }
}
