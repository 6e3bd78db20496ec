//! What a policy says of one address, and what would be done about an attack on it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidegate_model::{
    Attack, AttackId, AttackVector, BitsPerSecond, Confidence, Prefix, Rate, Severity, Signature,
    Timestamp,
};

use crate::play::{self, Recorded};
use crate::policy::{Group, Matcher, Policy, RuleSource, minute_of_week};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The address, or a prefix.
    pub target: Prefix,
    /// An attack on it; `None` asks only about the target.
    pub attack: Option<(AttackVector, Rate)>,
    /// How certain the vector is.
    pub confidence: Confidence,
    /// What its packets have in common: for rules.
    pub signature: Signature,
    /// Wall time, in seconds since 1970-01-01 UTC.
    pub unix: Option<u64>,
}

/// The answer, for people and for programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Several lines.
    pub text: String,
    /// The same as an object.
    pub json: Json,
}

/// Which group, thresholds and responses, and what would be done and why.
#[must_use]
pub fn explain(policy: &Arc<Policy>, question: &Question) -> Explanation {
    let target = question.target;
    let mut text = String::new();
    let mut json = json!({ "target": target.to_string() });
    let owned = policy.space.owned.iter().find(|owned| owned.contains(&target));
    let never = policy.space.never_touch.iter().find(|other| other.overlaps(&target));
    let _ = match owned {
        Some(owned) => writeln!(text, "{target} lies in the owned prefix {owned}"),
        None => {
            writeln!(text, "{target} lies in no owned prefix: it is neither watched nor diverted")
        }
    };
    if let Some(never) = never {
        let _ = writeln!(text, "it touches {never}, which no mitigation may touch");
    }
    set(&mut json, "owned", json!(owned.map(ToString::to_string)));
    set(&mut json, "never_touch", json!(never.map(ToString::to_string)));
    if let Some(group) = policy.group_of(target) {
        describe_group(group, target, &mut text, &mut json);
    }
    if let Some((vector, rate)) = question.attack {
        let vector = (vector, question.confidence, question.signature.clone());
        let attack = play::attack(policy, AttackId(1), target, vector, rate);
        describe_attack(policy, &attack, question.unix, &mut text, &mut json);
    }
    Explanation { text, json }
}

fn set(json: &mut Json, key: &str, value: Json) {
    if let Some(object) = json.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn describe_group(group: &Group, target: Prefix, text: &mut String, json: &mut Json) {
    let holding = group.prefixes.iter().filter(|prefix| prefix.contains(&target));
    let prefix = holding.max_by_key(|prefix| prefix.length());
    let shown = prefix.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "group `{}`, by its prefix {shown}", group.name);
    let thresholds =
        if target.is_host() { Some(group.thresholds) } else { group.prefix_thresholds };
    let mut limits = serde_json::Map::new();
    for (metric, limit) in thresholds.iter().flat_map(tidegate_model::Thresholds::iter) {
        let units = [limit.packets.map(|it| it.to_string()), limit.bits.map(|it| it.to_string())];
        let units: Vec<String> = units.into_iter().flatten().collect();
        if !units.is_empty() {
            let _ = writeln!(text, "  {metric:<14} {}", units.join(" or "));
            limits.insert(
                metric.name().to_owned(),
                json!({ "packets": limit.packets, "bits": limit.bits }),
            );
        }
    }
    if let Some(capacity) = group.capacity {
        let units =
            [capacity.packets.map(|it| it.to_string()), capacity.bits.map(|it| it.to_string())];
        let units: Vec<String> = units.into_iter().flatten().collect();
        let _ = writeln!(text, "  link capacity  {}", units.join(", "));
    }
    let modes = group.approvals;
    let _ = writeln!(
        text,
        "  approval       local {}, flowspec {}, rtbh {}",
        modes.local, modes.flowspec, modes.rtbh
    );
    let object = json!({
        "name": group.name,
        "prefix": shown,
        "thresholds": limits,
        "capacity": group.capacity.map(|it| json!({ "packets": it.packets, "bits": it.bits })),
        "approval": {
            "local": modes.local.name(),
            "flowspec": modes.flowspec.name(),
            "rtbh": modes.rtbh.name(),
        },
    });
    set(json, "group", object);
}

fn describe_attack(
    policy: &Arc<Policy>,
    attack: &Attack,
    unix: Option<u64>,
    text: &mut String,
    json: &mut Json,
) {
    let severity = policy.severity(Timestamp::ZERO, attack);
    let _ = writeln!(
        text,
        "{} at {}: {:.1} times its {} threshold, confidence {}: severity {severity}",
        attack.main_vector(),
        attack.peak,
        attack.excess,
        attack.trigger.metric,
        attack.confidence(),
    );
    set(json, "severity", json!(severity.name()));
    set(json, "excess", json!(attack.excess));
    if attack.excess < 1.0 {
        let _ = writeln!(text, "that is below the threshold: no attack, and nothing is done");
        set(json, "mitigations", json!([]));
        return;
    }
    let minute = unix.map(|unix| minute_of_week(unix, policy.utc_offset));
    let mut responses = Vec::new();
    for response in &policy.responses {
        let why = mismatch(&response.matcher, attack, severity, minute);
        let shown = why.as_deref().unwrap_or("matches");
        let from = match response.rules_from {
            RuleSource::Signature => "",
            RuleSource::Samples => ", rules from samples; by signature here, where there are none",
        };
        let _ = writeln!(text, "  `{}` ({}{from}): {shown}", response.name, response.action);
        responses.push(json!({
            "name": response.name,
            "action": response.action.to_string(),
            "rules_from": response.rules_from.name(),
            "matches": why.is_none(),
            "why": why,
        }));
    }
    set(json, "responses", json!(responses));
    let recorded = Recorded { attack: attack.clone(), begins: Duration::ZERO, lasts: None };
    let moments = play::play(policy, &[recorded], unix, &[Duration::ZERO]);
    let moment = moments.into_iter().next().unwrap_or_default();
    for reason in moment.reasons.values() {
        let _ = writeln!(text, "{reason}");
    }
    for line in &moment.mitigations {
        let _ = writeln!(text, "  {line}");
    }
    set(json, "reasons", json!(moment.reasons.values().collect::<Vec<_>>()));
    set(json, "mitigations", json!(moment.mitigations));
}

/// Why a response is not meant; `None` if it is.
fn mismatch(
    matcher: &Matcher,
    attack: &Attack,
    severity: Severity,
    minute: Option<u32>,
) -> Option<String> {
    let vector = attack.main_vector();
    if !matcher.groups.is_empty() && !matcher.groups.contains(&attack.group) {
        return Some(format!("not for group `{}`", attack.group));
    }
    if !matcher.vectors.is_empty() && !matcher.vectors.contains(&vector) {
        return Some(format!("not for {vector}"));
    }
    if severity < matcher.severity {
        return Some(format!("wants severity {}, and this is {severity}", matcher.severity));
    }
    if attack.confidence() < matcher.confidence {
        let (wanted, found) = (matcher.confidence, attack.confidence());
        return Some(format!("wants confidence {wanted}, and this is {found}"));
    }
    if !matcher.is_time(minute) {
        return Some(match minute {
            Some(_) => "not in its hours".to_owned(),
            None => "has its hours, and no time was given".to_owned(),
        });
    }
    None
}

/// A rate from what a command line gives: packets a second, and bits of packets of 100 bytes unless
/// bits are given too.
#[must_use]
pub fn rate(packets: u64, bits: Option<u64>) -> Rate {
    Rate {
        packets: tidegate_model::PacketsPerSecond(packets),
        bits: BitsPerSecond(bits.unwrap_or(packets.saturating_mul(800))),
    }
}
