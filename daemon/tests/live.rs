//! The running daemon, told to do things from outside.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

const POLICY: &str = r#"
[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]
"#;

/// Ends with the test, whatever happens.
struct Running(Child);

impl Running {
    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").arg(signal).arg(self.0.id().to_string()).status();
        assert!(killed.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn may_capture() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A folder with a policy and a configuration.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policy")).unwrap();
    fs::write(folder.path().join("policy/policy.toml"), POLICY).unwrap();
    let config = "policy = \"policy\"\n[capture]\ninterface = \"lo\"\nbuffer-bytes = 1_048_576\n";
    fs::write(folder.path().join("tidegate.toml"), config).unwrap();
    folder
}

/// Whoever reads standard output has stopped reading: the daemon still obeys.
#[test]
fn a_full_pipe_does_not_keep_it_from_stopping() {
    if !may_capture() {
        eprintln!("skipped a_full_pipe_does_not_keep_it_from_stopping: capturing needs root");
        return;
    }
    let folder = workplace();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // A pipe takes 64 KiB unless told otherwise, in pages.
    writer.write_all(&[b'\n'; 65_536]).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c", "tidegate.toml"])
        .env("RUST_LOG", "info")
        .current_dir(folder.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let begin = Instant::now();
    // Its signal handlers are in place before the capture thread is.
    let tasks = format!("/proc/{}/task", running.0.id());
    let started = || {
        let threads = fs::read_dir(&tasks).into_iter().flatten().flatten();
        threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
            .any(|name| name.trim() == "capture")
    };
    while !started() {
        assert!(begin.elapsed() < DEADLINE, "it does not start");
        std::thread::yield_now();
    }
    running.signal("-TERM");
    let status = loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < DEADLINE, "it does not stop while its output is not read");
        std::thread::yield_now();
    };
    let mut said = String::new();
    running.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
}

/// SIGHUP loads what checks, and leaves what is in force where it does not.
#[test]
fn the_policy_is_loaded_anew() {
    if !may_capture() {
        eprintln!("skipped the_policy_is_loaded_anew: capturing needs root");
        return;
    }
    let folder = workplace();
    let policy = folder.path().join("policy/policy.toml");
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Operator", "-c", "user.email=noc@example.net"]);
        git.args(arguments).current_dir(folder.path()).env("HOME", folder.path());
        let output = git.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let commit = || {
        git(&["add", "policy"]);
        git(&["commit", "--quiet", "--message", "Change"]);
        git(&["rev-parse", "--short=12", "HEAD"])
    };
    git(&["init", "--quiet"]);
    let first = commit();
    let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c", "tidegate.toml", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut event = |name: &str| {
        loop {
            let line = lines.next().expect("it goes on").unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
        }
    };
    assert_eq!(event("started")["policy"], first);

    fs::write(&policy, POLICY.replace("0/24", "0/25")).unwrap();
    running.signal("-HUP");
    assert_eq!(event("policy-loaded")["policy"], format!("{first}-dirty"));
    let second = commit();
    running.signal("-HUP");
    assert_eq!(event("policy-loaded")["policy"], second);
    running.signal("-HUP");
    event("policy-unchanged");

    fs::write(&policy, POLICY.replace("0/24", "0/33")).unwrap();
    running.signal("-HUP");
    let refused = event("policy-refused");
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains("policy.toml:7:"), "{why}");

    running.signal("-TERM");
    event("stopped");
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

/// A flood through loopback in a network of its own, by whoever writes to `/dev/udp`.
#[test]
fn an_incident_says_who_sent() {
    if !may_capture() {
        eprintln!("skipped an_incident_says_who_sent: capturing needs root");
        return;
    }
    let folder = workplace();
    let policy = format!(
        "{POLICY}[groups.default.thresholds]\nudp = {{ packets = 50 }}\n\
         [detection]\nexit-hold = \"1s\"\n"
    );
    fs::write(folder.path().join("policy/policy.toml"), policy).unwrap();
    let config = "policy = \"policy\"\n[capture]\ninterface = \"lo\"\nworkers = 2\n\
                  buffer-bytes = 2_097_152\n[incidents]\ndatabase = \"incidents.db\"\n";
    fs::write(folder.path().join("tidegate.toml"), config).unwrap();
    let script = "ip link set lo up && ip address add 203.0.113.9/32 dev lo && exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_tidegate")])
        .args(["run", "-c", "tidegate.toml", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut event = |name: &str| {
        loop {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if event["event"] == name {
                return;
            }
        }
    };
    event("started");
    let flood = "for n in $(seq 3000); do echo > /dev/udp/203.0.113.9/9; done 2> /dev/null; exit 0";
    let (process, network) = (running.0.id().to_string(), "--net");
    let sent = Command::new("nsenter")
        .args(["--target", &process, network, "bash", "-c", flood])
        .status()
        .unwrap();
    assert!(sent.success());
    event("attack-ended");
    let database = rusqlite::Connection::open(folder.path().join("incidents.db")).unwrap();
    let begin = Instant::now();
    let census = loop {
        let query = "SELECT document FROM incidents";
        let document: Option<String> = database.query_row(query, [], |row| row.get(0)).ok();
        let document: Value = serde_json::from_str(&document.unwrap_or("{}".to_owned())).unwrap();
        if document["census"]["packets"].as_u64() > Some(100) {
            break document["census"].clone();
        }
        assert!(begin.elapsed() < DEADLINE, "{document}");
        std::thread::yield_now();
    };
    assert_eq!((&census["sources"], &census["exact"]), (&1.into(), &true.into()), "{census}");
    assert_eq!(census["talkers"][0]["source"], "203.0.113.9");
    running.signal("-TERM");
    event("stopped");
}
