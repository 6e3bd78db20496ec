//! From what is wanted to what backends are told: the safety core of tidegate.
//!
//! [`Reconciler`] compares three things: the [`DesiredSet`](tidegate_model::DesiredSet) of the
//! planner, its own ledger of everything a backend may hold because of us, and what backends
//! answer and report. The difference becomes commands. It is level-triggered: work that failed,
//! was lost or was undone by somebody else is still in the difference and is done again.
//!
//! What it promises, whatever the planner and the backends do:
//!
//! - every route that a backend may hold has a ledger entry that alone is enough to withdraw it;
//! - an entry is withdrawn when its lease runs out, even if the planner has fallen silent;
//! - nothing is announced that this crate's own guard refuses (see [`Refusal`]);
//! - withdraws go before announces, and only announces are limited in rate;
//! - every collection is bounded, see [`Config`].
//!
//! An entry's life:
//!
//! ```text
//!              refused by the guard
//!   (desired) ----------------------> Refused
//!       |                                 ^ withdrawn, still desired but no longer allowed
//!       v       announce                  |
//!    Wanted ------------> Announcing      |            answer: applied
//!       ^  ^                 | | | |      +--- Withdrawing ------------> (gone)
//!       |  |  no answer,     | | | |               ^  |  no answer, failed:
//!       |  +--- again -------+ | | |               |  +-- withdraw again
//!       |                      | | +--> Rejected --+
//!       |  after back-off      | +----> Pending ---+  no longer desired,
//!       +------------ Failed <-+                   |  lease ran out, stop
//!       |                      +------> Applied ---+
//!       |     missing there               |        |
//!       +---------------------------------+        |
//!       |                                 | down   |
//!       +--------- Unknown <--------------+--------+
//! ```
//!
//! Absent on purpose: input and output, clocks (time is a parameter), knowledge of attacks and
//! of policy, and persistence: after a restart, backends report what they hold of ours, the journal
//! what they may hold, and whatever is not desired is withdrawn.

mod backoff;
mod event;
mod guard;
mod ledger;
mod limits;
mod reconciler;

pub use backoff::RetryDelays;
pub use event::{Change, Event};
pub use guard::Refusal;
pub use ledger::{Entry, EntryState, Goal, RemoveReason};
pub use limits::AnnounceLimit;
pub use reconciler::{Config, Reconciler};
