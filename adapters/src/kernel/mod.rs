//! The local kernel: FlowSpec filters as nftables rules of this host.
//!
//! One netlink socket owns the table `inet tidegate` (`NFT_TABLE_F_OWNER`). As long as it is open,
//! nobody else can change or flush the table; when it closes, however the process ended, the
//! kernel removes the table with all that is in it. Nothing can be left behind.
//!
//! Every filter is one or more rules in one chain that sees each arriving packet before fragments
//! are put together, before connection tracking and routing. A rule is tagged with a comment,
//! counts what it drops, and is deleted by its own handle. Changes are transactions: all of a
//! filter's rules or none, and a changed filter replaces the old one without a gap.
//!
//! Three ways in which it differs from a router: filters are tested one after the other, so what a
//! rate limit lets pass can still be dropped by a later filter; packets that the network card
//! merged (GRO) are seen, measured and limited as one; and a rate limit of a filter with several
//! alternatives counts a packet once for each rule that it matches.
//!
//! A limit of packets that open TCP connections (SYN without ACK) is for strangers: a second chain,
//! behind connection tracking, remembers who has completed a handshake, and they pass. That needs
//! both directions of a connection to come through this host; whose answers go another way stays a
//! stranger.
//!
//! A [`FlowSpecClient`] has the rules carried out that trusted peers ask for.
//!
//! Absent: redirection, marking and sampling, which are refused with the reason.

mod filter;
mod learnt;
mod message;
mod ruleset;
mod socket;
mod table;
mod worker;

#[cfg(test)]
mod packets;
#[cfg(test)]
mod tests;

use std::io;

pub use filter::Untranslatable;
pub use table::check;
pub use worker::{FlowSpecClient, KernelBackend};

/// Why nftables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The process may not.
    #[error(
        "changing nftables needs CAP_NET_ADMIN in this network namespace; run as root or grant it (`AmbientCapabilities=CAP_NET_ADMIN` in a systemd unit)"
    )]
    Permission,
    /// There is a table of our name that belongs to another process.
    #[error(
        "the nftables table `inet tidegate` belongs to another process; is tidegate running already?"
    )]
    TableOwned,
    /// There is a table of our name that nobody owns.
    #[error(
        "there is an nftables table `inet tidegate` that is not from this program; remove it with `nft delete table inet tidegate`"
    )]
    TableExists,
    /// A system call on the netlink socket failed.
    #[error("cannot {operation} the netlink socket: {source}")]
    Socket {
        /// What was attempted.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused a whole transaction or a dump.
    #[error("nftables: {0}")]
    Refused(io::Error),
    /// Part of an answer is missing.
    #[error("the kernel did not answer a netlink request completely")]
    NoAnswer,
    /// Rules changed again and again while they were listed.
    #[error("the nftables rules changed all the time while they were listed")]
    Interrupted,
    /// A rule of ours is gone though nobody else may delete it.
    #[error("an nftables rule of ours was deleted by somebody else")]
    Interfered,
}

impl KernelError {
    fn transaction(error: i32) -> Self {
        Self::Refused(io::Error::from_raw_os_error(error))
    }
}
