//! The data plane: packets to summaries.

use tidegate_model::Timestamp;

use crate::config::Config;
use crate::packet::LinkType;
use crate::summary::TrafficSummary;

/// Counts packets per protected address.
pub struct Meter {
    summary: TrafficSummary,
}

impl Meter {
    /// A meter for the addresses of `config`. `seed` keys the hash tables.
    #[must_use]
    pub fn new(_config: &Config, _seed: u64) -> Self {
        Self { summary: TrafficSummary::default() }
    }

    /// Counts one frame. `wire_length` is its length before it was cut for the capture, in bytes.
    pub fn observe(&mut self, _link: LinkType, _frame: &[u8], _wire_length: u32) {
        self.summary.packets += 1;
    }

    /// Ends the tick and hands out what was counted since the last one.
    pub fn finish_tick(&mut self, end: Timestamp) -> TrafficSummary {
        let mut summary = std::mem::take(&mut self.summary);
        self.summary.start = end;
        summary.end = end;
        summary
    }
}
