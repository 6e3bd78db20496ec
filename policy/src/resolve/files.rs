//! Reading the files of a policy directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::report::{Diagnostic, Report};
use crate::text::{Collector, Document, Source, Value};

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

/// Reads every `*.toml` that is neither hidden nor a directory, sorted by name, and after each what
/// it includes. The report has the mistakes in includes.
pub(super) fn read(directory: &Path) -> Result<(Vec<PolicyFile>, Report), Report> {
    let paths = list(directory).map_err(Report::of)?;
    let mut reader = Reader {
        root: directory.to_owned(),
        known: paths.iter().cloned().collect(),
        files: Vec::new(),
        total: 0,
        broken: Report::default(),
        includes: Collector::new(),
    };
    for path in paths {
        if !reader.read(&path) {
            break;
        }
    }
    if reader.broken.is_empty() {
        let report = reader.includes.finish(Some(())).err().unwrap_or_default();
        return Ok((reader.files, report));
    }
    reader.broken.sort();
    Err(reader.broken)
}

struct Reader {
    root: PathBuf,
    /// Everything that is read or going to be.
    known: BTreeSet<PathBuf>,
    files: Vec<PolicyFile>,
    total: u64,
    broken: Report,
    includes: Collector,
}

impl Reader {
    /// Reads a file and what it includes; `false` if there is too much.
    fn read(&mut self, path: &Path) -> bool {
        let bytes = match read_file(path) {
            Ok(bytes) => bytes,
            Err(diagnostic) => {
                self.broken.push(diagnostic);
                return true;
            }
        };
        self.total += bytes.len() as u64;
        let file = PolicyFile { name: path.display().to_string(), bytes };
        let included = self.included(path, &file);
        self.files.push(file);
        if self.total > MAX_TOTAL_BYTES || self.known.len() > MAX_FILES {
            let message = format!(
                "the policy has more than {MAX_TOTAL_BYTES} bytes or {MAX_FILES} files in all"
            );
            let help = "remove what is no policy, or write fewer and wider prefixes";
            let shown = self.root.display().to_string();
            self.broken.push(Diagnostic::about(shown, message, help));
            return false;
        }
        included.iter().all(|path| self.read(path))
    }

    /// The files that `include` of a file names. What is wrong with the file itself is reported
    /// when it is read as a policy.
    fn included(&mut self, path: &Path, file: &PolicyFile) -> Vec<PathBuf> {
        let Ok(source) = Source::from_bytes(&file.name, &file.bytes) else { return Vec::new() };
        let source = Arc::new(source);
        let ignored = Collector::new();
        let mut found = Vec::new();
        let Some(document) = Document::parse(&source, &ignored) else { return found };
        let root = document.root(&ignored);
        let items = root.optional("include", "[\"customers\"]");
        let items = items.and_then(|value| value.list("\"customers\"")).unwrap_or_default();
        let base = path.parent().unwrap_or(&self.root).to_owned();
        for item in items {
            match item.string().map(|text| self.resolve(&base, text)) {
                Some(Ok(paths)) => found.extend(paths),
                Some(Err((message, help))) => self.report(&item, message, help),
                None => {}
            }
        }
        found
    }

    fn report(&self, item: &Value<'_>, message: String, help: &str) {
        self.includes.push_at(item.source(), item.span(), message, help);
    }

    /// The files that `text` means, seen from the directory `base`.
    fn resolve(&mut self, base: &Path, text: &str) -> Result<Vec<PathBuf>, (String, &'static str)> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let inside = !text.is_empty() && Path::new(text).components().all(plain);
        let path = base.join(text);
        let real = |path: &Path| fs::canonicalize(path).ok();
        let root = real(&self.root);
        let below = real(&path).zip(root).is_none_or(|(path, root)| path.starts_with(root));
        if !inside || !below {
            let message = format!("`{text}` leads out of the policy directory");
            return Err((message, "write a path below the file that includes it, without `..`"));
        }
        let paths = if path.is_dir() {
            list(&path).map_err(|diagnostic| {
                (diagnostic.to_string(), "correct it, or leave the directory out")
            })?
        } else if path.is_file() {
            vec![path]
        } else {
            let message = format!("there is no file or directory `{text}` beside this file");
            return Err((message, "correct the path, or remove it"));
        };
        for path in &paths {
            if !self.known.insert(path.clone()) {
                let message = format!("`{}` is part of the policy already", path.display());
                return Err((message, "remove it: files beside each other need no `include`"));
            }
        }
        Ok(paths)
    }
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
