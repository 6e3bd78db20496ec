//! Routing daemons that a policy names.

use std::ops::Range;
use std::sync::Arc;

use crate::report::Diagnostic;
use crate::text::{Source, Value};

/// A routing daemon that tells a peer in our place. Equal if it is the same daemon, wherever it is
/// written.
#[derive(Clone, Debug)]
pub struct Via {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is written.
    place: Option<(Arc<Source>, Range<usize>)>,
}

impl PartialEq for Via {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Via {
    /// The daemon of this name, written nowhere.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), place: None }
    }

    /// The same as it is written in a policy.
    #[must_use]
    pub fn written(name: impl Into<String>, value: &Value<'_>) -> Self {
        Self { name: name.into(), place: Some((Arc::clone(value.source()), value.span())) }
    }

    /// That something is wrong with it, with its place if it has one.
    #[must_use]
    pub fn mistake(&self, message: impl AsRef<str>, help: impl AsRef<str>) -> Diagnostic {
        match &self.place {
            Some((source, span)) => Diagnostic::at(source, span.clone(), message, help),
            None => Diagnostic::about("the policy", message, help),
        }
    }
}
