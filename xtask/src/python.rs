//! ExaBGP 5, which no stable distribution has yet: from the Python package index, into a virtual
//! environment below the target directory.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::tools::Tools;
use crate::{Failure, progress};

/// Name by which the laboratory finds it, beside the `exabgp` of the distribution.
pub(crate) const EXABGP_5: &str = "exabgp5";
/// As pip reads it: the release and the wheel that the index has of it.
const REQUIREMENT: &str = "exabgp==5.0.15 \
     --hash=sha256:94485beea9aa93702ac095ff1bd5a2ea1feb242f4aa4090f25d01f3ffacd1dd8\n";

/// Whether `python3 -m <module>` runs.
pub(crate) fn runs_module(tools: &Tools, module: &str) -> bool {
    let mut command = python(tools);
    command.args(["-m", module, "--help"]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Brings it, unless it is there.
pub(crate) fn install_exabgp_5(tools: &Tools) -> Result<(), Failure> {
    if tools.find_program(EXABGP_5).is_some() {
        return Ok(());
    }
    let environment = tools.root.join("exabgp-5");
    let requirements = environment.join("requirements.txt");
    let mut command = python(tools);
    // pip comes from outside: Debian keeps what puts it into an environment in a further package.
    command.args(["-m", "venv", "--clear", "--without-pip"]).arg(&environment);
    run("python3 -m venv", &mut command)?;
    fs::write(&requirements, REQUIREMENT)
        .map_err(|error| Failure::new(format!("{}: {error}", requirements.display())))?;
    let mut command = python(tools);
    command.args(["-m", "pip", "--python"]).arg(environment.join("bin/python3"));
    command.args(["--disable-pip-version-check", "--no-input", "install", "--no-deps"]);
    command.args(["--only-binary=:all:", "--require-hashes", "-r"]).arg(&requirements);
    run("pip install exabgp==5.0.15", &mut command)?;
    let programs = tools.root.join("usr/bin");
    let link = programs.join(EXABGP_5);
    fs::create_dir_all(&programs)
        .and_then(|()| match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => symlink(environment.join("bin/exabgp"), &link),
        })
        .map_err(|error| Failure::new(format!("{}: {error}", link.display())))
}

fn python(tools: &Tools) -> Command {
    tools.command(tools.find_program("python3").unwrap_or_else(|| "python3".into()))
}

fn run(label: &str, command: &mut Command) -> Result<(), Failure> {
    let finished = progress::run(label, command, |_| None)
        .map_err(|error| Failure::new(format!("cannot run {label}: {error}")))?;
    if finished.status.success() {
        return Ok(());
    }
    let last = finished.output.lines().rev().find(|line| !line.trim().is_empty());
    Err(Failure::new(format!("{label}: {}", last.unwrap_or("no word").trim())))
}
