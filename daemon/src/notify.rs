//! What systemd is told (`sd_notify(3)`): ready, stopping, and that the engine goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

/// Counts what the engine has done. It counts, and a thread of its own tells the watchdog: a socket
/// that takes nothing holds up no engine.
#[derive(Debug)]
pub struct Progress {
    steps: Arc<AtomicU64>,
    /// Closed when the engine is gone.
    _alive: SyncSender<()>,
}

impl Progress {
    /// Tells systemd that the service is ready, and, if there is a watchdog, begins to tell it that
    /// the engine goes on.
    #[must_use]
    pub fn ready() -> Self {
        tell(&[NotifyState::Ready]);
        let steps = Arc::new(AtomicU64::new(0));
        let (alive, dead) = sync_channel(0);
        if let Some(patience) = sd_notify::watchdog_enabled() {
            let steps = Arc::clone(&steps);
            let started = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
                // Twice as often as asked for, as sd_watchdog_enabled(3) has it, and once more.
                feed(&steps, &dead, patience / 4, || tell(&[NotifyState::Watchdog]));
            });
            if let Err(error) = started {
                tracing::error!(%error, "nobody feeds the watchdog: systemd will restart tidegate");
            }
        }
        Self { steps, _alive: alive }
    }

    /// The engine has done something.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells systemd that the service stops.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// Calls `bark` every `interval` in which there was a step, until the other end of `dead` is gone.
fn feed(steps: &AtomicU64, dead: &Receiver<()>, interval: Duration, bark: impl Fn()) {
    let mut seen = 0;
    while dead.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        if has_moved(steps, &mut seen) {
            bark();
        }
    }
}

/// Whether there was a step since the last look.
fn has_moved(steps: &AtomicU64, seen: &mut u64) -> bool {
    let before = std::mem::replace(seen, steps.load(Ordering::Relaxed));
    before != *seen
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told how the service is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_stands_still_feeds_no_watchdog() {
        let (steps, mut seen) = (AtomicU64::new(0), 0);
        assert!(!has_moved(&steps, &mut seen));
        steps.fetch_add(3, Ordering::Relaxed);
        assert!(has_moved(&steps, &mut seen));
        assert!(!has_moved(&steps, &mut seen));
    }

    #[test]
    fn nobody_is_fed_when_the_engine_is_gone() {
        let (alive, dead) = sync_channel(0);
        drop(alive);
        feed(&AtomicU64::new(1), &dead, Duration::ZERO, || unreachable!("it is gone"));
    }
}
