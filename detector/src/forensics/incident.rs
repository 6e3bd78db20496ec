//! The packets of one incident, as a file.

use std::collections::BTreeMap;

use tidegate_model::Prefix;

use super::pcapng;
use super::recorder::{Record, Segment};
use super::ring::Ring;
use crate::packet::{LinkType, Packet, Tunnels, parse, parse_inner};

/// How much one file takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Bytes of the file. At most half of it is from before the onset.
    pub bytes: u64,
    /// Packets from the onset on that are written in full, before a sample is.
    pub full: u64,
    /// Of the packets after those, one in so many is written. Zero writes none.
    pub sampling: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { bytes: 16 << 20, full: 10_000, sampling: 100 }
    }
}

/// Bytes that are kept free for what is said at the end.
const RESERVE: u64 = 8192;

/// Interfaces that a file describes. Packets of others are left out.
const MAX_INTERFACES: usize = 1024;

/// What the file says of the incident at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentHeader {
    /// Whose packets are written: those from and to it.
    pub target: Prefix,
    /// Onset in nanoseconds since the Unix epoch.
    pub onset: u64,
    /// The comment of the file: incident, vectors, policy.
    pub comment: String,
    /// The comment of the first packet that is not from before the onset.
    pub onset_comment: String,
    /// Name and version of the program.
    pub program: String,
}

/// A pcapng file that grows. Every method appends to `out` what is to be written next.
#[derive(Debug)]
pub struct IncidentFile {
    target: Prefix,
    onset: u64,
    onset_comment: Option<String>,
    tunnels: Tunnels,
    limits: FileLimits,
    interfaces: BTreeMap<(u16, LinkType), u32>,
    written: u64,
    packets: u64,
    /// Packets of the target from the onset on, written or not.
    seen: u64,
    left_out: u64,
    latest: u64,
}

impl IncidentFile {
    /// Begins a file with what `ring` holds of the target. `names` are those of the interfaces, by
    /// number; inside `tunnels` addresses are looked for as well.
    pub fn begin(
        header: IncidentHeader,
        limits: FileLimits,
        tunnels: Tunnels,
        ring: &Ring,
        names: &[String],
        out: &mut Vec<u8>,
    ) -> Self {
        let mut file = Self {
            target: header.target,
            onset: header.onset,
            onset_comment: Some(header.onset_comment),
            tunnels,
            limits,
            interfaces: BTreeMap::new(),
            written: 0,
            packets: 0,
            seen: 0,
            left_out: 0,
            latest: header.onset,
        };
        let start = out.len();
        pcapng::section_header(out, &header.comment, &header.program);
        file.written += (out.len() - start) as u64;
        let mut records: Vec<Record<'_>> = ring
            .segments()
            .flat_map(Segment::records)
            .filter(|record| file.is_of(record))
            .collect();
        // Several threads copied them, each in order.
        records.sort_by_key(|record| record.time);
        let before = records.partition_point(|record| record.time < file.onset);
        let (before, after) = records.split_at(before);
        let latest = latest_that_fit(before, limits.bytes / 2);
        file.left_out += (before.len() - latest.len()) as u64;
        for record in latest.iter().chain(after) {
            file.write(record, names, out);
        }
        file
    }

    /// Adds the target's packets in `segment`, which was not in the ring at the beginning.
    pub fn append(&mut self, segment: &Segment, names: &[String], out: &mut Vec<u8>) {
        self.left_out += segment.left_out;
        for record in segment.records() {
            if self.is_of(&record) {
                self.write(&record, names, out);
            }
        }
    }

    /// Ends the file, with `comment` on how the incident ended.
    pub fn finish(mut self, comment: &str, out: &mut Vec<u8>) {
        let comment = format!(
            "{comment}; {} packets written, {} more of the target or of others at the same time \
             were left out",
            self.packets, self.left_out
        );
        if self.interfaces.is_empty() {
            self.interface((0, LinkType::Ethernet), &[], out);
        }
        pcapng::interface_statistics(out, 0, self.latest, &comment);
    }

    /// Whether nothing more is written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.has_room() || (self.seen >= self.limits.full && self.limits.sampling == 0)
    }

    fn has_room(&self) -> bool {
        self.written + RESERVE < self.limits.bytes
    }

    /// Packets written.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    fn is_of(&self, record: &Record<'_>) -> bool {
        let touches = |packet: &Packet<'_>| {
            self.target.contains_address(packet.destination)
                || self.target.contains_address(packet.source)
        };
        let Record { link, data, wire_length, .. } = *record;
        parse(link, data, wire_length).is_ok_and(|packet| touches(&packet))
            || parse_inner(link, data, wire_length, self.tunnels)
                .is_some_and(|packet| touches(&packet))
    }

    fn write(&mut self, record: &Record<'_>, names: &[String], out: &mut Vec<u8>) {
        if record.time >= self.onset {
            self.seen += 1;
            let beyond = self.seen.saturating_sub(self.limits.full);
            let sampled = beyond.checked_rem(self.limits.sampling) == Some(0);
            if beyond > 0 && !sampled {
                self.left_out += 1;
                return;
            }
        }
        if !self.has_room() {
            self.left_out += 1;
            return;
        }
        let start = out.len();
        let Some(interface) = self.interface((record.interface, record.link), names, out) else {
            self.left_out += 1;
            return;
        };
        let comment = if record.time >= self.onset { self.onset_comment.take() } else { None };
        let Record { time, data, wire_length, .. } = *record;
        pcapng::enhanced_packet(out, interface, time, data, wire_length, comment.as_deref());
        self.written += (out.len() - start) as u64;
        self.packets += 1;
        self.latest = self.latest.max(time);
    }

    /// The number of the interface in the file, described there if it is new.
    fn interface(
        &mut self,
        key: (u16, LinkType),
        names: &[String],
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        if let Some(number) = self.interfaces.get(&key) {
            return Some(*number);
        }
        let number = u32::try_from(self.interfaces.len()).ok()?;
        if self.interfaces.len() >= MAX_INTERFACES {
            return None;
        }
        let name = names.get(usize::from(key.0)).map_or("unknown", String::as_str);
        pcapng::interface_description(out, key.1.number(), name);
        self.interfaces.insert(key, number);
        Some(number)
    }
}

/// The last of `records` that take no more than `bytes`.
fn latest_that_fit<'a, 'r>(records: &'a [Record<'r>], bytes: u64) -> &'a [Record<'r>] {
    /// Octets of a packet's block besides the packet.
    const BLOCK: u64 = 36;
    let mut sum = 0;
    let kept = records.iter().rev().take_while(|record| {
        sum += record.data.len() as u64 + BLOCK;
        sum <= bytes
    });
    records.get(records.len() - kept.count()..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
