//! The embedded BGP speaker.
//!
//! Purpose: to hold sessions with routers and tell them what to drop: Remote Triggered Black Hole
//! routes (RFC 7999) and FlowSpec rules (RFC 8955, RFC 8956), over BGP-4 (RFC 4271, RFC 4760,
//! RFC 6793), and to take every route back. What leaves is decoded again and judged by the
//! [`egress`] gate, whose decoder shares no code with the encoder.
//!
//! Absent on purpose: a Loc-RIB, best-path selection and anything that would pass on a learnt
//! route. tidegate originates, nothing else. Without the feature `io` there is no socket, clock or
//! task here.

#![deny(clippy::indexing_slicing)]

pub mod convert;
pub mod egress;
mod family;
pub mod learnt;
mod parameters;
pub mod rib;
pub mod session;

#[cfg(feature = "io")]
pub mod io;
#[cfg(feature = "io")]
pub mod speaker;

pub use family::{Family, ParseFamilyError};
pub use parameters::SessionParameters;

/// Largest message that is sent: RFC 4271 §4.1. A peer that takes longer ones (RFC 8654) gets none.
pub const MAX_MESSAGE_LENGTH: usize = 4096;
