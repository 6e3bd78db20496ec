//! `responses.when.hours`: `"22:00-06:00"`, `"mon-fri 08:00-18:00"`, `"sat,sun"`.

use super::conduct::minute_of_day;
use crate::policy::Hours;
use crate::text::Value;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// More spans than this say no more than a few.
const MAX_SPANS: usize = 32;

/// Reads a span or a list of spans.
pub(super) fn hours(value: &Value<'_>) -> Option<Vec<Hours>> {
    if value.is_string() {
        return span(value).map(|span| vec![span]);
    }
    let items = value.list("\"mon-fri 08:00-18:00\"")?;
    if items.is_empty() || items.len() > MAX_SPANS {
        let message = format!("`{}` has no spans, or more than {MAX_SPANS}", value.name());
        value.error(message, "leave it out for always");
        return None;
    }
    let spans: Vec<Option<Hours>> = items.iter().map(span).collect();
    spans.into_iter().collect()
}

fn span(value: &Value<'_>) -> Option<Hours> {
    let text = value.string()?;
    let span = parse(text);
    if span.is_none() {
        let message = format!("`{text}` is no time of the week");
        value.error(
            message,
            "write days, hours or both: `22:00-06:00`, `mon-fri 08:00-18:00`, `sat,sun`",
        );
    }
    span
}

fn parse(text: &str) -> Option<Hours> {
    let mut words = text.split_ascii_whitespace();
    let (first, second) = (words.next()?, words.next());
    if words.next().is_some() {
        return None;
    }
    let (days, clock) = match second {
        Some(clock) => (days(first)?, Some(clock)),
        None if first.contains(':') => ([true; 7], Some(first)),
        None => (days(first)?, None),
    };
    let (from, to) = match clock {
        None => (0, 24 * 60),
        Some(clock) => {
            let (from, to) = clock.split_once('-')?;
            (minute_of_day(from).filter(|from| *from < 24 * 60)?, minute_of_day(to)?)
        }
    };
    Some(Hours { days, from, to })
}

fn days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut chosen = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7 + 1;
        for offset in 0..count {
            if let Some(slot) = chosen.get_mut((first + offset) % 7) {
                *slot = true;
            }
        }
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        let week = |text: &str| parse(text).map(|it| (it.days.map(u8::from), it.from, it.to));
        for (text, expected) in [
            ("22:00-06:00", Some(([1; 7], 1320, 360))),
            ("mon-fri 08:00-18:00", Some(([1, 1, 1, 1, 1, 0, 0], 480, 1080))),
            ("sat,sun", Some(([0, 0, 0, 0, 0, 1, 1], 0, 1440))),
            ("sat-mon,wed", Some(([1, 0, 1, 0, 0, 1, 1], 0, 1440))),
            ("00:00-24:00", Some(([1; 7], 0, 1440))),
            ("24:00-06:00", None),
            ("8:00-18:00", None),
            ("monday", None),
            ("mon 08:00", None),
            ("mon 08:00-09:00 x", None),
            ("", None),
        ] {
            assert_eq!(week(text), expected, "{text}");
        }
    }
}
