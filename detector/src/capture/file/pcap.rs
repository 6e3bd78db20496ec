//! The pcap format (draft-ietf-opsawg-pcap), both byte orders, both precisions.

use super::window::Window;
use super::{Damage, Input, Record, check_lengths, require, require_start};
use crate::packet::LinkType;

/// Octets of the file header.
const FILE_HEADER: usize = 24;

/// Octets before the frame of a record.
const RECORD_HEADER: usize = 16;

/// The same in files of patched 1990s libpcap, which add an interface index and a protocol.
const MODIFIED_RECORD_HEADER: usize = 24;

/// Whether a file with these first bytes is one.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    matches!(
        u32::from_le_bytes(magic),
        0xa1b2_c3d4 | 0xa1b2_3c4d | 0xd4c3_b2a1 | 0x4d3c_b2a1 | 0xa1b2_cd34
    )
}

/// A pcap file behind its header.
#[derive(Debug)]
pub(super) struct Pcap {
    link: LinkType,
    big_endian: bool,
    /// Nanoseconds in a unit of the fraction field.
    unit: u32,
    record_header: usize,
}

impl Pcap {
    /// Reads the file header.
    pub(super) fn open(window: &mut Window<Input>) -> Result<Self, Damage> {
        require(window, FILE_HEADER)?;
        let head = window.data().get(..FILE_HEADER).unwrap_or_default();
        let (_, header) = pcap_parser::parse_pcap_header(head)
            .map_err(|_| Damage::Corrupt(0, "the file header cannot be read".to_owned()))?;
        let (major, minor) = (header.version_major, header.version_minor);
        if major != 2 {
            let what = format!("pcap version {major}.{minor}; version 2 is supported");
            return Err(Damage::Corrupt(0, what));
        }
        // The upper bits may say how long the frame check sequence is.
        let number = u32::from_le_bytes(header.network.0.to_le_bytes()) & 0xffff;
        let link = i32::try_from(number).ok().and_then(LinkType::from_dlt);
        let link = link.ok_or(Damage::LinkType(number))?;
        window.consume(FILE_HEADER);
        Ok(Self {
            link,
            big_endian: header.is_bigendian(),
            unit: if header.is_nanosecond_precision() { 1 } else { 1000 },
            record_header: if header.is_modified_format() {
                MODIFIED_RECORD_HEADER
            } else {
                RECORD_HEADER
            },
        })
    }

    /// The next record; `None` at the end of the file.
    pub(super) fn next(&mut self, window: &mut Window<Input>) -> Result<Option<Record>, Damage> {
        if !require_start(window, self.record_header)? {
            return Ok(None);
        }
        let offset = window.offset();
        let [seconds, fraction, captured, original] = self.words(window.data());
        check_lengths(offset, captured, original)?;
        let length = captured as usize;
        require(window, self.record_header + length)?;
        window.consume(self.record_header);
        let time =
            i128::from(seconds) * 1_000_000_000 + i128::from(fraction) * i128::from(self.unit);
        Ok(Some(Record {
            offset,
            time: Some(time),
            link: self.link,
            data: window.consume(length),
            wire_length: original.max(captured),
            interface: 0,
        }))
    }

    fn words(&self, header: &[u8]) -> [u32; 4] {
        let mut words = [0; 4];
        for (word, octets) in words.iter_mut().zip(header.as_chunks::<4>().0) {
            *word = if self.big_endian {
                u32::from_be_bytes(*octets)
            } else {
                u32::from_le_bytes(*octets)
            };
        }
        words
    }
}
