//! Old files make room for new ones.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Settings;

/// Files of ours begin and end like this. No others are touched.
pub(super) const PREFIX: &str = "tidegate-";
pub(super) const SUFFIX: &str = ".pcapng";

/// A file of ours.
struct Old {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

/// Removes files that are too old, too many or too large together, oldest first, but none of `open`.
/// What cannot be read or removed is tried again with the next file.
pub(super) fn rotate(settings: &Settings, open: &[PathBuf]) {
    let Ok(entries) = fs::read_dir(&settings.directory) else { return };
    let mut files: Vec<Old> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let name = name.to_str()?;
            let metadata = entry.metadata().ok()?;
            let ours = name.starts_with(PREFIX) && name.ends_with(SUFFIX) && metadata.is_file();
            let modified = metadata.modified().ok()?;
            ours.then(|| Old { path: entry.path(), bytes: metadata.len(), modified })
        })
        .filter(|old| !open.contains(&old.path))
        .collect();
    files.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
    let now = SystemTime::now();
    let mut count = (files.len() + open.len()) as u64;
    // Those that are open may grow to their limit.
    let mut bytes = files.iter().map(|old| old.bytes).sum::<u64>();
    bytes += settings.file.bytes.saturating_mul(open.len() as u64);
    for old in files {
        let age = now.duration_since(old.modified).unwrap_or_default();
        let too_much = count > settings.max_files || bytes > settings.max_bytes;
        if !too_much && age <= settings.max_age {
            return;
        }
        if fs::remove_file(&old.path).is_ok() {
            count -= 1;
            bytes -= old.bytes;
        }
    }
}
