//! Packets to traffic summaries to classified attacks.

use std::time::Duration;

#[cfg(feature = "capture")]
pub mod capture;
mod config;
mod meter;
pub mod packet;
mod summary;

pub use config::{Config, Group, Judging};
pub use meter::Meter;
pub use packet::LinkType;
pub use summary::{TargetTraffic, TrafficSummary};

/// Length of a tick: how often the meter is read and traffic is judged.
pub const TICK: Duration = Duration::from_millis(10);
