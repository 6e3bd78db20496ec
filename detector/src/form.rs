//! Datagrams that show by their form what they are, whatever port they come from.

use crate::packet::Ports;
use crate::reflector::dtls_answer;

/// A form of a UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A DNS query to port 53: one question, no answers (RFC 1035 §4.1.1).
    DnsQuery,
    /// A QUIC long header of a published version to port 443 (RFC 9000 §17.2, RFC 9369 §3).
    QuicRequest,
    /// A server's part of a DTLS handshake from port 443, where QUIC is at home as well
    /// (RFC 6347 §4.2).
    DtlsAnswer,
    /// The first block of a file: a TFTP server answers from a port of its choice (RFC 1350 §4),
    /// and repeats the block as nobody acknowledges it.
    TftpBlock,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 4] =
        [Self::DnsQuery, Self::QuicRequest, Self::DtlsAnswer, Self::TftpBlock];

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
            (_, [22, 0xfe, ..]) if ports.source == 443 => {
                (dtls_answer(payload) == Some(true)).then_some(Self::DtlsAnswer)
            }
            (_, [0, 3, 0, 1, ..]) => Some(Self::TftpBlock),
            _ => None,
        }
    }
}

/// The first label of the name that a DNS query asks for (RFC 1035 §4.1.2); `None` if it was cut
/// off.
#[inline]
pub(crate) fn first_label(payload: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = payload.get(12..)?.split_first()?;
    rest.get(..usize::from(length))
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
        let mut hello = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 3];
        let ports = Ports { source: 443, destination: 40_000 };
        assert_eq!(Form::of(ports, &hello), Some(Form::DtlsAnswer));
        assert_eq!(Form::of(Ports { source: 442, ..ports }, &hello), None);
        hello[13] = 1;
        assert_eq!(Form::of(ports, &hello), None);
    }

    #[test]
    fn the_first_label_is_read_if_it_is_there() {
        let query = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, b'w', b'x', b'y', 0];
        assert_eq!(first_label(&query), Some(&b"wxy"[..]));
        for cut in 0..16 {
            assert_eq!(first_label(&query[..cut]), None, "{cut}");
        }
    }
}
