//! What the data plane tells the control plane each tick.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;
use tidegate_model::{Metric, PacketRecord, Timestamp};

use crate::class::TrafficClass;
use crate::form::{Form, first_label};
use crate::packet::{Fragment, Packet, Upper};
use crate::reflector;
use crate::sketch::{Frequent, LengthBands, SourceSketch, Variety, address_hash};

/// The traffic of one span of time, a tick of [`crate::TICK`] unless the driver lets it be longer.
///
/// Consecutive summaries of one meter touch: one starts where the last ended. A gap between two
/// is time in which nothing was watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficSummary {
    /// When the span began: the end of the span before.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Addresses with inbound traffic, sorted by address.
    pub targets: Vec<TargetTraffic>,
    /// Frames seen.
    pub packets: u64,
    /// Frames that no destination address could be read from, and packets whose headers
    /// contradict themselves; the latter are counted toward their destination as well.
    pub malformed: u64,
    /// Frames that carry no IP.
    pub not_ip: u64,
    /// Packets neither from nor to a protected address.
    pub unprotected: u64,
    /// Addresses that lost their place in the meter to others, by group.
    pub evicted: Vec<u64>,
    /// Frames that the kernel or the ring dropped. The counts of [`TrafficSummary::targets`] make up
    /// for them: see [`Meter::handle_lost`](crate::Meter::handle_lost).
    pub lost: u64,
    /// Nothing could be seen: the interface was down, the reader stalled. Filled in by the driver.
    pub blind: bool,
    /// Since when the latest of several interfaces to be given up has carried nothing, if one is:
    /// what was seen through it before may go on unseen. Filled in by the driver.
    pub dark_since: Option<Timestamp>,
}

impl TrafficSummary {
    /// Length of the span.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.end.since(self.start)
    }
}

/// Packets and bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes on the wire.
    pub bytes: u64,
}

impl Count {
    #[inline]
    pub(crate) fn add_packet(&mut self, bytes: u64) {
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(crate) fn minus(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    pub(crate) fn halve(&mut self) {
        self.packets /= 2;
        self.bytes /= 2;
    }

    /// This many times as much.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive count, rounded; what does not fit saturates"
    )]
    pub(crate) fn scaled(self, times: f64) -> Self {
        let scale = |number: u64| (number as f64 * times).round() as u64;
        Self { packets: scale(self.packets), bytes: scale(self.bytes) }
    }
}

/// A count for each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricCounts([Count; Metric::ALL.len()]);

impl MetricCounts {
    /// The count of `metric`.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Count {
        self.0.get(metric as usize).copied().unwrap_or_default()
    }

    /// Counts one packet of `class` under every metric that judges it.
    #[inline]
    pub(crate) fn add_packet(&mut self, class: TrafficClass, fragment: Fragment, bytes: u64) {
        let own = class.metric();
        let [total, ..] = &mut self.0;
        total.add_packet(bytes);
        if let Some(count) = self.0.get_mut(own as usize) {
            count.add_packet(bytes);
        }
        if fragment != Fragment::Whole
            && own != Metric::Fragment
            && let Some(count) = self.0.get_mut(Metric::Fragment as usize)
        {
            count.add_packet(bytes);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            mine.add(theirs);
        }
    }

    /// The same as if it had come so many times.
    #[must_use]
    pub fn times(&self, number: u64) -> Self {
        Self(self.0.map(|count| Count {
            packets: count.packets.saturating_mul(number),
            bytes: count.bytes.saturating_mul(number),
        }))
    }

    /// Takes the larger of both counts of every metric.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            mine.packets = mine.packets.max(theirs.packets);
            mine.bytes = mine.bytes.max(theirs.bytes);
        }
    }

    /// Sets the count of `metric`.
    pub(crate) fn set(&mut self, metric: Metric, count: Count) {
        if let Some(slot) = self.0.get_mut(metric as usize) {
            *slot = count;
        }
    }

    /// This many times every count.
    pub(crate) fn scaled(&self, times: f64) -> Self {
        Self(self.0.map(|count| count.scaled(times)))
    }

    /// Without `syns` connection requests.
    pub(crate) fn without_syns(mut self, syns: u64) -> Self {
        let of = self.get(Metric::TcpSyn);
        let syns = syns.min(of.packets);
        let excused = Count {
            packets: syns,
            bytes: of.bytes.checked_div(of.packets).unwrap_or(0).saturating_mul(syns),
        };
        for metric in [Metric::Total, Metric::TcpSyn] {
            self.set(metric, self.get(metric).minus(excused));
        }
        self
    }

    pub(crate) fn halve(&mut self) {
        self.0.iter_mut().for_each(Count::halve);
    }
}

/// Connections that one that was seen stands for at most: three quarters of all packets lost. By
/// what is lost beyond that, crowds look like floods.
const MOST_UNSEEN: f64 = 16.0;

/// Connections that peers opened and the target accepted, each proved by the peer's acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// All of them.
    pub completed: u64,
    /// Those by peers that do not open them without end: their SYNs are no flood.
    pub excused: u64,
}

impl Connections {
    pub(crate) fn add(&mut self, other: Self) {
        self.completed = self.completed.saturating_add(other.completed);
        self.excused = self.excused.saturating_add(other.excused);
    }

    /// As many as there were where so many times as many packets came as were seen. A connection is
    /// known by two packets, both of which must have been seen; few of them say no more than
    /// [`MOST_UNSEEN`] times as many.
    fn scale(&mut self, times: f64) {
        let scale = |number: u64| {
            Count { packets: number, bytes: 0 }.scaled((times * times).min(MOST_UNSEEN)).packets
        };
        (self.completed, self.excused) = (scale(self.completed), scale(self.excused));
    }

    pub(crate) fn halve(&mut self) {
        self.completed /= 2;
        self.excused /= 2;
    }
}

/// Traffic toward one protected address.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTraffic {
    /// The address.
    pub address: IpAddr,
    /// What came without being asked for.
    pub unasked: MetricCounts,
    /// What the address asked for.
    pub answers: Count,
    /// What came from peers that are [allowed](crate::Config::allowed).
    pub allowed: Count,
    /// Connections to it that were completed.
    pub connections: Connections,
    /// What the unasked packets look like, sorted by class. Empty while there are few; the meter
    /// begins to look closely after the first packets.
    pub classes: Vec<ClassTraffic>,
    /// Some of its packets, picked at random: a bounded number, whatever came.
    pub sampled: Vec<PacketRecord>,
}

impl TargetTraffic {
    /// Nothing to `address`.
    pub(crate) fn new(address: IpAddr) -> Self {
        Self {
            address,
            unasked: MetricCounts::default(),
            answers: Count::default(),
            allowed: Count::default(),
            connections: Connections::default(),
            classes: Vec::new(),
            sampled: Vec::new(),
        }
    }

    /// As if so many times as much had come.
    pub(crate) fn scale(&mut self, times: f64) {
        self.unasked = self.unasked.scaled(times);
        self.answers = self.answers.scaled(times);
        self.allowed = self.allowed.scaled(times);
        self.connections.scale(times);
    }

    /// Adds the counts of `other`.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        self.unasked.add(&other.unasked);
        self.answers.add(other.answers);
        self.allowed.add(other.allowed);
        self.connections.add(other.connections);
    }

    /// Adds what the packets of `other` look like.
    pub(crate) fn add_classes(&mut self, other: &Self) {
        for class in &other.classes {
            match self.classes.binary_search_by_key(&class.class, |mine| mine.class) {
                Ok(index) => {
                    if let Some(mine) = self.classes.get_mut(index) {
                        mine.merge(class);
                    }
                }
                Err(index) => self.classes.insert(index, class.clone()),
            }
        }
    }
}

/// What the packets of one class look like.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassTraffic {
    /// Which class.
    pub class: TrafficClass,
    /// How many.
    pub count: Count,
    /// Those that are fragments, first ones included.
    pub fragments: u64,
    /// Those that carry ports.
    pub with_ports: u64,
    /// Those with enough payload to tell whether it is what the port's service would answer.
    pub checked: u64,
    /// Those of them for which it is.
    pub fitting: u64,
    /// Those of each [`Form`], in the order of [`Form::ALL`].
    pub forms: [u64; Form::ALL.len()],
    /// Those that name their destination as their source.
    pub to_self: u64,
    /// For each bit of the TCP flag octet, packets that have it set.
    pub flags: [u32; 8],
    /// Protocol numbers.
    pub protocols: Frequent<4>,
    /// ICMP types.
    pub icmp_types: Frequent<4>,
    /// Source ports.
    pub source_ports: Frequent<16>,
    /// Destination ports.
    pub destination_ports: Frequent<16>,
    /// IP packet lengths.
    pub lengths: LengthBands,
    /// Sum of the IP packet lengths.
    pub length_sum: u64,
    /// Distinct sources.
    pub sources: SourceSketch,
    /// The first labels of the names that DNS queries ask for; `None` without queries.
    pub labels: Option<Box<Variety>>,
}

impl ClassTraffic {
    /// No packets of `class`.
    #[must_use]
    pub fn new(class: TrafficClass) -> Self {
        Self {
            class,
            count: Count::default(),
            fragments: 0,
            with_ports: 0,
            checked: 0,
            fitting: 0,
            forms: [0; Form::ALL.len()],
            to_self: 0,
            flags: [0; 8],
            protocols: Frequent::default(),
            icmp_types: Frequent::default(),
            source_ports: Frequent::default(),
            destination_ports: Frequent::default(),
            lengths: LengthBands::default(),
            length_sum: 0,
            sources: SourceSketch::default(),
            labels: None,
        }
    }

    /// Counts `packet`, `bytes` long on the wire.
    #[inline]
    pub(crate) fn add_packet(&mut self, packet: &Packet<'_>, bytes: u64, hasher: &FixedState) {
        self.count.add_packet(bytes);
        self.fragments += u64::from(packet.fragment != Fragment::Whole);
        self.protocols.insert(u16::from(packet.protocol));
        self.lengths.insert(packet.length);
        self.length_sum += u64::from(packet.length);
        self.sources.insert(address_hash(hasher, packet.source));
        self.to_self += u64::from(packet.source == packet.destination);
        let ports = match packet.upper {
            Upper::Tcp { ports, flags, .. } => {
                for (bit, count) in self.flags.iter_mut().enumerate() {
                    *count += u32::from(flags >> bit & 1);
                }
                ports
            }
            Upper::Udp { ports, payload } => {
                if let TrafficClass::Reflected(reflector) = self.class
                    && let Some(row) = reflector::of(reflector)
                    && let Some(fits) = (row.is_answer)(payload)
                {
                    self.checked += 1;
                    self.fitting += u64::from(fits);
                } else if let Some(form) = Form::of(ports, payload)
                    && let Some(count) = self.forms.get_mut(form as usize)
                {
                    *count += 1;
                    if let (Form::DnsQuery, Some(label)) = (form, first_label(payload)) {
                        self.labels.get_or_insert_default().insert(hasher.hash_one(label));
                    }
                }
                ports
            }
            Upper::Icmp { kind } | Upper::Icmpv6 { kind } => {
                self.icmp_types.insert(u16::from(kind));
                return;
            }
            Upper::Headless(_) | Upper::Other(_) => return,
        };
        self.with_ports += 1;
        self.source_ports.insert(ports.source);
        self.destination_ports.insert(ports.destination);
    }

    /// Adds the packets of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count.add(other.count);
        self.fragments += other.fragments;
        self.with_ports += other.with_ports;
        self.checked += other.checked;
        self.fitting += other.fitting;
        self.to_self += other.to_self;
        for (mine, theirs) in self.forms.iter_mut().zip(other.forms) {
            *mine += theirs;
        }
        for (mine, theirs) in self.flags.iter_mut().zip(other.flags) {
            *mine = mine.saturating_add(theirs);
        }
        self.protocols.merge(&other.protocols);
        self.icmp_types.merge(&other.icmp_types);
        self.source_ports.merge(&other.source_ports);
        self.destination_ports.merge(&other.destination_ports);
        self.lengths.merge(&other.lengths);
        self.length_sum = self.length_sum.saturating_add(other.length_sum);
        self.sources.merge(&other.sources);
        if let Some(theirs) = &other.labels {
            self.labels.get_or_insert_default().merge(theirs);
        }
    }

    /// Forgets half of the past; the sources are kept.
    pub(crate) fn halve(&mut self) {
        self.count.halve();
        for number in
            [&mut self.fragments, &mut self.with_ports, &mut self.checked, &mut self.fitting]
        {
            *number /= 2;
        }
        self.to_self /= 2;
        self.forms.iter_mut().for_each(|number| *number /= 2);
        self.flags.iter_mut().for_each(|count| *count /= 2);
        self.protocols.halve();
        self.icmp_types.halve();
        self.source_ports.halve();
        self.destination_ports.halve();
        self.lengths.halve();
        self.length_sum /= 2;
        if let Some(labels) = &mut self.labels {
            labels.age();
        }
    }

    /// Mean IP packet length in bytes; zero of no packets.
    #[must_use]
    pub fn mean_length(&self) -> u64 {
        self.length_sum.checked_div(self.count.packets).unwrap_or(0)
    }
}
