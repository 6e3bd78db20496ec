//! A FlowSpec client: rules that trusted peers ask for, carried out by the kernel of this host.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_adapters::external::Guard;
use tidegate_adapters::kernel::FlowSpecClient;
use tidegate_bgpd::learnt::{Change, Verdict, precedence};
use tidegate_model::{FlowSpecRule, Nlri, Route, TrafficFilteringAction};

/// Rules that are kept. Further ones are not carried out, and logged.
const MOST_RULES: usize = 1000;

/// Which rules there are, and who asks for each.
pub(super) struct Client {
    kernel: FlowSpecClient,
    trusted: BTreeSet<String>,
    guard: Guard,
    offers: BTreeMap<FlowSpecRule, BTreeMap<String, Vec<TrafficFilteringAction>>>,
}

impl Client {
    pub(super) fn new(kernel: FlowSpecClient, trusted: BTreeSet<String>, guard: Guard) -> Self {
        Self { kernel, trusted, guard, offers: BTreeMap::new() }
    }

    /// Judges by `guard` from now on.
    pub(super) fn set_guard(&mut self, guard: Guard) {
        self.guard = guard;
        self.publish(None);
    }

    /// Takes note of what a peer asks for, or does not any more. Only what is its to ask counts
    /// (RFC 8955 §6), of a peer that is trusted.
    pub(super) fn take(&mut self, change: Change) {
        if !self.trusted.contains(&change.peer) {
            return;
        }
        let Change { peer, rule, offer } = change;
        let before = self.offers.get(&rule).and_then(|offers| offers.get(&peer)).cloned();
        let offer = offer.filter(|offer| offer.verdict == Verdict::Feasible);
        let after = offer.map(|offer| offer.actions);
        if before == after {
            return;
        }
        let news = rule.clone();
        match after {
            Some(_) if self.offers.len() >= MOST_RULES && !self.offers.contains_key(&rule) => {
                tracing::warn!(%rule, peer, "not carried out: {MOST_RULES} rules are kept already");
                return;
            }
            Some(actions) => drop(self.offers.entry(rule).or_default().insert(peer, actions)),
            None => {
                if let Some(offers) = self.offers.get_mut(&rule) {
                    offers.remove(&peer);
                    if offers.is_empty() {
                        self.offers.remove(&rule);
                    }
                }
            }
        }
        self.publish(Some(&news));
    }

    /// Hands the rules to the kernel that the gate would let us announce ourselves: for owned
    /// addresses, touching nothing protected and no session of ours. In the order of RFC 8955 §5.1;
    /// of two peers with the same rule, the first by name. What is left out is told of `news` only,
    /// or of all.
    fn publish(&self, news: Option<&FlowSpecRule>) {
        let mut routes = Vec::new();
        for (rule, offers) in &self.offers {
            let Some((peer, actions)) = offers.first_key_value() else { continue };
            let route = Route {
                nlri: Nlri::FlowSpec(rule.clone()),
                next_hop: None,
                communities: BTreeSet::new(),
                large_communities: BTreeSet::new(),
                actions: actions.clone(),
            };
            match self.guard.check(&route) {
                Ok(()) => routes.push((rule, route)),
                Err(why) if news.is_none_or(|news| news == rule) => {
                    tracing::warn!(%rule, peer, why, "a peer's rule is not carried out");
                }
                Err(_) => {}
            }
        }
        routes.sort_by(|(one, _), (other, _)| precedence(one, other));
        self.kernel.set(routes.into_iter().map(|(_, route)| route).collect());
    }
}
