//! Where a worker's packets go, and what it is told while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::Timestamp;

use crate::forensics::{Budget, Recorder, Segment};
use crate::packet::LinkType;
use crate::{Config, Meter};

/// Where the packets of a capture go.
#[derive(Clone, Debug)]
pub struct Intake {
    /// What is protected.
    pub config: Config,
    /// Keys the hash tables.
    pub seed: u64,
    /// Tunnels that are opened.
    pub tunnels: crate::packet::Tunnels,
    /// Where copies of packets go, if anywhere. What finds no room is dropped and counted in the
    /// next segment.
    pub recording: Option<Recording>,
}

/// Where copies of packets go, and how many, over all workers.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How much is copied.
    pub budget: Budget,
    /// Who takes it.
    pub segments: SyncSender<Segment>,
}

/// Changes what is protected while the capture runs.
#[derive(Clone, Debug, Default)]
pub struct CaptureControl(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    generation: AtomicU64,
    config: Mutex<Option<Arc<Config>>>,
}

impl CaptureControl {
    /// Protects the addresses of `config`, from the next tick on.
    pub fn protect(&self, config: Config) {
        let mut held = self.0.config.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::new(config));
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// The configuration, if there is one newer than `known`. Never waits.
    fn newer(&self, known: &mut u64) -> Option<Arc<Config>> {
        let generation = self.0.generation.load(Ordering::Acquire);
        if generation == *known {
            return None;
        }
        // Held for the time of an assignment; if it is held now, the next tick will do.
        let config = self.0.config.try_lock().ok()?.clone();
        *known = generation;
        config
    }
}

/// One worker's meter and recorder.
pub(super) struct Feed {
    pub(super) meter: Meter,
    recorder: Option<(Recorder, SyncSender<Segment>)>,
    lost_records: u64,
    control: CaptureControl,
    generation: u64,
}

impl Feed {
    /// The feed of one of `workers`.
    pub(super) fn new(
        intake: &Intake,
        workers: u8,
        control: CaptureControl,
        now: Timestamp,
    ) -> Self {
        let recorder = intake.recording.as_ref().map(|recording| {
            let Budget { rate, burst } = recording.budget;
            let workers = u64::from(workers);
            let budget = Budget { rate: rate / workers, burst: burst / workers };
            (Recorder::new(budget, now), recording.segments.clone())
        });
        Self {
            meter: Meter::new(&intake.config, intake.seed).opening(intake.tunnels),
            recorder,
            lost_records: 0,
            control,
            generation: 0,
        }
    }

    #[inline]
    pub(super) fn observe(&mut self, interface: u16, link: LinkType, packet: &pcap::Packet<'_>) {
        if let Some((recorder, _)) = &mut self.recorder {
            let stamp = packet.header.ts;
            // The fraction is in nanoseconds: that is the precision the handle was opened with.
            let time = u64::try_from(stamp.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
            let time = time.saturating_add(u64::try_from(stamp.tv_usec).unwrap_or(0));
            recorder.record(interface, link, time, packet.data, packet.header.len);
        }
        self.meter.observe(link, packet.data, packet.header.len);
    }

    /// What is due at the end of a tick, besides the meter's summary.
    pub(super) fn finish_tick(&mut self, end: Timestamp) {
        if let Some(config) = self.control.newer(&mut self.generation) {
            self.meter.handle_config(&config);
        }
        let Some((recorder, segments)) = &mut self.recorder else { return };
        if let Some(mut segment) = recorder.finish_tick(end) {
            segment.left_out += std::mem::take(&mut self.lost_records);
            if let Err(refused) = segments.try_send(segment) {
                let (std::sync::mpsc::TrySendError::Full(segment)
                | std::sync::mpsc::TrySendError::Disconnected(segment)) = refused;
                self.lost_records = segment.left_out + segment.records().count() as u64;
            }
        }
    }
}
