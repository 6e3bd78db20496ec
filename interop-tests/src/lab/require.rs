//! What a test needs of the machine: found, or said on one line to be missing.

use std::env;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::LabError;

/// The first file named `name` on the search path, or in the `sbin` folders that an ordinary user's
/// search path lacks.
///
/// # Errors
/// [`LabError::NoProgram`].
pub fn program(name: &str) -> Result<PathBuf, LabError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| LabError::NoProgram(name.to_owned()))
}

/// The folder of shared captures and vectors beside the workspace, or why it cannot be used.
///
/// # Errors
/// The path that does not exist.
pub fn shared_data(folder: &str) -> Result<PathBuf, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside_workspace = package.ancestors().nth(2).unwrap_or(package);
    let path = beside_workspace.join("shared/data").join(folder);
    if path.is_dir() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
}

/// Whether nothing may be skipped or absent: where `CI` is set.
#[must_use]
pub fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Why `cargo xtask` could not bring `program`, if it tried.
#[must_use]
pub fn why_absent(program: &str) -> Option<String> {
    let all = env::var("TIDEGATE_ABSENT").ok()?;
    all.lines().find_map(|line| Some(line.strip_prefix(program)?.strip_prefix(": ")?.to_owned()))
}

/// Names the file to which a runner of tests wants lines about skipped ones appended.
pub const SKIPPED_LIST: &str = "TIDEGATE_SKIPPED_LIST";

/// Past the test harness, which shows nothing of what a passing test prints, and to the runner's
/// list.
fn say_skipped(line: &str) {
    // A line that cannot be written cannot be told of either.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(list) = env::var_os(SKIPPED_LIST) {
        let list = OpenOptions::new().create(true).append(true).open(list);
        let _ = list.and_then(|mut list| list.write_all(line.as_bytes()));
    }
}

/// The value that `test` needs; without it `None` and one line that says what is skipped. Where
/// `CI` is set, nothing is skipped.
///
/// # Panics
/// Without the value where the environment variable `CI` is set: tests only.
pub fn or_skip<T, E: Display>(test: &str, needed: Result<T, E>) -> Option<T> {
    match needed {
        Ok(value) => Some(value),
        Err(error) => {
            let error = error.to_string().replace('\n', ";");
            assert!(!in_ci(), "{test}: {error}");
            say_skipped(&format!("skipped: {test}: {error}\n"));
            None
        }
    }
}
