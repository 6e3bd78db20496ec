//! Sessions without sockets: two of them joined by queues under virtual time, and one facing octets
//! that no peer should send.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop at a surprise too")]

mod attributes;
mod bench;
mod dump;
mod fsm;
mod graceful;
mod learnt;
mod malformed;
#[path = "../support/octets.rs"]
mod octets;
mod options;
mod pair;
mod quarantine;
mod routes;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod world;
