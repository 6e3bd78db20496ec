//! Samples of packets: what rules are made from.
//!
//! In each tick the meter picks a few packets of every target at random ([`Picked`]), the control
//! plane keeps those of late and those from before ([`Samples`]). What is kept while a target is
//! attacked is kept apart from what came before, so that a flood cannot push out the evidence of
//! what is normal.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;
use tidegate_model::{
    Attack, AttackSample, Metric, PacketRecord, PacketSample, Part, Prefix, Sender, Timestamp,
};

use crate::TICK;
use crate::packet::{Fragment, Packet, Upper};
use crate::summary::TargetTraffic;

/// Packets of one target that are picked in one tick: of those that it asked for, of those that it
/// did not, and of the latter while there are many.
const MOST_WELCOME: usize = 2;
const MOST_UNASKED: usize = 2;
const MOST_SUSPECT: usize = 16;
/// Hosts whose packets are kept. A further one takes the place of none: it has no sample until
/// another was quiet for [`FORGOTTEN`].
const MAX_HOSTS: usize = 4096;
/// Packets of a host from before an attack, and of late.
const MOST_BEFORE: usize = 160;
const MOST_DURING: usize = 512;
/// Once a host has so many packets from before, further ones are kept less often.
const FEW_BEFORE: usize = 96;
const BEFORE_INTERVAL: Duration = Duration::from_millis(200);
/// Packets of late are kept in full until there are [`MOST_DURING`], then so many of each tick.
const STEADY: usize = 3;
/// Unasked packets in one tick from which a host is suspect.
const SUSPECT: u64 = 4;
/// A host without traffic for this long is forgotten, and what a host got of late after the same
/// time without anything suspect.
const FORGOTTEN: Duration = Duration::from_secs(120);
const CALM: Duration = Duration::from_secs(15);
/// Most packets of the hosts of a network.
const MOST_OF_NETWORK: usize = 1024;

/// A generator of numbers that need not be secret (Marsaglia's xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    #[inline]
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half of a product of two numbers of 32 bits.
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// A few packets out of many, each with the same chance (Vitter 1985, algorithm R).
#[derive(Clone, Debug, Default)]
struct Reservoir {
    kept: Vec<PacketRecord>,
    seen: u32,
}

impl Reservoir {
    #[inline]
    fn offer(&mut self, most: usize, random: &mut Random, record: impl FnOnce() -> PacketRecord) {
        self.seen = self.seen.saturating_add(1);
        if self.kept.len() < most {
            self.kept.push(record());
        } else if let Some(place) = self.kept.get_mut(random.below(self.seen) as usize) {
            *place = record();
        }
    }

    fn hand_out(&mut self, to: &mut Vec<PacketRecord>) {
        let kept = u32::try_from(self.kept.len()).unwrap_or(u32::MAX).max(1);
        for record in self.kept.drain(..) {
            to.push(PacketRecord { weight: (self.seen / kept).max(1), ..record });
        }
        self.seen = 0;
    }
}

/// What was picked of one target's packets in one tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picked {
    unasked: Reservoir,
    welcome: Reservoir,
}

impl Picked {
    #[inline]
    pub(crate) fn offer(
        &mut self,
        packet: &Packet<'_>,
        sender: Sender,
        suspect: bool,
        random: &mut Random,
    ) {
        let (reservoir, most) = match (sender, suspect) {
            (Sender::Welcome, _) => (&mut self.welcome, MOST_WELCOME),
            (_, false) => (&mut self.unasked, MOST_UNASKED),
            (_, true) => (&mut self.unasked, MOST_SUSPECT),
        };
        reservoir.offer(most, random, || packet_record(packet, sender));
    }

    pub(crate) fn hand_out(&mut self) -> Vec<PacketRecord> {
        let mut records = Vec::with_capacity(self.unasked.kept.len() + self.welcome.kept.len());
        self.unasked.hand_out(&mut records);
        self.welcome.hand_out(&mut records);
        records
    }
}

/// What a FlowSpec rule can tell of `packet`.
#[must_use]
pub fn packet_record(packet: &Packet<'_>, sender: Sender) -> PacketRecord {
    let (ports, tcp_flags, icmp_type) = match packet.upper {
        Upper::Tcp { ports, flags, .. } => (Some(ports), Some(flags), None),
        Upper::Udp { ports, .. } => (Some(ports), None, None),
        Upper::Icmp { kind } | Upper::Icmpv6 { kind } => (None, None, Some(kind)),
        Upper::Headless(_) | Upper::Other(_) => (None, None, None),
    };
    PacketRecord {
        source: packet.source,
        protocol: packet.protocol,
        part: match packet.fragment {
            Fragment::Whole => Part::Whole,
            Fragment::First => Part::First,
            Fragment::Later => Part::Later,
        },
        ports: ports.map(|ports| (ports.source, ports.destination)),
        tcp_flags,
        icmp_type,
        length: packet.length,
        sender,
        weight: 1,
    }
}

type Timed = VecDeque<(Timestamp, PacketRecord)>;

#[derive(Debug, Default)]
struct Host {
    before: Timed,
    during: Timed,
    /// When the next packet is kept as one from before, and how many were not since the last.
    next_before: Timestamp,
    passed: u32,
    seen: Timestamp,
    suspect: Timestamp,
}

/// What came to each host, a few packets each.
#[derive(Debug)]
pub(crate) struct Samples {
    hosts: hashbrown::HashMap<IpAddr, Host, FixedState>,
    random: Random,
}

impl Samples {
    pub(crate) fn new() -> Self {
        // The order of hosts is never that of anything told.
        let hosts = hashbrown::HashMap::with_hasher(FixedState::default());
        Self { hosts, random: Random::new(0x9e37_79b9_7f4a_7c15) }
    }

    /// Takes in what was picked in a tick that ended at `end`.
    pub(crate) fn add(
        &mut self,
        end: Timestamp,
        targets: &[TargetTraffic],
        attacked: impl Fn(IpAddr) -> bool,
    ) {
        for traffic in targets.iter().filter(|traffic| !traffic.sampled.is_empty()) {
            if !self.hosts.contains_key(&traffic.address) && self.hosts.len() >= MAX_HOSTS {
                continue;
            }
            let host = self.hosts.entry(traffic.address).or_default();
            host.seen = end;
            let attacked = attacked(traffic.address);
            if attacked || traffic.unasked.get(Metric::Total).packets >= SUSPECT {
                host.suspect = end;
                host.keep_during(end, &traffic.sampled);
            }
            if !attacked {
                host.keep_before(end, &traffic.sampled, &mut self.random);
            }
        }
    }

    /// Forgets what has not been seen for long.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.hosts.retain(|_, host| {
            if now.since(host.suspect) > CALM {
                host.during = Timed::new();
            }
            now.since(host.seen) <= FORGOTTEN
        });
    }

    /// What is known of an attack's packets, and of those before it.
    pub(crate) fn of(&self, attack: &Attack) -> AttackSample {
        let hosts = self.hosts_in(attack.target);
        // The tick in which it began has packets of both.
        let (first, last) = (attack.onset, attack.onset - TICK * 2);
        let during = gather(&hosts, |host| &host.during, |time| time >= first);
        let before = gather(&hosts, |host| &host.before, |time| time <= last);
        AttackSample { during, before }
    }

    fn hosts_in(&self, target: Prefix) -> Vec<&Host> {
        if target.is_host() {
            return self.hosts.get(&target.address()).into_iter().collect();
        }
        let inside = self.hosts.iter().filter(|(address, _)| target.contains_address(**address));
        let mut inside: Vec<(&IpAddr, &Host)> = inside.collect();
        inside.sort_unstable_by_key(|(address, _)| **address);
        inside.into_iter().map(|(_, host)| host).collect()
    }
}

impl Host {
    fn keep_during(&mut self, end: Timestamp, sampled: &[PacketRecord]) {
        let unasked = || sampled.iter().filter(|record| record.sender != Sender::Welcome);
        let all = unasked().count();
        let most = if self.during.len() < MOST_DURING { all } else { all.min(STEADY) };
        let each = u32::try_from(all.div_ceil(most.max(1))).unwrap_or(u32::MAX);
        for record in unasked().take(most) {
            let weight = record.weight.saturating_mul(each);
            self.during.push_back((end, PacketRecord { weight, ..*record }));
        }
        while self.during.len() > MOST_DURING {
            self.during.pop_front();
        }
    }

    fn keep_before(&mut self, end: Timestamp, sampled: &[PacketRecord], random: &mut Random) {
        let weight = |records: &[PacketRecord]| {
            records.iter().fold(0_u32, |sum, record| sum.saturating_add(record.weight))
        };
        self.passed = self.passed.saturating_add(weight(sampled));
        if end < self.next_before {
            return;
        }
        // One of them, by how much each stands for.
        let mut place = random.below(weight(sampled).max(1));
        let chosen = sampled.iter().find(|record| {
            let own = place < record.weight;
            place = place.saturating_sub(record.weight);
            own
        });
        let Some(chosen) = chosen.or(sampled.last()) else { return };
        let weight = std::mem::take(&mut self.passed).max(1);
        self.before.push_back((end, PacketRecord { weight, ..*chosen }));
        let few = self.before.len() < FEW_BEFORE;
        self.next_before = if few { end } else { end + BEFORE_INTERVAL };
        while self.before.len() > MOST_BEFORE {
            self.before.pop_front();
        }
    }
}

/// The packets of `hosts` at the times that are wanted: of more than [`MOST_OF_NETWORK`] every n-th.
fn gather(
    hosts: &[&Host],
    of: impl Fn(&Host) -> &Timed,
    wanted: impl Fn(Timestamp) -> bool,
) -> PacketSample {
    let timed: Vec<(Timestamp, PacketRecord)> = hosts
        .iter()
        .flat_map(|host| of(host).iter().copied())
        .filter(|(time, _)| wanted(*time))
        .collect();
    let step = timed.len().div_ceil(MOST_OF_NETWORK).max(1);
    let scale = u32::try_from(step).unwrap_or(u32::MAX);
    let (first, last) = timed.iter().fold((Timestamp::MAX, Timestamp::ZERO), |span, (time, _)| {
        (span.0.min(*time), span.1.max(*time))
    });
    let records = timed.iter().step_by(step);
    PacketSample {
        records: records
            .map(|(_, record)| PacketRecord {
                weight: record.weight.saturating_mul(scale),
                ..*record
            })
            .collect(),
        seconds: (last.since(first) + TICK).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, sender: Sender, weight: u32) -> PacketRecord {
        PacketRecord {
            source: IpAddr::from([198, 51, 100, 1]),
            protocol,
            part: Part::Whole,
            ports: None,
            tcp_flags: None,
            icmp_type: None,
            length: 100,
            sender,
            weight,
        }
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(milliseconds)
    }

    #[test]
    fn every_packet_has_the_same_chance() {
        let mut random = Random::new(7);
        let mut counts = [0_u32; 100];
        for _ in 0..4000 {
            let mut reservoir = Reservoir::default();
            for number in 0..100_u8 {
                reservoir.offer(10, &mut random, || packet(number, Sender::Unasked, 1));
            }
            let mut out = Vec::new();
            reservoir.hand_out(&mut out);
            assert_eq!(out.len(), 10);
            for record in out {
                assert_eq!(record.weight, 10);
                counts[usize::from(record.protocol)] += 1;
            }
        }
        // 400 each; six times the deviation to either side.
        assert!(counts.iter().all(|count| (280..520).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_flood_does_not_push_out_what_came_before() {
        let mut host = Host::default();
        let mut random = Random::new(7);
        for tick in 0..1000 {
            host.keep_before(at(tick * 10), &[packet(6, Sender::Welcome, 3)], &mut random);
        }
        assert!(host.before.len() > FEW_BEFORE && host.before.len() <= MOST_BEFORE);
        let known: u32 = host.before.iter().map(|(_, record)| record.weight).sum();
        assert!(known > 1000 && known <= 3000, "{known}");
        // Attacked, nothing more is kept as from before.
        let before = host.before.clone();
        let flood = [packet(17, Sender::Unasked, 50); MOST_SUSPECT];
        for tick in 1000..3000 {
            host.keep_during(at(tick * 10), &flood);
        }
        assert_eq!(host.before, before);
        assert_eq!(host.during.len(), MOST_DURING);
        let (first, last) = (host.during.front().unwrap().0, host.during.back().unwrap().0);
        let seconds = (last.since(first) + TICK).as_secs_f64();
        let rate: f64 = host.during.iter().map(|(_, record)| f64::from(record.weight)).sum();
        let rate = rate / seconds;
        assert!((70_000.0..110_000.0).contains(&rate), "of 80,000 a second: {rate}");
    }
}
