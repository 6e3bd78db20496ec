//! What the capture lost.

use std::time::Duration;

/// How fast lost packets are forgotten: the part that one second leaves. Half in a quarter of a
/// second: a flood that the capture cannot follow must be recognised by what it keeps.
const MEMORY: f64 = 0.0625;
/// Of lost packets no more is made than this: as if one in a thousand had been kept.
pub(crate) const LEAST_KEPT: f64 = 0.001;

/// Packets lost and seen of late.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    lost: f64,
    seen: f64,
}

impl Loss {
    #[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^52")]
    pub(crate) fn add(&mut self, span: Duration, lost: u64, seen: u64) {
        let memory = MEMORY.powf(span.as_secs_f64());
        self.lost = self.lost * memory + lost as f64;
        self.seen = self.seen * memory + seen as f64;
    }

    /// The part of what came of late that was lost; none once less than a packet is remembered.
    pub(crate) fn part(&self) -> f64 {
        if self.lost >= 1.0 { self.lost / (self.lost + self.seen) } else { 0.0 }
    }

    /// How many times as much came as was seen: what was lost would have looked like what was kept.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (1.0 - self.part()).max(LEAST_KEPT)
    }
}
