//! Lists of prefixes, and which prefix lies in which.

use std::collections::BTreeMap;

use tidegate_model::Prefix;

use crate::text::Value;

/// A list of prefixes as it was read.
pub(super) struct PrefixList<'a> {
    /// The list itself.
    pub(super) value: Value<'a>,
    /// Those that can be read, with their places, in the order of the text.
    pub(super) items: Vec<(Prefix, Value<'a>)>,
    /// Whether all could be read: if not, an absence proves nothing.
    pub(super) whole: bool,
}

impl<'a> PrefixList<'a> {
    /// Reads a list. `None` after reporting that it is none, or empty.
    pub(super) fn read(value: &Value<'a>) -> Option<Self> {
        let values = value.list("\"203.0.113.0/24\"")?;
        if values.is_empty() {
            value.error(format!("`{}` is empty", value.name()), value.example());
            return None;
        }
        let mut items = Vec::with_capacity(values.len());
        let mut whole = true;
        for item in values {
            match item.parse::<Prefix>() {
                Some(prefix) => items.push((prefix, item)),
                None => whole = false,
            }
        }
        Some(Self { value: value.clone(), items, whole })
    }

    /// The prefixes alone.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.items.iter().map(|(prefix, _)| *prefix)
    }

    /// Reports every prefix that another of the list holds already.
    pub(super) fn check_overlaps(&self) {
        let mut first: BTreeMap<Prefix, &Value<'a>> = BTreeMap::new();
        for (prefix, value) in &self.items {
            if let Some(other) = first.get(prefix) {
                let message = format!("`{prefix}` is given twice in `{}`", self.value.name());
                value.error(message, format!("remove one; the first is at {}", other.place()));
            } else {
                first.insert(*prefix, value);
            }
        }
        for (prefix, value) in &first {
            if let Some(wider) = wider(*prefix).find(|wider| first.contains_key(wider)) {
                let message =
                    format!("`{prefix}` lies in `{wider}`, which `{}` has too", self.value.name());
                value.error(message, format!("remove `{prefix}`: `{wider}` is enough"));
            }
        }
    }
}

/// Every prefix that holds `prefix` and is wider, the nearest first.
pub(super) fn wider(prefix: Prefix) -> impl Iterator<Item = Prefix> {
    let lengths = (0..prefix.length()).rev();
    lengths.filter_map(move |length| Prefix::new(prefix.address(), length))
}

/// `prefix` and every wider one, the nearest first.
pub(super) fn holding(prefix: Prefix) -> impl Iterator<Item = Prefix> {
    std::iter::once(prefix).chain(wider(prefix))
}
