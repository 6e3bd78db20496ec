//! Routes that peers announce: kept to be shown, and to tell which FlowSpec rules are theirs to
//! give (RFC 8955 §6, RFC 9117). They are never passed on, and nothing here acts on them.
//!
//! Every rule has a [`Verdict`], which changes with the unicast routes of all peers. What becomes
//! of rules is told as [`Change`]s, for a local enforcer. A rule is withdrawn when its peer's session
//! ends, unless that peer is being waited for (RFC 4724).
//!
//! **Bounds.** Of each peer at most [`Limits`] routes are kept. What comes beyond is counted and
//! not kept, and the session stays: our own routes on it matter more. While unicast routes of any
//! peer are missing no rule is feasible that rests on them. A rule of more than [`MOST_TESTS`] tests or
//! [`MOST_ACTIONS`] actions is not kept either. What is new costs little at once; the rules that it
//! bears on are judged a few at a time by [`LearntRoutes::judge`], in turn, so that no peer can keep the
//! others waiting by what it announces.

mod order;
#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;
mod validate;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tidegate_model::{
    AddressFamily, ComponentValue, FlowSpecRule, Nlri, Prefix, TrafficFilteringAction,
};

use crate::family::Family;

pub use order::precedence;
pub use validate::{Infeasible, Verdict};

/// Most tests of a rule that is kept, over all of its components.
pub const MOST_TESTS: usize = 256;
/// Most actions of a rule that is kept.
pub const MOST_ACTIONS: usize = 16;

/// Most routes of one peer that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unicast routes.
    pub unicast: usize,
    /// FlowSpec rules.
    pub flowspec: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unicast: 10_000, flowspec: 1000 }
    }
}

/// What a route says of itself, as far as it is of use.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// AS and BGP Identifier of the router that brought it into our AS: ORIGINATOR_ID (RFC 4456), or
    /// the peer.
    pub originator: (u32, Ipv4Addr),
    /// Whether it comes from within our AS.
    pub is_internal: bool,
    /// AS numbers in AS_PATH, a set counted as one.
    pub as_path_length: usize,
    /// The leftmost of them.
    pub neighbor_as: Option<u32>,
    /// ORIGIN: 0 IGP, 1 EGP, 2 incomplete.
    pub origin: u8,
    /// MULTI_EXIT_DISC.
    pub metric: u32,
    /// LOCAL_PREF, from within our AS.
    pub local_preference: u32,
    /// NEXT_HOP. Of FlowSpec it means nothing.
    pub next_hop: Option<IpAddr>,
    /// Only to Customer (RFC 9234 §5).
    pub only_to_customer: Option<u32>,
    /// Whether it has come the wrong way (RFC 9234 §5). It is shown and counts for nothing.
    pub leaks: bool,
    /// Traffic filtering actions of a rule.
    pub actions: Vec<TrafficFilteringAction>,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            originator: (0, Ipv4Addr::UNSPECIFIED),
            is_internal: false,
            as_path_length: 0,
            neighbor_as: None,
            origin: 0,
            metric: 0,
            // RFC 4271 leaves it to us; everybody takes this.
            local_preference: 100,
            next_hop: None,
            only_to_customer: None,
            leaks: false,
            actions: Vec::new(),
        }
    }
}

/// What one UPDATE changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Routes that are gone.
    pub withdrawn: Vec<Nlri>,
    /// Routes that are there.
    pub announced: Vec<Nlri>,
    /// What those say of themselves.
    pub path: Path,
    /// The whole set of this family has been sent (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// Rules that there is no form for here.
    pub unsupported: u64,
    /// The message could not be read so far that it is known what it is about: no route of the peer
    /// is certain any more.
    pub is_unreadable: bool,
}

/// What is to be done about the routes of one peer.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// An UPDATE.
    Update(Box<Update>),
    /// The session is gone, and the routes with it.
    Lost,
    /// The session is gone, and the peer asks to keep the routes of these families until it is back.
    Restarting(BTreeSet<Family>),
    /// The session is back. What was kept goes, except of these families.
    Back(BTreeSet<Family>),
    /// Nobody waits any more for what was kept and has not been announced again.
    WaitedEnough,
}

/// News of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Name of the peer whose rule it is.
    pub peer: String,
    /// The rule.
    pub rule: FlowSpecRule,
    /// What it asks for and what that is worth. `None`: it is gone.
    pub offer: Option<Offer>,
}

/// What a peer's rule asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// In wire order.
    pub actions: Vec<TrafficFilteringAction>,
    /// Whether it is the peer's to ask.
    pub verdict: Verdict,
}

/// A route of a peer, to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// The route.
    pub nlri: Nlri,
    /// What it says of itself.
    pub path: Path,
    /// Whether its peer is away and it is only kept until that is back.
    pub is_stale: bool,
    /// Of a rule, whether it is the peer's to ask for.
    pub verdict: Option<Verdict>,
}

/// How many routes of a peer there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Unicast routes that are kept.
    pub unicast: usize,
    /// Rules that are kept.
    pub flowspec: usize,
    /// Of those, the feasible ones.
    pub feasible: usize,
    /// Announcements of this session that were not kept, as there were too many.
    pub beyond_limit: u64,
    /// Rules that are not kept for what they are: those with an IPv6 offset, and those of more than
    /// [`MOST_TESTS`] tests or [`MOST_ACTIONS`] actions.
    pub unsupported: u64,
}

/// What a peer's rule is known by.
type RuleKey = (String, FlowSpecRule);

#[derive(Clone, Debug)]
struct Entry {
    path: Arc<Path>,
    is_stale: bool,
}

#[derive(Clone, Debug)]
struct RuleEntry {
    path: Arc<Path>,
    is_stale: bool,
    verdict: Verdict,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    unicast: BTreeSet<Prefix>,
    rules: BTreeMap<FlowSpecRule, RuleEntry>,
    beyond_limit: u64,
    unsupported: u64,
    /// Whether unicast routes are missing.
    is_incomplete: bool,
    /// Whether some of it may be stale.
    has_stale: bool,
}

/// The routes of every peer of a speaker.
#[derive(Clone, Debug)]
pub struct LearntRoutes {
    limits: Limits,
    peers: BTreeMap<String, Peer>,
    /// By prefix and peer.
    unicast: BTreeMap<Prefix, BTreeMap<String, Entry>>,
    /// The rules that each destination has, by peer.
    destinations: BTreeMap<Prefix, BTreeSet<RuleKey>>,
    /// Prefixes whose unicast routes have changed, and that rules may rest on.
    touched: Touched,
    /// Rules that are to be judged. Each is known.
    pending: BTreeSet<RuleKey>,
    /// The one that was judged last: the next is the one behind it.
    judged: Option<RuleKey>,
    /// Drained by the caller after each call: at most two for each rule and call.
    changes: VecDeque<Change>,
}

impl LearntRoutes {
    /// Without any route.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: BTreeMap::new(),
            unicast: BTreeMap::new(),
            destinations: BTreeMap::new(),
            touched: Touched::default(),
            pending: BTreeSet::new(),
            judged: None,
            changes: VecDeque::new(),
        }
    }

    /// Takes what is new of `peer`. What follows for rules is known when they are
    /// [judged](Self::judge).
    pub fn handle_news(&mut self, peer: &str, news: News) {
        match news {
            News::Update(update) => self.take(peer, *update),
            News::Lost => self.drop_where(peer, |_, _| true),
            News::Restarting(kept) => {
                // What was kept before and has not come again goes (RFC 4724 §4.2).
                self.drop_where(peer, |family, stale| stale || !kept.contains(&family));
                self.mark_stale(peer);
            }
            News::Back(kept) => {
                self.drop_where(peer, |family, stale| stale && !kept.contains(&family));
                self.forget_misses(peer);
            }
            News::WaitedEnough => {
                self.drop_where(peer, |_, stale| stale);
                if let Some(known) = self.peers.get_mut(peer) {
                    known.has_stale = false;
                }
            }
        }
    }

    /// The next change of a rule.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The routes of `peer`: unicast in order, then the rules, those first that a router looks at
    /// first.
    #[must_use]
    pub fn of_peer(&self, peer: &str) -> Vec<Learnt> {
        let Some(known) = self.peers.get(peer) else { return Vec::new() };
        let unicast = known.unicast.iter().filter_map(|prefix| {
            let entry = self.unicast.get(prefix)?.get(peer)?;
            Some(Learnt {
                nlri: Nlri::Unicast(*prefix),
                path: Path::clone(&entry.path),
                is_stale: entry.is_stale,
                verdict: None,
            })
        });
        let mut rules: Vec<_> = known.rules.iter().collect();
        rules.sort_by(|(one, _), (other, _)| precedence(one, other));
        let rules = rules.into_iter().map(|(rule, entry)| Learnt {
            nlri: Nlri::FlowSpec(rule.clone()),
            path: Path::clone(&entry.path),
            is_stale: entry.is_stale,
            verdict: Some(entry.verdict.clone()),
        });
        unicast.chain(rules).collect()
    }

    /// How many routes of `peer` there are.
    #[must_use]
    pub fn tally(&self, peer: &str) -> Tally {
        self.peers.get(peer).map_or_else(Tally::default, |peer| Tally {
            unicast: peer.unicast.len(),
            flowspec: peer.rules.len(),
            feasible: peer.rules.values().filter(|e| e.verdict == Verdict::Feasible).count(),
            beyond_limit: peer.beyond_limit,
            unsupported: peer.unsupported,
        })
    }

    fn take(&mut self, peer: &str, update: Update) {
        if update.is_unreadable {
            self.drop_where(peer, |_, _| true);
            self.miss_unicast(peer);
            return;
        }
        if update.unsupported > 0 {
            self.peer(peer).unsupported += update.unsupported;
        }
        for nlri in update.withdrawn {
            match nlri {
                Nlri::Unicast(prefix) => self.withdraw_unicast(peer, prefix),
                Nlri::FlowSpec(rule) => self.withdraw_rule(peer, &rule),
            }
        }
        let rules = Arc::new(update.path);
        // Of unicast they mean nothing.
        let unicast = match rules.actions.is_empty() {
            true => Arc::clone(&rules),
            false => Arc::new(Path { actions: Vec::new(), ..Path::clone(&rules) }),
        };
        for nlri in update.announced {
            match nlri {
                Nlri::Unicast(prefix) => self.announce_unicast(peer, prefix, &unicast),
                Nlri::FlowSpec(rule) => self.announce_rule(peer, rule, &rules),
            }
        }
        let has_stale = self.peers.get(peer).is_some_and(|known| known.has_stale);
        if let Some(done) = update.end_of_rib.filter(|_| has_stale) {
            self.drop_where(peer, |family, stale| stale && family == done);
        }
    }

    fn peer(&mut self, name: &str) -> &mut Peer {
        self.peers.entry(name.to_owned()).or_default()
    }

    fn announce_unicast(&mut self, peer: &str, prefix: Prefix, path: &Arc<Path>) {
        let limit = self.limits.unicast;
        let known = self.peer(peer);
        if known.unicast.len() >= limit && !known.unicast.contains(&prefix) {
            known.beyond_limit += 1;
            self.miss_unicast(peer);
            return;
        }
        known.unicast.insert(prefix);
        let entry = Entry { path: Arc::clone(path), is_stale: false };
        let before = self.unicast.entry(prefix).or_default().insert(peer.to_owned(), entry);
        if before.is_none_or(|before| before.path != *path) {
            self.touched.insert(prefix);
        }
    }

    fn withdraw_unicast(&mut self, peer: &str, prefix: Prefix) {
        let known = self.peers.get_mut(peer).is_some_and(|peer| peer.unicast.remove(&prefix));
        if !known {
            return;
        }
        if let Some(paths) = self.unicast.get_mut(&prefix) {
            paths.remove(peer);
            if paths.is_empty() {
                self.unicast.remove(&prefix);
            }
        }
        self.touched.insert(prefix);
    }

    fn announce_rule(&mut self, peer: &str, rule: FlowSpecRule, path: &Arc<Path>) {
        let limit = self.limits.flowspec;
        let known = self.peer(peer);
        if path.actions.len() > MOST_ACTIONS || tests(&rule) > MOST_TESTS {
            known.unsupported += 1;
            self.withdraw_rule(peer, &rule);
            return;
        }
        if known.rules.len() >= limit && !known.rules.contains_key(&rule) {
            known.beyond_limit += 1;
            return;
        }
        // What it asks for now has to be told, whatever the verdict was.
        let before = known.rules.get(&rule);
        let before = before.filter(|before| before.path.actions == path.actions);
        let verdict = before
            .map_or(Verdict::Infeasible(Infeasible::NotJudged), |before| before.verdict.clone());
        let entry = RuleEntry { path: Arc::clone(path), is_stale: false, verdict };
        let before = known.rules.insert(rule.clone(), entry);
        if before.is_some_and(|before| before.path == *path) {
            return;
        }
        let key = (peer.to_owned(), rule);
        if let Some(destination) = key.1.destination() {
            self.destinations.entry(destination).or_default().insert(key.clone());
        }
        self.pending.insert(key);
    }

    fn withdraw_rule(&mut self, peer: &str, rule: &FlowSpecRule) {
        let known = self.peers.get_mut(peer).and_then(|peer| peer.rules.remove(rule));
        if known.is_none() {
            return;
        }
        let key = (peer.to_owned(), rule.clone());
        self.pending.remove(&key);
        if let Some(destination) = rule.destination()
            && let Some(rules) = self.destinations.get_mut(&destination)
        {
            rules.remove(&key);
            if rules.is_empty() {
                self.destinations.remove(&destination);
            }
        }
        self.tell(peer, rule.clone(), None);
    }

    fn tell(&mut self, peer: &str, rule: FlowSpecRule, entry: Option<&RuleEntry>) {
        let offer = entry.map(|entry| Offer {
            actions: entry.path.actions.clone(),
            verdict: entry.verdict.clone(),
        });
        self.changes.push_back(Change { peer: peer.to_owned(), rule, offer });
    }

    /// Drops the routes of `peer` that `goes` says so of, by family and whether they are stale.
    fn drop_where(&mut self, peer: &str, goes: impl Fn(Family, bool) -> bool) {
        let Some(known) = self.peers.get(peer) else { return };
        let rules =
            known.rules.iter().filter(|(rule, entry)| goes(family_of(rule), entry.is_stale));
        let rules: Vec<FlowSpecRule> = rules.map(|(rule, _)| rule.clone()).collect();
        let prefixes = known.unicast.iter().filter(|prefix| {
            let entry = self.unicast.get(prefix).and_then(|paths| paths.get(peer));
            goes(Family::of(&Nlri::Unicast(**prefix)), entry.is_some_and(|entry| entry.is_stale))
        });
        let prefixes: Vec<Prefix> = prefixes.copied().collect();
        for rule in rules {
            self.withdraw_rule(peer, &rule);
        }
        for prefix in prefixes {
            self.withdraw_unicast(peer, prefix);
        }
        let is_empty = |peer: &Peer| peer.unicast.is_empty() && peer.rules.is_empty();
        if self.peers.get(peer).is_some_and(is_empty) {
            self.forget_misses(peer);
            self.peers.remove(peer);
        }
    }

    /// From now on unicast routes of `peer` are missing.
    fn miss_unicast(&mut self, peer: &str) {
        if !std::mem::replace(&mut self.peer(peer).is_incomplete, true) {
            self.touched = Touched::All;
        }
    }

    /// A new session begins: what was not kept of the old one counts no more.
    fn forget_misses(&mut self, peer: &str) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        (known.beyond_limit, known.unsupported) = (0, 0);
        if std::mem::take(&mut known.is_incomplete) {
            self.touched = Touched::All;
        }
    }

    fn mark_stale(&mut self, peer: &str) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        known.has_stale = true;
        for entry in known.rules.values_mut() {
            entry.is_stale = true;
        }
        for prefix in &known.unicast {
            let entry = self.unicast.get_mut(prefix).and_then(|paths| paths.get_mut(peer));
            if let Some(entry) = entry {
                entry.is_stale = true;
            }
        }
    }
}

/// Prefixes whose unicast routes have changed.
#[derive(Clone, Debug, PartialEq)]
enum Touched {
    /// These.
    These(BTreeSet<Prefix>),
    /// So many that every rule is looked at.
    All,
}

impl Default for Touched {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Touched {
    /// Beyond so many every rule is looked at instead of those that they are about.
    const MANY: usize = 64;

    fn insert(&mut self, prefix: Prefix) {
        let Self::These(prefixes) = self else { return };
        prefixes.insert(prefix);
        if prefixes.len() > Self::MANY {
            *self = Self::All;
        }
    }
}

fn family_of(rule: &FlowSpecRule) -> Family {
    match rule.family() {
        AddressFamily::Ipv4 => Family::Ipv4FlowSpec,
        AddressFamily::Ipv6 => Family::Ipv6FlowSpec,
    }
}

fn tests(rule: &FlowSpecRule) -> usize {
    let of_component = |value| match value {
        ComponentValue::Prefix(_) => 1,
        ComponentValue::Numeric(numeric) => numeric.groups().iter().flatten().count(),
        ComponentValue::Bitmask(bitmask) => bitmask.groups().iter().flatten().count(),
    };
    rule.components().iter().map(|component| of_component(component.value())).sum()
}
