//! A sliding window over a stream of bytes.

use std::io::{self, Read};
use std::ops::Range;

/// Bytes that the window holds at first. More only for a record that is longer.
pub(super) const START_SIZE: usize = 1 << 18;

/// Most bytes asked for at once: what a decompressor that finds its input corrupt may lose.
const READ_SIZE: usize = 1 << 16;

/// The bytes that have been read and not yet consumed.
#[derive(Debug)]
pub(super) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `start` in the stream.
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; START_SIZE], start: 0, end: 0, offset: 0 }
    }

    pub(super) fn source(&self) -> &R {
        &self.source
    }

    /// Offset of the first byte of the window.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is in the window.
    pub(super) fn data(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// What lies at `range`, as [`Window::consume`] named it.
    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// Reads until the window holds `length` bytes; false if the stream ends before.
    ///
    /// The caller bounds `length`: the window grows to it.
    ///
    /// # Errors
    /// As the stream says. What was read before stays in the window.
    #[inline]
    pub(super) fn ensure(&mut self, length: usize) -> io::Result<bool> {
        if self.end - self.start >= length { Ok(true) } else { self.fill(length) }
    }

    #[cold]
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        if self.start + length > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if length > self.buffer.len() {
                self.buffer.resize(length.next_power_of_two(), 0);
            }
        }
        while self.end - self.start < length {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            let most = room.len().min(READ_SIZE);
            match self.source.read(room.get_mut(..most).unwrap_or_default()) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves past `length` bytes of the window and names where they lie until the next `ensure`.
    #[inline]
    pub(super) fn consume(&mut self, length: usize) -> Range<usize> {
        let from = self.start;
        let length = length.min(self.end - self.start);
        self.start += length;
        self.offset += length as u64;
        from..self.start
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            (&mut self.0).take(1).read(to)
        }
    }

    #[test]
    fn slides_and_grows() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
        let mut window = Window::new(bytes.as_slice());
        let mut at = 0;
        for length in [1, 7, START_SIZE, 300_001, 16, 100_000] {
            assert!(window.ensure(length).unwrap());
            assert_eq!(window.offset(), at as u64);
            let range = window.consume(length);
            assert_eq!(window.slice(range), &bytes[at..at + length], "{length}");
            at += length;
        }
        assert!(!window.ensure(bytes.len()).unwrap());
        assert_eq!(window.data(), &bytes[at..]);
    }

    #[test]
    fn short_reads_are_put_together() {
        let mut window = Window::new(Slow(b"abcdef"));
        assert!(window.ensure(4).unwrap());
        assert_eq!(window.data(), b"abcd");
        window.consume(3);
        assert!(!window.ensure(4).unwrap());
        assert_eq!(window.data(), b"def");
    }
}
