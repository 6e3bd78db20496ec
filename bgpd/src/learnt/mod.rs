//! Routes that peers announce: kept to be shown, and to tell which FlowSpec rules are theirs to
//! give (RFC 8955 §6, RFC 9117). They are never passed on, and nothing here acts on them.
//!
//! Every rule has a [`Verdict`], which changes with the unicast routes of all peers. What becomes
//! of rules is told as [`Change`]s, for a local enforcer. A rule is withdrawn when its peer's session
//! ends, unless that peer is being waited for (RFC 4724).
//!
//! **Bounds.** Of each peer at most [`Limits`] routes are kept. What comes beyond is counted and
//! not kept, and the session stays: our own routes on it matter more. While unicast routes of any
//! peer are missing no rule is feasible that rests on them.

mod order;
#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;
mod validate;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use tidegate_model::{FlowSpecRule, Nlri, Prefix, TrafficFilteringAction};

use crate::family::Family;

pub use order::precedence;
pub use validate::{Infeasible, Verdict};

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
    /// Rules that there is no form for here: those with an IPv6 offset.
    pub unsupported: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    path: Path,
    is_stale: bool,
}

#[derive(Clone, Debug)]
struct RuleEntry {
    path: Path,
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
}

/// The routes of every peer of a speaker.
#[derive(Clone, Debug)]
pub struct LearntRoutes {
    limits: Limits,
    peers: BTreeMap<String, Peer>,
    /// By prefix and peer.
    unicast: BTreeMap<Prefix, BTreeMap<String, Entry>>,
    /// The rules that each destination has, by peer.
    destinations: BTreeMap<Prefix, BTreeSet<(String, FlowSpecRule)>>,
    /// Prefixes whose unicast routes have changed since rules were judged.
    touched: BTreeSet<Prefix>,
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
            touched: BTreeSet::new(),
            changes: VecDeque::new(),
        }
    }

    /// Takes what is new of `peer`.
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
            News::WaitedEnough => self.drop_where(peer, |_, stale| stale),
        }
        self.judge_touched();
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
                path: entry.path.clone(),
                is_stale: entry.is_stale,
                verdict: None,
            })
        });
        let mut rules: Vec<_> = known.rules.iter().collect();
        rules.sort_by(|(one, _), (other, _)| precedence(one, other));
        let rules = rules.into_iter().map(|(rule, entry)| Learnt {
            nlri: Nlri::FlowSpec(rule.clone()),
            path: entry.path.clone(),
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
        for nlri in update.announced {
            match nlri {
                Nlri::Unicast(prefix) => self.announce_unicast(peer, prefix, &update.path),
                Nlri::FlowSpec(rule) => self.announce_rule(peer, rule, &update.path),
            }
        }
        if let Some(done) = update.end_of_rib {
            self.drop_where(peer, |family, stale| stale && family == done);
        }
    }

    fn peer(&mut self, name: &str) -> &mut Peer {
        self.peers.entry(name.to_owned()).or_default()
    }

    fn announce_unicast(&mut self, peer: &str, prefix: Prefix, path: &Path) {
        let limit = self.limits.unicast;
        let known = self.peer(peer);
        if known.unicast.len() >= limit && !known.unicast.contains(&prefix) {
            known.beyond_limit += 1;
            self.miss_unicast(peer);
            return;
        }
        known.unicast.insert(prefix);
        let entry = Entry { path: path.clone(), is_stale: false };
        self.unicast.entry(prefix).or_default().insert(peer.to_owned(), entry);
        self.touched.insert(prefix);
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

    fn announce_rule(&mut self, peer: &str, rule: FlowSpecRule, path: &Path) {
        let limit = self.limits.flowspec;
        let verdict = self.judge(&rule, path);
        let known = self.peer(peer);
        if known.rules.len() >= limit && !known.rules.contains_key(&rule) {
            known.beyond_limit += 1;
            return;
        }
        let entry = RuleEntry { path: path.clone(), is_stale: false, verdict };
        let before = known.rules.insert(rule.clone(), entry.clone());
        if let Some(destination) = rule.destination() {
            let of_destination = self.destinations.entry(destination).or_default();
            of_destination.insert((peer.to_owned(), rule.clone()));
        }
        let same = before.is_some_and(|before| {
            before.verdict == entry.verdict && before.path.actions == entry.path.actions
        });
        if !same {
            self.tell(peer, rule, Some(&entry));
        }
    }

    fn withdraw_rule(&mut self, peer: &str, rule: &FlowSpecRule) {
        let known = self.peers.get_mut(peer).and_then(|peer| peer.rules.remove(rule));
        if known.is_none() {
            return;
        }
        if let Some(destination) = rule.destination()
            && let Some(rules) = self.destinations.get_mut(&destination)
        {
            rules.remove(&(peer.to_owned(), rule.clone()));
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
        let rules = known.rules.iter().filter(|(rule, entry)| {
            goes(Family::of(&Nlri::FlowSpec((*rule).clone())), entry.is_stale)
        });
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
            self.judge_all();
        }
    }

    /// A new session begins: what was not kept of the old one counts no more.
    fn forget_misses(&mut self, peer: &str) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        (known.beyond_limit, known.unsupported) = (0, 0);
        if std::mem::take(&mut known.is_incomplete) {
            self.judge_all();
        }
    }

    fn mark_stale(&mut self, peer: &str) {
        let Some(known) = self.peers.get_mut(peer) else { return };
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
