//! What a test needs of the machine: found, or said on one line to be missing.

use std::env;
use std::fmt::Display;
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
    let workspace = package.parent().unwrap_or(package);
    let path = workspace.join("../shared/data").join(folder);
    if path.is_dir() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
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
            let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!ci, "{test}: {error}");
            eprintln!("skipped: {test}: {error}");
            None
        }
    }
}
