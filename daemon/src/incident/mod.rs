//! Incidents: all that is known of one attack and of what was done about it, as one document.
//!
//! ```text
//!  Event, Note --handle--> Assembler --poll_change--> Change { kind, Incident } --> store, alerts
//! ```
//!
//! The [`Assembler`] is pure: it is given events with their times and reads no clock. The
//! [`Recorder`] drives it on a thread of its own behind a bounded queue, so that neither disk nor
//! network ever delays a mitigation.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod assembler;
mod capture;
mod change;
mod convert;
mod recent;
mod record;
mod recorder;
#[doc(hidden)]
pub mod sample;
mod start;
#[cfg(test)]
mod tests;
mod time;

pub use assembler::{Assembler, Note};
pub use capture::capture_of;
pub use change::{Change, ChangeKind};
pub use recent::Recent;
pub use record::{
    Capture, Decision, Effect, Evidence, GuardVerdict, Incident, Mitigation, MitigationState,
    Outcome, PolicyRef, Rate, Route, SCHEMA, Signature, Status, Times, Trigger, Update, Vector,
};
pub use recorder::{Recorder, RecorderHandle, Sinks};
pub use start::{FINISH, Records, start};
pub use time::{ParseTimeError, WallTime};
