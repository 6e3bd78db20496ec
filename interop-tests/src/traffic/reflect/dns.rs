//! DNS (RFC 1035, RFC 6891) and multicast DNS (RFC 6762).

use super::letters;
use crate::traffic::random::Random;

const TYPE_TXT: u16 = 16;
const TYPE_PTR: u16 = 12;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

/// A name as a sequence of labels.
fn put_name(to: &mut Vec<u8>, labels: &[&[u8]]) {
    for label in labels {
        to.push(u8::try_from(label.len()).unwrap_or(63));
        to.extend_from_slice(label);
    }
    to.push(0);
}

fn put_header(random: &mut Random, to: &mut Vec<u8>, flags: u16, counts: [u16; 4]) {
    random.fill(to, 2);
    to.extend_from_slice(&flags.to_be_bytes());
    for count in counts {
        to.extend_from_slice(&count.to_be_bytes());
    }
}

fn put_question(to: &mut Vec<u8>, labels: &[&[u8]], kind: u16) {
    put_name(to, labels);
    to.extend_from_slice(&kind.to_be_bytes());
    to.extend_from_slice(&CLASS_IN.to_be_bytes());
}

/// A record whose owner is the name at offset 12.
fn put_record(to: &mut Vec<u8>, kind: u16, ttl: u32, data: &[u8]) {
    to.extend_from_slice(&[0xc0, 0x0c]);
    to.extend_from_slice(&kind.to_be_bytes());
    to.extend_from_slice(&CLASS_IN.to_be_bytes());
    to.extend_from_slice(&ttl.to_be_bytes());
    to.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend_from_slice(data);
}

/// The EDNS0 record that lets answers grow to 4096 octets.
fn put_edns(to: &mut Vec<u8>) {
    to.extend_from_slice(&[0, 0, 41, 0x10, 0x00, 0, 0, 0, 0, 0, 0]);
}

/// An answer to ANY: 1 to 4 kB, the larger half of which needs fragments.
pub(super) fn any_response(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let wanted =
        if random.chance(50) { random.between(1000, 1450) } else { random.between(2000, 3900) };
    let count = wanted / 200;
    let records = u16::try_from(count).unwrap_or(1);
    put_header(random, to, 0x8180, [1, records, 0, 1]);
    let mut label = Vec::new();
    let length = random.between(5, 12);
    letters(random, &mut label, length);
    put_question(to, &[&label, b"example"], TYPE_ANY);
    for _ in 0..count {
        // One character-string of 187 octets: 200 with the record around it.
        let mut data = vec![187];
        letters(random, &mut data, 187);
        put_record(to, TYPE_TXT, 3600, &data);
    }
    put_edns(to);
    53
}

/// A service enumeration (RFC 6763 §9) answered by unicast to a stranger.
pub(super) fn multicast_response(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let count = random.between(4, 20);
    let records = u16::try_from(count).unwrap_or(1);
    put_header(random, to, 0x8400, [1, records, 0, 0]);
    put_question(to, &[b"_services", b"_dns-sd", b"_udp", b"local"], TYPE_PTR);
    for _ in 0..count {
        let mut service = b"_".to_vec();
        let length = random.between(3, 12);
        letters(random, &mut service, length);
        let mut data = Vec::new();
        put_name(&mut data, &[&service, b"_tcp", b"local"]);
        put_record(to, TYPE_PTR, 10, &data);
    }
    5353
}

/// A question for an address, as a resolver sends it.
pub(crate) fn query(random: &mut Random, to: &mut Vec<u8>) {
    put_header(random, to, 0x0100, [1, 0, 0, 1]);
    let mut label = Vec::new();
    let length = random.between(3, 15);
    letters(random, &mut label, length);
    put_question(to, &[b"www", &label, b"example"], 1);
    put_edns(to);
}

/// A question that no cache can answer: a label drawn by lot under a name that exists.
pub(crate) fn random_query(random: &mut Random, to: &mut Vec<u8>) {
    put_header(random, to, 0x0100, [1, 0, 0, 0]);
    let mut label = Vec::new();
    let length = random.between(8, 24);
    letters(random, &mut label, length);
    put_question(to, &[&label, b"shop", b"example"], 1);
}

/// Its answer: a few addresses.
pub(crate) fn address_response(random: &mut Random, to: &mut Vec<u8>) {
    let count = random.between(1, 8);
    put_header(random, to, 0x8180, [1, u16::try_from(count).unwrap_or(1), 0, 1]);
    let mut label = Vec::new();
    let length = random.between(3, 15);
    letters(random, &mut label, length);
    put_question(to, &[b"www", &label, b"example"], 1);
    for _ in 0..count {
        let address = [192, 0, 2, random.octet()];
        put_record(to, 1, 300, &address);
    }
    put_edns(to);
}
