//! How things stand, asked for at each scrape.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidegate_bgpd::session::SessionState;
use tidegate_bgpd::speaker::PeerStatus;
use tidegate_model::{AttackId, BackendState};
use tidegate_reconciler::EntryState;

use super::counters::Counters;
use crate::api::View;

/// What ends an exposition (OpenMetrics 1.0).
const END: &str = "# EOF\n";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severity {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Backend {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Standing {
    backend: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Messages {
    peer: String,
    direction: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Commit {
    commit: String,
}

/// The whole exposition. Without a view, because the engine does not answer, what it would tell is
/// left out and `tidegate_engine_responsive` is 0.
#[must_use]
pub fn exposition(counters: &Counters, view: Option<&View>, peers: &[PeerStatus]) -> String {
    let mut text = String::new();
    let written = write(&mut text, counters, view, peers);
    if written.is_err() {
        // A String takes everything; but half an exposition is worse than none.
        text.clear();
    }
    text
}

fn write(
    text: &mut String,
    counters: &Counters,
    view: Option<&View>,
    peers: &[PeerStatus],
) -> fmt::Result {
    encode(text, counters.registry())?;
    let counted = text.strip_suffix(END).map_or(text.len(), str::len);
    text.truncate(counted);
    let mut registry = Registry::with_prefix("tidegate");
    let responsive: Gauge = Gauge::default();
    responsive.set(i64::from(view.is_some()));
    registry.register("engine_responsive", "Whether the engine answers in time", responsive);
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "The version that runs", build);
    if let Some(view) = view {
        standing(&mut registry, view);
    }
    sessions(&mut registry, peers);
    encode(text, &registry)
}

fn standing(registry: &mut Registry, view: &View) {
    let attacks = Family::<Severity, Gauge>::default();
    for severity in tidegate_model::Severity::ALL {
        attacks.get_or_create(&Severity { severity: severity.name() }).set(0);
    }
    let going_on = view.attacks.iter().filter(|it| it.attack.id.0 < AttackId::MANUAL && !it.over);
    for it in going_on {
        attacks.get_or_create(&Severity { severity: it.severity.name() }).inc();
    }
    registry.register("attacks", "Attacks that go on, by severity", attacks);

    let mitigations = Family::<Standing, Gauge>::default();
    for it in &view.mitigations {
        let backend = it.key.backend.to_string();
        mitigations.get_or_create(&Standing { backend, state: state(&it.state) }).inc();
    }
    registry.register("mitigations", "Entries of the ledger, by state", mitigations);

    let proposals: Gauge = Gauge::default();
    let waiting: usize = view.attacks.iter().map(|it| it.proposals.len()).sum();
    proposals.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    registry.register("proposals", "Mitigations that wait for approval", proposals);

    let up = Family::<Backend, Gauge>::default();
    for (id, state) in &view.backends {
        let is_up = matches!(state, Some((BackendState::Up, _)));
        up.get_or_create(&Backend { backend: id.to_string() }).set(i64::from(is_up));
    }
    registry.register("backend_up", "Whether a backend can be reached", up);

    let panic: Gauge = Gauge::default();
    panic.set(i64::from(view.panic.is_some()));
    registry.register("panic", "Whether a person has ordered everything withdrawn", panic);

    let commit = Family::<Commit, Gauge>::default();
    let revision = view.policy.revision.as_ref().map(ToString::to_string);
    commit.get_or_create(&Commit { commit: revision.unwrap_or_default() }).set(1);
    registry.register("policy_info", "The commit of the policy in force", commit);
}

fn sessions(registry: &mut Registry, peers: &[PeerStatus]) {
    let established = Family::<Peer, Gauge>::default();
    let age = Family::<Peer, Gauge>::default();
    let sent = Family::<Peer, Gauge>::default();
    let unconfirmed = Family::<Peer, Gauge>::default();
    let received = Family::<Peer, Gauge>::default();
    for status in peers {
        let peer = Peer { peer: status.name.clone() };
        let is_up = status.session.state == SessionState::Established;
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        established.get_or_create(&peer).set(i64::from(is_up));
        let seconds = i64::try_from(status.in_state_for.as_secs()).unwrap_or(i64::MAX);
        age.get_or_create(&peer).set(seconds);
        sent.get_or_create(&peer).set(gauge(status.session.routes));
        unconfirmed.get_or_create(&peer).set(gauge(status.session.unconfirmed_withdraws));
        received.get_or_create(&peer).set(gauge(status.learnt.unicast + status.learnt.flowspec));
    }
    registry.register("peer_established", "Whether the session is established", established);
    registry.register_with_unit(
        "peer_state_age",
        "How long the session has been in its state",
        Unit::Seconds,
        age,
    );
    registry.register("peer_routes", "Routes in the Adj-RIB-Out of a peer", sent);
    registry.register(
        "peer_unconfirmed_withdraws",
        "Withdrawals that the TCP of a peer has not acknowledged",
        unconfirmed,
    );
    registry.register("peer_received_routes", "Routes that a peer announces to us", received);
    registry.register("peer_messages", "BGP messages, by direction and kind", messages(peers));
    let flaps = Family::<Peer, Gauge>::default();
    for status in peers {
        let number = i64::try_from(status.session.counters.established).unwrap_or(i64::MAX);
        flaps.get_or_create(&Peer { peer: status.name.clone() }).set(number);
    }
    registry.register("peer_sessions", "How often the session came up since the start", flaps);
}

fn messages(peers: &[PeerStatus]) -> Family<Messages, Gauge> {
    let messages = Family::<Messages, Gauge>::default();
    for status in peers {
        let counters = &status.session.counters;
        for (direction, counted) in [("sent", counters.sent), ("received", counters.received)] {
            for (kind, number) in [
                ("open", counted.open),
                ("update", counted.update),
                ("keepalive", counted.keepalive),
                ("notification", counted.notification),
                ("route-refresh", counted.route_refresh),
            ] {
                let labels = Messages { peer: status.name.clone(), direction, kind };
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                messages.get_or_create(&labels).set(number);
            }
        }
    }
    messages
}

fn state(state: &EntryState) -> &'static str {
    match state {
        EntryState::Wanted => "wanted",
        EntryState::Announcing => "announcing",
        EntryState::Pending { .. } => "pending",
        EntryState::Applied => "applied",
        EntryState::Unknown { .. } => "unknown",
        EntryState::Failed { .. } => "failed",
        EntryState::Rejected { .. } => "rejected",
        EntryState::Refused(_) => "refused",
        EntryState::Withdrawing => "withdrawing",
    }
}
