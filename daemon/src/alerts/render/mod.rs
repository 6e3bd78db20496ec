//! From a snapshot to what is sent: one pure renderer a medium.
//!
//! A renderer keeps to the limits of its service by cutting text, so that an attack with long names
//! is told shortened rather than not at all. Limits that only client libraries document are kept
//! with some room.

mod discord;
mod email;
mod exec;
mod opsgenie;
mod pagerduty;
mod slack;
mod syslog;
mod teams;
mod telegram;
mod webhook;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::config::{Channel, ChannelKind};
use super::event::AlertEvent;
use super::http::Request;
use super::message::Message;
use super::snapshot::Snapshot;
use super::template::TemplateError;
use crate::incident::WallTime;

pub use syslog::Origin;

/// What is sent.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An HTTP request.
    Http(Request),
    /// A mail.
    Mail(Box<lettre::Message>),
    /// A syslog message, without framing.
    Syslog(Vec<u8>),
    /// A program's arguments after its own, and its standard input.
    Program {
        /// The arguments.
        arguments: Vec<String>,
        /// What it reads.
        input: Vec<u8>,
    },
}

/// What a renderer needs beside the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What the service calls the message, if it is there already.
    pub remote: Option<&'a str>,
    /// Wall time, for signatures and mail headers.
    pub now: WallTime,
    /// Who we are, for syslog.
    pub origin: &'a Origin,
}

/// Why nothing can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The operator's template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The mail.
    #[error("the mail cannot be built: {0}")]
    Mail(String),
}

/// What `channel` sends for `snapshot`; `None` if the channel has nothing to say of the event.
///
/// # Errors
/// [`RenderError`] if the operator's template fails with this record.
pub fn render(
    channel: &Channel,
    snapshot: &Snapshot,
    context: Context<'_>,
) -> Result<Option<Delivery>, RenderError> {
    let words = Words::of(channel, snapshot)?;
    let http = |request| Ok(Some(Delivery::Http(request)));
    match &channel.kind {
        ChannelKind::SlackWebhook { url } => http(slack::webhook(url, &words)),
        ChannelKind::SlackBot { token, channel, base } => {
            http(slack::bot(token, channel, base, &words, context.remote))
        }
        ChannelKind::Discord { url } => http(discord::request(url, &words, context.remote)),
        ChannelKind::PagerDuty { key, url, acknowledge } => {
            Ok(pagerduty::request(key, url, *acknowledge, snapshot, &words).map(Delivery::Http))
        }
        ChannelKind::OpsGenie { key, url } => {
            Ok(opsgenie::request(key, url, snapshot, &words).map(Delivery::Http))
        }
        ChannelKind::Teams { url } => http(teams::request(url, &words)),
        ChannelKind::Telegram { token, chat, base } => {
            http(telegram::request(token, chat, base, &words, context.remote))
        }
        ChannelKind::Email(email) => email::mail(email, snapshot, &words, context.now)
            .map(|mail| Some(Delivery::Mail(Box::new(mail)))),
        ChannelKind::Webhook(webhook) => {
            http(webhook::request(webhook, snapshot, &words, context.now)?)
        }
        ChannelKind::Syslog { facility, .. } => {
            Ok(Some(Delivery::Syslog(syslog::message(*facility, context.origin, snapshot, &words))))
        }
        ChannelKind::Exec(exec) => Ok(exec::program(exec.convention, snapshot, &words)),
    }
}

/// The words of a message, and the operator's in their place where there are any.
pub(crate) struct Words {
    message: Message,
    /// Escaped already.
    title: Option<String>,
    /// Escaped already.
    text: Option<String>,
}

impl Words {
    fn of(channel: &Channel, snapshot: &Snapshot) -> Result<Self, RenderError> {
        let title = channel.title.as_ref().map(|title| title.render(snapshot)).transpose()?;
        let text = channel.text.as_ref().map(|text| text.render(snapshot)).transpose()?;
        Ok(Self { message: Message::of(snapshot), title, text })
    }

    /// The title for a place that shows plain text: one line.
    fn plain_title(&self, limit: usize) -> String {
        let title = self.title.as_deref().unwrap_or(&self.message.title);
        super::escape::fit(title, limit, super::escape::plain)
    }

    /// The body for a place that shows plain text of several lines.
    fn plain_text(&self, limit: usize) -> String {
        let text = self.text.clone().unwrap_or_else(|| self.message.text());
        let lines: Vec<String> = text.lines().map(super::escape::plain).collect();
        super::escape::cut(&lines.join("\n"), limit)
    }
}

/// Red, orange, yellow, grey for attacks; green when it is over.
fn color(message: &Message) -> u32 {
    use tidegate_model::Severity::{Critical, High, Low, Medium};
    match (message.event, message.severity) {
        (event, _) if event.is_over() => 0x2e_a0_43,
        (AlertEvent::NotEnforced, _) | (_, Critical) => 0xd7_3a_49,
        (_, High) => 0xe3_6c_09,
        (_, Medium) => 0xdb_ab_09,
        (_, Low) => 0x6a_73_7d,
    }
}

/// The whole snapshot for programs.
fn document(snapshot: &Snapshot, words: &Words) -> Value {
    json!({
        "alert": snapshot.alert,
        "event": snapshot.event,
        "revision": snapshot.revision,
        "severity": snapshot.severity().name(),
        "title": words.message.title,
        "summary": words.message.summary,
        "note": snapshot.note,
        "test": snapshot.test,
        "targets": snapshot.targets,
        "others": snapshot.others,
        "links": snapshot.links,
        "incident": snapshot.incident,
    })
}

/// Adds a field to an object.
fn set(body: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = body {
        fields.insert(name.to_owned(), value.into());
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
