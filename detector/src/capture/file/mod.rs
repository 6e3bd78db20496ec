//! Capture files: pcap and pcapng, plain or compressed with gzip.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. Headers and options are read by
//! `pcap-parser`; records are framed here, because their offsets must be named when they are
//! damaged, because a length field must not decide how much memory is taken, and because the
//! library allocates for every packet that carries options.
//!
//! Memory is one window of 256 KiB that grows to the longest record, at most [`MAX_BLOCK`]. What
//! libpcap's own reader repairs silently is an error here, with the byte offset of the record; the
//! frames before it have been delivered then.
//!
//! Time never runs backwards. A frame that is up to a second earlier than the one before it is given
//! the time of that one. If it is earlier by more, the clock was set back or another capture was
//! appended, and time goes on from there with the distances of the file. A jump of more than five
//! years in either direction is an error. A pcapng simple packet block carries no time and takes
//! that of the frame before it.

#![deny(clippy::indexing_slicing)]

mod clock;
mod magic;
mod pcap;
mod pcapng;
mod window;

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tidegate_model::Timestamp;

use self::clock::Clock;
use self::pcap::Pcap;
use self::pcapng::PcapNg;
use self::window::Window;
use super::{CaptureError, Jump, OffsetOf};
use crate::packet::LinkType;

/// Longest frame in a file, in bytes: the largest snapshot length of libpcap. A longer one is
/// corrupt.
pub const MAX_FRAME: u32 = 262_144;

/// Longest pcapng block, in bytes. A longer one is corrupt.
pub const MAX_BLOCK: u32 = 16 << 20;

/// Longest original length that a frame may claim, in bytes. A longer one is corrupt.
pub const MAX_WIRE_LENGTH: u32 = 16 << 20;

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was captured, in nanoseconds since the Unix epoch. Never before an earlier frame.
    pub time: Timestamp,
    /// What it begins with.
    pub link: LinkType,
    /// Its bytes, as many as were captured.
    pub data: &'a [u8],
    /// Its length on the wire, in bytes.
    pub wire_length: u32,
}

/// A record of a file: a frame that lies at `data` in the window.
#[derive(Debug)]
struct Record {
    offset: u64,
    /// Nanoseconds since the Unix epoch; `None` if the record carries no time.
    time: Option<i128>,
    link: LinkType,
    data: Range<usize>,
    wire_length: u32,
    /// Which interface's clock the time is of.
    interface: usize,
}

/// What is wrong with a record.
#[derive(Debug)]
enum Damage {
    /// The file ends inside it.
    Truncated(u64),
    /// It contradicts itself.
    Corrupt(u64, String),
    /// It cannot be read.
    Read(u64, io::Error),
    /// All frames are of this link type, which cannot be read.
    LinkType(u32),
    /// Its time is impossible.
    Time(u64, Jump),
}

/// Where the bytes come from.
type Source = Counting<io::Chain<Cursor<Vec<u8>>, File>>;

/// Counts what is read through it.
#[derive(Debug)]
struct Counting<R> {
    from: R,
    count: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(to)?;
        self.count += length as u64;
        Ok(length)
    }
}

#[derive(Debug)]
enum Input {
    Plain(Source),
    Gzip(Box<MultiGzDecoder<Source>>),
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(to),
            Self::Gzip(decoder) => decoder.read(to),
        }
    }
}

impl Input {
    fn bytes_read(&self) -> u64 {
        match self {
            Self::Plain(source) => source.count,
            Self::Gzip(decoder) => decoder.get_ref().count,
        }
    }
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// What was odd about a file, yet no reason to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Frames that came out of order and were given the time of the frame before them.
    pub reordered: u64,
    /// Times that the capturing clock was set back; frames after it go on from there.
    pub clock_set_back: u64,
    /// Frames left out because their interface has a link type that cannot be read.
    pub unreadable: u64,
}

/// A capture file that is being read.
#[derive(Debug)]
pub struct CaptureFile {
    path: PathBuf,
    total_bytes: u64,
    window: Window<Input>,
    format: Format,
    clock: Clock,
    delivered: bool,
    ended: bool,
}

impl CaptureFile {
    /// Opens `path` and reads its first header. What the file is shows in its contents; its name
    /// means nothing.
    ///
    /// # Errors
    /// [`CaptureError::Open`], [`CaptureError::NotACapture`], [`CaptureError::LinkType`], and
    /// [`CaptureError::Truncated`] or [`CaptureError::Corrupt`] for a damaged header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let path = path.as_ref();
        let fail = |source| CaptureError::Open { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        let mut head = Vec::new();
        (&mut file).take(2).read_to_end(&mut head).map_err(fail)?;
        let compressed = head == magic::GZIP;
        let source = Counting { from: Cursor::new(head).chain(file), count: 0 };
        let input = if compressed {
            Input::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else {
            Input::Plain(source)
        };
        let mut window = Window::new(input);
        let of = offset_of(compressed);
        let format = begin(path, &mut window, compressed)?
            .map_err(|damage| describe(path.to_owned(), of, damage))?;
        Ok(Self {
            path: path.to_owned(),
            total_bytes: metadata.len(),
            window,
            format,
            clock: Clock::default(),
            delivered: false,
            ended: false,
        })
    }

    /// The next frame; `None` at the end. After an error there are no more frames.
    ///
    /// # Errors
    /// [`CaptureError::Truncated`], [`CaptureError::Corrupt`], [`CaptureError::Time`] and
    /// [`CaptureError::Read`], each with the offset of the record.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        match self.next_record() {
            Ok(Some((record, time))) => {
                self.delivered = true;
                let data = self.window.slice(record.data);
                let Record { link, wire_length, .. } = record;
                Ok(Some(Frame { time, link, data, wire_length }))
            }
            Ok(None) => {
                self.ended = true;
                Ok(None)
            }
            Err(damage) => {
                self.ended = true;
                let of = offset_of(matches!(self.window.source(), Input::Gzip(_)));
                Err(describe(self.path.clone(), of, damage))
            }
        }
    }

    fn next_record(&mut self) -> Result<Option<(Record, Timestamp)>, Damage> {
        let record = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window)?,
            Format::PcapNg(pcapng) => pcapng.next(&mut self.window)?,
        };
        let Some(record) = record else {
            // A file with nothing but unreadable frames must not look like a quiet network.
            return match self.format.unreadable() {
                Some(number) if !self.delivered => Err(Damage::LinkType(number)),
                _ => Ok(None),
            };
        };
        let time = self
            .clock
            .admit(record.interface, record.time)
            .map_err(|jump| Damage::Time(record.offset, jump))?;
        Ok(Some((record, time)))
    }

    /// Bytes of the file that have been read, compressed ones if it is compressed.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.window.source().bytes_read()
    }

    /// Length of the file, compressed if it is compressed. Zero if it is a pipe.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// What was odd so far.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        let unreadable = match &self.format {
            Format::Pcap(_) => 0,
            Format::PcapNg(pcapng) => pcapng.unreadable_frames(),
        };
        Oddities {
            reordered: self.clock.reordered(),
            clock_set_back: self.clock.set_back(),
            unreadable,
        }
    }
}

impl Format {
    /// A link type that frames were left out for.
    fn unreadable(&self) -> Option<u32> {
        match self {
            Self::Pcap(_) => None,
            Self::PcapNg(pcapng) => pcapng.unreadable(),
        }
    }
}

/// Finds out the format by the first bytes.
fn begin(
    path: &Path,
    window: &mut Window<Input>,
    compressed: bool,
) -> Result<Result<Format, Damage>, CaptureError> {
    let not_a_capture = |found| CaptureError::NotACapture { path: path.to_owned(), found };
    match window.ensure(4) {
        Ok(_) => {}
        // Two bytes of gzip magic and then nothing that gzip could have written.
        Err(error) if magic::is_bad_data(&error) => {
            return Err(not_a_capture(format!("it begins like gzip, but is not: {error}")));
        }
        Err(error) => return Ok(Err(read_damage(0, error))),
    }
    let head = window.data();
    let magic = head.first_chunk::<4>().copied().unwrap_or_default();
    Ok(if pcapng::is_magic(magic) {
        Ok(Format::PcapNg(PcapNg::new()))
    } else if pcap::is_magic(magic) {
        Pcap::open(window).map(Format::Pcap)
    } else {
        // More of it makes a better description; a failure to get it changes nothing.
        let _ = window.ensure(magic::DESCRIBED);
        return Err(not_a_capture(magic::describe(window.data(), compressed)));
    })
}

fn offset_of(compressed: bool) -> OffsetOf {
    if compressed { OffsetOf::Decompressed } else { OffsetOf::File }
}

/// What failed to be read is truncated, corrupt or unreadable.
fn read_damage(offset: u64, error: io::Error) -> Damage {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Damage::Truncated(offset)
    } else if magic::is_bad_data(&error) {
        Damage::Corrupt(offset, format!("gzip cannot decompress it: {error}"))
    } else {
        Damage::Read(offset, error)
    }
}

/// Ensures that the window holds `length` bytes of the record at its start.
fn require(window: &mut Window<Input>, length: usize) -> Result<(), Damage> {
    let offset = window.offset();
    match window.ensure(length) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Damage::Truncated(offset)),
        Err(error) => Err(read_damage(offset, error)),
    }
}

/// The same for the first bytes of a record; false if the file ends before it.
fn require_start(window: &mut Window<Input>, length: usize) -> Result<bool, Damage> {
    let offset = window.offset();
    match window.ensure(length) {
        Ok(true) => Ok(true),
        Ok(false) if window.data().is_empty() => Ok(false),
        Ok(false) => Err(Damage::Truncated(offset)),
        Err(error) => Err(read_damage(offset, error)),
    }
}

/// Checks the two lengths that every packet record has.
fn check_lengths(offset: u64, captured: u32, original: u32) -> Result<(), Damage> {
    if captured > MAX_FRAME {
        return Err(Damage::Corrupt(
            offset,
            format!("a frame of {captured} bytes; the longest possible is {MAX_FRAME}"),
        ));
    }
    if original > MAX_WIRE_LENGTH {
        return Err(Damage::Corrupt(
            offset,
            format!(
                "an original length of {original} bytes; the longest possible is {MAX_WIRE_LENGTH}"
            ),
        ));
    }
    Ok(())
}

fn describe(path: PathBuf, of: OffsetOf, damage: Damage) -> CaptureError {
    match damage {
        Damage::Truncated(offset) => CaptureError::Truncated { path, offset, of },
        Damage::Corrupt(offset, what) => CaptureError::Corrupt { path, offset, of, what },
        Damage::Read(offset, source) => CaptureError::Read { path, offset, of, source },
        Damage::LinkType(number) => CaptureError::LinkType { path, number },
        Damage::Time(offset, what) => CaptureError::Time { path, offset, of, what },
    }
}
