//! From the configuration to a running recorder.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::recent::Recent;
use super::recorder::{Recorder, Sinks};
use super::time::WallTime;
use crate::alerts::{Alerts, Leftovers, Settings};
use crate::clock::WallOrigin;
use crate::store;
use crate::store::journal::{Held, Journal};

/// How long a recorder may take to end: its channels and its store have their own limits below it.
pub const FINISH: Duration = Duration::from_secs(8);

/// What runs beside the engine.
#[derive(Debug)]
pub struct Records {
    /// Takes the events.
    pub recorder: Recorder,
    /// The journal of this run, if there is a store.
    pub journal: Option<Journal>,
    /// What backends may hold, by the journal of earlier runs.
    pub held: Vec<Held>,
}

/// Starts what `settings` ask for, and shows incidents to `recent`; `None` if that is nothing. A
/// store that cannot be opened and channels that cannot be started are logged and done without: a record is worth less than a
/// mitigation. `now` is wall time.
///
/// # Errors
/// If the recorder's thread cannot be started.
pub fn start(
    settings: &Settings,
    recent: Option<Arc<Recent>>,
    wall: WallOrigin,
    now: WallTime,
) -> io::Result<Option<Records>> {
    if settings.store.is_none() && settings.alerts.channels.is_empty() && recent.is_none() {
        return Ok(None);
    }
    let opened = settings.store.as_ref().and_then(|place| {
        let opened = store::open(&place.path, place.limits, now);
        opened.inspect_err(|error| tracing::error!(%error, "incidents are not kept")).ok()
    });
    let mut sinks = Sinks { recent, ..Sinks::default() };
    let (mut unfinished, mut held, mut leftovers) = (Vec::new(), Vec::new(), Leftovers::default());
    if let Some(opened) = opened {
        let ids = opened.unfinished.iter().map(|incident| incident.id.clone()).collect();
        leftovers = Leftovers { jobs: opened.jobs, messages: opened.messages, unfinished: ids };
        (unfinished, held) = (opened.unfinished, opened.held);
        sinks.store = Some(opened.store);
    }
    if !settings.alerts.channels.is_empty() {
        let (console, store) = (settings.console.clone(), sinks.store.clone());
        sinks.alerts = Alerts::start(&settings.alerts, console, store, leftovers, now)
            .inspect_err(|error| tracing::error!(%error, "nobody is told of attacks"))
            .ok();
    }
    let journal = sinks.store.clone().map(|store| Journal::new(store, now));
    let recorder = Recorder::start(wall, sinks, unfinished, now)?;
    Ok(Some(Records { recorder, journal, held }))
}
