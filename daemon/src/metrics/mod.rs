//! Metrics for Prometheus, in the OpenMetrics text format, over HTTP.
//!
//! ```text
//!  engine --atomics--> Counters <--read-- metrics thread --HTTP--> Prometheus
//!  engine, speaker <--asked at each scrape (bounded)--+
//! ```
//!
//! What happens is counted as it happens; how things stand is asked when somebody wants to know. A
//! scraper that is slow or hostile holds up nobody but other scrapers. Names and units are stable,
//! and documented in `docs/metrics.md`, which a test compares with what is exported.

mod counters;
mod gauges;
mod serve;

pub use counters::Counters;
pub use gauges::exposition;
pub use serve::{Metrics, MetricsError, start};
