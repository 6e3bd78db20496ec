//! Messages, well-formed and not.

#![allow(dead_code, reason = "no test uses all of them")]

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    lying_message(kind, 19 + body.len() as u16, body)
}

/// A message whose length field is not its length.
pub(crate) fn lying_message(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// OPEN with one optional parameter of type 2 that holds `capabilities`.
pub(crate) fn open(asn: u16, capabilities: &[u8]) -> Vec<u8> {
    let mut parameters = vec![2, capabilities.len() as u8];
    parameters.extend(capabilities);
    open_with(4, asn, 9, [192, 0, 2, 2], &parameters)
}

pub(crate) fn open_with(
    version: u8,
    asn: u16,
    hold: u16,
    id: [u8; 4],
    parameters: &[u8],
) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id);
    body.push(parameters.len() as u8);
    body.extend(parameters);
    message(OPEN, &body)
}

/// IPv4 unicast, route refresh, 4-octet AS.
pub(crate) fn capabilities(asn: u16) -> Vec<u8> {
    let [high, low] = asn.to_be_bytes();
    vec![1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, high, low]
}

pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// ORIGIN, AS_PATH (65001), NEXT_HOP.
pub(crate) const ATTRIBUTES: [u8; 20] =
    [0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9, 0x40, 3, 4, 192, 0, 2, 2];
pub(crate) const NLRI: [u8; 4] = [24, 198, 51, 100];
