//! Who sends: the sources of one attack.
//!
//! Every source address once, exactly, while there is room, in a table of five octets for a place.
//! How many there are is always known, beyond the room as an estimate whose error is said. The sources that send most are counted,
//! each within a stated error, and what speaks for forged addresses is measured.
//!
//! Bounds: [`MAX_CENSUSES`] attacks at a time, and [`MEMORY`] octets for all of them together,
//! whatever the number of sources. What is full keeps what it has and estimates the rest. Where
//! several meters count and hand over now and then what they have, as in a live capture, [`Shares`]
//! divides the same memory among them and who adds it up.

#[cfg(feature = "geoip")]
pub mod geoip;
mod sources;
mod spoofing;
mod talkers;

use std::net::IpAddr;

use foldhash::quality::FixedState;
use tidegate_model::{AttackId, Prefix};

use crate::packet::Packet;
use crate::sketch::address_hash;
use sources::Sources;
pub use spoofing::{Spoofing, Verdict};
pub use talkers::Talker;
use talkers::Talkers;

/// Attacks whose sources are counted at the same time; later ones are not until one is over.
pub const MAX_CENSUSES: usize = 32;
/// Most octets that exact sets of sources take together. With the fixed parts of
/// [`MAX_CENSUSES`] attacks all that is known of sources stays within 64 MiB.
pub const MEMORY: usize = 56 << 20;

/// How many distinct sources there were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distinct {
    /// So many.
    Exact(u64),
    /// About so many: too many to keep each.
    Estimate {
        /// The estimate.
        sources: u64,
        /// Its relative standard error.
        error: f64,
    },
}

impl Distinct {
    /// The number, exact or not.
    #[must_use]
    pub const fn sources(self) -> u64 {
        match self {
            Self::Exact(sources) | Self::Estimate { sources, .. } => sources,
        }
    }
}

impl std::fmt::Display for Distinct {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(sources) => write!(formatter, "{sources} (exact)"),
            Self::Estimate { sources, error } => {
                write!(formatter, "about {sources} (estimate, ±{:.1} %)", error * 100.0)
            }
        }
    }
}

/// Who belongs to which country and network. Off the packets' path: asked once a report.
pub trait Labels {
    /// ISO 3166-1 alpha-2 code of the country, if it is known.
    fn country(&self, address: IpAddr) -> Option<String>;
    /// Number of the autonomous system that announces the address, and its name.
    fn network(&self, address: IpAddr) -> Option<(u32, String)>;
}

/// How many sources share a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share<L> {
    /// The country or the network.
    pub label: L,
    /// Sources of those that were looked at.
    pub sources: u64,
}

/// Where the sources are, most first; by those that are kept exactly, at most
/// [`MAX_LOOKED_UP`] of them, evenly spread over the address space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Sources that were looked up.
    pub looked_up: u64,
    /// By country.
    pub countries: Vec<Share<String>>,
    /// By autonomous system.
    pub networks: Vec<Share<(u32, String)>>,
}

/// Most sources that are looked up for one report.
pub const MAX_LOOKED_UP: usize = 50_000;

/// The sources of one attack.
#[derive(Clone, Debug)]
pub struct Census {
    target: Prefix,
    packets: u64,
    bytes: u64,
    sources: Sources,
    talkers: Talkers,
    spoofing: spoofing::Signs,
}

impl Census {
    /// Nothing came to `target` yet. `seed` keys the tables.
    #[must_use]
    pub fn new(target: Prefix, seed: u64) -> Self {
        Self::with(target, Sources::new(FixedState::with_seed(seed)))
    }

    /// Nothing came to the same target yet.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::with(self.target, self.sources.fresh())
    }

    fn with(target: Prefix, sources: Sources) -> Self {
        Self {
            target,
            packets: 0,
            bytes: 0,
            sources,
            talkers: Talkers::default(),
            spoofing: spoofing::Signs::default(),
        }
    }

    /// What is attacked.
    #[must_use]
    pub const fn target(&self) -> Prefix {
        self.target
    }

    /// Packets and bytes that were counted.
    #[must_use]
    pub const fn counted(&self) -> (u64, u64) {
        (self.packets, self.bytes)
    }

    /// Counts one packet from `source`. `room` is how many octets exact sets may still grow by;
    /// what is used of it is taken away.
    #[inline]
    pub fn add(&mut self, (source, hash): (IpAddr, u64), ttl: u8, bytes: u64, room: &mut usize) {
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.sources.insert(source, hash, room);
        self.talkers.insert(source, hash, bytes);
        self.spoofing.insert(source, ttl);
    }

    /// Adds what another meter counted, with hashes of the same seed.
    pub fn merge(&mut self, other: &Self, room: &mut usize) {
        self.packets += other.packets;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sources.merge(&other.sources, room);
        self.talkers.merge(&other.talkers);
        self.spoofing.merge(&other.spoofing);
    }

    /// Distinct sources.
    #[must_use]
    pub fn distinct(&self) -> Distinct {
        self.sources.distinct()
    }

    /// Every source that is kept, in no order: all of them if [`Census::distinct`] is exact.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter()
    }

    /// Those that sent most, at most `most`, by packets.
    #[must_use]
    pub fn talkers(&self, most: usize) -> Vec<Talker> {
        self.talkers.most(most)
    }

    /// What speaks for forged sources.
    #[must_use]
    pub fn spoofing(&self) -> Spoofing {
        self.spoofing.judge(self.packets, self.distinct().sources())
    }

    /// Where the sources are, by at most `most` of them and [`MAX_LOOKED_UP`].
    #[must_use]
    pub fn origins(&self, labels: &dyn Labels, most: usize) -> Origins {
        use std::collections::BTreeMap;
        let kept = self.sources.kept();
        let step = kept.div_ceil(most.clamp(1, MAX_LOOKED_UP)).max(1);
        let mut countries: BTreeMap<String, u64> = BTreeMap::new();
        let mut networks: BTreeMap<(u32, String), u64> = BTreeMap::new();
        let mut looked_up = 0;
        for source in self.sources.iter().step_by(step) {
            looked_up += 1;
            if let Some(country) = labels.country(source) {
                *countries.entry(country).or_default() += 1;
            }
            if let Some(network) = labels.network(source) {
                *networks.entry(network).or_default() += 1;
            }
        }
        Origins { looked_up, countries: sorted(countries), networks: sorted(networks) }
    }

    /// Octets that the exact sets take at most.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.sources.cost()
    }
}

/// Octets of a census besides its exact sets, at most.
pub const FIXED: usize = 96 << 10;

/// How 64 MiB for sources are divided where several meters count and one adds up: a part for the
/// meters, twice as much for what is on its way, a part for the sums, and the rest for what each
/// census takes whatever the number of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Attacks that are counted at a time.
    pub attacks: usize,
    /// Octets for the exact sets of one meter.
    pub meter: usize,
    /// Octets for the exact sets of all sums.
    pub sums: usize,
}

impl Shares {
    /// For so many meters.
    #[must_use]
    pub const fn of(workers: usize) -> Self {
        const FOR_FIXED: usize = 14 << 20;
        const FOR_METERS: usize = 10 << 20;
        const FOR_SUMS: usize = 20 << 20;
        let workers = if workers == 0 { 1 } else { workers };
        let most = FOR_FIXED / (FIXED * (2 * workers + 1));
        let attacks = if most > MAX_CENSUSES { MAX_CENSUSES } else { most };
        let attacks = if attacks == 0 { 1 } else { attacks };
        Self { attacks, meter: FOR_METERS / workers, sums: FOR_SUMS }
    }
}

fn sorted<L: Ord>(shares: std::collections::BTreeMap<L, u64>) -> Vec<Share<L>> {
    let shares = shares.into_iter().map(|(label, sources)| Share { label, sources });
    let mut shares: Vec<Share<L>> = shares.collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.sources));
    shares
}

/// The sources of all attacks that are counted.
pub(crate) struct Censuses {
    /// Their places do not change: hosts remember them.
    all: Vec<Option<(AttackId, Census)>>,
    room: usize,
    seed: u64,
    refused: u64,
}

/// Which census an address belongs to: an index, or none.
pub(crate) const NO_CENSUS: u8 = u8::MAX;

/// What a choice of attacks changed.
pub(crate) struct Chosen {
    /// Those that are not counted any more.
    pub(crate) over: Vec<(AttackId, Census)>,
    /// Targets whose addresses belong to another census than before, or to none.
    pub(crate) changed: Vec<Prefix>,
}

impl Censuses {
    pub(crate) const fn new(room: usize, seed: u64) -> Self {
        Self { all: Vec::new(), room, seed, refused: 0 }
    }

    /// Before anything is counted.
    pub(crate) fn keep_within(&mut self, octets: usize) {
        self.room = octets;
    }

    /// Counts the sources of `attacks` from now on, and no others. Those that were counted before go
    /// on; the rest is given back.
    pub(crate) fn choose(&mut self, attacks: &[(AttackId, Prefix)]) -> Chosen {
        let mut chosen = Chosen { over: Vec::new(), changed: Vec::new() };
        for place in &mut self.all {
            let wanted = |(attack, census): &mut (AttackId, Census)| {
                !attacks.contains(&(*attack, census.target))
            };
            if let Some((attack, census)) = place.take_if(wanted) {
                self.room += census.cost();
                chosen.changed.push(census.target);
                chosen.over.push((attack, census));
            }
        }
        for &(attack, target) in attacks {
            if self.all.iter().flatten().any(|(known, _)| *known == attack) {
                continue;
            }
            let new = Some((attack, Census::new(target, self.seed)));
            if let Some(free) = self.all.iter_mut().find(|place| place.is_none()) {
                *free = new;
            } else if self.all.len() < MAX_CENSUSES {
                self.all.push(new);
            } else {
                self.refused += 1;
                continue;
            }
            chosen.changed.push(target);
        }
        chosen
    }

    /// What was counted, where anything was; counting begins anew.
    pub(crate) fn take(&mut self) -> Vec<(AttackId, Census)> {
        let mut taken = Vec::new();
        for (attack, census) in self.all.iter_mut().flatten() {
            if census.packets > 0 {
                self.room += census.cost();
                let new = census.fresh();
                taken.push((*attack, std::mem::replace(census, new)));
            }
        }
        taken
    }

    /// The census of the longest prefix that holds `address`.
    pub(crate) fn index_of(&self, address: IpAddr) -> u8 {
        let places = self.all.iter().zip(0..NO_CENSUS);
        let holding = places.filter_map(|(place, index)| Some((&place.as_ref()?.1, index)));
        holding
            .filter(|(census, _)| census.target.contains_address(address))
            .max_by_key(|(census, _)| census.target.length())
            .map_or(NO_CENSUS, |(_, index)| index)
    }

    #[inline]
    pub(crate) fn add(&mut self, index: u8, packet: &Packet<'_>, bytes: u64, hasher: &FixedState) {
        if let Some(Some((_, census))) = self.all.get_mut(usize::from(index)) {
            let source = (packet.source, address_hash(hasher, packet.source));
            census.add(source, packet.ttl, bytes, &mut self.room);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Census> {
        self.all.iter().flatten().map(|(_, census)| census)
    }

    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests;
