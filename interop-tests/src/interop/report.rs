//! The table, for terminals, for `docs/` and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::column::{Case, Cell, Column};

/// One word for a cell, with a note's number where there is something to say.
fn word(cell: &Cell, notes: &mut Vec<String>) -> String {
    let Some(why) = cell.why() else { return cell.word().to_owned() };
    let number = notes.iter().position(|note| note == why).unwrap_or_else(|| {
        notes.push(why.to_owned());
        notes.len() - 1
    });
    format!("{} [{}]", cell.word(), number + 1)
}

struct Table {
    /// The first is of names.
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    fn new(columns: &[Column]) -> Self {
        let mut notes = Vec::new();
        let name = |column: &Column| match &column.version {
            Some(version) => version.clone(),
            None => column.peer.name().to_owned(),
        };
        let mut rows =
            vec![["case".to_owned()].into_iter().chain(columns.iter().map(name)).collect()];
        for case in Case::all() {
            let mut row = vec![case.to_string()];
            for column in columns {
                let cell = column.cells.iter().find(|(other, _)| *other == case);
                row.push(cell.map_or("not run".to_owned(), |(_, cell)| word(cell, &mut notes)));
            }
            rows.push(row);
        }
        Self { rows, notes }
    }
}

/// In aligned columns.
pub(super) fn text(columns: &[Column]) -> String {
    let table = Table::new(columns);
    let mut widths = vec![0; columns.len() + 1];
    for row in &table.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &table.rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for (number, note) in table.notes.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "[{}] {note}", number + 1);
    }
    text
}

/// For `docs/interop.md`.
pub(super) fn markdown(columns: &[Column]) -> String {
    let table = Table::new(columns);
    let mut text = "# Interoperability

Written by `cargo xtask interop -- --write docs/interop.md`. Each daemon runs in network namespaces
of its own. A cell is ok if the daemon itself, asked by its own means, holds exactly what it should
after what was done: prefix or rule, next hop, communities and action, and nothing else of that kind.
The rows of a family are run over sessions of that family. A rule that is passed on is looked for at
a third router, a BIRD that only the daemon peers with, and from then on after everything else that is
done, too. Blackholes carry NO_EXPORT and are therefore not passed on. The limits of its profiles are
tried with rules that [compiling](policy.md) makes of what is at and beyond them: the daemon and the
third router hold exactly these, and the session stays up.

"
    .to_owned();
    for (number, row) in table.rows.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    if !table.notes.is_empty() {
        text.push('\n');
    }
    for (number, note) in table.notes.iter().enumerate() {
        let _ = writeln!(text, "- [{}] {note}", number + 1);
    }
    text
}

/// One object.
pub(super) fn json(columns: &[Column]) -> Value {
    let cell = |(case, cell): &(Case, Cell)| {
        json!({
            "family": case.family.to_string(),
            "kind": case.kind.name(),
            "operation": case.operation.name(),
            "result": cell.word(),
            "why": cell.why(),
        })
    };
    let column = |column: &Column| {
        let cells: Vec<Value> = column.cells.iter().map(cell).collect();
        json!({ "peer": column.peer.name(), "version": column.version, "cells": cells })
    };
    json!({ "columns": columns.iter().map(column).collect::<Vec<_>>() })
}
