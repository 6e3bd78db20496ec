//! The API of a running daemon: what it answers, whom it lets in, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate::api::client::connect;
use tidegate::api::v1;
use tonic::Code;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(30);

/// One peer that nobody is, so that nothing is ever in place.
const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]

[[responses]]
name = "blackhole"
action = "rtbh"
lifetime = { at-least = "1s", at-most = "60s" }

[[peers]]
name = "nobody"
address = "127.0.0.77"
as = 65001
port = 1790
"#;

struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Daemon {
    /// A daemon on `lo`, or a line that says why there is none.
    fn start(test: &str, api: &str) -> Option<Self> {
        if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            eprintln!("skipped {test}: capturing needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Whoever else asks has to get at the socket.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        fs::create_dir(folder.path().join("policy")).unwrap();
        fs::write(folder.path().join("policy/policy.toml"), POLICY).unwrap();
        let config = format!(
            "policy = \"policy\"\n[capture]\ninterface = \"lo\"\nbuffer-bytes = 1_048_576\n\
             [api]\nsocket = \"api.sock\"\n{api}"
        );
        fs::write(folder.path().join("tidegate.toml"), config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "-c", "tidegate.toml", "--json"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut daemon = Self { child, folder };
        let begin = Instant::now();
        while !daemon.command(&["status"]).status.success() {
            assert!(daemon.child.try_wait().unwrap().is_none(), "it does not start");
            assert!(begin.elapsed() < DEADLINE, "it does not answer");
            std::thread::yield_now();
        }
        Some(daemon)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).env("TIDEGATE_SOCKET", self.socket()).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = self.command(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn with_channel<T>(daemon: &Daemon, test: impl AsyncFnOnce(Channel) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(connect(Some(&daemon.socket())).await.unwrap()).await })
}

fn report(id: &str, lease: i64) -> v1::ReportAttackRequest {
    v1::ReportAttackRequest {
        id: id.to_owned(),
        target: "203.0.113.7".to_owned(),
        vector: "syn-flood".to_owned(),
        confidence: 0.9,
        rate: Some(v1::Rate { packets: 900_000, bits: 600_000_000 }),
        lease: Some(prost_types::Duration { seconds: lease, nanos: 0 }),
        ..v1::ReportAttackRequest::default()
    }
}

#[test]
fn people_see_and_order() {
    let Some(daemon) = Daemon::start("people_see_and_order", "") else { return };
    let status = daemon.json(&["status"]);
    assert_eq!(status["interfaces"][0], "lo");
    assert_eq!(status["backends"][0]["name"], "peer nobody");
    assert_eq!(status["panic"], Value::Null);

    let order = daemon.json(&["announce", "203.0.113.9", "--for", "60s", "--reason", "test"]);
    assert_eq!(order["attack"], "manual-0");
    assert_eq!(order["mitigations"][0]["nlri"], "203.0.113.9/32");
    let listed = daemon.json(&["mitigations", "manual-0"]);
    assert_eq!(listed["mitigations"][0]["kind"], "MITIGATION_KIND_BLACKHOLE");
    daemon.json(&["withdraw", "manual-0", "--yes"]);

    let gone = daemon.command(&["withdraw", "attack-99"]);
    assert_eq!(gone.status.code(), Some(2), "{}", String::from_utf8_lossy(&gone.stderr));
    let beyond = daemon.command(&["announce", "198.51.100.1", "--for", "60s"]);
    assert_eq!(beyond.status.code(), Some(1));

    let panic = daemon.json(&["panic", "--yes", "--reason", "try"]);
    assert_eq!(panic["unconfirmed"], 0);
    let refused = daemon.command(&["announce", "203.0.113.9", "--for", "60s"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("panic --release"));
    assert_eq!(daemon.json(&["status"])["panic"]["reason"], "try");
    daemon.json(&["panic", "--release"]);
    assert_eq!(daemon.command(&["panic", "--release"]).status.code(), Some(1));

    for screen in [
        &["status"][..],
        &["incidents"],
        &["mitigations"],
        &["peers"],
        &["peers", "nobody", "--routes", "--received"],
        &["explain", "203.0.113.7", "--vector", "syn-flood", "--pps", "500000"],
        &["top"],
        &["policy", "apply"],
    ] {
        let output = daemon.command(screen);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{screen:?}: {said}");
        assert!(!output.stdout.is_empty() && !output.stdout.contains(&0x1b), "{screen:?}");
    }
}

#[test]
fn a_policy_is_applied_whole_or_not_at_all() {
    let test = "a_policy_is_applied_whole_or_not_at_all";
    let Some(daemon) = Daemon::start(test, "") else { return };
    let policy = daemon.folder.path().join("policy/policy.toml");
    fs::write(&policy, POLICY.replace("0/24", "0/33")).unwrap();
    let refused = daemon.command(&["policy", "apply"]);
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("policy.toml:7:"), "{said}");
    fs::write(&policy, POLICY.replace("0/24", "0/25")).unwrap();
    assert_eq!(daemon.json(&["policy", "apply"])["result"], "RESULT_APPLIED");
    assert_eq!(daemon.json(&["policy", "apply"])["result"], "RESULT_UNCHANGED");
    let explained = daemon.command(&["explain", "203.0.113.200"]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("no owned prefix"));
}

#[test]
fn who_has_no_role_sees_nothing_and_a_viewer_changes_nothing() {
    let test = "who_has_no_role_sees_nothing_and_a_viewer_changes_nothing";
    let Some(daemon) = Daemon::start(test, "viewers = [\"user:65533\"]\n") else { return };
    let socket = daemon.socket();
    let of = |uid: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", "65533", "--clear-groups"]);
        // The build's directory may be closed to them; the library is not.
        let program = daemon.folder.path().join("tidegate");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).unwrap();
        }
        command.arg(program).args(arguments).env("TIDEGATE_SOCKET", &socket).output().unwrap()
    };
    let seen = of("65533", &["status", "--json"]);
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let status: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(status["caller"], "uid 65533 (viewer)");
    for order in [
        &["withdraw", "manual-0"][..],
        &["hold", "attack-0"],
        &["approve", "attack-0"],
        &["announce", "203.0.113.9", "--for", "60s"],
        &["panic"],
        &["audit"],
        &["policy", "apply"],
    ] {
        let refused = of("65533", order);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(4), "{order:?}: {said}");
        assert!(said.contains("needs the role"), "{said}");
    }
    let stranger = of("65532", &["status"]);
    assert_eq!(stranger.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("has no role"));
}

#[test]
fn reports_are_one_attack_each() {
    let Some(daemon) = Daemon::start("reports_are_one_attack_each", "") else { return };
    with_channel(&daemon, async |channel| {
        let mut client = v1::reports_client::ReportsClient::new(channel);
        let elsewhere =
            v1::ReportAttackRequest { target: "198.51.100.1".to_owned(), ..report("b", 60) };
        let nonsense = v1::ReportAttackRequest { vector: "magic".to_owned(), ..report("c", 60) };
        let ended = v1::ReportAttackRequest { ended: true, ..report("a", 60) };
        let reports = vec![report("a", 60), report("a", 60), elsewhere, nonsense, ended];
        let answers = client.report_attack(tokio_stream::iter(reports)).await.unwrap();
        let mut answers = answers.into_inner();
        let mut seen = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            seen.push((answer.id.clone(), answer.result().as_str_name(), answer.attack));
        }
        let expected = [
            ("a", "RESULT_STARTED", "reported-0"),
            ("a", "RESULT_RENEWED", "reported-0"),
            ("b", "RESULT_REFUSED", ""),
            ("c", "RESULT_REFUSED", ""),
            ("a", "RESULT_ENDED", "reported-0"),
        ];
        let expected =
            expected.map(|(id, result, attack)| (id.to_owned(), result, attack.to_owned()));
        assert_eq!(seen, expected);
    });
    let incidents = daemon.json(&["incidents"]);
    assert_eq!(incidents["incidents"].as_array().unwrap().len(), 1, "{incidents}");
    let story = daemon.command(&["incident", "reported-0"]);
    assert!(String::from_utf8_lossy(&story.stdout).contains("syn-flood on 203.0.113.7"));
}

#[test]
fn too_large_a_message_is_refused_and_reflection_and_health_answer() {
    let test = "too_large_a_message_is_refused_and_reflection_and_health_answer";
    let Some(daemon) = Daemon::start(test, "") else { return };
    with_channel(&daemon, async |channel| {
        let mut client = v1::control_client::ControlClient::new(channel.clone());
        let reason = "x".repeat(1 << 20);
        let refused = client.panic(v1::PanicRequest { reason }).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        assert!(
            client.get_status(v1::GetStatusRequest {}).await.unwrap().get_ref().panic.is_none()
        );

        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        assert_eq!(health.check(request).await.unwrap().get_ref().status, 1);

        use tonic_reflection::pb::v1 as reflection;
        let mut describe =
            reflection::server_reflection_client::ServerReflectionClient::new(channel);
        let request = reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                reflection::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        };
        let answers = describe.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        assert!(format!("{answer:?}").contains("tidegate.v1.Reports"));
    });
}

#[test]
fn nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["status", "--socket"])
        .arg(folder.path().join("none.sock"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the daemon is not running") && said.contains("systemctl start"));
}
