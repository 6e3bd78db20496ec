//! Packets to targets, counted by the detector's own meter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_detector::{LinkType, Meter, TargetTraffic, TrafficSummary};
use tidegate_model::Timestamp;
use tidegate_policy::Policy;

/// A flood of UDP datagrams or of SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Udp,
    Syn,
}

/// A frame from a source and port that `number` decides.
fn frame(target: IpAddr, flood: Flood, number: u32) -> Vec<u8> {
    let (protocol, upper) = match flood {
        Flood::Udp => (17, datagram(number)),
        Flood::Syn => (6, syn(number)),
    };
    let length = u16::try_from(upper.len()).unwrap();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    match target {
        IpAddr::V4(target) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            frame.extend(Ipv4Addr::from(0xc633_6400 | (number & 0xff)).octets());
            frame.extend(target.octets());
        }
        IpAddr::V6(target) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            let source = 0x2001_0db8_ffff_0000_0000_0000_0000_0000 | u128::from(number);
            frame.extend(Ipv6Addr::from(source).octets());
            frame.extend(target.octets());
        }
    }
    frame.extend(upper);
    frame
}

fn port(number: u32) -> [u8; 2] {
    u16::try_from(20_000 + number % 40_000).unwrap().to_be_bytes()
}

fn datagram(number: u32) -> Vec<u8> {
    let mut datagram = port(number).to_vec();
    datagram.extend(port(number.wrapping_mul(7)));
    datagram.extend([0, 108, 0, 0]);
    datagram.resize(108, 0x5a);
    datagram
}

fn syn(number: u32) -> Vec<u8> {
    let mut segment = port(number).to_vec();
    segment.extend([0, 80]);
    segment.extend(number.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// What the meter lists for `packets` of `flood` to `target`.
pub(crate) fn listed(policy: &Policy, target: IpAddr, flood: Flood, packets: u32) -> TargetTraffic {
    listed_with_loss(policy, target, flood, (packets, 0))
}

/// The same where the capture lost others of them.
pub(crate) fn listed_with_loss(
    policy: &Policy,
    target: IpAddr,
    flood: Flood,
    (packets, lost): (u32, u32),
) -> TargetTraffic {
    let mut meter = Meter::new(&tidegate::pipeline::detector_config(policy), 1);
    for number in 0..packets {
        let frame = frame(target, flood, number);
        let length = u32::try_from(frame.len()).unwrap();
        meter.observe(LinkType::from_dlt(1).unwrap(), &frame, length);
    }
    meter.handle_lost(lost.into());
    let summary = meter.finish_tick(Timestamp::from_nanos(1_000_000_000));
    assert_eq!(summary.targets.len(), 1, "{target} is not protected");
    summary.targets.into_iter().next().unwrap()
}

/// A summary of `targets` between two times.
pub(crate) fn summary(
    start: Timestamp,
    end: Timestamp,
    mut targets: Vec<TargetTraffic>,
) -> TrafficSummary {
    targets.sort_by_key(|target| target.address);
    let total = |target: &TargetTraffic| target.unasked.get(tidegate_model::Metric::Total).packets;
    let packets = targets.iter().map(total).sum();
    TrafficSummary { start, end, targets, packets, ..TrafficSummary::default() }
}
