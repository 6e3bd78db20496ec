//! What the data plane tells the control plane each tick.

use std::net::IpAddr;

use tidegate_model::Timestamp;

/// The traffic of one span of time, a tick of [`crate::TICK`] unless the driver lets it be longer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficSummary {
    /// When the span began: the end of the span before.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Addresses with inbound traffic, sorted by address.
    pub targets: Vec<TargetTraffic>,
    /// Frames seen.
    pub packets: u64,
    /// Frames that no destination address could be read from.
    pub malformed: u64,
    /// Frames that carry no IP.
    pub not_ip: u64,
    /// Packets neither from nor to a protected address.
    pub unprotected: u64,
    /// Frames that the kernel or the ring dropped. Filled in by the driver.
    pub lost: u64,
    /// Nothing could be seen: the interface was down, the reader stalled. Filled in by the driver.
    pub blind: bool,
}

/// Traffic toward one protected address.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTraffic {
    /// The address.
    pub address: IpAddr,
}
