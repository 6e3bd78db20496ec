//! The chain from packets to attacks, through the public interface.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as the tests do"
)]

mod baseline;
mod carpet;
mod guards;
mod lab;
mod meter;
mod packet;
mod scenarios;
