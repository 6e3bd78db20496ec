//! Durations as people write them.

use std::fmt::Write as _;
use std::time::Duration;

/// Text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// A number alone.
    #[error("`{0}` has no unit; write `{0}s` for seconds, or one of the units ms, s, m, h, d")]
    NoUnit(String),
    /// Anything else.
    #[error(
        "`{0}` is not a duration; write a number and a unit (ms, s, m, h, d), such as `500ms` or `10s`"
    )]
    NotADuration(String),
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// No number longer than this is read: it is past every use.
const MAX_DIGITS: usize = 12;

/// Reads `500ms`, `10s`, `1.5s`, `5m`, `6h`, `7d`, to the millisecond.
///
/// # Errors
/// [`ParseDurationError`], whose text says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let not_a_duration = || ParseDurationError::NotADuration(text.to_owned());
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(not_a_duration()),
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || number.len() > MAX_DIGITS || fraction.contains('.') {
        return Err(not_a_duration());
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(ParseDurationError::NoUnit(number.to_owned()));
    }
    let milliseconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let scale = milliseconds.ok_or_else(not_a_duration)?;
    let whole: u64 = whole.parse().map_err(|_| not_a_duration())?;
    let part: u64 =
        if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| not_a_duration())? };
    let divisor = fraction.bytes().fold(1_u64, |power, _| power.saturating_mul(10));
    let total = whole.saturating_mul(scale).saturating_add(part.saturating_mul(scale) / divisor);
    Ok(Duration::from_millis(total))
}

/// Writes a duration in the largest units that lose nothing: `1h30m`, `9s`, `1s500ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (name, scale) in UNITS.into_iter().rev() {
        if rest >= scale {
            let _ = write!(shown, "{}{name}", rest / scale);
            rest %= scale;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            (" 1.5 s ", 1_500),
            ("5m", 300_000),
            ("6h", 21_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("0.0004s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(parse_duration("10"), Err(ParseDurationError::NoUnit("10".to_owned())));
        for text in
            ["", "s", "-1s", "1.s", ".5s", "1.2.3s", "1 week", "1S", "9999999999999s", "1s1s"]
        {
            assert!(
                matches!(parse_duration(text), Err(ParseDurationError::NotADuration(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn shows_what_reads_back_in_parts() {
        for (milliseconds, text) in
            [(0, "0s"), (1_500, "1s500ms"), (5_400_000, "1h30m"), (9_000, "9s"), (86_400_000, "1d")]
        {
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
