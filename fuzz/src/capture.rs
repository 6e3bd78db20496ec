//! A capture file.
//!
//! Input: the file, plain or compressed with gzip. It ends, its frames are within their bounds, and
//! time never runs backwards.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, memfd_create};
use tidegate_detector::capture::file::{CaptureFile, MAX_FRAME};

/// More than gzip makes of one octet.
const EXPANSION: usize = 1100;

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let mut file = File::from(memfd_create("capture", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(input).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut capture = match CaptureFile::open(&path) {
        Ok(capture) => capture,
        Err(error) => return drop(error.to_string()),
    };
    let (mut octets, mut last) = (0, None);
    loop {
        match capture.next_frame() {
            Ok(Some(frame)) => {
                assert!(frame.data.len() <= MAX_FRAME as usize);
                assert!(last <= Some(frame.time), "time runs backwards");
                last = Some(frame.time);
                octets += frame.data.len();
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    assert!(matches!(capture.next_frame(), Ok(None)), "more after the end");
    assert!(octets <= input.len().saturating_mul(EXPANSION), "{octets} octets of frames");
    assert!(capture.bytes_read() <= capture.total_bytes());
}
