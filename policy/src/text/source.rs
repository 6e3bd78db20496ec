//! A file's text with its name, and the way from a byte offset to line and column.

use std::borrow::Cow;
use std::ops::Range;

/// The text of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    /// The text fit for a terminal, if it is not that already.
    shown: Option<String>,
    /// Byte offset of the first character of each line.
    line_starts: Vec<usize>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// First line is 1.
    pub line: usize,
    /// First column is 1; counted in characters.
    pub column: usize,
    /// Bytes of the text, on character boundaries.
    pub span: Range<usize>,
}

/// Why bytes are no source text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the byte 0x{byte:02x} in line {} is not UTF-8", valid.line_starts.len())]
pub struct NotUtf8 {
    /// The text up to the first byte that is not UTF-8.
    pub valid: Source,
    /// That byte.
    pub byte: u8,
}

impl Source {
    /// A source called `name`, as the user gave it. A byte order mark is dropped.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(line_ends.map(|(index, _)| index + 1)).collect();
        let shown = match printable(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(shown),
        };
        Self { name: name.into(), text, shown, line_starts }
    }

    /// A source from the bytes of a file.
    ///
    /// # Errors
    /// [`NotUtf8`] with the text before the first wrong byte.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, NotUtf8> {
        let (text, byte) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let (valid, rest) = bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), rest.first().copied())
            }
        };
        let source = Self::new(name, text);
        match byte {
            None => Ok(source),
            Some(byte) => Err(NotUtf8 { valid: source, byte }),
        }
    }

    /// Name as the user gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole text, fit for a terminal, byte for byte as long.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or(&self.text)
    }

    /// The place of `span`, which is moved into the text and onto character boundaries if need be.
    #[must_use]
    pub fn locate(&self, span: Range<usize>) -> Location {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.ceil_char_boundary(span.end).max(start);
        let line = self.line_starts.partition_point(|line_start| *line_start <= start).max(1);
        let line_start = self.line_starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(line_start..start).unwrap_or_default();
        Location { line, column: before.chars().count() + 1, span: start..end }
    }

    /// The text of a line, the first being 1, without its end; empty if there is no such line.
    #[must_use]
    pub fn line(&self, line: usize) -> &str {
        let start = line.checked_sub(1).and_then(|index| self.line_starts.get(index));
        let start = start.copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line)
    }
}

/// `text` with everything replaced that could command a terminal, byte for byte as long so that
/// spans stay true. Line ends and tabs stay.
#[must_use]
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let hostile = |index: usize, character: char| match character {
        '\n' | '\t' => false,
        // Alone it goes back to the start of the line, and what follows hides what was there.
        '\r' => text.as_bytes().get(index + 1) != Some(&b'\n'),
        // These turn the direction of writing, or end lines in some terminals.
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    };
    if !text.char_indices().any(|(index, character)| hostile(index, character)) {
        return Cow::Borrowed(text);
    }
    let replaced = text.char_indices().map(|(index, character)| {
        match (hostile(index, character), character.len_utf8()) {
            (false, _) => character,
            (true, 1) => '?',
            (true, 2) => '\u{b7}',
            (true, _) => '\u{fffd}',
        }
    });
    Cow::Owned(replaced.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_columns_in_characters() {
        let source = Source::new("a", "\u{feff}é = 1\r\nb = 2\n");
        for (span, line, column) in [
            (0..1, 1, 1),
            (2..3, 1, 2),
            (8..9, 2, 1),
            (14..14, 3, 1),
            (99..120, 3, 1),
            (1..2, 1, 1),
        ] {
            let location = source.locate(span.clone());
            assert_eq!((location.line, location.column), (line, column), "{span:?}");
            assert!(source.text().get(location.span).is_some());
        }
        assert_eq!(source.line(1), "é = 1");
        assert_eq!(source.line(2), "b = 2");
        assert_eq!((source.line(3), source.line(4), source.line(0)), ("", "", ""));
    }

    #[test]
    fn bytes_that_are_no_text_are_placed() {
        let error = Source::from_bytes("a", b"a = 1\nb = \xff").expect_err("not UTF-8");
        assert_eq!(error.to_string(), "the byte 0xff in line 2 is not UTF-8");
        assert_eq!(error.valid.text(), "a = 1\nb = ");
        assert_eq!(Source::from_bytes("a", b"a = 1").expect("text").text(), "a = 1");
    }

    #[test]
    fn terminals_are_not_commanded() {
        let hostile = "a\u{1b}[2J\u{9b}b\u{202e}\tc\rd\r\n";
        let shown = printable(hostile);
        assert_eq!(shown, "a?[2J\u{b7}b\u{fffd}\tc?d\r\n");
        assert_eq!(shown.len(), hostile.len());
    }
}
