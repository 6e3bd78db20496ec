//! Every renderer against the documented rules of its service, with ordinary and hostile records.

use proptest::prelude::*;
use serde_json::Value;
use tidegate_model::Severity;

use super::super::config::{
    AcknowledgeWhen, Channel, ChannelKind, Convention, Email, Exec, Grouping, SmtpTls,
    SyslogAddress, Webhook,
};
use super::super::event::AlertEvent;
use super::super::http;
use super::super::secret::Secret;
use super::super::template::{Medium, Template};
use super::*;
use crate::incident::{Mitigation, sample};

const ALL: [AlertEvent; 8] = [
    AlertEvent::Opened,
    AlertEvent::Escalated,
    AlertEvent::Mitigated,
    AlertEvent::NotEnforced,
    AlertEvent::Acknowledged,
    AlertEvent::Updated,
    AlertEvent::Ended,
    AlertEvent::Withdrawn,
];

fn channel(kind: ChannelKind) -> Channel {
    Channel {
        name: "test".to_owned(),
        min_severity: Severity::Low,
        events: AlertEvent::CHOSEN.into(),
        grouping: Grouping::Together,
        timeout: http::TIMEOUT,
        title: None,
        text: None,
        kind,
    }
}

fn secret(text: &str) -> Secret {
    Secret::from(text)
}

fn slack_bot() -> ChannelKind {
    ChannelKind::SlackBot {
        token: secret("xoxb-hush"),
        channel: "C1".to_owned(),
        base: "https://slack.com/api/".to_owned(),
    }
}

fn pagerduty(acknowledge: AcknowledgeWhen) -> ChannelKind {
    let url = "https://events.pagerduty.com/v2/enqueue".to_owned();
    ChannelKind::PagerDuty { key: secret("hush"), url, acknowledge }
}

fn opsgenie() -> ChannelKind {
    let url = "https://api.opsgenie.com/v2/alerts".to_owned();
    ChannelKind::OpsGenie { key: secret("hush"), url }
}

fn telegram() -> ChannelKind {
    ChannelKind::Telegram {
        token: secret("1:hush"),
        chat: "-100".to_owned(),
        base: "https://api.telegram.org/".to_owned(),
    }
}

fn email() -> ChannelKind {
    ChannelKind::Email(Email {
        server: "smtp.example.net".to_owned(),
        port: 587,
        tls: SmtpTls::StartTls,
        login: None,
        from: "tidegate <tidegate@example.net>".parse().unwrap(),
        to: vec!["noc@example.net".parse().unwrap()],
    })
}

fn webhook(body: Option<Template>) -> ChannelKind {
    ChannelKind::Webhook(Webhook {
        url: secret("https://hooks.example.net/x"),
        signing: Some(secret("hush")),
        authorization: None,
        body,
        content_type: "application/json".to_owned(),
    })
}

fn exec(convention: Convention) -> ChannelKind {
    ChannelKind::Exec(Exec { command: vec!["/bin/true".to_owned()], convention })
}

fn send(channel: &Channel, snapshot: &Snapshot, remote: Option<&str>) -> Option<Delivery> {
    let origin = Origin::new("router 1\n", 42);
    let now = "2026-08-22T12:00:01Z".parse().unwrap();
    render(channel, snapshot, Context { remote, now, origin: &origin }).unwrap()
}

fn http_request(kind: ChannelKind, snapshot: &Snapshot, remote: Option<&str>) -> Option<Request> {
    match send(&channel(kind), snapshot, remote) {
        Some(Delivery::Http(request)) => Some(request),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn json_of(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let found = request.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.expose())
}

/// A record in which everything that can be text is `text`, `times` over.
fn snapshot(text: &str, times: usize, event: AlertEvent) -> Snapshot {
    let mut snapshot = Snapshot::sample();
    let long = text.repeat(times);
    snapshot.event = event;
    snapshot.note = Some(long.clone());
    let incident = &mut snapshot.incident;
    incident.group = long.clone();
    incident.end_reason = Some(long.clone());
    incident.withdraw_reason = Some(long.clone());
    incident.policy.response = Some(long.clone());
    incident.policy.commit = Some(long.clone());
    let vector = incident.vectors[0].clone();
    incident.vectors = (0..times.clamp(1, 12)).map(|_| vector.clone()).collect();
    incident.vectors[0].vector = long.clone();
    let mitigation = Mitigation {
        backend: format!("peer {long}"),
        nlri: long.clone(),
        ..incident.mitigations[0].clone()
    };
    incident.mitigations = vec![mitigation; times.clamp(1, 30)];
    snapshot.others = (0..20).map(|n| format!("2001:db8::{n:x}/128").parse().unwrap()).collect();
    snapshot.targets = 4_000;
    snapshot
}

const HOSTILE: &[&str] = &[
    "",
    "web",
    "<!channel> <@U1> *x* _y_ `z` & \"q\" 'r' \\",
    "@everyone [x](https://evil.example) https://evil.example",
    "a\r\nBcc: victim@example.com\r\n\r\nhello\u{1b}[2J\u{202e}\0",
    "\u{1f30a}\u{1f6a7}",
    "] \"] [fake@1 a=\"b\"]",
    "{{ incident }} {% raw %} ${HOME} $(id) `id` ;|&",
];

fn length(value: &Value) -> usize {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).chars().count()
}

fn check_slack(body: &Value) {
    assert!((1..=300).contains(&length(&body["text"])));
    let blocks = body["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()));
    let check_text = |text: &Value, limit: usize| {
        assert!((1..=limit).contains(&length(&text["text"])), "{text}");
        match text["type"].as_str().unwrap() {
            "plain_text" => assert!(text.get("verbatim").is_none()),
            "mrkdwn" => {
                let shown = text["text"].as_str().unwrap();
                assert!(!shown.contains(['<', '>']), "{shown}");
                assert_eq!(text["verbatim"], true);
            }
            other => panic!("{other}"),
        }
    };
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "header" => check_text(&block["text"], 150),
            "section" => {
                assert!(block.get("text").is_some() || block.get("fields").is_some());
                if let Some(text) = block.get("text") {
                    check_text(text, 3_000);
                }
                if let Some(fields) = block.get("fields").map(|fields| fields.as_array().unwrap()) {
                    assert!((1..=10).contains(&fields.len()));
                    fields.iter().for_each(|field| check_text(field, 2_000));
                }
            }
            "context" => check_text(&block["elements"][0], 3_000),
            "actions" => {
                let buttons = block["elements"].as_array().unwrap();
                assert!((1..=25).contains(&buttons.len()));
                for button in buttons {
                    check_text(&button["text"], 75);
                    assert!(length(&button["url"]) <= 3_000);
                }
            }
            other => panic!("{other}"),
        }
    }
}

fn check_discord(body: &Value) {
    assert!(length(&body["content"]) <= 2_000);
    assert_eq!(body["allowed_mentions"], serde_json::json!({ "parse": [] }));
    let embeds = body["embeds"].as_array().unwrap();
    assert!((1..=10).contains(&embeds.len()));
    let mut total = 0;
    for embed in embeds {
        let (title, description) = (length(&embed["title"]), length(&embed["description"]));
        assert!((1..=256).contains(&title) && description <= 4_096);
        total += title + description;
        let color = embed["color"].as_u64().unwrap();
        assert!(color <= 0xff_ffff);
        assert!(embed["timestamp"].as_str().unwrap().parse::<WallTime>().is_ok());
        let fields = embed["fields"].as_array().unwrap();
        assert!(fields.len() <= 25);
        for field in fields {
            let (name, value) = (length(&field["name"]), length(&field["value"]));
            assert!((1..=256).contains(&name) && (1..=1_024).contains(&value), "{field}");
            total += name + value;
        }
    }
    assert!(total <= 6_000, "{total}");
}

fn check_pagerduty(body: &Value, snapshot: &Snapshot) {
    assert_eq!(body["routing_key"], "hush");
    assert_eq!(body["dedup_key"].as_str(), Some(snapshot.alert.as_str()));
    assert!(length(&body["dedup_key"]) <= 255);
    assert!(body.to_string().len() <= 512 * 1024);
    match body["event_action"].as_str().unwrap() {
        "trigger" => {
            let payload = &body["payload"];
            assert!((1..=1_024).contains(&length(&payload["summary"])));
            assert!(length(&payload["source"]) >= 1);
            let severity = payload["severity"].as_str().unwrap();
            assert!(["critical", "error", "warning", "info"].contains(&severity));
            assert!(payload["timestamp"].as_str().unwrap().parse::<WallTime>().is_ok());
            for link in body["links"].as_array().unwrap() {
                assert!(length(&link["href"]) > 0 && length(&link["text"]) > 0);
            }
        }
        "acknowledge" | "resolve" => assert!(body.get("payload").is_none()),
        other => panic!("{other}"),
    }
}

fn check_opsgenie(request: &Request, event: AlertEvent) {
    let body = json_of(request);
    assert_eq!(header(request, "authorization"), Some("GenieKey hush"));
    let url = request.url.expose();
    match event {
        AlertEvent::Opened => {
            assert!((1..=130).contains(&length(&body["message"])));
            assert!(length(&body["alias"]) <= 512);
            assert!(length(&body["description"]) <= 15_000);
            let tags = body["tags"].as_array().unwrap();
            assert!(tags.len() <= 20 && tags.iter().all(|tag| length(tag) <= 50));
            assert!(length(&body["entity"]) <= 512 && length(&body["source"]) <= 100);
            let details = body["details"].as_object().unwrap();
            let size: usize = details.iter().map(|(key, value)| key.len() + length(value)).sum();
            assert!(size <= 8_000, "{size}");
            assert!(["P1", "P2", "P3", "P4", "P5"].contains(&body["priority"].as_str().unwrap()));
            assert_eq!(url, "https://api.opsgenie.com/v2/alerts");
        }
        _ => {
            assert!(url.contains("?identifierType=alias"), "{url}");
            assert!(body.get("note").is_none_or(|note| length(note) <= 25_000));
        }
    }
}

fn check_teams(request: &Request) {
    assert!(request.body.len() <= 28 * 1024, "{}", request.body.len());
    let body = json_of(request);
    assert_eq!(body["type"], "message");
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(attachment["content"]["type"], "AdaptiveCard");
    assert_eq!(attachment["content"]["version"], "1.4");
    for block in attachment["content"]["body"].as_array().unwrap() {
        // Only this kind of block shows text as it is.
        assert_eq!(block["type"], "RichTextBlock");
    }
}

/// Tags in pairs, and no `<` or `&` that is not markup.
fn check_html(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').unwrap_or_else(|| panic!("a tag is not closed: {text}"));
        let tag = &rest[..end];
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name.to_owned()), "{text}"),
            None => open.push(tag.split(' ').next().unwrap_or_default().to_owned()),
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{text}");
}

fn check_telegram(body: &Value) {
    let text = body["text"].as_str().unwrap();
    check_html(text);
    let mut shown = 0;
    let mut inside = false;
    for character in text.chars() {
        match character {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => shown += 1,
            _ => {}
        }
    }
    assert!((1..=4_096).contains(&shown), "{shown}");
    assert_eq!(body["parse_mode"], "HTML");
    assert_eq!(body["chat_id"], "-100");
}

fn check_syslog(message: &[u8]) {
    assert!(message.len() <= 2_048);
    let text = std::str::from_utf8(message).unwrap();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    let rest = text.strip_prefix('<').unwrap();
    let (priority, rest) = rest.split_once('>').unwrap();
    assert!(priority.parse::<u8>().unwrap() <= 191);
    let mut words = rest.splitn(7, ' ');
    assert_eq!(words.next(), Some("1"));
    assert!(words.next().unwrap().parse::<WallTime>().is_ok());
    assert_eq!(words.next(), Some("router1"));
    assert_eq!(words.next(), Some("tidegate"));
    assert_eq!(words.next(), Some("42"));
    assert!(words.next().is_some_and(|id| (1..=32).contains(&id.len())));
    let data = words.next().unwrap();
    // One element: its values end at the first quote that no backslash escapes.
    let mut characters = data.strip_prefix("[tidegate@32473").unwrap().chars();
    let (mut quoted, mut escaped) = (false, false);
    let end = characters.by_ref().find(|character| {
        let closes = *character == ']' && !quoted;
        if *character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = *character == '\\' && !escaped;
        closes
    });
    assert_eq!(end, Some(']'), "{data}");
    assert!(characters.as_str().starts_with(" \u{feff}"), "{data}");
}

fn check_mail(mail: &lettre::Message) {
    let text = String::from_utf8(mail.formatted()).unwrap();
    let head = text.split("\r\n\r\n").next().unwrap();
    let names: Vec<String> = head
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split_once(':').unwrap().0.to_lowercase())
        .collect();
    for name in ["from", "to", "subject", "date", "message-id", "references", "mime-version"] {
        assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{name} in {head}");
    }
    assert!(!names.contains(&"bcc".to_owned()), "{head}");
    assert!(text.lines().all(|line| line.len() <= 998), "RFC 5322 §2.1.1");
}

fn check_everything(snapshot: &Snapshot) {
    let event = snapshot.event;
    let url = secret("https://hooks.example.net/hush");
    let request =
        http_request(ChannelKind::SlackWebhook { url: url.clone() }, snapshot, None).unwrap();
    check_slack(&json_of(&request));
    let request = http_request(slack_bot(), snapshot, Some("C1 1.2")).unwrap();
    assert!(request.url.expose().ends_with("chat.update"));
    let body = json_of(&request);
    assert_eq!((body["channel"].as_str(), body["ts"].as_str()), (Some("C1"), Some("1.2")));
    check_slack(&body);
    for remote in [None, Some("99")] {
        let kind = ChannelKind::Discord { url: url.clone() };
        check_discord(&json_of(&http_request(kind, snapshot, remote).unwrap()));
        check_telegram(&json_of(&http_request(telegram(), snapshot, remote).unwrap()));
    }
    if let Some(request) = http_request(pagerduty(AcknowledgeWhen::Mitigated), snapshot, None) {
        check_pagerduty(&json_of(&request), snapshot);
    }
    if let Some(request) = http_request(opsgenie(), snapshot, None) {
        check_opsgenie(&request, event);
    }
    check_teams(&http_request(ChannelKind::Teams { url }, snapshot, None).unwrap());
    let syslog = ChannelKind::Syslog {
        address: SyslogAddress::Udp("192.0.2.1:514".to_owned()),
        facility: 3,
    };
    match send(&channel(syslog), snapshot, None) {
        Some(Delivery::Syslog(message)) => check_syslog(&message),
        other => panic!("{other:?}"),
    }
    match send(&channel(email()), snapshot, None) {
        Some(Delivery::Mail(mail)) => check_mail(&mail),
        other => panic!("{other:?}"),
    }
    let request = http_request(webhook(None), snapshot, None).unwrap();
    assert_eq!(json_of(&request)["incident"]["target"], "203.0.113.7/32");
    for convention in [Convention::Json, Convention::FastNetMon] {
        if let Some(Delivery::Program { arguments, .. }) =
            send(&channel(exec(convention)), snapshot, None)
        {
            assert!(arguments.iter().all(|word| !word.contains('\0') && !word.starts_with('-')));
        }
    }
}

#[test]
fn payloads_keep_the_rules_whatever_the_record_says() {
    for text in HOSTILE {
        for times in [1, 40, 300] {
            for event in ALL {
                check_everything(&snapshot(text, times, event));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn payloads_keep_the_rules_for_any_text(
        text in ".{0,60}",
        times in 1_usize..100,
        event in 0_usize..8,
    ) {
        check_everything(&snapshot(&text, times, ALL[event]));
    }
}

#[test]
fn an_alert_is_one_incident_at_pagerduty() {
    let actions = |acknowledge| {
        ALL.map(|event| {
            let snapshot = Snapshot { event, ..Snapshot::sample() };
            http_request(pagerduty(acknowledge), &snapshot, None)
                .map(|request| json_of(&request)["event_action"].as_str().unwrap().to_owned())
        })
    };
    let expect = |mitigated: Option<&str>| {
        [
            Some("trigger"),
            Some("trigger"),
            mitigated,
            Some("trigger"),
            Some("acknowledge"),
            None,
            Some("resolve"),
            Some("resolve"),
        ]
        .map(|action| action.map(ToOwned::to_owned))
    };
    assert_eq!(actions(AcknowledgeWhen::Never), expect(None));
    assert_eq!(actions(AcknowledgeWhen::Mitigated), expect(Some("acknowledge")));
}

#[test]
fn messages_are_changed_in_place() {
    let snapshot = Snapshot::sample();
    let url = secret("https://discord.com/api/webhooks/1/hush?thread_id=5");
    let discord = || ChannelKind::Discord { url: url.clone() };
    for (kind, remote, method, url) in [
        (discord(), None, "POST", "https://discord.com/api/webhooks/1/hush?wait=true&thread_id=5"),
        (
            discord(),
            Some("9"),
            "PATCH",
            "https://discord.com/api/webhooks/1/hush/messages/9?thread_id=5",
        ),
        (
            ChannelKind::Discord { url: secret("https://d.example/h") },
            Some("9"),
            "PATCH",
            "https://d.example/h/messages/9",
        ),
        (slack_bot(), None, "POST", "https://slack.com/api/chat.postMessage"),
        (slack_bot(), Some("C1 2.3"), "POST", "https://slack.com/api/chat.update"),
        (telegram(), None, "POST", "https://api.telegram.org/bot1:hush/sendMessage"),
        (telegram(), Some("7"), "POST", "https://api.telegram.org/bot1:hush/editMessageText"),
    ] {
        let request = http_request(kind, &snapshot, remote).unwrap();
        assert_eq!((request.method.name(), request.url.expose()), (method, url));
        assert!(!format!("{request:?}").contains("hush"));
    }
}

#[test]
fn webhooks_are_signed_over_time_and_body() {
    let template = Template::new("{\"host\": {{ target }}}", Medium::Json).unwrap();
    let request = http_request(webhook(Some(template)), &Snapshot::sample(), None).unwrap();
    assert_eq!(request.body, b"{\"host\": \"203.0.113.7\"}");
    assert_eq!(header(&request, "x-tidegate-timestamp"), Some("1787400001"));
    // printf '1787400001.{"host": "203.0.113.7"}' | openssl dgst -sha256 -hmac hush
    let expected = super::webhook::signature("hush", "1787400001", &request.body);
    let signature = header(&request, "x-tidegate-signature").unwrap();
    assert_eq!(signature, format!("sha256={expected}"));
    // RFC 4231 §4.3, with the dot that we put between time and body.
    assert_eq!(
        super::webhook::signature("Jefe", "what do ya want for nothing?", b""),
        "38c6c848e5a2f57451f5095df6370d5c9b83175b99df46422b34960c28def6ae"
    );
}

#[test]
fn fastnetmon_scripts_get_what_they_know() {
    let mut snapshot = Snapshot::sample();
    let channel = channel(exec(Convention::FastNetMon));
    let Some(Delivery::Program { arguments, input }) = send(&channel, &snapshot, None) else {
        panic!("a ban is told");
    };
    assert_eq!(arguments, ["203.0.113.7", "incoming", "420000", "ban"]);
    assert!(String::from_utf8(input).unwrap().starts_with("IP: 203.0.113.7\nAttack type:"));
    snapshot.event = AlertEvent::Ended;
    let Some(Delivery::Program { arguments, input }) = send(&channel, &snapshot, None) else {
        panic!("an unban is told");
    };
    assert_eq!((arguments[3].as_str(), input.len()), ("unban", 0));
    snapshot.event = AlertEvent::Escalated;
    assert!(send(&channel, &snapshot, None).is_none());
}

#[test]
fn people_read_this() {
    let mut snapshot = Snapshot::sample();
    snapshot.others = vec!["203.0.113.8/32".parse().unwrap(), "203.0.113.9/32".parse().unwrap()];
    snapshot.targets = 40;
    let opened = Message::of(&snapshot).text();
    snapshot.event = AlertEvent::NotEnforced;
    snapshot.note = Some("flow4 at peer border1: NOT announced: refused".to_owned());
    let failed = Message::of(&snapshot);
    snapshot.event = AlertEvent::Ended;
    snapshot.note = None;
    snapshot.targets = 1;
    snapshot.others.clear();
    snapshot.incident = sample::closed();
    let over = Message::of(&snapshot).text();
    insta::assert_snapshot!(format!(
        "{opened}\n---\n{}\n{}\n---\n{over}",
        failed.title, failed.summary
    ));
}
