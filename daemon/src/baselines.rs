//! What the detector has learned, kept in a file of the state directory.
//!
//! The engine task copies it once in a while, never while there is an attack, and another thread
//! writes. A file that cannot be read or written costs what was learned, and nothing else.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tidegate_detector::SavedBaselines;
use tidegate_model::Timestamp;

use crate::engine::Engine;

/// Name of the file.
const FILE: &str = "baselines.json";
/// The longest file that is read: three times what the most hosts take.
const MAX_BYTES: u64 = 1 << 30;
/// How often it is written.
const INTERVAL: Duration = Duration::from_secs(900);
/// How long the last writing may take at the end.
const FINISH: Duration = Duration::from_secs(5);

/// Writes what was learned, now and then.
pub struct Keeper {
    saves: Option<SyncSender<SavedBaselines>>,
    ended: Receiver<()>,
    due: Timestamp,
}

/// Reads the file in `directory` into `engine`, and starts the thread that writes it; without a
/// directory nothing is kept.
///
/// # Errors
/// If there can be no more threads.
pub fn start(
    directory: Option<&Path>,
    engine: &mut Engine,
    now: Timestamp,
) -> io::Result<Option<Keeper>> {
    directory.map(|directory| Keeper::start(directory, engine, now)).transpose()
}

impl Keeper {
    fn start(directory: &Path, engine: &mut Engine, now: Timestamp) -> io::Result<Self> {
        let path = directory.join(FILE);
        restore(&path, engine);
        // One is written while the next may wait. A slow disk makes the one after that late.
        let (saves, queue) = sync_channel::<SavedBaselines>(1);
        // Nothing is ever sent here.
        let (running, ended) = sync_channel::<()>(0);
        std::thread::Builder::new().name("baselines".to_owned()).spawn(move || {
            let _running = running;
            for saved in queue {
                if let Err(error) = write(&path, &saved) {
                    let file = path.display();
                    tracing::warn!(%file, %error, "cannot write what was learned");
                }
            }
        })?;
        Ok(Self { saves: Some(saves), ended, due: now + INTERVAL })
    }

    /// Has it written if it is time. Never waits.
    pub fn tick(&mut self, engine: &Engine, now: Timestamp) {
        let Some(saves) = &self.saves else { return };
        // During an attack there is better to do; what is learned stands still then.
        if now < self.due || engine.attacks().next().is_some() {
            return;
        }
        self.due = now + INTERVAL;
        let _ = saves.try_send(engine.detector().save_baselines());
    }

    /// Has it written for the last time, and waits for that, a little.
    pub fn finish(mut self, engine: &Engine) {
        if let Some(saves) = self.saves.take() {
            let _ = saves.try_send(engine.detector().save_baselines());
        }
        if self.ended.recv_timeout(FINISH) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk is slow: what was learned last may be lost");
        }
    }
}

fn restore(path: &Path, engine: &mut Engine) {
    let restored = match read(path) {
        Ok(saved) => engine.restore_baselines(&saved).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Err(format!("{error}; learning starts from nothing")),
    };
    if let Err(error) = restored {
        tracing::warn!(file = %path.display(), error, "cannot use what was learned before");
    }
}

fn read(path: &Path) -> io::Result<SavedBaselines> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(serde_json::from_reader(BufReader::new(file))?)
}

/// Whole or not at all: beside it first, then in its place.
fn write(path: &Path, saved: &SavedBaselines) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let beside: PathBuf = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&beside)?);
    serde_json::to_writer(&mut file, saved)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join(FILE);
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let saved = SavedBaselines { version: 1, hosts: Vec::new(), groups: Vec::new() };
        write(&path, &saved).unwrap();
        write(&path, &saved).unwrap();
        assert_eq!(read(&path).unwrap(), saved);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::write(&path, "{\"version\":1").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("EOF"));
        assert!(write(Path::new("/proc/self/baselines.json"), &saved).is_err());
    }
}
