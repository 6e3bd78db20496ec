//! Reading the files of a policy directory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::report::{Diagnostic, Report};

/// No policy file is longer than this.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// All policy files together are no longer than this.
pub const MAX_TOTAL_BYTES: u64 = 8 << 20;

/// No more files than this make a policy.
pub const MAX_FILES: usize = 1_000;

/// A file of policy text.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// As the user would name it.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Reads every `*.toml` that is neither hidden nor a directory, sorted by name.
pub(super) fn read(directory: &Path) -> Result<Vec<PolicyFile>, Report> {
    let paths = list(directory).map_err(Report::of)?;
    let mut report = Report::default();
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        match read_file(&path) {
            Ok(bytes) => {
                total += bytes.len() as u64;
                files.push(PolicyFile { name: path.display().to_string(), bytes });
            }
            Err(diagnostic) => report.push(diagnostic),
        }
        if total > MAX_TOTAL_BYTES {
            let message =
                format!("the policy files are longer than {MAX_TOTAL_BYTES} bytes in all");
            let help = "remove what is no policy, or write fewer and wider prefixes";
            report.push(Diagnostic::about(directory.display().to_string(), message, help));
            break;
        }
    }
    if report.is_empty() {
        return Ok(files);
    }
    report.sort();
    Err(report)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let shown = directory.display().to_string();
    let failed = |error: &io::Error| {
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => (
                "there is no such directory".to_owned(),
                "correct the path, or create the directory and put a policy into it".to_owned(),
            ),
            io::ErrorKind::NotADirectory => (
                "this is a file, and a policy is a directory".to_owned(),
                "name the directory that holds the file".to_owned(),
            ),
            io::ErrorKind::PermissionDenied => (
                "the directory may not be read".to_owned(),
                format!("let the user that runs tidegate read it: `chmod a+rx {shown}`"),
            ),
            _ => (
                format!("the directory cannot be read: {error}"),
                "see to the file system".to_owned(),
            ),
        };
        Diagnostic::about(&shown, message, help)
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || path.extension().is_none_or(|extension| extension != "toml") || path.is_dir() {
            continue;
        }
        paths.push(path);
        if paths.len() > MAX_FILES {
            let message = format!("more than {MAX_FILES} files end in `.toml`");
            return Err(Diagnostic::about(&shown, message, "put the policy into fewer files"));
        }
    }
    if paths.is_empty() {
        let message = "no file in the directory ends in `.toml`";
        let help = "put the policy there: one file or several, such as `network.toml`, `responses.toml` and `peers.toml`";
        return Err(Diagnostic::about(&shown, message, help));
    }
    paths.sort();
    Ok(paths)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let shown = path.display().to_string();
    let failed = |error: io::Error| {
        let (message, help) = match error.kind() {
            io::ErrorKind::PermissionDenied => (
                "the file may not be read".to_owned(),
                format!("let the user that runs tidegate read it: `chmod a+r {shown}`"),
            ),
            io::ErrorKind::NotFound => (
                "the file is not there any more, or a link to nothing".to_owned(),
                "remove the link, or let it point to a file".to_owned(),
            ),
            _ => (format!("the file cannot be read: {error}"), "see to the file system".to_owned()),
        };
        Diagnostic::about(&shown, message, help)
    };
    // A named pipe would block the opening for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        let help = "remove it, or give it a name that does not end in `.toml`";
        return Err(Diagnostic::about(&shown, "this is no regular file", help));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("the file is longer than {MAX_FILE_BYTES} bytes");
        let help = "divide it into several, or write fewer and wider prefixes";
        return Err(Diagnostic::about(&shown, message, help));
    }
    Ok(bytes)
}
