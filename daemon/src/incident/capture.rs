//! The hash of a capture file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::record::Capture;
use crate::json::hex;

/// Read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// Describes the finished capture file at `path`. Reads the whole file: not for a thread that has
/// something else to do.
///
/// # Errors
/// If it cannot be read.
pub fn capture_of(path: &Path) -> io::Result<Capture> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        context.update(chunk.get(..length).unwrap_or_default());
        bytes += length as u64;
    }
    Ok(Capture { path: path.to_path_buf(), sha256: hex(context.finish().as_ref()), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        std::fs::write(&path, "abc").unwrap();
        let capture = capture_of(&path).unwrap();
        assert_eq!(
            capture.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(capture.bytes, 3);
        assert!(capture_of(&folder.path().join("none")).is_err());
    }
}
