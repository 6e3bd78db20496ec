//! Link layers by their pcap number.

/// The framing in front of the IP header.
///
/// Numbers are LINKTYPE and DLT values of the pcap formats
/// (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkType {
    /// Ethernet (1), with VLAN and QinQ tags, MPLS and PPPoE behind it.
    Ethernet,
    /// Linux "any" capture, 16-byte header (113).
    LinuxCooked,
    /// Linux "any" capture, 20-byte header (276).
    LinuxCooked2,
    /// IPv4 or IPv6 without framing (12, 14, 101, 228, 229).
    RawIp,
    /// BSD loopback with a 4-byte family (0, 108).
    Null,
    /// Point-to-point protocol (9, 50).
    Ppp,
}

impl LinkType {
    /// The link type of a pcap DLT or LINKTYPE number; `None` if such frames cannot be read.
    #[must_use]
    pub const fn from_dlt(number: i32) -> Option<Self> {
        Some(match number {
            0 | 108 => Self::Null,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            _ => return None,
        })
    }

    /// Its number in a file; of those that mean the same, the one that files use.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::Ppp => 9,
            Self::RawIp => 101,
            Self::LinuxCooked => 113,
            Self::LinuxCooked2 => 276,
        }
    }
}
