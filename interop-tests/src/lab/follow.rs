//! Reading a file while another process appends to it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::LabError;

/// Yields the complete lines of a growing file.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: File,
    partial: Vec<u8>,
}

impl Follower {
    /// From the start of the file at `path`.
    ///
    /// # Errors
    /// [`LabError::File`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LabError> {
        let file = File::open(path).map_err(LabError::file(path))?;
        Ok(Self { path: path.to_owned(), file, partial: Vec::new() })
    }

    /// The lines that were completed since the last call, without their line ends.
    ///
    /// # Errors
    /// [`LabError::File`] if the file cannot be read.
    pub fn lines(&mut self) -> Result<Vec<String>, LabError> {
        self.file.read_to_end(&mut self.partial).map_err(LabError::file(&self.path))?;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let complete = std::mem::replace(&mut self.partial, rest);
        Ok(String::from_utf8_lossy(&complete).lines().map(ToOwned::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn yields_complete_lines_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut follower = Follower::open(file.path()).unwrap();
        assert!(follower.lines().unwrap().is_empty());
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(follower.lines().unwrap(), ["one"]);
        assert!(follower.lines().unwrap().is_empty());
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(follower.lines().unwrap(), ["two", "three"]);
    }
}
