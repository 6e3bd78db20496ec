//! Capture drivers: where frames come from.
//!
//! [`file`] reads pcap and pcapng files, plain or compressed with gzip; [`live`] reads an interface
//! through libpcap. Both hand out frames in buffers that they reuse: a packet costs no allocation.
//!
//! Absent on purpose: what frames mean. That is the work of [`crate::Meter`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub mod file;
pub mod live;

/// Why frames cannot be had, or no more of them.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open capture `{path}`: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is something else.
    #[error(
        "`{path}` is not a packet capture: {found}; expected a pcap or pcapng file, plain or \
         compressed with gzip"
    )]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// Frames of this kind cannot be read.
    #[error(
        "`{path}` holds frames of link type {number}, which cannot be read; supported are \
         Ethernet (1), Linux cooked (113, 276), raw IP (101, 228, 229), BSD loopback (0, 108) and \
         PPP (9, 50)"
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// LINKTYPE number.
        number: u32,
    },
    /// The file ends inside a record.
    #[error("capture `{path}` is truncated: the record at byte {offset}{of} is not complete")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the incomplete record begins.
        offset: u64,
        /// Which bytes the offset counts.
        of: OffsetOf,
    },
    /// The file contradicts its format.
    #[error("capture `{path}` is corrupt at byte {offset}{of}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the record with the contradiction begins.
        offset: u64,
        /// Which bytes the offset counts.
        of: OffsetOf,
        /// What is wrong.
        what: String,
    },
    /// A timestamp that cannot be right.
    #[error(
        "capture `{path}`: the record at byte {offset}{of} is dated {what}; if a clock was wrong, \
         `editcap -t` corrects it"
    )]
    Time {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// Which bytes the offset counts.
        of: OffsetOf,
        /// How far off it is.
        what: Jump,
    },
    /// The file cannot be read on.
    #[error("cannot read capture `{path}` at byte {offset}{of}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the record begins that was being read.
        offset: u64,
        /// Which bytes the offset counts.
        of: OffsetOf,
        /// What the system says.
        source: io::Error,
    },
    /// The interface does not exist.
    #[error("there is no interface `{name}`; {}", listed(existing))]
    NoInterface {
        /// What was asked for.
        name: String,
        /// Those that there are.
        existing: Vec<String>,
    },
    /// No interface was named and none suggests itself.
    #[error(
        "no interface was named and none carries a default route or is up; name one; {}",
        listed(existing)
    )]
    NoDefaultInterface {
        /// Those that there are.
        existing: Vec<String>,
    },
    /// The process may not capture.
    #[error(
        "no permission to capture on `{interface}`: run as root, or give the program the capability \
         with `sudo setcap cap_net_raw+ep` followed by its path"
    )]
    NotPermitted {
        /// Where.
        interface: String,
    },
    /// The filter is no filter.
    #[error("`{filter}` is not a capture filter: {message}; pcap-filter(7) describes the language")]
    Filter {
        /// What was given.
        filter: String,
        /// What libpcap says.
        message: String,
    },
    /// A number that libpcap does not take.
    #[error("{option} of {value} is out of range; it must be between {least} and {most}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What was given.
        value: u32,
        /// The smallest that works.
        least: u32,
        /// The largest that works.
        most: u32,
    },
    /// Frames of the interface cannot be read.
    #[error("interface `{interface}` has link type {number}, which cannot be read")]
    InterfaceLinkType {
        /// Where.
        interface: String,
        /// DLT number.
        number: i32,
    },
    /// libpcap refuses.
    #[error("cannot capture on `{interface}`: {message}")]
    Live {
        /// Where.
        interface: String,
        /// What libpcap says.
        message: String,
    },
}

/// A year without leap day.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A timestamp that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// So much after the record before.
    Later(Duration),
    /// So much before the record before.
    Earlier(Duration),
    /// Before 1970, or after 2554.
    OutOfRange,
}

impl std::fmt::Display for Jump {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let years = |span: &Duration| span.as_secs() / YEAR.as_secs();
        match self {
            Self::Later(span) => write!(formatter, "{} years after the one before it", years(span)),
            Self::Earlier(span) => {
                write!(formatter, "{} years before the one before it", years(span))
            }
            Self::OutOfRange => formatter.write_str("outside the years 1970 to 2554"),
        }
    }
}

/// Which bytes an offset counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetOf {
    /// Those of the file.
    File,
    /// Those that come out of gzip.
    Decompressed,
}

impl std::fmt::Display for OffsetOf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Decompressed => formatter.write_str(" of the decompressed data"),
        }
    }
}

fn listed(existing: &[String]) -> String {
    if existing.is_empty() {
        "no interface can be captured on".to_owned()
    } else {
        format!("there are: {}", existing.join(", "))
    }
}
