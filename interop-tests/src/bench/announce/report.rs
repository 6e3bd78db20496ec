//! What was measured, for terminals and for `docs/performance.md`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::receiver::ReceiverKind;
use super::{BenchError, ROUNDS, SINGLES, system};
use crate::bench::table::{milliseconds, percentile};
use crate::interop::Kind;

/// Lines of the document between which the tables stand.
const BEGIN: &str = "<!-- announcing: written by the benchmark -->";
const END: &str = "<!-- announcing: end -->";

/// One announcer with one receiver.
pub(super) struct Entry {
    name: String,
    receiver: ReceiverKind,
    one: [Vec<Duration>; 2],
    many: [Vec<Duration>; 2],
}

/// Place of a kind in pairs.
fn place(kind: Kind) -> usize {
    match kind {
        Kind::Rtbh => 0,
        Kind::FlowSpec => 1,
    }
}

impl Entry {
    pub(super) fn new(name: String, receiver: ReceiverKind) -> Self {
        Self { name, receiver, one: Default::default(), many: Default::default() }
    }

    /// Times of single routes.
    pub(super) fn one(&mut self, kind: Kind) -> &mut Vec<Duration> {
        &mut self.one[place(kind)]
    }

    /// Times of many at once.
    pub(super) fn many(&mut self, kind: Kind) -> &mut Vec<Duration> {
        &mut self.many[place(kind)]
    }

    /// Median and p99 of one RTBH and of one rule, medians of many RTBH and of many rules.
    fn figures(&self) -> [Duration; 6] {
        let sorted = |values: &Vec<Duration>| {
            let mut values = values.clone();
            values.sort_unstable();
            values
        };
        let [rtbh, flow] = [0, 1].map(|kind| sorted(&self.one[kind]));
        let [many_rtbh, many_flow] = [0, 1].map(|kind| sorted(&self.many[kind]));
        [
            percentile(&rtbh, 50),
            percentile(&rtbh, 99),
            percentile(&flow, 50),
            percentile(&flow, 99),
            percentile(&many_rtbh, 50),
            percentile(&many_flow, 50),
        ]
    }

    /// For those who wait.
    pub(super) fn line(&self) -> String {
        let figures = self.figures().map(milliseconds).join(", ");
        format!("  {} to {}: {figures}", self.name, self.receiver.name())
    }
}

/// All that was measured.
#[derive(Default)]
pub(super) struct Report {
    pub(super) entries: Vec<Entry>,
    /// Announcers that are not installed.
    pub(super) absent: Vec<String>,
    /// Octets of ten thousand blackholes and of ten thousand rules.
    pub(super) memory: [u64; 2],
}

const HEADINGS: [&str; 7] = [
    "",
    "one RTBH, median",
    "p99",
    "one FlowSpec rule, median",
    "p99",
    "10,000 RTBH",
    "10,000 FlowSpec rules",
];

impl Report {
    /// Rows of the table of one receiver. Beside each figure stands how many times tidegate's it is.
    fn rows(&self, receiver: ReceiverKind) -> Vec<[String; 7]> {
        let entries = || self.entries.iter().filter(|entry| entry.receiver == receiver);
        let Some(ours) = entries().next().map(Entry::figures) else { return Vec::new() };
        let mut rows = vec![HEADINGS.map(ToOwned::to_owned)];
        for (number, entry) in entries().enumerate() {
            let mut row = [const { String::new() }; 7];
            row[0].clone_from(&entry.name);
            for ((cell, value), ours) in row[1..].iter_mut().zip(entry.figures()).zip(ours) {
                *cell = milliseconds(value);
                if number > 0 && !ours.is_zero() {
                    let times = value.as_secs_f64() / ours.as_secs_f64();
                    let digits = usize::from(times < 10.0);
                    let _ = write!(cell, " (x {times:.digits$})");
                }
            }
            rows.push(row);
        }
        rows
    }

    fn memory_line(&self) -> String {
        let [rtbh, flow] = self.memory;
        let mega = |octets: u64| octets as f64 / 1e6;
        format!(
            "Memory of tidegate for 10,000 more routes of one peer: {:.1} MB RTBH, {:.1} MB FlowSpec.",
            mega(rtbh),
            mega(flow)
        )
    }

    /// In aligned columns.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for receiver in ReceiverKind::ALL {
            let rows = self.rows(receiver);
            let _ = writeln!(text, "\nAnnouncing, from the call to {}", receiver.name());
            let width = |column: usize| {
                rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
            };
            let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
            for row in &rows {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
                let line = cells.collect::<Vec<_>>().join("  ");
                let _ = writeln!(text, "  {}", line.trim_end());
            }
        }
        let _ = writeln!(text, "{}", self.memory_line());
        self.absent.iter().for_each(|why| text.push_str(&format!("Absent: {why}\n")));
        text
    }

    /// For the document.
    fn markdown(&self) -> String {
        let mut text = format!(
            "Median and p99 of {} single routes, median of {ROUNDS} times ten thousand; in brackets how many
times tidegate's figure it is.
",
            SINGLES * ROUNDS
        );
        for receiver in ReceiverKind::ALL {
            let _ = writeln!(text, "\nTo {}:\n", receiver.name());
            for (number, row) in self.rows(receiver).iter().enumerate() {
                let _ = writeln!(text, "| {} |", row.join(" | "));
                if number == 0 {
                    let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
                }
            }
        }
        let _ = writeln!(text, "\n{}", self.memory_line());
        self.absent.iter().for_each(|why| text.push_str(&format!("\nAbsent: {why}\n")));
        text
    }

    /// Replaces what stands between the two lines.
    pub(super) fn write(&self, path: &Path) -> Result<(), BenchError> {
        let document = fs::read_to_string(path).map_err(system("read the document"))?;
        let parts = document
            .split_once(BEGIN)
            .and_then(|(before, rest)| rest.split_once(END).map(|(_, after)| (before, after)));
        let Some((before, after)) = parts else {
            let path = path.display();
            let text = format!("{path} has no lines `{BEGIN}` and `{END}` to write between");
            return Err(BenchError::Unexpected(text));
        };
        let text = format!("{before}{BEGIN}\n{}{END}{after}", self.markdown());
        fs::write(path, text).map_err(system("write the document"))
    }
}
