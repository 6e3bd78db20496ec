//! Packet headers, read from hostile bytes.

mod link;

pub use link::LinkType;
