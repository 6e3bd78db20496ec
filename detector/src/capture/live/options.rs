//! What to capture, and how.

use std::num::NonZeroU8;

use crate::capture::CaptureError;

/// Bytes of each frame that are captured unless configured otherwise.
pub const DEFAULT_SNAP_LENGTH: u32 = 192;

/// Bytes of the kernel's ring unless configured otherwise.
pub const DEFAULT_BUFFER: u32 = 64 << 20;

/// The smallest ring that one worker can have, in bytes.
const LEAST_BUFFER: u32 = 1 << 20;

/// What to capture, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveOptions {
    /// The interfaces; none takes the one with the default route, else the first that is up.
    pub interfaces: Vec<String>,
    /// Threads that share the traffic of every interface.
    pub workers: NonZeroU8,
    /// A filter in the language of pcap-filter(7); packets outside it are not seen at all.
    pub filter: Option<String>,
    /// Bytes of each frame that are captured.
    pub snap_length: u32,
    /// Bytes of the kernel's ring of each interface, shared among the workers.
    pub buffer: u32,
    /// Whether frames to other stations are taken too.
    pub promiscuous: bool,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            workers: NonZeroU8::MIN,
            filter: None,
            snap_length: DEFAULT_SNAP_LENGTH,
            buffer: DEFAULT_BUFFER,
            promiscuous: true,
        }
    }
}

impl LiveOptions {
    /// Bytes of the ring of one worker.
    pub(super) fn buffer_each(&self) -> u32 {
        self.buffer / u32::from(self.workers.get())
    }

    pub(super) fn check(&self) -> Result<(), CaptureError> {
        // Below: no room for the headers of one packet. Above: what libpcap takes.
        let workers = u32::from(self.workers.get());
        let ranges = [
            ("a snapshot length", self.snap_length, 64, 262_144),
            ("a buffer", self.buffer, LEAST_BUFFER * workers, 1 << 30),
        ];
        for (option, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(CaptureError::Option { option, value, least, most });
            }
        }
        Ok(())
    }
}
