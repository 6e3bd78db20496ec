//! Reading the policy again while the daemon runs.
//!
//! A thread of its own reads and checks: disks and Git take their time, and a mitigation waits for
//! neither. What does not check, or cannot be taken without a restart, is refused with its reason,
//! and what is in force stays.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tidegate_policy::{Policy, Tree};
use tokio::sync::mpsc;

use crate::config::{self, Config, Reload};
use crate::policy_repo::{LoadError, Look};

/// How often the directory is looked at, and how long it must have stayed the same. Looking, not
/// being notified: that works on network file systems and behind links that are switched.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long the directory must have stayed the same when somebody asks for it to be read: editors
/// and `git checkout` write one file after the other.
const QUIET: Duration = Duration::from_millis(200);

/// Answers that wait for the engine.
const ANSWERS: usize = 4;

/// What came of reading the policy again.
#[derive(Debug)]
pub enum Reloaded {
    /// It is to be in force now.
    Policy(Arc<Policy>),
    /// It is what is in force already.
    Same,
    /// It is not taken.
    Refused(String),
}

/// What reads the policy again.
pub struct Reloader {
    requests: SyncSender<u64>,
    /// Number of the last request that found room.
    last: u64,
    answers: mpsc::Receiver<(u64, Reloaded)>,
    /// The thread is gone, and that was said.
    gone: bool,
}

impl Reloader {
    /// Starts the thread. `path` is the file of `config`, for messages; `policy` is in force.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(config: Config, path: PathBuf, policy: Arc<Policy>) -> io::Result<Self> {
        let (requests, queue) = sync_channel(1);
        let (sender, answers) = mpsc::channel(ANSWERS);
        let seen = config.policy.look();
        let reader = Reader { config, path, policy, seen: seen.clone(), last: seen };
        thread::Builder::new().name("policy".to_owned()).spawn(move || {
            reader.run(&queue, &sender);
        })?;
        Ok(Self { requests, last: 0, answers, gone: false })
    }

    /// Asks for the policy to be read. One answer follows, also to several requests at once: it
    /// bears the number that is returned, or a later one.
    pub fn request(&mut self) -> u64 {
        // A full queue holds a request that is not being read yet; that the thread is gone the
        // answer says.
        if self.requests.try_send(self.last + 1).is_ok() {
            self.last += 1;
        }
        self.last
    }

    /// The next answer, with the number of the latest request that it answers. Never ends.
    pub async fn answer(&mut self) -> (u64, Reloaded) {
        if !self.gone {
            if let Some(answer) = self.answers.recv().await {
                return answer;
            }
            self.gone = true;
            tracing::error!(
                "the thread that reads the policy is gone: what is in force stays until tidegate is \
                 restarted"
            );
        }
        std::future::pending().await
    }
}

/// The thread's state.
struct Reader {
    config: Config,
    path: PathBuf,
    /// In force.
    policy: Arc<Policy>,
    /// The state of the directory that was dealt with last.
    seen: Option<Look>,
    /// Its state one look ago.
    last: Option<Look>,
}

impl Reader {
    fn run(mut self, requests: &Receiver<u64>, answers: &mpsc::Sender<(u64, Reloaded)>) {
        let mut answered = 0;
        loop {
            let asked = match requests.recv_timeout(LOOK_INTERVAL) {
                Ok(number) => {
                    answered = number;
                    true
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.config.reload == Reload::Watch && self.changed()
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if asked && answers.blocking_send((answered, self.read())).is_err() {
                return;
            }
        }
    }

    /// Whether there is a new state that has stayed the same for one look. Changes to a checkout
    /// that are not committed are somebody's work in progress.
    fn changed(&mut self) -> bool {
        let look = self.config.policy.look();
        let settled = look == self.last;
        self.last.clone_from(&look);
        let revision = look.as_ref().and_then(|look| look.revision.as_ref());
        let finished = revision.is_none_or(|revision| revision.state == Tree::Clean);
        look.is_some() && look != self.seen && settled && finished
    }

    fn read(&mut self) -> Reloaded {
        let before = self.config.policy.look();
        thread::sleep(QUIET);
        let policy = self.load();
        self.seen = self.config.policy.look();
        if before != self.seen {
            return Reloaded::Refused(format!(
                "{} was being written while it was read; ask again when it is complete",
                self.config.policy.directory.display(),
            ));
        }
        match policy {
            Ok(policy) if policy == *self.policy => Reloaded::Same,
            Ok(policy) => {
                self.policy = Arc::new(policy);
                Reloaded::Policy(Arc::clone(&self.policy))
            }
            Err(why) => Reloaded::Refused(why),
        }
    }

    fn load(&self) -> Result<Policy, String> {
        let policy = self.config.policy.load(self.policy.revision.as_ref());
        let policy = policy.map_err(|error| LoadError::into_report(error).to_string())?;
        config::check_against(&self.config, &policy, &self.path).map_err(|it| it.to_string())?;
        match needs_restart(&self.policy, &policy) {
            Some(what) => Err(format!(
                "{what} cannot change while sessions are up; restart tidegate to take the policy",
            )),
            None => Ok(policy),
        }
    }
}

/// What of `next` cannot be taken without a restart.
fn needs_restart(policy: &Policy, next: &Policy) -> Option<String> {
    if policy.speaker != next.speaker {
        return Some("`[speaker]`".to_owned());
    }
    let changed = next.peers.iter().find(|peer| !policy.peers.contains(peer));
    let gone = policy.peers.iter().find(|peer| next.peer(&peer.name).is_none());
    changed.or(gone).map(|peer| format!("peer `{}`", peer.name))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::policy_repo::PolicyRepo;

    const TEXT: &str = "[speaker]\nas = 65010\nrouter-id = \"10.99.0.1\"\n\
                        [owned]\nprefixes = [\"203.0.113.0/24\"]\n";

    /// A reader of a directory of its own.
    fn reader(text: &str) -> (TempDir, Reader) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("policy.toml"), text).unwrap();
        let policy = PolicyRepo::new(folder.path().to_owned());
        let in_force = Arc::new(policy.load(None).unwrap());
        let config = Config {
            policy,
            reload: Reload::Watch,
            user: None,
            capture: Default::default(),
            tunnels: Default::default(),
            records: Default::default(),
            forensics: None,
            state: None,
            databases: Default::default(),
            api: Default::default(),
            metrics: None,
            log: Default::default(),
            listen: Default::default(),
            sessions: Default::default(),
            backends: Default::default(),
            reaper: Default::default(),
            kernel: Default::default(),
        };
        let seen = config.policy.look();
        let path = PathBuf::from("tidegate.toml");
        (folder, Reader { config, path, policy: in_force, seen: seen.clone(), last: seen })
    }

    fn write(folder: &TempDir, text: &str) {
        fs::write(folder.path().join("policy.toml"), text).unwrap();
    }

    #[test]
    fn a_new_text_is_taken_and_the_same_is_not() {
        let (folder, mut reader) = reader(TEXT);
        assert!(matches!(reader.read(), Reloaded::Same));
        write(&folder, &TEXT.replace("0/24", "0/25"));
        let Reloaded::Policy(policy) = reader.read() else { panic!("not taken") };
        assert_eq!(policy.space.owned[0].to_string(), "203.0.113.0/25");
        assert!(matches!(reader.read(), Reloaded::Same));
    }

    #[test]
    fn what_does_not_check_leaves_what_is_in_force() {
        let (folder, mut reader) = reader(TEXT);
        write(&folder, "[owned]\nprefixes = [\"203.0.113.0/33\"]\n");
        let Reloaded::Refused(why) = reader.read() else { panic!("taken") };
        assert!(why.contains("policy.toml:2:"), "{why}");
        write(&folder, TEXT);
        assert!(matches!(reader.read(), Reloaded::Same));
    }

    #[test]
    fn a_directory_that_is_being_written_is_not_taken() {
        let (folder, mut reader) = reader(TEXT);
        let writing = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                for line in 0.. {
                    let (new, file) =
                        (folder.path().join("new"), folder.path().join("policy.toml"));
                    fs::write(&new, format!("{TEXT}# {line}\n")).unwrap();
                    fs::rename(new, file).unwrap();
                    if !writing.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let answer = reader.read();
            writing.store(false, Ordering::Relaxed);
            let Reloaded::Refused(why) = answer else { panic!("taken: {answer:?}") };
            assert!(why.contains("was being written"), "{why}");
        });
        assert!(matches!(reader.read(), Reloaded::Same));
    }

    #[test]
    fn who_we_are_to_peers_needs_a_restart() {
        const PEER: &str = "[[peers]]\nname = \"edge\"\naddress = \"10.99.0.2\"\nas = 65001\n";
        let with_peer = format!("{TEXT}{PEER}");
        let cases = [
            (TEXT.to_owned(), TEXT.replace("65010", "65011"), "`[speaker]`"),
            (TEXT.to_owned(), with_peer.clone(), "peer `edge`"),
            (with_peer.clone(), TEXT.to_owned(), "peer `edge`"),
            (with_peer.clone(), with_peer.replace("65001", "65002"), "peer `edge`"),
        ];
        for (before, after, what) in cases {
            let (folder, mut reader) = reader(&before);
            write(&folder, &after);
            let Reloaded::Refused(why) = reader.read() else { panic!("taken: {after}") };
            assert!(why.starts_with(what), "{why}");
        }
    }

    #[test]
    fn a_change_counts_once_when_it_has_settled() {
        let (folder, mut reader) = reader(TEXT);
        assert!(!reader.changed());
        write(&folder, "[owned]\n");
        assert!(!reader.changed(), "it may still be being written");
        assert!(reader.changed());
        assert!(matches!(reader.read(), Reloaded::Refused(_)));
        assert!(!reader.changed(), "told once");
        write(&folder, TEXT);
        assert!(!reader.changed());
        assert!(reader.changed());
    }
}
