//! Alerts from the configuration text to the service, over real sockets on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "alerts/servers.rs"]
mod servers;

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::akvorado;
use tidegate::alerts::config::resolve;
use tidegate::alerts::{Alerts, Leftovers, Settings, test};
use tidegate::clock::WallOrigin;
use tidegate::event::{Event, EventKind};
use tidegate::incident::{self, Change, ChangeKind, Incident, Status, WallTime, sample};
use tidegate::store::{Limits, Listing, Opened, Reader, open};
use tidegate_model::{
    Attack, AttackEvent, AttackId, EndReason, Limit, Metric, PacketsPerSecond, Prefix, Rate,
    Severity, Timestamp, Trigger,
};
use tidegate_policy::text::{Collector, Document, Source};
use tidegate_policy::{Decision, DecisionKind};

use servers::{HttpServer, Reply, SmtpServer};

const PATIENCE: Duration = Duration::from_secs(30);

fn now() -> WallTime {
    "2026-08-22T12:00:01Z".parse().unwrap()
}

/// A folder with secrets and the settings of `text`, in which `NAME = URL` pairs are files.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new(secrets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, secret) in secrets {
            std::fs::write(folder.path().join(name), secret).unwrap();
        }
        Self { folder }
    }

    fn settings(&self, text: &str) -> Settings {
        let source = Arc::new(Source::new("tidegate.toml", text));
        let collector = Collector::new();
        let settings = Document::parse(&source, &collector).and_then(|document| {
            let root = document.root(&collector);
            let settings = resolve(&root, self.folder.path());
            root.finish();
            settings
        });
        collector.finish(settings).unwrap_or_else(|report| panic!("{report}"))
    }

    fn start(&self, text: &str) -> Alerts {
        let settings = self.settings(text);
        let console = settings.console.clone();
        Alerts::start(&settings.alerts, console, None, Leftovers::default(), now()).unwrap()
    }

    fn store(&self) -> Opened {
        open(&self.folder.path().join("incidents.db"), Limits::default(), now()).unwrap()
    }
}

fn sampled(number: u8) -> Incident {
    let mut incident = sample::incident();
    incident.id = format!("20260822T120000.000Z-{number}");
    incident.target = Prefix::host([203, 0, 113, number].into());
    incident
}

fn change(kind: ChangeKind, number: u8) -> Change {
    let mut incident = sampled(number);
    match kind {
        ChangeKind::Ended => incident.status = Status::Ended,
        ChangeKind::Closed => incident.status = Status::Closed,
        _ => {}
    }
    Change { kind, incident: Arc::new(incident) }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn pagerduty_hears_trigger_and_resolve_under_one_key() {
    let server = HttpServer::start(|_, _| Reply::Answer(202, "", "{}".to_owned()));
    let setup = Setup::new(&[("key", "R0UTING")]);
    let mut alerts = setup.start(&format!(
        "[akvorado]\nurl = \"https://akvorado.example.net\"\n[alerts.pager]\ntype = \"pagerduty\"\n\
         routing-key-file = \"key\"\nacknowledge = \"mitigated\"\nurl = \"{}\"\n",
        server.url("/v2/enqueue")
    ));
    for kind in [ChangeKind::Opened, ChangeKind::Mitigated, ChangeKind::Ended, ChangeKind::Closed] {
        alerts.handle(&change(kind, 7));
    }
    let requests = server.inbox.wait("events", |requests| requests.len() == 4);
    let bodies: Vec<Value> = requests.iter().map(servers::Request::json).collect();
    let actions: Vec<&str> = bodies.iter().map(|b| b["event_action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve", "resolve"]);
    for body in &bodies {
        assert_eq!(body["dedup_key"], "20260822T120000.000Z-7");
        assert_eq!(body["routing_key"], "R0UTING");
    }
    assert_eq!(bodies[0]["payload"]["severity"], "error");
    let link = bodies[0]["links"][0]["href"].as_str().unwrap();
    assert!(link.starts_with("https://akvorado.example.net/visualize/v1-"), "{link}");
    assert!(alerts.finish(PATIENCE));
}

#[test]
fn a_message_is_posted_once_and_then_changed() {
    let server = HttpServer::start(|request, _| match request.path.as_str() {
        "/slack/chat.postMessage" | "/slack/chat.update" => {
            Reply::ok(r#"{"ok":true,"channel":"C1","ts":"1787400000.000100"}"#)
        }
        "/botTOKEN/sendMessage" | "/botTOKEN/editMessageText" => {
            Reply::ok(r#"{"ok":true,"result":{"message_id":77}}"#)
        }
        _ => Reply::ok(r#"{"id":"4242"}"#),
    });
    let setup = Setup::new(&[("token", "TOKEN"), ("hook", &server.url("/hook"))]);
    let mut alerts = setup.start(&format!(
        "[alerts.bot]\ntype = \"slack\"\nbot-token-file = \"token\"\nchannel = \"C1\"\n\
         url = \"{slack}\"\n[alerts.chat]\ntype = \"discord\"\nwebhook-url-file = \"hook\"\n\
         [alerts.phone]\ntype = \"telegram\"\nbot-token-file = \"token\"\nchat = \"-1\"\n\
         url = \"{base}\"\n",
        slack = server.url("/slack"),
        base = server.url("/"),
    ));
    alerts.handle(&change(ChangeKind::Opened, 7));
    server.inbox.wait("posts", |requests| requests.len() == 3);
    alerts.handle(&change(ChangeKind::Ended, 7));
    let requests = server.inbox.wait("changes", |requests| requests.len() == 6);
    let mut seen: Vec<String> =
        requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "PATCH /hook/messages/4242",
            "POST /botTOKEN/editMessageText",
            "POST /botTOKEN/sendMessage",
            "POST /hook?wait=true",
            "POST /slack/chat.postMessage",
            "POST /slack/chat.update",
        ]
    );
    let update = requests.iter().find(|request| request.path.ends_with("update")).unwrap();
    assert_eq!(update.json()["ts"], "1787400000.000100");
    assert_eq!(update.header("authorization"), Some("Bearer TOKEN"));
}

#[test]
fn a_message_that_someone_deleted_is_posted_anew() {
    let server = HttpServer::start(|request, before| {
        if request.method == "PATCH" && before == 1 {
            Reply::Answer(404, "", r#"{"code":10008}"#.to_owned())
        } else {
            Reply::ok(r#"{"id":"4242"}"#)
        }
    });
    let setup = Setup::new(&[("hook", &server.url("/hook"))]);
    let mut alerts =
        setup.start("[alerts.chat]\ntype = \"discord\"\nwebhook-url-file = \"hook\"\n");
    alerts.handle(&change(ChangeKind::Opened, 7));
    server.inbox.wait("post", |requests| requests.len() == 1);
    alerts.handle(&change(ChangeKind::Ended, 7));
    let requests = server.inbox.wait("a new post", |requests| requests.len() == 3);
    let methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "POST"]);
}

#[test]
fn what_fails_is_sent_again_and_what_is_refused_is_not() {
    let server = HttpServer::start(|request, before| match (request.path.as_str(), before) {
        ("/refused", _) => Reply::Answer(400, "", "no such team".to_owned()),
        (_, 0) => Reply::Answer(429, "retry-after: 1\r\n", String::new()),
        (_, 1) => Reply::Answer(500, "", String::new()),
        (_, 2) => Reply::Break,
        (_, 3) => Reply::Hang,
        _ => Reply::Answer(202, "", String::new()),
    });
    let refusing = HttpServer::start(|_, _| Reply::Answer(400, "", "no such team".to_owned()));
    let setup =
        Setup::new(&[("hook", &server.url("/hook")), ("refused", &refusing.url("/refused"))]);
    let mut alerts = setup.start(
        "[alerts.teams]\ntype = \"teams\"\nwebhook-url-file = \"hook\"\ntimeout = \"500ms\"\n\
         [alerts.other]\ntype = \"teams\"\nwebhook-url-file = \"refused\"\n",
    );
    alerts.handle(&change(ChangeKind::Opened, 7));
    let requests = server.inbox.wait("attempts", |requests| requests.len() == 5);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    alerts.handle(&change(ChangeKind::Ended, 7));
    server.inbox.wait("the end", |requests| requests.len() == 6);
    // Each of the two was tried once.
    assert_eq!(refusing.inbox.wait("refusals", |requests| requests.len() >= 2).len(), 2);
    assert!(alerts.finish(PATIENCE));
}

#[test]
fn a_dead_channel_delays_neither_the_others_nor_the_caller() {
    let dead = HttpServer::start(|_, _| Reply::Hang);
    let alive = HttpServer::start(|_, _| Reply::Answer(202, "", String::new()));
    let setup = Setup::new(&[("dead", &dead.url("/")), ("alive", &alive.url("/"))]);
    let mut alerts = setup.start(
        "[alerts.dead]\ntype = \"webhook\"\nwebhook-url-file = \"dead\"\ntimeout = \"2m\"\n\
         [alerts.alive]\ntype = \"webhook\"\nwebhook-url-file = \"alive\"\n",
    );
    let began = Instant::now();
    for number in 0..20 {
        alerts.handle(&change(ChangeKind::Opened, number));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waited for a service");
    alive.inbox.wait("the others", |requests| requests.len() == 20);
    assert_eq!(dead.inbox.wait("the dead one", |requests| !requests.is_empty()).len(), 1);
    // A channel that hangs does not keep tidegate from stopping either.
    assert!(alerts.finish(PATIENCE));
}

#[test]
fn webhooks_are_signed_and_templated_and_follow_nobody() {
    let elsewhere = HttpServer::start(|_, _| Reply::ok(""));
    let target: &'static str =
        Box::leak(format!("location: {}\r\n", elsewhere.url("/")).into_boxed_str());
    let server = HttpServer::start(move |_, _| Reply::Answer(307, target, String::new()));
    let setup = Setup::new(&[("key", "hush")]);
    let mut alerts = setup.start(&format!(
        "[alerts.hook]\ntype = \"webhook\"\nurl = \"{}\"\nsigning-key-file = \"key\"\n\
         body = '{{\"t\": {{{{ target }}}}, \"from\": {{{{ incident.start_minus_5m }}}}}}'\n",
        server.url("/hook")
    ));
    alerts.handle(&change(ChangeKind::Opened, 7));
    let requests = server.inbox.wait("the request", |requests| requests.len() == 1);
    let request = &requests[0];
    assert_eq!(
        String::from_utf8_lossy(&request.body),
        "{\"t\": \"203.0.113.7\", \"from\": \"2026-08-22T11:55:00.000Z\"}"
    );
    let time = request.header("x-tidegate-timestamp").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"hush");
    let signed = [time.as_bytes(), b".", &request.body].concat();
    let signature =
        request.header("x-tidegate-signature").unwrap().strip_prefix("sha256=").unwrap();
    let octets: Vec<u8> = (0..signature.len() / 2)
        .map(|place| u8::from_str_radix(&signature[place * 2..place * 2 + 2], 16).unwrap())
        .collect();
    ring::hmac::verify(&key, &signed, &octets).unwrap();
    assert!(alerts.finish(PATIENCE));
    assert!(elsewhere.inbox.all().is_empty(), "a redirect was followed");
}

#[test]
fn mail_is_sent_again_after_a_passing_refusal() {
    let server = SmtpServer::start(vec!["451 try later"]);
    let setup = Setup::new(&[]);
    let mut alerts = setup.start(&format!(
        "[alerts.mail]\ntype = \"email\"\nserver = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
         from = \"tidegate <tidegate@example.net>\"\nto = [\"noc@example.net\", \"b@example.net\"]\n\
         title = \"{{{{ target }}}} in {{{{ incident.group }}}}\"\n",
        server.address.port()
    ));
    let mut hostile = change(ChangeKind::Opened, 7);
    Arc::make_mut(&mut hostile.incident).group = "x\r\nBcc: victim@example.com".to_owned();
    alerts.handle(&hostile);
    let mails = server.inbox.wait("the mail", |mails| mails.len() == 1);
    assert_eq!(server.refused.all().len(), 1);
    let mail = &mails[0];
    assert!(mail.from.contains("<tidegate@example.net>"), "{}", mail.from);
    assert_eq!(mail.to.len(), 2, "{:?}", mail.to);
    let head = mail.data.split("\r\n\r\n").next().unwrap();
    assert!(
        head.contains("Subject: 203.0.113.7 in x\\u{d}\\u{a}Bcc: victim@example.com"),
        "{head}"
    );
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(head.contains("Message-ID: <20260822T120000.000Z-7.opened."), "{head}");
    assert!(mail.data.contains("text/html") && mail.data.contains("text/plain"));
}

#[test]
fn syslog_arrives_over_udp_and_tcp() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&[]);
    let mut alerts = setup.start(&format!(
        "[alerts.udp]\ntype = \"syslog\"\naddress = \"udp:{}\"\nfacility = \"local0\"\n\
         [alerts.tcp]\ntype = \"syslog\"\naddress = \"tcp:{}\"\n",
        udp.local_addr().unwrap(),
        tcp.local_addr().unwrap(),
    ));
    alerts.handle(&change(ChangeKind::Opened, 7));
    let mut datagram = [0; 4_096];
    let length = udp.recv(&mut datagram).unwrap();
    let text = std::str::from_utf8(&datagram[..length]).unwrap();
    assert!(text.starts_with("<131>1 2026-08-22T12:00:00.058000Z "), "{text}");
    assert!(text.contains(" tidegate ") && text.contains(" opened [tidegate@32473 "), "{text}");
    assert!(text.contains(" target=\"203.0.113.7/32\" "), "{text}");
    let mut stream = String::new();
    tcp.accept().unwrap().0.read_to_string(&mut stream).unwrap();
    let (octets, message) = stream.split_once(' ').unwrap();
    assert_eq!(octets.parse::<usize>().unwrap(), message.len());
    assert!(message.starts_with("<27>1 "), "{message}");
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn programs_are_told_both_ways_and_do_not_outlive_their_time() {
    let setup = Setup::new(&[]);
    let folder = setup.folder.path();
    let out = |name: &str| folder.join(name).display().to_string();
    let json = script(folder, "json", &format!("cat > {}.part; mv {0}.part {0}", out("json.out")));
    let ban = script(
        folder,
        "ban",
        &format!(
            "(echo \"$@\"; [ $4 = ban ] && cat; env) > {0}.$4.part; mv {0}.$4.part {0}.$4",
            out("out")
        ),
    );
    let hang = script(folder, "hang", &format!("sleep 600 & echo $! > {}; wait", out("child")));
    let mut alerts = setup.start(&format!(
        "[alerts.json]\ntype = \"exec\"\ncommand = [\"{json}\"]\nevents = [\"opened\"]\n\
         [alerts.ban]\ntype = \"exec\"\ncommand = [\"{ban}\"]\nconvention = \"fastnetmon\"\n\
         [alerts.hang]\ntype = \"exec\"\ncommand = [\"{hang}\"]\ntimeout = \"2s\"\n\
         events = [\"opened\"]\n"
    ));
    alerts.handle(&change(ChangeKind::Opened, 7));
    alerts.handle(&change(ChangeKind::Ended, 7));
    wait("the record", || Path::new(&out("json.out")).exists());
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(out("json.out")).unwrap()).unwrap();
    assert_eq!(document["incident"]["target"], "203.0.113.7/32");
    assert_eq!(document["event"], "opened");
    for (action, details) in [("ban", true), ("unban", false)] {
        let path = out(&format!("out.{action}"));
        wait(action, || Path::new(&path).exists());
        let text = std::fs::read_to_string(path).unwrap();
        let first = format!("203.0.113.7 incoming 420000 {action}\n");
        assert!(text.starts_with(&first), "{text}");
        assert_eq!(text.contains("Attack UUID: 20260822T120000.000Z-7"), details, "{text}");
        assert!(!text.contains("CARGO"), "the environment is not passed on: {text}");
    }
    wait("the child's number", || {
        std::fs::read_to_string(out("child")).is_ok_and(|text| text.ends_with('\n'))
    });
    let child = std::fs::read_to_string(out("child")).unwrap();
    // Gone, or a zombie that nobody has waited for.
    wait("the child of the hanging script", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn what_was_not_sent_is_sent_after_a_restart_and_the_end_is_told() {
    let up = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&up);
    let server = HttpServer::start(move |_, _| {
        if switch.load(Ordering::SeqCst) { Reply::ok(r#"{"id":"4242"}"#) } else { Reply::Break }
    });
    let setup = Setup::new(&[("hook", &server.url("/hook"))]);
    let text = "[alerts.chat]\ntype = \"discord\"\nwebhook-url-file = \"hook\"\n";
    let settings = setup.settings(text);
    let start = |opened: &Opened| {
        let leftovers = Leftovers {
            jobs: opened.jobs.clone(),
            messages: opened.messages.clone(),
            unfinished: opened.unfinished.iter().map(|known| known.id.clone()).collect(),
        };
        let store = Some(opened.store.clone());
        Alerts::start(&settings.alerts, None, store, leftovers, now()).unwrap()
    };
    let opened = setup.store();
    let mut alerts = start(&opened);
    opened.store.put_incident(Arc::new(sampled(7)));
    alerts.handle(&change(ChangeKind::Opened, 7));
    server.inbox.wait("an attempt", |requests| !requests.is_empty());
    assert!(alerts.finish(PATIENCE));
    assert!(opened.store.settle(PATIENCE));
    drop(opened);
    up.store(true, Ordering::SeqCst);
    let failed = server.inbox.all().len();

    let opened = setup.store();
    assert_eq!((opened.jobs.len(), opened.unfinished.len()), (1, 1));
    let alerts = start(&opened);
    let requests = server.inbox.wait("the message", |requests| requests.len() > failed);
    assert!(requests[failed].json()["embeds"][0]["title"].as_str().unwrap().contains("203"));
    assert!(alerts.finish(PATIENCE));
    assert!(opened.store.settle(PATIENCE));
    drop(opened);

    let opened = setup.store();
    assert_eq!((opened.jobs.len(), opened.messages.len()), (0, 1));
    let mut alerts = start(&opened);
    alerts.handle(&change(ChangeKind::Ended, 7));
    let requests = server
        .inbox
        .wait("the end", |requests| requests.iter().any(|request| request.method == "PATCH"));
    assert!(requests.last().unwrap().path.contains("/messages/4242"));
}

#[test]
fn a_test_alert_says_that_it_is_one() {
    let server = HttpServer::start(|_, _| Reply::Answer(202, "", String::new()));
    let refusing = HttpServer::start(|_, _| Reply::Answer(403, "", "invalid key".to_owned()));
    let setup = Setup::new(&[("key", "hush")]);
    let settings = setup.settings(&format!(
        "[alerts.good]\ntype = \"pagerduty\"\nrouting-key-file = \"key\"\nurl = \"{}\"\n\
         [alerts.bad]\ntype = \"jsm\"\napi-key-file = \"key\"\nurl = \"{}\"\n",
        server.url("/"),
        refusing.url("/v2/alerts"),
    ));
    let by_name =
        |name: &str| settings.alerts.channels.iter().find(|channel| channel.name == name).unwrap();
    let said = test(by_name("good"), None, now()).unwrap();
    assert_eq!(said, "`good` (pagerduty) took: opened, ended");
    let requests = server.inbox.all();
    let summary = requests[0].json()["payload"]["summary"].as_str().unwrap().to_owned();
    assert!(summary.starts_with("TEST, no attack: "), "{summary}");
    assert_eq!(requests[1].json()["event_action"], "resolve");
    let error = test(by_name("bad"), None, now()).unwrap_err();
    assert_eq!(error, "`bad` did not take `opened`: status 403: invalid key");
}

#[test]
fn the_console_is_asked_whether_it_takes_the_filters() {
    let server = HttpServer::start(|request, _| {
        assert_eq!(request.path, "/akvorado/api/v0/console/filter/validate");
        let filter = request.json()["filter"].as_str().unwrap().to_owned();
        if filter.contains("ForwardingStatus") {
            Reply::ok(r#"{"message":"at line 1, position 1: column not available"}"#)
        } else {
            Reply::ok(r#"{"message":"ok","parsed":"x"}"#)
        }
    });
    let console = |server: &HttpServer, path| {
        akvorado::Console::new(&server.url(path), akvorado::LinkFormat::V1).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let filters = akvorado::sample_filters();
    let validate = |console| runtime.block_on(akvorado::validate(&console, &filters));
    let validations = validate(console(&server, "/akvorado")).unwrap();
    assert_eq!(validations.len(), filters.len());
    let refused: Vec<_> = validations.iter().filter(|known| known.refused.is_some()).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].refused.as_ref().unwrap().contains("column not available"));

    let login = HttpServer::start(|_, _| Reply::Answer(302, "location: /login\r\n", String::new()));
    let error = validate(console(&login, "/")).unwrap_err();
    assert!(error.to_string().contains("wants a login"), "{error}");
}

fn attack(number: u64) -> Attack {
    Attack {
        id: AttackId(number),
        target: Prefix::host([203, 0, 113, 7].into()),
        group: "web".to_owned(),
        onset: Timestamp::ZERO,
        detected: Timestamp::ZERO + Duration::from_millis(56),
        trigger: Trigger {
            metric: Metric::Udp,
            rate: Rate::default(),
            limit: Limit { packets: Some(PacketsPerSecond(10_000)), bits: None },
        },
        vectors: Vec::new(),
        current: Rate::default(),
        peak: Rate::default(),
        excess: 10.0,
        packets: 5_600,
        bytes: 5_600_000,
        sources: 321,
    }
}

fn event(kind: EventKind) -> Event {
    Event { time: Timestamp::ZERO + Duration::from_millis(60), policy: None, kind }
}

#[test]
fn from_the_engines_events_to_record_and_page() {
    let server = HttpServer::start(|_, _| Reply::Answer(202, "", String::new()));
    let setup = Setup::new(&[("key", "R0UTING")]);
    let settings = setup.settings(&format!(
        "[incidents]\ndatabase = \"incidents.db\"\n[alerts.pager]\ntype = \"pagerduty\"\n\
         routing-key-file = \"key\"\nmin-severity = \"high\"\nurl = \"{}\"\n",
        server.url("/")
    ));
    let wall = WallOrigin::EPOCH;
    let records = incident::start(&settings, None, wall, now()).unwrap().unwrap();
    let recorder = records.recorder.handle();
    for (number, severity) in [(1, Severity::Low), (2, Severity::Critical)] {
        recorder.event(&event(EventKind::Attack(AttackEvent::Started(attack(number)))));
        recorder.event(&event(EventKind::Decision(Decision {
            attack: AttackId(number),
            target: attack(number).target,
            severity,
            response: Some("watch".to_owned()),
            kind: DecisionKind::Observe,
            reason: "because".to_owned(),
        })));
    }
    let over = EndReason::Quiet(Duration::from_secs(10));
    recorder.event(&event(EventKind::Attack(AttackEvent::Ended(attack(2), over))));
    let later = Timestamp::ZERO + Duration::from_secs(9);
    assert!(records.recorder.finish(later, PATIENCE));

    let actions: Vec<Value> =
        server.inbox.all().iter().map(|request| request.json()["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    let reader = Reader::open(&setup.folder.path().join("incidents.db")).unwrap();
    let kept = reader.incidents(&Listing { limit: 10, ..Listing::default() }).unwrap();
    let ends: Vec<_> =
        kept.iter().map(|kept| (kept.id.as_str(), kept.end_reason.as_deref())).collect();
    assert_eq!(
        ends,
        [
            ("19700101T000000.000Z-2", Some("below the exit threshold for 10.0 s")),
            ("19700101T000000.000Z-1", Some("tidegate was stopped while the attack went on")),
        ]
    );
}

#[test]
fn a_store_that_cannot_be_opened_is_done_without() {
    let server = HttpServer::start(|_, _| Reply::Answer(202, "", String::new()));
    let setup = Setup::new(&[("hook", &server.url("/"))]);
    let settings = setup.settings(
        "[incidents]\ndatabase = \"none/incidents.db\"\n[alerts.hook]\ntype = \"webhook\"\n\
         webhook-url-file = \"hook\"\n",
    );
    let records = incident::start(&settings, None, WallOrigin::EPOCH, now()).unwrap().unwrap();
    assert!(records.journal.is_none());
    let recorder = records.recorder.handle();
    recorder.event(&event(EventKind::Attack(AttackEvent::Started(attack(1)))));
    assert!(records.recorder.finish(Timestamp::MAX, PATIENCE));
    assert!(!server.inbox.all().is_empty());
    assert!(
        incident::start(&Settings::default(), None, WallOrigin::EPOCH, now()).unwrap().is_none()
    );
}
