//! Rules that are worth a look.
//!
//! Each packet of the attack is reduced to what is frequent about it. What is left of it is a row of
//! a few items, and rows repeat: every subset of every different row is a pattern. Of patterns that
//! match the same packets of the attack the one that hits least of the traffic before is kept, and
//! of those the narrowest: the closed item-set (Pasquier et al. 1999).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tidegate_model::{FlowSpecRule, PacketRecord, Prefix, Sender};

use super::pattern::{Flags, Fragment, Pattern, TCP};
use super::{Bounds, Candidate, Hits, Material};

/// A value with a smaller share of the attack than this is not frequent.
const FREQUENT: f64 = 0.01;
/// Most values of one kind.
const MOST_VALUES: usize = 24;
/// Most different rows. Of more those that stand for most packets.
const MOST_ROWS: usize = 96;
/// Most candidates. Of more those that cover most.
const MOST_CANDIDATES: usize = 384;
/// A source is proved by so many handshakes that it completed.
const MIN_HANDSHAKES: u32 = 3;
/// The part of a group's packets with the shortest and longest lengths that may be others'.
const OUTLIERS: f64 = 0.02;
/// The TCP flags that tell one kind of segment from another: FIN, SYN, RST, ACK.
const KINDS: u8 = 0x17;
/// Those that are matched at all: with PSH and URG.
const KNOWN: u8 = 0x3f;

/// What is frequent about packets of the attack.
struct Frequent {
    protocols: BTreeSet<u8>,
    source_ports: BTreeSet<u16>,
    destination_ports: BTreeSet<u16>,
    flags: BTreeSet<u8>,
    icmp_types: BTreeSet<u8>,
    lengths: BTreeSet<u16>,
    /// Proved by handshakes.
    sources: BTreeSet<IpAddr>,
}

/// A packet, reduced: each field with the conditions that it meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    protocol: u8,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    flags: Vec<Flags>,
    icmp_type: Option<u8>,
    fragment: Vec<Fragment>,
    lengths: Vec<(u16, u16)>,
    source: Option<IpAddr>,
}

impl Frequent {
    fn of(material: &Material<'_>) -> Self {
        let least = material.rates.iter().sum::<f64>() * FREQUENT;
        Self {
            protocols: values(material, least, |packet| Some(packet.protocol)),
            source_ports: values(material, least, |packet| Some(packet.ports?.0)),
            destination_ports: values(material, least, |packet| Some(packet.ports?.1)),
            flags: values(material, least, |packet| Some(packet.tcp_flags? & KNOWN)),
            icmp_types: values(material, least, |packet| packet.icmp_type),
            lengths: values(material, least, |packet| Some(packet.length)),
            sources: proved(material, least),
        }
    }

    fn row(&self, packet: &PacketRecord) -> Option<Row> {
        let known = self.protocols.contains(&packet.protocol);
        let flags = packet.tcp_flags.map_or_else(Vec::new, |flags| {
            let flags = flags & KNOWN;
            let kind = (flags & KINDS, KINDS & !flags);
            // SYN without ACK, whatever else is set: an attacker sets one more bit and is through.
            let open = (flags & 0x12 == 0x02).then_some((0x02, 0x10));
            let exact = self.flags.contains(&flags).then_some((flags, KNOWN & !flags));
            exact.into_iter().chain([kind]).chain(open).collect()
        });
        let exact = self.lengths.contains(&packet.length);
        let own = exact.then_some((packet.length, packet.length));
        known.then(|| Row {
            protocol: packet.protocol,
            source_port: packet.ports.map(|it| it.0).filter(|it| self.source_ports.contains(it)),
            destination_port: packet
                .ports
                .map(|it| it.1)
                .filter(|it| self.destination_ports.contains(it)),
            flags,
            icmp_type: packet.icmp_type.filter(|it| self.icmp_types.contains(it)),
            fragment: match Fragment::of(packet.part) {
                Some(Fragment::Later) => vec![Fragment::Later, Fragment::Any],
                Some(Fragment::Any) => vec![Fragment::Any],
                None => Vec::new(),
            },
            lengths: own.into_iter().chain([octave(packet.length)]).collect(),
            source: Some(packet.source)
                .filter(|it| packet.protocol == TCP && self.sources.contains(it)),
        })
    }
}

/// The values that at least `least` packets a second have.
fn values<T: Ord + Copy>(
    material: &Material<'_>,
    least: f64,
    of: impl Fn(&PacketRecord) -> Option<T>,
) -> BTreeSet<T> {
    let mut rates: BTreeMap<T, f64> = BTreeMap::new();
    for (packet, rate) in material.during.iter().zip(&material.rates) {
        if let Some(value) = of(packet) {
            *rates.entry(value).or_default() += rate;
        }
    }
    let mut most: Vec<(f64, T)> =
        rates.into_iter().map(|(value, rate)| (rate, value)).filter(|it| it.0 >= least).collect();
    most.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    most.into_iter().take(MOST_VALUES).map(|(_, value)| value).collect()
}

/// Sources of TCP that completed handshakes with the target since the onset, and were not among its
/// clients before.
fn proved(material: &Material<'_>, least: f64) -> BTreeSet<IpAddr> {
    let mut handshakes: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let completing = material.during.iter().filter(|it| it.sender == Sender::Completing);
    for packet in completing.filter(|packet| packet.protocol == TCP) {
        *handshakes.entry(packet.source).or_default() += 1;
    }
    for packet in material.before {
        handshakes.remove(&packet.source);
    }
    values(material, least, |packet| {
        handshakes.get(&packet.source).filter(|count| **count >= MIN_HANDSHAKES)?;
        (packet.protocol == TCP).then_some(packet.source)
    })
}

/// The power of two that the length is under, and the one before.
fn octave(length: u16) -> (u16, u16) {
    let bits = length.max(1).ilog2();
    let low = 1_u16 << bits;
    (low, low + (low - 1))
}

/// What a pattern hits of the traffic before, what else of it may be hit, how many conditions it has, and how wide its band of
/// lengths is: the least is the best.
type Cost = (f64, f64, Reverse<usize>, u16);

/// Every candidate, those that cover most first.
pub(super) fn find(
    target: Prefix,
    material: &Material<'_>,
    signatures: Vec<FlowSpecRule>,
    bounds: Bounds,
    allowed: &mut impl FnMut(&FlowSpecRule) -> bool,
) -> Vec<Candidate> {
    let patterns = patterns(material);
    // Of those that match the same of the attack the best.
    let mut best: BTreeMap<Vec<u64>, (Cost, Candidate)> = BTreeMap::new();
    let banded = patterns.iter().flat_map(|pattern| with_bands(target, material, pattern));
    for pattern in banded.filter(Pattern::is_narrow).collect::<BTreeSet<_>>() {
        let Some(rule) = pattern.rule(target) else { continue };
        let conditions = Reverse(pattern.conditions());
        let width = pattern.length.map_or(u16::MAX, |(low, high)| high - low);
        let candidate = Candidate::new(material, rule, Some(pattern));
        let collateral = material.collateral(&candidate.hits);
        if collateral > bounds.collateral || candidate.tcam_entries > bounds.tcam_entries {
            continue;
        }
        let cost = (collateral, candidate.exposure, conditions, width);
        let better = best.get(&candidate.hits.during).is_none_or(|(known, _)| cost < *known);
        if better && allowed(&candidate.rule) {
            let key = candidate.hits.during.clone();
            best.insert(key, (cost, candidate));
        }
    }
    let mut candidates: Vec<Candidate> = best.into_values().map(|(_, it)| it).collect();
    for rule in signatures {
        let candidate = Candidate::new(material, rule, None);
        let cheap = candidate.tcam_entries <= bounds.tcam_entries;
        if cheap
            && material.collateral(&candidate.hits) <= bounds.collateral
            && allowed(&candidate.rule)
        {
            candidates.push(candidate);
        }
    }
    candidates.sort_by(|one, other| {
        let gain = |it: &Candidate| material.gain(&it.hits, &Hits::default()) - it.exposure;
        gain(other).total_cmp(&gain(one)).then_with(|| one.rule.cmp(&other.rule))
    });
    candidates.truncate(MOST_CANDIDATES);
    candidates
}

/// Every subset of every frequent row.
fn patterns(material: &Material<'_>) -> BTreeSet<Pattern> {
    let frequent = Frequent::of(material);
    let mut rows: BTreeMap<Row, f64> = BTreeMap::new();
    for (packet, rate) in material.during.iter().zip(&material.rates) {
        if let Some(row) = frequent.row(packet) {
            *rows.entry(row).or_default() += rate;
        }
    }
    let mut rows: Vec<(Row, f64)> = rows.into_iter().collect();
    rows.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    rows.truncate(MOST_ROWS);
    let mut patterns = BTreeSet::new();
    for (row, _) in &rows {
        let start = Pattern { protocol: row.protocol, ..Pattern::default() };
        let mut subsets = vec![start];
        let mut with = |changes: Vec<&dyn Fn(&mut Pattern)>| {
            let mut more = Vec::new();
            for pattern in &subsets {
                for change in &changes {
                    let mut pattern = pattern.clone();
                    change(&mut pattern);
                    more.push(pattern);
                }
            }
            subsets.extend(more);
        };
        if let Some(port) = row.source_port {
            with(vec![&|it| it.source_ports = [port].into()]);
        }
        if let Some(port) = row.destination_port {
            with(vec![&|it| it.destination_ports = [port].into()]);
        }
        if let Some(kind) = row.icmp_type {
            with(vec![&|it| it.icmp_type = Some(kind)]);
        }
        if let Some(source) = row.source {
            with(vec![&|it| it.source = Some(Prefix::host(source))]);
        }
        let fragments: Vec<_> = row
            .fragment
            .iter()
            .map(|fragment| move |it: &mut Pattern| it.fragment = Some(*fragment))
            .collect();
        with(fragments.iter().map(|it| it as &dyn Fn(&mut Pattern)).collect());
        let flags: Vec<_> =
            row.flags.iter().map(|flags| move |it: &mut Pattern| it.flags = Some(*flags)).collect();
        with(flags.iter().map(|it| it as &dyn Fn(&mut Pattern)).collect());
        let lengths: Vec<_> = row
            .lengths
            .iter()
            .map(|length| move |it: &mut Pattern| it.length = Some(*length))
            .collect();
        with(lengths.iter().map(|it| it as &dyn Fn(&mut Pattern)).collect());
        patterns.extend(subsets);
    }
    patterns
}

/// The pattern, and if it says nothing of lengths the same with the band in which its packets of
/// the attack are, and with the band of all but the outermost of them.
fn with_bands(target: Prefix, material: &Material<'_>, pattern: &Pattern) -> Vec<Pattern> {
    let mut all = vec![pattern.clone()];
    if pattern.length.is_some() {
        return all;
    }
    let Some(rule) = pattern.rule(target) else { return all };
    let mut lengths: Vec<(u16, f64)> = material
        .during
        .iter()
        .zip(&material.rates)
        .filter(|(packet, _)| rule.matches(packet))
        .map(|(packet, rate)| (packet.length, *rate))
        .collect();
    lengths.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let total: f64 = lengths.iter().map(|it| it.1).sum();
    for outliers in [0.0, OUTLIERS] {
        let mut below = 0.0;
        let inner = lengths.iter().filter(|(_, rate)| {
            below += rate;
            below > total * outliers && below - rate < total * (1.0 - outliers)
        });
        let band =
            inner.fold(None, |band: Option<(u16, u16)>, (length, _)| {
                Some(band.map_or((*length, *length), |(low, high)| {
                    (low.min(*length), high.max(*length))
                }))
            });
        all.extend(band.map(|band| Pattern { length: Some(band), ..pattern.clone() }));
    }
    all
}
