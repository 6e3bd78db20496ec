//! Policy text to checked policy; attacks to desired mitigations with reasons.
//!
//! Purpose: reads the operator's TOML files ([`load`]), reports every mistake in them with file,
//! line, column and what to write instead ([`Report`]), and yields the resolved [`Policy`].
//! [`text`] is the reader of TOML that keeps positions, for other configuration files too.
//!
//! Absent on purpose: Git, reloading, clocks, sending anything. The only input and output is
//! [`load`] reading a directory.

pub mod guard;
pub mod planner;
mod policy;
pub mod profile;
mod report;
mod resolve;
mod revision;
pub mod rule;
pub mod text;

pub use planner::{Cause, Decision, DecisionKind, Planner, Refusal};
pub use policy::{
    ConnectMode, DEFAULT_GROUP, Family, FilterAction, Group, Judging, Matcher, Peer, Policy,
    Response, ResponseAction, RtbhProfile, SeverityScale, SpeakerIdentity, UnknownName,
    default_thresholds,
};
pub use profile::{ConfinedBy, FlowSpecProfile, Profile, Sessions, Widen};
pub use report::{Diagnostic, MAX_DIAGNOSTICS, Report, TerminalReport};
pub use resolve::{
    MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, PolicyFile, load, read_files, resolve,
};
pub use revision::{Revision, Tree};
