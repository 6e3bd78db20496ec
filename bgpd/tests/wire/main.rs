//! The wire format against the world: recorded vectors, other people's decoders, and properties
//! over arbitrary routes, messages and sequences of commands.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod captures;
mod gate;
mod oracles;
mod rib;
mod roundtrip;
mod routes;
#[path = "../support/safety.rs"]
mod safety;
mod vectors;
