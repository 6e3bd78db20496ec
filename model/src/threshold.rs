//! Thresholds: how much of what is too much.

use std::fmt;
use std::str::FromStr;

use crate::rate::{BitsPerSecond, PacketsPerSecond, Rate};

/// A class of traffic toward one target that is judged by a threshold of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Every packet.
    Total,
    /// TCP segments that open a connection: SYN without ACK, whatever the other flags.
    TcpSyn,
    /// All other TCP.
    Tcp,
    /// UDP that is not an answer of a known reflector.
    Udp,
    /// UDP from the source port of a known reflector, and UDP fragments.
    Amplification,
    /// ICMP and ICMPv6.
    Icmp,
    /// Fragments of any protocol.
    Fragment,
    /// Every other IP protocol.
    Other,
}

impl Metric {
    /// Every metric, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Total,
        Self::TcpSyn,
        Self::Tcp,
        Self::Udp,
        Self::Amplification,
        Self::Icmp,
        Self::Fragment,
        Self::Other,
    ];

    /// Name in policy files and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::TcpSyn => "tcp-syn",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Amplification => "amplification",
            Self::Icmp => "icmp",
            Self::Fragment => "fragment",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a metric")]
pub struct ParseMetricError(String);

impl FromStr for Metric {
    type Err = ParseMetricError;

    fn from_str(text: &str) -> Result<Self, ParseMetricError> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == text)
            .ok_or_else(|| ParseMetricError(text.to_owned()))
    }
}

/// A threshold: the most that is still normal, in either or both units. `None` is not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Packets per second.
    pub packets: Option<PacketsPerSecond>,
    /// Bits per second.
    pub bits: Option<BitsPerSecond>,
}

impl Limit {
    /// How many times `rate` is over the limit: 1.0 is at it. Zero if nothing is judged.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio of rates far below 2^52")]
    pub fn excess(&self, rate: Rate) -> f64 {
        let packets =
            self.packets.map_or(0.0, |limit| rate.packets.0 as f64 / limit.0.max(1) as f64);
        let bits = self.bits.map_or(0.0, |limit| rate.bits.0 as f64 / limit.0.max(1) as f64);
        packets.max(bits)
    }
}

/// A limit for each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds([Limit; Metric::ALL.len()]);

impl Thresholds {
    /// The limit of `metric`.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Limit {
        self.0.get(metric as usize).copied().unwrap_or_default()
    }

    /// Sets the limit of `metric`.
    pub fn set(&mut self, metric: Metric, limit: Limit) {
        if let Some(slot) = self.0.get_mut(metric as usize) {
            *slot = limit;
        }
    }

    /// Every metric with its limit.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, Limit)> {
        Metric::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_slot() {
        let mut thresholds = Thresholds::default();
        for (index, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!(metric as usize, index);
            assert_eq!(metric.name().parse(), Ok(metric));
            let packets = Some(PacketsPerSecond(index as u64 + 1));
            thresholds.set(metric, Limit { packets, bits: None });
        }
        let limits: Vec<u64> =
            thresholds.iter().filter_map(|(_, limit)| limit.packets).map(|pps| pps.0).collect();
        assert_eq!(limits, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn excess_is_the_worse_of_both_units() {
        let limit = Limit { packets: Some(PacketsPerSecond(100)), bits: Some(BitsPerSecond(1000)) };
        let rate = Rate { packets: PacketsPerSecond(200), bits: BitsPerSecond(5000) };
        assert!((limit.excess(rate) - 5.0).abs() < 1e-9);
        assert!(Limit::default().excess(rate).abs() < 1e-9);
    }
}
