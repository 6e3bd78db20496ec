//! The release build, and the hand-over to the laboratory.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use crate::tools::Tools;
use crate::{Failure, progress};

const BUILD: [&str; 6] = ["build", "--release", "-p", "tidegate", "-p", "tidegate-interop-tests"];

/// Builds and becomes `tidegate-lab <subcommand>`.
pub(crate) fn run_lab(
    tools: &Tools,
    subcommand: &str,
    arguments: &[String],
) -> Result<ExitCode, Failure> {
    build(tools)?;
    let program = tools.target.join("release/tidegate-lab");
    let sudo = if may_make_namespaces() { None } else { tools.find_program("sudo") };
    let mut command = match sudo {
        None => tools.command(&program),
        Some(sudo) => {
            eprintln!(
                "an ordinary user gets no network namespaces here; the laboratory runs through sudo"
            );
            let mut command = tools.command(sudo);
            // sudo does not pass the environment on.
            command.arg("env").args(tools.variables().into_iter().map(|(name, value)| {
                let mut assignment = OsString::from(name);
                assignment.push("=");
                assignment.push(value);
                assignment
            }));
            command.arg(&program);
            command
        }
    };
    // From here on signals and the exit code are the laboratory's own.
    let error = command.arg(subcommand).args(arguments).exec();
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Failure::new(format!("cannot run {program}: {error}")))
}

/// The cargo that runs this.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

fn build(tools: &Tools) -> Result<(), Failure> {
    let mut command = tools.command(cargo());
    command.args(BUILD).env("CARGO_TERM_COLOR", "never");
    let mut crates = 0_u32;
    let finished = progress::run("building (release)", &mut command, |line| {
        let name = line.trim_start().strip_prefix("Compiling ")?;
        crates += 1;
        Some(format!("crate {crates}: {name}"))
    })
    .map_err(|error| Failure::new(format!("cannot run cargo: {error}")))?;
    if finished.status.success() {
        return Ok(());
    }
    eprintln!("{}", finished.output);
    let prefix = tools.environment_prefix();
    Err(Failure::new(format!("the build failed; to repeat: {prefix}cargo {}", BUILD.join(" "))))
}

/// Whether this user can make network namespaces without help: root can, others through a user
/// namespace if kernel and distribution allow it. Without the probe's program nothing is known. The
/// laboratory itself reports what it is denied.
pub(crate) fn may_make_namespaces() -> bool {
    if fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0) {
        return true;
    }
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.map_or(true, |status| status.success())
}
