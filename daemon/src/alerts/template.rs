//! The operator's own words.
//!
//! Templates are those of minijinja. Every value that a template puts into the text is escaped for
//! the medium; what stands in the template itself is not. So a template can use the medium's
//! markup, and a packet cannot.

use std::fmt;

use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, Output, State, Value, context};

use super::config::ChannelKind;
use super::escape;
use super::message;
use super::snapshot::Snapshot;
use crate::akvorado::{LEAD, TAIL};

/// Steps that a template may take: a loop over every mitigation is far below it.
const FUEL: u64 = 200_000;

/// Longest text that a template makes, in bytes. What is beyond is cut.
const MAX_OUTPUT: usize = 256 * 1024;

/// What a template's text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Mail subjects, syslog, services that show text as it is.
    Plain,
    /// Slack's mrkdwn.
    Slack,
    /// Discord's Markdown.
    Discord,
    /// Telegram's HTML.
    Html,
    /// A JSON document: every value becomes a JSON value, strings with their quotes.
    Json,
}

impl Medium {
    /// What messages of a channel are shown in.
    #[must_use]
    pub const fn of(kind: &ChannelKind) -> Self {
        match kind {
            ChannelKind::SlackWebhook { .. } | ChannelKind::SlackBot { .. } => Self::Slack,
            ChannelKind::Discord { .. } => Self::Discord,
            ChannelKind::Telegram { .. } => Self::Html,
            _ => Self::Plain,
        }
    }

    /// What titles of a channel are shown in.
    #[must_use]
    pub const fn of_title(kind: &ChannelKind) -> Self {
        match Self::of(kind) {
            // A header block shows plain text.
            Self::Slack => Self::Plain,
            other => other,
        }
    }

    fn escape(self) -> fn(&str) -> String {
        match self {
            Self::Plain | Self::Json => escape::plain,
            Self::Slack => escape::slack,
            Self::Discord => escape::discord,
            Self::Html => escape::html,
        }
    }
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
    medium: Medium,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the template does not work: {0}; see docs/alerts.md for what templates know")]
pub struct TemplateError(String);

impl Template {
    /// Checks `source`, by writing an invented incident with it.
    ///
    /// # Errors
    /// [`TemplateError`] if it is no template, names something that no record has, or makes what is
    /// not JSON for [`Medium::Json`].
    pub fn new(source: &str, medium: Medium) -> Result<Self, TemplateError> {
        let template = Self { source: source.to_owned(), medium };
        let sample = Snapshot::sample();
        let text = template.render(&sample)?;
        if medium == Medium::Json {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
            if let Err(error) = parsed {
                return Err(TemplateError(format!(
                    "what it makes is not JSON ({error}); values bring their own quotes"
                )));
            }
        }
        Ok(template)
    }

    /// The text for `snapshot`.
    ///
    /// # Errors
    /// [`TemplateError`] if this record makes the template fail although the sample did not.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String, TemplateError> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        add_builtins(&mut environment);
        let medium = self.medium;
        environment.set_formatter(move |output, state, value| format(medium, output, state, value));
        let explain = |error: Error| TemplateError(describe(&error));
        let text = environment.render_str(&self.source, values(snapshot)).map_err(explain)?;
        Ok(shorten(text))
    }
}

/// The filters that make sense in a message.
fn add_builtins(environment: &mut Environment<'_>) {
    use minijinja::{filters, functions, tests};
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("tojson", filters::tojson);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("urlencode", filters::urlencode);
    environment.add_function("range", functions::range);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("none", tests::is_none);
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    // The name of the string that was given is of no use to anyone.
    if let Some(cut) = text.find(" (in <string>") {
        text.truncate(cut);
    }
    match error.line() {
        Some(line) => format!("{text}, in its line {line}"),
        None => text,
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_OUTPUT {
        let mut end = MAX_OUTPUT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Writes one value into the text.
fn format(
    medium: Medium,
    output: &mut Output<'_>,
    _state: &State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    let text = if medium == Medium::Json {
        // `tojson` has made JSON already.
        if value.is_safe() { value.to_string() } else { json(value)? }
    } else if value.kind() == ValueKind::None {
        String::new()
    } else {
        (medium.escape())(&value.to_string())
    };
    output.write_str(&text).map_err(Error::from)
}

fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(minijinja::ErrorKind::BadSerialization, "cannot be JSON").with_source(error)
    })
}

/// What templates know.
fn values(snapshot: &Snapshot) -> Value {
    let record = &snapshot.incident;
    let mut incident = serde_json::to_value(record).unwrap_or_default();
    if let serde_json::Value::Object(fields) = &mut incident {
        let last = record.times.ended.unwrap_or(record.updated);
        for (name, time) in [
            ("start", record.times.onset),
            ("start_minus_5m", record.times.onset.before(LEAD)),
            ("end", last),
            ("end_plus_5m", last.after(TAIL)),
        ] {
            fields.insert(name.to_owned(), time.milliseconds().into());
        }
        let (vector, peak) = (record.main_vector(), message::rate(record.peak));
        fields.insert("vector".to_owned(), vector.into());
        fields.insert("peak_text".to_owned(), peak.into());
    }
    let others: Vec<String> = snapshot.others.iter().map(ToString::to_string).collect();
    let words = message::Message::of(snapshot);
    context! {
        incident => Value::from(Serde(&incident)),
        target => message::target(record),
        severity => snapshot.severity().name(),
        vector => record.main_vector(),
        akvorado_url => snapshot.links.akvorado.clone().unwrap_or_default(),
        akvorado_dropped_url => snapshot.links.akvorado_dropped.clone().unwrap_or_default(),
        alert => context! {
            id => snapshot.alert.clone(),
            event => snapshot.event.name(),
            targets => snapshot.targets,
            others => others,
            note => snapshot.note.clone(),
            test => snapshot.test,
            title => words.title.clone(),
            summary => words.summary.clone(),
        },
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, medium: Medium) -> Result<String, String> {
        let template = Template::new(source, medium).map_err(|error| error.to_string())?;
        template.render(&Snapshot::sample()).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_know_the_record() {
        let text = render(
            "{{ target }} from {{ incident.start_minus_5m }}: {{ vector }}, \
             {{ incident.peak.packets_per_second }}, {{ incident.vectors[0].confidence }}, \
             {{ incident.policy.response }} {{ alert.event }} {{ akvorado_url }}",
            Medium::Plain,
        );
        assert_eq!(
            text.unwrap(),
            "203.0.113.7 from 2026-08-22T11:55:00.000Z: dns-amplification, 420000, 0.97, filter \
             opened https://akvorado.example.net/visualize/v1-N4I"
        );
    }

    #[test]
    fn every_field_of_the_record_can_be_used() {
        let sample = Snapshot::sample();
        let document = serde_json::to_value(&sample.incident).unwrap();
        for field in document.as_object().unwrap().keys() {
            let source = format!("{{{{ incident.{field} | tojson }}}}");
            assert!(render(&source, Medium::Plain).is_ok(), "{field}");
        }
    }

    #[test]
    fn values_are_escaped_and_the_template_is_not() {
        let mut snapshot = Snapshot::sample();
        snapshot.incident.group = "<b>*x*</b>\n".to_owned();
        for (medium, shown) in [
            (Medium::Slack, "<*&lt;b&gt;\u{2060}*x\u{2060}*&lt;/b&gt;\\u{a}*>"),
            (Medium::Html, "<*&lt;b&gt;*x*&lt;/b&gt;\\u{a}*>"),
            (Medium::Discord, "<*\\<b\\>\\*x\\*\\<\\/b\\>\\\\u{a}*>"),
        ] {
            let template = Template::new("<*{{ incident.group }}*>", medium).unwrap();
            assert_eq!(template.render(&snapshot).unwrap(), shown, "{medium:?}");
        }
        let template = Template::new("{\"group\": {{ incident.group }}}", Medium::Json).unwrap();
        let text = template.render(&snapshot).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["group"], "<b>*x*</b>\n");
    }

    #[test]
    fn mistakes_are_found_at_once() {
        for (source, medium, says) in [
            ("{{ targt }}", Medium::Plain, "undefined"),
            ("{{ incident.onsett }}", Medium::Plain, "undefined"),
            ("{{ target", Medium::Plain, "syntax"),
            (
                "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}",
                Medium::Plain,
                "fuel",
            ),
            ("{\"a\": \"{{ target }}\"}", Medium::Json, "not JSON"),
        ] {
            let error = render(source, medium).unwrap_err();
            assert!(error.contains(says), "{source}: {error}");
        }
    }
}
