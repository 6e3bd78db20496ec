//! Protocols with fixed binary layouts.

use super::letters;
use crate::traffic::frame::{octet, short};
use crate::traffic::random::Random;

/// A `monlist` answer: mode 7, implementation 3, request 42, six items of 72 octets (ntp.org
/// `ntp_request.h`). One query is answered by up to a hundred of these.
pub(super) fn ntp_monlist(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let sequence = octet(usize::try_from(random.below(100)).unwrap_or(0));
    // Response and More bits, version 2, mode 7.
    to.extend_from_slice(&[0xd7, sequence, 0x03, 0x2a, 0x00, 0x06, 0x00, 0x48]);
    for _ in 0..6 {
        for bound in [1 << 20, 1 << 20, 1, 1 << 12] {
            to.extend_from_slice(&short32(random.below(bound)));
        }
        random.fill(to, 8);
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(&random.port(1024, 65_535).to_be_bytes());
        to.extend_from_slice(&[7, 2]);
        to.extend_from_slice(&[0; 40]);
    }
    123
}

fn short32(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

/// A node status answer (RFC 1002 §4.2.18).
pub(super) fn netbios_status(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    random.fill(to, 2);
    to.extend_from_slice(&[0x84, 0x00, 0, 0, 0, 1, 0, 0, 0, 0]);
    // The wildcard name `*`, first-level encoded.
    to.push(0x20);
    to.extend_from_slice(b"CK");
    to.extend_from_slice(&[b'A'; 30]);
    to.extend_from_slice(&[0, 0x00, 0x21, 0x00, 0x01, 0, 0, 0, 0]);
    let names = random.between(3, 10);
    let length = 1 + 18 * usize::try_from(names).unwrap_or(0) + 46;
    to.extend_from_slice(&short(length).to_be_bytes());
    to.push(octet(usize::try_from(names).unwrap_or(0)));
    for _ in 0..names {
        let name_length = random.between(6, 15);
        let start = to.len();
        letters(random, to, name_length);
        to.resize(start + 15, b' ');
        to.push(random.pick(&[0x00, 0x03, 0x20, 0x1e]));
        to.extend_from_slice(&[random.pick(&[0x04, 0x84]), 0]);
    }
    // Unit identifier, then the statistics, which are zero in practice.
    random.fill(to, 6);
    to.extend_from_slice(&[0; 40]);
    137
}

/// A RIPv1 response with a full table of 25 routes (RFC 1058 §3.1).
pub(super) fn rip_table(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[2, 1, 0, 0]);
    for _ in 0..25 {
        to.extend_from_slice(&[0, 2, 0, 0, 10, random.octet(), random.octet(), 0]);
        to.extend_from_slice(&[0; 8]);
        to.extend_from_slice(&[0, 0, 0, random.pick(&[1, 2, 3, 4])]);
    }
    520
}

/// An accepted DUMP reply of the port mapper (RFC 1833 §3.1, RFC 5531 §9).
pub(super) fn portmap_dump(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    random.fill(to, 4);
    // REPLY, MSG_ACCEPTED, an empty AUTH_NONE verifier, SUCCESS.
    for word in [1_u32, 0, 0, 0, 0] {
        to.extend_from_slice(&word.to_be_bytes());
    }
    for _ in 0..random.between(18, 60) {
        let program = 100_000 + random.below(400);
        let transport = random.pick(&[6, 17]);
        for word in [1, program, random.between(1, 4), transport, random.between(111, 60_000)] {
            to.extend_from_slice(&short32(word));
        }
    }
    to.extend_from_slice(&[0; 4]);
    111
}

/// A binding success response (RFC 8489 §14, RFC 5780 §7).
pub(super) fn stun_binding(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut attributes = Vec::new();
    // XOR-MAPPED-ADDRESS, MAPPED-ADDRESS, RESPONSE-ORIGIN, OTHER-ADDRESS.
    for kind in [0x0020_u16, 0x0001, 0x802b, 0x802c] {
        attributes.extend_from_slice(&kind.to_be_bytes());
        attributes.extend_from_slice(&[0, 8, 0, 1]);
        random.fill(&mut attributes, 6);
    }
    let software = b"Coturn-4.5.1.1 'dan Eider'  ";
    attributes.extend_from_slice(&[0x80, 0x22]);
    attributes.extend_from_slice(&short(software.len()).to_be_bytes());
    attributes.extend_from_slice(software);
    to.extend_from_slice(&[0x01, 0x01]);
    to.extend_from_slice(&short(attributes.len()).to_be_bytes());
    to.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    random.fill(to, 12);
    to.extend_from_slice(&attributes);
    3478
}

/// P_CONTROL_HARD_RESET_SERVER_V2 with an acknowledgement (OpenVPN protocol, control channel).
pub(super) fn openvpn_reset(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.push(0x40);
    random.fill(to, 8);
    to.extend_from_slice(&[1, 0, 0, 0, 0]);
    random.fill(to, 8);
    to.extend_from_slice(&[0, 0, 0, 0]);
    1194
}

/// A discovery answer of an airOS device: version 1, command 0, then type-length-value fields.
pub(super) fn ubiquiti_discovery(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut fields = Vec::new();
    let mut field = |kind: u8, value: &[u8]| {
        fields.push(kind);
        fields.extend_from_slice(&short(value.len()).to_be_bytes());
        fields.extend_from_slice(value);
    };
    let mut station = vec![0x04, 0x18, 0xd6];
    random.fill(&mut station, 3);
    field(0x01, &station);
    for last in 1..=random.between(2, 6) {
        let mut pair = station.clone();
        pair.extend_from_slice(&[192, 168, octet(usize::try_from(last).unwrap_or(1)), 20]);
        field(0x02, &pair);
    }
    field(0x03, b"XM.ar7240.v5.6.15.30572.170328.1052");
    field(0x0a, &short32(random.below(1 << 24)));
    let mut name = Vec::new();
    let length = random.between(4, 24);
    letters(random, &mut name, length);
    field(0x0b, &name);
    field(0x0c, b"LM5");
    field(0x0d, &name);
    field(0x14, b"NanoStation Loco M5");
    to.extend_from_slice(&[1, 0]);
    to.extend_from_slice(&short(fields.len()).to_be_bytes());
    to.extend_from_slice(&fields);
    10_001
}

/// Start-Control-Connection-Reply (RFC 2661 §6.2).
pub(super) fn l2tp_start_reply(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut pairs = Vec::new();
    let mut pair = |attribute: u16, value: &[u8]| {
        pairs.extend_from_slice(&(0x8000 | short(6 + value.len())).to_be_bytes());
        pairs.extend_from_slice(&[0, 0]);
        pairs.extend_from_slice(&attribute.to_be_bytes());
        pairs.extend_from_slice(value);
    };
    // Message type, protocol version, framing, bearer, firmware, host, vendor, tunnel, window.
    pair(0, &[0, 2]);
    pair(2, &[1, 0]);
    pair(3, &[0, 0, 0, 3]);
    pair(4, &[0, 0, 0, 3]);
    pair(6, &[0x01, 0x20]);
    let mut host = Vec::new();
    let length = random.between(4, 16);
    letters(random, &mut host, length);
    pair(7, &host);
    pair(8, b"MikroTik");
    pair(9, &random.port(1, 65_535).to_be_bytes());
    pair(10, &[0, 4]);
    to.extend_from_slice(&[0xc8, 0x02]);
    to.extend_from_slice(&short(12 + pairs.len()).to_be_bytes());
    random.fill(to, 2);
    to.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
    to.extend_from_slice(&pairs);
    1701
}

/// Get Channel Authentication Capabilities (IPMI 2.0 §22.13) in RMCP (§13.1.3).
pub(super) fn ipmi_capabilities(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0x06, 0x00, 0xff, 0x07]);
    // Session header: no authentication, sequence and session zero, sixteen octets follow.
    to.extend_from_slice(&[0; 9]);
    to.push(16);
    let message = [
        [0x81, 0x1c].as_slice(),
        &[0x63],
        &[0x20, random.octet() & 0xfc, 0x38, 0x00, 0x01, 0x97, 0x04, 0x03, 0, 0, 0, 0],
    ]
    .concat();
    let body = message.get(3..).unwrap_or_default();
    let sum = body.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
    to.extend_from_slice(&message);
    to.push(sum.wrapping_neg());
    623
}

/// The responder's first Main Mode message (RFC 2408 §3, RFC 2409 §5), with vendor identifiers.
///
/// One in four speaks from the NAT traversal port behind a non-ESP marker (RFC 3948 §2.2).
pub(super) fn ike_main_mode(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut proposals = vec![0x0d, 0, 0, 56, 0, 0, 0, 1, 0, 0, 0, 1];
    proposals.extend_from_slice(&[0, 0, 0, 44, 1, 1, 0, 1, 0, 0, 0, 36, 1, 1, 0, 0]);
    for (attribute, value) in [(1, 7), (14, 256), (2, 2), (4, 2), (3, 1), (11, 1), (12, 28_800)] {
        proposals.extend_from_slice(&(0x8000_u16 | attribute).to_be_bytes());
        proposals.extend_from_slice(&u16::to_be_bytes(value));
    }
    let vendors = random.between(1, 6);
    let mut payloads = proposals;
    for vendor in 1..=vendors {
        payloads.extend_from_slice(&[if vendor == vendors { 0 } else { 0x0d }, 0, 0, 20]);
        random.fill(&mut payloads, 16);
    }
    let behind_nat = random.chance(25);
    if behind_nat {
        to.extend_from_slice(&[0; 4]);
    }
    random.fill(to, 16);
    to.extend_from_slice(&[1, 0x10, 2, 0, 0, 0, 0, 0]);
    to.extend_from_slice(&short32(28 + payloads.len() as u64));
    to.extend_from_slice(&payloads);
    if behind_nat { 4500 } else { 500 }
}

/// The first block of a file (RFC 1350 §5): 516 octets, from a port that the server chose (§4).
pub(super) fn tftp_data(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0, 3, 0, 1]);
    random.fill(to, 512);
    random.port(32_768, 60_999)
}

/// Status of an Apple Remote Desktop agent: 1006 octets of mostly empty fields.
pub(super) fn arms_status(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0x00, 0x01, 0x03, 0xea]);
    random.fill(to, 12);
    let length = random.between(6, 40);
    letters(random, to, length);
    to.resize(1006, 0);
    3283
}

/// A2S_INFO of a game server (Valve developer wiki, "Server queries").
pub(super) fn source_engine_info(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, b'I', 17]);
    let lengths = [random.between(20, 60), random.between(5, 14), 6, random.between(6, 24)];
    for length in lengths {
        letters(random, to, length);
        to.push(0);
    }
    to.extend_from_slice(&[0xf0, 0x00]);
    to.extend_from_slice(&[random.octet() & 31, 32, 0, b'd', b'l', 0, 1]);
    to.extend_from_slice(b"1.38.7.9\0");
    to.extend_from_slice(&[0xa1, 0x87, 0x69]);
    random.fill(to, 8);
    let tags = random.between(10, 120);
    letters(random, to, tags);
    to.push(0);
    random.port(27_015, 27_020)
}
