//! What is known of the services that are abused to amplify: one row each.
//!
//! General sources: CISA alert TA14-017A "UDP-Based Amplification Attacks" (ports, bandwidth
//! amplification factors) and Rossow, "Amplification Hell", NDSS 2014. Each row adds its own.

use tidegate_model::Reflector;

/// One reflector.
pub(crate) struct Row {
    /// Which service.
    pub(crate) reflector: Reflector,
    /// Ports that it answers from, the usual one first.
    pub(crate) ports: &'static [u16],
    /// Mean IP packet length in bytes from which its answers count as amplified: above an
    /// ordinary request and above the smallest useful answer.
    pub(crate) amplified_length: u16,
    /// Most answers that one request of a protected host excuses. Discovery by multicast and
    /// tunnels get many for one.
    pub(crate) answers_per_request: u16,
    /// Whether a payload is an answer of this service; `None` if too little was captured.
    pub(crate) is_answer: fn(&[u8]) -> Option<bool>,
    /// Where the length and the form of the answer come from.
    #[cfg_attr(not(test), expect(dead_code, reason = "documents the row; a test demands it"))]
    pub(crate) source: &'static str,
}

/// The octet at `offset` passes `test`.
fn octet(payload: &[u8], offset: usize, test: fn(u8) -> bool) -> Option<bool> {
    payload.get(offset).map(|&octet| test(octet))
}

/// The payload begins with `prefix`.
fn begins(payload: &[u8], prefix: &[u8]) -> Option<bool> {
    (payload.len() >= prefix.len()).then(|| payload.starts_with(prefix))
}

const fn anything(_payload: &[u8]) -> Option<bool> {
    None
}

/// The QR bit, operation QUERY (RFC 1035 §4.1.1); NetBIOS and multicast DNS have them in the same
/// place. Random octets pass in one of 8,192 cases: no answer has 256 questions.
fn dns_answer(payload: &[u8]) -> Option<bool> {
    let few_questions = payload.get(4).is_none_or(|high| *high == 0);
    payload.get(2).map(|flags| flags & 0xf8 == 0x80 && few_questions)
}

/// Server mode 4, or the response bit of modes 6 and 7 (RFC 5905 §7.3, RFC 9327 §2).
fn ntp_answer(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    match first & 0x07 {
        4 | 5 => Some(true),
        6 => octet(payload, 1, |second| second & 0x80 != 0),
        7 => Some(first & 0x80 != 0),
        _ => Some(false),
    }
}

/// In port 4500 four zero octets tell IKE from ESP (RFC 3948 §2.2); the responder's cookie is set
/// in an answer, and in IKEv2 the response flag (RFC 7296 §3.1).
fn ike_answer(payload: &[u8]) -> Option<bool> {
    let message = match payload.first_chunk::<4>()? {
        [0, 0, 0, 0] => payload.get(4..)?,
        _ => payload,
    };
    message.get(8..16).map(|cookie| cookie.iter().any(|&octet| octet != 0))
}

/// Handshake record of version 1.0 or 1.2 with what only a server sends (RFC 6347 §4.1, §4.2.2).
pub(crate) fn dtls_answer(payload: &[u8]) -> Option<bool> {
    let record = matches!(payload.first_chunk::<3>()?, [22, 0xfe, 0xff | 0xfd]);
    // Thirteen octets of record header before the handshake type: ServerHello, HelloVerifyRequest.
    octet(payload, 13, |kind| matches!(kind, 2 | 3)).map(|server| server && record)
}

fn memcached_answer(payload: &[u8]) -> Option<bool> {
    // Frame header: request id, sequence, total of datagrams, reserved zero.
    let [_, _, _, _, t0, t1, r0, r1] = *payload.first_chunk::<8>()?;
    Some([r0, r1] == [0, 0] && [t0, t1] != [0, 0])
}

macro_rules! rows {
    ($($reflector:ident [$($port:literal),+] $length:literal, $answers:literal, $answer:expr, $source:literal;)+) => {
        &[$(Row {
            reflector: Reflector::$reflector,
            ports: &[$($port),+],
            amplified_length: $length,
            answers_per_request: $answers,
            is_answer: $answer,
            source: $source,
        },)+]
    };
}

/// Every reflector, in the order of [`Reflector::ALL`].
pub(crate) const ROWS: &[Row] = rows! {
    Dns [53] 150, 1, dns_answer,
        "RFC 1035 §4.1.1 QR bit; queries are 60-90 bytes, amplified answers several hundred";
    Ntp [123] 100, 2, ntp_answer,
        "RFC 5905 §7.3: time answers are 76 or 96 bytes; monlist of one entry 108, of six 468";
    Memcached [11211] 100, 64, memcached_answer,
        "memcached doc/protocol.txt, UDP frame header; values up to 1400 bytes a datagram";
    Ssdp [1900] 150, 64, |payload| begins(payload, b"HTTP/1."),
        "UPnP Device Architecture 2.0 §1.3.3: search answers carry six header fields or more";
    Cldap [389] 100, 2, |payload| begins(payload, &[0x30]),
        "RFC 1798, RFC 4511 §4.5.2: a rootDSE entry of 1.5 to 3 kB; BER SEQUENCE first";
    Chargen [19] 64, 4, anything, "RFC 864: 0 to 512 characters for any datagram";
    Qotd [17] 64, 4, anything, "RFC 865: up to 512 characters for any datagram";
    Snmp [161] 150, 1, |payload| begins(payload, &[0x30]),
        "RFC 3416 §4.2.3: GetBulk answers up to the message size; a Get answer is about 100 bytes";
    Rip [520] 72, 26, |payload| octet(payload, 0, |command| command == 2),
        "RFC 1058 §3.1: command 2; 52 bytes for one route, 532 for 25";
    Portmap [111] 100, 2, |payload| begins(payload.get(4..)?, &[0, 0, 0, 1]),
        "RFC 5531 §9: message type REPLY; DUMP answers of 480 bytes and more (Level 3, 2015)";
    NetBios [137] 100, 16, dns_answer,
        "RFC 1002 §4.2.18: NODE STATUS RESPONSE; a request is 78 bytes";
    Mdns [5353] 100, 64, dns_answer, "RFC 6762 §18.2 QR bit; US-CERT VU#550620";
    WsDiscovery [3702] 200, 64, |payload| octet(payload, 0, |first| first == b'<'),
        "OASIS WS-Discovery 1.1 §5.3: a SOAP envelope";
    Coap [5683] 80, 4, |payload| {
        let [first, code] = *payload.first_chunk::<2>()?;
        Some(first >> 6 == 1 && code >> 5 >= 2)
    }, "RFC 7252 §3: version 1, response class 2 to 5";
    Stun [3478] 60, 32, |payload| {
        let [first, second] = *payload.first_chunk::<2>()?;
        // Success or error, method Binding, then the magic cookie where it was captured.
        let cookie = payload.get(4..8).is_none_or(|cookie| cookie == [0x21, 0x12, 0xa4, 0x42]);
        Some(first == 0x01 && matches!(second, 0x01 | 0x11) && cookie)
    }, "RFC 8489 §5: class bits 10 or 11; a request is 48 bytes; NETSCOUT 2021, factor 2.3";
    OpenVpn [1194] 50, 32, |payload| octet(payload, 0, |opcode| matches!(opcode >> 3, 4 | 5 | 8)),
        "OpenVPN ssl_pkt.h: P_CONTROL_HARD_RESET_SERVER is 54 bytes for 42, and is repeated";
    Ubiquiti [10001] 80, 64, |payload| octet(payload, 0, |version| matches!(version, 1 | 2)),
        "Rapid7, Ubiquiti discovery 2019: 4 octets asked, 206 answered";
    Arms [3283] 200, 4, anything,
        "NETSCOUT ASERT 2019, Apple Remote Management: answers of 32 and 1034 octets";
    DhcpDiscover [37810] 200, 64, anything,
        "NETSCOUT ASERT 2021, DHCPDiscover: JSON answers of about 500 octets";
    Tftp [69] 60, 2, |payload| octet(payload, 1, |opcode| matches!(opcode, 3 | 5 | 6)),
        "RFC 1350 §5: DATA, ERROR; RFC 2347 OACK";
    Jenkins [33848] 100, 64, |payload| begins(payload, b"<"),
        "CVE-2020-2100: XML answers to any datagram";
    L2tp [1701] 60, 32, |payload| octet(payload, 0, |flags| flags & 0x80 != 0),
        "RFC 2661 §3.1: control messages have the T bit";
    Ipmi [623] 50, 4, |payload| begins(payload, &[0x06, 0x00]),
        "ASF 2.0 §3.2: RMCP header; a presence ping is 40 bytes, its pong 56";
    SourceEngine [27015, 27016, 27017, 27018, 27019, 27020] 60, 32,
        |payload| {
            let [first, rest @ ..] = *payload.first_chunk::<4>()?;
            Some(matches!(first, 0xfe | 0xff) && rest == [0xff; 3])
        },
        "Valve developer wiki, server queries: header 0xffffffff, or 0xfffffffe of an answer in \
         parts; a query is 53 bytes";
    BitTorrent [6881, 6882, 6883, 6884, 6885, 6886, 6887, 6888, 6889] 100, 32, anything,
        "Adamsky et al., WOOT 2015, P2P file-sharing in hell";
    Ike [4500, 500] 80, 8, ike_answer,
        "RFC 7296 §3.1, RFC 3948 §2.2; CERT/CC VU#418072: main-mode and SA_INIT answers repeated";
    Echo [7] 64, 2, anything, "RFC 862: whatever was sent; CERT CA-1996-01, endless between two servers";
    Quake [27960] 100, 16, |payload| begins(payload, &[0xff; 4]),
        "Quake III network protocol: out-of-band header 0xffffffff; TA14-017A, factor 63.9";
    MsSql [1434] 100, 4, |payload| octet(payload, 0, |kind| kind == 5),
        "MC-SQLR §2.2.5: SVR_RESP; Akamai 2015, factor 25; a request is one to seventeen octets";
    Rdp [3389] 500, 16, |payload| octet(payload, 7, |flags| flags & 5 == 5),
        "MS-RDPEUDP §2.2.2.1: SYN and ACK; NETSCOUT ASERT 2021: answers of 1260 octets, factor 86";
    Slp [427] 100, 16, |payload| {
        let [version, function] = *payload.first_chunk::<2>()?;
        Some(version == 2 && matches!(function, 2 | 7 | 10))
    }, "RFC 2608 §8: version 2, replies; CVE-2023-29552, factor up to 2200";
    Xdmcp [177] 50, 4, |payload| {
        let [_, version, _, operation] = *payload.first_chunk::<4>()?;
        Some(version == 1 && matches!(operation, 5 | 6))
    }, "X Display Manager Control Protocol §4: Willing, Unwilling; NETSCOUT ASERT 2021";
    Sentinel [5093] 200, 8, anything,
        "Akamai 2015, Sentinel licence manager: answers up to 1400 octets, factor 42.9";
    VxWorks [17185] 100, 2, |payload| begins(payload.get(4..)?, &[0, 0, 0, 1]),
        "RFC 5531 §9: message type REPLY; VU#362332: WDB agent, target information";
    Plex [32414, 32410, 32412, 32413] 150, 64, |payload| begins(payload, b"HTTP/1."),
        "NETSCOUT ASERT 2021, PMSSDP: answers of 52 to 281 octets, factor 4.7";
    BacNet [47808] 80, 16, |payload| octet(payload, 0, |kind| kind == 0x81),
        "ASHRAE 135 Annex J: BVLC type 0x81; Gasser et al. 2017, factors up to 120";
    Sadp [37020] 200, 64, |payload| octet(payload, 0, |first| first == b'<'),
        "Hikvision Search Active Devices Protocol: an XML answer for an XML probe";
    Mitel [10074] 80, 64, anything,
        "CVE-2022-26143: TP-240 driver, up to 4.3 thousand million answers for one command";
    Sip [5060] 300, 8, |payload| begins(payload, b"SIP/2."),
        "RFC 3261 §7.2: status line; answers repeat the request's headers (§8.2.6)";
    Kad [4672] 60, 16, |payload| octet(payload, 0, |first| matches!(first, 0xe4 | 0xe5)),
        "Rossow 2014: Kad, factor 16.3; eMule opcodes.h: 0xe4 plain, 0xe5 packed";
    Dtls [4433] 70, 8, dtls_answer,
        "RFC 6347 §4.2.1, §4.2.2: HelloVerifyRequest or ServerHello; NETSCOUT ASERT 2021, factor 37";
};

const NO_REFLECTOR: u8 = u8::MAX;

/// Row number by port: one load for a packet.
static ROW_OF_PORT: [u8; 65_536] = index_ports();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn index_ports() -> [u8; 65_536] {
    let mut index = [NO_REFLECTOR; 65_536];
    let mut row = 0;
    while row < ROWS.len() {
        let mut nth = 0;
        while nth < ROWS[row].ports.len() {
            #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 255 rows")]
            let number = row as u8;
            index[ROWS[row].ports[nth] as usize] = number;
            nth += 1;
        }
        row += 1;
    }
    index
}

/// The row whose service answers from `port`.
#[inline]
pub(crate) fn of_port(port: u16) -> Option<&'static Row> {
    ROWS.get(usize::from(*ROW_OF_PORT.get(usize::from(port))?))
}

/// The row of `reflector`.
pub(crate) fn of(reflector: Reflector) -> Option<&'static Row> {
    ROWS.get(reflector as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_model() {
        assert_eq!(ROWS.len(), Reflector::ALL.len());
        for (row, &reflector) in ROWS.iter().zip(Reflector::ALL) {
            assert_eq!(row.reflector, reflector);
            assert!(row.source.len() > 20, "{reflector:?} wants a source");
            for &port in row.ports {
                assert_eq!(of_port(port).map(|row| row.reflector), Some(reflector));
            }
        }
        assert!(of_port(80).is_none());
        assert!(of_port(0).is_none());
    }

    #[test]
    fn answers_are_told_from_requests() {
        for (reflector, payload, expected) in [
            (Reflector::Dns, &[0, 1, 0x81, 0x80][..], Some(true)),
            (Reflector::Dns, &[0, 1, 0x01, 0x00], Some(false)),
            (Reflector::Dns, &[0, 1], None),
            (Reflector::Dns, &[0, 1, 0x81, 0x80, 0x40, 1], Some(false)),
            (Reflector::Dns, &[0, 1, 0xf1, 0x80], Some(false)),
            (Reflector::Ntp, &[0x24], Some(true)),
            (Reflector::Ntp, &[0x23], Some(false)),
            (Reflector::Ntp, &[0xd7, 0, 3, 0x2a], Some(true)),
            (Reflector::Ntp, &[0x17, 0, 3, 0x2a], Some(false)),
            (Reflector::Ntp, &[0x16, 0x82], Some(true)),
            (Reflector::Ntp, &[0x16, 0x02], Some(false)),
            (Reflector::Ssdp, b"HTTP/1.1 200 OK", Some(true)),
            (Reflector::Ssdp, b"M-SEARCH * HTTP/1.1", Some(false)),
            (Reflector::Stun, &[0x01, 0x01], Some(true)),
            (Reflector::Stun, &[0x01, 0x11], Some(true)),
            (Reflector::Stun, &[0x00, 0x01], Some(false)),
            (Reflector::SourceEngine, &[0xfe, 0xff, 0xff, 0xff, 1], Some(true)),
            (Reflector::SourceEngine, b"plain", Some(false)),
            (Reflector::Memcached, &[0, 1, 0, 0, 0, 1, 0, 0], Some(true)),
            (Reflector::Memcached, &[0, 1, 0, 0, 0, 1, 0], None),
            (Reflector::Portmap, &[9, 9, 9, 9, 0, 0, 0, 1], Some(true)),
            (Reflector::Portmap, &[9, 9], None),
            (Reflector::Rdp, &[0, 0, 0, 0, 0, 64, 0, 5, 0], Some(true)),
            (Reflector::Rdp, &[0xff, 0xff, 0xff, 0xff, 0, 64, 0, 1, 0], Some(false)),
            (Reflector::Slp, &[2, 2, 0, 0], Some(true)),
            (Reflector::Slp, &[2, 1, 0, 0], Some(false)),
            (Reflector::Xdmcp, &[0, 1, 0, 5], Some(true)),
            (Reflector::Xdmcp, &[0, 1, 0, 2], Some(false)),
            (Reflector::Sip, b"SIP/2.0 200 OK", Some(true)),
            (Reflector::Sip, b"INVITE sip:a@b SIP/2.0", Some(false)),
            (Reflector::MsSql, &[5, 0, 9], Some(true)),
            (Reflector::MsSql, &[3], Some(false)),
        ] {
            assert_eq!((of(reflector).unwrap().is_answer)(payload), expected, "{reflector:?}");
        }
        let mut ike = [0; 32];
        assert_eq!(ike_answer(&ike), Some(false));
        ike[13] = 7;
        assert_eq!(ike_answer(&ike), Some(true));
    }

    #[test]
    fn checks_bear_any_length() {
        for row in ROWS {
            for length in 0..40 {
                for fill in [0x00, 0x30, 0xff] {
                    let _ = (row.is_answer)(&vec![fill; length]);
                }
            }
        }
    }
}
