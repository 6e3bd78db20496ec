//! What an attack looked like: packets from before its onset and from its course, as pcapng.
//!
//! ```text
//!  capture thread          its own thread
//!  +----------+  Segment   +------+ segments  +--------------+  bytes
//!  | Recorder |----------->| Ring |---------->| IncidentFile |-------> a driver's file
//!  +----------+  <= 10/s   +------+           +--------------+
//! ```
//!
//! The [`Recorder`] copies packets within a budget, without parsing them. The [`Ring`] keeps what was
//! copied of late. An [`IncidentFile`] picks what went to and from the target, and encodes it.
//!
//! Absent on purpose: files and directories, which are a driver's; complete captures, for which
//! there is tcpdump.
#![deny(clippy::indexing_slicing)]

mod incident;
mod pcapng;
mod recorder;
mod ring;

pub use incident::{FileLimits, IncidentFile, IncidentHeader};
pub use recorder::{Budget, Record, Recorder, Segment};
pub use ring::Ring;
