//! Events as JSON, one object a line, for programs.
//!
//! Every object has `time` (RFC 3339, UTC), `time_ns` (nanoseconds since the Unix epoch) and
//! `event`; what the engine did has `policy`, the commit it was done under, if the policy is in Git.
//! The other fields follow from `event`. Rates are in packets and bits per second.

use serde_json::{Map, Value, json};
use tidegate_bgpd::convert::decode_update;
use tidegate_model::{
    Attack, AttackEvent, BackendState, Limit, MitigationKey, Nlri, OutcomeKind, Rate, Route,
    Signature, Timestamp, VectorEstimate,
};
use tidegate_policy::{Decision, DecisionKind};
use tidegate_reconciler::Change;

use crate::clock::WallOrigin;
use crate::event::{Event, EventKind, Verb};

/// The object for `event`.
#[must_use]
pub fn event(event: &Event, wall: WallOrigin) -> Value {
    let (name, mut fields) = match &event.kind {
        EventKind::Attack(change) => attack_event(change, wall),
        EventKind::Decision(decision) => ("decision", decision_fields(decision)),
        EventKind::Announce { key, route, attacks, .. } => {
            let mut fields = key_fields(key);
            fields.insert("route".into(), self::route(route));
            let attacks: Vec<String> = attacks.iter().map(ToString::to_string).collect();
            fields.insert("attacks".into(), json!(attacks));
            ("announce", fields)
        }
        EventKind::Withdraw { key, why, .. } => {
            let mut fields = key_fields(key);
            fields.insert("why".into(), json!(why));
            ("withdraw", fields)
        }
        EventKind::Outcome { verb, outcome } => {
            let key =
                MitigationKey { backend: outcome.backend.clone(), nlri: outcome.nlri.clone() };
            let mut fields = key_fields(&key);
            let name = outcome_name(*verb, &outcome.kind);
            match &outcome.kind {
                OutcomeKind::Applied { bytes } => {
                    if !bytes.is_empty() {
                        fields.insert("bytes".into(), json!(hex(bytes)));
                    }
                }
                OutcomeKind::Pending { why }
                | OutcomeKind::Rejected { why }
                | OutcomeKind::Failed { why } => {
                    fields.insert("why".into(), json!(why));
                }
            }
            (name, fields)
        }
        EventKind::Backend(backend, state) => {
            let mut fields = Map::new();
            fields.insert("backend".into(), json!(backend.to_string()));
            match state {
                BackendState::Up => ("backend-up", fields),
                BackendState::Down { why } => {
                    fields.insert("why".into(), json!(why));
                    ("backend-down", fields)
                }
            }
        }
        EventKind::Ledger(change) => {
            let mut fields = key_fields(&change.key);
            fields.insert("why".into(), json!(ledger_text(&change.change)));
            ("not-enforced", fields)
        }
    };
    if let Some(policy) = &event.policy {
        fields.insert("policy".into(), json!(policy.to_string()));
    }
    stamped(name, event.time, wall, fields)
}

/// An object with the three common fields first.
#[must_use]
pub fn stamped(name: &str, time: Timestamp, wall: WallOrigin, fields: Map<String, Value>) -> Value {
    let mut object = Map::new();
    object.insert("time".into(), json!(wall.rfc3339(time)));
    object.insert("time_ns".into(), json!(wall.nanos_at(time)));
    object.insert("event".into(), json!(name));
    object.extend(fields);
    Value::Object(object)
}

/// What keeps the ledger from carrying out a mitigation.
#[must_use]
pub fn ledger_text(change: &Change) -> String {
    match change {
        Change::Entered(state) => state.to_string(),
        Change::Gone(reason) => format!("gone: {reason}"),
        Change::Waiting => "the ledger is full; it waits until another route is gone".to_owned(),
        Change::Overflowed => "the ledger and its waiting list are full; it is dropped".to_owned(),
    }
}

/// The name of an outcome in the event stream.
#[must_use]
pub fn outcome_name(verb: Verb, kind: &OutcomeKind) -> &'static str {
    match (verb, kind) {
        (Verb::Announce, OutcomeKind::Applied { .. }) => "announced",
        (Verb::Announce, OutcomeKind::Pending { .. }) => "announce-pending",
        (Verb::Announce, OutcomeKind::Rejected { .. }) => "announce-rejected",
        (Verb::Announce, OutcomeKind::Failed { .. }) => "announce-failed",
        (Verb::Withdraw, OutcomeKind::Applied { .. }) => "withdrawn",
        (Verb::Withdraw, OutcomeKind::Pending { .. }) => "withdraw-pending",
        (Verb::Withdraw, OutcomeKind::Rejected { .. }) => "withdraw-rejected",
        (Verb::Withdraw, OutcomeKind::Failed { .. }) => "withdraw-failed",
    }
}

/// A BGP UPDATE for `--updates`.
#[must_use]
pub fn update(bytes: &[u8]) -> Value {
    match decode_update(bytes) {
        Ok(decoded) => json!({ "hex": hex(bytes), "decoded": decoded.to_string() }),
        Err(error) => json!({ "hex": hex(bytes), "error": error.to_string() }),
    }
}

/// Lower-case hexadecimal without separators.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn attack_event(change: &AttackEvent, wall: WallOrigin) -> (&'static str, Map<String, Value>) {
    let mut fields = Map::new();
    fields.insert("attack".into(), attack(change.attack(), wall));
    let name = match change {
        AttackEvent::Started(_) => "attack-started",
        AttackEvent::Updated(_) => "attack-updated",
        AttackEvent::Ended(_, reason) => {
            fields.insert("reason".into(), json!(reason.to_string()));
            "attack-ended"
        }
    };
    (name, fields)
}

fn attack(attack: &Attack, wall: WallOrigin) -> Value {
    json!({
        "id": attack.id.to_string(),
        "target": attack.target.to_string(),
        "group": attack.group,
        "vector": attack.main_vector().to_string(),
        "confidence": attack.confidence().get(),
        "onset": wall.rfc3339(attack.onset),
        "onset_ns": wall.nanos_at(attack.onset),
        "detected": wall.rfc3339(attack.detected),
        "detected_ns": wall.nanos_at(attack.detected),
        "trigger": {
            "metric": attack.trigger.metric.name(),
            "rate": rate(attack.trigger.rate),
            "limit": limit(attack.trigger.limit),
        },
        "vectors": attack.vectors.iter().map(vector).collect::<Vec<_>>(),
        "current": rate(attack.current),
        "peak": rate(attack.peak),
        "excess": attack.excess,
        "packets": attack.packets,
        "bytes": attack.bytes,
        "sources": attack.sources,
    })
}

fn vector(estimate: &VectorEstimate) -> Value {
    let evidence: Vec<Value> = estimate
        .evidence
        .iter()
        .map(|evidence| json!({ "fact": evidence.fact, "seen": evidence.seen }))
        .collect();
    json!({
        "vector": estimate.vector.to_string(),
        "share": estimate.share,
        "confidence": estimate.confidence.get(),
        "signature": signature(&estimate.signature),
        "evidence": evidence,
    })
}

/// What a vector's packets have in common; only what they have.
fn signature(signature: &Signature) -> Value {
    let mut fields = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.into(), value);
        }
    };
    let ports = |ports: &[u16]| (!ports.is_empty()).then(|| json!(ports));
    add("protocol", signature.protocol.map(|number| json!(number)));
    add("source_ports", ports(&signature.source_ports));
    add("destination_ports", ports(&signature.destination_ports));
    let flags = signature.tcp_flags;
    add("tcp_flags", flags.map(|flags| json!({ "set": flags.set, "clear": flags.clear })));
    add("icmp_type", signature.icmp_type.map(|number| json!(number)));
    add("packet_length", signature.packet_length.map(|(least, most)| json!([least, most])));
    add("fragments", signature.fragments.then_some(json!(true)));
    Value::Object(fields)
}

fn rate(rate: Rate) -> Value {
    json!({ "packets": rate.packets, "bits": rate.bits })
}

fn limit(limit: Limit) -> Value {
    json!({ "packets": limit.packets, "bits": limit.bits })
}

fn decision_fields(decision: &Decision) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("attack".into(), json!(decision.attack.to_string()));
    fields.insert("target".into(), json!(decision.target.to_string()));
    fields.insert("severity".into(), json!(decision.severity.name()));
    fields.insert("response".into(), json!(decision.response));
    match &decision.kind {
        DecisionKind::Mitigate(keys) => {
            let keys: Vec<Value> = keys.iter().map(|key| Value::Object(key_fields(key))).collect();
            fields.insert("mitigations".into(), json!(keys));
        }
        DecisionKind::Refused(refusals) => {
            let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            fields.insert("refusals".into(), json!(refusals));
        }
        DecisionKind::Propose(keys) => {
            let keys: Vec<Value> = keys.iter().map(|key| Value::Object(key_fields(key))).collect();
            fields.insert("proposed".into(), json!(keys));
        }
        DecisionKind::NotEnforced(failing) => {
            let failing = failing.iter().map(|(key, why)| {
                let mut fields = key_fields(key);
                fields.insert("why".into(), json!(why));
                Value::Object(fields)
            });
            fields.insert("not_enforced".into(), failing.collect());
        }
        DecisionKind::Observe | DecisionKind::NoEffect | DecisionKind::Release => {}
    }
    fields.insert("outcome".into(), json!(decision.kind.name()));
    fields.insert("reason".into(), json!(decision.reason));
    fields
}

fn key_fields(key: &MitigationKey) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("backend".into(), json!(key.backend.to_string()));
    let kind = match &key.nlri {
        Nlri::Unicast(_) => "blackhole",
        Nlri::FlowSpec(_) => "flowspec",
    };
    fields.insert("kind".into(), json!(kind));
    fields.insert("nlri".into(), json!(key.nlri.to_string()));
    fields
}

fn route(route: &Route) -> Value {
    let communities: Vec<String> = route.communities.iter().map(ToString::to_string).collect();
    let large: Vec<String> = route.large_communities.iter().map(ToString::to_string).collect();
    let actions: Vec<String> = route.actions.iter().map(ToString::to_string).collect();
    json!({
        "next_hop": route.next_hop,
        "communities": communities,
        "large_communities": large,
        "actions": actions,
    })
}
