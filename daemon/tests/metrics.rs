//! What a running daemon exports is what the page, the alert rules and the dashboard name.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate::api::client::connect;
use tidegate::api::v1;

const DEADLINE: Duration = Duration::from_secs(30);

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]

[[responses]]
name = "blackhole"
action = "rtbh"

[[peers]]
name = "nobody"
address = "127.0.0.77"
as = 65001
port = 1790
"#;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Has an attack reported.
fn report(socket: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = connect(Some(socket)).await.unwrap();
        let mut client = v1::reports_client::ReportsClient::new(channel);
        let report = v1::ReportAttackRequest {
            id: "a".to_owned(),
            target: "203.0.113.7".to_owned(),
            vector: "syn-flood".to_owned(),
            confidence: 0.9,
            rate: Some(v1::Rate { packets: 900_000, bits: 600_000_000 }),
            ..v1::ReportAttackRequest::default()
        };
        let answers = client.report_attack(tokio_stream::iter([report])).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        assert_eq!(answer.result().as_str_name(), "RESULT_STARTED", "{}", answer.why);
    });
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every word that begins with `tidegate_`.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    words.filter(|word| word.starts_with("tidegate_")).map(str::to_owned).collect()
}

/// The samples that an exposition may have, by the types that it declares.
fn declared(exposition: &str) -> BTreeSet<(String, String)> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| {
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            (name, kind.to_owned())
        })
        .collect()
}

#[test]
fn page_rules_and_dashboard_name_what_is_exported() {
    if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        eprintln!("skipped page_rules_and_dashboard_name_what_is_exported: capturing needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policy")).unwrap();
    fs::write(folder.path().join("policy/policy.toml"), POLICY).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = format!(
        "policy = \"policy\"\n[capture]\ninterface = \"lo\"\nbuffer-bytes = 1_048_576\n\
         [api]\nsocket = \"api.sock\"\n[metrics]\nlisten = \"{free}\"\n"
    );
    fs::write(folder.path().join("tidegate.toml"), config).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c", "tidegate.toml"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(child);
    let tidegate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).current_dir(folder.path()).env("TIDEGATE_SOCKET", "api.sock");
        command.output().unwrap().status.success()
    };
    let begin = Instant::now();
    while !tidegate(&["status"]) {
        assert!(daemon.0.try_wait().unwrap().is_none() && begin.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    // Something of everything, so that every family has a member.
    assert!(tidegate(&["announce", "203.0.113.9", "--for", "60s"]));
    assert!(tidegate(&["policy", "apply"]));
    report(&folder.path().join("api.sock"));

    let exposition = get(&free, "/metrics").unwrap();
    assert!(exposition.starts_with("HTTP/1.1 200"), "{exposition}");
    assert!(exposition.contains("application/openmetrics-text"));
    assert!(exposition.ends_with("# EOF\n"), "{exposition}");
    assert_eq!(exposition.matches("# EOF").count(), 1);
    assert!(exposition.contains("tidegate_engine_responsive 1"));
    assert!(exposition.contains("tidegate_peer_established{peer=\"nobody\"} 0"));
    assert!(get(&free, "/").unwrap().starts_with("HTTP/1.1 404"));

    let exported = declared(&exposition);
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<(String, String)> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            (name.to_owned(), rest.split(' ').next().unwrap().to_owned())
        })
        .collect();
    assert_eq!(documented, exported, "docs/metrics.md and what is exported differ");

    let mut samples = BTreeSet::new();
    for (name, kind) in &exported {
        let parts = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        samples.extend(parts.iter().map(|part| format!("{name}{part}")));
    }
    for file in ["contrib/prometheus/tidegate.rules.yml", "contrib/grafana/tidegate.json"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let unknown: Vec<_> = names(&text).difference(&samples).cloned().collect();
        assert!(unknown.is_empty(), "{file} names what is not exported: {unknown:?}");
        assert!(names(&text).len() > 5, "{file} names almost nothing");
    }
    let dashboard = fs::read(root().join("contrib/grafana/tidegate.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| !panels.is_empty()));
}
