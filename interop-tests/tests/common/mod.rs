//! What the tests with real processes share.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};
use tidegate_interop_tests::demo::stage::{Programs, Stage};
use tidegate_interop_tests::lab::bird::Connect;
use tidegate_interop_tests::lab::{Lab, require};

/// The daemon and the laboratory's program, built from the sources as they are now: cargo builds
/// the programs of other packages for nobody's tests.
pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let lab = PathBuf::from(env!("CARGO_BIN_EXE_tidegate-lab"));
        let directory = lab.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "tidegate", "--bin", "tidegate"]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the daemon does not build");
        Programs { tidegate: directory.join("tidegate"), lab }
    })
}

/// Held by one test at a time, of whatever test binary: a test that watches a live daemon has the
/// machine to itself.
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its lock")] File);

impl Turn {
    pub(crate) fn wait() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("laboratory.lock");
        let file =
            File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        flock(&file, FlockOperation::LockExclusive).unwrap();
        Self(file)
    }
}

/// A running stage with this policy, or a line that says what is missing for it.
pub(crate) fn stage(test: &str, policy: &str) -> Option<(Turn, Stage)> {
    stage_with(test, policy, "", Connect::Passive)
}

/// The same, with more in the daemon's configuration, and the router that says who connects.
pub(crate) fn stage_with(
    test: &str,
    policy: &str,
    config: &str,
    router_connects: Connect,
) -> Option<(Turn, Stage)> {
    require::or_skip(test, require::program("bird"))?;
    require::or_skip(test, Lab::new())?;
    let programs = programs();
    let turn = Turn::wait();
    let stage = Stage::start_with(programs, policy, config, router_connects);
    Some((turn, stage.unwrap_or_else(|error| panic!("{error}"))))
}

/// Processes whose command line names `text`, as `pid command line`.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}
