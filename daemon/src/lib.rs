//! The tidegate daemon: engine, configuration and command line.
//!
//! Purpose: to drive the pure parts with clocks, captures, sockets and signals. The engine itself
//! is pure: [`engine::Engine`] is the same in `tidegate run` and `tidegate replay`.
//!
//! Absent on purpose: detection, planning, reconciling and BGP, each in a crate of its own.

pub mod akvorado;
pub mod alerts;
pub mod api;
pub mod backends;
pub mod baselines;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod engine;
pub mod event;
pub mod forensics;
pub mod import;
pub mod incident;
pub mod json;
pub mod metrics;
pub mod notify;
pub mod offline;
pub mod output;
pub mod pipeline;
pub mod policy_repo;
pub mod privilege;
pub mod recorded;
pub mod reload;
pub mod replay;
pub mod reports;
pub mod run;
pub mod sources;
pub mod store;
pub mod timeline;
