//! Backends: what installs mitigations, behind one trait.
//!
//! [`kernel`] is nftables on this host, [`speaker`] the sessions of the embedded BGP speaker,
//! [`external`] runs the drivers of other routing daemons, [`bird`], [`exabgp`], [`frr`] and [`gobgp`],
//! and of this host's routing tables, [`linux`], whose leases the [`reaper`] ends, and [`fake`] keeps everything in memory for tests and dry runs.
//! [`snippet`] is for daemons that take routes from the speaker. Each takes
//! [`Command`](tidegate_model::Command)s without ever making the caller wait, and answers with
//! [`BackendEvent`]s on one channel that all backends share.
//!
//! Absent on purpose: deciding. What to install, when to try again and what to remove is the
//! reconciler's.

pub mod backend;
pub mod bird;
pub mod exabgp;
pub mod external;
pub mod fake;
pub mod frr;
pub mod gobgp;
pub mod kernel;
pub mod linux;
pub mod reaper;
pub mod snippet;
pub mod speaker;

pub use backend::{
    Attributes, Backend, BackendEvent, Backends, Capabilities, Dropped, EventSender, Held, Survival,
};
pub use external::{ExternalBackend, ExternalConfig};
