//! OpsGenie's Alert API, which Jira Service Management took over.
//!
//! <https://docs.opsgenie.com/docs/alert-api>: message 130, alias 512, description 15,000, 20 tags
//! of 50, details 8,000, entity 512, source 100, note 25,000. Everything is accepted with 202 and
//! worked on later; the alias ties it together.

use serde_json::{Map, Value, json};
use tidegate_model::Severity;

use super::super::escape::{cut, fit, plain};
use super::super::event::AlertEvent;
use super::super::http::{Method, Request};
use super::super::secret::Secret;
use super::super::snapshot::Snapshot;
use super::{Words, bytes};

const MAX_MESSAGE: usize = 130;
const MAX_DESCRIPTION: usize = 15_000;
const MAX_TAG: usize = 50;
const MAX_ENTITY: usize = 512;
const MAX_NOTE: usize = 25_000;
/// Of one value: all together have 8,000.
const MAX_DETAIL: usize = 500;

pub(super) fn request(
    key: &Secret,
    url: &str,
    snapshot: &Snapshot,
    words: &Words,
) -> Option<Request> {
    // The id of an incident is digits, letters, `.`, `-`: it needs no escaping in a path.
    let alert = format!("{url}/{}", snapshot.alert);
    let note = json!({
        "source": "tidegate",
        "note": fit(&words.message.summary, MAX_NOTE, plain),
    });
    let (request, body) = match snapshot.event {
        AlertEvent::Opened => (Request::post(url), create(snapshot, words)),
        AlertEvent::Escalated => (
            Request::post(format!("{alert}/priority?identifierType=alias")).method(Method::Put),
            json!({ "priority": priority(snapshot.severity()) }),
        ),
        AlertEvent::Mitigated | AlertEvent::NotEnforced => {
            (Request::post(format!("{alert}/notes?identifierType=alias")), note)
        }
        AlertEvent::Acknowledged => {
            (Request::post(format!("{alert}/acknowledge?identifierType=alias")), note)
        }
        AlertEvent::Ended => (Request::post(format!("{alert}/close?identifierType=alias")), note),
        AlertEvent::Updated | AlertEvent::Withdrawn => return None,
    };
    let request = request.json(bytes(&body));
    Some(request.header("authorization", format!("GenieKey {}", key.expose())))
}

const fn priority(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "P4",
        Severity::Medium => "P3",
        Severity::High => "P2",
        Severity::Critical => "P1",
    }
}

fn create(snapshot: &Snapshot, words: &Words) -> Value {
    let incident = &snapshot.incident;
    let mut details = Map::new();
    for (name, value) in &words.message.fields {
        details.insert((*name).to_owned(), fit(value, MAX_DETAIL, plain).into());
    }
    json!({
        "message": words.plain_title(MAX_MESSAGE),
        "alias": snapshot.alert,
        "description": words.plain_text(MAX_DESCRIPTION),
        "tags": ["ddos", cut(incident.main_vector(), MAX_TAG), snapshot.severity().name()],
        "details": details,
        "entity": fit(&incident.target.to_string(), MAX_ENTITY, plain),
        "source": "tidegate",
        "priority": priority(snapshot.severity()),
    })
}
