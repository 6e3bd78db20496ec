//! Sessions that were recorded between other speakers: every message of theirs is read.
//!
//! The captures lie beside the workspace, in `../shared/data/bgp`. Without that folder this test
//! says so and passes; in CI (variable `CI` set) its absence is a failure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use tidegate_bgpd::convert::{DecodedUpdate, decode_update};

use crate::vectors::{octets, vectors};

const ETHERNET: u32 = 1;
const LOOPBACK: u32 = 0;
const TCP: u8 = 6;

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Numbers of a capture file, in its own byte order.
#[derive(Clone, Copy)]
struct Order(fn([u8; 4]) -> u32);

impl Order {
    fn at(self, bytes: &[u8], at: usize) -> u32 {
        self.0([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }
}

/// The frames of a pcap or pcapng file, each with its link type.
fn frames(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut frames = Vec::new();
    let little = Order(u32::from_le_bytes);
    let order = match [file[0], file[3]] {
        [0xa1, _] => Order(u32::from_be_bytes),
        _ => little,
    };
    if little.at(file, 0) == 0x0a0d_0d0a {
        let order = if file[8] == 0x4d { little } else { Order(u32::from_be_bytes) };
        let (mut at, mut link) = (0, ETHERNET);
        while at + 12 <= file.len() {
            let body = at + 8;
            match order.at(file, at) {
                // The link type is a number of two octets in front of two reserved ones.
                1 => link = order.at(file, body) & 0xffff,
                6 => {
                    let length = order.at(file, body + 12) as usize;
                    frames.push((link, file[body + 20..body + 20 + length].to_vec()));
                }
                _ => {}
            }
            at += order.at(file, at + 4) as usize;
        }
        return frames;
    }
    let link = order.at(file, 20);
    let mut at = 24;
    while at + 16 <= file.len() {
        let length = order.at(file, at + 8) as usize;
        frames.push((link, file[at + 16..at + 16 + length].to_vec()));
        at += 16 + length;
    }
    frames
}

/// Who sends to whom.
type Flow = (IpAddr, IpAddr, usize, usize);

/// Flow, sequence number and payload of a TCP segment.
fn segment(link: u32, frame: &[u8]) -> Option<(Flow, u32, Vec<u8>)> {
    let packet = match link {
        ETHERNET => &frame[14..],
        LOOPBACK => &frame[4..],
        other => panic!("link type {other}"),
    };
    let (source, destination, protocol, header, length): (IpAddr, IpAddr, _, _, _) = match packet[0]
        >> 4
    {
        4 => {
            let address = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
            let header = usize::from(packet[0] & 15) * 4;
            (address(12), address(16), packet[9], header, u16_at(packet, 2))
        }
        6 => {
            let address = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
            (address(8), address(24), packet[6], 40, 40 + u16_at(packet, 4))
        }
        _ => return None,
    };
    if protocol != TCP {
        return None;
    }
    let segment = &packet[header..length];
    let number = u32::from_be_bytes(segment[4..8].try_into().unwrap());
    let payload = segment[usize::from(segment[12] >> 4) * 4..].to_vec();
    Some(((source, destination, u16_at(segment, 0), u16_at(segment, 2)), number, payload))
}

/// The BGP messages of a file, in the order in which each end sent them.
fn messages(file: &[u8]) -> Vec<Vec<u8>> {
    let mut streams: BTreeMap<Flow, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    for (link, frame) in frames(file) {
        if let Some((flow, number, payload)) = segment(link, &frame)
            && !payload.is_empty()
        {
            streams.entry(flow).or_default().insert(number, payload);
        }
    }
    let mut messages = Vec::new();
    for segments in streams.into_values() {
        let mut stream: Vec<u8> = Vec::new();
        let first = *segments.keys().next().unwrap();
        for (number, payload) in segments {
            let at = (number - first) as usize;
            // What is sent twice is read once.
            let fresh = stream.len().saturating_sub(at).min(payload.len());
            stream.extend(&payload[fresh..]);
        }
        let mut rest = stream.as_slice();
        while rest.len() >= 19 {
            assert_eq!(rest[..16], [0xff; 16]);
            let (message, behind) = rest.split_at(u16_at(rest, 16));
            messages.push(message.to_vec());
            rest = behind;
        }
        assert!(rest.is_empty(), "{} octets are left over", rest.len());
    }
    messages
}

/// The messages of each type, 1 to 5, and the UPDATEs among them, read.
fn read(file: &[u8]) -> ([usize; 5], Vec<DecodedUpdate>) {
    let mut counts = [0; 5];
    let mut updates = Vec::new();
    for message in messages(file) {
        counts[usize::from(message[18]) - 1] += 1;
        if message[18] == 2 {
            updates.push(decode_update(&message).unwrap_or_else(|error| {
                panic!(
                    "{error}: {}",
                    message.iter().map(|o| format!("{o:02x}")).collect::<String>()
                )
            }));
        }
    }
    (counts, updates)
}

#[test]
fn every_message_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/bgp");
    if !folder.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", folder.display());
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let mut all = BTreeMap::new();
    for (name, expected) in [
        // OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH
        ("BGP_flowspec_v4.cap", [0, 1, 0, 0, 0]),
        ("BGP_flowspec_dscp.cap", [0, 1, 0, 0, 0]),
        ("EBGP_adjacency.cap", [2, 12, 0, 12, 0]),
        ("BGP_MP_NLRI.cap", [4, 4, 0, 16, 0]),
        ("bgp_withdraw.cap", [0, 2, 0, 0, 0]),
        ("BGP_notification_msg.cap", [2, 0, 1, 0, 0]),
        ("tcpdump-bgp-4byte-asn.pcap", [8, 10, 1, 16, 0]),
        ("tcpdump-bgp-large-community.pcap", [0, 5, 0, 0, 0]),
        ("tcpdump-bgp-shutdown-communication.pcapng", [0, 0, 1, 0, 0]),
    ] {
        println!("{name}");
        let (counts, updates) = read(&std::fs::read(folder.join(name)).unwrap());
        assert_eq!(counts, expected, "{name}");
        for update in &updates {
            let empty = update.announced.is_empty() && update.withdrawn.is_empty();
            assert_eq!(empty, update.end_of_rib.is_some(), "{name}: {update}");
            println!("  {update}");
        }
        all.insert(name, updates);
    }
    // The same UPDATEs are among the vectors.
    for (name, id) in [
        ("BGP_flowspec_v4.cap", "wireshark-wiki/flowspec-v4"),
        ("BGP_flowspec_dscp.cap", "wireshark-wiki/flowspec-dscp"),
    ] {
        let vectors = vectors("vectors");
        let vector = vectors.iter().find(|vector| vector["id"] == id).unwrap();
        let described = decode_update(&octets(&vector["update_hex"]).unwrap()).unwrap();
        assert_eq!(all[name], [described], "{name}");
    }
}
