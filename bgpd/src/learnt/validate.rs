//! Whether a FlowSpec rule is its sender's to give (RFC 8955 §6, RFC 9117).

use std::cmp::Reverse;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use tidegate_model::{FlowSpecRule, Prefix};

use super::{LearntRoutes, Path, RuleKey, Touched};

/// What a rule is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is its sender's to give.
    Feasible,
    /// It is not, and must not be acted on.
    Infeasible(Infeasible),
}

/// Why a rule is not its sender's to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Infeasible {
    /// It is not its turn yet ([`LearntRoutes::judge`]).
    NotJudged,
    /// It has no destination prefix (RFC 8955 §6 a).
    NoDestination,
    /// There is no unicast route to its destination.
    NoUnicastRoute,
    /// Not all unicast routes are kept, so that the best one is not known.
    Incomplete,
    /// The best unicast route to its destination is another router's (RFC 8955 §6 b).
    OtherOriginator {
        /// The unicast route.
        best: Prefix,
    },
    /// From another AS, and the neighbour that it came by is not that of the best unicast route
    /// (RFC 9117 §4.2).
    OtherNeighbor {
        /// The unicast route.
        best: Prefix,
    },
    /// Part of its destination is another neighbour's (RFC 8955 §6 c).
    MoreSpecific {
        /// The unicast route to that part.
        part: Prefix,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feasible => formatter.write_str("feasible"),
            Self::Infeasible(why) => write!(formatter, "infeasible: {why}"),
        }
    }
}

impl fmt::Display for Infeasible {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJudged => formatter.write_str("not judged yet"),
            Self::NoDestination => formatter.write_str("no destination prefix"),
            Self::NoUnicastRoute => formatter.write_str("no unicast route to the destination"),
            Self::Incomplete => formatter.write_str("not every unicast route is kept"),
            Self::OtherOriginator { best } => {
                write!(formatter, "the best route to {best} has another originator")
            }
            Self::OtherNeighbor { best } => {
                write!(formatter, "the best route to {best} is another neighbour's")
            }
            Self::MoreSpecific { part } => {
                write!(formatter, "{part} is another neighbour's")
            }
        }
    }
}

impl LearntRoutes {
    fn objection(&self, rule: &FlowSpecRule, path: &Path) -> Option<Infeasible> {
        let Some(destination) = rule.destination() else { return Some(Infeasible::NoDestination) };
        // RFC 9117 §4.1 b.2: it comes from within our AS, which need not be on the path of the
        // traffic. Rule c speaks of the route that b.1 finds.
        if path.as_path_length == 0 && path.is_internal {
            return None;
        }
        if self.peers.values().any(|peer| peer.is_incomplete) {
            return Some(Infeasible::Incomplete);
        }
        let Some((best, route)) = self.best_match(destination) else {
            return Some(Infeasible::NoUnicastRoute);
        };
        if route.originator != path.originator {
            return Some(Infeasible::OtherOriginator { best });
        }
        if !path.is_internal && route.neighbor_as != path.neighbor_as {
            return Some(Infeasible::OtherNeighbor { best });
        }
        let foreign = |path: &Path| !path.leaks && path.neighbor_as != route.neighbor_as;
        let mut parts = self.unicast.range(within(destination));
        let part = parts.find(|(_, paths)| paths.values().any(|entry| foreign(&entry.path)));
        part.map(|(part, _)| Infeasible::MoreSpecific { part: *part })
    }

    /// The route with the longest prefix that covers `destination`, and of those the best.
    fn best_match(&self, destination: Prefix) -> Option<(Prefix, &Path)> {
        (0..=destination.length()).rev().find_map(|length| {
            let prefix = Prefix::new(destination.address(), length)?;
            let paths = self.unicast.get(&prefix)?.values().map(|entry| &*entry.path);
            let best = paths.filter(|path| !path.leaks).min_by_key(|path| rank(path))?;
            Some((prefix, best))
        })
    }

    /// Judges at most `limit` of the rules whose verdict may have changed, in turn. True if there are
    /// more.
    pub fn judge(&mut self, limit: usize) -> bool {
        match std::mem::take(&mut self.touched) {
            Touched::All => self.pending.extend(self.destinations.values().flatten().cloned()),
            Touched::These(prefixes) => {
                let rules: Vec<_> =
                    prefixes.iter().flat_map(|prefix| self.around(*prefix)).cloned().collect();
                self.pending.extend(rules);
            }
        }
        for _ in 0..limit {
            let Some(key) = self.next_pending() else { break };
            self.judge_rule(&key);
            self.judged = Some(key);
        }
        !self.pending.is_empty()
    }

    /// The rule behind the one that was judged last, so that each has its turn.
    fn next_pending(&mut self) -> Option<RuleKey> {
        let behind = self.judged.as_ref().and_then(|judged| {
            self.pending.range((Bound::Excluded(judged), Bound::Unbounded)).next()
        });
        let key = behind.or_else(|| self.pending.first())?.clone();
        self.pending.remove(&key);
        Some(key)
    }

    fn around(&self, prefix: Prefix) -> impl Iterator<Item = &RuleKey> {
        let covering = (0..=prefix.length()).filter_map(move |length| {
            let covering = Prefix::new(prefix.address(), length)?;
            self.destinations.get(&covering)
        });
        let covered = self.destinations.range(within(prefix)).map(|(_, rules)| rules);
        covering.chain(covered).flatten()
    }

    fn judge_rule(&mut self, (peer, rule): &RuleKey) {
        let entry = self.peers.get(peer).and_then(|peer| peer.rules.get(rule));
        let Some(path) = entry.map(|entry| Arc::clone(&entry.path)) else { return };
        let verdict = match self.objection(rule, &path) {
            None => Verdict::Feasible,
            Some(why) => Verdict::Infeasible(why),
        };
        let entry = self.peers.get_mut(peer).and_then(|peer| peer.rules.get_mut(rule));
        let Some(entry) = entry.filter(|entry| entry.verdict != verdict) else { return };
        entry.verdict = verdict;
        let entry = entry.clone();
        self.tell(peer, rule.clone(), Some(&entry));
    }
}

/// What makes a path better, the smaller the better (RFC 4271 §9.1.2). Metrics are compared between
/// neighbours too, so that there is one order.
fn rank(path: &Path) -> impl Ord + use<> {
    (
        Reverse(path.local_preference),
        path.as_path_length,
        path.origin,
        path.metric,
        path.is_internal,
        path.originator,
    )
}

/// The keys of a map that are prefixes within `prefix`, itself not among them.
fn within(prefix: Prefix) -> (Bound<Prefix>, Bound<Prefix>) {
    use std::net::IpAddr;

    let host_bits = u32::from(prefix.family().bits() - prefix.length());
    let last = match prefix.address() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shr(32 - host_bits.min(32)).unwrap_or(0);
            IpAddr::V4((u32::from(address) | mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shr(128 - host_bits.min(128)).unwrap_or(0);
            IpAddr::V6((u128::from(address) | mask).into())
        }
    };
    (Bound::Excluded(prefix), Bound::Included(Prefix::host(last)))
}
