//! Floods, and what merely looks like one.

use std::time::Duration;

use tidegate_detector::TICK;
use tidegate_model::{
    AttackEvent, AttackVector, EndReason, Metric, Occlusion, Prefix, Reflector, TcpFlags,
};

use crate::lab::{
    ACK, Lab, Piece, RST, SYN, WHOLE, config, datagram, icmp, ip, packet, source, tcp, thresholds,
    udp, usual_thresholds,
};

const VICTIM: &str = "203.0.113.9";
const VICTIM6: &str = "2001:db8::9";

fn victim(port: u16) -> (std::net::IpAddr, u16) {
    (ip(VICTIM), port)
}

/// A port that differs for each `number`.
fn port(number: u64) -> u16 {
    u16::try_from(number.wrapping_mul(7919) % 64_000 + 1025).unwrap()
}

fn source6(number: u64) -> std::net::IpAddr {
    ip(&format!("2a00:{:x}::{number:x}", number % 4096))
}

/// Runs 200 ms of a flood of 10,000 packets a second.
fn flood(lab: &mut Lab, make: impl FnMut(u64) -> Vec<u8>) {
    lab.run(20, 100, make);
}

#[test]
fn syn_floods_whatever_the_other_flags() {
    for (flags, payload) in [(SYN, 0), (SYN | 0xc0, 0), (SYN | 0x08, 0), (SYN, 100)] {
        let mut lab = Lab::everything();
        flood(&mut lab, |n| tcp((source(n), port(n)), victim(30_120), flags, payload));
        let attack = lab.expect(VICTIM, AttackVector::SynFlood);
        assert_eq!(attack.trigger.metric, Metric::TcpSyn);
        assert!(attack.detected.since(attack.onset) <= Duration::from_millis(100));
        assert!(attack.confidence().get() >= 0.9, "{:?}", attack.vectors);
        assert_eq!(attack.trigger.rate.packets.0, 10_000);
        let signature = &attack.vectors[0].signature;
        assert_eq!(signature.protocol, Some(6));
        assert_eq!(signature.destination_ports, [30_120]);
        assert!(signature.source_ports.is_empty());
        assert_eq!(signature.tcp_flags, Some(TcpFlags { set: flags, clear: !flags }));
        let length = u16::try_from(40 + payload).unwrap();
        assert_eq!(signature.packet_length, Some((length, length)));
    }
}

#[test]
fn delay_shrinks_as_the_flood_grows() {
    for (per_tick, milliseconds) in [(20, 510), (100, 40), (300, 20)] {
        let mut lab = Lab::everything();
        lab.quiet(10);
        let onset = lab.now;
        lab.run(60, per_tick, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
        let attack = lab.expect(VICTIM, AttackVector::SynFlood);
        assert_eq!(attack.onset, onset);
        assert_eq!(attack.detected.since(onset), Duration::from_millis(milliseconds));
    }
}

#[test]
fn loud_answers_do_not_make_the_attacker_a_victim() {
    let mut lab = Lab::everything();
    let attacker = ip("172.16.0.5");
    for _ in 0..60 {
        for n in 0..300 {
            lab.see(&tcp((attacker, port(n)), victim(port(n + 9)), SYN, 0));
            for _ in 0..3 {
                lab.see(&tcp(victim(port(n + 9)), (attacker, port(n)), SYN | ACK, 0));
            }
            lab.see(&tcp(victim(port(n + 9)), (attacker, port(n)), RST | ACK, 0));
            lab.see(&icmp(ip(VICTIM), attacker, 3));
        }
        lab.tick();
    }
    let attack = lab.expect(VICTIM, AttackVector::SynFlood);
    assert_eq!(attack.sources, 1);
}

#[test]
fn answers_to_other_floods_do_not_either() {
    let attacker = ip("172.16.0.5");
    type Exchange = fn(u64, std::net::IpAddr) -> (Vec<u8>, Vec<u8>);
    let cases: [(&str, Exchange, AttackVector); 3] = [
        (
            "unreachable",
            |n, a| (udp((a, port(n)), victim(port(n + 3)), b"", 9), icmp(ip(VICTIM), a, 3)),
            AttackVector::UdpFlood,
        ),
        (
            "echo replies",
            |_, a| (icmp(a, ip(VICTIM), 8), icmp(ip(VICTIM), a, 0)),
            AttackVector::IcmpFlood,
        ),
        (
            "resets",
            |n, a| (tcp((a, port(n)), victim(80), ACK, 0), tcp(victim(80), (a, port(n)), RST, 0)),
            AttackVector::AckFlood,
        ),
    ];
    for (name, exchange, vector) in cases {
        let mut lab = Lab::everything();
        for tick in 0..60 {
            for number in 0..300 {
                let (attack, answer) = exchange(tick * 300 + number, attacker);
                lab.see(&attack);
                lab.see(&answer);
            }
            lab.tick();
        }
        let attack = lab.only_attack();
        assert_eq!(
            (attack.target, attack.main_vector()),
            (Prefix::host(ip(VICTIM)), vector),
            "{name}"
        );
    }
}

#[test]
fn syn_ack_reflection_with_refusing_servers() {
    let mut lab = Lab::everything();
    lab.run(20, 300, |n| {
        let flags = if n % 6 == 0 { RST | ACK } else { SYN | ACK };
        let service = if n % 3 == 0 { 80 } else { 443 };
        tcp((source(n), service), victim(port(n)), flags, 0)
    });
    let attack = lab.expect(VICTIM, AttackVector::SynAckReflection);
    assert_eq!(attack.vectors.len(), 1, "{:#?}", attack.vectors);
    let signature = &attack.vectors[0].signature;
    assert_eq!(signature.source_ports, [443, 80]);
    assert_eq!(signature.tcp_flags.unwrap().set, SYN | ACK);
}

#[test]
fn other_tcp_floods() {
    let limits = thresholds(&[(Metric::Tcp, 1000)]);
    for (flags, vector) in [
        (ACK, AttackVector::AckFlood),
        (ACK | 0x08, AttackVector::AckFlood),
        (RST, AttackVector::RstFlood),
        (RST | ACK, AttackVector::RstFlood),
        (0x01, AttackVector::FinFlood),
        (0x01 | ACK, AttackVector::FinFlood),
        (0x00, AttackVector::NullFlood),
        (0x29, AttackVector::XmasFlood),
        (SYN | ACK, AttackVector::SynAckFlood),
    ] {
        let mut lab = Lab::new(config(&["0.0.0.0/0"], limits));
        flood(&mut lab, |n| tcp((source(n), port(n)), victim(443), flags, 0));
        let attack = lab.expect(VICTIM, vector);
        let flags = TcpFlags { set: flags, clear: !flags };
        assert_eq!(attack.vectors[0].signature.tcp_flags, Some(flags));
    }
}

#[test]
fn tcp_of_all_kinds_is_of_none() {
    let mut lab = Lab::new(config(&["0.0.0.0/0"], thresholds(&[(Metric::Tcp, 1000)])));
    let flags = [ACK, 0x01 | ACK, 0x00, 0x29];
    flood(&mut lab, |n| tcp((source(n), port(n)), victim(443), flags[n as usize % 4], 0));
    lab.expect(VICTIM, AttackVector::TcpFlood);
}

#[test]
fn pages_of_middleboxes_are_told_from_segments_of_no_connection() {
    let limits = thresholds(&[(Metric::Tcp, 1000)]);
    for (from, length, vector) in [
        (80, 900, AttackVector::MiddleboxReflection),
        (80, 0, AttackVector::AckFlood),
        (5000, 900, AttackVector::AckFlood),
    ] {
        let mut lab = Lab::new(config(&["0.0.0.0/0"], limits));
        flood(&mut lab, |n| tcp((source(n % 300), from), victim(port(n)), ACK | 0x08, length));
        lab.expect(VICTIM, vector);
    }
}

#[test]
fn packets_from_the_target_to_itself() {
    let mut lab = Lab::everything();
    flood(&mut lab, |n| tcp(victim(port(n)), victim(443), SYN, 0));
    lab.expect(VICTIM, AttackVector::LandFlood);
}

#[test]
fn requests_that_are_told_by_their_form() {
    let query = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, b'w', b'w', b'w'];
    for (to, payload, length, vector) in [
        (53, &query[..], 40, AttackVector::DnsQueryFlood),
        (443, &[0xc3, 0, 0, 0, 1, 8][..], 1200, AttackVector::QuicFlood),
        (443, &[0x43, 9, 9, 9, 9, 8][..], 1200, AttackVector::UdpFlood),
        (9, &[0, 3, 0, 1, b'x'][..], 516, AttackVector::Amplification(Reflector::Tftp)),
    ] {
        let mut lab = Lab::everything();
        lab.run(20, 300, |n| udp((source(n % 999), port(n)), victim(to), payload, length));
        lab.expect(VICTIM, vector);
    }
}

#[test]
fn water_torture_asks_for_ever_new_names() {
    let query = |label: &str| {
        let mut query =
            vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, u8::try_from(label.len()).unwrap()];
        query.extend(label.as_bytes());
        query.extend(b"\x07example\x00\x00\x01\x00\x01");
        query
    };
    for (names, vector) in [
        (u64::MAX, AttackVector::DnsWaterTorture),
        (1, AttackVector::DnsQueryFlood),
        (900, AttackVector::DnsQueryFlood),
    ] {
        let mut lab = Lab::everything();
        // Over seconds, too: what was new once is not new again.
        lab.run(300, 50, |n| {
            let name = (n % names).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            udp((source(n), port(n)), victim(53), &query(&format!("{name:x}")), 0)
        });
        assert_eq!(lab.latest().main_vector(), vector, "{names} names");
    }
}

#[test]
fn dtls_servers_answer_from_the_port_of_quic() {
    let hello = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 3];
    let mut lab = Lab::everything();
    flood(&mut lab, |n| udp((source(n % 300), 443), victim(port(n)), &hello, 90));
    lab.expect(VICTIM, AttackVector::Amplification(Reflector::Dtls));
}

#[test]
fn errors_from_everywhere_are_backscatter_and_from_few_a_flood() {
    for (hosts, kind, vector) in [
        (300, 3, AttackVector::IcmpBackscatter),
        (300, 11, AttackVector::IcmpBackscatter),
        (2, 3, AttackVector::IcmpFlood),
        (300, 8, AttackVector::IcmpFlood),
    ] {
        let mut lab = Lab::everything();
        flood(&mut lab, |n| icmp(source(n % hosts), ip(VICTIM), kind));
        lab.expect(VICTIM, vector);
    }
}

#[test]
fn noise_from_a_reflectors_port_is_no_amplification_however_many_send_it() {
    for reflector_port in [53, 123, 1900, 389, 161, 11_211] {
        let mut lab = Lab::everything();
        lab.run(20, 300, |n| {
            let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            udp((source(n), reflector_port), victim(port(n)), &noise, 900)
        });
        lab.expect(VICTIM, AttackVector::UdpFlood);
    }
}

#[test]
fn udp_floods() {
    let mut lab = Lab::everything();
    lab.run(20, 300, |n| udp((source(n), port(n)), victim(port(n + 5)), b"", 400));
    let attack = lab.expect(VICTIM, AttackVector::UdpFlood);
    let signature = &attack.vectors[0].signature;
    assert!(signature.source_ports.is_empty() && signature.destination_ports.is_empty());
    assert_eq!((signature.protocol, signature.packet_length), (Some(17), Some((428, 428))));

    let mut lab = Lab::everything();
    lab.run(20, 300, |n| udp((source6(n), 7777), (ip(VICTIM6), 27_015), b"", 60));
    let attack = lab.expect(VICTIM6, AttackVector::UdpFlood);
    let signature = &attack.vectors[0].signature;
    assert_eq!(
        (&signature.source_ports[..], &signature.destination_ports[..]),
        (&[7777][..], &[27_015][..])
    );
}

#[test]
fn icmp_floods_even_behind_an_authentication_header() {
    let mut lab = Lab::everything();
    flood(&mut lab, |n| icmp(source(n), ip(VICTIM), 8));
    let signature = &lab.expect(VICTIM, AttackVector::IcmpFlood).vectors[0].signature;
    assert_eq!((signature.protocol, signature.icmp_type), (Some(1), Some(8)));

    let mut header = vec![58, 4];
    header.resize(24, 0);
    header.extend([128, 0, 0, 0]);
    let mut lab = Lab::everything();
    flood(&mut lab, |n| packet(source6(n), ip(VICTIM6), 51, WHOLE, &header));
    let signature = &lab.expect(VICTIM6, AttackVector::IcmpFlood).vectors[0].signature;
    assert_eq!((signature.protocol, signature.icmp_type), (Some(58), Some(128)));

    // In IPv4 a router matches the outer header: no type to be found there.
    header[0] = 1;
    header[24] = 8;
    let mut lab = Lab::everything();
    flood(&mut lab, |n| packet(source(n), ip(VICTIM), 51, WHOLE, &header));
    let signature = &lab.expect(VICTIM, AttackVector::IcmpFlood).vectors[0].signature;
    assert_eq!((signature.protocol, signature.icmp_type), (Some(51), None));
}

#[test]
fn fragment_floods() {
    for protocol in [44, 6, 17] {
        let mut lab = Lab::everything();
        flood(&mut lab, |n| {
            let piece = Piece { offset: u16::try_from(n % 40).unwrap() * 8 + 8, more: n % 2 == 0 };
            packet(source(n), ip(VICTIM), protocol, piece, &[0; 64])
        });
        let attack = lab.expect(VICTIM, AttackVector::FragmentFlood);
        assert!(attack.vectors[0].signature.fragments);
        assert!(attack.vectors[0].signature.source_ports.is_empty());
    }
    // Tiny first fragments that no honest sender makes.
    let mut lab = Lab::everything();
    flood(&mut lab, |n| {
        let piece = if n % 2 == 0 {
            Piece { offset: 0, more: true }
        } else {
            Piece { offset: 24, more: false }
        };
        packet(source(n), ip(VICTIM), 17, piece, &datagram(port(n), 80, b"", 16))
    });
    lab.expect(VICTIM, AttackVector::FragmentFlood);
}

#[test]
fn protocol_floods() {
    for (number, vector) in [
        (47, AttackVector::GreFlood),
        (50, AttackVector::EspFlood),
        (2, AttackVector::IgmpFlood),
        (132, AttackVector::ProtocolFlood),
    ] {
        let mut lab = Lab::everything();
        lab.run(20, 300, |n| packet(source(n), ip(VICTIM), number, WHOLE, &[0; 40]));
        let attack = lab.expect(VICTIM, vector);
        assert_eq!(attack.vectors[0].signature.protocol, Some(number));
    }
}

/// What a server of `reflector` answers from, an opening that fits, and a usual length.
fn answer_of(reflector: Reflector) -> (u16, &'static [u8], usize) {
    match reflector {
        Reflector::Dns => (53, &[0, 1, 0x81, 0x80], 1200),
        Reflector::Ntp => (123, &[0xd7, 0, 3, 0x2a], 440),
        Reflector::Memcached => (11_211, &[0, 1, 0, 0, 0, 1, 0, 0], 1400),
        Reflector::Ssdp => (1900, b"HTTP/1.1 200 OK\r\n", 280),
        Reflector::Cldap => (389, &[0x30, 0x84], 1400),
        Reflector::Chargen => (19, b" !\"#$%&'()*+", 512),
        Reflector::Qotd => (17, b"A quote", 200),
        Reflector::Snmp => (161, &[0x30, 0x82], 1300),
        Reflector::Rip => (520, &[2, 1], 504),
        Reflector::Portmap => (111, &[0, 0, 0, 9, 0, 0, 0, 1], 486),
        Reflector::NetBios => (137, &[0, 1, 0x84, 0], 200),
        Reflector::Mdns => (5353, &[0, 0, 0x84, 0], 300),
        Reflector::WsDiscovery => (3702, b"<?xml version", 900),
        Reflector::Coap => (5683, &[0x60, 0x45], 400),
        Reflector::Stun => (3478, &[0x01, 0x01, 0, 80, 0x21, 0x12, 0xa4, 0x42], 100),
        Reflector::OpenVpn => (1194, &[0x40], 26),
        Reflector::Ubiquiti => (10_001, &[1, 0], 206),
        Reflector::Arms => (3283, &[0, 1], 1034),
        Reflector::DhcpDiscover => (37_810, b"{\"mac\"", 500),
        Reflector::Tftp => (69, &[0, 3, 0, 1], 516),
        Reflector::Jenkins => (33_848, b"<hudson>", 300),
        Reflector::L2tp => (1701, &[0xc8, 2], 100),
        Reflector::Ipmi => (623, &[6, 0, 0xff, 6], 28),
        Reflector::SourceEngine => (27_015, &[0xff, 0xff, 0xff, 0xff, 0x45], 1200),
        Reflector::BitTorrent => (6881, b"d1:rd2:id20:", 300),
        Reflector::Ike => {
            (4500, &[0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], 204)
        }
        Reflector::Echo => (7, b"echo echo echo", 500),
        Reflector::Quake => (27_960, b"\xff\xff\xff\xffstatusResponse\n", 800),
        Reflector::MsSql => (1434, &[5, 0x58, 1], 350),
        Reflector::Rdp => (3389, &[0, 0, 0, 1, 0, 64, 0, 5], 1232),
        Reflector::Slp => (427, &[2, 2, 0, 1], 400),
        Reflector::Xdmcp => (177, &[0, 1, 0, 5], 50),
        Reflector::Sentinel => (5093, &[0x7a, 0], 1400),
        Reflector::VxWorks => (17_185, &[1, 2, 3, 4, 0, 0, 0, 1], 200),
        Reflector::Plex => (32_414, b"HTTP/1.0 200 OK\r\n", 260),
        Reflector::BacNet => (47_808, &[0x81, 0x0a], 200),
        Reflector::Sadp => (37_020, b"<?xml version=\"1.0\"", 700),
        Reflector::Mitel => (10_074, b"call", 80),
        Reflector::Sip => (5060, b"SIP/2.0 200 OK\r\n", 500),
        Reflector::Kad => (4672, &[0xe4, 0x09], 500),
        Reflector::Dtls => (4433, &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 3], 90),
    }
}

#[test]
fn amplification_by_every_reflector_over_both_families() {
    for &reflector in Reflector::ALL {
        let (service, opening, length) = answer_of(reflector);
        for six in [false, true] {
            let mut lab = Lab::everything();
            flood(&mut lab, |n| {
                let server = if six { source6(n % 500) } else { source(n % 500) };
                let target = if six { ip(VICTIM6) } else { ip(VICTIM) };
                udp((server, service), (target, port(n)), opening, length)
            });
            let name = if six { VICTIM6 } else { VICTIM };
            let attack = lab.expect(name, AttackVector::Amplification(reflector));
            assert_eq!(attack.trigger.metric, Metric::Amplification);
            assert!(attack.confidence().get() >= 0.9, "{reflector:?} {:?}", attack.vectors);
            assert!(attack.detected.since(attack.onset) <= Duration::from_millis(100));
            assert_eq!(attack.vectors[0].signature.source_ports, [service]);
            assert!(!attack.vectors[0].evidence.is_empty());
        }
    }
}

#[test]
fn one_sender_of_tiny_packets_from_port_53_is_no_amplification() {
    let mut lab = Lab::everything();
    flood(&mut lab, |n| udp((ip("198.51.100.7"), 53), victim(port(n)), b"", 12));
    let attack = lab.expect(VICTIM, AttackVector::UdpFlood);
    assert_eq!(attack.vectors[0].signature.source_ports, [53]);
}

#[test]
fn one_memcached_server_is_believed_less_than_many() {
    let (service, opening, length) = answer_of(Reflector::Memcached);
    let confidence = |servers| {
        let mut lab = Lab::everything();
        flood(&mut lab, |n| udp((source(n % servers), service), victim(80), opening, length));
        let attack = lab.expect(VICTIM, AttackVector::Amplification(Reflector::Memcached));
        attack.confidence().get()
    };
    assert!(confidence(1) + 0.1 < confidence(100));
}

#[test]
fn fragments_count_to_the_amplification_that_they_follow() {
    let whole = datagram(53, 4444, &[0, 1, 0x81, 0x80], 4000);
    let mut lab = Lab::everything();
    lab.run(20, 300, |n| {
        let (start, end) = [(0, 1480), (1480, 2960), (2960, 4008)][usize::try_from(n % 3).unwrap()];
        let piece = Piece { offset: u16::try_from(start).unwrap(), more: end != 4008 };
        packet(source(n / 3 % 300), ip(VICTIM), 17, piece, &whole[start..end])
    });
    let attack = lab.expect(VICTIM, AttackVector::Amplification(Reflector::Dns));
    assert_eq!(attack.vectors.len(), 1, "{:#?}", attack.vectors);
    let signature = &attack.vectors[0].signature;
    assert!(signature.fragments);
    assert_eq!(signature.source_ports, [53]);
}

#[test]
fn several_vectors_have_shares() {
    let mut lab = Lab::everything();
    lab.run(100, 400, |n| match n % 4 {
        0 | 1 => udp((source(n), 123), victim(80), &[0xd7, 0, 3], 440),
        2 => udp((source(n), 1900), victim(80), b"HTTP/1.1 200 OK", 300),
        _ => tcp((source(n), port(n)), victim(80), SYN, 0),
    });
    let attack = lab.latest();
    let shares: Vec<(AttackVector, f64)> =
        attack.vectors.iter().map(|estimate| (estimate.vector, estimate.share)).collect();
    let expected = [
        (AttackVector::Amplification(Reflector::Ntp), 0.5),
        (AttackVector::SynFlood, 0.25),
        (AttackVector::Amplification(Reflector::Ssdp), 0.25),
    ];
    assert_eq!(shares.len(), 3, "{shares:?}");
    for (vector, share) in expected {
        let found = shares.iter().find(|(other, _)| *other == vector).unwrap();
        assert!((found.1 - share).abs() < 0.05, "{shares:?}");
    }
    assert_eq!(attack.vectors[0].vector, expected[0].0);
}

#[test]
fn ordinary_traffic_beside_a_flood_is_no_vector() {
    let mut lab = Lab::everything();
    lab.run(100, 210, |n| {
        if n % 21 == 0 {
            udp((source(n % 20), port(n)), victim(4000), b"", 200)
        } else {
            tcp((source(n), port(n)), victim(80), SYN, 0)
        }
    });
    let vectors: Vec<AttackVector> = lab.latest().vectors.iter().map(|v| v.vector).collect();
    assert_eq!(vectors, [AttackVector::SynFlood]);
}

#[test]
fn an_attack_that_changes_its_vector_is_updated() {
    let mut lab = Lab::everything();
    lab.run(200, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    lab.run(400, 100, |n| udp((source(n), 123), victim(80), &[0xd7, 0, 3], 440));
    assert_eq!(lab.only_attack().main_vector(), AttackVector::SynFlood);
    let latest = lab.latest();
    assert_eq!(latest.main_vector(), AttackVector::Amplification(Reflector::Ntp));
    let told: Vec<Vec<AttackVector>> = lab
        .events
        .iter()
        .map(|event| event.attack().vectors.iter().map(|v| v.vector).collect())
        .collect();
    assert!(
        told.contains(&vec![AttackVector::SynFlood, AttackVector::Amplification(Reflector::Ntp)])
            || told.contains(&vec![
                AttackVector::Amplification(Reflector::Ntp),
                AttackVector::SynFlood
            ]),
        "{told:?}"
    );
    assert!(lab.events.len() < 10, "few updates: {}", lab.events.len());
}

#[test]
fn a_growing_attack_is_updated_and_a_steady_one_is_not() {
    let mut lab = Lab::everything();
    for step in 1..=10 {
        lab.run(50, 40 * step, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    }
    let updates = lab.events.len() - 1;
    assert!((3..=12).contains(&updates), "{updates}");
    assert!(lab.latest().excess > 30.0);
    let before = lab.events.len();
    lab.run(500, 400, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    assert!(lab.events.len() <= before + 1, "{:#?}", &lab.events[before..]);
}

#[test]
fn an_attack_ends_after_the_hold_time() {
    let mut lab = Lab::everything();
    lab.run(100, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    let last = lab.now;
    // Above the exit threshold, below the threshold: it goes on.
    lab.run(1500, 6, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    assert_eq!(lab.ended(), 0);
    // A pulse within the hold time starts it anew.
    lab.quiet(900);
    lab.run(20, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    let pulse = lab.now;
    lab.quiet(1000);
    assert_eq!(lab.ended(), 0);
    lab.quiet(200);
    assert_eq!((lab.ended(), lab.started().len()), (1, 1));
    let AttackEvent::Ended(attack, EndReason::Quiet(quiet)) = lab.events.last().unwrap() else {
        panic!("{:?}", lab.events.last());
    };
    assert!(*quiet >= Duration::from_secs(10));
    assert!(attack.packets >= 100 * 100 + 1500 * 6 + 20 * 100 - 10);
    assert!(pulse > last);
    assert_eq!(lab.detector.attacks().count(), 0);
}

#[test]
fn what_is_not_seen_is_not_quiet() {
    let mut lab = Lab::everything();
    lab.run(100, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    lab.blind = true;
    lab.quiet(3000);
    assert_eq!(lab.ended(), 0, "blind ticks");
    lab.blind = false;
    lab.now = lab.now + Duration::from_secs(60);
    let mut gap = lab.meter.finish_tick(lab.now);
    gap.start = gap.end - TICK;
    lab.detector.handle_summary(&gap);
    lab.quiet(900);
    assert_eq!(lab.ended(), 0, "a gap");
    lab.quiet(300);
    assert_eq!(lab.ended(), 1);
}

#[test]
fn under_a_blackhole_quiet_proves_nothing() {
    let mut lab = Lab::everything();
    lab.run(100, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    let target = Prefix::host(ip(VICTIM));
    lab.quiet(500);
    lab.detector.handle_occlusion(target, Occlusion::Blackholed);
    lab.quiet(5000);
    assert_eq!(lab.ended(), 0);
    assert_eq!(lab.detector.attacks().count(), 1);
    lab.detector.handle_occlusion(target, Occlusion::Visible);
    lab.quiet(990);
    assert_eq!(lab.ended(), 0, "the hold time starts again");
    lab.quiet(20);
    assert_eq!(lab.ended(), 1);
}

#[test]
fn a_flood_that_is_still_there_when_a_blackhole_is_lifted_is_told_at_once() {
    let mut lab = Lab::everything();
    let syn = |n| tcp((source(n), port(n)), victim(80), SYN, 0);
    lab.run(300, 100, syn);
    let target = Prefix::host(ip(VICTIM));
    lab.detector.handle_occlusion(target, Occlusion::Blackholed);
    lab.quiet(500);
    lab.detector.handle_occlusion(target, Occlusion::Visible);
    lab.quiet(10);
    let before = lab.events.len();
    lab.run(30, 100, syn);
    let news = lab.events.get(before..).unwrap();
    assert!(matches!(news.first(), Some(AttackEvent::Updated(_))), "{news:?}");
}

#[test]
fn the_policy_may_drop_or_keep_a_target() {
    let mut lab = Lab::new(config(&["203.0.113.0/24"], usual_thresholds()));
    lab.run(100, 100, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
    lab.detector.handle_config(lab.now, config(&["203.0.113.0/25"], usual_thresholds()));
    lab.tick();
    assert_eq!((lab.ended(), lab.detector.attacks().count()), (0, 1));
    lab.detector.handle_config(lab.now, config(&["198.51.100.0/24"], usual_thresholds()));
    lab.tick();
    assert!(matches!(lab.events.last(), Some(AttackEvent::Ended(_, EndReason::NotProtected))));
    assert_eq!(lab.detector.attacks().count(), 0);
}

#[test]
fn the_end_of_the_input_ends_every_attack() {
    let mut lab = Lab::everything();
    lab.run(100, 200, |n| {
        let target = if n % 2 == 0 { victim(80) } else { (ip("203.0.113.1"), 80) };
        tcp((source(n), port(n)), target, SYN, 0)
    });
    lab.detector.handle_input_end(lab.now);
    lab.tick();
    let ended = lab.events.iter().filter_map(|event| match event {
        AttackEvent::Ended(attack, EndReason::InputEnded) => Some(attack.target),
        _ => None,
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(ended, [Prefix::host(ip("203.0.113.1")), Prefix::host(ip(VICTIM))]);
}

#[test]
fn lost_packets_lower_confidence() {
    let confidence = |lost| {
        let mut lab = Lab::everything();
        lab.lost = lost;
        flood(&mut lab, |n| tcp((source(n), port(n)), victim(80), SYN, 0));
        lab.only_attack().confidence().get()
    };
    assert!(confidence(100) < confidence(0) - 0.1);
}

#[test]
fn thresholds_are_those_of_the_longest_prefix() {
    let mut config = config(&["203.0.113.0/24"], usual_thresholds());
    let mut strict = config.groups[0].clone();
    strict.name = "strict".into();
    strict.prefixes = vec![Prefix::host(ip(VICTIM))];
    strict.thresholds = thresholds(&[(Metric::TcpSyn, 100)]);
    config.groups.push(strict);
    let mut lab = Lab::new(config);
    lab.run(60, 10, |n| {
        let target = if n % 2 == 0 { victim(80) } else { (ip("203.0.113.1"), 80) };
        tcp((source(n), port(n)), target, SYN, 0)
    });
    assert_eq!(lab.expect(VICTIM, AttackVector::SynFlood).group, "strict");
}

/// Asserts that `per_tick` of what `make` gives for a while raises no alarm.
fn assert_calm(name: &str, ticks: u64, mut make: impl FnMut(u64) -> Vec<Vec<u8>>) {
    let owned = ["10.0.0.7/32", "203.0.113.0/24", "198.51.100.0/24"];
    let mut lab = Lab::new(config(&owned, usual_thresholds()));
    for tick in 0..ticks {
        for bytes in make(tick) {
            lab.see(&bytes);
        }
        lab.tick();
    }
    assert!(lab.events.is_empty(), "{name}: {:#?}", lab.events);
}

#[test]
fn what_a_host_asked_for_is_no_attack_on_it() {
    let (host, agent) = (ip("10.0.0.7"), ip("10.0.0.8"));
    assert_calm("a walk over SNMP, 20,000 a second", 50, |_| {
        let ask = udp((host, 40_000), (agent, 161), &[0x30], 60);
        let answer = udp((agent, 161), (host, 40_000), &[0x30], 400);
        (0..200).flat_map(|_| [ask.clone(), answer.clone()]).collect()
    });
    assert_calm("a busy resolver", 100, |tick| {
        let exchange = |n: u64| {
            let server = source(tick * 100 + n);
            let ask = udp((host, port(n)), (server, 53), &[0, 1, 1, 0], 40);
            [ask, udp((server, 53), (host, port(n)), &[0, 1, 0x81, 0], 500)]
        };
        (0..100).flat_map(exchange).collect()
    });
    assert_calm("a download at 40,000 a second", 100, |_| {
        let more = tcp((host, 40_000), (agent, 443), ACK, 0);
        let data = tcp((agent, 443), (host, 40_000), ACK, 1400);
        (0..20)
            .flat_map(|_| {
                std::iter::once(more.clone()).chain(std::iter::repeat_n(data.clone(), 20))
            })
            .collect()
    });
    assert_calm("an upload to a server at 40,000 a second", 100, |_| {
        let data = tcp((agent, 40_000), (host, 8443), ACK, 1400);
        let more = tcp((host, 8443), (agent, 40_000), ACK, 0);
        (0..40).flat_map(|_| std::iter::repeat_n(data.clone(), 10).chain([more.clone()])).collect()
    });
    assert_calm("a download over QUIC", 100, |_| {
        let more = udp((host, 40_000), (agent, 443), b"", 40);
        let data = udp((agent, 443), (host, 40_000), b"", 1300);
        (0..40)
            .flat_map(|_| {
                std::iter::once(more.clone()).chain(std::iter::repeat_n(data.clone(), 10))
            })
            .collect()
    });
}

#[test]
fn what_stays_below_the_thresholds_is_no_attack() {
    let scanner = ip("198.51.100.7");
    assert_calm("a port scan at 760 a second", 300, |tick| {
        let probe = |n: u64| {
            let scanned = victim(port(tick * 8 + n));
            [tcp((scanner, 40_000), scanned, SYN, 0), tcp(scanned, (scanner, 40_000), RST | ACK, 0)]
        };
        (0..7).flat_map(probe).collect()
    });
    assert_calm("a burst of 400 packets", 300, |tick| {
        let burst = if tick % 100 == 7 { 400 } else { 0 };
        (0..burst).map(|n| udp((source(n), 53), victim(80), &[0, 1, 0x81, 0], 900)).collect()
    });
    assert_calm("a backscatter of resets and errors", 300, |tick| {
        let reset = |n: u64| tcp((source(n), 80), victim(port(n)), RST, 0);
        let error = |n: u64| icmp(source(n), ip(VICTIM), 3);
        (0..5).flat_map(|n| [reset(tick * 5 + n), error(tick * 5 + n)]).collect()
    });
}

#[test]
fn a_flood_does_not_hide_behind_what_the_host_asks() {
    // A resolver with 5,000 queries a second under 20,000 reflected answers.
    let host = ip("10.0.0.7");
    let mut lab = Lab::everything();
    for tick in 0..100 {
        for n in 0..50 {
            let server = source(tick * 50 + n);
            lab.see(&udp((host, port(n)), (server, 53), &[0, 1, 1, 0], 40));
            lab.see(&udp((server, 53), (host, port(n)), &[0, 1, 0x81, 0], 300));
        }
        for n in 0..if tick >= 50 { 200 } else { 0 } {
            let server = ip(&format!("11.0.{}.{}", n / 100, n % 100));
            lab.see(&udp((server, 53), (host, 80), &[0, 1, 0x81, 0], 1200));
        }
        lab.tick();
    }
    let attack = lab.expect("10.0.0.7", AttackVector::Amplification(Reflector::Dns));
    assert!(attack.detected.since(attack.onset) <= Duration::from_millis(100));
    // A client with a download under forged segments from port 443.
    let mut lab = Lab::everything();
    for tick in 0..100 {
        for n in 0..200_u64 {
            if n % 10 == 0 {
                lab.see(&tcp((host, 40_000), (ip("10.0.0.8"), 443), ACK, 0));
            }
            lab.see(&tcp((ip("10.0.0.8"), 443), (host, 40_000), ACK, 1400));
        }
        for n in 0..if tick >= 50 { 400 } else { 0 } {
            lab.see(&tcp((source(tick * 400 + n), 443), (host, 40_000), ACK, 1400));
        }
        lab.tick();
    }
    lab.expect("10.0.0.7", AttackVector::AckFlood);
}

#[test]
fn answers_of_a_service_that_nobody_knows_are_not_stated_with_confidence() {
    let confidence = |from: fn(u64) -> u16| {
        let mut lab = Lab::everything();
        flood(&mut lab, |n| udp((source(n % 300), from(n)), victim(port(n)), b"what", 900));
        let attack = lab.expect(VICTIM, AttackVector::UdpFlood).clone();
        (attack.confidence().get(), attack.vectors[0].signature.source_ports.clone())
    };
    let (stated, ports) = confidence(|_| 50_505);
    assert!(stated <= 0.7, "{stated}");
    assert_eq!(ports, [50_505], "a rule can be made of it none the less");
    assert!(confidence(port).0 >= 0.9);
}
