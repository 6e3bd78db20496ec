//! Protocols in ASN.1 BER: SNMP (RFC 3416) and connectionless LDAP (RFC 4511, MS-ADTS §3.1.1.3.2).

use super::letters;
use crate::traffic::random::Random;

/// Appends tag, length and contents with the shortest length that fits.
fn put(to: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    to.push(tag);
    let [.., high, low] = contents.len().to_be_bytes();
    match contents.len() {
        0..0x80 => to.push(low),
        0x80..0x100 => to.extend_from_slice(&[0x81, low]),
        _ => to.extend_from_slice(&[0x82, high, low]),
    }
    to.extend_from_slice(contents);
}

/// The same with a four-octet length, as Active Directory writes it.
fn put_wide(to: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    to.extend_from_slice(&[tag, 0x84]);
    to.extend_from_slice(&u32::try_from(contents.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(contents);
}

/// An answer to GetBulk on the `public` community: 0.9 to 2.6 kB of interface table.
pub(super) fn snmp_bulk(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut bindings = Vec::new();
    for index in 0..random.between(14, 40) {
        let mut binding = Vec::new();
        // 1.3.6.1.2.1.2.2.1.2.n: ifDescr.
        let [.., last] = index.to_be_bytes();
        put(&mut binding, 0x06, &[0x2b, 6, 1, 2, 1, 2, 2, 1, 2, last & 0x7f]);
        let mut text = Vec::new();
        let length = random.between(36, 50);
        letters(random, &mut text, length);
        put(&mut binding, 0x04, &text);
        put(&mut bindings, 0x30, &binding);
    }
    let mut body = Vec::new();
    let mut request = vec![0x01];
    random.fill(&mut request, 3);
    put(&mut body, 0x02, &request);
    put(&mut body, 0x02, &[0]);
    put(&mut body, 0x02, &[0]);
    put(&mut body, 0x30, &bindings);
    let mut message = Vec::new();
    put(&mut message, 0x02, &[1]);
    put(&mut message, 0x04, b"public");
    put(&mut message, 0xa2, &body);
    put(to, 0x30, &message);
    161
}

/// Attributes of the root DSE that Active Directory returns to an empty search.
const ROOT_ATTRIBUTES: [(&[u8], usize, u64); 10] = [
    (b"currentTime", 1, 17),
    (b"subschemaSubentry", 1, 62),
    (b"dsServiceName", 1, 108),
    (b"namingContexts", 5, 45),
    (b"defaultNamingContext", 1, 22),
    (b"supportedControl", 36, 24),
    (b"supportedLDAPVersion", 2, 1),
    (b"supportedLDAPPolicies", 19, 20),
    (b"dnsHostName", 1, 34),
    (b"supportedCapabilities", 6, 24),
];

/// The root DSE: 2.5 to 3 kB, in fragments.
pub(super) fn cldap_root(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut attributes = Vec::new();
    for (name, values, length) in ROOT_ATTRIBUTES {
        let mut set = Vec::new();
        for _ in 0..values {
            let mut value = Vec::new();
            let length = length + random.below(length / 4 + 1);
            letters(random, &mut value, length);
            put(&mut set, 0x04, &value);
        }
        let mut attribute = Vec::new();
        put(&mut attribute, 0x04, name);
        put_wide(&mut attribute, 0x31, &set);
        put_wide(&mut attributes, 0x30, &attribute);
    }
    let mut entry = Vec::new();
    put(&mut entry, 0x04, b"");
    put_wide(&mut entry, 0x30, &attributes);
    let identifier = 1 + (random.octet() & 0x0f);
    let mut message = Vec::new();
    put(&mut message, 0x02, &[identifier]);
    put_wide(&mut message, 0x64, &entry);
    put_wide(to, 0x30, &message);

    let mut done = Vec::new();
    put(&mut done, 0x02, &[identifier]);
    put_wide(&mut done, 0x65, &[0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00]);
    put_wide(to, 0x30, &done);
    389
}
