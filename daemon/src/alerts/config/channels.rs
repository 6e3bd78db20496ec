//! What belongs to each type of channel.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lettre::message::Mailbox;
use reqwest::Url;
use tidegate_policy::text::{Table, Value};

use super::super::secret::Secret;
use super::super::template::Medium;
use super::{
    AcknowledgeWhen, ChannelKind, Convention, Email, Exec, SmtpTls, SyslogAddress, Webhook,
    optional_secret, secret, template,
};

const SLACK_API: &str = "https://slack.com/api/";
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const OPSGENIE: &str = "https://api.opsgenie.com/v2/alerts";
const JSM: &str = "https://api.atlassian.com/jsm/ops/integration/v2/alerts";
const TELEGRAM: &str = "https://api.telegram.org/";

/// Recipients of one mail.
const MAX_RECIPIENTS: usize = 50;

#[derive(Clone, Copy)]
enum Type {
    Slack,
    Discord,
    PagerDuty,
    OpsGenie,
    Jsm,
    Teams,
    Telegram,
    Email,
    Webhook,
    Syslog,
    Exec,
}

const TYPES: [(&str, Type); 11] = [
    ("slack", Type::Slack),
    ("discord", Type::Discord),
    ("pagerduty", Type::PagerDuty),
    ("opsgenie", Type::OpsGenie),
    ("jsm", Type::Jsm),
    ("teams", Type::Teams),
    ("telegram", Type::Telegram),
    ("email", Type::Email),
    ("webhook", Type::Webhook),
    ("syslog", Type::Syslog),
    ("exec", Type::Exec),
];

/// Where a channel's service is, unless the configuration says otherwise.
const WEBHOOK_FILE: (&str, &str) = ("webhook-url-file", "\"team.url\"");
const WEBHOOK_ENV: (&str, &str) = ("webhook-url-env", "\"TEAM_WEBHOOK_URL\"");
const TOKEN_FILE: (&str, &str) = ("bot-token-file", "\"bot.token\"");
const TOKEN_ENV: (&str, &str) = ("bot-token-env", "\"BOT_TOKEN\"");

pub(super) fn resolve_kind(table: &Table<'_>, directory: &Path) -> Option<ChannelKind> {
    let kind = table.required("type", "\"slack\"")?.choice("a type of channel", &TYPES)?;
    let webhook = || secret_url(table, directory);
    match kind {
        Type::Slack => slack(table, directory),
        Type::Discord => Some(ChannelKind::Discord { url: webhook()? }),
        Type::Teams => Some(ChannelKind::Teams { url: webhook()? }),
        Type::PagerDuty => pagerduty(table, directory),
        Type::OpsGenie => opsgenie(table, directory, OPSGENIE),
        Type::Jsm => opsgenie(table, directory, JSM),
        Type::Telegram => telegram(table, directory),
        Type::Email => email(table, directory).map(ChannelKind::Email),
        Type::Webhook => generic(table, directory).map(ChannelKind::Webhook),
        Type::Syslog => syslog(table),
        Type::Exec => exec(table).map(ChannelKind::Exec),
    }
}

fn slack(table: &Table<'_>, directory: &Path) -> Option<ChannelKind> {
    let token = optional_secret(table, TOKEN_FILE, TOKEN_ENV, directory)?;
    let Some(token) = token else {
        return Some(ChannelKind::SlackWebhook { url: secret_url(table, directory)? });
    };
    let channel = table.required("channel", "\"C0123456789\"").and_then(|value| text(&value));
    let base = base_url(table, SLACK_API);
    Some(ChannelKind::SlackBot { token, channel: channel?, base: base? })
}

fn pagerduty(table: &Table<'_>, directory: &Path) -> Option<ChannelKind> {
    let key = secret(
        table,
        ("routing-key-file", "\"pagerduty.key\""),
        ("routing-key-env", "\"PAGERDUTY_KEY\""),
        directory,
    );
    let url = url(table, PAGERDUTY);
    let acknowledge = table.optional("acknowledge", "\"mitigated\"").map_or(
        Some(AcknowledgeWhen::Never),
        |value| {
            let known =
                [("never", AcknowledgeWhen::Never), ("mitigated", AcknowledgeWhen::Mitigated)];
            value.choice("a moment", &known)
        },
    );
    Some(ChannelKind::PagerDuty { key: key?, url: url?, acknowledge: acknowledge? })
}

fn opsgenie(table: &Table<'_>, directory: &Path, default: &str) -> Option<ChannelKind> {
    let key = secret(
        table,
        ("api-key-file", "\"opsgenie.key\""),
        ("api-key-env", "\"OPSGENIE_KEY\""),
        directory,
    );
    let url = url(table, default).map(|url| url.trim_end_matches('/').to_owned());
    Some(ChannelKind::OpsGenie { key: key?, url: url? })
}

fn telegram(table: &Table<'_>, directory: &Path) -> Option<ChannelKind> {
    let token = secret(table, TOKEN_FILE, TOKEN_ENV, directory);
    let chat = table.required("chat", "\"-1001234567890\"").and_then(|value| text(&value));
    let base = base_url(table, TELEGRAM);
    let token = token?;
    let fits = |character: char| character.is_ascii_alphanumeric() || ":_-".contains(character);
    if !token.expose().chars().all(fits) {
        table.error(
            "the bot token has characters that none has",
            "copy it from @BotFather as it is: digits, a colon, letters",
        );
        return None;
    }
    Some(ChannelKind::Telegram { token, chat: chat?, base: base? })
}

fn email(table: &Table<'_>, directory: &Path) -> Option<Email> {
    let server = table.required("server", "\"smtp.example.net\"").and_then(|value| text(&value));
    let known = [
        ("starttls", SmtpTls::StartTls),
        ("implicit", SmtpTls::Implicit),
        ("none", SmtpTls::Plain),
    ];
    let tls = table
        .optional("tls", "\"starttls\"")
        .map_or(Some(SmtpTls::StartTls), |value| value.choice("a protection", &known));
    let port = table.optional("port", "587").map(|value| value.integer(1..=u16::MAX));
    let user = table.optional("username", "\"tidegate\"").map(|value| text(&value));
    let password = optional_secret(
        table,
        ("password-file", "\"smtp.password\""),
        ("password-env", "\"SMTP_PASSWORD\""),
        directory,
    );
    let from = table
        .required("from", "\"tidegate <tidegate@example.net>\"")
        .and_then(|value| mailbox(&value));
    let to = table.required("to", "[\"noc@example.net\"]").and_then(|value| recipients(&value));
    let login = match (user, password?) {
        (Some(user), Some(password)) => Some((user?, password)),
        (None, None) => None,
        _ => {
            table.error(
                "a login needs `username` and a password",
                "give `username` and `password-file`, or neither",
            );
            return None;
        }
    };
    let tls = tls?;
    if login.is_some() && tls == SmtpTls::Plain {
        table.error("the password would cross the network readable", "write `tls = \"starttls\"`");
        return None;
    }
    let usual = match tls {
        SmtpTls::StartTls => 587,
        SmtpTls::Implicit => 465,
        SmtpTls::Plain => 25,
    };
    let port = port.map_or(Some(usual), |port| port)?;
    Some(Email { server: server?, port, tls, login, from: from?, to: to? })
}

fn recipients(value: &Value<'_>) -> Option<Vec<Mailbox>> {
    let items = value.list("\"noc@example.net\"")?;
    if items.is_empty() || items.len() > MAX_RECIPIENTS {
        value.error(
            format!("{} recipients; 1 to {MAX_RECIPIENTS} are possible", items.len()),
            "write `to = [\"noc@example.net\"]`",
        );
        return None;
    }
    items.iter().map(mailbox).collect()
}

fn mailbox(value: &Value<'_>) -> Option<Mailbox> {
    let address = value.string()?;
    let mailbox = address.parse().ok();
    if mailbox.is_none() {
        value.error(
            format!("`{address}` is no mail address"),
            "write `noc@example.net` or `NOC <noc@example.net>`",
        );
    }
    mailbox
}

fn generic(table: &Table<'_>, directory: &Path) -> Option<Webhook> {
    let plain = table.optional("plain-http", "true").map_or(Some(false), |value| value.boolean());
    let scheme = if plain? { Schemes::Any } else { Schemes::Protected };
    let url = match table.optional("url", "\"https://hooks.example.net/tidegate\"") {
        Some(value) => check_url(&value, value.string()?, scheme).map(Secret::from),
        None => secret_url_with(table, directory, scheme),
    };
    let signing = optional_secret(
        table,
        ("signing-key-file", "\"webhook.key\""),
        ("signing-key-env", "\"WEBHOOK_KEY\""),
        directory,
    );
    let authorization = optional_secret(
        table,
        ("authorization-file", "\"webhook.authorization\""),
        ("authorization-env", "\"WEBHOOK_AUTHORIZATION\""),
        directory,
    );
    let content_type = table
        .optional("content-type", "\"application/json\"")
        .map_or_else(|| Some("application/json".to_owned()), |value| text(&value));
    let medium =
        if content_type.as_deref().is_some_and(is_json) { Medium::Json } else { Medium::Plain };
    let body = template(table, "body", "'{\"host\": {{ target }}}'", medium);
    Some(Webhook {
        url: url?,
        signing: signing?,
        authorization: authorization?,
        body: body?,
        content_type: content_type?,
    })
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn syslog(table: &Table<'_>) -> Option<ChannelKind> {
    const FACILITIES: [(&str, u8); 12] = [
        ("user", 1),
        ("daemon", 3),
        ("auth", 4),
        ("authpriv", 10),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
    let facility = table
        .optional("facility", "\"daemon\"")
        .map_or(Some(3), |value| value.choice("a facility", &FACILITIES));
    let address = table.optional("address", "\"udp:192.0.2.1:514\"").map_or_else(
        || Some(SyslogAddress::Unix(PathBuf::from("/dev/log"))),
        |value| syslog_address(&value),
    );
    Some(ChannelKind::Syslog { address: address?, facility: facility? })
}

fn syslog_address(value: &Value<'_>) -> Option<SyslogAddress> {
    let text = value.string()?;
    let with_port = |rest: &str| {
        let port = rest.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
        });
        port.map(|_| rest.to_owned())
    };
    let address = match text.split_once(':') {
        Some(("unix", path)) if path.starts_with('/') => {
            Some(SyslogAddress::Unix(PathBuf::from(path)))
        }
        Some(("udp", rest)) => with_port(rest).map(SyslogAddress::Udp),
        Some(("tcp", rest)) => with_port(rest).map(SyslogAddress::Tcp),
        _ => None,
    };
    if address.is_none() {
        value.error(
            format!("`{text}` is not where syslog goes"),
            "write `unix:/dev/log`, `udp:192.0.2.1:514` or `tcp:log.example.net:601`",
        );
    }
    address
}

fn exec(table: &Table<'_>) -> Option<Exec> {
    let command =
        table.required("command", "[\"/usr/local/bin/notify\"]").and_then(|value| command(&value));
    let known = [("json", Convention::Json), ("fastnetmon", Convention::FastNetMon)];
    let convention = table
        .optional("convention", "\"fastnetmon\"")
        .map_or(Some(Convention::Json), |value| value.choice("a convention", &known));
    Some(Exec { command: command?, convention: convention? })
}

fn command(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list("\"/usr/local/bin/notify\"")?;
    let words: Option<Vec<String>> = items.iter().map(text).collect();
    let words = words?;
    if !words.first().is_some_and(|program| Path::new(program).is_absolute()) {
        value.error(
            "a command begins with the absolute path of a program",
            "write `command = [\"/usr/local/bin/notify\"]`",
        );
        return None;
    }
    Some(words)
}

/// A string that is not empty and holds no control characters.
fn text(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    if text.is_empty() || text.contains(|character: char| character.is_control()) {
        value.error("is empty or has control characters", format!("write {}", value.example()));
        return None;
    }
    Some(text.to_owned())
}

/// Which URLs are good.
#[derive(Clone, Copy)]
enum Schemes {
    /// HTTPS, and HTTP to this host.
    Protected,
    /// HTTP to anywhere as well.
    Any,
}

/// `url`, or the service's own.
fn url(table: &Table<'_>, default: &str) -> Option<String> {
    match table.optional("url", "\"https://api.example.net/\"") {
        Some(value) => check_url(&value, value.string()?, Schemes::Protected),
        None => Some(default.to_owned()),
    }
}

/// The same, with a slash at the end.
fn base_url(table: &Table<'_>, default: &str) -> Option<String> {
    url(table, default).map(|url| if url.ends_with('/') { url } else { format!("{url}/") })
}

fn secret_url(table: &Table<'_>, directory: &Path) -> Option<Secret> {
    secret_url_with(table, directory, Schemes::Protected)
}

fn secret_url_with(table: &Table<'_>, directory: &Path, schemes: Schemes) -> Option<Secret> {
    let secret = secret(table, WEBHOOK_FILE, WEBHOOK_ENV, directory)?;
    match judge_url(secret.expose(), schemes) {
        Ok(()) => Some(secret),
        // The URL itself is not shown: it is a secret.
        Err(why) => {
            table.error(
                format!("the webhook URL {why}"),
                "copy the URL from the service as it is, `https://...`",
            );
            None
        }
    }
}

fn check_url(value: &Value<'_>, text: &str, schemes: Schemes) -> Option<String> {
    match judge_url(text, schemes) {
        Ok(()) => Some(text.to_owned()),
        Err(why) => {
            value.error(format!("the URL {why}"), format!("write {}", value.example()));
            None
        }
    }
}

fn judge_url(text: &str, schemes: Schemes) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "is none")?;
    let host = url.host_str().ok_or("names no host")?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = address.map_or(host == "localhost", |address| address.is_loopback());
    if !url.username().is_empty() || url.password().is_some() {
        return Err("carries a login; give it as `authorization-file`");
    }
    match (url.scheme(), schemes) {
        ("https", _) | ("http", Schemes::Any) => Ok(()),
        ("http", Schemes::Protected) if local => Ok(()),
        ("http", Schemes::Protected) => Err("is not protected by TLS"),
        _ => Err("is neither https nor http"),
    }
}
