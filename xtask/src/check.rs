//! Formatting, lints and every test, in the order of what they cost.

use std::collections::BTreeSet;
use std::fs;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::build::cargo;
use crate::tools::Tools;

/// Tests append a line for each that is skipped to the file of this name.
const SKIPPED_LIST: &str = "TIDEGATE_SKIPPED_LIST";

struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
}

const FORMATTING: Step = Step { name: "formatting", arguments: &["fmt", "--all", "--check"] };
const LINTS: Step = Step {
    name: "lints",
    arguments: &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ],
};
const TESTS: Step =
    Step { name: "tests", arguments: &["test", "--workspace", "--all-features", "--no-fail-fast"] };
const NEXTEST: Step = Step {
    name: "tests",
    arguments: &["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"],
};
const DOC_TESTS: Step =
    Step { name: "doc tests", arguments: &["test", "--workspace", "--all-features", "--doc"] };

impl Step {
    fn command_line(&self) -> String {
        format!("cargo {}", self.arguments.join(" "))
    }
}

/// Runs every step until one fails, then prints what was run and for how long.
pub(crate) fn run(tools: &Tools) -> Result<ExitCode, Failure> {
    let steps: &[Step] = if has_nextest(tools) {
        &[FORMATTING, LINTS, NEXTEST, DOC_TESTS]
    } else {
        &[FORMATTING, LINTS, TESTS]
    };
    let skipped = tools.target.join("skipped-tests.txt");
    // Lines of an earlier run; there may be none.
    let _ = fs::remove_file(&skipped);
    let mut times: Vec<(&Step, Duration)> = Vec::new();
    let mut failed = None;
    for step in steps {
        println!("==> {}: {}", step.name, step.command_line());
        let started = Instant::now();
        let status = tools
            .command(cargo())
            .args(step.arguments)
            .env(SKIPPED_LIST, &skipped)
            .status()
            .map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
        times.push((step, started.elapsed()));
        if !status.success() {
            failed = Some(step);
            break;
        }
    }
    println!("==> summary");
    for (step, time) in &times {
        let word =
            if failed.is_some_and(|failed| std::ptr::eq(failed, *step)) { "FAILED" } else { "ok" };
        println!("{:<12} {word:<7} {:>7.1} s", step.name, time.as_secs_f64());
    }
    for step in steps.iter().skip(times.len()) {
        println!("{:<12} not run", step.name);
    }
    if let Ok(lines) = fs::read_to_string(&skipped) {
        let lines: BTreeSet<&str> = lines.lines().collect();
        lines.into_iter().for_each(|line| println!("{line}"));
    }
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(step) => {
            println!("to repeat: {}{}", tools.environment_prefix(), step.command_line());
            Ok(ExitCode::FAILURE)
        }
    }
}

fn has_nextest(tools: &Tools) -> bool {
    tools
        .command(cargo())
        .args(["nextest", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
