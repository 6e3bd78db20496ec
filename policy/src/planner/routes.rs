//! The routes with which a response would be carried out.

use std::net::IpAddr;

use tidegate_model::{
    AddressFamily, Attack, BackendId, Community, FlowSpecRule, MitigationKey, Nlri, Prefix, Route,
    TrafficFilteringAction,
};

use super::decision::Cause;
use crate::guard;
use crate::policy::{Family, FilterAction, Peer, Policy, Response, ResponseAction, RouteTarget};
use crate::profile::{self, ConfinedBy, FlowSpecProfile, Loss, NotAccepted, Widen};
use crate::rule;

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

/// The routes for `response` to `attack`. `rules_kept` are used in place of new ones as long as
/// they fit.
pub(super) fn carry_out(
    policy: &Policy,
    sessions: &[IpAddr],
    attack: &Attack,
    response: &Response,
    rules_kept: &[FlowSpecRule],
) -> Result<Candidate, Vec<Cause>> {
    let (rules, action) = match response.action {
        ResponseAction::Observe | ResponseAction::Rtbh => (Vec::new(), None),
        ResponseAction::Local(filter) | ResponseAction::FlowSpec(filter) => {
            let mut rules = rules(attack, rules_kept).map_err(|reason| vec![reason])?;
            rules.truncate(policy.budgets.rules_per_attack);
            if filter == FilterAction::Discard {
                spare_services(policy, attack, &rules)?;
            }
            (rules, Some(filter_action(filter)))
        }
    };
    put(policy, sessions, attack.target, response, (rules, action))
}

/// The routes with which `response` carries out `rules`, or blackholes `target` if there is no
/// action for rules.
pub(super) fn put(
    policy: &Policy,
    sessions: &[IpAddr],
    target: Prefix,
    response: &Response,
    (rules, action): (Vec<FlowSpecRule>, Option<TrafficFilteringAction>),
) -> Result<Candidate, Vec<Cause>> {
    let family = target.family();
    let mut routes = Vec::new();
    let mut losses = Vec::new();
    let mut missing: Vec<Cause> = Vec::new();
    for (backend, peer) in backends(policy, response, family) {
        let put = match action {
            None => blackhole(peer, target).map(|route| (vec![route], Vec::new())),
            Some(action) => filters(peer, &rules, action, response.widen),
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
        let judged = wanted.iter().try_for_each(|route| {
            guard::judge(&policy.space, sessions, route)?;
            guard::judge_sources(&policy.allowed_remotes, route)
        });
        match judged {
            Ok(()) => {
                losses.extend(lost.into_iter().map(|loss| (backend.clone(), loss)));
                routes.extend(wanted.into_iter().map(|route| (backend.clone(), route)));
            }
            Err(refusal) if missing.contains(&Cause::Guard(refusal.clone())) => {}
            Err(refusal) => missing.push(refusal.into()),
        }
    }
    if !routes.is_empty() {
        return Ok(Candidate { routes, rules, losses, missing, bridge: Bridge::default() });
    }
    if let (true, Some(family)) = (missing.is_empty(), response.action.family(family)) {
        missing.push(Cause::NoPeer { family });
    }
    Err(missing)
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
