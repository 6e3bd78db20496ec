//! Builds the fuzz targets with coverage counters, and runs them.
//!
//! The stable compiler can put the counters in, so nothing else is needed. Where a nightly one is
//! installed it also puts in AddressSanitizer.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::Failure;
use crate::build::cargo;
use crate::tools::Tools;

/// In the order in which they run.
pub(crate) const TARGETS: [&str; 5] = ["stream", "update", "gate", "packet", "capture"];

/// What libFuzzer asks of a compiler.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";
const ADDRESS_SANITIZER: &str = "-Zsanitizer=address";

/// An input that takes longer is reported, in seconds.
const SLOWEST: u32 = 10;
/// An input that makes the process take more memory is reported, in megabytes.
const MOST_MEMORY: u32 = 1024;

#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the inputs are a part of the repository, as this program is"
)]
#[path = "../../fuzz/src/inputs.rs"]
mod inputs;

/// Builds all targets and runs `target`, or each in turn, for so many seconds.
pub(crate) fn run(tools: &Tools, target: Option<&str>, seconds: u32) -> Result<ExitCode, Failure> {
    let programs = build(tools)?;
    let mut broken = Vec::new();
    for name in TARGETS.into_iter().filter(|name| target.is_none_or(|target| target == *name)) {
        let failed = |error: io::Error| Failure::new(format!("cannot fuzz {name}: {error}"));
        let corpus = corpus(tools, name).map_err(failed)?;
        // What breaks it stays, and is tried by an ordinary test from then on.
        let kept = tools.workspace.join("fuzz/regressions").join(name);
        fs::create_dir_all(&kept).map_err(failed)?;
        println!("==> {name}: {seconds} s, corpus in {}", corpus.display());
        let status = tools
            .command(programs.join(name))
            .arg(&corpus)
            .arg(&kept)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={SLOWEST}"))
            .arg(format!("-rss_limit_mb={MOST_MEMORY}"))
            .arg(format!("-artifact_prefix={}/", kept.display()))
            .arg("-print_final_stats=1")
            .status()
            .map_err(failed)?;
        if !status.success() {
            broken.push(name);
        }
        // Goes only if nothing broke.
        let _ = fs::remove_dir(&kept);
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("broken: {}; the inputs are in fuzz/regressions", broken.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The folder of the programs.
fn build(tools: &Tools) -> Result<PathBuf, Failure> {
    let triple = host()?;
    let nightly = has_nightly();
    let (mut command, folder) = if nightly {
        let mut command = tools.command("rustup");
        command.args(["run", "nightly", "cargo"]);
        (command, "fuzz/asan")
    } else {
        (tools.command(cargo()), "fuzz/stable")
    };
    let folder = tools.target.join(folder);
    let flags =
        if nightly { format!("{COVERAGE} {ADDRESS_SANITIZER}") } else { COVERAGE.to_owned() };
    // With a target the flags do not reach build scripts, which know no counters.
    command
        .args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        .args(["--target", &triple, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", &flags);
    let status =
        command.status().map_err(|error| Failure::new(format!("cannot build: {error}")))?;
    if !status.success() {
        return Err(Failure::new("the fuzz targets do not build"));
    }
    Ok(folder.join(triple).join("release"))
}

/// Writes the seeds to where the fuzzer keeps what it finds of interest.
fn corpus(tools: &Tools, target: &str) -> io::Result<PathBuf> {
    let folder = tools.target.join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder)?;
    for (index, (_, octets)) in inputs::of(target).into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:03}")), octets)?;
    }
    Ok(folder)
}

/// The triple that this machine's compiler builds for.
fn host() -> Result<String, Failure> {
    let failed = || Failure::new("`rustc -vV` names no host");
    let output = Command::new("rustc").arg("-vV").output().map_err(|_| failed())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).ok_or_else(failed)
}

fn has_nightly() -> bool {
    Command::new("rustup")
        .args(["run", "nightly", "cargo", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_is_named_and_has_seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        assert_eq!(files, TARGETS.map(str::to_owned).into());
        assert!(TARGETS.into_iter().all(|target| !inputs::of(target).is_empty()));
    }
}
