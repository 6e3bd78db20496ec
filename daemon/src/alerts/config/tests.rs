use std::sync::Arc;

use tidegate_policy::text::{Collector, Document, Source};

use super::*;

fn read(text: &str, directory: &Path) -> Result<Settings, String> {
    let source = Arc::new(Source::new("tidegate.toml", text));
    let collector = Collector::new();
    let settings = Document::parse(&source, &collector).and_then(|document| {
        let root = document.root(&collector);
        let settings = resolve(&root, directory);
        root.finish();
        settings
    });
    collector.finish(settings).map_err(|report| report.to_string())
}

fn secrets() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("url", "https://hooks.example.net/services/T0/B0/hush"),
        ("token", "123:hush-token"),
        ("key", "hush-key"),
        ("plain-url", "http://hooks.example.net/hush"),
    ] {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    folder
}

const EVERYTHING: &str = r#"
[incidents]
database = "state/incidents.db"
keep = "30d"
max-bytes = 10_000_000
coalesce = "1m"

[akvorado]
url = "https://akvorado.example.net"
link-format = "legacy"

[alerts.team]
type = "slack"
webhook-url-file = "url"
min-severity = "high"
events = ["opened", "ended"]
title = "{{ target }}"
text = "since {{ incident.start_minus_5m }}: {{ akvorado_url }}"

[alerts.bot]
type = "slack"
bot-token-file = "token"
channel = "C0123456789"

[alerts.chat]
type = "discord"
webhook-url-file = "url"
timeout = "5s"

[alerts.pager]
type = "pagerduty"
routing-key-file = "key"
acknowledge = "mitigated"

[alerts.genie]
type = "opsgenie"
api-key-file = "key"
url = "https://api.eu.opsgenie.com/v2/alerts"

[alerts.jira]
type = "jsm"
api-key-file = "key"

[alerts.teams]
type = "teams"
webhook-url-file = "url"

[alerts.phone]
type = "telegram"
bot-token-file = "token"
chat = "-1001234567890"

[alerts.mail]
type = "email"
server = "smtp.example.net"
username = "tidegate"
password-file = "key"
from = "tidegate <tidegate@example.net>"
to = ["noc@example.net", "Night <night@example.net>"]

[alerts.hook]
type = "webhook"
url = "https://hooks.example.net/tidegate"
signing-key-file = "key"
authorization-file = "token"
body = '{"target": {{ target }}, "peak": {{ incident.peak.bits_per_second }}}'

[alerts.log]
type = "syslog"
address = "udp:192.0.2.1:514"
facility = "local3"

[alerts.script]
type = "exec"
command = ["/usr/local/bin/notify.sh", "--loud"]
convention = "fastnetmon"
timeout = "1m"
"#;

#[test]
fn everything_is_read() {
    let folder = secrets();
    let settings = read(EVERYTHING, folder.path()).unwrap();
    let store = settings.store.unwrap();
    assert_eq!(store.path, folder.path().join("state/incidents.db"));
    assert_eq!(store.limits.keep, Duration::from_secs(30 * 86_400));
    assert_eq!(store.limits.max_bytes, 10_000_000);
    assert_eq!(settings.alerts.coalesce, Duration::from_secs(60));
    assert!(settings.console.is_some());
    let channels = settings.alerts.channels;
    let names: Vec<(&str, &str)> =
        channels.iter().map(|channel| (channel.name.as_str(), channel.kind.name())).collect();
    assert_eq!(
        names,
        [
            ("bot", "slack"),
            ("chat", "discord"),
            ("genie", "opsgenie"),
            ("hook", "webhook"),
            ("jira", "opsgenie"),
            ("log", "syslog"),
            ("mail", "email"),
            ("pager", "pagerduty"),
            ("phone", "telegram"),
            ("script", "exec"),
            ("team", "slack"),
            ("teams", "teams"),
        ]
    );
    let by_name = |name: &str| channels.iter().find(|channel| channel.name == name).unwrap();
    let team = by_name("team");
    assert_eq!(team.min_severity, Severity::High);
    assert_eq!(team.events, BTreeSet::from([AlertEvent::Opened, AlertEvent::Ended]));
    assert_eq!(team.grouping, Grouping::Together);
    assert_eq!(team.timeout, http::TIMEOUT);
    assert_eq!(by_name("chat").timeout, Duration::from_secs(5));
    assert_eq!(by_name("script").grouping, Grouping::Each);
    let ChannelKind::OpsGenie { url, .. } = &by_name("jira").kind else { panic!() };
    assert_eq!(url, "https://api.atlassian.com/jsm/ops/integration/v2/alerts");
    let ChannelKind::Email(email) = &by_name("mail").kind else { panic!() };
    assert_eq!((email.port, email.tls, email.to.len()), (587, SmtpTls::StartTls, 2));
}

#[test]
fn nothing_secret_is_shown() {
    let folder = secrets();
    let settings = read(EVERYTHING, folder.path()).unwrap();
    assert!(!format!("{settings:?}").contains("hush"));
}

#[test]
fn nothing_need_be_configured() {
    assert_eq!(read("", Path::new("")), Ok(Settings::default()));
}

#[test]
fn every_mistake_is_told_at_once() {
    let folder = secrets();
    let text = r#"
[incidents]
keep = "1h"

[akvorado]
url = "akvorado"

[alerts.one]
type = "slak"

[alerts.two]
type = "slack"
webhook-url = "https://hooks.slack.com/services/hush"

[alerts.three]
type = "pagerduty"
routing-key-env = "TIDEGATE_TEST_NO_SUCH_VARIABLE"
min-severity = "huge"
events = ["begun"]

[alerts.four]
type = "discord"
webhook-url-file = "plain-url"

[alerts.five]
type = "slack"
webhook-url-file = "url"
text = "{{ targt }}"

[alerts.six]
type = "email"
server = "smtp.example.net"
tls = "none"
username = "a"
password-file = "key"
from = "nobody"
to = []

[alerts.seven]
type = "exec"
command = ["notify"]

[alerts."ei ght"]
type = "syslog"
address = "udp:192.0.2.1"
"#;
    let report = read(text, folder.path()).unwrap_err();
    insta::assert_snapshot!(report.replace(&folder.path().display().to_string(), "DIR"));
}
