//! A reader of TOML that keeps positions and finds every mistake in one pass.
//!
//! A [`Source`] is parsed into a [`Document`]; its [`Table`]s yield [`Value`]s, whose getters
//! return `None` after having reported what is wrong to the [`Collector`]. So a caller reads on
//! after a mistake, and at the end [`Collector::finish`] gives either the value or the [`crate::Report`]
//! of everything that was found:
//!
//! ```
//! use std::sync::Arc;
//! use tidegate_policy::text::{Collector, Document, Source};
//!
//! let source = Arc::new(Source::new("a.toml", "[speaker]\nas = 65010\n"));
//! let collector = Collector::new();
//! let number = Document::parse(&source, &collector).and_then(|document| {
//!     let root = document.root(&collector);
//!     let speaker = root.required("speaker", "{ as = 65010 }").and_then(|value| value.table());
//!     root.finish();
//!     let speaker = speaker?;
//!     let number = speaker.required("as", "65010").and_then(|value| value.integer(1..=u32::MAX));
//!     speaker.finish();
//!     number
//! });
//! assert_eq!(collector.finish(number), Ok(65010));
//! ```
//!
//! Every getter that can fail to find a value takes an `example`: the value as TOML text, which
//! the help of an error shows.
#![deny(clippy::indexing_slicing)]

mod duration;
mod reader;
mod source;
mod suggest;
mod value;

pub use duration::{ParseDurationError, parse_duration, show_duration};
pub use reader::{Collector, Document, Table};
pub(crate) use source::printable;
pub use source::{Location, NotUtf8, Source};
pub use suggest::{instead_of, meant_by};
pub use value::Value;

#[cfg(test)]
mod tests;
