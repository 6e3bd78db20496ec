//! The `[forensics]` table.

use std::path::Path;
use std::time::Duration;

use tidegate_policy::text::{Table, Value};

use crate::forensics::Settings;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A relative directory is taken from `directory`, that of the configuration file.
pub(super) fn resolve(table: &Table<'_>, directory: &Path) -> Option<Settings> {
    let path = table.required("directory", "\"/var/lib/tidegate/forensics\"");
    let path = path.and_then(|value| Some(directory.join(value.string()?)));
    let settings = Settings::new(path.clone().unwrap_or_default());
    let mut clean = path.is_some();
    let mut read = |key, example, known: u64, range: std::ops::RangeInclusive<u64>| {
        let Some(value) = table.optional(key, example) else { return known };
        let number = value.integer(range);
        clean &= number.is_some();
        number.unwrap_or(known)
    };
    let ring_bytes = read("memory-bytes", "67108864", settings.ring_bytes, MIB..=16 << 30);
    let mut file = settings.file;
    file.bytes = read("file-bytes", "16777216", file.bytes, 65_536..=16 << 30);
    file.full = read("packets-in-full", "10000", file.full, 0..=u64::MAX);
    file.sampling = read("sampling", "100", file.sampling, 0..=u64::MAX);
    let max_files = read("max-files", "1000", settings.max_files, 1..=1_000_000);
    let max_bytes = read("max-bytes", "4294967296", settings.max_bytes, 65_536..=u64::MAX);
    let mut span = |key, example, known, range: std::ops::RangeInclusive<Duration>| {
        let Some(value) = table.optional(key, example) else { return known };
        let value: Option<Duration> = Value::duration(&value, range);
        clean &= value.is_some();
        value.unwrap_or(known)
    };
    let hour = Duration::from_secs(3600);
    let before = span("before", "\"30s\"", settings.before, Duration::from_secs(1)..=hour);
    let max_age = span("max-age", "\"30d\"", settings.max_age, hour..=DAY * 3650);
    table.finish();
    let settings = Settings { before, ring_bytes, file, max_files, max_bytes, max_age, ..settings };
    clean.then_some(settings)
}
