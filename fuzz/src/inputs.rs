//! The inputs that are kept.

use std::fs;
use std::path::Path;

/// Name and octets of the seeds of `target`, a line of text each, then of the inputs that once
/// broke it, a file each.
pub(crate) fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let seeds = root.join("seeds").join(target).with_extension("txt");
    let text = fs::read_to_string(&seeds).unwrap_or_else(|error| panic!("{seeds:?}: {error}"));
    let mut inputs: Vec<(String, Vec<u8>)> = text.lines().map(seed).collect();
    // A target that never broke has none.
    let broke = fs::read_dir(root.join("regressions").join(target)).into_iter().flatten();
    let mut broke: Vec<_> = broke.map(|entry| entry.unwrap().path()).collect();
    broke.sort();
    inputs.extend(broke.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())));
    inputs
}

/// `name: octets in hexadecimal`
fn seed(line: &str) -> (String, Vec<u8>) {
    let (name, digits) = line.rsplit_once(": ").unwrap_or_else(|| panic!("no seed: {line}"));
    let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (name.to_owned(), (0..digits.len()).step_by(2).map(octet).collect())
}
