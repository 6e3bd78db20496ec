//! The whole story of one incident, to be read at three in the morning: first how it is and what to
//! do, then what happened, then why.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_model::{BitsPerSecond, PacketsPerSecond};

use super::text::{BAD, BOLD, GOOD, NOTE, escape, thousands, wrapped};
use crate::incident::{Incident, Mitigation, MitigationState, Rate, Status, Times, WallTime};

/// Octets of an UPDATE that are shown on a line.
const HEX: usize = 64;

/// The story in lines of at most about `width` characters.
pub(super) fn tell(incident: &Incident, width: u16) -> String {
    let mut text = String::new();
    head(&mut text, incident, usize::from(width));
    section(&mut text, "WHAT HAPPENED");
    times(&mut text, incident);
    section(&mut text, "TRAFFIC");
    traffic(&mut text, incident);
    section(&mut text, "WHY");
    decisions(&mut text, incident, usize::from(width));
    section(&mut text, "WHAT WAS DONE");
    mitigations(&mut text, incident);
    if incident.omitted > 0 || incident.lost_events > 0 {
        let _ = writeln!(
            text,
            "\n{NOTE}Not all is told{NOTE:#}: {} entries had no room, {} events were lost.",
            incident.omitted, incident.lost_events
        );
    }
    text
}

fn section(text: &mut String, name: &str) {
    let _ = writeln!(text, "\n{BOLD}{name}{BOLD:#}");
}

fn rate(rate: Rate) -> String {
    let packets = PacketsPerSecond(rate.packets_per_second);
    format!("{packets}, {}", BitsPerSecond(rate.bits_per_second))
}

fn head(text: &mut String, incident: &Incident, width: usize) {
    let (style, word) = match incident.status {
        Status::Active => (BAD, "ACTIVE"),
        Status::Ended => (NOTE, "ENDED, what was done is still in place"),
        Status::Closed => (GOOD, "CLOSED"),
    };
    let severity = incident.severity.map_or("not judged", tidegate_model::Severity::name);
    let _ = writeln!(
        text,
        "{BOLD}{}{BOLD:#}  {} on {}  severity {severity}  {style}{word}{style:#}",
        escape(&incident.attack),
        escape(incident.main_vector()),
        incident.target,
    );
    let commit = incident.policy.commit.as_deref().unwrap_or("not in Git");
    let _ = writeln!(
        text,
        "incident {}, group {}, policy {}",
        escape(&incident.id),
        escape(&incident.group),
        escape(commit)
    );
    let held = incident.mitigations.iter().filter(|it| it.state.may_be_held()).count();
    let failed =
        incident.mitigations.iter().filter(|it| it.state == MitigationState::Failed).count();
    if incident.status != Status::Closed {
        let attack = escape(&incident.attack);
        let trouble = match failed {
            0 => String::new(),
            failed => format!(", {BAD}failed: {failed}{BAD:#}"),
        };
        let _ = writeln!(text, "Routes and rules in place for it: {held}{trouble}.");
        let next = format!(
            "Next: `tidegate withdraw {attack}`, `tidegate hold {attack}`, `tidegate mitigations \
             {attack}`."
        );
        wrapped(text, &next, 0, width);
    }
}

fn times(text: &mut String, incident: &Incident) {
    let Times { onset, detected, decided, announced, at_peer, effective, ended, withdrawn } =
        incident.times;
    let trigger = &incident.trigger;
    let limit = match (trigger.limit_packets_per_second, trigger.limit_bits_per_second) {
        (Some(packets), None) => PacketsPerSecond(packets).to_string(),
        (None, Some(bits)) => BitsPerSecond(bits).to_string(),
        (Some(packets), Some(bits)) => {
            format!("{} or {}", PacketsPerSecond(packets), BitsPerSecond(bits))
        }
        (None, None) => "no limit of ours".to_owned(),
    };
    let recognised =
        format!("recognised: {} at {}, over {limit}", escape(&trigger.metric), rate(trigger.rate));
    let why = |word: &str, why: &Option<String>| match why {
        Some(why) => format!("{word}: {}", escape(why)),
        None => word.to_owned(),
    };
    for (time, what) in [
        (Some(onset), "the flood began (estimated)".to_owned()),
        (Some(detected), recognised),
        (decided, "the policy decided".to_owned()),
        (announced, "the first backend was told".to_owned()),
        (at_peer, "the first backend had it".to_owned()),
        (effective, "the traffic fell".to_owned()),
        (ended, why("the attack was over", &incident.end_reason)),
        (withdrawn, why("nothing of what was done was left", &incident.withdraw_reason)),
    ] {
        if let Some(time) = time {
            let _ = writeln!(text, "  {} {:>10}  {what}", moment(time), after(time.since(onset)));
        }
    }
}

fn moment(time: WallTime) -> String {
    let text = time.milliseconds();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

fn after(span: Duration) -> String {
    match span.as_millis() {
        0 => String::new(),
        milliseconds @ 1..10_000 => format!("+{milliseconds} ms"),
        10_000..600_000 => format!("+{:.1} s", span.as_secs_f64()),
        _ => format!("+{:.1} min", span.as_secs_f64() / 60.0),
    }
}

fn traffic(text: &mut String, incident: &Incident) {
    let _ = writeln!(text, "  now   {}", rate(incident.current));
    let _ = writeln!(
        text,
        "  peak  {}; {:.1} times the threshold",
        rate(incident.peak),
        incident.excess
    );
    let _ = writeln!(
        text,
        "  sum   {} packets, {} bytes, about {} sources",
        thousands(incident.packets),
        thousands(incident.bytes),
        thousands(incident.sources),
    );
    if let Some(effect) = &incident.effect {
        let _ = writeln!(
            text,
            "  effect: from {} to {}: {:.0} % less",
            rate(effect.before),
            rate(effect.after),
            effect.reduction * 100.0
        );
    }
    for vector in &incident.vectors {
        let _ = writeln!(
            text,
            "  {} is {:.0} % of it, certain to {:.2}",
            escape(&vector.vector),
            vector.share * 100.0,
            vector.confidence
        );
        for evidence in &vector.evidence {
            let _ = writeln!(text, "    {}: {}", escape(&evidence.fact), escape(&evidence.seen));
        }
    }
    if let Some(capture) = &incident.capture {
        let _ = writeln!(
            text,
            "  packets: {} ({} bytes, sha256 {})",
            escape(&capture.path.display().to_string()),
            thousands(capture.bytes),
            escape(&capture.sha256)
        );
    }
}

fn decisions(text: &mut String, incident: &Incident, width: usize) {
    if incident.decisions.is_empty() {
        text.push_str("  The policy has not decided.\n");
    }
    for decision in &incident.decisions {
        let _ = writeln!(
            text,
            "  {} {BOLD}{}{BOLD:#} under severity {}",
            moment(decision.time),
            escape(&decision.outcome),
            escape(&decision.severity),
        );
        wrapped(text, &escape(&decision.reason), 4, width);
    }
    for verdict in incident.guard.iter().filter(|verdict| verdict.why.is_some()) {
        let why = verdict.why.as_deref().unwrap_or_default();
        let line = format!(
            "the guard of the {} {} {}: {}",
            verdict.by, verdict.verdict, verdict.subject, why
        );
        wrapped(text, &escape(&line), 2, width);
    }
}

fn mitigations(text: &mut String, incident: &Incident) {
    if incident.mitigations.is_empty() {
        text.push_str("  Nothing.\n");
    }
    for it in &incident.mitigations {
        mitigation(text, it);
    }
}

fn mitigation(text: &mut String, it: &Mitigation) {
    let (style, word) = match it.state {
        MitigationState::NotAnnounced => (BAD, "not announced"),
        MitigationState::Pending => (NOTE, "pending"),
        MitigationState::Installed => (GOOD, "installed"),
        MitigationState::Failed => (BAD, "failed"),
        MitigationState::Withdrawing => (NOTE, "withdrawing"),
        MitigationState::Withdrawn => (anstyle::Style::new(), "withdrawn"),
    };
    let (backend, kind) = (escape(&it.backend), escape(&it.kind));
    let _ = writeln!(text, "  {BOLD}{backend}{BOLD:#} {kind} {style}{word}{style:#}");
    let _ = writeln!(text, "    {}", escape(&it.nlri));
    if let Some(route) = &it.route {
        let hop = route.next_hop.map(|hop| format!("next hop {hop}"));
        let parts: Vec<String> = route
            .actions
            .iter()
            .cloned()
            .chain(hop)
            .chain(route.communities.iter().map(|it| format!("community {it}")))
            .chain(route.large_communities.iter().map(|it| format!("large community {it}")))
            .collect();
        let _ = writeln!(text, "    {}", escape(&parts.join(", ")));
    }
    if let Some(rule) = &it.kernel_rule {
        let _ = writeln!(text, "    {}", escape(rule));
    }
    for outcome in &it.outcomes {
        let why = outcome.why.as_ref().map(|why| format!(": {}", escape(why)));
        let why = why.unwrap_or_default();
        let _ = writeln!(text, "    {} {}{why}", moment(outcome.time), escape(&outcome.outcome));
        if let Some(update) = &outcome.update {
            let _ = writeln!(text, "      {}", escape(&update.decoded));
            let digits: Vec<char> = update.hex.chars().collect();
            for line in digits.chunks(HEX) {
                let _ = writeln!(text, "      {}", escape(&line.iter().collect::<String>()));
            }
        }
    }
    if let Some(reason) = &it.withdraw_reason {
        let _ = writeln!(text, "    withdrawn because {}", escape(reason));
    }
}
