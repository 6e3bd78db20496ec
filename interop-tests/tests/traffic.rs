//! The traffic generator, judged by a decoder that knows nothing of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at a surprise too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tidegate_detector::capture::file::CaptureFile;
use tidegate_interop_tests::lab::{End, Lab, require, until};
use tidegate_interop_tests::traffic::{CaptureWriter, Direction, Kind, Scenario, Stream, names};
use tidegate_model::{AttackVector, Prefix, Reflector};

const TARGETS: [&str; 2] = ["203.0.113.10", "2001:db8::10"];
const LIMIT: Duration = Duration::from_secs(20);

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn stream(text: &str) -> Stream {
    text.parse().unwrap()
}

fn frames(seed: u64, streams: &[Stream]) -> Vec<(u64, Vec<u8>)> {
    let scenario = streams.iter().cloned().fold(Scenario::new(seed), Scenario::with);
    let mut packets = scenario.packets();
    let mut frames = Vec::new();
    while let Some(packet) = packets.next_packet() {
        frames.push((packet.time.as_nanos(), packet.frame.to_vec()));
    }
    assert!(frames.is_sorted_by_key(|(time, _)| *time));
    frames
}

/// What the tests look at in a frame. Its lengths and checksums have been checked.
#[derive(Debug)]
struct Decoded {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    fragment: Option<Fragment>,
    /// Source and destination ports; type and code of ICMP; zero elsewhere.
    ports: (u16, u16),
    tcp: Option<Tcp>,
    payload: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Fragment {
    identification: u32,
    offset: usize,
    more: bool,
}

#[derive(Debug)]
struct Tcp {
    flags: String,
    sequence: u32,
    acknowledgement: u32,
}

fn decode(frame: &[u8]) -> Decoded {
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}"));
    let (mut decoded, length) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
            let fragment = ip.is_payload_fragmented().then(|| Fragment {
                identification: header.identification.into(),
                offset: usize::from(header.fragment_offset.value()) * 8,
                more: header.more_fragments,
            });
            assert_eq!(header.dont_fragment, fragment.is_none());
            let addresses =
                (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (net(addresses, ip.payload(), fragment), usize::from(header.total_len))
        }
        NetSlice::Ipv6(ip) => {
            let fragment = ip.is_payload_fragmented().then(|| {
                let word: [u8; 2] = frame[56..58].try_into().unwrap();
                let word = u16::from_be_bytes(word);
                Fragment {
                    identification: u32::from_be_bytes(frame[58..62].try_into().unwrap()),
                    offset: usize::from(word & 0xfff8),
                    more: word & 1 == 1,
                }
            });
            let addresses =
                (ip.header().source_addr().into(), ip.header().destination_addr().into());
            let length = 40 + usize::from(ip.header().payload_length());
            (net(addresses, ip.payload(), fragment), length)
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    assert_eq!(length, frame.len() - 14, "the frame is as long as its packet");
    assert!(length <= 1500, "{length}");
    if let Some(transport) = &packet.transport {
        check_transport(&mut decoded, transport);
    }
    decoded
}

fn net(
    (source, destination): (IpAddr, IpAddr),
    payload: &etherparse::IpPayloadSlice<'_>,
    fragment: Option<Fragment>,
) -> Decoded {
    Decoded {
        source,
        destination,
        protocol: payload.ip_number.0,
        fragment,
        ports: (0, 0),
        tcp: None,
        payload: payload.payload.to_vec(),
    }
}

fn check_transport(decoded: &mut Decoded, transport: &TransportSlice<'_>) {
    let (source, destination) = (decoded.source, decoded.destination);
    match transport {
        TransportSlice::Udp(udp) => {
            let sum = udp_checksum(source, destination, &udp.to_header(), udp.payload());
            assert_eq!(udp.checksum(), sum, "UDP checksum");
            decoded.ports = (udp.source_port(), udp.destination_port());
            decoded.payload = udp.payload().to_vec();
        }
        TransportSlice::Tcp(tcp) => {
            let sum = match (source, destination) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    tcp.calc_checksum_ipv4(from.octets(), to.octets())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    tcp.calc_checksum_ipv6(from.octets(), to.octets())
                }
                _ => panic!("mixed families"),
            };
            assert_eq!(tcp.checksum(), sum.unwrap(), "TCP checksum");
            assert!(tcp.options_iterator().all(|option| option.is_ok()));
            decoded.ports = (tcp.source_port(), tcp.destination_port());
            let flags = [
                (tcp.syn(), 'S'),
                (tcp.ack(), 'A'),
                (tcp.psh(), 'P'),
                (tcp.fin(), 'F'),
                (tcp.rst(), 'R'),
            ];
            decoded.tcp = Some(Tcp {
                flags: flags
                    .into_iter()
                    .filter(|(set, _)| *set)
                    .map(|(_, letter)| letter)
                    .collect(),
                sequence: tcp.sequence_number(),
                acknowledgement: tcp.acknowledgment_number(),
            });
            decoded.payload = tcp.payload().to_vec();
        }
        TransportSlice::Icmpv4(icmp) => {
            let header = icmp.header();
            assert_eq!(
                icmp.checksum(),
                header.icmp_type.calc_checksum(icmp.payload()),
                "ICMP checksum"
            );
            decoded.ports = (icmp.type_u8().into(), icmp.code_u8().into());
        }
        TransportSlice::Icmpv6(icmp) => {
            let (IpAddr::V6(from), IpAddr::V6(to)) = (source, destination) else {
                panic!("ICMPv6 in IPv4")
            };
            assert!(icmp.is_checksum_valid(from.octets(), to.octets()), "ICMPv6 checksum");
            decoded.ports = (icmp.type_u8().into(), icmp.code_u8().into());
        }
        // Of this protocol only the number matters.
        TransportSlice::Igmp(_) => {}
    }
}

fn udp_checksum(
    source: IpAddr,
    destination: IpAddr,
    header: &etherparse::UdpHeader,
    payload: &[u8],
) -> u16 {
    match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
        }
        _ => panic!("mixed families"),
    }
    .unwrap()
}

#[test]
fn the_same_seed_gives_the_same_octets() {
    for (name, _) in names() {
        let target = if name == "carpet" { "203.0.113.0/24" } else { "203.0.113.10" };
        let streams = [stream(&format!("{name},target={target},rate=300,for=2s"))];
        let first = frames(7, &streams);
        assert!(!first.is_empty(), "{name}");
        assert_eq!(first, frames(7, &streams), "{name}");
        assert_ne!(first, frames(8, &streams), "{name}");
    }
}

/// What every packet of a vector has in common, whatever its family.
fn is_of(vector: AttackVector, packet: &Decoded) -> bool {
    let flags = packet.tcp.as_ref().map(|tcp| tcp.flags.as_str());
    match vector {
        AttackVector::SynFlood => flags == Some("S"),
        AttackVector::TcpConnectionFlood => matches!(flags, Some("S" | "SA" | "A")),
        AttackVector::SynAckReflection => matches!(flags, Some("SA" | "AR")),
        AttackVector::SynAckFlood => flags == Some("SA"),
        AttackVector::AckFlood => matches!(flags, Some("A" | "AP")),
        AttackVector::RstFlood => matches!(flags, Some("R" | "AR")),
        AttackVector::FinFlood => matches!(flags, Some("F" | "AF")),
        AttackVector::XmasFlood => flags.is_some_and(|flags| flags.contains("PF")),
        AttackVector::NullFlood => flags == Some(""),
        AttackVector::MiddleboxReflection => {
            packet.ports.0 == 80 && packet.payload.starts_with(b"HTTP/1.1 403")
        }
        AttackVector::LandFlood => packet.source == packet.destination,
        AttackVector::TcpFlood => flags.is_some_and(|flags| !flags.contains(['S', 'R'])),
        AttackVector::UdpFlood | AttackVector::Amplification(_) => packet.protocol == 17,
        AttackVector::DnsQueryFlood | AttackVector::DnsWaterTorture => {
            (packet.protocol, packet.ports.1) == (17, 53)
        }
        AttackVector::QuicFlood => (packet.protocol, packet.ports.1) == (17, 443),
        AttackVector::IcmpFlood => matches!((packet.protocol, packet.ports.0), (1, 8) | (58, 128)),
        AttackVector::IcmpBackscatter => {
            matches!((packet.protocol, packet.ports.0), (1, 3 | 11) | (58, 1 | 3))
        }
        AttackVector::FragmentFlood => {
            packet.fragment.as_ref().is_some_and(|fragment| fragment.offset > 0)
        }
        AttackVector::GreFlood => packet.protocol == 47,
        AttackVector::EspFlood => packet.protocol == 50,
        AttackVector::IgmpFlood => packet.protocol == 2,
        AttackVector::ProtocolFlood => packet.protocol == 132,
        AttackVector::Unknown => true,
    }
}

/// Every vector that is packets toward the target and nothing else.
fn one_way() -> impl Iterator<Item = AttackVector> {
    AttackVector::all().filter(|vector| *vector != AttackVector::TcpConnectionFlood)
}

#[test]
fn a_flood_of_connections_completes_them() {
    let made =
        frames(3, &[stream("tcp-connection-flood,target=203.0.113.10,rate=400,for=1s,sources=9")]);
    let found = connections(&made);
    assert!((350..=400).contains(&found.len()), "{}", found.len());
    let sources: BTreeSet<_> = found.keys().map(|key| key.0).collect();
    assert_eq!(sources.len(), 9);
}

#[test]
fn every_vector_is_what_its_name_says() {
    for vector in one_way() {
        for target in TARGETS {
            let made = frames(3, &[stream(&format!("{vector},target={target},rate=400,for=1s"))]);
            assert_eq!(made.len(), 400, "{vector}");
            let mut sources = BTreeSet::new();
            for (_, frame) in &made {
                let packet = decode(frame);
                assert!(is_of(vector, &packet), "{vector}: {packet:?}");
                assert_eq!(packet.destination.to_string(), target);
                sources.insert(packet.source);
            }
            let few = vector == AttackVector::LandFlood;
            assert!(few || sources.len() > 100, "{vector}: {} sources", sources.len());
        }
    }
}

/// Ports that a reflector's service has by assignment or custom. TFTP answers from any port.
fn service_ports(reflector: Reflector) -> &'static [u16] {
    match reflector {
        Reflector::Dns => &[53],
        Reflector::Ntp => &[123],
        Reflector::Memcached => &[11_211],
        Reflector::Ssdp => &[1900],
        Reflector::Cldap => &[389],
        Reflector::Chargen => &[19],
        Reflector::Qotd => &[17],
        Reflector::Snmp => &[161],
        Reflector::Rip => &[520],
        Reflector::Portmap => &[111],
        Reflector::NetBios => &[137],
        Reflector::Mdns => &[5353],
        Reflector::WsDiscovery => &[3702],
        Reflector::Coap => &[5683],
        Reflector::Stun => &[3478],
        Reflector::OpenVpn => &[1194],
        Reflector::Ubiquiti => &[10_001],
        Reflector::Arms => &[3283],
        Reflector::DhcpDiscover => &[37_810],
        Reflector::Tftp => &[],
        Reflector::Jenkins => &[33_848],
        Reflector::L2tp => &[1701],
        Reflector::Ipmi => &[623],
        Reflector::SourceEngine => &[27_015, 27_016, 27_017, 27_018, 27_019, 27_020],
        Reflector::BitTorrent => &[6881],
        Reflector::Ike => &[500, 4500],
        Reflector::Echo => &[7],
        Reflector::Quake => &[27_960],
        Reflector::MsSql => &[1434],
        Reflector::Rdp => &[3389],
        Reflector::Slp => &[427],
        Reflector::Xdmcp => &[177],
        Reflector::Sentinel => &[5093],
        Reflector::VxWorks => &[17_185],
        Reflector::Plex => &[32_414, 32_410],
        Reflector::BacNet => &[47_808],
        Reflector::Sadp => &[37_020],
        Reflector::Mitel => &[10_074],
        Reflector::Sip => &[5060],
        Reflector::Kad => &[4672],
        Reflector::Dtls => &[443],
    }
}

#[test]
fn answers_come_from_their_service() {
    for reflector in Reflector::ALL {
        let vector = AttackVector::Amplification(*reflector);
        let made = frames(5, &[Stream::attack(vector, prefix(TARGETS[0])).rate(300)]);
        let ports: Vec<u16> = made
            .iter()
            .map(|(_, frame)| decode(frame))
            .filter(|packet| packet.fragment.is_none())
            .map(|packet| packet.ports.0)
            .collect();
        let known = service_ports(*reflector);
        let from_service = ports.iter().filter(|port| known.contains(port)).count();
        // Some DHT nodes chose a port of their own.
        assert!(known.is_empty() || from_service * 10 >= ports.len() * 7, "{vector}: {ports:?}");
    }
}

#[test]
fn fragments_make_whole_datagrams() {
    for vector in ["dns-amplification", "cldap-amplification", "snmp-amplification"] {
        for target in TARGETS {
            let made = frames(11, &[stream(&format!("{vector},target={target},rate=600,for=1s"))]);
            let mut parts: BTreeMap<(IpAddr, u32), Vec<Decoded>> = BTreeMap::new();
            for (_, frame) in &made {
                let packet = decode(frame);
                if let Some(fragment) = &packet.fragment {
                    parts.entry((packet.source, fragment.identification)).or_default().push(packet);
                }
            }
            let mut whole = 0;
            for fragments in parts.values() {
                let mut datagram = Vec::new();
                for packet in fragments {
                    assert_eq!(packet.fragment.as_ref().unwrap().offset, datagram.len());
                    datagram.extend_from_slice(&packet.payload);
                }
                // The stream may end before its last datagram does.
                if fragments.last().unwrap().fragment.as_ref().unwrap().more {
                    continue;
                }
                let (header, payload) = etherparse::UdpHeader::from_slice(&datagram).unwrap();
                assert_eq!(usize::from(header.length), datagram.len());
                let first = &fragments[0];
                let sum = udp_checksum(first.source, first.destination, &header, payload);
                assert_eq!(header.checksum, sum, "{vector}");
                whole += 1;
            }
            assert!(whole > 50, "{vector} {target}: {whole}");
            assert!(parts.len() <= whole + 1);
        }
    }
}

#[test]
fn parameters_are_kept() {
    let text = "udp-flood,target=203.0.113.0/28,rate=2k,for=1s,sources=5,from=198.18.0.0/24,length=100,port=9";
    let packets: Vec<Decoded> =
        frames(1, &[stream(text)]).iter().map(|(_, frame)| decode(frame)).collect();
    let of = |pick: fn(&Decoded) -> IpAddr| packets.iter().map(pick).collect::<BTreeSet<_>>();
    assert_eq!(packets.len(), 2000);
    assert_eq!(of(|packet| packet.source).len(), 5);
    assert_eq!(of(|packet| packet.destination).len(), 16);
    for packet in &packets {
        assert!(prefix("198.18.0.0/24").contains_address(packet.source));
        assert!(prefix("203.0.113.0/28").contains_address(packet.destination));
        assert_eq!((packet.ports.1, packet.payload.len()), (9, 72));
    }
    for vector in one_way() {
        let made = frames(
            1,
            &[stream(&format!("{vector},target=203.0.113.1,rate=100,for=1s,length=700"))],
        );
        let exact = made.iter().filter(|(_, frame)| frame.len() == 714).count();
        // SYN-ACKs carry nothing, and a fragment with more to come is a multiple of eight.
        assert!(exact >= 40 || vector == AttackVector::SynAckReflection, "{vector}: {exact}");
        made.iter().for_each(|(_, frame)| drop(decode(frame)));
    }
}

#[test]
fn streams_are_merged_in_time() {
    let target = prefix(TARGETS[0]);
    let pulse =
        stream("pulse,target=203.0.113.10,vector=icmp-flood,rate=1k,for=4s,period=1s,on=100ms");
    let late = Stream::attack(AttackVector::SynFlood, target)
        .rate(5000)
        .during(Duration::from_secs(2), Duration::from_secs(1));
    let made = frames(9, &[Stream::benign(target).rate(500), pulse, late]);
    let (mut syn, mut icmp) = (0, 0);
    for (time, frame) in &made {
        let packet = decode(frame);
        let inbound_syn = packet.tcp.as_ref().is_some_and(|tcp| tcp.flags == "S");
        if inbound_syn && (2_000_000_000..3_000_000_000).contains(time) {
            syn += 1;
        }
        if packet.ports == (8, 0) && packet.payload.len() > 60 && time % 1_000_000_000 < 100_000_000
        {
            icmp += 1;
        }
    }
    assert!((5000..5100).contains(&syn), "{syn}");
    assert!(icmp >= 400, "{icmp}");
    let benign = made.len() - 5000 - 400;
    assert!((4500..=5100).contains(&benign), "{benign}");
}

/// The segments of each connection in order: whether the client sent it, and the segment.
type Connections = BTreeMap<(IpAddr, u16, IpAddr, u16), Vec<(bool, Decoded)>>;

fn connections(made: &[(u64, Vec<u8>)]) -> Connections {
    let mut connections = Connections::new();
    for (_, frame) in made {
        let packet = decode(frame);
        if packet.tcp.is_none() {
            continue;
        }
        let from_client = packet.ports.1 < 1024;
        let (client, server) = if from_client {
            ((packet.source, packet.ports.0), (packet.destination, packet.ports.1))
        } else {
            ((packet.destination, packet.ports.1), (packet.source, packet.ports.0))
        };
        let key = (client.0, client.1, server.0, server.1);
        connections.entry(key).or_default().push((from_client, packet));
    }
    connections
}

#[test]
fn benign_connections_are_opened_and_acknowledged() {
    for kind in [Kind::Benign, Kind::FlashCrowd] {
        for target in TARGETS {
            let stream = Stream::new(kind, prefix(target))
                .rate(3000)
                .during(Duration::ZERO, Duration::from_secs(4));
            let connections = connections(&frames(2, &[stream]));
            assert!(connections.len() > 100, "{}", connections.len());
            for segments in connections.values() {
                let flags: Vec<&str> = segments
                    .iter()
                    .map(|(_, packet)| packet.tcp.as_ref().unwrap().flags.as_str())
                    .collect();
                let opening = &["S", "SA", "A"][..flags.len().min(3)];
                assert_eq!(&flags[..opening.len()], opening);
                // Each side goes on where it was, and acknowledges what the other has sent.
                let mut next: [Option<u32>; 2] = [None; 2];
                for (from_client, packet) in segments {
                    let (own, other) = if *from_client { (0, 1) } else { (1, 0) };
                    let tcp = packet.tcp.as_ref().unwrap();
                    assert!(next[own].is_none_or(|expected| expected == tcp.sequence));
                    assert_eq!(tcp.acknowledgement, next[other].unwrap_or(0));
                    let control = u32::from(tcp.flags.contains(['S', 'F']));
                    next[own] =
                        Some(tcp.sequence.wrapping_add(packet.payload.len() as u32 + control));
                }
            }
        }
    }
}

#[test]
fn benign_traffic_has_both_directions_and_every_service() {
    for target in TARGETS {
        let address: IpAddr = target.parse().unwrap();
        let made = frames(2, &[Stream::benign(prefix(target)).rate(2000)]);
        assert!((18_000..=20_100).contains(&made.len()), "{}", made.len());
        let packets: Vec<Decoded> = made.iter().map(|(_, frame)| decode(frame)).collect();
        let inbound = packets.iter().filter(|packet| packet.destination == address).count();
        assert!((made.len() / 4..made.len() * 3 / 4).contains(&inbound), "{inbound}");
        for (protocol, port) in [(6, 443), (6, 80), (17, 53), (17, 123), (17, 443)] {
            for toward in [true, false] {
                let some = packets.iter().any(|packet| {
                    let known = if toward { packet.ports.1 } else { packet.ports.0 };
                    packet.protocol == protocol && known == port
                });
                assert!(some, "{protocol} {port} {toward}");
            }
        }
        assert!(packets.iter().any(|packet| matches!(packet.protocol, 1 | 58)));
        // One direction only, for a wire on which nobody plays the target.
        let mut stream = Stream::benign(prefix(target)).rate(2000);
        stream.direction = Direction::Inbound;
        let made = frames(2, &[stream]);
        assert!((15_000..=20_100).contains(&made.len()), "{}", made.len());
        assert!(made.iter().all(|(_, frame)| decode(frame).destination == address));
    }
}

#[test]
fn a_flash_crowd_rises() {
    let made = frames(2, &[stream("flash-crowd,target=203.0.113.10,rate=4k,for=8s")]);
    let in_second =
        |second: u64| made.iter().filter(|(time, _)| time / 1_000_000_000 == second).count();
    assert!(in_second(0) < 1500, "{}", in_second(0));
    assert!((3500..4500).contains(&in_second(5)), "{}", in_second(5));
    let clients: BTreeSet<IpAddr> = connections(&made).keys().map(|(client, ..)| *client).collect();
    assert!(clients.len() > 500, "{}", clients.len());
}

#[test]
fn captures_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made.pcap");
    let scenario = Scenario::new(4)
        .with(stream("benign,target=2001:db8::10,rate=1k,for=2s"))
        .with(stream("dns-amplification,target=203.0.113.10,rate=1k,for=2s"));
    let mut writer = CaptureWriter::create(&path, 100).unwrap();
    let count = writer.write_all(&mut scenario.packets()).unwrap();
    writer.finish().unwrap();
    let mut file = CaptureFile::open(&path).unwrap();
    let mut packets = scenario.packets();
    let mut read = 0;
    while let Some(frame) = file.next_frame().unwrap() {
        let packet = packets.next_packet().unwrap();
        let epoch = 1_700_000_000_000_000_000;
        assert_eq!(frame.time.as_nanos(), epoch + packet.time.as_nanos());
        assert_eq!(frame.data, &packet.frame[..packet.frame.len().min(100)]);
        assert_eq!(frame.wire_length as usize, packet.frame.len());
        read += 1;
    }
    assert_eq!((read, packets.next_packet().is_none()), (count, true));
}

#[test]
fn frames_cross_a_link_at_their_pace() {
    let test = "frames_cross_a_link_at_their_pace";
    let Some(lab) = require::or_skip(test, Lab::new()) else { return };
    let (left, right) = (lab.namespace("left").unwrap(), lab.namespace("right").unwrap());
    let end = |namespace, interface| End { namespace, interface, addresses: &[] };
    lab.link(end(&left, "out"), end(&right, "in")).unwrap();
    let program = env!("CARGO_BIN_EXE_tidegate-lab");
    let send = |stream: &str| {
        left.run(program, ["traffic", "--interface", "out", "--json", "--stream", stream])
    };

    let report = send("syn-flood,target=203.0.113.10,rate=5k,for=1s").unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["packets"], 5000);
    assert_eq!(report["stopped"], false);
    assert!(report["seconds"].as_f64().unwrap() > 0.9);
    let received = || {
        let text = right.run("ip", ["-j", "-s", "link", "show", "in"])?;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let packets = value[0]["stats64"]["rx"]["packets"].as_u64().unwrap();
        Ok((packets >= 5000).then_some(()))
    };
    until("the frames at the other end", LIMIT, received).unwrap();

    let error = send("syn-flood,target=203.0.113.10,rate=fast").unwrap_err().to_string();
    assert!(error.contains("not a rate"), "{error}");
    left.run("ip", ["link", "set", "out", "down"]).unwrap();
    let error = send("syn-flood,target=203.0.113.10").unwrap_err().to_string();
    assert!(error.contains("interface `out` is down"), "{error}");
    left.run("ip", ["link", "delete", "out"]).unwrap();
    let error = send("syn-flood,target=203.0.113.10").unwrap_err().to_string();
    assert!(error.contains("no interface `out`"), "{error}");
}

#[test]
fn a_sender_stops_when_asked() {
    let test = "a_sender_stops_when_asked";
    let Some(lab) = require::or_skip(test, Lab::new()) else { return };
    let namespace = lab.namespace("alone").unwrap();
    let mut command = namespace.command(env!("CARGO_BIN_EXE_tidegate-lab"));
    command.args(["traffic", "--interface", "lo", "--json"]);
    command.args(["--stream", "udp-flood,target=203.0.113.10,rate=1k,for=1h"]);
    let mut process = namespace.spawn("sender", command).unwrap();
    until("some frames", LIMIT, || {
        let text = namespace.run("ip", ["-j", "-s", "link", "show", "lo"])?;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        Ok((value[0]["stats64"]["tx"]["packets"].as_u64() > Some(10)).then_some(()))
    })
    .unwrap();
    assert!(process.terminate(LIMIT).unwrap().success());
    let report = std::fs::read_to_string(process.stdout()).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["stopped"], true);
    assert!(report["packets"].as_u64() > Some(10));
}
