//! The `[policy-repository]` table.

use std::path::Path;

use ssh_key::{Algorithm, PublicKey};
use tidegate_policy::text::{Table, Value};

use super::Reload;
use crate::policy_repo::History;

/// The table `[policy-repository]`: which states of the policy are accepted, and when it is read.
#[derive(Default)]
pub(super) struct Repository {
    pub(super) signers: Option<Vec<PublicKey>>,
    pub(super) history: History,
    pub(super) reload: Reload,
}

impl Repository {
    pub(super) fn read(table: &Table<'_>, directory: &Path) -> Option<Self> {
        let signers = match table.optional("signers", "\"allowed_signers\"") {
            Some(value) => read_signers(&value, directory).map(Some),
            None => Some(None),
        };
        let history =
            table.optional("history", "\"forward\"").map_or(Some(History::Any), |value| {
                value.choice(
                    "a rule for the history",
                    &[("any", History::Any), ("forward", History::Forward)],
                )
            });
        let watch = table.optional("watch", "true").map_or(Some(false), |value| value.boolean());
        table.finish();
        let reload = if watch? { Reload::Watch } else { Reload::OnSignal };
        Some(Self { signers: signers?, history: history?, reload })
    }
}

/// The public keys in a file, one a line as OpenSSH writes them; in the lines of an
/// `allowed_signers` file the names before the key are passed over.
fn read_signers(value: &Value<'_>, directory: &Path) -> Option<Vec<PublicKey>> {
    const HELP: &str = "write public keys into that file, one a line, like `ssh-ed25519 AAAA...`";
    let path = directory.join(value.string()?);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            value.error(format!("cannot read {}: {error}", path.display()), HELP);
            return None;
        }
    };
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(key) = public_key(line) else {
            let place = format!("{}:{}", path.display(), index + 1);
            value.error(format!("{place} holds no public key of OpenSSH"), HELP);
            return None;
        };
        keys.push(key);
    }
    if keys.is_empty() {
        value.error(format!("{} holds no key", path.display()), HELP);
        return None;
    }
    Some(keys)
}

/// The key of a line, which begins at the name of its algorithm.
fn public_key(line: &str) -> Option<PublicKey> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_algorithm =
        |word: &&str| !matches!(Algorithm::new(word), Err(_) | Ok(Algorithm::Other(_)));
    let start = words.iter().position(is_algorithm)?;
    PublicKey::from_openssh(&words.get(start..start + 2)?.join(" ")).ok()
}
