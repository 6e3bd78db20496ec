//! PagerDuty Events API v2: trigger, acknowledge and resolve under one key.

use serde_json::{Map, Value, json};
use tidegate_model::Severity;

use super::super::config::AcknowledgeWhen;
use super::super::escape::{cut, fit, plain};
use super::super::event::AlertEvent;
use super::super::http::Request;
use super::super::secret::Secret;
use super::super::snapshot::Snapshot;
use super::{Words, bytes, set};

const MAX_SUMMARY: usize = 1_024;
const MAX_KEY: usize = 255;
/// Of one value of the details; the whole event may have 512 KB.
const MAX_DETAIL: usize = 4_096;

pub(super) fn request(
    key: &Secret,
    url: &str,
    acknowledge: AcknowledgeWhen,
    snapshot: &Snapshot,
    words: &Words,
) -> Option<Request> {
    let action = match snapshot.event {
        AlertEvent::Opened | AlertEvent::Escalated | AlertEvent::NotEnforced => "trigger",
        AlertEvent::Mitigated if acknowledge == AcknowledgeWhen::Mitigated => "acknowledge",
        AlertEvent::Acknowledged => "acknowledge",
        // Again at the very end: a withdrawal that failed meanwhile triggered anew.
        AlertEvent::Ended | AlertEvent::Withdrawn => "resolve",
        AlertEvent::Mitigated | AlertEvent::Updated => return None,
    };
    let mut body = json!({
        "routing_key": key.expose(),
        "event_action": action,
        "dedup_key": cut(&snapshot.alert, MAX_KEY),
    });
    if action == "trigger" {
        set(&mut body, "payload", payload(snapshot, words));
        set(&mut body, "client", "tidegate");
        let links: Vec<Value> = words
            .message
            .links
            .iter()
            .map(|(text, href)| json!({ "href": href, "text": text }))
            .collect();
        set(&mut body, "links", links);
        if let Some((_, url)) = words.message.links.first() {
            set(&mut body, "client_url", url.as_str());
        }
    }
    Some(Request::post(url).json(bytes(&body)))
}

fn payload(snapshot: &Snapshot, words: &Words) -> Value {
    let (incident, message) = (&snapshot.incident, &words.message);
    let summary = match &words.title {
        Some(title) => title.clone(),
        None => format!("{}. {}", message.title, message.summary),
    };
    let severity = match snapshot.severity() {
        Severity::Low => "info",
        Severity::Medium => "warning",
        Severity::High => "error",
        Severity::Critical => "critical",
    };
    let mut details = Map::new();
    for (name, value) in &message.fields {
        details.insert((*name).to_owned(), fit(value, MAX_DETAIL, plain).into());
    }
    if let Some(text) = &words.text {
        details.insert("Text".to_owned(), cut(text, MAX_DETAIL).into());
    }
    details.insert("Peak packets per second".to_owned(), incident.peak.packets_per_second.into());
    details.insert("Peak bits per second".to_owned(), incident.peak.bits_per_second.into());
    json!({
        "summary": fit(&summary, MAX_SUMMARY, plain),
        "source": incident.target.to_string(),
        "severity": severity,
        "timestamp": incident.times.detected.milliseconds(),
        "component": incident.target.to_string(),
        "group": fit(&incident.group, MAX_KEY, plain),
        "class": incident.main_vector(),
        "custom_details": details,
    })
}
