//! Capture files in the pcap format (draft-ietf-opsawg-pcap), nanosecond precision.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use tidegate_model::Timestamp;

use super::Packets;

/// Magic number of a file with nanosecond timestamps.
const MAGIC: u32 = 0xa1b2_3c4d;

/// LINKTYPE_ETHERNET.
const LINK_TYPE: u32 = 1;

/// Writes frames into a capture.
#[derive(Debug)]
pub struct CaptureWriter<W: Write> {
    to: W,
    epoch: Duration,
    snap_length: u32,
}

impl CaptureWriter<BufWriter<File>> {
    /// Where the clock of generated captures begins: 2023-11-14 22:13:20 UTC.
    pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

    /// Creates the file `path`, replacing what is there.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create(path: &Path, snap_length: u32) -> io::Result<Self> {
        let to = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Self::new(to, Self::EPOCH, snap_length)
    }
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the file header. `epoch` is the Unix time of offset zero; of each frame at most
    /// `snap_length` octets are kept.
    ///
    /// # Errors
    /// As `to` says.
    pub fn new(mut to: W, epoch: Duration, snap_length: u32) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&MAGIC.to_le_bytes());
        // Version 2.4, then two fields that are always zero.
        header.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        header.extend_from_slice(&snap_length.to_le_bytes());
        header.extend_from_slice(&LINK_TYPE.to_le_bytes());
        to.write_all(&header)?;
        Ok(Self { to, epoch, snap_length })
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// As the underlying writer says.
    pub fn write(&mut self, time: Timestamp, frame: &[u8]) -> io::Result<()> {
        let time = self.epoch + time.since(Timestamp::ZERO);
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let original = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let captured = original.min(self.snap_length);
        let mut header = [0; 16];
        for (to, value) in
            header.chunks_exact_mut(4).zip([seconds, time.subsec_nanos(), captured, original])
        {
            to.copy_from_slice(&value.to_le_bytes());
        }
        self.to.write_all(&header)?;
        let kept = usize::try_from(captured).ok().and_then(|length| frame.get(..length));
        self.to.write_all(kept.unwrap_or(frame))
    }

    /// Appends every packet that is left and returns how many there were.
    ///
    /// # Errors
    /// As the underlying writer says.
    pub fn write_all(&mut self, packets: &mut Packets) -> io::Result<u64> {
        let mut count = 0;
        while let Some(packet) = packets.next_packet() {
            self.write(packet.time, packet.frame)?;
            count += 1;
        }
        Ok(count)
    }

    /// Writes what is buffered and returns the underlying writer.
    ///
    /// # Errors
    /// As the underlying writer says.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}
