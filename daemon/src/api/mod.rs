//! The gRPC API: what people and programs may see and order while the daemon runs.
//!
//! ```text
//!  clients --HTTP/2--> api thread --Ask (bounded, try_send)--> engine task: Door
//!                        ^  ^  ^------- answer (oneshot) ----------+ |
//!                        |  +---------- events (broadcast, lossy) ---+
//!                        +-- incidents: recorder's changes (broadcast, lossy), store (read only)
//! ```
//!
//! Connections, encoding and everything that a client can make slow live on a thread of their own.
//! The engine takes an [`Ask`] from a bounded queue when it has nothing else to do, answers it
//! without waiting, and tells events to a ring from which slow readers miss some.
//! `proto/tidegate/v1/tidegate.proto` is the contract; `docs/api.md` describes roles and limits.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod access;
pub mod client;
mod convert;
mod door;
mod gate;
mod link;
mod listen;
mod serve;
mod services;
mod top;
mod view;

use prost_reflect::DescriptorPool;

pub use door::{Audited, Door};
pub use link::{Applied, Ask, AskError, Asks, EngineHandle, NotOrdered, PanicOrder, connect};
pub use listen::{ListenError, usual_sockets};
pub use serve::{About, Api, Desk, start};
pub use view::{AttackView, MitigationView, View};

/// Messages and services of `tidegate.v1`, made from the published interface.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing,
    reason = "the interface is documented in its own file"
)]
pub mod v1 {
    tonic::include_proto!("tidegate.v1");
}

/// The published interface, as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tidegate.v1.bin"));

/// The published interface, to look names up in.
///
/// # Panics
/// Never: the build has made it.
#[must_use]
pub fn descriptors() -> DescriptorPool {
    #[expect(clippy::expect_used, reason = "the build has made it")]
    DescriptorPool::decode(DESCRIPTORS).expect("the interface is well-formed")
}
