//! `[alerts.NAME]`, `[incidents]` and `[akvorado]` of `tidegate.toml`.
//!
//! Secrets are never written in it: a key such as `token-file` names a file, `token-env` a variable
//! of the environment.

mod channels;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_model::Severity;
use tidegate_policy::text::{Table, Value};

use super::event::AlertEvent;
use super::http;
use super::secret::Secret;
use super::template::{Medium, Template};
use crate::akvorado::{Console, LinkFormat};
use crate::store::Limits;

/// Channels that are read. More are a mistake.
const MAX_CHANNELS: usize = 32;

/// Attacks of one group that begin within this time of each other are one alert, unless the
/// configuration says otherwise.
pub const DEFAULT_COALESCE: Duration = Duration::from_secs(30);

/// The file of the store under the state directory of a systemd service.
const DEFAULT_DATABASE: &str = "/var/lib/tidegate/incidents.db";

/// Where incidents go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The store; `None` keeps nothing.
    pub store: Option<StoreSettings>,
    /// The Akvorado console that messages link to.
    pub console: Option<Console>,
    /// The channels.
    pub alerts: AlertSettings,
}

/// Where incidents are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The SQLite file.
    pub path: PathBuf,
    /// How much is kept.
    pub limits: Limits,
}

/// Whom to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// The channels, by name.
    pub channels: Vec<Channel>,
    /// Attacks of one group that begin within this time of each other are one alert.
    pub coalesce: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { channels: Vec::new(), coalesce: DEFAULT_COALESCE }
    }
}

/// One way to tell people or programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name in the configuration.
    pub name: String,
    /// What is milder is not told here.
    pub min_severity: Severity,
    /// What is told.
    pub events: BTreeSet<AlertEvent>,
    /// Whether attacks on many targets at once are one alert here, or one each.
    pub grouping: Grouping,
    /// How long one attempt may take: an answer, a step of an SMTP exchange, a program's run.
    pub timeout: Duration,
    /// The title in the operator's words.
    pub title: Option<Template>,
    /// The text in the operator's words.
    pub text: Option<Template>,
    /// What it is.
    pub kind: ChannelKind,
}

/// Whether attacks on many targets at once are one alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One alert for all of them.
    Together,
    /// One each.
    Each,
}

/// The services and protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// A Slack incoming webhook.
    SlackWebhook {
        /// Its URL, which is a secret.
        url: Secret,
    },
    /// A Slack bot, which changes its message in place.
    SlackBot {
        /// Its token, `xoxb-...`.
        token: Secret,
        /// The channel's id.
        channel: String,
        /// The Web API, with a slash at the end.
        base: String,
    },
    /// A Discord webhook, which changes its message in place.
    Discord {
        /// Its URL, which is a secret.
        url: Secret,
    },
    /// PagerDuty Events API v2.
    PagerDuty {
        /// The integration key.
        key: Secret,
        /// The `enqueue` URL.
        url: String,
        /// Whether a mitigation in place acknowledges the incident.
        acknowledge: AcknowledgeWhen,
    },
    /// OpsGenie, and Jira Service Management, which took over its interface.
    OpsGenie {
        /// The integration key.
        key: Secret,
        /// The `alerts` URL.
        url: String,
    },
    /// A Microsoft Teams workflow.
    Teams {
        /// Its URL, which is a secret.
        url: Secret,
    },
    /// A Telegram bot, which changes its message in place.
    Telegram {
        /// Its token.
        token: Secret,
        /// Chat id, or `@channel`.
        chat: String,
        /// The Bot API, with a slash at the end.
        base: String,
    },
    /// Electronic mail.
    Email(Email),
    /// A request of the operator's making.
    Webhook(Webhook),
    /// RFC 5424.
    Syslog {
        /// Where to.
        address: SyslogAddress,
        /// Facility number, 0 to 23.
        facility: u8,
    },
    /// A program.
    Exec(Exec),
}

impl ChannelKind {
    /// The word of `type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SlackWebhook { .. } | Self::SlackBot { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::PagerDuty { .. } => "pagerduty",
            Self::OpsGenie { .. } => "opsgenie",
            Self::Teams { .. } => "teams",
            Self::Telegram { .. } => "telegram",
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
            Self::Syslog { .. } => "syslog",
            Self::Exec(_) => "exec",
        }
    }

    /// Whether the message of an alert is changed in place, so that only its latest state matters.
    #[must_use]
    pub const fn edits(&self) -> bool {
        matches!(self, Self::SlackBot { .. } | Self::Discord { .. } | Self::Telegram { .. })
    }
}

/// When a PagerDuty incident is acknowledged without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgeWhen {
    /// Never.
    Never,
    /// As soon as the first backend has a mitigation.
    Mitigated,
}

/// An SMTP submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The server's name.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Login.
    pub login: Option<(String, Secret)>,
    /// The sender.
    pub from: lettre::message::Mailbox,
    /// The recipients; never empty.
    pub to: Vec<lettre::message::Mailbox>,
}

/// How an SMTP connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// STARTTLS, required (RFC 3207).
    StartTls,
    /// TLS from the first octet (RFC 8314).
    Implicit,
    /// None.
    Plain,
}

/// A generic webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its URL.
    pub url: Secret,
    /// Key of the signature.
    pub signing: Option<Secret>,
    /// Value of the `Authorization` header.
    pub authorization: Option<Secret>,
    /// The body in the operator's words; without it, the whole record as JSON.
    pub body: Option<Template>,
    /// The `Content-Type`.
    pub content_type: String,
}

/// Where syslog messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A local datagram socket.
    Unix(PathBuf),
    /// UDP (RFC 5426): host and port.
    Udp(String),
    /// TCP with octet counting (RFC 6587 §3.4.1): host and port.
    Tcp(String),
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Absolute path, and arguments before ours. Never empty.
    pub command: Vec<String>,
    /// How it is told.
    pub convention: Convention,
}

/// How a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// The record as JSON on standard input.
    Json,
    /// FastNetMon's `notify_script_path`: address, direction, packets per second and `ban` or
    /// `unban` as arguments, the details of a ban on standard input.
    FastNetMon,
}

/// Reads the three tables. Files are named relative to `directory`.
pub fn resolve(root: &Table<'_>, directory: &Path) -> Option<Settings> {
    let incidents = root.optional("incidents", "{ database = \"incidents.db\" }");
    let (store, coalesce) = match incidents {
        Some(value) => resolve_incidents(&value.table()?, directory),
        None => (Some(None), Some(DEFAULT_COALESCE)),
    };
    let console = match root.optional("akvorado", "{ url = \"https://akvorado.example.net/\" }") {
        Some(value) => resolve_console(&value.table()?).map(Some),
        None => Some(None),
    };
    let channels = match root.optional("alerts", "{ team = { type = \"slack\" } }") {
        Some(value) => resolve_channels(&value.table()?, directory),
        None => Some(Vec::new()),
    };
    let alerts = AlertSettings { channels: channels?, coalesce: coalesce? };
    Some(Settings { store: store?, console: console?, alerts })
}

type Incidents = (Option<Option<StoreSettings>>, Option<Duration>);

fn resolve_incidents(table: &Table<'_>, directory: &Path) -> Incidents {
    const DAY: Duration = Duration::from_secs(86_400);
    let default = Limits::default();
    let path = table.optional("database", "\"/var/lib/tidegate/incidents.db\"").map_or_else(
        || Some(PathBuf::from(DEFAULT_DATABASE)),
        |value| value.string().map(|path| directory.join(path)),
    );
    let keep = table
        .optional("keep", "\"90d\"")
        .map_or(Some(default.keep), |value| value.duration(DAY..=DAY * 3_650));
    let max_bytes = table
        .optional("max-bytes", "268435456")
        .map_or(Some(default.max_bytes), |value| value.integer((1 << 20)..=(1 << 40)));
    let coalesce = table.optional("coalesce", "\"30s\"").map_or(Some(DEFAULT_COALESCE), |value| {
        value.duration(Duration::ZERO..=Duration::from_secs(3_600))
    });
    table.finish();
    let store = path.zip(keep).zip(max_bytes).map(|((path, keep), max_bytes)| {
        Some(StoreSettings { path, limits: Limits { keep, max_bytes } })
    });
    (store, coalesce)
}

fn resolve_console(table: &Table<'_>) -> Option<Console> {
    let url = table.required("url", "\"https://akvorado.example.net/\"");
    let format = table.optional("link-format", "\"v1\"").map_or(Some(LinkFormat::V1), |value| {
        value.choice("a link format", &[("v1", LinkFormat::V1), ("legacy", LinkFormat::Legacy)])
    });
    table.finish();
    let url = url?;
    url.reported(Console::new(url.string()?, format?))
}

fn resolve_channels(table: &Table<'_>, directory: &Path) -> Option<Vec<Channel>> {
    let entries = table.entries("{ type = \"slack\" }");
    if entries.len() > MAX_CHANNELS {
        table.error(
            format!("there are {} channels; at most {MAX_CHANNELS} are used", entries.len()),
            "tell several people through one channel, such as a mailing list",
        );
        return None;
    }
    let channels: Vec<Option<Channel>> =
        entries.iter().map(|(name, value)| resolve_channel(name, value, directory)).collect();
    channels.into_iter().collect()
}

fn resolve_channel(name: &str, value: &Value<'_>, directory: &Path) -> Option<Channel> {
    let table = value.table()?;
    let fits =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        value.error_at_key(
            format!("`{name}` cannot name a channel"),
            "use at most 64 letters, digits, `-` and `_`",
        );
    }
    let min_severity = table
        .optional("min-severity", "\"high\"")
        .map_or(Some(Severity::Low), |value| value.choice("a severity", &SEVERITIES));
    let events = resolve_events(&table);
    let timeout = table.optional("timeout", "\"15s\"").map_or(Some(http::TIMEOUT), |value| {
        value.duration(Duration::from_millis(100)..=Duration::from_secs(120))
    });
    let kind = channels::resolve_kind(&table, directory);
    // What the message is for decides how values in templates are escaped.
    let medium = kind.as_ref().map_or(Medium::Plain, Medium::of);
    let title_medium = kind.as_ref().map_or(Medium::Plain, Medium::of_title);
    let title = template(&table, "title", "\"{{ target }}: {{ incident.status }}\"", title_medium);
    let text = template(&table, "text", "\"{{ target }}: {{ akvorado_url }}\"", medium);
    let grouping = table.optional("group", "\"together\"").map_or_else(
        || Some(kind.as_ref().map_or(Grouping::Together, default_grouping)),
        |value| {
            let known = [("together", Grouping::Together), ("each", Grouping::Each)];
            value.choice("a grouping", &known)
        },
    );
    table.finish();
    Some(Channel {
        name: name.to_owned(),
        min_severity: min_severity?,
        events: events?,
        grouping: grouping?,
        timeout: timeout?,
        title: title?,
        text: text?,
        kind: kind?,
    })
}

const SEVERITIES: [(&str, Severity); 4] = [
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];

/// People want one message, programs every attack.
const fn default_grouping(kind: &ChannelKind) -> Grouping {
    match kind {
        ChannelKind::Webhook(_) | ChannelKind::Syslog { .. } | ChannelKind::Exec(_) => {
            Grouping::Each
        }
        _ => Grouping::Together,
    }
}

fn resolve_events(table: &Table<'_>) -> Option<BTreeSet<AlertEvent>> {
    const EXAMPLE: &str = "[\"opened\", \"escalated\", \"ended\"]";
    let known = AlertEvent::CHOSEN.map(|event| (event.name(), event));
    let Some(value) = table.optional("events", EXAMPLE) else {
        return Some(BTreeSet::from(AlertEvent::CHOSEN));
    };
    let items = value.list("\"opened\"")?;
    if items.is_empty() {
        value
            .error("a channel without events tells nothing", format!("write `events = {EXAMPLE}`"));
    }
    items.iter().map(|item| item.choice("an event", &known)).collect()
}

/// An optional template, checked.
pub(super) fn template(
    table: &Table<'_>,
    key: &'static str,
    example: &'static str,
    medium: Medium,
) -> Option<Option<Template>> {
    let Some(value) = table.optional(key, example) else { return Some(None) };
    value.reported(Template::new(value.string()?, medium)).map(Some)
}

/// A secret from the file that `file` names or the variable that `variable` does; `None` inside if
/// neither is given.
pub(super) fn optional_secret(
    table: &Table<'_>,
    (file, file_example): (&'static str, &'static str),
    (variable, variable_example): (&'static str, &'static str),
    directory: &Path,
) -> Option<Option<Secret>> {
    let by_file = table.optional(file, file_example);
    let by_variable = table.optional(variable, variable_example);
    match (by_file, by_variable) {
        (Some(_), Some(second)) => {
            second.error_at_key(
                format!("`{file}` is given as well"),
                format!("keep one of `{file}` and `{variable}`"),
            );
            None
        }
        (Some(value), None) => {
            value.reported(Secret::from_file(&directory.join(value.string()?))).map(Some)
        }
        (None, Some(value)) => value.reported(Secret::from_environment(value.string()?)).map(Some),
        (None, None) => Some(None),
    }
}

/// Like [`optional_secret`], but there must be one.
pub(super) fn secret(
    table: &Table<'_>,
    file: (&'static str, &'static str),
    variable: (&'static str, &'static str),
    directory: &Path,
) -> Option<Secret> {
    let found = optional_secret(table, file, variable, directory)?;
    if found.is_none() {
        // Asked for again, this time to be reported as missing.
        let _ = table.required(file.0, file.1);
    }
    found
}
