//! The record of a session's messages, read back by a parser that is not ours.

use std::net::IpAddr;
use std::time::Duration;

use bgpkit_parser::BgpkitParser;
use bgpkit_parser::models::{Bgp4MpEnum, Bgp4MpType, BgpMessage, MrtMessage, MrtRecord};
use tidegate_bgpd::session::{ConnectMode, Dump, Flow, MrtEnds, SessionOptions};
use tidegate_model::CommandId;

use crate::bench::{Bench, KEEPALIVE, NOTIFICATION, capabilities, message, open};
use crate::support::{blackhole, ntp_filter};
use crate::world::{World, address, config};

/// 2023-11-14, 22:13:20.25.
const ZERO: Duration = Duration::from_millis(1_700_000_000_250);

fn ends() -> MrtEnds {
    MrtEnds { peer_as: 65010, local_as: 65010, peer_address: address(1) }
}

fn records(dump: &Dump, ends: MrtEnds) -> Vec<MrtRecord> {
    let file = dump.to_mrt(ends, ZERO);
    let records: Vec<MrtRecord> = BgpkitParser::from_reader(&file[..]).into_record_iter().collect();
    assert_eq!(records.len(), dump.messages.len());
    records
}

fn message_of(record: &MrtRecord) -> (Bgp4MpType, &BgpMessage) {
    match &record.message {
        MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(message)) => {
            (message.msg_type, &message.bgp_message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_session_is_read_back() {
    let mut world = World::new(1, [ConnectMode::Active, ConnectMode::Passive]);
    world.ends[0].session.start_dump(1 << 20);
    for (command, route) in
        [blackhole("203.0.113.7"), ntp_filter("2001:db8:1::8")].into_iter().enumerate()
    {
        world.ends[0].session.handle_announce(CommandId(command as u64), route);
    }
    world.run(Duration::from_secs(10), |world| world.ends[1].table.len() == 2);
    world.run(Duration::from_secs(5), |_| false);
    let now = world.now;
    world.ends[0].session.handle_stop(now, "bye");
    world.pump(0);
    let dump = world.ends[0].session.stop_dump().unwrap();
    assert_eq!(dump.lost, 0);
    let sent: Vec<&Vec<u8>> = world.ends[0].sent.iter().map(|(_, message)| message).collect();
    let ours = dump.messages.iter().filter(|message| message.flow == Flow::Sent);
    let ours: Vec<&Vec<u8>> = ours.map(|message| &message.octets).collect();
    // The last words are the driver's to write.
    assert_eq!(ours[..ours.len() - 1], sent);
    let records = records(&dump, ends());
    for (record, message) in records.iter().zip(&dump.messages) {
        let (kind, parsed) = message_of(record);
        let expected = match message.flow {
            Flow::Sent => Bgp4MpType::MessageAs4Local,
            Flow::Received => Bgp4MpType::MessageAs4,
        };
        assert_eq!(kind, expected);
        let number = match parsed {
            BgpMessage::Open(_) => 1,
            BgpMessage::Update(_) => 2,
            BgpMessage::Notification(_) => 3,
            BgpMessage::KeepAlive => 4,
            BgpMessage::RouteRefresh(_) => 5,
        };
        assert_eq!(number, message.octets[18]);
        let at = ZERO + message.at.since(tidegate_model::Timestamp::ZERO);
        let header = &record.common_header;
        assert_eq!(u64::from(header.timestamp), at.as_secs());
        assert_eq!(header.microsecond_timestamp, Some(at.subsec_micros()));
        let MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(entry)) = &record.message else { panic!() };
        assert_eq!((entry.peer_ip, entry.local_ip), (address(1), address(0)));
        assert_eq!((entry.peer_asn.to_u32(), entry.local_asn.to_u32()), (65010, 65010));
    }
    // First and last words.
    assert!(matches!(message_of(&records[0]).1, BgpMessage::Open(_)));
    assert!(matches!(message_of(records.last().unwrap()).1, BgpMessage::Notification(_)));
    let elements: Vec<_> =
        BgpkitParser::from_reader(&dump.to_mrt(ends(), ZERO)[..]).into_elem_iter().collect();
    assert!(elements.iter().any(|elem| elem.prefix.prefix.to_string() == "203.0.113.7/32"));
}

#[test]
fn the_newest_messages_are_kept() {
    let mut bench = Bench::with(config(0, ConnectMode::Passive, 1));
    bench.session.start_dump(1000);
    bench.give(&open(65010, &capabilities(65010)));
    bench.give(&message(KEEPALIVE, &[]).repeat(100));
    let dump = bench.session.take_dump().unwrap();
    // 19 octets and what a record takes besides.
    assert_eq!((dump.messages.len(), dump.lost), (12, 89));
    assert!(dump.messages.iter().all(|message| message.octets.len() == 19));
    assert_eq!(bench.session.take_dump(), Some(Dump::default()), "it was taken");
    // A smaller bound holds for what is there too, and what is larger than all of it is not kept.
    bench.give(&message(KEEPALIVE, &[]).repeat(10));
    bench.session.start_dump(200);
    let dump = bench.session.stop_dump().unwrap();
    assert_eq!((dump.messages.len(), dump.lost), (2, 8));
    bench.give(&message(KEEPALIVE, &[]));
    assert_eq!(bench.session.take_dump(), None, "it is off");
}

/// What cannot be decoded is what people want to see.
#[test]
fn malformed_messages_are_recorded() {
    let mut bench = Bench::with(config(0, ConnectMode::Passive, 1));
    bench.session.start_dump(1 << 20);
    let broken = open(65010, &[65, 0, 1, 4, 0, 1, 0, 1]);
    bench.give(&broken);
    let dump = bench.session.take_dump().unwrap();
    let [received, sent] = &dump.messages[..] else { panic!("{dump:?}") };
    assert_eq!((received.flow, &received.octets), (Flow::Received, &broken));
    assert_eq!((sent.flow, sent.octets[18]), (Flow::Sent, NOTIFICATION));
}

/// A session with AS numbers of two octets, and one over IPv6.
#[test]
fn other_sessions_have_other_entries() {
    let options = SessionOptions { four_octet_as: false, ..SessionOptions::default() };
    let mut bench = Bench::with(tidegate_bgpd::session::SessionConfig {
        options,
        ..config(0, ConnectMode::Passive, 1)
    });
    bench.session.start_dump(1 << 20);
    bench.give(&open(65010, &capabilities(65010)));
    bench.drain();
    let dump = bench.session.stop_dump().unwrap();
    let kinds: Vec<Bgp4MpType> =
        records(&dump, ends()).iter().map(|record| message_of(record).0).collect();
    assert_eq!(kinds[0], Bgp4MpType::Message);
    assert!(kinds[1..].iter().all(|kind| *kind == Bgp4MpType::MessageLocal));
    let mut messages = dump.messages;
    for message in &mut messages {
        message.local_address = "2001:db8::1".parse().unwrap();
    }
    let peer_address: IpAddr = "2001:db8::2".parse().unwrap();
    let six = records(&Dump { messages, lost: 0 }, MrtEnds { peer_address, ..ends() });
    let MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(entry)) = &six[0].message else { panic!() };
    assert_eq!(entry.peer_ip, peer_address);
}
