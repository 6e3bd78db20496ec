//! Reasons in one line, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use tidegate_model::{Attack, BackendId, Route, Severity, Trigger};

use super::decision::Refusal;
use super::routes::Made;
use crate::policy::{Response, ResponseAction};
use crate::profile::Loss;

/// `tcp-syn at 120 kpps, limit 10.0 kpps, peak 12.3 times the limit; syn-flood, confidence 0.97;
/// severity high`
pub(super) fn attack(attack: &Attack, severity: Severity) -> String {
    format!(
        "{}, peak {:.1} times the limit; {}, confidence {}; severity {severity}",
        trigger(&attack.trigger),
        attack.excess,
        attack.main_vector(),
        attack.confidence(),
    )
}

/// In the unit that is further over its limit.
fn trigger(trigger: &Trigger) -> String {
    let Trigger { metric, rate, limit } = trigger;
    let packets = tidegate_model::Limit { packets: limit.packets, bits: None };
    let by_packets = packets.excess(*rate) >= limit.excess(*rate);
    match (limit.packets, limit.bits) {
        (Some(packets), bits) if by_packets || bits.is_none() => {
            format!("{metric} at {}, limit {packets}", rate.packets)
        }
        (_, Some(bits)) => format!("{metric} at {}, limit {bits}", rate.bits),
        _ => format!("{metric} at {rate}"),
    }
}

/// `` `filters`, step 2: discard by 2 FlowSpec rules at peer a, peer b ``
pub(super) fn action(response: &Response, step: usize, routes: &[(BackendId, Route)]) -> String {
    let mut counts: BTreeMap<&BackendId, usize> = BTreeMap::new();
    for (backend, _) in routes {
        *counts.entry(backend).or_default() += 1;
    }
    let places = |only: Option<usize>| {
        let of_count = counts.iter().filter(|(_, count)| only.is_none_or(|it| it == **count));
        of_count.map(|(backend, _)| backend.to_string()).collect::<Vec<_>>().join(", ")
    };
    // Each number of rules with the places that have so many.
    let rules = |kind: &str| {
        let distinct: BTreeSet<usize> = counts.values().copied().collect();
        let each = distinct.into_iter().map(|count| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {kind}{plural} at {}", places(Some(count)))
        });
        each.collect::<Vec<_>>().join(" and ")
    };
    let what = match response.action {
        ResponseAction::Observe => "observe".to_owned(),
        ResponseAction::Rtbh => format!("blackhole at {}", places(None)),
        ResponseAction::FlowSpec(filter) => format!("{filter} by {}", rules("FlowSpec rule")),
        ResponseAction::Local(filter) => format!("{filter} by {}", rules("rule")),
    };
    match step {
        0 => format!("`{}`: {what}", response.name),
        _ => format!("`{}`, step {}: {what}", response.name, step + 1),
    }
}

/// `; at peer a wider, without `packet-length`` for each loss.
pub(super) fn losses(losses: &[(BackendId, Loss)]) -> String {
    losses.iter().map(|(backend, loss)| format!("; at {backend} {loss}")).collect()
}

/// What rules from samples were measured to do, once for all backends that have the same.
pub(super) fn made(made: &[(BackendId, Made)]) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let text = |made: &Made| match made {
        Made::Samples(found) => {
            let each = found.rules.iter().map(|it| {
                let (of_attack, of_rest) = (percent(it.coverage), percent(it.collateral));
                format!("{} ({of_attack}, {of_rest})", it.rule)
            });
            format!(
                "from samples, {} of the attack and {} of the traffic before, {} TCAM entries: {}",
                percent(found.coverage),
                percent(found.collateral),
                found.tcam_entries(),
                each.collect::<Vec<_>>().join(", ")
            )
        }
        Made::Kept(coverage, collateral) => format!(
            "from samples, {} of the attack and {} of the traffic before",
            percent(*coverage),
            percent(*collateral)
        ),
        Made::Signature(why) => format!("by signature: {why}"),
    };
    let mut told: Vec<String> = Vec::new();
    for (_, made) in made {
        let text = text(made);
        if !told.contains(&text) {
            told.push(text);
        }
    }
    told.iter().map(|text| format!("; {text}")).collect()
}

/// `; not `filters`, `limits`: ...` for each cause.
pub(super) fn refusals(refusals: &[Refusal]) -> String {
    let mut text = String::new();
    for (index, refusal) in refusals.iter().enumerate() {
        let same = |other: &&Refusal| other.cause == refusal.cause;
        if refusals.iter().take(index).any(|other| same(&other)) {
            continue;
        }
        let names: Vec<String> = refusals
            .iter()
            .filter(same)
            .filter_map(|refusal| Some(format!("`{}`", refusal.response.as_deref()?)))
            .collect();
        let _ = match names.as_slice() {
            [] => write!(text, "; {}", refusal.cause),
            names => write!(text, "; not {}: {}", names.join(", "), refusal.cause),
        };
    }
    text
}

/// `at least 60 s, at most 6 h`
pub(super) fn lifetime(at_least: Duration, at_most: Duration) -> String {
    format!("at least {}, at most {}", span(at_least), span(at_most))
}

/// The largest unit that needs no fraction, down to seconds.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() > 0 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    match seconds {
        0 => "0 s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
