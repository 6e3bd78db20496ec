//! Services that are abused less often, or were found later.

use super::letters;
use crate::traffic::frame::short;
use crate::traffic::random::Random;

/// Whatever was sent comes back (RFC 862); the forged request was as long as its sender liked.
pub(super) fn echo(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let length = random.between(64, 1400);
    letters(random, to, length);
    7
}

/// The answer to `getstatus`: server variables, then a line for each player (ioquake3
/// `SVC_Status`).
pub(super) fn quake_status(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(b"\xff\xff\xff\xffstatusResponse\n");
    for _ in 0..random.between(15, 40) {
        to.push(b'\\');
        letters(random, to, 8);
        to.push(b'\\');
        let length = random.between(1, 12);
        letters(random, to, length);
    }
    to.push(b'\n');
    for _ in 0..random.between(0, 16) {
        to.extend_from_slice(format!("{} {} \"", random.below(90), random.below(200)).as_bytes());
        letters(random, to, 7);
        to.extend_from_slice(b"\"\n");
    }
    27_960
}

/// The instances of a database server (MC-SQLR §2.2.5): a length in little-endian order, then
/// names and values between semicolons.
pub(super) fn mssql_instances(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut text = Vec::new();
    for number in 0..random.between(1, 5) {
        text.extend_from_slice(b"ServerName;");
        letters(random, &mut text, 8);
        text.extend_from_slice(format!(";InstanceName;SQL{number};IsClustered;No;").as_bytes());
        let port = random.port(1433, 60_000);
        text.extend_from_slice(format!("Version;15.0.2000.5;tcp;{port};;").as_bytes());
    }
    let [high, low] = short(text.len()).to_be_bytes();
    to.extend_from_slice(&[0x05, low, high]);
    to.extend_from_slice(&text);
    1434
}

/// The second datagram of a connection (MS-RDPEUDP §2.2.2): it is padded to the size of the path,
/// and repeated.
pub(super) fn rdp_syn_ack(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    random.fill(to, 4);
    to.extend_from_slice(&[0x00, 0x40]);
    // SYN, ACK; half of the servers also state a version.
    to.extend_from_slice(if random.chance(50) { &[0x00, 0x05] } else { &[0x10, 0x05] });
    random.fill(to, 4);
    to.extend_from_slice(&[0x04, 0xd0, 0x04, 0xd0]);
    to.resize(1232, 0);
    3389
}

/// A service reply or an attribute reply that was filled before (RFC 2608 §8.2, §10.4).
pub(super) fn slp_reply(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let length = random.between(300, 1400);
    let mut text = b"service:".to_vec();
    letters(random, &mut text, length);
    let function = random.pick(&[2_u8, 7]);
    let [high, low] = short(16 + 4 + text.len()).to_be_bytes();
    to.extend_from_slice(&[2, function, 0, high, low, 0, 0, 0, 0, 0]);
    random.fill(to, 2);
    to.extend_from_slice(&[0, 2, b'e', b'n', 0, 0]);
    to.extend_from_slice(&short(text.len()).to_be_bytes());
    to.extend_from_slice(&text);
    427
}

/// Willing: the display manager's name and load (XDMCP §4, opcode 5).
pub(super) fn xdmcp_willing(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let (name, status) = (random.between(6, 20), random.between(15, 40));
    let length = usize::try_from(6 + name + status).unwrap_or(0);
    to.extend_from_slice(&[0, 1, 0, 5]);
    to.extend_from_slice(&short(length).to_be_bytes());
    to.extend_from_slice(&[0, 0]);
    for part in [name, status] {
        to.extend_from_slice(&short(usize::try_from(part).unwrap_or(0)).to_be_bytes());
        letters(random, to, part);
    }
    177
}

/// What a licence manager tells of its licences.
pub(super) fn sentinel_licences(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0x7a, 0, 0, 0, 0, 0]);
    let length = random.between(1100, 1420);
    letters(random, to, length);
    5093
}

/// The answer to a connect call of the debugging agent (RFC 5531 §9): accepted, then the target.
pub(super) fn vxworks_target(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    random.fill(to, 4);
    to.extend_from_slice(&[0, 0, 0, 1]);
    to.extend_from_slice(&[0; 16]);
    random.fill(to, 8);
    to.extend_from_slice(b"VxWorks5.5.1\0\0\0\0");
    let length = random.between(100, 300);
    letters(random, to, length);
    17_185
}

/// A media server that was found (its discovery resembles SSDP).
pub(super) fn plex_server(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(b"HTTP/1.0 200 OK\r\nContent-Type: plex/media-server\r\nName: ");
    letters(random, to, 12);
    to.extend_from_slice(b"\r\nPort: 32400\r\nResource-Identifier: ");
    super::hexadecimal(random, to, 40);
    to.extend_from_slice(b"\r\nUpdated-At: 1612137600\r\nVersion: 1.21.1.3876\r\n\r\n");
    random.pick(&[32_414, 32_410])
}

/// ReadPropertyMultiple-ACK in an original-unicast NPDU (ASHRAE 135 Annex J.2.11).
pub(super) fn bacnet_properties(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let text = random.between(80, 900);
    let length = usize::try_from(text).unwrap_or(0) + 9;
    to.extend_from_slice(&[0x81, 0x0a]);
    to.extend_from_slice(&short(length).to_be_bytes());
    to.extend_from_slice(&[0x01, 0x00, 0x30, random.octet(), 0x0e]);
    letters(random, to, text);
    47_808
}

/// A camera that answers to an inquiry.
pub(super) fn sadp_device(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<ProbeMatch><Uuid>");
    super::hexadecimal(random, to, 32);
    to.extend_from_slice(b"</Uuid><Types>inquiry</Types><DeviceDescription>DS-2CD");
    letters(random, to, 10);
    to.extend_from_slice(b"</DeviceDescription><MAC>");
    super::hexadecimal(random, to, 12);
    to.extend_from_slice(b"</MAC><IPv4Address>192.168.1.64</IPv4Address>");
    let length = random.between(100, 700);
    letters(random, to, length);
    to.extend_from_slice(b"</ProbeMatch>");
    37_020
}

/// One of the many status lines that a test of the system bus makes.
pub(super) fn mitel_status(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(format!("startblast: {} of 4294967294 sent, ", random.bits()).as_bytes());
    let length = random.between(20, 60);
    letters(random, to, length);
    10_074
}

/// An answer to a request with forged Via (RFC 3261 §8.2.6): its headers come back.
pub(super) fn sip_answer(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let status = random.pick(&["200 OK", "404 Not Found", "401 Unauthorized", "100 Trying"]);
    to.extend_from_slice(
        format!("SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK").as_bytes(),
    );
    letters(random, to, 12);
    to.extend_from_slice(b"\r\nFrom: <sip:");
    let length = random.between(150, 600);
    letters(random, to, length);
    to.extend_from_slice(b"@example>\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
    5060
}

/// KADEMLIA2_BOOTSTRAP_RES: twenty contacts of twenty-five octets (eMule `opcodes.h`).
pub(super) fn kad_nodes(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(&[0xe4, 0x09]);
    random.fill(to, 16);
    to.extend_from_slice(&[0x36, 0x12, 9, 20, 0]);
    random.fill(to, 500);
    4672
}

/// HelloVerifyRequest (RFC 6347 §4.2.1), or the ServerHello of a server that asks for no cookie,
/// with its certificate.
pub(super) fn dtls_hello(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let (kind, length) =
        if random.chance(30) { (3, 35_usize) } else { (2, random.between(600, 1350) as usize) };
    to.extend_from_slice(&[22, 0xfe, random.pick(&[0xff, 0xfd]), 0, 0, 0, 0, 0, 0, 0, 0]);
    to.extend_from_slice(&short(12 + length).to_be_bytes());
    to.push(kind);
    to.push(0);
    to.extend_from_slice(&short(length).to_be_bytes());
    to.extend_from_slice(&[0, 0, 0, 0, 0]);
    to.extend_from_slice(&short(length).to_be_bytes());
    random.fill(to, length);
    443
}
