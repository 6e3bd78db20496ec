//! The routes with which a response would be carried out.

use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, Attack, AttackSample, BackendId, Community, FlowSpecRule, MitigationKey, Nlri,
    Prefix, Route, TrafficFilteringAction,
};

use super::decision::Cause;
use crate::guard;
use crate::policy::{
    Budgets, Family, FilterAction, Peer, Policy, Response, ResponseAction, RouteTarget, RuleSource,
};
use crate::profile::{self, ConfinedBy, FlowSpecProfile, Loss, NotAccepted, Widen};
use crate::rule;
use crate::synthesis::{self, Bounds, Synthesis};

/// Other rules take the place of those from samples if they match so much more of the attack.
const WORTH_A_CHANGE: f64 = 0.05;

/// A response in terms of routes, every one of which the guard let pass.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    /// At least one.
    pub(super) routes: Vec<(BackendId, Route)>,
    /// The rules that were asked for, before they took the form that each backend takes.
    pub(super) rules: Vec<FlowSpecRule>,
    /// What the routes at some backends do not say of what was asked for.
    pub(super) losses: Vec<(BackendId, Loss)>,
    /// What stands in the way at some of the response's peers.
    pub(super) missing: Vec<Cause>,
    /// What stays of another answer until this one is in force.
    pub(super) bridge: Bridge,
    /// Where the rules come from, if they were to come from samples.
    pub(super) made: Vec<(BackendId, Made)>,
}

/// Routes of the answer before, which go when those that take their place are in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bridge {
    /// All of them were in force. Empty where nothing is awaited.
    pub(super) routes: Vec<(BackendId, Route)>,
    /// The response that asked for them.
    pub(super) response: String,
    /// Why.
    pub(super) reason: String,
}

impl Candidate {
    pub(super) fn keys(&self) -> impl Iterator<Item = MitigationKey> {
        keys(&self.routes)
    }
}

/// What `routes` are known by.
pub(super) fn keys<'a>(
    routes: impl IntoIterator<Item = &'a (BackendId, Route)>,
) -> impl Iterator<Item = MitigationKey> {
    routes.into_iter().map(|(backend, route)| MitigationKey {
        backend: backend.clone(),
        nlri: route.nlri.clone(),
    })
}

/// Where the rules for one backend come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    /// From samples, with what they were measured to do.
    Samples(Synthesis),
    /// Those in place, which match so much of the attack in the latest samples, and so much of the
    /// traffic before.
    Kept(f64, f64),
    /// From signatures, for this reason.
    Signature(String),
}

/// The rules of a response.
#[derive(Clone, Debug)]
pub(super) enum Rules<'a> {
    /// The same for every backend.
    Given(Vec<FlowSpecRule>),
    /// From samples, for each backend by what it can express.
    Sampled {
        attack: &'a Attack,
        sample: &'a AttackSample,
        /// Those in place.
        kept: &'a [FlowSpecRule],
        /// For where samples give none.
        otherwise: Result<Vec<FlowSpecRule>, Vec<Cause>>,
    },
}

/// The routes for `response` to `attack`. `kept` are used in place of new rules as long as they fit.
pub(super) fn carry_out(
    policy: &Policy,
    sessions: &[IpAddr],
    (attack, sample): (&Attack, Option<&AttackSample>),
    response: &Response,
    kept: &[FlowSpecRule],
) -> Result<Candidate, Vec<Cause>> {
    let (ResponseAction::Local(filter) | ResponseAction::FlowSpec(filter)) = response.action else {
        return put(policy, sessions, attack.target, response, (Rules::Given(Vec::new()), None));
    };
    let by_signature = || {
        let mut rules = rules(attack, kept).map_err(|reason| vec![reason])?;
        rules.truncate(policy.budgets.rules_per_attack);
        if filter == FilterAction::Discard {
            spare_services(policy, attack, &rules)?;
        }
        Ok(rules)
    };
    let rules = match (response.rules_from, sample) {
        (RuleSource::Samples, Some(sample)) => {
            Rules::Sampled { attack, sample, kept, otherwise: by_signature() }
        }
        _ => Rules::Given(by_signature()?),
    };
    put(policy, sessions, attack.target, response, (rules, Some(filter_action(filter))))
}

/// The routes with which `response` carries out `rules`, or blackholes `target` if there is no
/// action for rules.
pub(super) fn put(
    policy: &Policy,
    sessions: &[IpAddr],
    target: Prefix,
    response: &Response,
    (rules, action): (Rules<'_>, Option<TrafficFilteringAction>),
) -> Result<Candidate, Vec<Cause>> {
    let family = target.family();
    let (mut routes, mut losses, mut made) = (Vec::new(), Vec::new(), Vec::new());
    let mut missing: Vec<Cause> = Vec::new();
    let mut asked: Vec<FlowSpecRule> = Vec::new();
    for (backend, peer) in backends(policy, response, family) {
        let put = match action {
            None => blackhole(peer, target).map(|route| (vec![route], Vec::new())),
            Some(action) => match rules_for(policy, sessions, peer, &rules, action) {
                Ok((rules, from)) => {
                    made.extend(from.map(|from| (backend.clone(), from)));
                    for rule in &rules {
                        if !asked.contains(rule) {
                            asked.push(rule.clone());
                        }
                    }
                    filters(peer, &rules, action, response.widen)
                }
                Err(causes) => {
                    for cause in causes {
                        if !missing.contains(&cause) {
                            missing.push(cause);
                        }
                    }
                    continue;
                }
            },
        };
        let (wanted, lost) = match put {
            Ok(put) => put,
            Err(why) => {
                let profile = peer.map_or_else(String::new, |peer| peer.profile.clone());
                missing.push(Cause::Profile { backend, profile, why });
                continue;
            }
        };
        // All rules or none: half of them would leave the target down and pass for an answer.
        match wanted.iter().try_for_each(|route| judge(policy, sessions, route)) {
            Ok(()) => {
                losses.extend(lost.into_iter().map(|loss| (backend.clone(), loss)));
                routes.extend(wanted.into_iter().map(|route| (backend.clone(), route)));
            }
            Err(refusal) if missing.contains(&Cause::Guard(refusal.clone())) => {}
            Err(refusal) => missing.push(refusal.into()),
        }
    }
    if !routes.is_empty() {
        let bridge = Bridge::default();
        return Ok(Candidate { routes, rules: asked, losses, missing, bridge, made });
    }
    if let (true, Some(family)) = (missing.is_empty(), response.action.family(family)) {
        missing.push(Cause::NoPeer { family });
    }
    Err(missing)
}

fn judge(policy: &Policy, sessions: &[IpAddr], route: &Route) -> Result<(), guard::Refusal> {
    guard::judge(&policy.space, sessions, route)?;
    guard::judge_sources(&policy.allowed_remotes, route)
}

/// What one backend is asked for, and where that comes from if it was to come from samples.
fn rules_for(
    policy: &Policy,
    sessions: &[IpAddr],
    peer: Option<&Peer>,
    rules: &Rules<'_>,
    action: TrafficFilteringAction,
) -> Result<(Vec<FlowSpecRule>, Option<Made>), Vec<Cause>> {
    let (attack, sample, kept, otherwise) = match rules {
        Rules::Given(rules) => return Ok((rules.clone(), None)),
        Rules::Sampled { attack, sample, kept, otherwise } => (attack, sample, kept, otherwise),
    };
    let ports = policy.group(&attack.group).map_or(&[][..], |group| &group.allowed_ports);
    let allowed = |rule: &FlowSpecRule| {
        let discards = action == TrafficFilteringAction::DISCARD;
        if discards && ports.iter().any(|port| guard::cuts_off(rule, *port)) {
            return false;
        }
        // What takes several rules there is not one.
        match filters(peer, std::slice::from_ref(rule), action, Widen::Allow) {
            Ok((routes, losses)) => {
                let exact = routes.len() == 1
                    && losses.iter().all(|loss| matches!(loss, Loss::Discard { .. }));
                exact && routes.iter().all(|route| judge(policy, sessions, route).is_ok())
            }
            Err(_) => false,
        }
    };
    let bounds = bounds(policy);
    let kept: Vec<FlowSpecRule> = kept.iter().filter(|rule| allowed(rule)).cloned().collect();
    let worth = synthesis::measure(&kept, sample).filter(|it| it.1 <= bounds.collateral);
    match (synthesis::find(attack.target, &attack.vectors, sample, bounds, allowed), worth) {
        (Ok(found), Some((coverage, collateral))) if found.coverage < coverage + WORTH_A_CHANGE => {
            Ok((kept, Some(Made::Kept(coverage, collateral))))
        }
        (Ok(found), _) => Ok((found.rules(), Some(Made::Samples(found)))),
        (Err(why), _) => Ok((otherwise.clone()?, Some(Made::Signature(why.to_string())))),
    }
}

/// What rules from samples may cost.
pub(super) fn bounds(policy: &Policy) -> Bounds {
    let Budgets { rules_per_attack, tcam_entries, collateral, .. } = policy.budgets;
    Bounds { rules: rules_per_attack, tcam_entries, collateral }
}

/// Refuses rules that would cut off every client of a service which the group offers.
fn spare_services(
    policy: &Policy,
    attack: &Attack,
    rules: &[FlowSpecRule],
) -> Result<(), Vec<Cause>> {
    let ports = policy.group(&attack.group).map_or(&[][..], |group| &group.allowed_ports);
    let hit = ports.iter().find(|port| rules.iter().any(|rule| guard::cuts_off(rule, **port)));
    hit.map_or(Ok(()), |service| Err(vec![Cause::AllowedPort { service: *service }]))
}

fn rules(attack: &Attack, kept: &[FlowSpecRule]) -> Result<Vec<FlowSpecRule>, Cause> {
    match rule::synthesise(attack.target, &attack.vectors) {
        Ok(rules) if rule::still_fits(kept, &rules) => Ok(kept.to_vec()),
        Ok(rules) => Ok(rules),
        Err(reason) => Err(reason.into()),
    }
}

/// The kernel, or the response's peers that have the family.
fn backends<'a>(
    policy: &'a Policy,
    response: &'a Response,
    target: AddressFamily,
) -> Vec<(BackendId, Option<&'a Peer>)> {
    let Some(family) = response.action.family(target) else {
        return vec![(BackendId::Kernel, None)];
    };
    let peers = response.peers.iter().filter_map(|name| policy.peer(name));
    peers.filter(|peer| peer.has(family)).map(|peer| (peer.backend(), Some(peer))).collect()
}

/// Whether `family` is the one that `route` is announced in.
pub(super) fn carries(family: Family, route: &Route) -> bool {
    let (unicast, flowspec) = match route.nlri.family() {
        AddressFamily::Ipv4 => (Family::Ipv4Unicast, Family::Ipv4FlowSpec),
        AddressFamily::Ipv6 => (Family::Ipv6Unicast, Family::Ipv6FlowSpec),
    };
    match route.nlri {
        Nlri::Unicast(_) => family == unicast,
        Nlri::FlowSpec(_) => family == flowspec,
    }
}

pub(super) fn filter_action(filter: FilterAction) -> TrafficFilteringAction {
    #[expect(clippy::cast_precision_loss, reason = "the wire has a 32-bit float (RFC 8955 §7.1)")]
    match filter {
        FilterAction::Discard => TrafficFilteringAction::DISCARD,
        FilterAction::RateLimitBytes(bytes) => TrafficFilteringAction::RateLimitBytes(bytes as f32),
        FilterAction::RateLimitPackets(packets) => {
            TrafficFilteringAction::RateLimitPackets(packets as f32)
        }
        FilterAction::Redirect(RouteTarget::As2(asn, number)) => {
            TrafficFilteringAction::RedirectAs2(asn, number)
        }
        FilterAction::Redirect(RouteTarget::As4(asn, number)) => {
            TrafficFilteringAction::RedirectAs4(asn, number)
        }
        FilterAction::Redirect(RouteTarget::Ipv4(address, number)) => {
            TrafficFilteringAction::RedirectIpv4(address, number)
        }
        FilterAction::RedirectToIp(address) => TrafficFilteringAction::RedirectToIp(address, false),
        FilterAction::Mark(dscp) => TrafficFilteringAction::Mark(dscp),
    }
}

/// Whether the profile of `peer` takes `route` as it stands.
pub(super) fn accepts(peer: &Peer, route: &Route) -> bool {
    match &route.nlri {
        Nlri::Unicast(target) => blackhole(Some(peer), *target).is_ok(),
        Nlri::FlowSpec(rule) => profile::takes(&peer.flowspec, rule, &route.actions),
    }
}

fn blackhole(peer: Option<&Peer>, target: Prefix) -> Result<Route, NotAccepted> {
    if let Some(peer) = peer {
        let lengths = match target.family() {
            AddressFamily::Ipv4 => peer.rtbh.lengths_v4,
            AddressFamily::Ipv6 => peer.rtbh.lengths_v6,
        };
        // What is too wide for anybody is the guard's to refuse.
        if target.is_host() && !lengths.contain(target.length()) {
            return Err(NotAccepted::Length { destination: target, lengths });
        }
    }
    let next_hop = peer.map(|peer| match target.family() {
        AddressFamily::Ipv4 => IpAddr::V4(peer.rtbh.next_hop_v4),
        AddressFamily::Ipv6 => IpAddr::V6(peer.rtbh.next_hop_v6),
    });
    let communities = peer.map(|peer| &peer.communities | &peer.rtbh.communities);
    let large = peer.map(|peer| &peer.large_communities | &peer.rtbh.large_communities);
    Ok(Route {
        nlri: Nlri::Unicast(target),
        next_hop,
        communities: communities.unwrap_or_default(),
        large_communities: large.unwrap_or_default(),
        actions: Vec::new(),
    })
}

/// Routes for `rules` in the form that the peer takes, and what they do not say any more.
fn filters(
    peer: Option<&Peer>,
    rules: &[FlowSpecRule],
    action: TrafficFilteringAction,
    widen: Widen,
) -> Result<(Vec<Route>, Vec<Loss>), NotAccepted> {
    // The kernel takes everything that the standards allow.
    let standard = FlowSpecProfile::default();
    let profile = peer.map_or(&standard, |peer| &peer.flowspec);
    let compiled = profile::compile(profile, rules, action, widen)?;
    let routes = compiled.rules.iter().map(|rule| filter(peer, rule, compiled.action));
    Ok((routes.collect(), compiled.losses))
}

/// A filter stays inside the peer's AS (NO_EXPORT): its border routers are where it acts, and no
/// neighbour of theirs asked for it. Where the peer sees to that, it may be meant for others.
fn filter(peer: Option<&Peer>, rule: &FlowSpecRule, action: TrafficFilteringAction) -> Route {
    let mut communities = peer.map(|peer| peer.communities.clone()).unwrap_or_default();
    if peer.is_some_and(|peer| peer.confined_by == ConfinedBy::Community) {
        communities.insert(Community::NO_EXPORT);
    }
    Route {
        nlri: Nlri::FlowSpec(rule.clone()),
        next_hop: None,
        communities,
        large_communities: peer.map(|peer| peer.large_communities.clone()).unwrap_or_default(),
        actions: vec![action],
    }
}
