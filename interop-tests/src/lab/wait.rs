//! Waiting for a state, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use super::{LabError, interrupted};

/// Between two looks at a state.
pub const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Calls `poll` until it returns a value.
///
/// # Errors
/// [`LabError::Deadline`] after `limit`, [`LabError::Interrupted`] after a signal, and what `poll`
/// itself returns.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut poll: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let started = Instant::now();
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if started.elapsed() >= limit {
            return Err(LabError::Deadline { what: what.to_owned(), limit });
        }
        thread::sleep(POLL_INTERVAL);
    }
}
