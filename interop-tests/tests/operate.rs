//! What people order, as BIRD sees it: the command line against the running daemon.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidegate::api::client::connect;
use tidegate::api::v1;
use tidegate_interop_tests::demo::stage::Stage;
use tidegate_interop_tests::lab::bird::BirdRoute;
use tidegate_interop_tests::lab::until;
use tonic::transport::Channel;

const POLICY: &str = r#"[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]

[groups.default.thresholds]
tcp-syn = { packets = "500" }

[detection]
exit-hold = "1s"

[[responses]]
name = "filter"
when = { confidence = 0.5, vectors = ["syn-flood"] }
action = "flowspec"
filter = "discard"
lifetime = { at-least = "1s", at-most = "600s" }

[[peers]]
name = "router"
address = "10.99.0.2"
as = 65001
"#;

const LIMIT: Duration = Duration::from_secs(20);
/// What a panic may take.
const AT_ONCE: Duration = Duration::from_secs(1);
const VICTIM: &str = "203.0.113.10";
const VICTIM_PREFIX: &str = "203.0.113.10/32";

/// A stage whose session is up, and the socket of its daemon.
fn stage(test: &str, policy: &str) -> Option<(common::Turn, Stage, PathBuf)> {
    let (turn, mut stage) = common::stage(test, policy)?;
    stage.bird.wait_established(LIMIT).unwrap();
    let socket = stage.daemon.socket().to_owned();
    Some((turn, stage, socket))
}

/// `tidegate` with these arguments; its answer in JSON.
fn order(socket: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(&common::programs().tidegate);
    command.args(arguments).args(["--json", "--socket"]).arg(socket);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn announce(socket: &Path, address: &str, time: &str) -> String {
    let answer = order(socket, &["announce", address, "--for", time, "--reason", "test"]);
    answer["attack"].as_str().unwrap().to_owned()
}

fn wait(stage: &mut Stage, what: &str, limit: Duration, that: impl Fn(&[BirdRoute]) -> bool) {
    stage.bird.wait_routes(what, limit, that).unwrap();
}

fn has(routes: &[BirdRoute], prefix: &str) -> bool {
    routes.iter().any(|route| route.is_toward(prefix))
}

/// Waits for an event with this value in this field.
fn wait_event(stage: &mut Stage, field: &str, value: &str) -> Value {
    until(value, LIMIT, || {
        let events = stage.daemon.events()?;
        Ok(events.into_iter().find(|event| event[field] == value))
    })
    .unwrap()
}

/// Runs `test` with a connection to the daemon.
fn with_channel<T>(socket: &Path, test: impl AsyncFnOnce(Channel) -> T) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { test(connect(Some(socket)).await.unwrap()).await })
}

#[test]
fn a_panic_empties_bird_and_stays_so_until_released() {
    let test = "a_panic_empties_bird_and_stays_so_until_released";
    let Some((_turn, mut stage, socket)) = stage(test, POLICY) else { return };
    for host in 20..40 {
        announce(&socket, &format!("203.0.113.{host}"), "600s");
    }
    wait(&mut stage, "twenty blackholes", LIMIT, |routes| routes.len() == 20);
    let answer = order(&socket, &["panic", "--yes", "--reason", "customers complain"]);
    assert_eq!((&answer["withdrawing"], &answer["unconfirmed"]), (&20.into(), &0.into()));
    wait(&mut stage, "no route", AT_ONCE, <[BirdRoute]>::is_empty);

    // An attack is recognised and decided about, and still nothing is announced.
    let stream = format!("syn-flood,target={VICTIM},rate=5k,for=60s");
    let _flood = stage.send("flood", &stream).unwrap();
    wait_event(&mut stage, "response", "filter");
    let listed = order(&socket, &["mitigations"]);
    assert_eq!(listed["mitigations"].as_array().unwrap().len(), 0, "{listed}");
    assert!(stage.bird.routes().unwrap().is_empty());

    order(&socket, &["panic", "--release", "--yes"]);
    wait(&mut stage, "everything again", LIMIT, |routes| {
        routes.len() == 21 && has(routes, VICTIM_PREFIX)
    });
    let audit = order(&socket, &["audit"]);
    let matching = &audit["backends"][0]["matching"];
    assert_eq!((&audit["clean"], matching), (&true.into(), &21.into()), "{audit}");
}

#[test]
fn a_withdrawal_takes_one_and_a_time_ends_another() {
    let test = "a_withdrawal_takes_one_and_a_time_ends_another";
    let Some((_turn, mut stage, socket)) = stage(test, POLICY) else { return };
    let first = announce(&socket, "203.0.113.20", "600s");
    announce(&socket, "203.0.113.21", "600s");
    wait(&mut stage, "both", LIMIT, |routes| routes.len() == 2);
    let routes = stage.bird.routes().unwrap();
    assert!(routes.iter().all(BirdRoute::is_blackhole), "{routes:?}");
    order(&socket, &["withdraw", &first, "--yes"]);
    wait(&mut stage, "the other alone", AT_ONCE, |routes| {
        routes.len() == 1 && has(routes, "203.0.113.21/32")
    });
    announce(&socket, "203.0.113.22", "1s");
    wait(&mut stage, "the short one", LIMIT, |routes| has(routes, "203.0.113.22/32"));
    wait(&mut stage, "its end", LIMIT, |routes| {
        routes.len() == 1 && has(routes, "203.0.113.21/32")
    });
    let peers = order(&socket, &["peers", "router"]);
    let peer = &peers["peers"][0];
    assert_eq!((&peer["state"], &peer["routes"]), (&"Established".into(), &1.into()));
}

#[test]
fn a_hold_keeps_what_is_there() {
    let test = "a_hold_keeps_what_is_there";
    let Some((_turn, mut stage, socket)) = stage(test, POLICY) else { return };
    let stream = format!("syn-flood,target={VICTIM},rate=5k,for=2s");
    let mut flood = stage.send("flood", &stream).unwrap();
    let started = wait_event(&mut stage, "event", "attack-started");
    let attack = started["attack"]["id"].as_str().unwrap();
    wait(&mut stage, "the rule", LIMIT, |routes| has(routes, VICTIM_PREFIX));
    order(&socket, &["hold", attack]);
    flood.wait_for_success(LIMIT).unwrap();
    wait_event(&mut stage, "event", "attack-ended");
    // What comes and goes meanwhile lasts longer than the rule's shortest lifetime.
    announce(&socket, "203.0.113.22", "2s");
    wait(&mut stage, "the short one", LIMIT, |routes| has(routes, "203.0.113.22/32"));
    wait(&mut stage, "its end", LIMIT, |routes| !has(routes, "203.0.113.22/32"));
    assert!(has(&stage.bird.routes().unwrap(), VICTIM_PREFIX), "it is held");
    order(&socket, &["resume", attack]);
    wait(&mut stage, "nothing", LIMIT, <[BirdRoute]>::is_empty);
}

#[test]
fn an_approval_lets_go_what_is_proposed() {
    let test = "an_approval_lets_go_what_is_proposed";
    let policy = format!("{POLICY}\n[approval]\nflowspec = \"propose\"\n");
    let Some((_turn, mut stage, socket)) = stage(test, &policy) else { return };
    let stream = format!("syn-flood,target={VICTIM},rate=5k,for=60s");
    let _flood = stage.send("flood", &stream).unwrap();
    let decision = wait_event(&mut stage, "outcome", "propose");
    let attack = decision["attack"].as_str().unwrap();
    let listed = order(&socket, &["mitigations", attack]);
    assert_eq!(listed["mitigations"][0]["state"], "MITIGATION_STATE_PROPOSED", "{listed}");
    assert!(stage.bird.routes().unwrap().is_empty());
    order(&socket, &["approve", attack]);
    wait(&mut stage, "the rule", LIMIT, |routes| has(routes, VICTIM_PREFIX));
}

#[test]
fn a_report_is_one_attack_and_its_lease_ends_it() {
    let test = "a_report_is_one_attack_and_its_lease_ends_it";
    let Some((_turn, mut stage, socket)) = stage(test, POLICY) else { return };
    let report = v1::ReportAttackRequest {
        id: "flow-17".to_owned(),
        target: VICTIM.to_owned(),
        vector: "syn-flood".to_owned(),
        confidence: 0.9,
        rate: Some(v1::Rate { packets: 900_000, bits: 600_000_000 }),
        signature: Some(v1::Signature { protocol: Some(6), ..v1::Signature::default() }),
        lease: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        ..v1::ReportAttackRequest::default()
    };
    with_channel(&socket, async |channel| {
        let mut client = v1::reports_client::ReportsClient::new(channel);
        let twice = tokio_stream::iter([report.clone(), report]);
        let mut answers = client.report_attack(twice).await.unwrap().into_inner();
        for result in ["RESULT_STARTED", "RESULT_RENEWED"] {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.result().as_str_name(), &*answer.attack), (result, "reported-0"));
        }
    });
    wait(&mut stage, "the rule", LIMIT, |routes| routes.len() == 1 && has(routes, VICTIM_PREFIX));
    wait(&mut stage, "the end of the lease", LIMIT, <[BirdRoute]>::is_empty);
    let incidents = order(&socket, &["incidents"]);
    let incidents = incidents["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["attack"], "reported-0");
}

#[test]
fn who_reads_nothing_delays_nothing() {
    let test = "who_reads_nothing_delays_nothing";
    let Some((_turn, mut stage, socket)) = stage(test, POLICY) else { return };
    with_channel(&socket, async |channel| {
        // Streams that are open and never read.
        let mut watching = Vec::new();
        for _ in 0..8 {
            let mut client = v1::mitigations_client::MitigationsClient::new(channel.clone());
            watching.push(client.watch_mitigations(v1::WatchMitigationsRequest {}).await.unwrap());
        }
        let mut client = v1::mitigations_client::MitigationsClient::new(channel);
        for round in 0..90 {
            let request = v1::AnnounceRequest {
                target: format!("203.0.113.{}", 20 + round % 10),
                action: Some(v1::announce_request::Action::Blackhole(v1::Blackhole {})),
                ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                ..v1::AnnounceRequest::default()
            };
            let attack = client.announce(request).await.unwrap().into_inner().attack;
            let request = v1::WithdrawRequest { attack, reason: "x".repeat(400) };
            client.withdraw(request).await.unwrap();
        }
        announce(&socket, VICTIM, "600s");
        wait(&mut stage, "the last one alone", AT_ONCE, |routes| {
            routes.len() == 1 && has(routes, VICTIM_PREFIX)
        });
        order(&socket, &["panic", "--yes"]);
        wait(&mut stage, "nothing", AT_ONCE, <[BirdRoute]>::is_empty);
        drop(watching);
    });
}
