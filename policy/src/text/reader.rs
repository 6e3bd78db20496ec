//! Documents and tables: which keys there are, which were read, and which nobody knows.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::source::Source;
use super::suggest::{instead_of, meant_by};
use super::value::Value;
use crate::report::{Diagnostic, Report};

/// No more syntax errors of one file than this are reported: later ones mostly follow from the
/// first.
const MAX_SYNTAX_ERRORS: usize = 10;

/// Gathers mistakes, and the names of the keys that were asked for.
#[derive(Debug, Default)]
pub struct Collector {
    report: RefCell<Report>,
    keys: RefCell<BTreeSet<String>>,
}

impl Collector {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.report.borrow_mut().push(diagnostic);
    }

    /// Adds a mistake at a place. Once no more are kept it is counted without being described: to
    /// find the column of a place costs as much as its line is long.
    pub fn push_at(
        &self,
        source: &Arc<Source>,
        span: Range<usize>,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) {
        if !self.report.borrow_mut().count_only() {
            self.push(Diagnostic::at(source, span, message, help));
        }
    }

    /// Whether no mistake was found so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.report.borrow().is_empty()
    }

    /// Every key that was asked for, whether it was there or not, as `table.key`. For tests that
    /// hold documentation against the reader.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        self.keys.borrow().clone()
    }

    /// The value if nothing is wrong.
    ///
    /// # Errors
    /// The sorted [`Report`] if anything is. It is never empty.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Report> {
        let mut report = self.report.into_inner();
        match value {
            Some(value) if report.is_empty() => return Ok(value),
            None if report.is_empty() => {
                // A caller that gave up without saying why; the user must still hear something.
                let help = "compare it with the example in the documentation";
                report.push(Diagnostic::about("configuration", "something is missing", help));
            }
            _ => report.sort(),
        }
        Err(report)
    }
}

/// A file that is well-formed TOML.
#[derive(Debug)]
pub struct Document<'s> {
    source: &'s Arc<Source>,
    root: Spanned<DeTable<'s>>,
}

impl<'s> Document<'s> {
    /// Parses; `None` after reporting the syntax errors, at most one a line.
    #[must_use]
    pub fn parse(source: &'s Arc<Source>, collector: &Collector) -> Option<Self> {
        let (root, mut errors) = DeTable::parse_recoverable(source.text());
        errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        let clean = errors.is_empty();
        let mut last_line = 0;
        let mut reported = 0;
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let line = source.locate(span.clone()).line;
            if line == last_line || reported == MAX_SYNTAX_ERRORS {
                continue;
            }
            (last_line, reported) = (line, reported + 1);
            let (message, help) = explain_syntax(error.message());
            collector.push_at(source, span, message, help);
        }
        clean.then_some(Self { source, root })
    }

    /// The table of the keys at the top.
    #[must_use]
    pub fn root<'a>(&'a self, collector: &'a Collector) -> Table<'a> {
        Table {
            path: Arc::from(""),
            source: self.source,
            collector,
            entries: self.root.get_ref(),
            span: 0..0,
            read: RefCell::default(),
            missing: RefCell::default(),
        }
    }
}

/// Message and help for what the parser says, such as `unclosed table, expected ]`.
fn explain_syntax(message: &str) -> (String, String) {
    if message == "duplicate key" {
        let help = "keep one of the two; several tables of a kind are written `[[name]]`, each with a name of its own";
        return ("this key is given twice in one table".to_owned(), help.to_owned());
    }
    match message.split_once(", expected ") {
        Some(("string values must be quoted" | "invalid boolean", _)) => (
            "a value is missing here, or it is a text without quotes".to_owned(),
            "write text in double quotes: `key = \"value\"`".to_owned(),
        ),
        Some((what, "nothing")) => {
            (format!("not TOML: {what}"), "remove what stands here".to_owned())
        }
        Some((what, expected)) => (format!("not TOML: {what}"), format!("write {expected} here")),
        None => (
            format!("not TOML: {message}"),
            "write `key = value` lines under `[table]` headers".to_owned(),
        ),
    }
}

/// A table being read.
#[derive(Debug)]
pub struct Table<'a> {
    /// Dotted name for people; empty at the top.
    path: Arc<str>,
    source: &'a Arc<Source>,
    collector: &'a Collector,
    entries: &'a DeTable<'a>,
    /// Its header, or the whole of an inline table.
    span: Range<usize>,
    /// Keys that were asked for.
    read: RefCell<BTreeSet<&'static str>>,
    /// Keys that must be there and are not, each with its example.
    missing: RefCell<Vec<(&'static str, &'static str)>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(value: &Value<'a>, entries: &'a DeTable<'a>) -> Self {
        Self {
            path: Arc::from(value.name()),
            source: value.source(),
            collector: value.collector(),
            entries,
            span: value.span(),
            read: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    /// Dotted name, such as `groups.web`; empty at the top of a file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.path
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &'a Arc<Source> {
        self.source
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of `key`, if it is there. `example` is a value as TOML text.
    #[must_use]
    pub fn optional(&self, key: &'static str, example: &'static str) -> Option<Value<'a>> {
        self.read.borrow_mut().insert(key);
        self.collector.keys.borrow_mut().insert(self.path_of(key));
        let (name, value) = self.entries.get_key_value(key)?;
        Some(self.value(name, value, example))
    }

    /// The value of `key`; [`Table::finish`] reports its absence.
    #[must_use]
    pub fn required(&self, key: &'static str, example: &'static str) -> Option<Value<'a>> {
        let value = self.optional(key, example);
        if value.is_none() {
            self.missing.borrow_mut().push((key, example));
        }
        value
    }

    /// Every entry, for tables whose keys the user chooses. `example` is a value as TOML text.
    #[must_use]
    pub fn entries(&self, example: &'static str) -> Vec<(&'a str, Value<'a>)> {
        let entries = self.entries.iter();
        entries
            .map(|(key, value)| (key.get_ref().as_ref(), self.value(key, value, example)))
            .collect()
    }

    fn value(
        &self,
        key: &'a Spanned<toml::de::DeString<'a>>,
        value: &'a Spanned<toml::de::DeValue<'a>>,
        example: &'static str,
    ) -> Value<'a> {
        let path = self.path_of(key.get_ref());
        Value::new(Arc::from(path), self.source, self.collector, value, key.span(), example)
    }

    /// Reports a mistake of the table as a whole, at its header.
    pub fn error(&self, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.collector.push_at(self.source, self.span.clone(), message, help);
    }

    /// Reports every key that was not asked for, and every required one that is not there unless
    /// an unknown one seems to be meant for it. To be called when everything has been asked for.
    pub fn finish(&self) {
        let read = self.read.borrow();
        let known: Vec<&str> = read.iter().copied().collect();
        let mut meant = BTreeSet::new();
        for (key, _) in self.entries.iter() {
            let name: &str = key.get_ref();
            if read.contains(name) {
                continue;
            }
            meant.extend(meant_by(name, &known));
            let message = match self.name() {
                "" => format!("`{name}` is not known at the top of a file"),
                table => format!("`{name}` is not known in `{table}`"),
            };
            let help = instead_of(name, known.iter().copied());
            self.collector.push_at(self.source, key.span(), message, help);
        }
        for (key, example) in self.missing.borrow().iter() {
            if meant.contains(key) {
                continue;
            }
            let message = match self.name() {
                "" => format!("`{key}` is missing"),
                table => format!("`{table}` has no `{key}`"),
            };
            self.error(message, format!("add `{key} = {example}`"));
        }
    }
}
