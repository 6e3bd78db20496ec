//! From the daemon's values to those of the interface, and back.

use std::time::Duration;

use tidegate_bgpd::session::{Delivery, MessageCounters, SessionError};
use tidegate_bgpd::speaker::PeerStatus;
use tidegate_model::{
    AddressFamily, AttackId, AttackVector, BackendId, BackendState, BitsPerSecond, Confidence,
    FlowSpecComponent, FlowSpecRule, MitigationKey, Nlri, NumericMatch, OutcomeKind,
    PacketsPerSecond, Prefix, Rate, Route, Severity, Signature, TcpFlags, Timestamp,
};
use tidegate_policy::{FilterAction, ManualAction, Proposal, ResponseAction};
use tidegate_reconciler::EntryState;
use tonic::Status;

use super::v1;
use super::view::{AttackView, MitigationView, View};
use crate::clock::WallOrigin;
use crate::event::{Event, EventKind};
use crate::incident::{self, ChangeKind, Incident, WallTime};
use crate::json::ledger_text;
use crate::reports::{DEFAULT_LEASE, Report};

/// Most ports or protocols of one rule of a person.
const MAX_VALUES: usize = 64;

/// A bad argument.
fn invalid(what: impl std::fmt::Display) -> Status {
    Status::invalid_argument(what.to_string())
}

pub(super) fn nanos(nanoseconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    }
}

pub(super) fn time(wall: WallOrigin, time: Timestamp) -> Option<prost_types::Timestamp> {
    Some(nanos(wall.nanos_at(time)))
}

pub(super) fn wall_time(time: WallTime) -> prost_types::Timestamp {
    nanos(time.as_nanos())
}

/// A time of the interface in nanoseconds since the Unix epoch.
pub(super) fn to_nanos(time: &prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u64::try_from(time.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

pub(super) fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration; an error if it is absent or negative.
pub(super) fn to_span(
    name: &str,
    span: Option<&prost_types::Duration>,
) -> Result<Duration, Status> {
    let span = span.ok_or_else(|| invalid(format!("`{name}` is missing")))?;
    let seconds = u64::try_from(span.seconds).ok();
    let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let span = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    span.ok_or_else(|| invalid(format!("`{name}` is no duration from zero on")))
}

pub(super) fn rate(rate: Rate) -> v1::Rate {
    v1::Rate { packets: rate.packets.0, bits: rate.bits.0 }
}

pub(super) fn to_rate(rate: Option<v1::Rate>) -> Rate {
    let rate = rate.unwrap_or_default();
    Rate { packets: PacketsPerSecond(rate.packets), bits: BitsPerSecond(rate.bits) }
}

fn record_rate(rate: incident::Rate) -> v1::Rate {
    v1::Rate { packets: rate.packets_per_second, bits: rate.bits_per_second }
}

pub(super) fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Low => v1::Severity::Low,
        Severity::Medium => v1::Severity::Medium,
        Severity::High => v1::Severity::High,
        Severity::Critical => v1::Severity::Critical,
    }
}

pub(super) fn prefix(text: &str) -> Result<Prefix, Status> {
    text.parse().map_err(|_| {
        invalid(format!("`{text}` is no address or prefix; write one like `203.0.113.7`"))
    })
}

pub(super) fn attack_id(text: &str) -> Result<AttackId, Status> {
    text.parse().map_err(invalid)
}

pub(super) fn vector(text: &str) -> Result<AttackVector, Status> {
    text.parse().map_err(|error| invalid(format!("{error}; docs/policy.md lists them")))
}

pub(super) fn incident(incident: &Incident) -> v1::Incident {
    let held = incident.mitigations.iter().filter(|it| it.state.may_be_held()).count();
    v1::Incident {
        id: incident.id.clone(),
        attack: incident.attack.clone(),
        target: incident.target.to_string(),
        group: incident.group.clone(),
        status: match incident.status {
            incident::Status::Active => v1::IncidentStatus::Active,
            incident::Status::Ended => v1::IncidentStatus::Ended,
            incident::Status::Closed => v1::IncidentStatus::Closed,
        }
        .into(),
        severity: incident.severity.map_or(v1::Severity::Unspecified, severity).into(),
        vector: incident.main_vector().to_owned(),
        confidence: incident.vectors.first().map_or(0.0, |vector| vector.confidence),
        onset: Some(wall_time(incident.times.onset)),
        detected: Some(wall_time(incident.times.detected)),
        ended: incident.times.ended.map(wall_time),
        current: Some(record_rate(incident.current)),
        peak: Some(record_rate(incident.peak)),
        mitigations: count(held),
        response: incident.policy.response.clone().unwrap_or_default(),
    }
}

pub(super) fn change(kind: &ChangeKind) -> (v1::watch_incidents_response::Change, String) {
    use v1::watch_incidents_response::Change as To;
    match kind {
        ChangeKind::Opened => (To::Opened, String::new()),
        ChangeKind::Escalated => (To::Escalated, String::new()),
        ChangeKind::Updated => (To::Updated, String::new()),
        ChangeKind::Mitigated => (To::Mitigated, String::new()),
        ChangeKind::NotEnforced(what) => (To::NotEnforced, what.clone()),
        ChangeKind::Acknowledged(by) => (To::Acknowledged, by.clone()),
        ChangeKind::Ended => (To::Ended, String::new()),
        ChangeKind::Closed => (To::Closed, String::new()),
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn kind(nlri: &Nlri) -> i32 {
    match nlri {
        Nlri::Unicast(_) => v1::MitigationKind::Blackhole,
        Nlri::FlowSpec(_) => v1::MitigationKind::Flowspec,
    }
    .into()
}

pub(super) fn route(route: &Route) -> v1::Route {
    v1::Route {
        next_hop: route.next_hop.map(|address| address.to_string()).unwrap_or_default(),
        communities: route.communities.iter().map(ToString::to_string).collect(),
        large_communities: route.large_communities.iter().map(ToString::to_string).collect(),
        actions: route.actions.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn mitigation(mitigation: &MitigationView, wall: WallOrigin) -> v1::Mitigation {
    let (state, why) = state(&mitigation.state);
    let wanted = mitigation.wanted.as_ref();
    v1::Mitigation {
        backend: mitigation.key.backend.to_string(),
        kind: kind(&mitigation.key.nlri),
        nlri: mitigation.key.nlri.to_string(),
        state: state.into(),
        why,
        may_be_held: mitigation.may_be_held,
        since: time(wall, mitigation.since),
        not_after: wanted.and_then(|wanted| time(wall, wanted.not_after)),
        attacks: wanted
            .map(|wanted| wanted.attacks.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        response: wanted.map(|wanted| wanted.response.clone()).unwrap_or_default(),
        reason: wanted.map(|wanted| wanted.reason.clone()).unwrap_or_default(),
        route: wanted.map(|wanted| route(&wanted.route)),
    }
}

fn state(state: &EntryState) -> (v1::MitigationState, String) {
    use v1::MitigationState as To;
    match state {
        EntryState::Wanted => (To::Wanted, String::new()),
        EntryState::Announcing => (To::Announcing, String::new()),
        EntryState::Pending { why } => (To::Pending, why.clone()),
        EntryState::Applied => (To::Applied, String::new()),
        EntryState::Unknown { why } => (To::Unknown, why.clone()),
        EntryState::Failed { why } => (To::Failed, why.clone()),
        EntryState::Rejected { why } => (To::Rejected, why.clone()),
        EntryState::Refused(refusal) => (To::Refused, refusal.to_string()),
        EntryState::Withdrawing => (To::Withdrawing, String::new()),
    }
}

/// What waits for approval: one for each route of it.
pub(super) fn proposed(proposal: &Proposal) -> impl Iterator<Item = v1::Mitigation> {
    proposal.keys.iter().map(|key| v1::Mitigation {
        backend: key.backend.to_string(),
        kind: kind(&key.nlri),
        nlri: key.nlri.to_string(),
        state: v1::MitigationState::Proposed.into(),
        why: "waits for approval".to_owned(),
        attacks: vec![proposal.attack.to_string()],
        response: proposal.response.clone(),
        reason: proposal.reason.clone(),
        ..v1::Mitigation::default()
    })
}

/// What is wanted, held or proposed, of one attack or of all.
pub(super) fn mitigations(
    view: &View,
    attack: Option<AttackId>,
    wall: WallOrigin,
) -> Vec<v1::Mitigation> {
    let of = |mitigation: &&MitigationView| match (attack, &mitigation.wanted) {
        (None, _) => true,
        (Some(attack), Some(wanted)) => wanted.attacks.contains(&attack),
        (Some(_), None) => false,
    };
    let ledger = view.mitigations.iter().filter(of).map(|it| mitigation(it, wall));
    let proposals = view
        .attacks
        .iter()
        .filter(|it| attack.is_none_or(|attack| attack == it.attack.id))
        .flat_map(|it| &it.proposals)
        .flat_map(proposed);
    ledger.chain(proposals).collect()
}

pub(super) fn attack(view: &AttackView, wall: WallOrigin) -> v1::Attack {
    let attack = &view.attack;
    v1::Attack {
        id: attack.id.to_string(),
        target: attack.target.to_string(),
        group: attack.group.clone(),
        vector: attack.main_vector().to_string(),
        confidence: attack.confidence().get(),
        severity: severity(view.severity).into(),
        onset: time(wall, attack.onset),
        current: Some(rate(attack.current)),
        peak: Some(rate(attack.peak)),
        excess: attack.excess,
        sources: attack.sources,
        response: view.response.clone().unwrap_or_default(),
        held_by: view.held_by.clone().unwrap_or_default(),
        proposed: view.proposals.iter().map(|proposal| proposal.response.clone()).collect(),
        over: view.over,
    }
}

pub(super) fn backends(view: &View, wall: WallOrigin) -> Vec<v1::Backend> {
    let backend = |(id, state): (&BackendId, &Option<(BackendState, Timestamp)>)| {
        let entries = || view.mitigations.iter().filter(|it| it.key.backend == *id);
        let applied = entries().filter(|it| it.state == EntryState::Applied).count();
        let (known, why) = match state {
            None => (v1::BackendState::Unspecified, String::new()),
            Some((BackendState::Up, _)) => (v1::BackendState::Up, String::new()),
            Some((BackendState::Down { why }, _)) => (v1::BackendState::Down, why.clone()),
        };
        v1::Backend {
            name: id.to_string(),
            state: known.into(),
            why,
            since: state.as_ref().and_then(|(_, since)| time(wall, *since)),
            mitigations: count(entries().count()),
            applied: count(applied),
        }
    };
    view.backends.iter().map(backend).collect()
}

pub(super) fn peer(status: &PeerStatus) -> v1::Peer {
    let session = &status.session;
    let (sent_age, received_age) = status.last_error_age;
    v1::Peer {
        name: status.name.clone(),
        address: status.address.to_string(),
        asn: status.asn,
        state: session.state.name().to_owned(),
        in_state_for: Some(span(status.in_state_for)),
        down: session.down.clone().unwrap_or_default(),
        negotiated: session.negotiated.as_ref().map(|agreed| v1::Negotiated {
            router_id: agreed.router_id.to_string(),
            hold_time: Some(span(agreed.hold_time)),
            families: agreed.families.iter().map(ToString::to_string).collect(),
            four_octet_as: agreed.four_octet_as,
            route_refresh: agreed.route_refresh,
            enhanced_refresh: agreed.enhanced_refresh,
            extended_messages: agreed.extended_messages,
            graceful_restart: agreed.restart.is_some(),
            peer_role: agreed
                .peer_role
                .map(|role| format!("{role:?}").to_ascii_lowercase())
                .unwrap_or_default(),
        }),
        sent: Some(messages(session.counters.sent)),
        received: Some(messages(session.counters.received)),
        routes: count(session.routes),
        unconfirmed_withdraws: count(session.unconfirmed_withdraws),
        withheld: count(session.withheld),
        quarantined: count(session.quarantined),
        last_error_sent: session.last_error_sent.as_ref().map(|it| session_error(it, sent_age)),
        last_error_received: session
            .last_error_received
            .as_ref()
            .map(|it| session_error(it, received_age)),
        received_unicast: count(status.learnt.unicast),
        received_flowspec: count(status.learnt.flowspec),
        established: session.counters.established,
        connect_failures: session.counters.connect_failures,
        malformed_updates: session.counters.malformed_updates,
    }
}

fn messages(counters: MessageCounters) -> v1::Messages {
    v1::Messages {
        open: counters.open,
        update: counters.update,
        keepalive: counters.keepalive,
        notification: counters.notification,
        route_refresh: counters.route_refresh,
    }
}

fn session_error(error: &SessionError, age: Option<Duration>) -> v1::SessionError {
    v1::SessionError {
        code: error.code.into(),
        subcode: error.subcode.into(),
        text: error.text.clone(),
        age: age.map(span),
    }
}

pub(super) fn delivery(delivery: Delivery) -> i32 {
    match delivery {
        Delivery::Waiting => v1::Delivery::Waiting,
        Delivery::Unconfirmed => v1::Delivery::Unconfirmed,
        Delivery::Confirmed => v1::Delivery::Confirmed,
    }
    .into()
}

/// What an event says of mitigations; `None` if it is about something else.
pub(super) fn event(event: &Event, wall: WallOrigin) -> Option<v1::WatchMitigationsResponse> {
    use v1::watch_mitigations_response::Event as To;
    let of_key = |what: To, key: &MitigationKey, reason: String| v1::WatchMitigationsResponse {
        event: what.into(),
        backend: key.backend.to_string(),
        kind: kind(&key.nlri),
        nlri: key.nlri.to_string(),
        reason,
        ..v1::WatchMitigationsResponse::default()
    };
    let mut told = match &event.kind {
        EventKind::Decision(decision) => v1::WatchMitigationsResponse {
            event: To::Decision.into(),
            attacks: vec![decision.attack.to_string()],
            reason: decision.reason.clone(),
            ..v1::WatchMitigationsResponse::default()
        },
        EventKind::Announce { key, attacks, .. } => {
            let mut told = of_key(To::Announce, key, String::new());
            told.attacks = attacks.iter().map(ToString::to_string).collect();
            told
        }
        EventKind::Withdraw { key, why, .. } => of_key(To::Withdraw, key, why.clone()),
        EventKind::Outcome { outcome, .. } => {
            let key =
                MitigationKey { backend: outcome.backend.clone(), nlri: outcome.nlri.clone() };
            let (what, why) = match &outcome.kind {
                OutcomeKind::Applied { .. } => (To::Applied, String::new()),
                OutcomeKind::Pending { why } => (To::Pending, why.clone()),
                OutcomeKind::Rejected { why } | OutcomeKind::Failed { why } => {
                    (To::Failed, why.clone())
                }
            };
            of_key(what, &key, why)
        }
        EventKind::Ledger(change) => of_key(To::Refused, &change.key, ledger_text(&change.change)),
        EventKind::Attack(_) | EventKind::Backend(..) => return None,
    };
    told.time = time(wall, event.time);
    Some(told)
}

/// `flowspec discard`, `rtbh`.
pub(super) fn action(action: ResponseAction) -> String {
    match action {
        ResponseAction::Observe | ResponseAction::Rtbh => action.name().to_owned(),
        ResponseAction::Local(filter) | ResponseAction::FlowSpec(filter) => {
            let filter = match filter {
                FilterAction::Discard => "discard".to_owned(),
                FilterAction::RateLimitBytes(rate) => format!("rate-limit {rate} B/s"),
                FilterAction::RateLimitPackets(rate) => format!("rate-limit {rate} pps"),
                FilterAction::Redirect(_) | FilterAction::RedirectToIp(_) => "redirect".to_owned(),
                FilterAction::Mark(dscp) => format!("mark {dscp}"),
            };
            format!("{} {filter}", action.name())
        }
    }
}

/// What a person wants announced for `target`.
pub(super) fn manual_action(
    target: Prefix,
    action: Option<v1::announce_request::Action>,
) -> Result<ManualAction, Status> {
    use v1::announce_request::Action as From;
    match action {
        Some(From::Blackhole(_)) => Ok(ManualAction::Blackhole),
        Some(From::Flowspec(filter)) => {
            filter_rule(target, &filter).map(|(rule, action)| ManualAction::FlowSpec(rule, action))
        }
        Some(From::Local(filter)) => {
            filter_rule(target, &filter).map(|(rule, action)| ManualAction::Local(rule, action))
        }
        None => Err(invalid("`action` is missing: blackhole, flowspec or local")),
    }
}

fn filter_rule(
    target: Prefix,
    filter: &v1::Filter,
) -> Result<(FlowSpecRule, FilterAction), Status> {
    use v1::filter::Action as From;
    let mut components = vec![FlowSpecComponent::DestinationPrefix(target)];
    type Part<'a> = (&'a str, &'a [u32], u32, fn(NumericMatch) -> FlowSpecComponent);
    let parts: [Part<'_>; 3] = [
        ("protocols", &filter.protocols, 255, FlowSpecComponent::IpProtocol),
        (
            "destination_ports",
            &filter.destination_ports,
            65_535,
            FlowSpecComponent::DestinationPort,
        ),
        ("source_ports", &filter.source_ports, 65_535, FlowSpecComponent::SourcePort),
    ];
    for (name, values, most, component) in parts {
        if values.len() > MAX_VALUES {
            return Err(invalid(format!("`{name}` has more than {MAX_VALUES} values")));
        }
        if let Some(value) = values.iter().find(|value| **value > most) {
            return Err(invalid(format!("{value} in `{name}` is beyond {most}")));
        }
        let mut values: Vec<u64> = values.iter().map(|value| u64::from(*value)).collect();
        values.sort_unstable();
        values.dedup();
        if let Some((first, rest)) = values.split_first() {
            components.push(component(NumericMatch::one_of(*first, rest.iter().copied())));
        }
    }
    let family: AddressFamily = target.family();
    let rule = FlowSpecRule::new(family, components).map_err(invalid)?;
    let nonzero = |rate: u64| {
        if rate == 0 { Err(invalid("a rate of zero discards; say `discard`")) } else { Ok(rate) }
    };
    let action = match filter.action {
        Some(From::Discard(_)) => FilterAction::Discard,
        Some(From::RateLimitBytes(rate)) => FilterAction::RateLimitBytes(nonzero(rate)?),
        Some(From::RateLimitPackets(rate)) => FilterAction::RateLimitPackets(nonzero(rate)?),
        None => return Err(invalid("the filter has no action: discard or a rate limit")),
    };
    Ok((rule, action))
}

/// A report of `reporter`, heard at `now`.
pub(super) fn report(
    reporter: &str,
    request: v1::ReportAttackRequest,
    now: Timestamp,
    wall: WallOrigin,
) -> Result<Report, Status> {
    let lease = match &request.lease {
        None => DEFAULT_LEASE,
        some => to_span("lease", some.as_ref())?,
    };
    let onset = request.onset.as_ref().map_or(now, |onset| {
        let since_start = to_nanos(onset).saturating_sub(wall.nanos_at(Timestamp::ZERO));
        Timestamp::from_nanos(since_start).min(now)
    });
    Ok(Report {
        reporter: reporter.to_owned(),
        id: request.id,
        target: prefix(&request.target)?,
        vector: vector(&request.vector)?,
        confidence: Confidence::new(request.confidence),
        signature: signature(request.signature.unwrap_or_default())?,
        rate: to_rate(request.rate),
        sources: request.sources,
        onset,
        volume: (request.packets, request.bytes),
        lease,
        ended: request.ended,
    })
}

fn signature(from: v1::Signature) -> Result<Signature, Status> {
    fn narrow<T: TryFrom<u32>>(name: &str, value: Option<u32>) -> Result<Option<T>, Status> {
        let narrowed = value.map(T::try_from).transpose();
        narrowed.map_err(|_| invalid(format!("`{name}` is too large")))
    }
    let ports = |name: &str, ports: &[u32]| {
        if ports.len() > MAX_VALUES {
            return Err(invalid(format!("`{name}` has more than {MAX_VALUES} values")));
        }
        ports
            .iter()
            .map(|port| u16::try_from(*port).map_err(|_| invalid(format!("{port} is no port"))))
            .collect::<Result<Vec<u16>, Status>>()
    };
    let set = narrow("tcp_flags_set", from.tcp_flags_set)?;
    let clear = narrow("tcp_flags_clear", from.tcp_flags_clear)?;
    let flags = (set.is_some() || clear.is_some())
        .then(|| TcpFlags { set: set.unwrap_or(0), clear: clear.unwrap_or(0) });
    if flags.is_some_and(|flags| flags.set & flags.clear != 0) {
        return Err(invalid("`tcp_flags_set` and `tcp_flags_clear` contradict each other"));
    }
    let least: Option<u16> = narrow("length_min", from.length_min)?;
    let most: Option<u16> = narrow("length_max", from.length_max)?;
    let length =
        (least.is_some() || most.is_some()).then(|| (least.unwrap_or(0), most.unwrap_or(u16::MAX)));
    if length.is_some_and(|(least, most)| least > most) {
        return Err(invalid("`length_min` is above `length_max`"));
    }
    Ok(Signature {
        protocol: narrow("protocol", from.protocol)?,
        source_ports: ports("source_ports", &from.source_ports)?,
        destination_ports: ports("destination_ports", &from.destination_ports)?,
        tcp_flags: flags,
        icmp_type: narrow("icmp_type", from.icmp_type)?,
        packet_length: length,
        fragments: from.fragments,
    })
}
