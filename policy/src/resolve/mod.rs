//! Policy text to checked policy.
//!
//! Two passes: first every file is read for itself, value by value; then, if every file is
//! well-formed, the names and prefixes in them are held against each other. Both passes go on
//! after a mistake. A mistake in one place must not make others appear elsewhere: what cannot be
//! known because its definition is faulty is not reported as unknown.
#![deny(clippy::indexing_slicing)]

mod answer;
mod conduct;
mod files;
mod hours;
mod network;
mod peers;
mod prefixes;
mod profiles;
mod responses;
mod steps;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use files::{MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES, PolicyFile};

use crate::policy::{
    BreakerLimits, Budgets, EffectAim, Enforcement, FlapBudget, Policy, SensorPlace,
};
use crate::report::{Diagnostic, Report};
use crate::text::{Collector, Document, Source, Table, Value};

use conduct::Single;

/// Reads every `*.toml` of a directory, in the order of their names.
///
/// Subdirectories are read where a file says `include`; hidden files and files of other names are
/// ignored. The texts are one policy: which table stands in which file does not matter, except that
/// responses are tried in the order of the files, what a file includes right after it.
///
/// # Errors
/// A [`Report`] of everything that is wrong, in the order of the text.
pub fn load(directory: &Path) -> Result<Policy, Report> {
    let (files, mut includes) = files::read(directory)?;
    match resolve(&directory.display().to_string(), &files) {
        Ok(policy) if includes.is_empty() => Ok(policy),
        Ok(_) => Err(includes),
        Err(report) => {
            includes.extend(report);
            includes.sort();
            Err(includes)
        }
    }
}

/// The text of a policy directory as it is now, for [`resolve`].
///
/// # Errors
/// A [`Report`] of every file that cannot be read or included, and of bounds that are exceeded.
pub fn read_files(directory: &Path) -> Result<Vec<PolicyFile>, Report> {
    let (files, includes) = files::read(directory)?;
    if includes.is_empty() { Ok(files) } else { Err(includes) }
}

/// Checks policy text that has been read already. `directory` is how the user calls the whole.
///
/// # Errors
/// A [`Report`] of everything that is wrong, in the order of the text.
pub fn resolve(directory: &str, files: &[PolicyFile]) -> Result<Policy, Report> {
    let collector = Collector::new();
    let policy = read(directory, files, &collector);
    collector.finish(policy)
}

pub(crate) fn read(directory: &str, files: &[PolicyFile], collector: &Collector) -> Option<Policy> {
    let sources: Vec<Arc<Source>> =
        files.iter().filter_map(|file| decode(file, collector)).collect();
    let documents: Vec<Document<'_>> =
        sources.iter().filter_map(|source| Document::parse(source, collector)).collect();
    let mut draft = Draft::default();
    for document in &documents {
        draft.read(&document.root(collector));
    }
    let well_formed = documents.len() == files.len();
    draft.resolve_peers(well_formed);
    if well_formed { draft.check(directory, collector) } else { None }
}

fn decode(file: &PolicyFile, collector: &Collector) -> Option<Arc<Source>> {
    match Source::from_bytes(&file.name, &file.bytes) {
        Ok(source) => Some(Arc::new(source)),
        Err(error) => {
            let end = error.valid.text().len();
            let message = format!("the byte 0x{:02x} here is not UTF-8", error.byte);
            let help = "save the file with the encoding UTF-8";
            collector.push(Diagnostic::at(&Arc::new(error.valid), end..end, message, help));
            None
        }
    }
}

/// What was read, not yet held against each other.
#[derive(Default)]
struct Draft<'a> {
    speaker: Option<network::Speaker<'a>>,
    owned: Option<network::Owned<'a>>,
    groups: network::Groups<'a>,
    judging: Option<network::Detection<'a>>,
    severities: Option<network::Severities<'a>>,
    responses: responses::Responses<'a>,
    profiles: profiles::Profiles<'a>,
    peers: peers::Peers<'a>,
    enforcement: Option<Single<'a, Enforcement>>,
    effect: Option<Single<'a, EffectAim>>,
    flapping: Option<Single<'a, FlapBudget>>,
    breaker: Option<Single<'a, BreakerLimits>>,
    budgets: Option<Single<'a, Budgets>>,
    modes: Option<Single<'a, conduct::GivenModes>>,
    remotes: Option<Single<'a, conduct::Remotes>>,
    time: Option<Single<'a, i16>>,
}

impl<'a> Draft<'a> {
    fn read(&mut self, root: &Table<'a>) {
        let table = |key, example| root.optional(key, example);
        // Followed when the files are read.
        let included = table("include", "[\"customers\"]");
        for item in included.and_then(|value| value.list("\"customers\"")).unwrap_or_default() {
            let _ = item.string();
        }
        if let Some(value) = table("speaker", "{ as = 65010, router-id = \"10.0.0.1\" }") {
            once(&mut self.speaker, &value, network::Speaker::read);
        }
        if let Some(value) = table("owned", "{ prefixes = [\"203.0.113.0/24\"] }") {
            once(&mut self.owned, &value, network::Owned::read);
        }
        if let Some(value) = table("groups", "{ web = { prefixes = [\"203.0.113.0/25\"] } }") {
            self.groups.read(&value);
        }
        if let Some(value) = table("detection", "{ tolerance = \"500ms\" }") {
            once(&mut self.judging, &value, network::Detection::read);
        }
        if let Some(value) = table("severity", "{ medium = 2.0, high = 5.0, critical = 20.0 }") {
            once(&mut self.severities, &value, network::Severities::read);
        }
        if let Some(value) = table("responses", "[{ name = \"tell\", action = \"observe\" }]") {
            self.responses.read(&value);
        }
        if let Some(value) =
            table("peers", "[{ name = \"edge\", address = \"10.0.0.2\", as = 65001 }]")
        {
            self.peers.read(&value);
        }
        if let Some(value) = table("profiles", "{ upstream = { like = \"frr\" } }") {
            self.profiles.read(&value);
        }
        self.read_conduct(root);
        root.finish();
    }

    fn read_conduct(&mut self, root: &Table<'a>) {
        fn single<'a, T>(
            slot: &mut Option<Single<'a, T>>,
            value: Option<Value<'a>>,
            read: impl FnOnce(&Table<'a>) -> Option<T>,
        ) {
            if let Some(value) = value {
                once(slot, &value, |value| Single::read(value, read));
            }
        }
        let table = |key, example| root.optional(key, example);
        let value = table("enforcement", "{ deadline = \"10s\" }");
        single(&mut self.enforcement, value, conduct::enforcement);
        let value = table("effect", "{ sensor = \"behind-filters\" }");
        single(&mut self.effect, value, conduct::effect);
        let value = table("flapping", "{ cycles = 2, within = \"1h\" }");
        single(&mut self.flapping, value, conduct::flapping);
        let value = table("breaker", "{ targets = 100, within = \"10s\" }");
        single(&mut self.breaker, value, conduct::breaker);
        let value = table("budgets", "{ mitigations = 1000 }");
        single(&mut self.budgets, value, conduct::budgets);
        let value = table("approval", "{ rtbh = \"propose\" }");
        single(&mut self.modes, value, conduct::GivenModes::read);
        let value = table("remotes", "{ allow = [\"192.0.2.0/24\"] }");
        single(&mut self.remotes, value, conduct::remotes);
        let value = table("time", "{ utc-offset = \"+01:00\" }");
        single(&mut self.time, value, conduct::time);
    }

    /// Peers are read when the profiles of all files are known, whatever the order of the files.
    fn resolve_peers(&mut self, well_formed: bool) {
        self.profiles.resolve(well_formed);
        self.peers.resolve(&self.profiles);
    }

    fn check(self, directory: &str, collector: &Collector) -> Option<Policy> {
        if self.owned.is_none() {
            missing(directory, collector, "owned", "prefixes = [\"203.0.113.0/24\"]");
        }
        if self.speaker.is_none() {
            missing(directory, collector, "speaker", "as = 65010` and `router-id = \"10.0.0.1\"");
        }
        if let Some(owned) = &self.owned {
            owned.check();
        }
        let groups = self.groups.resolve(self.owned.as_ref(), self.modes.as_ref());
        let sensor = match &self.effect {
            Some(single) => single.read.map(|effect| effect.sensor),
            None => Some(SensorPlace::BeforeFilters),
        };
        let peers = self.peers.check();
        let space = self.owned.as_ref().map(|owned| owned.space(&peers));
        let responses =
            self.responses.resolve(&self.groups, &self.peers, self.owned.as_ref(), sensor);
        if !collector.is_clean() {
            return None;
        }
        let remotes = conduct::or_default(self.remotes)?;
        Some(Policy {
            speaker: self.speaker?.identity?,
            space: space?,
            groups: groups?,
            judging: self.judging.map_or(Some(Default::default()), |table| table.judging)?,
            severities: self.severities.map_or(Some(Default::default()), |table| table.scale)?,
            responses: responses?,
            peers,
            enforcement: conduct::or_default(self.enforcement)?,
            effect: conduct::or_default(self.effect)?,
            flapping: conduct::or_default(self.flapping)?,
            breaker: conduct::or_default(self.breaker)?,
            budgets: conduct::or_default(self.budgets)?,
            allowed_remotes: remotes.allowed,
            trusted_remotes: remotes.trusted,
            utc_offset: conduct::or_default(self.time)?,
            revision: None,
        })
    }
}

fn missing(directory: &str, collector: &Collector, table: &str, content: &str) {
    let message = format!("no file of the policy has a table `[{table}]`");
    let help = format!("add `[{table}]` with `{content}`");
    collector.push(Diagnostic::about(directory, message, help));
}

/// A table that may stand only once in all files.
trait Once<'a> {
    /// Where it stands.
    fn value(&self) -> &Value<'a>;
}

/// Keeps the first; a second is reported.
fn once<'a, T: Once<'a>>(
    slot: &mut Option<T>,
    value: &Value<'a>,
    read: impl FnOnce(&Value<'a>) -> T,
) {
    let second = read(value);
    if let Some(first) = slot {
        let message = format!("a second table `[{}]`", value.name());
        let help = format!("put everything into the first, at {}", first.value().place());
        value.error(message, help);
    } else {
        *slot = Some(second);
    }
}

/// No name is longer than this.
const MAX_NAME: usize = 64;

/// A name of a group, response or peer: it must be fit for logs, command lines and file names.
fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.chars().count())
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Reports a name that is none.
fn name<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.string()?;
    if is_name(text) {
        return Some(text);
    }
    value.error(
        format!("`{text}` is not a name"),
        format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`, without blanks"),
    );
    None
}
