//! A cursor over the message that never reads past its part of it.

use super::refusal::Refusal;

/// A part of the message, and where it lies.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message, offset: 0 }
    }

    /// Octets from the start of the message.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn malformed(&self, why: impl Into<String>) -> Refusal {
        Refusal::Malformed { offset: self.offset, why: why.into() }
    }

    /// The next `count` octets as a part of their own.
    pub(super) fn part(&mut self, count: usize, what: &str) -> Result<Self, Refusal> {
        let Some((part, rest)) = self.rest.split_at_checked(count) else {
            return Err(self
                .malformed(format!("{what} needs {count} octets, {} are left", self.rest.len())));
        };
        let taken = Self { rest: part, offset: self.offset };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    /// The next octets as an array.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Refusal> {
        let Some((octets, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(
                self.malformed(format!("{what} needs {N} octets, {} are left", self.rest.len()))
            );
        };
        self.rest = rest;
        self.offset += N;
        Ok(*octets)
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, Refusal> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, Refusal> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Refusal> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Refuses octets that nothing has read.
    pub(super) fn end(&self, what: &str) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed(format!("{} octets left over in {what}", self.rest.len())))
        }
    }
}
