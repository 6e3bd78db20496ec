//! From the values of the engine to those of the record.

use tidegate_bgpd::convert::decode_update;
use tidegate_model::{Attack, BackendId, Evidence as Fact, MitigationKey, Nlri, VectorEstimate};

use super::record::{
    Evidence, Mitigation, MitigationState, Rate, Route, Signature, Trigger, Update, Vector,
};
use crate::json::hex;

pub(super) fn rate(rate: tidegate_model::Rate) -> Rate {
    Rate { packets_per_second: rate.packets.0, bits_per_second: rate.bits.0 }
}

pub(super) fn trigger(attack: &Attack) -> Trigger {
    Trigger {
        metric: attack.trigger.metric.name().to_owned(),
        rate: rate(attack.trigger.rate),
        limit_packets_per_second: attack.trigger.limit.packets.map(|limit| limit.0),
        limit_bits_per_second: attack.trigger.limit.bits.map(|limit| limit.0),
    }
}

pub(super) fn vectors(attack: &Attack) -> Vec<Vector> {
    attack.vectors.iter().map(vector).collect()
}

fn vector(estimate: &VectorEstimate) -> Vector {
    let seen = |fact: &Fact| Evidence { fact: fact.fact.to_owned(), seen: fact.seen.clone() };
    let signature = &estimate.signature;
    Vector {
        vector: estimate.vector.to_string(),
        share: estimate.share,
        confidence: estimate.confidence.get(),
        signature: Signature {
            protocol: signature.protocol,
            source_ports: signature.source_ports.clone(),
            destination_ports: signature.destination_ports.clone(),
            icmp_type: signature.icmp_type,
            packet_length: signature.packet_length,
            fragments: signature.fragments,
        },
        evidence: estimate.evidence.iter().map(seen).collect(),
    }
}

pub(super) fn route(route: &tidegate_model::Route) -> Route {
    Route {
        next_hop: route.next_hop,
        communities: route.communities.iter().map(ToString::to_string).collect(),
        large_communities: route.large_communities.iter().map(ToString::to_string).collect(),
        actions: route.actions.iter().map(ToString::to_string).collect(),
    }
}

/// What the kernel matches and does, in the words of the rule.
pub(super) fn kernel_rule(key: &MitigationKey, route: &tidegate_model::Route) -> Option<String> {
    if key.backend != BackendId::Kernel {
        return None;
    }
    let actions: Vec<String> = route.actions.iter().map(ToString::to_string).collect();
    let actions = if actions.is_empty() { "discard".to_owned() } else { actions.join(", ") };
    Some(format!("{} then {actions}", route.nlri))
}

/// A mitigation that no backend was told of yet.
pub(super) fn mitigation(key: &MitigationKey) -> Mitigation {
    let kind = match &key.nlri {
        Nlri::Unicast(_) => "blackhole",
        Nlri::FlowSpec(_) => "flowspec",
    };
    Mitigation {
        backend: key.backend.to_string(),
        kind: kind.to_owned(),
        nlri: key.nlri.to_string(),
        route: None,
        kernel_rule: None,
        state: MitigationState::NotAnnounced,
        announced: None,
        at_peer: None,
        withdrawn: None,
        withdraw_reason: None,
        outcomes: Vec::new(),
    }
}

/// The message in `bytes`; `None` if there is none.
pub(super) fn update(bytes: &[u8]) -> Option<Update> {
    if bytes.is_empty() {
        return None;
    }
    let decoded = match decode_update(bytes) {
        Ok(update) => update.to_string(),
        Err(error) => format!("not decoded: {error}"),
    };
    Some(Update { hex: hex(bytes), decoded })
}
