//! What is wrong with configuration text: where, and what to write instead.

use std::fmt;
use std::sync::Arc;

use crate::text::{Location, Source, printable};

/// No more diagnostics than this are kept; the rest are counted.
pub const MAX_DIAGNOSTICS: usize = 1_000;

/// No more characters of a message or help than this are kept.
const MAX_TEXT: usize = 500;

/// No more characters of a source line than this are shown.
const MAX_SHOWN: usize = 120;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, or the directory, as the user named it.
    pub file: String,
    /// Where in the file; `None` if the whole file or directory is meant.
    pub location: Option<Location>,
    /// What is wrong, naming the thing.
    pub message: String,
    /// What to write or do instead.
    pub help: String,
    source: Option<Arc<Source>>,
}

impl Diagnostic {
    /// A mistake at a place in `source`.
    #[must_use]
    pub fn at(
        source: &Arc<Source>,
        span: std::ops::Range<usize>,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) -> Self {
        Self {
            file: one_line(source.name()),
            location: Some(source.locate(span)),
            message: one_line(message.as_ref()),
            help: one_line(help.as_ref()),
            source: Some(Arc::clone(source)),
        }
    }

    /// A mistake that concerns the whole of a file or directory.
    #[must_use]
    pub fn about(file: impl AsRef<str>, message: impl AsRef<str>, help: impl AsRef<str>) -> Self {
        Self {
            file: one_line(file.as_ref()),
            location: None,
            message: one_line(message.as_ref()),
            help: one_line(help.as_ref()),
            source: None,
        }
    }

    /// Line and column, both from 1; `(0, 0)` if the whole file is meant.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        self.location.as_ref().map_or((0, 0), |location| (location.line, location.column))
    }

    /// The source line, cut around the place, and how many columns into it the caret stands and
    /// how many it covers.
    fn excerpt(&self) -> Option<(usize, String, usize, usize)> {
        let (location, source) = (self.location.as_ref()?, self.source.as_ref()?);
        let shown = printable(source.line(location.line)).replace('\t', " ");
        let column = location.column - 1;
        let marked = source.text().get(location.span.clone()).unwrap_or_default();
        let marked = marked.lines().next().unwrap_or_default().chars().count().max(1);
        let length = shown.chars().count();
        let skipped = if length <= MAX_SHOWN { 0 } else { column.saturating_sub(MAX_SHOWN / 4) };
        let cut: String = shown.chars().skip(skipped).take(MAX_SHOWN).collect();
        let before = column - skipped;
        let marked = marked.min(cut.chars().count().saturating_sub(before)).max(1);
        Some((location.line, cut, before, marked))
    }
}

/// Text for one line of a terminal or log: no line ends, nothing that commands a terminal, bounded.
fn one_line(text: &str) -> String {
    let mut line: String = printable(text)
        .chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        line.push('…');
    }
    line
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COL: error: MESSAGE`, the source line with a caret, and the help. Plain text.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let Some(location) = &self.location {
            write!(formatter, ":{}:{}", location.line, location.column)?;
        }
        write!(formatter, ": error: {}", self.message)?;
        if let Some((line, text, before, marked)) = self.excerpt() {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let carets = "^".repeat(marked);
            write!(formatter, "\n  {number} | {text}\n  {margin} | {:before$}{carets}", "")?;
        }
        write!(formatter, "\n  help: {}", self.help)
    }
}

/// Every mistake that was found, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    /// How many more there were than are kept.
    omitted: usize,
}

impl Report {
    /// A report of one mistake.
    #[must_use]
    pub fn of(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], omitted: 0 }
    }

    /// Adds a mistake; past [`MAX_DIAGNOSTICS`] it is only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.omitted += 1;
        }
    }

    /// Counts a mistake that need not be described, since no more are kept; false if it must be.
    pub(crate) fn count_only(&mut self) -> bool {
        let full = self.diagnostics.len() >= MAX_DIAGNOSTICS;
        self.omitted += usize::from(full);
        full
    }

    /// Adds the mistakes of another report.
    pub fn extend(&mut self, other: Self) {
        self.omitted += other.omitted;
        for diagnostic in other.diagnostics {
            self.push(diagnostic);
        }
    }

    /// Sorts by file, line and column; equal places keep the order in which they were found.
    pub fn sort(&mut self) {
        self.diagnostics.sort_by(|left, right| {
            (&left.file, left.position()).cmp(&(&right.file, right.position()))
        });
    }

    /// The mistakes that are kept.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// `1 error` or `7 errors`.
    #[must_use]
    pub fn count(&self) -> String {
        match self.diagnostics.len() + self.omitted {
            1 => "1 error".to_owned(),
            count => format!("{count} errors"),
        }
    }

    /// The same for a terminal, with source excerpts and colours, as `miette` draws them.
    #[must_use]
    pub fn into_terminal(self) -> TerminalReport {
        TerminalReport {
            summary: format!("{} in the configuration", self.count()),
            diagnostics: self.diagnostics.into_iter().map(TerminalDiagnostic).collect(),
        }
    }
}

impl fmt::Display for Report {
    /// One after the other in plain text, without a line end after the last.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            diagnostic.fmt(formatter)?;
        }
        if self.omitted > 0 {
            write!(formatter, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A [`Report`] as `miette` wants it: one heading, the mistakes related to it.
#[derive(Debug)]
pub struct TerminalReport {
    summary: String,
    diagnostics: Vec<TerminalDiagnostic>,
}

/// A [`Diagnostic`] as `miette` wants it: the bare message, place and help apart.
#[derive(Debug)]
struct TerminalDiagnostic(Diagnostic);

impl fmt::Display for TerminalReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.summary)
    }
}

impl std::error::Error for TerminalReport {}

impl miette::Diagnostic for TerminalReport {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.diagnostics.iter().map(|each| each as &dyn miette::Diagnostic)))
    }
}

impl fmt::Display for TerminalDiagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.location.is_none() {
            write!(formatter, "{}: ", self.0.file)?;
        }
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for TerminalDiagnostic {}

impl miette::Diagnostic for TerminalDiagnostic {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.help))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.0.source.as_deref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let location = self.0.location.as_ref()?;
        let span = (location.span.start, location.span.len());
        Some(Box::new(std::iter::once(miette::LabeledSpan::new_with_span(None, span))))
    }
}

impl miette::SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.shown().read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            one_line(self.name()),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}
