//! Where events are printed: the timeline for people, or one JSON object a line.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use tidegate_model::{OutcomeKind, Timestamp};

use crate::clock::WallOrigin;
use crate::event::{Event, EventKind};
use crate::json;
use crate::timeline::Timeline;

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A timeline to read.
    People,
    /// One JSON object a line.
    Json,
}

/// Whether the bytes of BGP UPDATEs are decoded and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// They are.
    Shown,
    /// They are not.
    Hidden,
}

/// Prints events to a stream.
pub struct Printer<W> {
    stream: W,
    format: Format,
    updates: Updates,
    wall: WallOrigin,
    timeline: Timeline,
}

impl<W: Write> Printer<W> {
    /// A printer to `stream`, which strips styles if it is not a terminal.
    pub fn new(stream: W, format: Format, updates: Updates, wall: WallOrigin) -> Self {
        Self { stream, format, updates, wall, timeline: Timeline::new(wall, updates) }
    }

    /// Prints `event`.
    ///
    /// # Errors
    /// If the stream cannot be written.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        match self.format {
            Format::People => self.stream.write_all(self.timeline.render(event).as_bytes()),
            Format::Json => {
                let mut object = json::event(event, self.wall);
                if self.updates == Updates::Shown
                    && let Value::Object(fields) = &mut object
                    && let EventKind::Outcome { outcome, .. } = &event.kind
                    && let OutcomeKind::Applied { bytes } = &outcome.kind
                    && !bytes.is_empty()
                {
                    fields.insert("update".to_owned(), json::update(bytes));
                }
                writeln!(self.stream, "{object}")
            }
        }
    }

    /// Prints something about the run itself: `text` for people, `name` and `fields` for programs.
    ///
    /// # Errors
    /// If the stream cannot be written.
    pub fn note(
        &mut self,
        time: Timestamp,
        name: &str,
        text: &str,
        fields: Map<String, Value>,
    ) -> io::Result<()> {
        match self.format {
            Format::People => writeln!(self.stream, "{text}"),
            Format::Json => {
                writeln!(self.stream, "{}", json::stamped(name, time, self.wall, fields))
            }
        }
    }

    /// Hands everything printed so far to the system.
    ///
    /// # Errors
    /// If the stream cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The fields of a JSON object, from `json!({..})`.
#[must_use]
pub fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), json!(other))]),
    }
}
