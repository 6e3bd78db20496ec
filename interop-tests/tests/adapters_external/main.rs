//! The drivers of other routing daemons, with the real daemons in network namespaces: what counts
//! is what a third router behind the daemon holds.
//!
//! ```text
//!   tidegate (this process, by socket or file) -> router: the daemon, AS 65001 -- third: BIRD, AS 65003
//! ```
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

mod bird;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod exabgp;
mod frr;
mod gobgp;
mod live;
mod reaper;
mod relay;
mod stage;
