//! How the daemon stops when nothing else goes well.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn may_capture() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whoever reads standard output has stopped reading: the daemon still obeys.
#[test]
fn a_full_pipe_does_not_keep_it_from_stopping() {
    if !may_capture() {
        eprintln!("skipped a_full_pipe_does_not_keep_it_from_stopping: capturing needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policy")).unwrap();
    fs::write(folder.path().join("policy/policy.toml"), POLICY).unwrap();
    let config = "policy = \"policy\"\n[capture]\ninterface = \"lo\"\nbuffer-bytes = 1_048_576\n";
    fs::write(folder.path().join("tidegate.toml"), config).unwrap();

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
    let killed = Command::new("kill").arg("-TERM").arg(running.0.id().to_string()).status();
    assert!(killed.unwrap().success());
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
