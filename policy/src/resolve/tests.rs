//! Policy texts that are right, and tables of those that are wrong with what is said about them.
#![allow(clippy::indexing_slicing, reason = "a test may stop at a surprise")]

mod conduct;
mod mistakes;
mod profiles;
mod properties;
mod right;
mod tables;

use super::{PolicyFile, resolve};
use crate::policy::Policy;
use crate::report::Report;

/// The least that a policy must have.
const LEAST: &str = r#"
[speaker]
as = 65010
router-id = "10.0.0.1"
[owned]
prefixes = ["203.0.113.0/24", "2001:db8:1::/48"]
"#;

/// A peer with every family.
const PEER: &str = r#"
[[peers]]
name = "edge"
address = "10.0.0.2"
as = 65001
"#;

fn file(name: &str, text: impl Into<Vec<u8>>) -> PolicyFile {
    PolicyFile { name: name.to_owned(), bytes: text.into() }
}

/// Resolves one text beside [`LEAST`].
fn beside_least(text: &str) -> Result<Policy, Report> {
    resolve("policy", &[file("least.toml", LEAST), file("p.toml", text)])
}

/// What is said about `text` beside [`LEAST`].
fn mistakes_in(text: &str) -> String {
    beside_least(text).expect_err("the text is wrong").to_string()
}

/// What is said about several files.
fn said(files: &[(&str, &str)]) -> String {
    let files: Vec<_> = files.iter().map(|(name, text)| file(name, *text)).collect();
    resolve("policy", &files).expect_err("the policy is wrong").to_string()
}
