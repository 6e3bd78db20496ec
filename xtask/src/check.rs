//! Formatting, lints and every test, in the order of what they cost.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::build::{cargo, may_make_namespaces};
use crate::tools::Tools;

/// Tests append a line for each that is skipped to the file of this name.
const SKIPPED_LIST: &str = "TIDEGATE_SKIPPED_LIST";

struct Step {
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
}

/// What runs a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Cargo,
    /// `tidegate-lab`, which the tests have built.
    Lab,
}

const FORMATTING: Step =
    Step { name: "formatting", program: Program::Cargo, arguments: &["fmt", "--all", "--check"] };
const LINTS: Step = Step {
    name: "lints",
    program: Program::Cargo,
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
const FUZZ: Step = Step {
    name: "fuzz targets",
    program: Program::Cargo,
    arguments: &["build", "--manifest-path", "fuzz/Cargo.toml"],
};
const TESTS: Step = Step {
    name: "tests",
    program: Program::Cargo,
    arguments: &["test", "--workspace", "--all-features", "--no-fail-fast"],
};
const NEXTEST: Step = Step {
    name: "tests",
    program: Program::Cargo,
    arguments: &["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"],
};
const DOC_TESTS: Step = Step {
    name: "doc tests",
    program: Program::Cargo,
    arguments: &["test", "--workspace", "--all-features", "--doc"],
};

/// The speaker with every daemon. Where `CI` is set, none may be absent.
const INTEROP: Step = Step { name: "interop", program: Program::Lab, arguments: &["interop"] };

impl Step {
    fn command_line(&self, tools: &Tools) -> String {
        let program = match self.program {
            Program::Cargo => "cargo".into(),
            Program::Lab => self.path(tools),
        };
        format!("{} {}", program.to_string_lossy(), self.arguments.join(" "))
    }

    fn path(&self, tools: &Tools) -> OsString {
        match self.program {
            Program::Cargo => cargo(),
            Program::Lab => tools.target.join("debug/tidegate-lab").into(),
        }
    }
}

/// Runs every step until one fails, then prints what was run and for how long.
pub(crate) fn run(tools: &Tools) -> Result<ExitCode, Failure> {
    let steps: &[Step] = if has_nextest(tools) {
        &[FORMATTING, LINTS, FUZZ, NEXTEST, DOC_TESTS, INTEROP]
    } else {
        &[FORMATTING, LINTS, FUZZ, TESTS, INTEROP]
    };
    let skipped = tools.target.join("skipped-tests.txt");
    // Lines of an earlier run; there may be none.
    let _ = fs::remove_file(&skipped);
    let mut times: Vec<(&Step, Duration)> = Vec::new();
    let mut failed = None;
    for step in steps {
        println!("==> {}: {}", step.name, step.command_line(tools));
        if step.program == Program::Lab && !may_make_namespaces() && !in_ci() {
            println!("skipped: this user may not make network namespaces");
            continue;
        }
        let started = Instant::now();
        let status = tools
            .command(step.path(tools))
            .args(step.arguments)
            .env(SKIPPED_LIST, &skipped)
            // The fuzz targets are no part of the workspace, but share what it has built.
            .env("CARGO_TARGET_DIR", &tools.target)
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
            println!("to repeat: {}{}", tools.environment_prefix(), step.command_line(tools));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Whether nothing may be skipped or done without.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
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
