//! Packets to traffic summaries to classified attacks.
//!
//! Purpose: recognise volumetric floods on single addresses within 100 ms of their onset, name the
//! vectors, and say when the flood is over. Two halves that meet in [`TrafficSummary`]:
//!
//! - data plane, every packet, no policy: [`packet`] reads headers, [`Meter`] counts per protected
//!   address what came without being asked for, and sketches what it looks like;
//! - control plane, every [`TICK`], one owner: [`Detector`] judges each target against its
//!   thresholds (leaky buckets), classifies what crosses them and tracks attacks to their end.
//!
//! Both are pure: time is a parameter, the seed of the hash tables a constructor argument, the
//! same input gives the same output. Formats: RFC 791, RFC 8200, RFC 4302, RFC 9293, RFC 768,
//! RFC 792, RFC 4443; words: RFC 8612, RFC 9132.
//!
//! Floods that are spread over a network so thinly that no single address crosses its threshold
//! are judged by the /24 or /64, for groups that have thresholds for it, and by everything that is
//! protected together. What is normal may be learned: see [`Learning`].
//!
//! Absent on purpose: what to do about an attack (`tidegate-policy`), application-layer floods
//! inside established connections, reassembly, payload inspection beyond the first octets.

use std::time::Duration;

mod baseline;
mod block;
#[cfg(feature = "capture")]
pub mod capture;
pub mod census;
mod class;
mod classify;
mod config;
mod credit;
mod detector;
mod filter;
pub mod forensics;
mod form;
mod handshake;
mod judge;
mod kind;
mod loss;
mod memory;
mod merge;
mod meter;
pub mod packet;
mod reflector;
mod sample;
mod sampling;
mod sketch;
mod space;
mod summary;
mod tracker;
mod window;

pub use baseline::{
    BaselineMetric, BaselineRow, BaselineTable, InForce, Origin, RestoreError, SavedBaselines,
    SavedProfile,
};
pub use class::TrafficClass;
pub use config::{Config, Group, Judging, Learning};
pub use detector::Detector;
pub use form::Form;
pub use meter::Meter;
pub use packet::LinkType;
pub use sampling::packet_record;
pub use sketch::{Frequent, LengthBands, SourceSketch, Variety};
pub use summary::{ClassTraffic, Connections, Count, MetricCounts, TargetTraffic, TrafficSummary};

/// Length of a tick: how often the meter is read and traffic is judged.
pub const TICK: Duration = Duration::from_millis(10);
