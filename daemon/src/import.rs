//! Makes a configuration and a policy: for a host as it is, or of the configuration of another tool.
//!
//! What comes out only observes. Of each setting of another tool it is said what became of it.

pub mod fastnetmon;
pub mod host;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What became of the settings that were there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Carried over: the setting, and what it is now.
    pub carried: Vec<Remark>,
    /// Carried over, and not quite the same.
    pub changed: Vec<Remark>,
    /// Not carried over.
    pub left_out: Vec<Remark>,
    /// To be done by a person.
    pub to_do: Vec<String>,
}

/// What became of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// File and line.
    pub place: String,
    /// The setting as it stood there.
    pub setting: String,
    /// What became of it.
    pub text: String,
}

impl Account {
    /// Puts the remarks in the order of the files and their lines.
    fn sort(&mut self) {
        let line = |remark: &Remark| -> (String, usize) {
            let (file, line) = remark.place.rsplit_once(':').unwrap_or((&remark.place, "0"));
            (file.to_owned(), line.parse().unwrap_or(0))
        };
        for remarks in [&mut self.carried, &mut self.changed, &mut self.left_out] {
            remarks.sort_by_key(line);
        }
    }

    /// The same as a JSON value.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let remarks = |remarks: &[Remark]| -> Vec<Value> {
            let remark =
                |it: &Remark| json!({ "place": it.place, "setting": it.setting, "text": it.text });
            remarks.iter().map(remark).collect()
        };
        json!({
            "carried": remarks(&self.carried),
            "changed": remarks(&self.changed),
            "left_out": remarks(&self.left_out),
            "to_do": self.to_do,
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, remarks) in [
            ("Carried over:", &self.carried),
            ("Carried over, not quite the same:", &self.changed),
            ("Not carried over:", &self.left_out),
        ] {
            if remarks.is_empty() {
                continue;
            }
            writeln!(formatter, "{title}")?;
            for Remark { place, setting, text } in remarks {
                writeln!(formatter, "  {place}: {setting}\n      {text}")?;
            }
        }
        if !self.to_do.is_empty() {
            writeln!(formatter, "To do:")?;
            for text in &self.to_do {
                writeln!(formatter, "  - {text}")?;
            }
        }
        Ok(())
    }
}

/// Files that were made of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// `tidegate.toml`.
    pub config: String,
    /// `policy/policy.toml`.
    pub policy: String,
    /// What became of each setting.
    pub account: Account,
}

/// Writes a configuration and a policy into `directory`, which is made if it is not there. Nothing
/// that is there is written over.
///
/// # Errors
/// What the system says, with the file.
pub fn write_new(
    directory: &Path,
    config: &str,
    policy: &str,
) -> Result<[PathBuf; 2], (PathBuf, io::Error)> {
    let policies = directory.join("policy");
    fs::create_dir_all(&policies).map_err(|error| (policies.clone(), error))?;
    let files = [directory.join("tidegate.toml"), policies.join("policy.toml")];
    for path in &files {
        if path.exists() {
            return Err((path.clone(), io::ErrorKind::AlreadyExists.into()));
        }
    }
    for (path, text) in files.iter().zip([config, policy]) {
        fs::write(path, text).map_err(|error| (path.clone(), error))?;
    }
    Ok(files)
}

/// `text` as a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
