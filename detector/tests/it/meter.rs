//! What the meter counts as asked for and what not, and its bounds.

use tidegate_detector::packet::{Tunnel, Tunnels};
use tidegate_detector::{Config, Judging, LinkType, Meter, TICK, TrafficClass};
use tidegate_model::{AttackId, Metric, Reflector, Timestamp};

use crate::lab::{
    ACK, Lab, Piece, RST, SYN, WHOLE, config, datagram, icmp, ip, numbered, packet, source,
    target_of, tcp, udp, usual_thresholds,
};

const HOST: &str = "203.0.113.9";
const PEER: &str = "198.51.100.7";

/// Unasked packets and answers of the host after `packets`.
fn count(packets: &[Vec<u8>]) -> (u64, u64) {
    let mut lab = Lab::new(config(&["203.0.113.0/24", "2001:db8::/32"], usual_thresholds()));
    packets.iter().for_each(|packet| lab.see(packet));
    let summary = lab.tick();
    summary.targets.first().map_or((0, 0), |target| {
        (target.unasked.get(Metric::Total).packets, target.answers.packets)
    })
}

#[test]
fn answers_that_were_asked_for_are_told_from_those_that_were_not() {
    let (host, peer, other) = (ip(HOST), ip(PEER), ip("198.51.100.8"));
    let query = |server| udp((host, 40_000), (server, 53), &[0, 1, 1, 0], 40);
    let answer = |server| udp((server, 53), (host, 40_000), &[0, 1, 0x81, 0], 400);
    let group = udp((host, 40_000), (ip("239.255.255.250"), 1900), b"M-SEARCH * HTTP/1.1", 0);
    let found = udp((peer, 1900), (host, 40_000), b"HTTP/1.1 200 OK", 300);
    let time = |from, to, mode| udp((from, 123), (to, 123), &[mode], 48);
    for (name, packets, expected) in [
        ("an answer", vec![query(peer), answer(peer)], (0, 1)),
        ("an answer to no query", vec![answer(peer)], (1, 0)),
        ("the answer before the query", vec![answer(peer), query(peer)], (1, 0)),
        ("two answers to one query", vec![query(peer), answer(peer), answer(peer)], (1, 1)),
        ("an answer from elsewhere", vec![query(peer), answer(other)], (1, 0)),
        ("search by multicast", vec![group, found.clone(), found], (0, 2)),
        ("time between servers", vec![time(host, peer, 0x23), time(peer, host, 0x24)], (0, 1)),
        ("time given asks nothing", vec![time(host, peer, 0x24), time(peer, host, 0x24)], (1, 0)),
    ] {
        assert_eq!(count(&packets), expected, "{name}");
    }
}

/// Whoever forges both sources must not excuse one half of the flood with the other.
#[test]
fn between_protected_hosts_nothing_is_excused() {
    let hosts = [ip(HOST), ip("203.0.113.77")];
    let hosts6 = [ip("2001:db8::9"), ip("2001:db8:7::77")];
    type Make = fn([std::net::IpAddr; 2]) -> Vec<u8>;
    let cases: [(&str, Make, Make); 5] = [
        (
            "segments",
            |[from, to]| tcp((from, 443), (to, 40_000), ACK, 0),
            |[from, to]| tcp((from, 40_000), (to, 443), ACK, 1000),
        ),
        (
            "handshakes",
            |[from, to]| tcp((from, 443), (to, 40_000), SYN, 0),
            |[from, to]| tcp((from, 40_000), (to, 443), SYN | ACK, 0),
        ),
        (
            "datagrams",
            |[from, to]| udp((from, 40_000), (to, 53), &[0, 1, 1, 0], 40),
            |[from, to]| udp((from, 53), (to, 40_000), &[0, 1, 0x81, 0], 400),
        ),
        (
            "resets",
            |[from, to]| tcp((from, 443), (to, 40_000), SYN, 0),
            |[from, to]| tcp((from, 40_000), (to, 443), RST, 0),
        ),
        (
            "tunnels",
            |[from, to]| packet(from, to, 47, WHOLE, &[0; 40]),
            |[from, to]| packet(from, to, 47, WHOLE, &[0; 40]),
        ),
    ];
    for (name, ask, answer) in cases {
        for [left, right] in [hosts, hosts6] {
            let mut lab =
                Lab::new(config(&["203.0.113.0/24", "2001:db8::/32"], usual_thresholds()));
            for _ in 0..10 {
                lab.see(&ask([left, right]));
                lab.see(&answer([right, left]));
            }
            let summary = lab.tick();
            for target in &summary.targets {
                let unasked = target.unasked.get(Metric::Total).packets;
                assert_eq!((unasked, target.answers.packets), (10, 0), "{name}: {target:?}");
            }
            assert_eq!(summary.targets.len(), 2, "{name}");
        }
    }
    // Nor is a connection request, by a forged pair of SYN-ACK and acknowledgement.
    let [server, client] = hosts.map(|host| (host, 443));
    let mut lab = Lab::new(config(&["203.0.113.0/24"], usual_thresholds()));
    lab.see(&numbered(server, client, SYN | ACK, (6, 2), 0));
    lab.see(&numbered(client, server, ACK, (2, 7), 0));
    let summary = lab.tick();
    assert_eq!(target_of(&summary, HOST).connections.completed, 0);
}

#[test]
fn connections_are_told_from_forged_segments() {
    let (host, peer) = (ip(HOST), ip(PEER));
    let out = |flags| tcp((host, 40_000), (peer, 443), flags, 0);
    let back = |flags| tcp((peer, 443), (host, 40_000), flags, 1000);
    for (name, packets, expected) in [
        ("handshake", vec![out(SYN), back(SYN | ACK)], (0, 1)),
        ("refusal", vec![out(SYN), back(RST | ACK)], (0, 1)),
        ("handshake not asked for", vec![back(SYN | ACK), out(RST)], (1, 0)),
        ("resets do not excuse resets", vec![out(RST), back(RST)], (1, 0)),
        ("download", vec![out(ACK), back(ACK), back(ACK), back(ACK)], (0, 3)),
        ("forged segment", vec![back(ACK), out(RST), back(ACK), out(RST)], (2, 0)),
        ("connection request", vec![out(ACK), back(SYN)], (1, 0)),
        ("with other flags", vec![out(ACK), back(SYN | 0xc0)], (1, 0)),
        ("spoofed victim is refused", vec![out(SYN | ACK), back(RST)], (0, 1)),
    ] {
        assert_eq!(count(&packets), expected, "{name}");
    }
}

#[test]
fn icmp_is_excused_by_what_calls_for_it() {
    let (host, peer) = (ip(HOST), ip(PEER));
    let (host6, peer6) = (ip("2001:db8::9"), ip("2a00::7"));
    let sent = udp((host, 40_000), (peer, 33_434), b"", 10);
    let router = ip("192.0.2.254");
    for (name, packets, expected) in [
        ("ping", vec![icmp(host, peer, 8), icmp(peer, host, 0)], (0, 1)),
        ("ping6", vec![icmp(host6, peer6, 128), icmp(peer6, host6, 129)], (0, 1)),
        ("pinged", vec![icmp(peer, host, 8), icmp(host, peer, 0)], (1, 0)),
        ("reply to nothing", vec![icmp(peer, host, 0)], (1, 0)),
        ("unreachable, from a router", vec![sent, icmp(router, host, 3)], (0, 1)),
        ("unreachable, for nothing", vec![icmp(router, host, 3)], (1, 0)),
        ("errors call for no errors", vec![icmp(host, peer, 3), icmp(peer, host, 3)], (1, 0)),
    ] {
        assert_eq!(count(&packets), expected, "{name}");
    }
}

#[test]
fn fragments_follow_their_datagram() {
    let (host, peer) = (ip(HOST), ip(PEER));
    let query = udp((host, 40_000), (peer, 53), &[0, 1, 1, 0], 40);
    let whole = datagram(53, 40_000, &[0, 1, 0x81, 0], 2000);
    let first = packet(peer, host, 17, Piece { offset: 0, more: true }, &whole[..1480]);
    let later = packet(peer, host, 17, Piece { offset: 1480, more: false }, &whole[1480..]);
    assert_eq!(count(&[query, first.clone(), later.clone()]), (0, 2));
    assert_eq!(count(&[first, later]), (2, 0));
}

/// The classes that the meter names after enough of `packet` to look closely.
fn class_of(packet: &[u8]) -> Vec<TrafficClass> {
    let mut lab = Lab::everything();
    (0..100).for_each(|_| lab.see(packet));
    let summary = lab.tick();
    summary.targets[0].classes.iter().map(|class| class.class).collect()
}

#[test]
fn classes_of_packets() {
    let (from, to) = (ip(PEER), ip(HOST));
    let udp =
        |source, destination, payload: &[u8]| udp((from, source), (to, destination), payload, 100);
    let piece = |protocol, payload: usize, offset, more| {
        packet(from, to, protocol, Piece { offset, more }, &vec![0; payload])
    };
    for (name, packet, class) in [
        ("syn", tcp((from, 1), (to, 2), 0x02, 0), TrafficClass::Syn),
        ("syn with payload", tcp((from, 1), (to, 2), 0x02, 100), TrafficClass::Syn),
        ("syn, ece and cwr", tcp((from, 1), (to, 2), 0xc2, 0), TrafficClass::Syn),
        ("syn and rst", tcp((from, 1), (to, 2), 0x06, 0), TrafficClass::Syn),
        ("syn and ack", tcp((from, 1), (to, 2), 0x12, 0), TrafficClass::SynAck),
        ("rst", tcp((from, 1), (to, 2), 0x14, 0), TrafficClass::Rst),
        ("no flags", tcp((from, 1), (to, 2), 0x00, 0), TrafficClass::Tcp),
        ("udp", udp(1234, 80, b""), TrafficClass::Udp),
        ("to a reflector", udp(1234, 53, b""), TrafficClass::Udp),
        ("dns", udp(53, 80, b""), TrafficClass::Reflected(Reflector::Dns)),
        ("dns query", udp(53, 53, &[0, 1, 1, 0]), TrafficClass::Udp),
        ("ike", udp(4500, 80, &[0; 4]), TrafficClass::Reflected(Reflector::Ike)),
        ("esp in udp", udp(4500, 4500, &[1; 40]), TrafficClass::Udp),
        ("icmp", icmp(from, to, 8), TrafficClass::Icmp),
        ("icmp fragment", piece(1, 100, 1480, true), TrafficClass::Icmp),
        ("first udp fragment", piece(17, 1000, 0, true), TrafficClass::Udp),
        ("tiny first udp fragment", piece(17, 24, 0, true), TrafficClass::UdpFragment),
        ("later udp fragment", piece(17, 1000, 1480, true), TrafficClass::UdpFragment),
        ("tcp fragment", piece(6, 100, 1480, true), TrafficClass::Fragment),
        ("first fragment of 44", piece(44, 100, 0, true), TrafficClass::Fragment),
        ("gre", packet(from, to, 47, WHOLE, &[0; 40]), TrafficClass::Other),
        ("udp without ports", packet(from, to, 17, WHOLE, &[0; 2]), TrafficClass::Udp),
    ] {
        assert_eq!(class_of(&packet), [class], "{name}");
    }
}

#[test]
fn frames_are_accounted_for() {
    let mut lab = Lab::new(config(&["203.0.113.0/24"], usual_thresholds()));
    let (host, peer) = (ip(HOST), ip(PEER));
    lab.see(&udp((peer, 1), (host, 2), b"", 100));
    lab.see(&udp((peer, 1), (ip("203.0.114.9"), 2), b"", 100));
    lab.see(&[0x55; 60]);
    let mut damaged = udp((peer, 1), (host, 2), b"", 100);
    damaged[0] = 0x42;
    lab.see(&damaged);
    lab.meter.observe(LinkType::Ethernet, &[0; 60], 60);
    let summary = lab.tick();
    assert_eq!(summary.packets, 5);
    assert_eq!((summary.malformed, summary.not_ip, summary.unprotected), (2, 1, 1));
    let target = target_of(&summary, HOST);
    let total = target.unasked.get(Metric::Total);
    assert_eq!((total.packets, total.bytes), (2, 2 * 142));
    assert_eq!(target.unasked.get(Metric::Other).packets, 1);
    assert_eq!(summary.span(), TICK);
    // Nothing is counted twice.
    assert!(lab.tick().targets.is_empty());
}

#[test]
fn targets_are_sorted_and_both_families_are_kept_apart() {
    let mut lab = Lab::everything();
    for number in (0..50).rev() {
        lab.see(&udp((ip(PEER), 1), (source(number), 2), b"", 10));
        let six = format!("::ffff:198.51.100.{number}");
        lab.see(&udp((ip("2001:db8::1"), 1), (ip(&six), 2), b"", 10));
        lab.see(&udp((ip(PEER), 1), (ip(&format!("198.51.100.{number}")), 2), b"", 10));
    }
    let summary = lab.tick();
    assert!(summary.targets.len() >= 149);
    assert!(summary.targets.is_sorted_by_key(|target| target.address));
}

#[test]
fn random_sources_grow_nothing() {
    let mut config = config(&["0.0.0.0/0", "::/0"], usual_thresholds());
    config.judging = Judging { max_targets: 4096, ..Judging::default() };
    let mut meter = Meter::new(&config, 3);
    let mut now = Timestamp::from_nanos(1_000_000_000);
    let mut bytes = tcp((ip(PEER), 1), (ip(HOST), 80), SYN, 0);
    let mut victim = 0;
    // Far more sources than places: ten times as many would change nothing but the time.
    for number in 0..1_000_000_u32 {
        bytes[12..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        meter.observe(LinkType::RawIp, &bytes, 54);
        if number % 10_000 == 9_999 {
            now = now + TICK;
            let summary = meter.finish_tick(now);
            assert!(meter.targets() <= 4096);
            assert!(summary.targets.len() <= 4096);
            victim += target_of(&summary, HOST).unasked.get(Metric::TcpSyn).packets;
            assert!(number < 10_000 || summary.evicted[0] > 0);
        }
    }
    assert_eq!(victim, 1_000_000, "the flooded address never loses its place");
    for _ in 0..1000 {
        now = now + TICK;
        meter.finish_tick(now);
    }
    assert_eq!(meter.targets(), 0, "idle addresses are forgotten");
}

#[test]
fn a_new_policy_keeps_what_hosts_asked() {
    let mut lab = Lab::new(config(&["203.0.113.0/24", "192.0.2.0/24"], usual_thresholds()));
    let (host, peer) = (ip(HOST), ip(PEER));
    lab.see(&udp((host, 40_000), (peer, 53), &[0, 1, 1, 0], 40));
    lab.meter.handle_config(&config(&["203.0.113.0/25"], usual_thresholds()));
    lab.see(&udp((peer, 53), (host, 40_000), &[0, 1, 0x81, 0], 400));
    lab.see(&udp((peer, 53), (ip("192.0.2.1"), 40_000), &[0, 1, 0x81, 0], 400));
    let summary = lab.tick();
    assert_eq!(target_of(&summary, HOST).answers.packets, 1);
    assert_eq!((summary.targets.len(), summary.unprotected), (1, 1));
}

#[test]
fn the_same_packets_give_the_same_summaries() {
    let run = || {
        let mut lab = Lab::everything();
        let mut summaries = Vec::new();
        for number in 0..20_000 {
            lab.see(&udp((source(number), 53), (source(number % 300), 80), &[0, 1, 0x80], 300));
            if number % 500 == 499 {
                summaries.push(lab.tick());
            }
        }
        (summaries, lab.events)
    };
    assert_eq!(run(), run());
}

#[test]
fn sources_of_chosen_targets_are_counted() {
    let mut lab = Lab::everything();
    let flood = |n: u64| udp((source(n % 5000), 5000), (ip(HOST), 9), b"", 90);
    lab.run(20, 100, flood);
    assert_eq!(lab.meter.censuses().count(), 0);
    let target = tidegate_model::Prefix::host(ip(HOST));
    let (first, second) = (AttackId(1), AttackId(2));
    assert!(lab.meter.count_sources(&[(first, target)]).is_empty());
    lab.run(100, 100, flood);
    let counted = |lab: &Lab| {
        let census = lab.meter.censuses().next().unwrap();
        (census.distinct().sources(), census.counted().0)
    };
    assert_eq!(counted(&lab), (5000, 10_000));
    // A neighbour's sources are not its sources.
    lab.run(10, 10, |n| udp((source(n + 90_000), 5000), (ip("203.0.113.8"), 9), b"", 90));
    assert_eq!(counted(&lab).0, 5000);
    // What was taken is not counted again, and what comes then is.
    let taken = lab.meter.take_sources();
    assert_eq!((taken.len(), taken[0].0, taken[0].1.counted().0), (1, first, 10_000));
    assert!(lab.meter.take_sources().is_empty());
    lab.run(1, 100, flood);
    assert_eq!(counted(&lab), (100, 100));
    // An attack on the network around it, and then another on the host.
    let network = "203.0.113.0/24".parse().unwrap();
    let over = lab.meter.count_sources(&[(second, network)]);
    assert_eq!((over.len(), over[0].1.target()), (1, target));
    lab.run(1, 50, flood);
    lab.meter.count_sources(&[(second, network), (AttackId(3), target)]);
    lab.run(1, 30, flood);
    let mut counts: Vec<u64> = lab.meter.censuses().map(|census| census.counted().0).collect();
    counts.sort_unstable();
    assert_eq!(counts, [30, 50]);
    assert_eq!(lab.meter.count_sources(&[]).len(), 2);
    assert_eq!(lab.meter.censuses().count(), 0);
}

/// IP in IP from `from` to `to`.
fn in_tunnel(from: &str, to: &str, inner: &[u8]) -> Vec<u8> {
    packet(ip(from), ip(to), 4, WHOLE, inner)
}

#[test]
fn only_the_end_inside_a_tunnel_is_believed() {
    let protected = config(&["203.0.113.0/24"], usual_thresholds());
    let allowed = vec!["192.0.2.0/24".parse().unwrap()];
    let config = Config { allowed, ..protected };
    let mut lab = Lab::new(config.clone());
    lab.meter = Meter::new(&config, 7).opening(Tunnels::from_iter([Tunnel::IpInIp]));
    let (router, outside) = ("203.0.113.1", "198.51.100.1");
    let datagram = |from, to| udp((ip(from), 53), (ip(to), 40_000), &[0, 1, 0x81, 0], 400);
    let query = udp((ip(HOST), 40_000), (ip(PEER), 53), &[0, 1, 1, 0], 40);
    // For a protected address inside: counted there, and on nobody's list by what is inside.
    lab.see(&in_tunnel(outside, router, &datagram(PEER, HOST)));
    lab.see(&in_tunnel(outside, router, &datagram("192.0.2.7", HOST)));
    lab.see(&in_tunnel("192.0.2.7", router, &datagram(PEER, HOST)));
    // For none: traffic to the tunnel's end, whoever seems to send inside.
    lab.see(&in_tunnel(outside, router, &query));
    lab.see(&in_tunnel(outside, "198.51.100.2", &query));
    // What a forged question inside asked for was not asked for.
    lab.see(&datagram(PEER, HOST));
    let summary = lab.tick();
    let counts = |address| {
        let target = target_of(&summary, address);
        let unasked = target.unasked.get(Metric::Total).packets;
        (unasked, target.answers.packets, target.allowed.packets)
    };
    assert_eq!((counts(HOST), counts(router)), ((3, 0, 1), (1, 0, 0)));
    assert_eq!(summary.unprotected, 1);
}

/// One meter of several that loses packets says nothing of what the others were given.
#[test]
fn each_meter_makes_up_for_what_it_lost_itself() {
    let flood = |to| udp((ip(PEER), 1), (ip(to), 2), b"", 100);
    let [mut losing, mut other] =
        [0, 1].map(|_| Lab::new(config(&["203.0.113.0/24"], usual_thresholds())));
    let (client, server) = ((ip(PEER), 9), (ip(HOST), 443));
    losing.see(&numbered(server, client, SYN | ACK, (6, 2), 0));
    losing.see(&numbered(client, server, ACK, (2, 7), 0));
    (0..98).for_each(|_| losing.see(&flood(HOST)));
    (0..100).for_each(|_| other.see(&flood("203.0.113.10")));
    losing.lost = 100;
    let mut joined = losing.tick();
    joined.merge(other.tick());
    let total = |address| target_of(&joined, address).unasked.get(Metric::Total).packets;
    assert_eq!((total(HOST), total("203.0.113.10"), joined.lost), (196, 100, 100));
    // Of connections both packets must have been seen.
    let connections = target_of(&joined, HOST).connections;
    assert_eq!((connections.completed, connections.excused), (4, 4));
}

#[test]
fn a_transfer_excuses_its_own_acknowledgements_and_nothing_else() {
    let (host, peer, other) = ((ip(HOST), 443), (ip(PEER), 9), (ip("198.51.100.8"), 9));
    let segments = |peer, number: u64, length| {
        let segment = tcp(host, peer, ACK, length);
        (0..number).map(move |_| segment.clone())
    };
    let acks = |peer, flags| (0..1000).map(move |_| tcp(peer, host, flags, 0));
    let count = |packets: &mut dyn Iterator<Item = Vec<u8>>| count(&packets.collect::<Vec<_>>());
    // A thousand full segments, each acknowledged.
    let (unasked, _) = count(&mut segments(peer, 1000, 1460).chain(acks(peer, ACK)));
    assert_eq!(unasked, 0);
    // A hundred call for no thousand acknowledgements.
    let (unasked, _) = count(&mut segments(peer, 100, 1460).chain(acks(peer, ACK)));
    assert!(unasked >= 700, "{unasked}");
    // Another peer has no part in it, though it was sent something as well.
    let (unasked, _) =
        count(&mut segments(peer, 1000, 0).chain(segments(other, 1, 0)).chain(acks(other, ACK)));
    assert!(unasked >= 900, "{unasked}");
    // Resets come from peers too.
    for (peer, least, most) in [(peer, 0, 0), (other, 1000, 1000)] {
        let (unasked, _) = count(&mut segments((ip(PEER), 9), 1000, 0).chain(acks(peer, RST)));
        assert!((least..=most).contains(&unasked), "{unasked} of {peer:?}");
    }
}

#[test]
fn what_anyone_may_send_is_excused_a_few_times_a_second() {
    let (host, peer) = ((ip(HOST), 443), (ip(PEER), 9));
    let router = ip("192.0.2.254");
    let mut packets = Vec::new();
    for _ in 0..5000 {
        packets.push(tcp(host, peer, ACK, 0));
        packets.push(icmp(router, ip(HOST), 3));
        packets.push(tcp(host, peer, SYN | ACK, 0));
        packets.push(tcp((source(7), 9), host, RST, 0));
    }
    let (unasked, excused) = count(&packets);
    assert_eq!((unasked, excused), (10_000 - 2500, 2500));
}
