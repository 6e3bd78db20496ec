//! `[profiles.NAME]`.

use std::collections::BTreeMap;

use super::is_name;
use crate::profile::{DEFAULT, Profile, builtin, read};
use crate::text::{Table, Value, instead_of};

/// No policy has more profiles of its own than this.
const MAX_PROFILES: usize = 256;

/// `[profiles]` of all files, and those that come with the program.
#[derive(Default)]
pub(super) struct Profiles<'a> {
    drafts: Vec<Draft<'a>>,
    /// `None` if faulty.
    own: BTreeMap<&'a str, Option<Profile>>,
    /// Whether every name is known, so that another is known to be none.
    complete: bool,
}

struct Draft<'a> {
    name: &'a str,
    table: Table<'a>,
    value: Value<'a>,
    like: Option<Value<'a>>,
}

impl<'a> Profiles<'a> {
    pub(super) fn read(&mut self, value: &Value<'a>) {
        let Some(table) = value.table() else { return };
        for (name, value) in table.entries("{ like = \"frr\" }") {
            if self.drafts.len() == MAX_PROFILES {
                let message = format!("more than {MAX_PROFILES} profiles");
                value.error_at_key(message, "let peers share profiles");
                return;
            }
            if let Some(first) = self.drafts.iter().find(|draft| draft.name == name) {
                let message = format!("two profiles have the name `{name}`");
                let help = format!("rename one; the first is at {}", first.value.place());
                value.error_at_key(message, help);
                continue;
            }
            if builtin().contains_key(name) {
                let message = format!("the profile `{name}` comes with the program");
                let help = format!("choose another name, and write `like = \"{name}\"` in it");
                value.error_at_key(message, help);
                continue;
            }
            if !is_name(name) {
                let message = format!("`{name}` is not a name of a profile");
                value.error_at_key(message, "write 1 to 64 letters, digits, `-`, `_` or `.`");
                continue;
            }
            let Some(table) = value.table() else {
                self.own.insert(name, None);
                continue;
            };
            let like = table.optional("like", "\"frr\"");
            self.drafts.push(Draft { name, table, value, like });
        }
    }

    /// Reads every profile after the one that it is like. `complete`: all files were read.
    pub(super) fn resolve(&mut self, complete: bool) {
        self.complete = complete;
        let mut waiting: Vec<&Draft<'a>> = self.drafts.iter().collect();
        let mut own = std::mem::take(&mut self.own);
        loop {
            let before = waiting.len();
            waiting.retain(|draft| {
                let base = match draft.like.as_ref().map(|value| (value.string(), value)) {
                    None => builtin().get(DEFAULT).cloned(),
                    Some((None, _)) => None,
                    Some((Some(name), value)) => match (builtin().get(name), own.get(name)) {
                        (Some(profile), _) => Some(profile.clone()),
                        (None, Some(profile)) => profile.clone(),
                        (None, None) if waiting_for(&self.drafts, name) => return true,
                        (None, None) => {
                            self.unknown(value, name, complete);
                            None
                        }
                    },
                };
                // What follows from a faulty base is not reported.
                let profile =
                    base.and_then(|base| read::named_profile(draft.name, &draft.table, base));
                own.insert(draft.name, profile);
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        for draft in waiting {
            let value = draft.like.as_ref().unwrap_or(&draft.value);
            let message = format!("the profile `{}` is like itself in the end", draft.name);
            value.error(
                message,
                "let one of the circle be like a profile that comes with the program",
            );
            own.insert(draft.name, None);
        }
        self.own = own;
    }

    /// The profile that `value` names; `None` after reporting, or if it is faulty.
    pub(super) fn find(&self, value: &Value<'a>) -> Option<Profile> {
        let name = value.string()?;
        if let Some(profile) = builtin().get(name) {
            return Some(profile.clone());
        }
        if let Some(profile) = self.own.get(name) {
            return profile.clone();
        }
        self.unknown(value, name, self.complete);
        None
    }

    fn unknown(&self, value: &Value<'a>, name: &str, complete: bool) {
        if complete {
            let own = self.drafts.iter().map(|draft| draft.name);
            let known = builtin().keys().map(String::as_str).chain(own);
            value.error(format!("there is no profile `{name}`"), instead_of(name, known));
        }
    }
}

fn waiting_for(drafts: &[Draft<'_>], name: &str) -> bool {
    drafts.iter().any(|draft| draft.name == name)
}
