//! Packets of each incident, in a file beside those of the incidents before.
//!
//! ```text
//!  capture threads --segments--> forensics thread --> tidegate-TIME-ID-TARGET.pcapng
//!  engine task ----attacks---------^     |
//!                                        +--notes--> printer
//! ```
//!
//! Both queues are bounded, and nobody waits for this thread or its disk: what finds no room is not
//! written, and said so. A file that cannot be written is given up and removed; that is said once,
//! until one can be written again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tidegate_detector::forensics::{
    Budget, FileLimits, IncidentFile, IncidentHeader, Ring, Segment,
};
use tidegate_detector::packet::Tunnels;
use tidegate_model::{Attack, AttackEvent, AttackId, EndReason};
use tidegate_policy::Revision;

use crate::clock::WallOrigin;

mod rotation;
mod thread;

#[cfg(test)]
mod tests;

pub use thread::{Desk, start};

/// Files that are written at the same time. An incident beyond that has none.
const MAX_OPEN: usize = 64;

/// Where files go, and how much they may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory.
    pub directory: PathBuf,
    /// How long before the onset packets are kept.
    pub before: Duration,
    /// Bytes of memory for them.
    pub ring_bytes: u64,
    /// How much one file takes.
    pub file: FileLimits,
    /// Files that are kept; the oldest go first.
    pub max_files: u64,
    /// Bytes of all files together.
    pub max_bytes: u64,
    /// How long a file is kept.
    pub max_age: Duration,
}

impl Settings {
    /// The usual settings for `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            before: Duration::from_secs(30),
            ring_bytes: 64 << 20,
            file: FileLimits::default(),
            max_files: 1000,
            max_bytes: 4 << 30,
            max_age: Duration::from_secs(30 * 24 * 3600),
        }
    }

    /// How much is copied: what fills the memory in the time that is kept, and at once no more than
    /// an eighth of it.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let rate = self.ring_bytes / self.before.as_secs().max(1);
        Budget { rate, burst: self.ring_bytes / 8 }
    }
}

/// Something worth telling.
#[derive(Debug)]
pub enum Note {
    /// The packets of an attack are in a file.
    Written {
        /// Of which attack.
        attack: AttackId,
        /// Where.
        path: PathBuf,
        /// How many.
        packets: u64,
    },
    /// The packets of an attack are lost. Said once until a file is written.
    Failed {
        /// Of which attack.
        attack: AttackId,
        /// What failed, where.
        message: String,
    },
}

impl Note {
    /// Its name, what it says to people, and its fields.
    #[must_use]
    pub fn describe(&self) -> (&'static str, String, serde_json::Value) {
        match self {
            Self::Written { attack, path, packets } => (
                "forensics",
                format!("{packets} packets of {attack} are in {}", path.display()),
                json!({ "attack": attack.to_string(), "path": path, "packets": packets }),
            ),
            Self::Failed { attack, message } => (
                "forensics-failed",
                format!("the packets of {attack} are lost: {message}"),
                json!({ "attack": attack.to_string(), "error": message }),
            ),
        }
    }
}

/// What the files say besides the packets.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names of the interfaces, by number.
    pub interfaces: Vec<String>,
    /// Tunnels inside which the target is looked for.
    pub tunnels: Tunnels,
    /// How timestamps relate to wall time.
    pub wall: WallOrigin,
}

/// A file that is being written.
struct Open {
    file: IncidentFile,
    output: File,
    path: PathBuf,
}

/// The files, without a thread: what `replay` uses as it is.
pub struct Archive {
    settings: Settings,
    context: Context,
    ring: Ring,
    open: BTreeMap<AttackId, Open>,
    /// Failures are not said again before a file is written.
    failing: bool,
    notes: Vec<Note>,
    create: fn(&Path) -> io::Result<File>,
}

impl Archive {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or no file can be made in it.
    pub fn open(settings: Settings, context: Context) -> io::Result<Self> {
        fs::create_dir_all(&settings.directory)?;
        let probe = settings.directory.join(format!(".tidegate-{}", std::process::id()));
        create(&probe)?;
        fs::remove_file(&probe)?;
        let ring_bytes = usize::try_from(settings.ring_bytes).unwrap_or(usize::MAX);
        let ring = Ring::new(settings.before, ring_bytes);
        let (open, notes) = (BTreeMap::new(), Vec::new());
        Ok(Self { settings, context, ring, open, failing: false, notes, create })
    }

    /// How much is to be copied.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.settings.budget()
    }

    /// Takes in copied packets.
    pub fn handle_segment(&mut self, segment: Segment) {
        let mut bytes = Vec::new();
        let mut done = Vec::new();
        let mut failed = Vec::new();
        for (attack, open) in &mut self.open {
            bytes.clear();
            open.file.append(&segment, &self.context.interfaces, &mut bytes);
            if let Err(error) = open.output.write_all(&bytes) {
                failed.push((*attack, error));
            } else if open.file.is_full() {
                done.push(*attack);
            }
        }
        for (attack, error) in failed {
            self.give_up(attack, &error);
        }
        for attack in done {
            self.finish(attack, "the file reached its limit while the attack went on");
        }
        self.ring.push(segment);
    }

    /// Begins a file with an attack, and ends it with the attack. `policy` is the state of
    /// the policy repository that was in force, if the policy is from one.
    pub fn handle_attack(&mut self, event: &AttackEvent, policy: Option<&Revision>) {
        match event {
            AttackEvent::Started(attack) => self.begin(attack, policy),
            AttackEvent::Updated(_) => {}
            AttackEvent::Ended(attack, reason) => self.finish(attack.id, &ending(attack, *reason)),
        }
    }

    /// Ends every file: there are no more packets.
    pub fn finish_all(&mut self) {
        while let Some((attack, _)) = self.open.first_key_value() {
            self.finish(*attack, "tidegate stopped while the attack went on");
        }
    }

    /// What there is to tell.
    pub fn poll_notes(&mut self) -> impl Iterator<Item = Note> {
        self.notes.drain(..)
    }

    fn begin(&mut self, attack: &Attack, policy: Option<&Revision>) {
        let name = self.name(attack);
        let path = self.settings.directory.join(name);
        if self.open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} files are being written already");
            return self.fail(attack.id, message);
        }
        rotation::rotate(&self.settings, &self.open_paths());
        let mut bytes = Vec::new();
        let Context { interfaces, tunnels, .. } = &self.context;
        let header = self.header(attack, policy);
        let limits = self.settings.file;
        let file =
            IncidentFile::begin(header, limits, *tunnels, &self.ring, interfaces, &mut bytes);
        let written = (self.create)(&path).and_then(|mut output| {
            output.write_all(&bytes).inspect_err(|_| remove(&path))?;
            Ok(output)
        });
        match written {
            Ok(output) => {
                self.open.insert(attack.id, Open { file, output, path });
            }
            Err(error) => self.fail(attack.id, format!("cannot write {}: {error}", path.display())),
        }
    }

    fn finish(&mut self, attack: AttackId, comment: &str) {
        let Some(mut open) = self.open.remove(&attack) else { return };
        let packets = open.file.packets();
        let mut bytes = Vec::new();
        open.file.finish(comment, &mut bytes);
        match open.output.write_all(&bytes).and_then(|()| open.output.sync_all()) {
            Ok(()) => {
                self.failing = false;
                self.notes.push(Note::Written { attack, path: open.path, packets });
            }
            Err(error) => {
                remove(&open.path);
                self.fail(attack, format!("cannot write {}: {error}", open.path.display()));
            }
        }
        rotation::rotate(&self.settings, &self.open_paths());
    }

    fn give_up(&mut self, attack: AttackId, error: &io::Error) {
        let Some(open) = self.open.remove(&attack) else { return };
        remove(&open.path);
        self.fail(attack, format!("cannot write {}: {error}", open.path.display()));
    }

    fn fail(&mut self, attack: AttackId, message: String) {
        if !std::mem::replace(&mut self.failing, true) {
            self.notes.push(Note::Failed { attack, message });
        }
    }

    fn open_paths(&self) -> Vec<PathBuf> {
        self.open.values().map(|open| open.path.clone()).collect()
    }

    /// Sorts by time, and says what it is about.
    fn name(&self, attack: &Attack) -> String {
        let time = self.context.wall.at(attack.detected).strftime("%Y%m%dT%H%M%S%.3fZ");
        let target = attack.target.to_string().replace('/', "-").replace(':', "_");
        format!("{}{time}-{}-{target}{}", rotation::PREFIX, attack.id, rotation::SUFFIX)
    }

    fn header(&self, attack: &Attack, policy: Option<&Revision>) -> IncidentHeader {
        let wall = self.context.wall;
        let commit = policy.map_or_else(|| "not known".to_owned(), ToString::to_string);
        let vectors: Vec<String> = attack
            .vectors
            .iter()
            .map(|found| format!("{} (confidence {})", found.vector, found.confidence))
            .collect();
        IncidentHeader {
            target: attack.target,
            onset: wall.nanos_at(attack.onset),
            comment: format!(
                "{} on {}, group {}: {}; onset {}, detected {}; policy commit: {commit}",
                attack.id,
                attack.target,
                attack.group,
                vectors.join(", "),
                wall.rfc3339(attack.onset),
                wall.rfc3339(attack.detected),
            ),
            onset_comment: format!("onset of {}", attack.id),
            program: concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

fn ending(attack: &Attack, reason: EndReason) -> String {
    let vectors: Vec<String> =
        attack.vectors.iter().map(|found| found.vector.to_string()).collect();
    format!("ended: {reason}; vectors: {}; {} packets", vectors.join(", "), attack.packets)
}

/// Only the owner may read what others sent.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// What cannot be removed is left to the rotation.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}
