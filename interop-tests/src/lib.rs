//! What the tests against real routers are made of.
//!
//! Purpose: a generator of attack and benign traffic ([`traffic`]), a laboratory of network
//! namespaces in which a real tidegate speaks to real routers ([`lab`]), the demonstration that
//! joins them ([`demo`]), what is measured: speed ([`bench`]) and accuracy ([`accuracy`]), and the
//! matrix of sessions with other BGP daemons ([`interop`]).
//!
//! Absent on purpose: anything that the daemon itself needs. Nothing here is shipped, and the
//! generator knows the protocols from their specifications, never from the detector's tables.

pub mod accuracy;
pub mod bench;
pub mod demo;
pub mod interop;
pub mod lab;
pub mod traffic;
