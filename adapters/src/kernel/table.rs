//! Our nftables table and what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use tidegate_model::{
    AddressFamily, Command, CommandKind, FlowSpecComponent, FlowSpecRule, Nlri, OutcomeKind, Route,
    TrafficFilteringAction,
};

use super::KernelError;
use super::filter::{Term, Untranslatable, translate};
use super::learnt::Learnt;
use super::ruleset::{Change, History, RateLimit, Unit, Verdict, comment};
use super::socket::{EXISTS, NO_SUCH_ENTRY, NetlinkSocket, PERMISSION, Transaction};
use crate::backend::{Dropped, Held};

/// Most changes in one transaction: their answers must fit the socket's buffer.
const MAX_CHANGES: usize = 32;
/// A rate limit lets this part of a second through at once, and at least one of the next two.
const BURST_DIVISOR: u64 = 10;
const LEAST_PACKETS_BURST: u64 = 5;
/// More than the largest packet, which could never pass otherwise.
const LEAST_BYTES_BURST: u64 = 65_536;

/// What nftables does for a route.
#[derive(Debug, PartialEq)]
pub(crate) struct Filter {
    terms: Vec<Term>,
    verdict: Verdict,
    /// Of a limit on new TCP connections: those for which it is not meant.
    except: Option<History>,
}

impl Filter {
    pub(crate) fn of(route: &Route) -> Result<Self, Untranslatable> {
        let Nlri::FlowSpec(rule) = &route.nlri else { return Err(Untranslatable::Unicast) };
        let verdict = verdict(&route.actions)?;
        let opening = matches!(verdict, Verdict::DropOver(_)) && only_opens(rule);
        let except = opening.then_some(match rule.family() {
            AddressFamily::Ipv4 => History::Ipv4,
            AddressFamily::Ipv6 => History::Ipv6,
        });
        Ok(Self { terms: translate(rule)?, verdict, except })
    }
}

/// Whether the rule is about nothing but packets that open a TCP connection: SYN without ACK.
fn only_opens(rule: &FlowSpecRule) -> bool {
    const SYN: u16 = 0x02;
    const ACK: u16 = 0x10;
    rule.components().iter().any(|component| match component {
        FlowSpecComponent::TcpFlags(mask) => {
            let mut matched = (0..=0xff).filter(|flags| mask.matches(*flags)).peekable();
            matched.peek().is_some() && matched.all(|flags| flags & (SYN | ACK) == SYN)
        }
        _ => false,
    })
}

pub(super) fn verdict(actions: &[TrafficFilteringAction]) -> Result<Verdict, Untranslatable> {
    let (rate, unit) = match *actions {
        [TrafficFilteringAction::RateLimitBytes(rate)] => (rate, Unit::Bytes),
        [TrafficFilteringAction::RateLimitPackets(rate)] => (rate, Unit::Packets),
        _ => {
            let names: Vec<String> = actions.iter().map(ToString::to_string).collect();
            return Err(Untranslatable::Actions(names.join(", ")));
        }
    };
    if rate == 0.0 {
        return Ok(Verdict::Drop);
    }
    if !rate.is_finite() || rate < 1.0 {
        return Err(Untranslatable::Rate(rate.to_string()));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let per_second = rate as u64;
    let least = match unit {
        Unit::Packets => LEAST_PACKETS_BURST,
        Unit::Bytes => LEAST_BYTES_BURST,
    };
    let burst = u32::try_from((per_second / BURST_DIVISOR).max(least)).unwrap_or(u32::MAX);
    Ok(Verdict::DropOver(RateLimit { unit, per_second, burst }))
}

/// What is installed for one filter.
#[derive(Debug)]
struct Installed {
    serial: u64,
    handles: Vec<u64>,
    limit: Option<String>,
}

/// What one command comes down to.
#[derive(Debug)]
enum Plan {
    /// Decided without the kernel.
    Decided(OutcomeKind),
    /// Changes to make, then what is installed for the filter; `None`: nothing.
    Changes { changes: Vec<Change>, then: Option<Installed> },
}

impl Plan {
    fn changes(&self) -> &[Change] {
        match self {
            Self::Decided(_) => &[],
            Self::Changes { changes, .. } => changes,
        }
    }
}

/// The table, as long as it exists: the kernel removes it when this is dropped.
#[derive(Debug)]
pub(crate) struct Table {
    socket: NetlinkSocket,
    installed: BTreeMap<Nlri, Installed>,
    last_serial: u64,
    /// Whether it is known who has completed a handshake.
    history: bool,
    learnt: Learnt,
}

impl Table {
    /// Creates the table; with `history`, also the sets of sources that have completed a handshake
    /// in so long a time, unless this kernel has no connection tracking.
    pub(crate) fn create(history: Option<Duration>) -> Result<Self, KernelError> {
        let mut socket = NetlinkSocket::open()?;
        let mut changes = vec![Change::Table, Change::Chain];
        let plain = changes.len();
        if let Some(time) = history {
            let both = [History::Ipv4, History::Ipv6];
            changes.extend(both.map(|one| Change::HistorySet(one, time)));
            changes.push(Change::HistoryChain);
            changes.extend(both.map(Change::HistoryRule));
        }
        let mut refused = match socket.transact(&changes)? {
            Transaction::Done(_) => vec![],
            Transaction::Refused(refused) => refused,
        };
        let only_history = refused.iter().all(|(index, _)| *index >= plain);
        if let Some((_, error)) = refused.first().filter(|_| only_history) {
            let error = io::Error::from_raw_os_error(*error);
            tracing::warn!(%error, "no connection tracking: a limit of SYNs is for every source");
            changes.truncate(plain);
            refused = match socket.transact(&changes)? {
                Transaction::Done(_) => vec![],
                Transaction::Refused(refused) => refused,
            };
        }
        // The chain fails with the table; only the first reason counts.
        match refused.first() {
            None => {}
            Some((0, EXISTS)) => return Err(KernelError::TableExists),
            Some((0, PERMISSION)) => return Err(KernelError::TableOwned),
            Some((_, error)) => return Err(KernelError::transaction(*error)),
        }
        let history = changes.len() > plain;
        let installed = BTreeMap::new();
        Ok(Self { socket, installed, last_serial: 0, history, learnt: Learnt::default() })
    }

    /// Carries out `commands` in order; the outcomes are in the same order.
    ///
    /// # Errors
    /// [`KernelError`] if the kernel cannot be talked to any more. What is installed is unknown
    /// then, and the table is to be dropped.
    pub(crate) fn apply(&mut self, commands: &[Command]) -> Result<Vec<OutcomeKind>, KernelError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        while let Some(rest) = commands.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            let mut plans = vec![];
            let mut nlris = BTreeSet::new();
            let mut changes = 0;
            for command in rest {
                // The handles of a rule are known only when its transaction is done.
                if !nlris.insert(command.nlri()) {
                    break;
                }
                let plan = self.plan(command);
                changes += plan.changes().len();
                if !plans.is_empty() && changes > MAX_CHANGES {
                    break;
                }
                plans.push((command.nlri().clone(), plan));
            }
            outcomes.extend(self.carry_out(plans)?);
        }
        Ok(outcomes)
    }

    /// What the kernel holds of ours, with what each filter has dropped.
    pub(crate) fn observe(&mut self) -> Result<Vec<Held>, KernelError> {
        let mut reported: BTreeMap<u64, (usize, Dropped)> = BTreeMap::new();
        for rule in self.socket.dump()? {
            let (rules, dropped) = reported.entry(rule.serial).or_default();
            *rules += 1;
            dropped.packets = dropped.packets.saturating_add(rule.packets);
            dropped.bytes = dropped.bytes.saturating_add(rule.bytes);
        }
        let whole = |(nlri, installed): (&Nlri, &Installed)| {
            let (rules, dropped) = reported.get(&installed.serial)?;
            let nlri = nlri.clone();
            (*rules == installed.handles.len()).then_some(Held { nlri, dropped: Some(*dropped) })
        };
        Ok(self.installed.iter().filter_map(whole).collect())
    }

    /// Makes the rules that peers ask for these and no others, in this order; which of them are not
    /// carried out, and why.
    pub(crate) fn set_learnt(
        &mut self,
        routes: &[Route],
    ) -> Result<Vec<(Nlri, String)>, KernelError> {
        self.learnt.set(&mut self.socket, routes)
    }

    fn plan(&mut self, command: &Command) -> Plan {
        let mut changes = match self.installed.get(command.nlri()) {
            Some(installed) => installed.removal(),
            None => vec![],
        };
        let route = match &command.kind {
            CommandKind::Withdraw(_) => return Plan::Changes { changes, then: None },
            CommandKind::Announce { route, .. } => route,
        };
        let filter = match Filter::of(route) {
            Ok(filter) => filter,
            Err(why) => {
                return Plan::Decided(OutcomeKind::Rejected { why: format!("nftables: {why}") });
            }
        };
        self.last_serial += 1;
        let serial = self.last_serial;
        let limit = match filter.verdict {
            Verdict::DropOver(limit) if filter.terms.len() > 1 => {
                let name = format!("limit-{serial}");
                changes.push(Change::Limit(name.clone(), limit));
                Some(name)
            }
            _ => None,
        };
        let comment = comment(serial, &route.nlri.to_string());
        changes.extend(filter.terms.into_iter().map(|term| Change::Rule {
            term,
            verdict: filter.verdict,
            shared_limit: limit.clone(),
            except: filter.except.filter(|_| self.history),
            comment: comment.clone(),
        }));
        Plan::Changes { changes, then: Some(Installed { serial, handles: vec![], limit }) }
    }

    /// Carries out plans for different routes. If the kernel refuses some, the others are tried
    /// again without them.
    fn carry_out(&mut self, plans: Vec<(Nlri, Plan)>) -> Result<Vec<OutcomeKind>, KernelError> {
        let mut outcomes: Vec<Option<OutcomeKind>> = plans
            .iter()
            .map(|(_, plan)| match plan {
                Plan::Decided(outcome) => Some(outcome.clone()),
                Plan::Changes { .. } => None,
            })
            .collect();
        loop {
            let mut changes = vec![];
            let mut plan_of = vec![];
            for (index, (_, plan)) in plans.iter().enumerate() {
                if outcomes.get(index).is_some_and(Option::is_none) {
                    changes.extend(plan.changes().iter().cloned());
                    plan_of.resize(changes.len(), index);
                }
            }
            let refused = match self.socket.transact(&changes)? {
                Transaction::Done(rules) => {
                    let mut handles: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
                    for rule in rules {
                        handles.entry(rule.serial).or_default().push(rule.handle);
                    }
                    return self.finish(plans, outcomes, handles);
                }
                Transaction::Refused(refused) => refused,
            };
            for (change, error) in refused {
                let Some(index) = plan_of.get(change) else { continue };
                let why = match changes.get(change) {
                    // A rule that somebody removed in spite of all.
                    Some(Change::DeleteRule(_)) if error == NO_SUCH_ENTRY => {
                        return Err(KernelError::Interfered);
                    }
                    _ => format!("nftables: {}", io::Error::from_raw_os_error(error)),
                };
                if let Some(outcome) = outcomes.get_mut(*index) {
                    *outcome = Some(OutcomeKind::Failed { why });
                }
            }
        }
    }

    /// Records what was installed.
    fn finish(
        &mut self,
        plans: Vec<(Nlri, Plan)>,
        outcomes: Vec<Option<OutcomeKind>>,
        mut handles: BTreeMap<u64, Vec<u64>>,
    ) -> Result<Vec<OutcomeKind>, KernelError> {
        let mut finished = Vec::with_capacity(outcomes.len());
        for ((nlri, plan), outcome) in plans.into_iter().zip(outcomes) {
            let Plan::Changes { changes, then } = plan else {
                finished.extend(outcome);
                continue;
            };
            if let Some(failed) = outcome {
                finished.push(failed);
                continue;
            }
            match then {
                None => {
                    self.installed.remove(&nlri);
                }
                Some(mut installed) => {
                    let rules =
                        changes.iter().filter(|change| matches!(change, Change::Rule { .. }));
                    installed.handles = handles.remove(&installed.serial).unwrap_or_default();
                    if installed.handles.len() != rules.count() {
                        return Err(KernelError::NoAnswer);
                    }
                    self.installed.insert(nlri, installed);
                }
            }
            finished.push(OutcomeKind::Applied { bytes: [].into() });
        }
        Ok(finished)
    }
}

impl Installed {
    fn removal(&self) -> Vec<Change> {
        let rules = self.handles.iter().copied().map(Change::DeleteRule);
        rules.chain(self.limit.clone().map(Change::DeleteLimit)).collect()
    }
}

/// Whether nftables can do what `route` says.
///
/// # Errors
/// [`Untranslatable`] with what stands in the way.
pub fn check(route: &Route) -> Result<(), Untranslatable> {
    Filter::of(route).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use tidegate_model::{BitmaskMatch, BitmaskTest};

    fn route(actions: Vec<TrafficFilteringAction>) -> Route {
        let destination = FlowSpecComponent::DestinationPrefix("203.0.113.1".parse().unwrap());
        let rule = FlowSpecRule::new(AddressFamily::Ipv4, vec![destination]).unwrap();
        Route {
            nlri: Nlri::FlowSpec(rule),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            actions,
        }
    }

    #[test]
    fn actions_become_verdicts_or_are_refused_with_the_reason() {
        use TrafficFilteringAction as Action;
        let limit =
            |unit, per_second, burst| Ok(Verdict::DropOver(RateLimit { unit, per_second, burst }));
        let table: Vec<(Vec<Action>, Result<Verdict, &str>)> = vec![
            (vec![Action::DISCARD], Ok(Verdict::Drop)),
            (vec![Action::RateLimitPackets(0.0)], Ok(Verdict::Drop)),
            (vec![Action::RateLimitPackets(1000.0)], limit(Unit::Packets, 1000, 100)),
            (vec![Action::RateLimitPackets(1.5)], limit(Unit::Packets, 1, 5)),
            (vec![Action::RateLimitBytes(125_000.0)], limit(Unit::Bytes, 125_000, 65_536)),
            (vec![Action::RateLimitBytes(1e12)], limit(Unit::Bytes, 999_999_995_904, u32::MAX)),
            (vec![Action::RateLimitBytes(0.5)], Err("`0.5` is not a rate")),
            (vec![Action::RateLimitBytes(-1.0)], Err("not a rate")),
            (vec![Action::RateLimitBytes(f32::NAN)], Err("not a rate")),
            (vec![Action::RateLimitBytes(f32::INFINITY)], Err("not a rate")),
            (vec![], Err("one discard or one rate limit")),
            (vec![Action::Mark(10)], Err("`mark 10`")),
            (vec![Action::DISCARD, Action::DISCARD], Err("`discard, discard`")),
        ];
        for (actions, expected) in table {
            let got = Filter::of(&route(actions.clone())).map(|filter| filter.verdict);
            match (got, expected) {
                (Ok(verdict), Ok(expected)) => assert_eq!(verdict, expected, "{actions:?}"),
                (Err(why), Err(text)) => assert!(why.to_string().contains(text), "{why}"),
                (got, _) => panic!("{actions:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn only_what_opens_connections_excepts_those_who_did_before() {
        let syn = BitmaskMatch::set_and_clear;
        let either = BitmaskMatch::new(vec![
            vec![BitmaskTest { all: true, negated: false, bits: 2 }],
            vec![BitmaskTest { all: true, negated: false, bits: 4 }],
        ]);
        for (mask, opens) in [
            (syn(0x02, 0x10), true),
            (syn(0x02, 0x15), true),
            (BitmaskMatch::all_of(0x02), false),
            (syn(0x10, 0x02), false),
            (either.unwrap(), false),
        ] {
            let mut rule = route(vec![TrafficFilteringAction::RateLimitPackets(5000.0)]);
            let parts = vec![
                FlowSpecComponent::DestinationPrefix("203.0.113.1".parse().unwrap()),
                FlowSpecComponent::TcpFlags(mask.clone()),
            ];
            rule.nlri = Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, parts).unwrap());
            let except = Filter::of(&rule).unwrap().except;
            assert_eq!(except, opens.then_some(History::Ipv4), "{mask:?}");
            rule.actions = vec![TrafficFilteringAction::DISCARD];
            assert_eq!(Filter::of(&rule).unwrap().except, None, "all of them are to be dropped");
        }
    }

    #[test]
    fn unicast_routes_are_for_routers() {
        let unicast =
            Route { nlri: Nlri::Unicast("203.0.113.1".parse().unwrap()), ..route(vec![]) };
        assert_eq!(check(&unicast), Err(Untranslatable::Unicast));
    }
}
