//! FlowSpec rules from samples of packets: what covers most of an attack and spares the rest.
//!
//! A [signature](crate::rule) says what the packets of a vector have in common. It does not know
//! what the target's own traffic looks like. Here both are looked at: packets that came during the
//! attack, and packets that came before it.
//!
//! 1. **Candidates**: what the attack's packets have in common in groups that are not small, over
//!    protocol, ports, flags, lengths, fragments and ICMP type ([`candidates`]); the rules of the
//!    signatures; and sources, but only those that completed handshakes: everything else about a
//!    source may be forged, and a rule against it would cut off whoever it was forged to be.
//! 2. **Choice**: lazy greedy (Minoux 1978) under three budgets: rules, estimated TCAM entries,
//!    and the share of the traffic before the attack that is hit ([`search`]).
//! 3. **Improvement**: one rule is exchanged for others where that covers more, rules that differ
//!    in their ports only become one, and bands of lengths are widened as far as nothing more of
//!    the traffic before is hit.
//!
//! What is found depends on the samples, the signatures and the bounds alone. A sample in which the
//! attack does not stand out, or too small a one, gives nothing; the signatures' rules are used
//! then.

use tidegate_model::{
    AddressFamily, AttackSample, FlowSpecComponent, FlowSpecRule, NumericMatch, PacketRecord,
    Prefix, Sender, VectorEstimate,
};

use crate::guard;
use crate::rule;

mod candidates;
mod pattern;
mod search;

/// Fewer packets of the attack than this show too little of it.
pub const MIN_DURING: usize = 32;
/// Fewer packets from before the attack than this show too little of what is to be spared.
pub const MIN_BEFORE: usize = 32;
/// Packets of either sample that are looked at. Of more the first.
pub const MAX_RECORDS: usize = 1024;
/// A rule that adds a smaller share of the attack than this is not worth its place.
pub const MIN_GAIN: f64 = 0.002;
/// How many times over what was seen before may come again: what of the attack's sample is no more
/// than that may be the target's own traffic.
const DOUBT: f64 = 3.0;
/// Rules that together cover a smaller share of the attack than this are no answer to it.
pub const MIN_COVERED: f64 = 0.5;
/// A single rule for a whole prefix must cover this much.
pub const MIN_COVERED_PREFIX: f64 = 0.9;
/// And may hit this part of what a rule for one host may.
pub const PREFIX_COLLATERAL: f64 = 0.1;

/// What rules may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Most rules.
    pub rules: usize,
    /// Most TCAM entries of all rules together, as [`tcam_entries`] estimates them.
    pub tcam_entries: u32,
    /// Largest share, in packets and in bytes, of the traffic before the attack that all rules
    /// together may hit, `0.0..=1.0`.
    pub collateral: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rules: rule::MAX_RULES, tcam_entries: 256, collateral: 0.001 }
    }
}

/// A rule and what it was measured to do on the samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The rule.
    pub rule: FlowSpecRule,
    /// The share of the attack that it matches, whatever others match too.
    pub coverage: f64,
    /// The share of the traffic before the attack that it matches.
    pub collateral: f64,
    /// TCAM entries, estimated.
    pub tcam_entries: u32,
}

/// Rules, those that cover most first, and what they do together.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthesis {
    /// At least one.
    pub rules: Vec<Measured>,
    /// The share of the attack that they match.
    pub coverage: f64,
    /// The share of the traffic before the attack that they match, in packets or in bytes, whichever
    /// is more.
    pub collateral: f64,
}

impl Synthesis {
    /// The rules alone.
    #[must_use]
    pub fn rules(&self) -> Vec<FlowSpecRule> {
        self.rules.iter().map(|measured| measured.rule.clone()).collect()
    }

    /// TCAM entries of all rules, estimated.
    #[must_use]
    pub fn tcam_entries(&self) -> u32 {
        self.rules.iter().map(|measured| measured.tcam_entries).sum()
    }
}

/// Why samples give no rules.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NotFound {
    /// Too few packets were seen.
    #[error("{seen} packets of the {which} were sampled, and {needed} are needed")]
    TooFew {
        /// `attack` or `traffic before it`.
        which: &'static str,
        /// How many there are.
        seen: usize,
        /// How many are needed.
        needed: usize,
    },
    /// There was as much traffic before.
    #[error("the attack does not stand out from the traffic before it")]
    NoExcess,
    /// Within the bounds too little can be matched.
    #[error(
        "rules that hit at most {:.2} % of the traffic before would match only {:.0} % of the attack",
        .collateral * 100.0, .coverage * 100.0
    )]
    TooLittle {
        /// What the best rules would cover.
        coverage: f64,
        /// The bound.
        collateral: f64,
    },
}

/// At most [`Bounds::rules`] rules for `target` that match as much as possible of the attack in
/// `sample`. Only rules for which `allowed` holds.
///
/// For a prefix it is one rule, and less of the traffic before may be hit: whoever it hits had no
/// attack of their own.
///
/// # Errors
/// [`NotFound`] if the sample shows too little, or too little can be matched.
pub fn find(
    target: Prefix,
    vectors: &[VectorEstimate],
    sample: &AttackSample,
    bounds: Bounds,
    mut allowed: impl FnMut(&FlowSpecRule) -> bool,
) -> Result<Synthesis, NotFound> {
    let material = Material::new(sample)?;
    let (bounds, needed) = if target.is_host() {
        (bounds, MIN_COVERED)
    } else {
        let collateral = bounds.collateral * PREFIX_COLLATERAL;
        (Bounds { rules: bounds.rules.min(1), collateral, ..bounds }, MIN_COVERED_PREFIX)
    };
    let signatures = rule::synthesise(target, vectors).unwrap_or_default();
    let candidates = candidates::find(target, &material, signatures, bounds, &mut allowed);
    let chosen = search::choose(target, &material, &candidates, bounds, &mut allowed);
    let together = search::union(&material, &chosen);
    let coverage = material.coverage(&together);
    if chosen.is_empty() || coverage < needed {
        return Err(NotFound::TooLittle { coverage, collateral: bounds.collateral });
    }
    let mut rules: Vec<Measured> = chosen
        .iter()
        .map(|candidate| Measured {
            rule: candidate.rule.clone(),
            coverage: material.coverage(&candidate.hits),
            collateral: material.collateral(&candidate.hits),
            tcam_entries: candidate.tcam_entries,
        })
        .collect();
    rules.sort_by(|one, other| {
        other.coverage.total_cmp(&one.coverage).then_with(|| one.rule.cmp(&other.rule))
    });
    Ok(Synthesis { rules, coverage, collateral: material.collateral(&together) })
}

/// What `rules` do to `sample`: the share of the attack that they match, and the share of the
/// traffic before it; `None` if the sample shows too little.
#[must_use]
pub fn measure(rules: &[FlowSpecRule], sample: &AttackSample) -> Option<(f64, f64)> {
    let material = Material::new(sample).ok()?;
    let hits = material.hits(|packet| rules.iter().any(|rule| rule.matches(packet)));
    Some((material.coverage(&hits), material.collateral(&hits)))
}

/// TCAM entries that a rule takes: the product over its components of the prefixes that cover what
/// each matches, since a TCAM knows values and masks but no ranges. Routers differ; this is what one
/// without range encoders needs.
#[must_use]
pub fn tcam_entries(rule: &FlowSpecRule) -> u32 {
    rule.components().iter().fold(1_u32, |product, component| {
        let own = match component {
            FlowSpecComponent::IpProtocol(numeric) | FlowSpecComponent::IcmpType(numeric) => {
                prefixes(numeric, 8)
            }
            FlowSpecComponent::DestinationPort(numeric)
            | FlowSpecComponent::SourcePort(numeric)
            | FlowSpecComponent::PacketLength(numeric) => prefixes(numeric, 16),
            // Either port.
            FlowSpecComponent::Port(numeric) => prefixes(numeric, 16).saturating_mul(2),
            FlowSpecComponent::TcpFlags(mask) | FlowSpecComponent::Fragment(mask) => {
                u32::try_from(mask.groups().len()).unwrap_or(u32::MAX)
            }
            _ => 1,
        };
        product.saturating_mul(own.max(1))
    })
}

/// Prefixes that cover the values of `bits` bits that match.
fn prefixes(numeric: &NumericMatch, bits: u32) -> u32 {
    let end = 1_u64 << bits;
    let mut edges: Vec<u64> = vec![0];
    for test in numeric.groups().iter().flatten() {
        edges.extend([test.value, test.value.saturating_add(1)].iter().filter(|it| **it < end));
    }
    edges.sort_unstable();
    edges.dedup();
    // Between two edges nothing changes.
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, low) in edges.iter().enumerate() {
        let next = edges.get(index + 1).copied().unwrap_or(end);
        if !numeric.matches(*low) {
            continue;
        }
        match runs.last_mut() {
            Some((_, high)) if *high == *low => *high = next,
            _ => runs.push((*low, next)),
        }
    }
    runs.into_iter().map(|(low, high)| aligned(low, high)).fold(0, u32::saturating_add)
}

/// Aligned powers of two that make up `low..high`.
fn aligned(mut low: u64, high: u64) -> u32 {
    let mut count = 0;
    while low < high {
        let most = if low == 0 { u64::MAX } else { 1 << low.trailing_zeros().min(62) };
        let mut size = 1_u64 << (high - low).ilog2();
        size = size.min(most);
        low += size;
        count += 1;
    }
    count
}

/// Octets of the rule as NLRI (RFC 8955 §4.1).
#[must_use]
pub fn nlri_octets(rule: &FlowSpecRule) -> usize {
    guard::encoded_octets(rule)
}

/// Which packets of both samples something matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Hits {
    during: Vec<u64>,
    before: Vec<u64>,
}

impl Hits {
    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.during, &other.during), (&mut self.before, &other.before)]
        {
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine |= theirs);
        }
    }
}

fn has(bits: &[u64], index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

/// The samples, with what each packet counts for.
struct Material<'a> {
    during: &'a [PacketRecord],
    before: &'a [PacketRecord],
    /// Packets a second that each stands for.
    rates: Vec<f64>,
    /// The same before; only of what nobody asked for, which goes on during the attack.
    usual: Vec<f64>,
    /// The same of everything before.
    everything: Vec<f64>,
    /// The attack's packets a second.
    excess: f64,
    /// Shares of the traffic before: of packets and of bytes.
    packets: Vec<f64>,
    bytes: Vec<f64>,
}

impl<'a> Material<'a> {
    fn new(sample: &'a AttackSample) -> Result<Self, NotFound> {
        let cut = |records: &'a [PacketRecord]| records.get(..MAX_RECORDS).unwrap_or(records);
        let (during, before) = (cut(&sample.during.records), cut(&sample.before.records));
        let few = |which, seen, needed| Err(NotFound::TooFew { which, seen, needed });
        if during.len() < MIN_DURING {
            return few("attack", during.len(), MIN_DURING);
        }
        if before.len() < MIN_BEFORE {
            return few("traffic before it", before.len(), MIN_BEFORE);
        }
        let weight = |packet: &PacketRecord| f64::from(packet.weight.max(1));
        let per_second =
            |seconds: f64| move |packet: &PacketRecord| weight(packet) / seconds.max(0.001);
        let rates: Vec<f64> = during.iter().map(per_second(sample.during.seconds)).collect();
        let rate = per_second(sample.before.seconds);
        let unasked = |packet: &PacketRecord| packet.sender != Sender::Welcome;
        let usual: Vec<f64> =
            before.iter().map(|it| if unasked(it) { rate(it) } else { 0.0 }).collect();
        let excess = rates.iter().sum::<f64>() - usual.iter().sum::<f64>();
        if excess <= 0.0 {
            return Err(NotFound::NoExcess);
        }
        let shares = |of: &dyn Fn(&PacketRecord) -> f64| {
            let total: f64 = before.iter().map(of).sum::<f64>().max(f64::MIN_POSITIVE);
            before.iter().map(|it| of(it) / total).collect::<Vec<f64>>()
        };
        Ok(Self {
            during,
            before,
            rates,
            usual,
            everything: before.iter().map(rate).collect(),
            excess,
            packets: shares(&weight),
            bytes: shares(&|packet| weight(packet) * f64::from(packet.length)),
        })
    }

    fn hits(&self, matches: impl Fn(&PacketRecord) -> bool) -> Hits {
        let bits = |records: &[PacketRecord]| {
            let mut bits = vec![0_u64; records.len().div_ceil(64)];
            for (index, packet) in records.iter().enumerate() {
                if matches(packet)
                    && let Some(word) = bits.get_mut(index / 64)
                {
                    *word |= 1 << (index % 64);
                }
            }
            bits
        };
        Hits { during: bits(self.during), before: bits(self.before) }
    }

    /// The share of the attack: what is matched during it, less what of that is usual.
    fn coverage(&self, hits: &Hits) -> f64 {
        (self.gain(hits, &Hits::default()) / self.excess).clamp(0.0, 1.0)
    }

    /// Packets a second of the attack that `hits` has and `others` have not.
    fn gain(&self, hits: &Hits, others: &Hits) -> f64 {
        let sum = |rates: &[f64], hits: &[u64], others: &[u64]| {
            let fresh = |index: &usize| has(hits, *index) && !has(others, *index);
            (0..rates.len()).filter(fresh).filter_map(|index| rates.get(index)).sum::<f64>()
        };
        sum(&self.rates, &hits.during, &others.during)
            - sum(&self.usual, &hits.before, &others.before)
    }

    /// Packets a second of the traffic before that `rule` would match whatever their length,
    /// [`DOUBT`] times.
    fn exposure(&self, rule: &FlowSpecRule) -> f64 {
        let kept = rule.components().iter();
        let kept = kept.filter(|it| !matches!(it, FlowSpecComponent::PacketLength(_))).cloned();
        let Ok(relaxed) = FlowSpecRule::new(rule.family(), kept.collect::<Vec<_>>()) else {
            return 0.0;
        };
        let matched = self.before.iter().zip(&self.everything);
        let rate: f64 =
            matched.filter(|(packet, _)| relaxed.matches(packet)).map(|(_, rate)| rate).sum();
        rate * DOUBT
    }

    /// The share of the traffic before, in packets or bytes, whichever is more.
    fn collateral(&self, hits: &Hits) -> f64 {
        let sum = |shares: &[f64]| {
            let hit = shares.iter().enumerate().filter(|(index, _)| has(&hits.before, *index));
            hit.map(|(_, share)| share).sum::<f64>()
        };
        // The sum of nothing is -0.
        sum(&self.packets).max(sum(&self.bytes)).min(1.0) + 0.0
    }
}

/// A rule that may be chosen.
#[derive(Clone, Debug)]
struct Candidate {
    rule: FlowSpecRule,
    /// What it was made of; `None` for a signature's rule.
    pattern: Option<pattern::Pattern>,
    hits: Hits,
    tcam_entries: u32,
    /// Packets a second of the traffic before that nothing but their length tells from what it
    /// matches. A sample is too small to know every length: of what it adds, so much is doubtful.
    exposure: f64,
}

impl Candidate {
    fn new(material: &Material<'_>, rule: FlowSpecRule, pattern: Option<pattern::Pattern>) -> Self {
        let hits = material.hits(|packet| rule.matches(packet));
        let tcam_entries = tcam_entries(&rule);
        let exposure = material.exposure(&rule);
        Self { rule, pattern, hits, tcam_entries, exposure }
    }
}

/// Of which family the rules of `target` are.
const fn header_length(family: AddressFamily) -> u16 {
    match family {
        AddressFamily::Ipv4 => 20,
        AddressFamily::Ipv6 => 40,
    }
}

#[cfg(test)]
mod tests;
