//! The thread that writes, and the ends of its queues.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tidegate_detector::capture::live::Recording;
use tidegate_detector::forensics::Segment;
use tidegate_model::AttackEvent;
use tidegate_policy::Revision;

use super::{Archive, Note};

/// Segments between capture and this thread. Each is at most 256 KiB.
const SEGMENT_QUEUE: usize = 64;

/// Attacks that began or ended, between engine and this thread. A file that is not begun is lost;
/// one whose end is not heard of is ended by its size or with the daemon.
const ATTACK_QUEUE: usize = 1024;

/// How soon an attack is noticed when no packets come.
const NAP: Duration = Duration::from_millis(50);

/// An attack that began or ended, and the state of the policy repository that was in force.
type Report = (AttackEvent, Option<Arc<Revision>>);

/// Where the engine reports attacks.
pub struct Desk {
    attacks: Option<SyncSender<Report>>,
    /// Closes when the thread ends.
    ended: Receiver<()>,
    lost: u64,
}

impl Desk {
    /// Tells of an attack, under the policy that was in force. Never waits.
    pub fn report(&mut self, event: &AttackEvent, policy: Option<&Arc<Revision>>) {
        let worth = matches!(event, AttackEvent::Started(_) | AttackEvent::Ended(..));
        let Some(attacks) = self.attacks.as_ref().filter(|_| worth) else { return };
        if let Err(TrySendError::Full(_)) = attacks.try_send((event.clone(), policy.cloned())) {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                tracing::warn!(lost = self.lost, "forensics is slow: attacks have no file");
            }
        }
    }

    /// Waits until every file is written, at most `deadline`. The capture must have ended.
    pub fn close(mut self, deadline: Duration) {
        self.attacks = None;
        if self.ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk is slow: the last forensic files may be incomplete");
        }
    }
}

/// Starts the thread. `tell` is called on it, and must not wait.
///
/// # Errors
/// If there can be no more threads.
pub fn start(
    mut archive: Archive,
    mut tell: impl FnMut(Note) + Send + 'static,
) -> io::Result<(Recording, Desk)> {
    let (segments, segment_queue) = sync_channel::<Segment>(SEGMENT_QUEUE);
    let (attacks, attack_queue) = sync_channel::<Report>(ATTACK_QUEUE);
    // Nothing is ever sent here.
    let (running, ended) = sync_channel::<()>(0);
    let recording = Recording { budget: archive.budget(), segments };
    std::thread::Builder::new().name("forensics".to_owned()).spawn(move || {
        let _running = running;
        loop {
            let segment = segment_queue.recv_timeout(NAP);
            for (event, policy) in attack_queue.try_iter() {
                archive.handle_attack(&event, policy.as_deref());
            }
            let over = matches!(segment, Err(RecvTimeoutError::Disconnected));
            if let Ok(segment) = segment {
                archive.handle_segment(segment);
            }
            if over {
                archive.finish_all();
            }
            archive.poll_notes().for_each(&mut tell);
            if over {
                return;
            }
        }
    })?;
    Ok((recording, Desk { attacks: Some(attacks), ended, lost: 0 }))
}
