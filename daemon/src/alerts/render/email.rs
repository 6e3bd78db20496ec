//! Mail: one thread an alert, plain text and HTML.

use std::time::{Duration, SystemTime};

use lettre::message::{Message, MultiPart};

use super::super::config::Email;
use super::super::escape::{fit, html};
use super::super::snapshot::Snapshot;
use super::{RenderError, Words};
use crate::incident::WallTime;

const MAX_SUBJECT: usize = 200;
const MAX_TEXT: usize = 100_000;

pub(super) fn mail(
    email: &Email,
    snapshot: &Snapshot,
    words: &Words,
    now: WallTime,
) -> Result<Message, RenderError> {
    // The same for every attempt, so that who got it twice sees it once.
    let domain = email.from.email.domain();
    let thread = format!("<{}@{domain}>", snapshot.alert);
    let id =
        format!("<{}.{}.{}@{domain}>", snapshot.alert, snapshot.event.name(), snapshot.revision);
    let date = SystemTime::UNIX_EPOCH + Duration::from_nanos(now.as_nanos());
    let mut builder = Message::builder()
        .from(email.from.clone())
        .subject(words.plain_title(MAX_SUBJECT))
        .message_id(Some(id))
        .in_reply_to(thread.clone())
        .references(thread)
        .date(date);
    for recipient in &email.to {
        builder = builder.to(recipient.clone());
    }
    let body = MultiPart::alternative_plain_html(words.plain_text(MAX_TEXT), page(words));
    builder.multipart(body).map_err(|error| RenderError::Mail(error.to_string()))
}

fn page(words: &Words) -> String {
    let message = &words.message;
    let title = html(&words.plain_title(MAX_SUBJECT));
    let mut page = format!("<!doctype html><html><body><h2>{title}</h2>");
    match &words.text {
        // The operator's template makes plain text: it is shown as such.
        Some(text) => {
            for line in text.lines() {
                page += &format!("<div>{}</div>", html(line));
            }
        }
        None => {
            page += &format!("<p>{}</p><table>", html(&message.summary));
            for (name, value) in &message.fields {
                let value = fit(value, MAX_TEXT, html);
                page += &format!("<tr><th align=\"left\">{name}</th><td>{value}</td></tr>");
            }
            page += "</table>";
        }
    }
    for (name, url) in &message.links {
        page += &format!("<p><a href=\"{}\">{name}</a></p>", html(url));
    }
    page + "</body></html>"
}
