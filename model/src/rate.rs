//! Rates with their units.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Packets per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketsPerSecond(pub u64);

/// Bits per second, counted on wire lengths (Ethernet header to payload, without FCS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitsPerSecond(pub u64);

/// What a stream of packets amounts to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Rate {
    /// Packets per second.
    pub packets: PacketsPerSecond,
    /// Bits per second.
    pub bits: BitsPerSecond,
}

impl Rate {
    /// The larger of each unit.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { packets: self.packets.max(other.packets), bits: self.bits.max(other.bits) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.packets, self.bits)
    }
}

/// A rate that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a rate; write a number with an optional k, M or G and the unit {unit}, such as `50k{unit}`"
)]
pub struct ParseRateError {
    text: String,
    unit: &'static str,
}

macro_rules! rate {
    ($name:ident, $unit:literal) => {
        impl $name {
            /// The unit as it is written after the number.
            pub const UNIT: &'static str = $unit;
        }

        impl fmt::Display for $name {
            /// Three significant digits and a decimal prefix: `12.3 kpps`.
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_scaled(formatter, self.0, $unit)
            }
        }

        impl FromStr for $name {
            type Err = ParseRateError;

            fn from_str(text: &str) -> Result<Self, ParseRateError> {
                parse_scaled(text, $unit)
                    .map(Self)
                    .ok_or_else(|| ParseRateError { text: text.to_owned(), unit: $unit })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                u64::deserialize(deserializer).map(Self)
            }
        }
    };
}

rate!(PacketsPerSecond, "pps");
rate!(BitsPerSecond, "bps");

const SCALES: [(u64, &str); 4] =
    [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];

fn write_scaled(formatter: &mut fmt::Formatter<'_>, value: u64, unit: &str) -> fmt::Result {
    let Some((scale, letter)) = SCALES.into_iter().find(|(scale, _)| value >= *scale) else {
        return formatter.pad(&format!("{value} {unit}"));
    };
    #[expect(clippy::cast_precision_loss, reason = "for people, three digits")]
    let scaled = value as f64 / scale as f64;
    let decimals = match scaled {
        _ if scaled >= 99.95 => 0,
        _ if scaled >= 9.995 => 1,
        _ => 2,
    };
    formatter.pad(&format!("{scaled:.decimals$} {letter}{unit}"))
}

/// Reads `50000`, `50k`, `1.5M`, `50 kpps`; the unit may be left out, a foreign unit may not stand.
fn parse_scaled(text: &str, unit: &str) -> Option<u64> {
    let text = text.trim();
    let number_end =
        text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let suffix = suffix.trim_start();
    let letter = suffix.strip_suffix(unit).unwrap_or(suffix);
    let scale = match letter.trim_end() {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        _ => return None,
    };
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 12 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction_value: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction_scaled = u64::try_from(fraction_value * u128::from(scale) / divisor).ok()?;
    whole.checked_mul(scale)?.checked_add(fraction_scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_scaled_numbers() {
        for (text, value) in [
            ("0", 0),
            ("50000", 50_000),
            ("50_000", 50_000),
            ("50k", 50_000),
            ("50 kpps", 50_000),
            ("1.5M", 1_500_000),
            ("1.5Mpps", 1_500_000),
            ("2G", 2_000_000_000),
            ("10pps", 10),
        ] {
            assert_eq!(text.parse(), Ok(PacketsPerSecond(value)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in [
            "",
            "k",
            "-5",
            "5x",
            "5 kbps",
            "1.",
            ".5",
            "1.2.3",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert!(text.parse::<PacketsPerSecond>().is_err(), "{text}");
        }
    }

    #[test]
    fn displays_three_digits() {
        for (value, text) in [
            (0, "0 pps"),
            (999, "999 pps"),
            (1_000, "1.00 kpps"),
            (12_345, "12.3 kpps"),
            (999_999, "1000 kpps"),
            (3_400_000, "3.40 Mpps"),
        ] {
            assert_eq!(PacketsPerSecond(value).to_string(), text);
        }
    }
}
