//! Datagrams that show by their form what they are, whatever port they come from.

use crate::packet::Ports;

/// A form of a UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A DNS query to port 53: one question, no answers (RFC 1035 §4.1.1).
    DnsQuery,
    /// A QUIC long header of a published version to port 443 (RFC 9000 §17.2, RFC 9369 §3).
    QuicRequest,
    /// The first block of a file: a TFTP server answers from a port of its choice (RFC 1350 §4),
    /// and repeats the block as nobody acknowledges it.
    TftpBlock,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::DnsQuery, Self::QuicRequest, Self::TftpBlock];

    /// The form of `payload`, if it has one of these.
    #[inline]
    pub(crate) fn of(ports: Ports, payload: &[u8]) -> Option<Self> {
        match (ports.destination, payload) {
            // Neither response nor another operation; one question, nothing in two other sections.
            (53, [_, _, flags, _, 0, 1, 0, 0, 0, 0, ..]) if flags & 0xf8 == 0 => {
                Some(Self::DnsQuery)
            }
            (443, [first, version @ ..]) if first & 0xc0 == 0xc0 => {
                is_published(version).then_some(Self::QuicRequest)
            }
            (_, [0, 3, 0, 1, ..]) => Some(Self::TftpBlock),
            _ => None,
        }
    }
}

/// Versions 1 and 2, drafts of the IETF, and versions of Google's.
fn is_published(version: &[u8]) -> bool {
    matches!(
        version,
        [0, 0, 0, 1, ..]
            | [0x6b, 0x33, 0x43, 0xcf, ..]
            | [0xff, 0, 0, ..]
            | [b'Q' | b'T', b'0', ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_by_port_and_payload() {
        let query = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        let answer = [7, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 1];
        for (destination, payload, expected) in [
            (53, &query[..], Some(Form::DnsQuery)),
            (53, &answer, None),
            (53, &query[..9], None),
            (5353, &query, None),
            (443, &[0xc3, 0, 0, 0, 1, 8], Some(Form::QuicRequest)),
            (443, &[0xc3, 9, 9, 9, 9, 8], None),
            (443, &[0x43, 0, 0, 0, 1, 8], None),
            (80, &[0xc3, 0, 0, 0, 1, 8], None),
            (40_000, &[0, 3, 0, 1, b'a'], Some(Form::TftpBlock)),
            (40_000, &[0, 3, 0, 2, b'a'], None),
            (40_000, &[], None),
        ] {
            let ports = Ports { source: 1024, destination };
            assert_eq!(Form::of(ports, payload), expected, "{destination} {payload:?}");
        }
    }
}
