//! Peer profiles: what an upstream accepts, and how a mitigation is put so that it does.
//!
//! Purpose: a [`Profile`] is a named, reviewed description. Those that come with the program are
//! text ([`builtin`], the files of `policy/profiles`, each field with its source); operators add
//! their own as `[profiles.NAME]` of the policy. A peer names one and overrides it field by field.
//! [`compile()`] makes of rules what a profile takes, and says what was lost.
//!
//! Absent on purpose: what a peer negotiates when the session comes up. A profile is what is known
//! beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use tidegate_model::{AddressFamily, Community, LargeCommunity};

use crate::policy::{Family, Peer, RtbhProfile, named};
use crate::text::{Collector, Document, Source};

mod compile;
mod mask;
mod numeric;
pub(crate) mod read;
pub(crate) mod words;

pub use compile::{Compiled, Loss, MAX_COMPILED, NotAccepted, compile, takes};
pub use words::{ActionKind, BitmaskForm, Comparison, Component};

/// What an upstream accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Unique.
    pub name: String,
    /// What it describes, in one line.
    pub summary: String,
    /// Where that is known from.
    pub source: String,
    /// Families that it takes. Never empty.
    pub families: BTreeSet<Family>,
    /// Whether blackholes and FlowSpec rules may share a session.
    pub sessions: Sessions,
    /// Who keeps our routes from spreading beyond it.
    pub confined_by: ConfinedBy,
    /// No more than this many routes at once.
    pub max_routes: u32,
    /// How it wants to be told of a blackhole.
    pub rtbh: RtbhFormat,
    /// Which rules it accepts and carries out.
    pub flowspec: FlowSpecProfile,
}

impl Default for Profile {
    /// The profile `rfc`.
    fn default() -> Self {
        Self {
            name: DEFAULT.to_owned(),
            summary: String::new(),
            source: String::new(),
            families: Family::ALL.iter().copied().collect(),
            sessions: Sessions::Shared,
            confined_by: ConfinedBy::Community,
            max_routes: Peer::DEFAULT_MAX_ROUTES,
            rtbh: RtbhFormat::default(),
            flowspec: FlowSpecProfile::default(),
        }
    }
}

/// How an upstream wants to be told of a blackhole, wherever the session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtbhFormat {
    /// Beside those that every route carries.
    pub communities: BTreeSet<Community>,
    /// Beside those that every route carries.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Next hop of IPv4 blackholes.
    pub next_hop_v4: NextHop<Ipv4Addr>,
    /// Next hop of IPv6 blackholes.
    pub next_hop_v6: NextHop<Ipv6Addr>,
    /// Lengths of IPv4 prefixes that are accepted as blackholes.
    pub lengths_v4: Lengths,
    /// The same for IPv6.
    pub lengths_v6: Lengths,
}

impl Default for RtbhFormat {
    /// That of the profile `rfc`.
    fn default() -> Self {
        let standard = RtbhProfile::default();
        Self {
            communities: standard.communities,
            large_communities: standard.large_communities,
            next_hop_v4: NextHop::Address(standard.next_hop_v4),
            next_hop_v6: NextHop::Address(standard.next_hop_v6),
            lengths_v4: standard.lengths_v4,
            lengths_v6: standard.lengths_v6,
        }
    }
}

/// Next hop of a blackhole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop<T> {
    /// Our own address on the session.
    Session,
    /// This one, which the peer discards.
    Address(T),
}

/// Prefix lengths, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of the widest prefix.
    pub shortest: u8,
    /// Of the narrowest prefix.
    pub longest: u8,
}

impl Lengths {
    /// Whether `length` is among them.
    #[must_use]
    pub fn contain(&self, length: u8) -> bool {
        (self.shortest..=self.longest).contains(&length)
    }
}

/// Which FlowSpec rules are accepted and carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSpecProfile {
    /// Components of IPv4 rules.
    pub components_v4: BTreeSet<Component>,
    /// Components of IPv6 rules.
    pub components_v6: BTreeSet<Component>,
    /// Comparisons of numeric components.
    pub operators: BTreeSet<Comparison>,
    /// Forms of bitmask tests. A plain test of one bit needs none of them.
    pub bitmasks: BTreeSet<BitmaskForm>,
    /// TCP flags that may be tested, FIN being bit 0.
    pub tcp_flags: u16,
    /// Fragment bits that may be tested, as in `FlowSpecComponent::Fragment`.
    pub fragment_bits: u16,
    /// Actions that are carried out.
    pub actions: BTreeSet<ActionKind>,
    /// Lengths of IPv4 destinations.
    pub lengths_v4: Lengths,
    /// Lengths of IPv6 destinations.
    pub lengths_v6: Lengths,
    /// Most values in one component. At least one.
    pub max_values: usize,
    /// Most octets of a rule without its length field.
    pub max_octets: usize,
    /// No more than this many rules at once.
    pub max_rules: u32,
}

impl Default for FlowSpecProfile {
    /// That of the profile `rfc`.
    fn default() -> Self {
        let v6: BTreeSet<Component> = Component::ALL.iter().copied().collect();
        let operators = Comparison::ALL.iter().copied();
        Self {
            components_v4: v6.iter().copied().filter(|it| *it != Component::FlowLabel).collect(),
            components_v6: v6,
            operators: operators.filter(|it| *it != Comparison::NotEqual).collect(),
            bitmasks: BitmaskForm::ALL.iter().copied().collect(),
            tcp_flags: 0x01ff,
            fragment_bits: 0x000f,
            actions: ActionKind::ALL.iter().copied().collect(),
            lengths_v4: Lengths { shortest: 24, longest: 32 },
            lengths_v6: Lengths { shortest: 48, longest: 128 },
            max_values: 5,
            max_octets: 239,
            max_rules: 200,
        }
    }
}

impl FlowSpecProfile {
    /// Components of rules of `family`.
    #[must_use]
    pub fn components(&self, family: AddressFamily) -> &BTreeSet<Component> {
        match family {
            AddressFamily::Ipv4 => &self.components_v4,
            AddressFamily::Ipv6 => &self.components_v6,
        }
    }

    /// Lengths of destinations of `family`.
    #[must_use]
    pub fn lengths(&self, family: AddressFamily) -> Lengths {
        match family {
            AddressFamily::Ipv4 => self.lengths_v4,
            AddressFamily::Ipv6 => self.lengths_v6,
        }
    }
}

named! {
    /// Whether blackholes and FlowSpec rules may share a session.
    Sessions, "a number of sessions" {
        /// One session carries both.
        Shared "shared",
        /// One session for each.
        Separate "separate",
    }
}

named! {
    /// Who keeps our routes from spreading beyond the peer.
    ConfinedBy, "a way to confine routes" {
        /// We, by NO_EXPORT or NO_ADVERTISE on every route.
        Community "no-export",
        /// The peer. Our routes carry neither: it would not pass them on to whom they are meant for.
        Peer "peer",
    }
}

named! {
    /// Whether a peer that cannot take a rule may be given a wider one.
    Widen, "a way to deal with what a peer cannot take" {
        /// The peer goes without.
        Never "never",
        /// What it cannot take is left out, as far as the guard permits.
        Allow "allow",
    }
}

/// The profile of a peer that names none, and what a profile is like that names no other.
pub const DEFAULT: &str = "rfc";

/// Each after the one that it is like.
const TEXTS: [(&str, &str); 12] = [
    ("rfc", include_str!("../../profiles/rfc.toml")),
    ("bird", include_str!("../../profiles/bird.toml")),
    ("frr", include_str!("../../profiles/frr.toml")),
    ("frr-relay", include_str!("../../profiles/frr-relay.toml")),
    ("gobgp", include_str!("../../profiles/gobgp.toml")),
    ("exabgp", include_str!("../../profiles/exabgp.toml")),
    ("extreme-slx", include_str!("../../profiles/extreme-slx.toml")),
    ("de-cix", include_str!("../../profiles/de-cix.toml")),
    ("seattle-ix", include_str!("../../profiles/seattle-ix.toml")),
    ("hurricane-electric", include_str!("../../profiles/hurricane-electric.toml")),
    ("ntt", include_str!("../../profiles/ntt.toml")),
    ("tele2", include_str!("../../profiles/tele2.toml")),
];

static BUILTIN: LazyLock<BTreeMap<String, Profile>> = LazyLock::new(|| {
    // A text that does not read is a name that is missing; the tests read every one.
    let collector = Collector::new();
    let mut known = BTreeMap::new();
    for (name, text) in TEXTS {
        if let Some(profile) = read_builtin(name, text, &known, &collector) {
            known.insert(name.to_owned(), profile);
        }
    }
    known
});

/// The profiles that come with the program.
#[must_use]
pub fn builtin() -> &'static BTreeMap<String, Profile> {
    &BUILTIN
}

fn read_builtin(
    name: &str,
    text: &str,
    known: &BTreeMap<String, Profile>,
    collector: &Collector,
) -> Option<Profile> {
    let source = Arc::new(Source::new(format!("profiles/{name}.toml"), text));
    let document = Document::parse(&source, collector)?;
    let table = document.root(collector);
    let base = match table.optional("like", "\"rfc\"") {
        Some(value) => known.get(value.string()?)?.clone(),
        None => Profile::default(),
    };
    read::named_profile(name, &table, base)
}

#[cfg(test)]
mod tests;
