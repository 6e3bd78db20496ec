//! Values: typed getters that report what they did not find.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::duration::{parse_duration, show_duration};
use super::reader::{Collector, Table};
use super::source::Source;
use super::suggest::instead_of;

/// A value with its name and place. Getters return `None` after reporting.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    /// Dotted name for people.
    name: Arc<str>,
    source: &'a Arc<Source>,
    collector: &'a Collector,
    value: &'a Spanned<DeValue<'a>>,
    key: Range<usize>,
    example: &'static str,
    /// An item of a list: its name is the list's.
    item: bool,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        name: Arc<str>,
        source: &'a Arc<Source>,
        collector: &'a Collector,
        value: &'a Spanned<DeValue<'a>>,
        key: Range<usize>,
        example: &'static str,
    ) -> Self {
        Self { name, source, collector, value, key, example, item: false }
    }

    /// Dotted name, such as `groups.web.prefixes`; an item has the name of its list.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    #[must_use]
    pub fn source(&self) -> &'a Arc<Source> {
        self.source
    }

    /// Where mistakes go.
    #[must_use]
    pub fn collector(&self) -> &'a Collector {
        self.collector
    }

    /// Bytes of the value; of the header for a table under one.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// `FILE:LINE`, for messages about another place.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.source.name(), self.source.locate(self.span()).line)
    }

    /// Reports a mistake at the value.
    pub fn error(&self, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.collector.push_at(self.source, self.span(), message, help);
    }

    /// Reports a mistake at the key.
    pub fn error_at_key(&self, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.collector.push_at(self.source, self.key.clone(), message, help);
    }

    /// The last part of the name.
    fn key_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// What to write instead, from the example.
    #[must_use]
    pub fn example(&self) -> String {
        if self.item {
            return format!("write items such as `{}`", self.example);
        }
        format!("write `{} = {}`", self.key_name(), self.example)
    }

    /// Reports that the value is of another type than `expected`, such as "a string".
    pub fn wrong_type(&self, expected: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = if self.item {
            format!("an item of `{}` must be {expected}, not {found}", self.name)
        } else {
            format!("`{}` must be {expected}, not {found}", self.name)
        };
        self.error(message, self.example());
    }

    /// Whether the value is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether the value is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// A string.
    #[must_use]
    pub fn string(&self) -> Option<&'a str> {
        if let DeValue::String(text) = self.value.get_ref() {
            return Some(text);
        }
        self.wrong_type("a string");
        None
    }

    /// A string that reads as `T`; the error of `T` is the message, what follows its last `; ` the
    /// help.
    #[must_use]
    pub fn parse<T>(&self) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.parsed(self.string()?)
    }

    /// Like [`Value::parse`], and an integer is read as its digits.
    #[must_use]
    pub fn parse_number<T>(&self) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.value.get_ref() {
            DeValue::String(text) => self.parsed(text),
            DeValue::Integer(number) if number.radix() == 10 => self.parsed(number.as_str()),
            _ => {
                self.wrong_type("a number in a string");
                None
            }
        }
    }

    fn parsed<T>(&self, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.reported(text.parse())
    }

    /// The value of a result; an error is reported, what follows its last `; ` as the help.
    #[must_use]
    pub fn reported<T, E: Display>(&self, result: Result<T, E>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        };
        match error.rsplit_once("; ") {
            Some((message, help)) => self.error(message, help),
            None => self.error(format!("`{}`: {error}", self.name), self.example()),
        }
        None
    }

    /// One of the known words. `kind` names them with an article: "an action".
    #[must_use]
    pub fn choice<T: Copy>(&self, kind: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = known.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let help = instead_of(text, known.iter().map(|(name, _)| *name));
            self.error(format!("`{text}` is not {kind}"), help);
        }
        found.map(|(_, value)| *value)
    }

    /// An integer within `range`, any base.
    #[must_use]
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let DeValue::Integer(number) = self.value.get_ref() else {
            self.wrong_type("an integer");
            return None;
        };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.and_then(|value| T::try_from(value).ok());
        let found = value.filter(|value| range.contains(value));
        if found.is_none() {
            let (low, high) = (range.start(), range.end());
            let message = format!("`{}` must be from {low} to {high}, not {number}", self.name);
            self.error(message, self.example());
        }
        found
    }

    /// A finite number within `range`; an integer will do.
    #[must_use]
    pub fn float(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let text = match self.value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        let found = text.parse().ok().filter(|value| range.contains(value));
        if found.is_none() {
            let (low, high) = (range.start(), range.end());
            let message = format!("`{}` must be from {low} to {high}, not {text}", self.name);
            self.error(message, self.example());
        }
        found
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.value.get_ref() {
            return Some(*value);
        }
        self.wrong_type("`true` or `false`");
        None
    }

    /// A duration such as `"500ms"`, within `range`.
    #[must_use]
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if !self.is_string() {
            self.wrong_type("a duration in a string");
            return None;
        }
        let duration = self.reported(parse_duration(self.string()?))?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
        let shown = show_duration(duration);
        let message = format!("`{}` must be from {low} to {high}, not {shown}", self.name);
        self.error(message, self.example());
        None
    }

    /// A table.
    #[must_use]
    pub fn table(&self) -> Option<Table<'a>> {
        if let DeValue::Table(entries) = self.value.get_ref() {
            return Some(Table::new(self, entries));
        }
        self.wrong_type("a table");
        None
    }

    /// The items of a list; a single value is no list. `example` is an item as TOML text.
    #[must_use]
    pub fn list(&self, example: &'static str) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong_type("a list");
            return None;
        };
        let item =
            |value| Self { value, key: self.key.clone(), example, item: true, ..self.clone() };
        Some(items.iter().map(item).collect())
    }

    /// The tables of a list that is written as `[[name]]` headers.
    #[must_use]
    pub fn tables(&self) -> Option<Vec<Table<'a>>> {
        let name = self.key_name();
        let example = format!("write `[[{name}]]`, once for each of the {name}");
        let DeValue::Array(items) = self.value.get_ref() else {
            self.error(format!("`{}` must be a list of tables", self.name), example);
            return None;
        };
        let mut tables = Vec::new();
        for value in items.iter() {
            let item = Self { value, item: true, ..self.clone() };
            match value.get_ref() {
                DeValue::Table(entries) => tables.push(Table::new(&item, entries)),
                _ => item.error(format!("an item of `{}` must be a table", self.name), &example),
            }
        }
        Some(tables)
    }
}
