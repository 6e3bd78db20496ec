//! Packet headers: tables, hostile bytes, and etherparse as the oracle.

use std::net::IpAddr;

use etherparse::{PacketBuilder, VlanId};
use proptest::prelude::*;
use tidegate_detector::packet::{
    Fragment, LinkType, Packet, Ports, Tunnel, Tunnels, Unreadable, Upper, parse, parse_inner,
};
use tidegate_detector::{Meter, TICK};
use tidegate_model::Timestamp;

use crate::lab::{Piece, WHOLE, config, datagram, ip, packet, tcp, udp, usual_thresholds};

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::LinuxCooked,
    LinkType::LinuxCooked2,
    LinkType::RawIp,
    LinkType::Null,
    LinkType::Ppp,
];

fn read(link: LinkType, frame: &[u8]) -> Result<Packet<'_>, Unreadable> {
    parse(link, frame, u32::try_from(frame.len()).unwrap())
}

fn raw(frame: &[u8]) -> Packet<'_> {
    read(LinkType::RawIp, frame).unwrap()
}

fn sample() -> Vec<u8> {
    udp((ip("192.0.2.1"), 53), (ip("203.0.113.9"), 4000), b"payload", 0)
}

/// `sample` behind `header`.
fn framed(header: &[u8]) -> Vec<u8> {
    [header, &sample()].concat()
}

#[test]
fn every_framing_leads_to_the_packet() {
    let ethernet = |tags: &[u8]| [&[0; 12], tags].concat();
    let vlan = |count: usize| {
        let mut tags = Vec::new();
        for kind in [0x88a8_u16, 0x8100, 0x9100, 0x8100, 0x8100].iter().take(count) {
            tags.extend(kind.to_be_bytes());
            tags.extend([0, 7]);
        }
        tags.extend([0x08, 0x00]);
        ethernet(&tags)
    };
    let cooked = [&[0; 14][..], &[0x08, 0x00]].concat();
    let cooked_vlan = [&[0; 14][..], &[0x81, 0x00, 0, 7, 0x08, 0x00]].concat();
    let cooked2 = [&[0x08, 0x00][..], &[0; 18]].concat();
    for (name, link, header) in [
        ("ethernet", LinkType::Ethernet, vlan(0)),
        ("one tag", LinkType::Ethernet, vlan(1)),
        ("four tags", LinkType::Ethernet, vlan(4)),
        ("mpls", LinkType::Ethernet, ethernet(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64])),
        ("pppoe", LinkType::Ethernet, ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0x00, 0x21])),
        ("cooked", LinkType::LinuxCooked, cooked),
        ("cooked with a tag", LinkType::LinuxCooked, cooked_vlan),
        ("cooked version 2", LinkType::LinuxCooked2, cooked2),
        ("raw", LinkType::RawIp, vec![]),
        ("null, little endian", LinkType::Null, vec![2, 0, 0, 0]),
        ("null, big endian", LinkType::Null, vec![0, 0, 0, 2]),
        ("ppp", LinkType::Ppp, vec![0x00, 0x21]),
        ("ppp in hdlc", LinkType::Ppp, vec![0xff, 0x03, 0x00, 0x21]),
        ("ppp, short protocol", LinkType::Ppp, vec![0x21]),
        ("ppp with mpls", LinkType::Ppp, vec![0x02, 0x81, 0, 1, 1, 64]),
        ("mpls behind a tag", LinkType::Ethernet, {
            ethernet(&[0x81, 0x00, 0, 7, 0x88, 0x47, 0, 1, 1, 64])
        }),
    ] {
        let frame = framed(&header);
        let packet = read(link, &frame).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(packet.destination, ip("203.0.113.9"), "{name}");
        let ports = Ports { source: 53, destination: 4000 };
        assert_eq!(packet.upper, Upper::Udp { ports, payload: b"payload" }, "{name}");
        assert_eq!(packet.length, 35, "{name}");
        // Cut anywhere, it yields less or an error, never a panic.
        for end in 0..frame.len() {
            let _ = parse(link, &frame[..end], u32::try_from(frame.len()).unwrap());
        }
    }
    assert_eq!(read(LinkType::Ethernet, &framed(&vlan(5))), Err(Unreadable::Malformed));
}

#[test]
fn other_traffic_is_told_from_broken_traffic() {
    let arp = [&[0; 12][..], &[0x08, 0x06], &[0; 28]].concat();
    let pseudowire = [&[0; 12][..], &[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0]].concat();
    let endless_labels = [&[0; 12][..], &[0x88, 0x47], &[0; 64]].concat();
    for (name, link, frame, error) in [
        ("nothing", LinkType::Ethernet, vec![], Unreadable::Malformed),
        ("arp", LinkType::Ethernet, arp, Unreadable::NotIp),
        ("pseudowire", LinkType::Ethernet, pseudowire, Unreadable::NotIp),
        ("endless labels", LinkType::Ethernet, endless_labels, Unreadable::Malformed),
        ("ppp lcp", LinkType::Ppp, vec![0xc0, 0x21, 1, 2], Unreadable::NotIp),
        ("null, no family", LinkType::Null, vec![9, 0, 0, 0, 0x45], Unreadable::NotIp),
        ("version 5", LinkType::RawIp, vec![0x55; 60], Unreadable::Malformed),
        ("19 bytes", LinkType::RawIp, vec![0x45; 19], Unreadable::Malformed),
        ("39 bytes", LinkType::RawIp, vec![0x60; 39], Unreadable::Malformed),
    ] {
        assert_eq!(read(link, &frame), Err(error), "{name}");
    }
}

#[test]
fn hostile_ipv4_headers() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, bool, Upper<'_>, u16); 7] = [
        ("header length below five", |b| b[0] = 0x44, true, Upper::Other(6), 40),
        ("header length zero", |b| b[0] = 0x40, true, Upper::Other(6), 40),
        ("header longer than the packet", |b| b[0] = 0x4f, true, Upper::Other(6), 40),
        ("total length below the header", |b| b[3] = 10, true, Upper::Other(6), 10),
        ("total length cuts the ports", |b| b[3] = 23, false, Upper::Headless(6), 23),
        ("header ends the packet", |b| b[3] = 20, false, Upper::Headless(6), 20),
        ("protocol without a header", |b| b[9] = 59, false, Upper::Other(59), 40),
    ];
    for (name, change, damaged, upper, length) in cases {
        let mut bytes = tcp((ip("192.0.2.1"), 1), (ip("192.0.2.2"), 2), 0x12, 0);
        change(&mut bytes);
        let packet = raw(&bytes);
        assert_eq!(packet.destination, ip("192.0.2.2"), "{name}");
        assert_eq!(
            (packet.damaged, packet.upper, packet.length),
            (damaged, upper, length),
            "{name}"
        );
    }
    // A length field too small for an offloaded packet is zero.
    let mut bytes = tcp((ip("192.0.2.1"), 1), (ip("192.0.2.2"), 2), 0x10, 3000);
    bytes[2..4].copy_from_slice(&[0, 0]);
    assert_eq!(raw(&bytes).length, 3040);
}

#[test]
fn padding_is_not_payload() {
    let mut bytes = udp((ip("192.0.2.1"), 1), (ip("192.0.2.2"), 2), b"", 0);
    bytes.extend([0; 18]);
    let packet = raw(&bytes);
    assert_eq!(packet.length, 28);
    assert!(matches!(packet.upper, Upper::Udp { payload: b"", .. }));
}

#[test]
fn ipv4_options_are_skipped() {
    let mut bytes = tcp((ip("192.0.2.1"), 1), (ip("192.0.2.2"), 443), 0xc2, 0);
    bytes.splice(20..20, [1; 40]);
    bytes[0] = 0x4f;
    bytes[2..4].copy_from_slice(&80_u16.to_be_bytes());
    let ports = Ports { source: 1, destination: 443 };
    let upper = raw(&bytes).upper;
    assert!(matches!(upper, Upper::Tcp { ports: read, flags: 0xc2, .. } if read == ports));
}

/// An Authentication Header with 12 octets of check value.
fn authentication(next: u8) -> Vec<u8> {
    let mut header = vec![next, 4];
    header.resize(24, 0);
    header
}

#[test]
fn headers_behind_an_authentication_header_are_read() {
    let echo = [128, 0, 0, 0];
    let payload = [&authentication(58)[..], &echo].concat();
    let bytes = packet(ip("2001:db8::1"), ip("2001:db8::2"), 51, WHOLE, &payload);
    assert_eq!((raw(&bytes).upper, raw(&bytes).protocol), (Upper::Icmpv6 { kind: 128 }, 58));

    let payload = [&authentication(1)[..], &[8, 0]].concat();
    let bytes = packet(ip("192.0.2.1"), ip("192.0.2.2"), 51, WHOLE, &payload);
    assert_eq!((raw(&bytes).upper, raw(&bytes).protocol), (Upper::Icmp { kind: 8 }, 51));
}

#[test]
fn extension_header_chains_are_bounded() {
    let chain = |count: usize| {
        let mut payload = Vec::new();
        for left in (0..count).rev() {
            payload.extend([if left == 0 { 17 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        payload.extend(datagram(53, 9, b"x", 0));
        packet(
            ip("2001:db8::1"),
            ip("2001:db8::2"),
            if count == 0 { 17 } else { 60 },
            WHOLE,
            &payload,
        )
    };
    for count in 0..8 {
        let bytes = chain(count);
        assert!(matches!(raw(&bytes).upper, Upper::Udp { payload: b"x", .. }), "{count}");
    }
    assert_eq!(raw(&chain(30)).upper, Upper::Other(60));
    // A header that claims to reach beyond the packet.
    let bytes =
        packet(ip("2001:db8::1"), ip("2001:db8::2"), 43, WHOLE, &[6, 255, 0, 0, 0, 0, 0, 0]);
    assert_eq!(raw(&bytes).upper, Upper::Other(43));
}

#[test]
fn fragments_are_told_apart() {
    let payload = datagram(53, 4000, b"", 600);
    for (from, to) in [(ip("192.0.2.1"), ip("192.0.2.2")), (ip("2001:db8::1"), ip("2001:db8::2"))] {
        let first = packet(from, to, 17, Piece { offset: 0, more: true }, &payload);
        let read = raw(&first);
        assert_eq!(read.fragment, Fragment::First);
        assert!(matches!(read.upper, Upper::Udp { ports: Ports { source: 53, .. }, .. }));
        for more in [true, false] {
            let later = packet(from, to, 17, Piece { offset: 608, more }, &payload);
            let read = raw(&later);
            assert_eq!((read.fragment, read.upper), (Fragment::Later, Upper::Headless(17)));
            assert_eq!(read.protocol, 17);
        }
    }
    // RFC 6946: an atomic fragment is whole.
    let mut atomic =
        packet(ip("2001:db8::1"), ip("2001:db8::2"), 17, Piece { offset: 0, more: true }, &payload);
    atomic[43] = 0;
    assert_eq!(raw(&atomic).fragment, Fragment::Whole);
}

/// `inner` behind a GRE header with `flags`, which says that it is of `kind`.
fn gre(flags: u8, kind: u16, inner: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, 0];
    bytes.extend(kind.to_be_bytes());
    bytes.resize(4 + 4 * (flags & 0xb0).count_ones() as usize, 7);
    bytes.extend(inner);
    bytes
}

#[test]
fn tunnels_are_opened_if_configured() {
    let all: Tunnels = [Tunnel::Gre, Tunnel::IpInIp].into_iter().collect();
    let (from, to) = (ip("198.51.100.1"), ip("198.51.100.2"));
    let (from6, to6) = (ip("2001:db8::1"), ip("2001:db8::2"));
    let bridged = |tag: &[u8]| gre(0, 0x6558, &framed(&[&[0; 12], tag, &[8, 0]].concat()));
    for (name, tunnel, from, to, number, payload) in [
        ("ipip", Tunnel::IpInIp, from, to, 4, sample()),
        ("ip in ipv6", Tunnel::IpInIp, from6, to6, 4, sample()),
        ("gre", Tunnel::Gre, from, to, 47, gre(0, 0x0800, &sample())),
        ("gre in ipv6", Tunnel::Gre, from6, to6, 47, gre(0, 0x0800, &sample())),
        ("gre with a checksum", Tunnel::Gre, from, to, 47, gre(0x80, 0x0800, &sample())),
        ("gre with everything", Tunnel::Gre, from, to, 47, gre(0xb0, 0x0800, &sample())),
        ("mpls in gre", Tunnel::Gre, from, to, 47, gre(0, 0x8847, &framed(&[0, 1, 1, 64]))),
        ("ethernet in gre", Tunnel::Gre, from, to, 47, bridged(&[])),
        ("a tag in gre", Tunnel::Gre, from, to, 47, bridged(&[0x81, 0, 0, 7])),
        ("behind authentication", Tunnel::IpInIp, from, to, 51, {
            [&authentication(4)[..], &sample()].concat()
        }),
    ] {
        let bytes = packet(from, to, number, WHOLE, &payload);
        let wire = u32::try_from(bytes.len()).unwrap();
        let open = |tunnels| parse_inner(LinkType::RawIp, &bytes, wire, tunnels);
        let expected = raw(&payload[payload.len() - sample().len()..]);
        assert_eq!(open(all), Some(expected), "{name}");
        assert_eq!(open([tunnel].into_iter().collect()), Some(expected), "{name}");
        let other = if tunnel == Tunnel::Gre { Tunnel::IpInIp } else { Tunnel::Gre };
        assert_eq!(open([other].into_iter().collect()), None, "{name}");
        assert_eq!(open(Tunnels::NONE), None, "{name}");
        // The packet itself is still one to the tunnel's end.
        assert_eq!(raw(&bytes).destination, to, "{name}");
        for end in 0..bytes.len() {
            let _ = parse_inner(LinkType::RawIp, &bytes[..end], wire, all);
        }
    }
    // 6in4.
    let inner = packet(from6, to6, 17, WHOLE, &datagram(53, 9, b"x", 0));
    let bytes = packet(from, to, 41, WHOLE, &inner);
    let wire = u32::try_from(bytes.len()).unwrap();
    assert_eq!(parse_inner(LinkType::RawIp, &bytes, wire, all).unwrap().destination, to6);
}

#[test]
fn what_only_looks_like_a_tunnel_stays_closed() {
    let all: Tunnels = [Tunnel::Gre, Tunnel::IpInIp].into_iter().collect();
    let (from, to) = (ip("198.51.100.1"), ip("198.51.100.2"));
    let later = Piece { offset: 64, more: false };
    for (name, number, piece, payload) in [
        ("no tunnel", 17, WHOLE, datagram(4, 47, &sample(), 0)),
        ("a later fragment", 4, later, sample()),
        ("source routing", 47, WHOLE, gre(0x40, 0x0800, &sample())),
        ("gre version 1", 47, WHOLE, [&[0x20, 1, 0x88, 0x0b, 0, 0, 0, 0][..], &sample()].concat()),
        ("neither ip nor ethernet", 47, WHOLE, gre(0, 0x0806, &sample())),
        ("cut in the gre header", 47, WHOLE, gre(0xb0, 0x0800, &[])[..10].to_vec()),
        ("nothing inside", 4, WHOLE, vec![]),
        ("half a header inside", 4, WHOLE, sample()[..12].to_vec()),
        ("noise inside", 41, WHOLE, vec![0xff; 60]),
    ] {
        let bytes = packet(from, to, number, piece, &payload);
        let wire = u32::try_from(bytes.len()).unwrap();
        assert_eq!(parse_inner(LinkType::RawIp, &bytes, wire, all), None, "{name}");
    }
    // A tunnel in a tunnel is traffic to the end of the inner one.
    let twice = packet(from, to, 4, WHOLE, &packet(to, from, 4, WHOLE, &sample()));
    let wire = u32::try_from(twice.len()).unwrap();
    assert_eq!(parse_inner(LinkType::RawIp, &twice, wire, all).unwrap().destination, from);
}

#[test]
fn numbers_of_link_types() {
    for (number, link) in [
        (0, Some(LinkType::Null)),
        (1, Some(LinkType::Ethernet)),
        (12, Some(LinkType::RawIp)),
        (14, Some(LinkType::RawIp)),
        (101, Some(LinkType::RawIp)),
        (113, Some(LinkType::LinuxCooked)),
        (228, Some(LinkType::RawIp)),
        (229, Some(LinkType::RawIp)),
        (276, Some(LinkType::LinuxCooked2)),
        (105, None),
        (-1, None),
    ] {
        assert_eq!(LinkType::from_dlt(number), link, "{number}");
    }
}

#[derive(Clone, Debug)]
struct Built {
    frame: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    ports: Ports,
    flags: Option<u8>,
    length: usize,
}

prop_compose! {
    /// A well-formed frame as etherparse builds it.
    fn built()(
        v6 in any::<bool>(),
        vlans in 0_usize..3,
        from in any::<[u8; 16]>(),
        to in any::<[u8; 16]>(),
        ports in any::<(u16, u16)>(),
        flags in proptest::option::of(0_u8..=255),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) -> Built {
        let link = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let id = VlanId::try_new(7).unwrap();
        let four = |bytes: [u8; 16]| [bytes[0], bytes[1], bytes[2], bytes[3]];
        macro_rules! network {
            ($link:expr) => {
                if v6 { $link.ipv6(from, to, 64) } else { $link.ipv4(four(from), four(to), 64) }
            };
        }
        let network = match vlans {
            0 => network!(link),
            1 => network!(link.single_vlan(id)),
            _ => network!(link.double_vlan(id, id)),
        };
        let mut frame = Vec::new();
        match flags {
            None => network.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap(),
            Some(flags) => {
                let mut header = etherparse::TcpHeader::new(ports.0, ports.1, 1, 1);
                header.fin = flags & 1 != 0;
                header.syn = flags & 2 != 0;
                header.rst = flags & 4 != 0;
                header.psh = flags & 8 != 0;
                header.ack = flags & 16 != 0;
                header.urg = flags & 32 != 0;
                header.ece = flags & 64 != 0;
                header.cwr = flags & 128 != 0;
                network.tcp_header(header).write(&mut frame, &payload).unwrap();
            }
        }
        let length = frame.len() - 14 - 4 * vlans;
        let (source, destination) = if v6 {
            (IpAddr::from(from), IpAddr::from(to))
        } else {
            (IpAddr::from(four(from)), IpAddr::from(four(to)))
        };
        let ports = Ports { source: ports.0, destination: ports.1 };
        Built { frame, source, destination, ports, flags, length }
    }
}

proptest! {
    #[test]
    fn agrees_with_etherparse(built in built()) {
        let packet = read(LinkType::Ethernet, &built.frame).unwrap();
        prop_assert_eq!(packet.source, built.source);
        prop_assert_eq!(packet.destination, built.destination);
        prop_assert_eq!(usize::from(packet.length), built.length);
        prop_assert!(!packet.damaged);
        match (packet.upper, built.flags) {
            (Upper::Udp { ports, .. }, None) => prop_assert_eq!(ports, built.ports),
            (Upper::Tcp { ports, flags, .. }, Some(expected)) => {
                prop_assert_eq!((ports, flags), (built.ports, expected));
            }
            (upper, _) => prop_assert!(false, "{:?}", upper),
        }
    }

    #[test]
    fn any_bytes_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..160), wire: u32) {
        let all: Tunnels = [Tunnel::Gre, Tunnel::IpInIp].into_iter().collect();
        for link in LINKS {
            let _ = parse(link, &bytes, wire);
            let _ = parse_inner(link, &bytes, wire, all);
        }
    }

    /// Whatever becomes of a frame: what etherparse still takes for a correct packet, we read alike.
    #[test]
    fn agrees_with_etherparse_on_mutations(
        built in built(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut frame = built.frame;
        for (place, value) in flips {
            let place = place.index(frame.len());
            frame[place] = value;
        }
        let end = cut.map_or(frame.len(), |cut| cut.index(frame.len() + 1));
        let frame = &frame[..end];
        let ours = parse(LinkType::Ethernet, frame, u32::MAX);
        let Ok(theirs) = etherparse::SlicedPacket::from_ethernet(frame) else { return Ok(()) };
        check_against(&theirs, ours)?;
    }
}

fn check_against(
    theirs: &etherparse::SlicedPacket<'_>,
    ours: Result<Packet<'_>, Unreadable>,
) -> Result<(), TestCaseError> {
    use etherparse::{NetSlice, TransportSlice};
    let (source, destination, fragmented) = match &theirs.net {
        Some(NetSlice::Ipv4(net)) => {
            let header = net.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            (source.into(), destination.into(), net.payload().fragmented)
        }
        Some(NetSlice::Ipv6(net)) => {
            let header = net.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            (IpAddr::from(source), IpAddr::from(destination), net.payload().fragmented)
        }
        // Frames that are no IP, or whose ethertype became one that only we follow.
        _ => return Ok(()),
    };
    let ours = ours.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
    prop_assert_eq!((ours.source, ours.destination), (source, destination));
    prop_assert!(!ours.damaged);
    prop_assert_eq!(ours.fragment != Fragment::Whole, fragmented);
    let ports = |source, destination| Ports { source, destination };
    match &theirs.transport {
        Some(TransportSlice::Udp(udp)) => {
            let expected = ports(udp.source_port(), udp.destination_port());
            let right = matches!(ours.upper, Upper::Udp { ports, .. } if ports == expected);
            prop_assert!(right, "{:?}", ours.upper);
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let expected = ports(tcp.source_port(), tcp.destination_port());
            let bits = tcp.slice()[13];
            prop_assert_eq!(
                ours.upper,
                Upper::Tcp {
                    ports: expected,
                    flags: bits,
                    sequence: tcp.sequence_number(),
                    acknowledgement: tcp.acknowledgment_number(),
                }
            );
        }
        // Each belongs to one family; in the other its number is any protocol.
        Some(TransportSlice::Icmpv4(icmp)) if source.is_ipv4() => {
            prop_assert_eq!(ours.upper, Upper::Icmp { kind: icmp.type_u8() });
        }
        Some(TransportSlice::Icmpv6(icmp)) if source.is_ipv6() => {
            prop_assert_eq!(ours.upper, Upper::Icmpv6 { kind: icmp.type_u8() });
        }
        Some(TransportSlice::Icmpv4(_)) => prop_assert_eq!(ours.upper, Upper::Other(1)),
        Some(TransportSlice::Icmpv6(_)) => prop_assert_eq!(ours.upper, Upper::Other(58)),
        Some(TransportSlice::Igmp(_)) => prop_assert_eq!(ours.upper, Upper::Other(2)),
        None => {}
    }
    Ok(())
}

#[test]
fn what_is_in_a_tunnel_counts_at_its_target_if_that_is_protected() {
    let end = ip("203.0.113.1");
    let through = |to: &str| {
        let inner = udp((ip("192.0.2.1"), 9), (ip(to), 4000), b"x", 0);
        packet(ip("198.51.100.1"), end, 47, WHOLE, &gre(0, 0x0800, &inner))
    };
    for (name, tunnels, inner, expected) in [
        ("opened", vec![Tunnel::Gre], "203.0.113.9", "203.0.113.9"),
        ("opened, noise inside", vec![Tunnel::Gre], "192.0.2.77", "203.0.113.1"),
        ("closed", vec![Tunnel::IpInIp], "203.0.113.9", "203.0.113.1"),
    ] {
        let config = config(&["203.0.113.0/24"], usual_thresholds());
        let mut meter = Meter::new(&config, 1).opening(tunnels.into_iter().collect());
        let frame = through(inner);
        meter.observe(LinkType::RawIp, &frame, u32::try_from(frame.len()).unwrap());
        let summary = meter.finish_tick(Timestamp::ZERO + TICK);
        let targets: Vec<_> = summary.targets.iter().map(|target| target.address).collect();
        assert_eq!(targets, [ip(expected)], "{name}");
    }
}
