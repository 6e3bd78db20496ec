//! The data plane: packets to summaries.
//!
//! One lookup of the group and one of the place in the table for each protected end of a packet,
//! then counters. Knows which addresses are protected and nothing of thresholds.
//!
//! Bounds and what happens at them:
//! - [`Judging::max_targets`](crate::Judging) addresses: a new one takes the place of the quietest
//!   of [`SAMPLE`] that are looked at, counted in [`TrafficSummary::evicted`]. An address that is
//!   being flooded is never the quietest.
//! - [`MAX_DETAILED`] addresses are looked at closely in one tick: the rest are only counted.
//! - [`MAX_LISTED`] addresses are listed in one tick however few packets they got. If there are
//!   more, those below [`LISTING_FLOOR`] keep their packets until they reach it.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use foldhash::quality::FixedState;
use tidegate_model::{AttackId, Prefix, Sender, Timestamp};

use crate::TICK;
use crate::census::{Census, Censuses, Chosen, MEMORY, NO_CENSUS};
use crate::class::TrafficClass;
use crate::config::Config;
use crate::credit::{Call, Credits, Proof, asked_peers};
use crate::filter::{Owed, Recent};
use crate::handshake::{Completed, Handshakes};
use crate::loss::Loss;
use crate::packet::{LinkType, Packet, Tunnels, Unreadable, Upper, flag, parse, parse_inner};
use crate::sampling::{Picked, Random};
use crate::sketch::address_hash;
use crate::space::{GroupIndex, Space};
use crate::summary::{
    ClassTraffic, Connections, Count, MetricCounts, TargetTraffic, TrafficSummary,
};

/// Addresses that are compared when a place must be made free.
const SAMPLE: usize = 8;
/// Addresses whose packets are looked at closely in one tick.
const MAX_DETAILED: usize = 1024;
/// Addresses that are listed in one tick however few packets they got.
const MAX_LISTED: usize = 1024;
/// Beyond [`MAX_LISTED`], packets from which an address is listed.
const LISTING_FLOOR: u64 = 4;
/// Unasked packets of late from which an address's packets are looked at closely.
const DETAIL_FLOOR: u32 = 32;
/// Unasked packets of late to a group that is judged as a whole, from which on all its addresses
/// are looked at closely.
const TOGETHER_FLOOR: u32 = 256;
/// How often activity and credit are halved.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Sweeps without traffic after which an address is forgotten.
const IDLE_SWEEPS: u8 = 5;

/// Counts packets per protected address.
pub struct Meter {
    space: Space,
    tunnels: Tunnels,
    hasher: FixedState,
    table: Table,
    asked: Recent,
    owed: Owed,
    handshakes: Handshakes,
    random: Random,
    censuses: Censuses,
    /// Peers whose traffic is not judged; `None` if there are none.
    allowed: Option<Space>,
    summary: TrafficSummary,
    /// Frames of this tick that the capture lost, and what it lost of late.
    lost: u64,
    loss: Loss,
    /// Places with inbound traffic that is not listed yet.
    pending: Vec<u32>,
    detailed: usize,
    /// Unasked packets of late to each group, halved every second; `None` if it is not judged as a
    /// whole.
    together: Vec<Option<u32>>,
    together_due: Duration,
    /// Where the sweep goes on, and how much of a sweep is due.
    sweep_cursor: usize,
    sweep_due: Duration,
    started: bool,
}

impl Meter {
    /// A meter for the addresses of `config`. `seed` keys the hash tables.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            space: Space::new(config),
            tunnels: Tunnels::NONE,
            table: Table::new(config.judging.max_targets, &hasher, seed),
            hasher,
            asked: asked_peers(),
            owed: Owed::new(),
            handshakes: Handshakes::new(),
            random: Random::new(seed),
            censuses: Censuses::new(MEMORY, seed),
            allowed: Space::of_prefixes(&config.allowed),
            summary: TrafficSummary {
                evicted: vec![0; config.groups.len()],
                ..TrafficSummary::default()
            },
            lost: 0,
            loss: Loss::default(),
            pending: Vec::new(),
            detailed: 0,
            together: judged_together(config),
            together_due: Duration::ZERO,
            sweep_cursor: 0,
            sweep_due: Duration::ZERO,
            started: false,
        }
    }

    /// Counts what comes through `tunnels` at the protected addresses that it is for inside. A tunnel
    /// packet that is for none is traffic to the tunnel's end, as without this: a flood of tunnel
    /// packets with noise in them stays a flood. Allowed is who sends the tunnel packet.
    #[must_use]
    pub fn opening(mut self, tunnels: Tunnels) -> Self {
        self.tunnels = tunnels;
        self
    }

    /// Keeps the sources of attacks within so many octets instead of [`MEMORY`].
    #[must_use]
    pub fn counting_within(mut self, octets: usize) -> Self {
        self.censuses.keep_within(octets);
        self
    }

    /// Protects the addresses of `config` from now on. What is known of addresses that were
    /// protected before and still are is kept, so that answers to what they asked stay answers.
    pub fn handle_config(&mut self, config: &Config) {
        self.space = Space::new(config);
        self.allowed = Space::of_prefixes(&config.allowed);
        self.together = judged_together(config);
        self.summary.evicted = vec![0; config.groups.len()];
        self.table.max = bounded(config.judging.max_targets).max(self.table.slots.len());
    }

    /// Counts one frame. `wire_length` is its length before it was cut for the capture, in bytes.
    /// Returns the place in the table of the protected address that it is for, if it is for one.
    #[inline]
    pub fn observe(&mut self, link: LinkType, frame: &[u8], wire_length: u32) -> Option<u32> {
        self.summary.packets += 1;
        match parse(link, frame, wire_length) {
            Ok(packet) => {
                let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                let bytes = u64::from(wire_length.max(captured));
                if !self.tunnels.is_empty() && matches!(packet.upper, Upper::Other(_)) {
                    let inner = parse_inner(link, frame, wire_length, self.tunnels);
                    let group = |inner: &Packet<'_>| self.space.group_of(inner.destination);
                    if let Some((inner, group)) = inner.and_then(|it| Some((it, group(&it)?))) {
                        return Some(self.count_inside(&inner, packet.source, group, bytes));
                    }
                }
                self.count(&packet, bytes)
            }
            Err(Unreadable::NotIp) => {
                self.summary.not_ip += 1;
                None
            }
            Err(Unreadable::Malformed) => {
                self.summary.malformed += 1;
                None
            }
        }
    }

    /// Counts what is inside a tunnel packet from `sender` at the protected address it is for. Who
    /// sends is only known of the tunnel: the source inside proves nothing, asks for nothing and is
    /// on no list.
    fn count_inside(
        &mut self,
        inner: &Packet<'_>,
        sender: IpAddr,
        group: GroupIndex,
        bytes: u64,
    ) -> u32 {
        self.summary.malformed += u64::from(inner.damaged);
        self.count_inbound(inner, sender, TrafficClass::of(inner), group, bytes)
    }

    #[inline]
    fn count(&mut self, packet: &Packet<'_>, bytes: u64) -> Option<u32> {
        self.summary.malformed += u64::from(packet.damaged);
        let toward = self.space.group_of(packet.destination);
        // Between two protected hosts the source proves nothing: what is forged in the name of one
        // must not excuse what comes to it.
        let inward = toward.is_some() && self.space.has_outside(packet.destination);
        let from = if inward { None } else { self.space.group_of(packet.source) };
        if toward.is_none() && from.is_none() {
            self.summary.unprotected += 1;
            return None;
        }
        let class = TrafficClass::of(packet);
        if let Some(group) = from {
            self.count_outbound(packet, class, group);
        }
        Some(self.count_inbound(packet, packet.source, class, toward?, bytes))
    }

    /// A protected host sends: note what it asks for.
    fn count_outbound(&mut self, packet: &Packet<'_>, class: TrafficClass, group: GroupIndex) {
        let index = self.place_of(packet.source, group);
        let Some(slot) = self.table.slots.get_mut(index as usize) else { return };
        slot.touch();
        if let (TrafficClass::SynAck, Upper::Tcp { sequence, .. }) = (class, packet.upper) {
            let hash = handshake_hash(&self.hasher, packet, sequence.wrapping_add(1), Way::Out);
            self.handshakes.offer(hash);
        }
        match slot.credits.grant(packet, class) {
            Call::Nothing => {}
            Call::Answer => {
                // Anyone may answer what was asked of everyone.
                let everyone = match packet.destination {
                    IpAddr::V4(peer) => peer.is_multicast() || peer.is_broadcast(),
                    IpAddr::V6(peer) => peer.is_multicast(),
                };
                let peer = if everyone { anyone(packet.destination) } else { packet.destination };
                self.asked.insert(pair_hash(&self.hasher, packet.source, peer));
            }
            Call::Packets(number) => {
                let pair = pair_hash(&self.hasher, packet.source, packet.destination);
                // Its handshake, and later fragments.
                self.asked.insert(pair);
                self.owed.add(pair, number);
            }
        }
    }

    /// A protected host is sent something. Returns its place.
    #[inline]
    fn count_inbound(
        &mut self,
        packet: &Packet<'_>,
        sender: IpAddr,
        class: TrafficClass,
        group: GroupIndex,
        bytes: u64,
    ) -> u32 {
        let index = self.place_of(packet.destination, group);
        self.count_at(index, packet, sender, class, group, bytes);
        index
    }

    #[inline]
    fn count_at(
        &mut self,
        index: u32,
        packet: &Packet<'_>,
        sender: IpAddr,
        class: TrafficClass,
        group: GroupIndex,
        bytes: u64,
    ) {
        let Some(slot) = self.table.slots.get_mut(index as usize) else { return };
        slot.touch();
        if !slot.pending {
            slot.pending = true;
            self.pending.push(index);
        }
        if let Some(allowed) = &self.allowed
            && allowed.group_of(sender).is_some()
        {
            slot.allowed.add_packet(bytes);
            slot.picked.offer(packet, Sender::Welcome, false, &mut self.random);
            return;
        }
        let mut standing = Sender::Unasked;
        if let Some((pair, completed)) = completed(&mut self.handshakes, &self.hasher, packet) {
            slot.connections.completed += 1;
            standing = Sender::Completing;
            slot.connections.excused += u64::from(completed == Completed::Excused);
            self.owed.add(pair, slot.credits.grant_connection());
            self.asked.insert(pair);
        }
        let (hasher, asked, owed) = (&self.hasher, &self.asked, &mut self.owed);
        let holds = |proof| {
            let (host, peer) = (packet.destination, packet.source);
            let pair = pair_hash(hasher, host, peer);
            match proof {
                Proof::None => true,
                Proof::Asked => {
                    asked.contains(pair) || asked.contains(pair_hash(hasher, host, anyone(peer)))
                }
                Proof::Owed => owed.take(pair),
            }
        };
        if slot.credits.take(packet, class, holds) {
            slot.answers.add_packet(bytes);
            let answered = if standing == Sender::Unasked { Sender::Welcome } else { standing };
            slot.picked.offer(packet, answered, false, &mut self.random);
            return;
        }
        if slot.census != NO_CENSUS {
            self.censuses.add(slot.census, packet, bytes, &self.hasher);
        }
        slot.unasked.add_packet(class, packet.fragment, bytes);
        slot.unasked_lately = slot.unasked_lately.saturating_add(1);
        let suspect = slot.unasked_lately >= DETAIL_FLOOR;
        slot.picked.offer(packet, standing, suspect, &mut self.random);
        let together = are_many_together(&mut self.together, group);
        if slot.unasked_lately < DETAIL_FLOOR && !together {
            return;
        }
        if slot.classes.is_empty() {
            if self.detailed >= MAX_DETAILED {
                return;
            }
            self.detailed += 1;
        }
        slot.class_mut(class).add_packet(packet, bytes, &self.hasher);
    }

    /// The place of `address` in the table, made free if need be.
    #[inline]
    fn place_of(&mut self, address: IpAddr, group: GroupIndex) -> u32 {
        if let Some(index) = self.table.find(address) {
            return index;
        }
        let (index, evicted) = self.table.insert(address, group);
        if let Some(slot) = self.table.slots.get_mut(index as usize) {
            slot.census = self.censuses.index_of(address);
        }
        if let Some(count) = evicted.and_then(|group| self.summary.evicted.get_mut(group as usize))
        {
            *count += 1;
        }
        index
    }

    /// The capture lost `frames` of this tick, of those that this meter would have been given.
    pub fn handle_lost(&mut self, frames: u64) {
        self.lost += frames;
    }

    /// Ends the tick and hands out what was counted since the last one, scaled by what the capture
    /// lost of late.
    ///
    /// A driver may let a tick last longer, as a replay does over a pause in the capture.
    pub fn finish_tick(&mut self, end: Timestamp) -> TrafficSummary {
        let next = TrafficSummary {
            start: end,
            evicted: vec![0; self.summary.evicted.len()],
            ..TrafficSummary::default()
        };
        let mut summary = std::mem::replace(&mut self.summary, next);
        if !self.started {
            self.started = true;
            summary.start = end - TICK;
        }
        summary.end = end;
        summary.targets = self.list_targets();
        summary.lost = std::mem::take(&mut self.lost);
        self.loss.add(summary.span(), summary.lost, summary.packets);
        let scale = self.loss.scale();
        if scale > 1.0 {
            summary.targets.iter_mut().for_each(|target| target.scale(scale));
        }
        self.detailed = 0;
        self.asked.advance(end);
        self.handshakes.advance(end);
        self.sweep(summary.span());
        self.together_due += summary.span();
        if self.together_due >= SWEEP_INTERVAL {
            self.together_due = Duration::ZERO;
            self.together.iter_mut().flatten().for_each(|lately| *lately /= 2);
            self.owed.halve();
        }
        summary
    }

    fn list_targets(&mut self) -> Vec<TargetTraffic> {
        let floor = if self.pending.len() > MAX_LISTED { LISTING_FLOOR } else { 1 };
        let mut targets = Vec::with_capacity(self.pending.len().min(MAX_LISTED));
        for index in self.pending.drain(..) {
            let Some(slot) = self.table.slots.get_mut(index as usize) else { continue };
            slot.pending = false;
            if slot.inbound() >= floor {
                targets.push(slot.hand_out());
            }
        }
        targets.sort_unstable_by_key(|target| target.address);
        targets
    }

    /// Ages as many places as fall due in `elapsed`, in turn.
    fn sweep(&mut self, elapsed: Duration) {
        self.sweep_due += elapsed;
        let places = self.table.slots.len();
        if places == 0 {
            self.sweep_due = Duration::ZERO;
            return;
        }
        let each = SWEEP_INTERVAL / u32::try_from(places).unwrap_or(u32::MAX);
        let each = each.max(Duration::from_nanos(1));
        // A long pause ages everything, but no more often than it takes to forget all.
        let most = places * 32;
        let due = self.sweep_due.as_nanos() / each.as_nanos();
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        if due > most {
            self.sweep_due = Duration::ZERO;
        } else {
            self.sweep_due -= each * u32::try_from(due).unwrap_or(u32::MAX);
        }
        for _ in 0..due.min(most) {
            self.table.age(self.sweep_cursor);
            self.sweep_cursor = (self.sweep_cursor + 1) % places;
        }
    }

    /// Counts the sources of what comes unasked to the targets of `attacks` from now on, and of no
    /// others. Those that were counted before go on; returns what there is of those that are over.
    ///
    /// At most [`MAX_CENSUSES`](crate::census::MAX_CENSUSES): of more attacks the first. Of an
    /// address in several targets the longest prefix counts.
    pub fn count_sources(&mut self, attacks: &[(AttackId, Prefix)]) -> Vec<(AttackId, Census)> {
        let Chosen { over, changed } = self.censuses.choose(attacks);
        for target in changed {
            let (table, censuses) = (&mut self.table, &self.censuses);
            if target.is_host() {
                let index = table.find(target.address());
                if let Some(slot) = index.and_then(|index| table.slots.get_mut(index as usize)) {
                    slot.census = censuses.index_of(slot.address);
                }
                continue;
            }
            for slot in &mut table.slots {
                if target.contains_address(slot.address) {
                    slot.census = censuses.index_of(slot.address);
                }
            }
        }
        over
    }

    /// What was counted of each attack since it was last taken; counting goes on from nothing.
    pub fn take_sources(&mut self) -> Vec<(AttackId, Census)> {
        self.censuses.take()
    }

    /// The sources of each attack that is counted.
    pub fn censuses(&self) -> impl Iterator<Item = &Census> {
        self.censuses.all()
    }

    /// Times that a target's sources were not counted because those of too many others were.
    #[must_use]
    pub const fn uncounted(&self) -> u64 {
        self.censuses.refused()
    }

    /// Addresses that have a place in the table.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.table.len()
    }
}

fn judged_together(config: &Config) -> Vec<Option<u32>> {
    let judged = |group: &crate::config::Group| group.aggregate.or(config.interface);
    config.groups.iter().map(|group| judged(group).map(|_| 0)).collect()
}

/// Counts a packet to a group that is judged as a whole. True if there were many of late.
#[inline]
fn are_many_together(together: &mut [Option<u32>], group: GroupIndex) -> bool {
    let Some(Some(lately)) = together.get_mut(usize::from(group)) else { return false };
    *lately = lately.saturating_add(1);
    *lately >= TOGETHER_FLOOR
}

/// Host and peer, if `packet` completes a handshake of theirs.
#[inline]
fn completed(
    handshakes: &mut Handshakes,
    hasher: &FixedState,
    packet: &Packet<'_>,
) -> Option<(u64, Completed)> {
    let Upper::Tcp { flags, acknowledgement, .. } = packet.upper else { return None };
    if flags & (flag::SYN | flag::RST | flag::ACK) != flag::ACK || handshakes.is_idle() {
        return None;
    }
    let hash = handshake_hash(hasher, packet, acknowledgement, Way::In);
    let pair = pair_hash(hasher, packet.destination, packet.source);
    Some((pair, handshakes.complete(hash, pair)?))
}

/// The address that stands for any peer of the family of `address`.
const fn anyone(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Order matters: a host asks its peer.
#[inline]
fn pair_hash(hasher: &FixedState, host: IpAddr, peer: IpAddr) -> u64 {
    match (host, peer) {
        (IpAddr::V4(host), IpAddr::V4(peer)) => {
            hasher.hash_one(u64::from(u32::from(host)) << 32 | u64::from(u32::from(peer)))
        }
        _ => hasher.hash_one([address_hash(hasher, host), address_hash(hasher, peer)]),
    }
}

/// Whether a protected host sent a packet or is sent one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Both ends of a connection, the host first, and the number that acknowledges the host's SYN-ACK.
#[inline]
fn handshake_hash(hasher: &FixedState, packet: &Packet<'_>, number: u32, way: Way) -> u64 {
    let Upper::Tcp { ports, .. } = packet.upper else { return 0 };
    let (host, peer, ports) = match way {
        Way::Out => (packet.source, packet.destination, [ports.source, ports.destination]),
        Way::In => (packet.destination, packet.source, [ports.destination, ports.source]),
    };
    let [host_port, peer_port] = ports.map(u64::from);
    let rest = host_port << 48 | peer_port << 32 | u64::from(number);
    hasher.hash_one([pair_hash(hasher, host, peer), rest])
}

/// A number of places that has an index in 32 bits.
fn bounded(max: usize) -> usize {
    max.clamp(1, u32::MAX as usize)
}

/// One protected address.
struct Slot {
    address: IpAddr,
    group: GroupIndex,
    /// The place belongs to no address.
    free: bool,
    /// It stands in [`Meter::pending`].
    pending: bool,
    idle_sweeps: u8,
    /// Which census counts its sources.
    census: u8,
    /// Packets in both directions, halved by each sweep: who is quiet.
    lately: u32,
    /// Unasked packets, halved by each sweep.
    unasked_lately: u32,
    unasked: MetricCounts,
    answers: Count,
    allowed: Count,
    connections: Connections,
    credits: Credits,
    classes: Vec<ClassTraffic>,
    picked: Picked,
}

impl Slot {
    fn new(address: IpAddr, group: GroupIndex) -> Self {
        Self {
            address,
            group,
            free: false,
            pending: false,
            idle_sweeps: 0,
            census: NO_CENSUS,
            lately: 0,
            unasked_lately: 0,
            unasked: MetricCounts::default(),
            answers: Count::default(),
            allowed: Count::default(),
            connections: Connections::default(),
            credits: Credits::default(),
            classes: Vec::new(),
            picked: Picked::default(),
        }
    }

    #[inline]
    fn touch(&mut self) {
        self.lately = self.lately.saturating_add(1);
        self.idle_sweeps = 0;
    }

    fn inbound(&self) -> u64 {
        let unasked = self.unasked.get(tidegate_model::Metric::Total);
        unasked.packets + self.answers.packets + self.allowed.packets
    }

    #[inline]
    fn class_mut(&mut self, class: TrafficClass) -> &mut ClassTraffic {
        let index = match self.classes.iter().position(|traffic| traffic.class == class) {
            Some(index) => index,
            None => {
                self.classes.push(ClassTraffic::new(class));
                self.classes.len() - 1
            }
        };
        &mut self.classes[index]
    }

    fn hand_out(&mut self) -> TargetTraffic {
        let mut classes = std::mem::take(&mut self.classes);
        classes.sort_unstable_by_key(|traffic| traffic.class);
        TargetTraffic {
            address: self.address,
            unasked: std::mem::take(&mut self.unasked),
            answers: std::mem::take(&mut self.answers),
            allowed: std::mem::take(&mut self.allowed),
            connections: std::mem::take(&mut self.connections),
            classes,
            sampled: self.picked.hand_out(),
        }
    }
}

/// Addresses and their places.
struct Table {
    ipv4: hashbrown::HashMap<u32, u32, FixedState>,
    ipv6: hashbrown::HashMap<u128, u32, FixedState>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    max: usize,
    /// State of the generator that picks whom to compare (Marsaglia's xorshift).
    random: u64,
}

impl Table {
    fn new(max: usize, hasher: &FixedState, seed: u64) -> Self {
        Self {
            ipv4: hashbrown::HashMap::with_hasher(hasher.clone()),
            ipv6: hashbrown::HashMap::with_hasher(hasher.clone()),
            slots: Vec::new(),
            free: Vec::new(),
            max: bounded(max),
            random: seed | 1,
        }
    }

    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    fn find(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.ipv4.get(&u32::from(address)).copied(),
            IpAddr::V6(address) => self.ipv6.get(&u128::from(address)).copied(),
        }
    }

    /// Gives `address` a place; also the group of the address that lost it, if one did.
    fn insert(&mut self, address: IpAddr, group: GroupIndex) -> (u32, Option<GroupIndex>) {
        let mut evicted = None;
        let index = if let Some(index) = self.free.pop() {
            index
        } else if self.slots.len() < self.max {
            self.slots.push(Slot::new(address, group));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        } else {
            let index = self.quietest();
            evicted = self.slots.get(index as usize).map(|slot| slot.group);
            self.forget(index);
            index
        };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            let pending = slot.pending;
            *slot = Slot { pending, ..Slot::new(address, group) };
        }
        match address {
            IpAddr::V4(address) => self.ipv4.insert(u32::from(address), index),
            IpAddr::V6(address) => self.ipv6.insert(u128::from(address), index),
        };
        (index, evicted)
    }

    fn forget(&mut self, index: u32) {
        match self.slots.get(index as usize).map(|slot| slot.address) {
            Some(IpAddr::V4(address)) => self.ipv4.remove(&u32::from(address)),
            Some(IpAddr::V6(address)) => self.ipv6.remove(&u128::from(address)),
            None => None,
        };
    }

    fn quietest(&mut self) -> u32 {
        let mut best = (u32::MAX, 0);
        for _ in 0..SAMPLE {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            #[expect(clippy::cast_possible_truncation, reason = "reduced below the table's size")]
            let index = (self.random % self.slots.len().max(1) as u64) as u32;
            let lately = self.slots.get(index as usize).map_or(u32::MAX, |slot| slot.lately);
            best = best.min((lately, index));
        }
        best.1
    }

    fn age(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.free) else { return };
        slot.lately /= 2;
        slot.unasked_lately /= 2;
        slot.credits.halve();
        slot.idle_sweeps = slot.idle_sweeps.saturating_add(1);
        if slot.idle_sweeps < IDLE_SWEEPS || slot.pending {
            return;
        }
        slot.free = true;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.forget(index);
        self.free.push(index);
    }
}
