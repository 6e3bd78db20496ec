//! The pcapng format (draft-ietf-opsawg-pcapng): sections, interfaces, packet blocks.

use pcap_parser::pcapng::{
    OptionCode, parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le,
    parse_sectionheaderblock,
};

use super::window::Window;
use super::{Damage, Input, MAX_BLOCK, Record, check_lengths, require, require_start};
use crate::packet::LinkType;

/// Block types (§4, §11.1).
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Byte-order magic of a section header (§4.1).
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Type and length before, length after.
const BLOCK_FRAME: usize = 12;

/// Interfaces of one section. More are corrupt: captures have a few.
const MAX_INTERFACES: usize = 4096;

/// Whether a file with these first bytes is one. The magic reads the same in both byte orders.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) == SECTION_HEADER
}

/// How timestamps count (`if_tsresol`).
#[derive(Clone, Copy, Debug)]
enum Resolution {
    /// Units of so many nanoseconds.
    Nanoseconds(u64),
    /// So many units in a nanosecond.
    PerNanosecond(u64),
    /// Units of 2^-n seconds.
    Binary(u8),
}

impl Resolution {
    const DEFAULT: Self = Self::Nanoseconds(1000);

    fn read(octet: u8) -> Option<Self> {
        let exponent = u32::from(octet & 0x7f);
        Some(match (octet & 0x80, exponent) {
            (0, 0..=9) => Self::Nanoseconds(10_u64.pow(9 - exponent)),
            (0, 10..=28) => Self::PerNanosecond(10_u64.pow(exponent - 9)),
            (0, _) => return None,
            _ => Self::Binary(octet & 0x7f),
        })
    }

    fn nanoseconds(self, units: u64) -> i128 {
        match self {
            Self::Nanoseconds(nanoseconds) => i128::from(units) * i128::from(nanoseconds),
            Self::PerNanosecond(units_each) => i128::from(units / units_each),
            // 94 bits at most; shifts of up to 127 are defined.
            Self::Binary(bits) => (i128::from(units) * 1_000_000_000) >> bits,
        }
    }
}

#[derive(Debug)]
struct Interface {
    link: Result<LinkType, u32>,
    snap_length: u32,
    resolution: Resolution,
    /// Nanoseconds to add to every timestamp (`if_tsoffset`).
    offset: i128,
}

/// A pcapng file.
#[derive(Debug)]
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Interfaces of all sections before this one.
    earlier_interfaces: usize,
    unreadable: Option<u32>,
    unreadable_frames: u64,
}

/// A packet block, taken apart. Offsets are from the start of the block.
struct Packet {
    interface: u32,
    units: Option<u64>,
    captured: u32,
    original: u32,
    data: usize,
}

impl PcapNg {
    pub(super) fn new() -> Self {
        Self {
            big_endian: false,
            interfaces: Vec::new(),
            earlier_interfaces: 0,
            unreadable: None,
            unreadable_frames: 0,
        }
    }

    /// A link type that frames were left out for.
    pub(super) fn unreadable(&self) -> Option<u32> {
        self.unreadable
    }

    pub(super) fn unreadable_frames(&self) -> u64 {
        self.unreadable_frames
    }

    /// The next packet of a readable interface; `None` at the end of the file.
    pub(super) fn next(&mut self, window: &mut Window<Input>) -> Result<Option<Record>, Damage> {
        while let Some((kind, length)) = self.block(window)? {
            let offset = window.offset();
            let block = window.data().get(..length).unwrap_or_default();
            let packet = match kind {
                SECTION_HEADER => {
                    self.section(offset, block)?;
                    None
                }
                INTERFACE_DESCRIPTION => {
                    self.interface(offset, block)?;
                    None
                }
                ENHANCED_PACKET => Some(self.enhanced(block)),
                SIMPLE_PACKET => Some(self.simple(block)),
                PACKET => Some(self.obsolete(block)),
                _ => None,
            };
            let record = match packet {
                Some(packet) => self.record(offset, length, packet)?,
                None => None,
            };
            let start = window.consume(length).start;
            if let Some(mut record) = record {
                record.data = start + record.data.start..start + record.data.end;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Brings the next block into the window whole: its type and length.
    fn block(&mut self, window: &mut Window<Input>) -> Result<Option<(u32, usize)>, Damage> {
        if !require_start(window, BLOCK_FRAME)? {
            return Ok(None);
        }
        let offset = window.offset();
        let corrupt = |what: String| Err(Damage::Corrupt(offset, what));
        if word(window.data(), 0, false) == SECTION_HEADER {
            self.big_endian = match word(window.data(), 8, false) {
                BYTE_ORDER => false,
                other if other.swap_bytes() == BYTE_ORDER => true,
                other => return corrupt(format!("{other:08x} is no byte-order magic")),
            };
        }
        let (kind, length) =
            (word(window.data(), 0, self.big_endian), word(window.data(), 4, self.big_endian));
        if !(12..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
            return corrupt(format!(
                "a block of {length} bytes; it must be a multiple of 4 from 12 to {MAX_BLOCK}"
            ));
        }
        let size = length as usize;
        require(window, size)?;
        let again = word(window.data(), size - 4, self.big_endian);
        if again != length {
            return corrupt(format!(
                "a block says that it has {length} bytes, and at its end {again}"
            ));
        }
        Ok(Some((kind, size)))
    }

    fn section(&mut self, offset: u64, block: &[u8]) -> Result<(), Damage> {
        let (_, header) = parse_sectionheaderblock(block)
            .map_err(|_| Damage::Corrupt(offset, "the section header cannot be read".to_owned()))?;
        if header.major_version != 1 {
            let (major, minor) = (header.major_version, header.minor_version);
            let what = format!("pcapng version {major}.{minor}; version 1 is supported");
            return Err(Damage::Corrupt(offset, what));
        }
        // Another section may be another machine: its clocks are strangers to those before. Only
        // the number of interfaces is bounded, so it is counted modulo that bound.
        self.earlier_interfaces =
            (self.earlier_interfaces + self.interfaces.len()) % MAX_INTERFACES;
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, offset: u64, block: &[u8]) -> Result<(), Damage> {
        let parsed = if self.big_endian {
            parse_interfacedescriptionblock_be(block)
        } else {
            parse_interfacedescriptionblock_le(block)
        };
        let corrupt = |what: String| Damage::Corrupt(offset, what);
        let (_, description) =
            parsed.map_err(|_| corrupt("the interface description cannot be read".to_owned()))?;
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(corrupt(format!("more than {MAX_INTERFACES} interfaces in a section")));
        }
        let number = description.linktype.0;
        let mut interface = Interface {
            link: LinkType::from_dlt(number).ok_or(u32::try_from(number).unwrap_or(u32::MAX)),
            snap_length: description.snaplen,
            resolution: Resolution::DEFAULT,
            offset: 0,
        };
        for option in &description.options {
            let value = option.as_bytes().unwrap_or_default();
            if option.code == OptionCode::IfTsresol {
                let octet = value.first().copied().unwrap_or(6);
                interface.resolution = Resolution::read(octet)
                    .ok_or_else(|| corrupt(format!("{octet:#04x} is no timestamp resolution")))?;
            } else if option.code == OptionCode::IfTsoffset {
                let octets = value.first_chunk::<8>().copied().unwrap_or_default();
                let seconds = if self.big_endian {
                    i64::from_be_bytes(octets)
                } else {
                    i64::from_le_bytes(octets)
                };
                interface.offset = i128::from(seconds) * 1_000_000_000;
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// Enhanced packet block (§4.3).
    fn enhanced(&self, block: &[u8]) -> Packet {
        let word = |at| word(block, at, self.big_endian);
        Packet {
            interface: word(8),
            units: Some(u64::from(word(12)) << 32 | u64::from(word(16))),
            captured: word(20),
            original: word(24),
            data: 28,
        }
    }

    /// Simple packet block (§4.4): of the first interface, without time or captured length.
    fn simple(&self, block: &[u8]) -> Packet {
        let original = word(block, 8, self.big_endian);
        let snap = match self.interfaces.first().map_or(0, |first| first.snap_length) {
            0 => u32::MAX,
            snap => snap,
        };
        let room = u32::try_from(block.len().saturating_sub(16)).unwrap_or(u32::MAX);
        let captured = original.min(snap).min(room);
        Packet { interface: 0, units: None, captured, original, data: 12 }
    }

    /// Packet block (§11.1), obsolete and still found.
    fn obsolete(&self, block: &[u8]) -> Packet {
        let octets = block.get(8..).and_then(<[u8]>::first_chunk::<2>).copied().unwrap_or_default();
        let interface =
            if self.big_endian { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) };
        Packet { interface: interface.into(), ..self.enhanced(block) }
    }

    /// Checks a packet; `None` if its interface has frames that cannot be read.
    fn record(
        &mut self,
        offset: u64,
        length: usize,
        packet: Packet,
    ) -> Result<Option<Record>, Damage> {
        let Packet { interface, units, captured, original, data } = packet;
        check_lengths(offset, captured, original)?;
        let end = data + captured as usize;
        if end + 4 > length {
            let what = format!("a frame of {captured} bytes in a block of {length}");
            return Err(Damage::Corrupt(offset, what));
        }
        let index = interface as usize;
        let Some(interface) = self.interfaces.get(index) else {
            let what = format!(
                "a frame of interface {index}; the section describes {}",
                self.interfaces.len()
            );
            return Err(Damage::Corrupt(offset, what));
        };
        let link = match interface.link {
            Ok(link) => link,
            Err(number) => {
                self.unreadable = Some(number);
                self.unreadable_frames += 1;
                return Ok(None);
            }
        };
        let time = units.map(|units| interface.resolution.nanoseconds(units) + interface.offset);
        Ok(Some(Record {
            offset,
            time,
            link,
            data: data..end,
            wire_length: original.max(captured),
            interface: self.earlier_interfaces + index,
        }))
    }
}

/// The 32-bit word at `at`; zero beyond the end, which every caller has checked or checks next.
#[inline]
fn word(block: &[u8], at: usize, big_endian: bool) -> u32 {
    let octets = block.get(at..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
}
