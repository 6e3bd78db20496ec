//! The wire format against the world: recorded vectors, other people's decoders, and properties
//! over arbitrary routes, messages and sequences of commands.

#![allow(missing_docs, reason = "tests are named by what they show")]

mod gate;
mod oracles;
mod rib;
mod roundtrip;
mod routes;
mod vectors;
