//! From a snapshot to the words of a message, before any medium.

use std::time::Duration;

use tidegate_model::{BitsPerSecond, PacketsPerSecond, Rate, Severity};

use super::event::AlertEvent;
use super::snapshot::Snapshot;
use crate::incident::{Incident, MitigationState, WallTime};
use crate::sources;

/// No more mitigations than this are described.
const MAX_MITIGATIONS: usize = 5;

/// The words of a message. Plain text that is not escaped yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line: what, whom, how it stands.
    pub title: String,
    /// One or two sentences.
    pub summary: String,
    /// Facts: name and value.
    pub fields: Vec<(&'static str, String)>,
    /// Where to look: text and URL, made by tidegate itself.
    pub links: Vec<(&'static str, String)>,
    /// Severity of the worst incident.
    pub severity: Severity,
    /// What happened.
    pub event: AlertEvent,
    /// When.
    pub time: WallTime,
}

impl Message {
    /// The words for `snapshot`.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let incident = &snapshot.incident;
        let mut links = Vec::new();
        let known = &snapshot.links;
        links.extend(known.akvorado.clone().map(|url| ("Traffic in Akvorado", url)));
        links.extend(known.akvorado_dropped.clone().map(|url| ("Dropped traffic", url)));
        Self {
            title: title(snapshot),
            summary: summary(snapshot),
            fields: fields(snapshot),
            links,
            severity: snapshot.severity(),
            event: snapshot.event,
            time: incident.updated,
        }
    }

    /// The words as plain text of several lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.title, self.summary);
        for (name, value) in &self.fields {
            text += &format!("\n{name}: {value}");
        }
        if !self.links.is_empty() {
            text.push('\n');
        }
        for (name, url) in &self.links {
            text += &format!("\n{name}: {url}");
        }
        text.push('\n');
        text
    }
}

fn title(snapshot: &Snapshot) -> String {
    let incident = &snapshot.incident;
    let state = match snapshot.event {
        AlertEvent::Ended | AlertEvent::Withdrawn => "over".to_owned(),
        AlertEvent::NotEnforced => "NOT ENFORCED".to_owned(),
        _ => snapshot.severity().name().to_uppercase(),
    };
    let more = match snapshot.targets {
        0 | 1 => String::new(),
        2 => " and 1 other target".to_owned(),
        targets => format!(" and {} other targets", targets - 1),
    };
    let test = if snapshot.test { "TEST, no attack: " } else { "" };
    let target = target(incident);
    format!("{test}[{state}] {} on {target}{more}", incident.main_vector())
}

/// The address without its length if it is one.
#[must_use]
pub(super) fn target(incident: &Incident) -> String {
    let target = incident.target;
    if target.is_host() { target.address().to_string() } else { target.to_string() }
}

fn summary(snapshot: &Snapshot) -> String {
    let incident = &snapshot.incident;
    let peak = rate(incident.peak);
    let mut summary = match snapshot.event {
        AlertEvent::Ended | AlertEvent::Withdrawn => {
            let ended = incident.times.ended.unwrap_or(incident.updated);
            let reason = incident.end_reason.as_deref().unwrap_or("it is over");
            let lasted = span(ended.since(incident.times.onset));
            format!("The attack is over after {lasted}: {reason}. Its peak was {peak}.")
        }
        _ => format!(
            "{peak} at the peak, {:.1} times the {} threshold, from about {} source{}.",
            incident.excess,
            incident.trigger.metric,
            incident.sources,
            if incident.sources == 1 { "" } else { "s" },
        ),
    };
    match (&snapshot.note, snapshot.event) {
        (Some(note), AlertEvent::NotEnforced) => {
            summary = format!("Not enforced: {note}. {summary}")
        }
        (Some(note), AlertEvent::Acknowledged) => summary += &format!(" Acknowledged by {note}."),
        (Some(note), _) => summary += &format!(" {note}"),
        (None, _) => {}
    }
    summary
}

fn fields(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let incident = &snapshot.incident;
    let times = &incident.times;
    let mut fields = vec![
        ("Target", format!("{} (group {})", target(incident), incident.group)),
        ("Vectors", vectors(incident)),
        ("Onset", times.onset.for_people()),
        ("Detected", format!("{} after the onset", span(times.detected.since(times.onset)))),
    ];
    if !snapshot.others.is_empty() {
        let mut others: Vec<String> = snapshot.others.iter().map(ToString::to_string).collect();
        let named = others.len() as u64 + 1;
        if snapshot.targets > named {
            others.push(format!("{} more", snapshot.targets - named));
        }
        fields.insert(1, ("Other targets", others.join(", ")));
    }
    if let Some(sources) = incident.census.as_ref().and_then(sources::in_words) {
        fields.push(("Sources", sources));
    }
    fields.push(("Mitigation", mitigations(incident)));
    if let Some(at_peer) = times.at_peer {
        let after = span(at_peer.since(times.onset));
        fields.push(("At the first peer", format!("{after} after the onset")));
    }
    if let Some(effect) = incident.effect {
        let percent = effect.reduction * 100.0;
        fields.push(("Effect", format!("{percent:.0} % less, now {}", rate(effect.after))));
    }
    let response = incident.policy.response.as_deref().unwrap_or("none");
    let commit = incident.policy.commit.as_deref();
    let commit = commit.map(|commit| format!(" (policy {commit})")).unwrap_or_default();
    fields.push(("Response", format!("{response}{commit}")));
    if let Some(reason) = &incident.withdraw_reason {
        fields.push(("Withdrawn", reason.clone()));
    }
    if let Some(capture) = &incident.capture {
        fields.push(("Packets", capture.path.display().to_string()));
    }
    fields.push(("Incident", incident.id.clone()));
    fields
}

fn vectors(incident: &Incident) -> String {
    let vectors = incident.vectors.iter().map(|vector| {
        let (share, confidence) = (vector.share * 100.0, vector.confidence);
        format!("{} ({share:.0} %, confidence {confidence:.2})", vector.vector)
    });
    vectors.collect::<Vec<_>>().join(", ")
}

fn mitigations(incident: &Incident) -> String {
    if incident.mitigations.is_empty() {
        let reason = incident.decisions.last().map(|decision| decision.reason.clone());
        return reason.unwrap_or_else(|| "none".to_owned());
    }
    let describe = incident.mitigations.iter().take(MAX_MITIGATIONS).map(|mitigation| {
        let state = match mitigation.state {
            MitigationState::NotAnnounced => "not announced",
            MitigationState::Pending => "pending",
            MitigationState::Installed => "installed",
            MitigationState::Failed => "FAILED",
            MitigationState::Withdrawing => "being withdrawn",
            MitigationState::Withdrawn => "withdrawn",
        };
        format!("{} at {}: {state}", mitigation.nlri, mitigation.backend)
    });
    let mut described: Vec<String> = describe.collect();
    let more = incident.mitigations.len().saturating_sub(MAX_MITIGATIONS);
    if more > 0 {
        described.push(format!("{more} more"));
    }
    described.join("; ")
}

/// `420 kpps, 5 Gbps`.
#[must_use]
pub(super) fn rate(rate: crate::incident::Rate) -> String {
    Rate {
        packets: PacketsPerSecond(rate.packets_per_second),
        bits: BitsPerSecond(rate.bits_per_second),
    }
    .to_string()
}

/// `56 ms`, `4.2 s`, `3.0 min`, `2.5 h`.
fn span(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    match span.as_millis() {
        milliseconds @ 0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{seconds:.1} s"),
        60_000..5_400_000 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
