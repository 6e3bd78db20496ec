//! Policy text to checked policy; attacks to desired mitigations with reasons.
//!
//! Purpose: reads the operator's TOML files ([`load`]), reports every mistake in them with file,
//! line, column and what to write instead ([`Report`]), and yields the resolved [`Policy`].
//! [`text`] is the reader of TOML that keeps positions, for other configuration files too.
//!
//! Absent on purpose: Git, reloading, clocks, sending anything. The only input and output is
//! [`load`] reading a directory.

pub mod diff;
pub mod explain;
pub mod guard;
pub mod planner;
pub mod play;
mod policy;
pub mod profile;
mod report;
mod resolve;
mod revision;
pub mod rule;
pub mod scenario;
pub mod schema;
pub mod synthesis;
pub mod text;

pub use planner::{
    Cause, Coverage, Decision, DecisionKind, Effect, Followed, ManualAction, Order, OrderRefused,
    Planner, Proposal, Refusal, Sensor, Sight, Standing,
};
pub use policy::{
    Approvals, BreakerLimits, Budgets, Condition, ConnectMode, DEFAULT_GROUP, EffectAim,
    Enforcement, Family, FilterAction, FlapBudget, Group, Hours, Judging, Learning, Location,
    Matcher, Mode, Otherwise, Peer, Policy, Progress, Response, ResponseAction, RouteTarget,
    RtbhProfile, RuleSource, SensorPlace, ServicePort, SeverityScale, SpeakerIdentity, Step,
    UnknownName, Via, default_thresholds, minute_of_week,
};
pub use profile::{ConfinedBy, FlowSpecProfile, Profile, Sessions, Widen};
pub use report::{Diagnostic, MAX_DIAGNOSTICS, Report, TerminalReport};
pub use resolve::{
    MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, PolicyFile, load, read_files, resolve,
};
pub use revision::{Revision, Tree};
