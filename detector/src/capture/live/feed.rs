//! Where a worker's packets go, and what it is told while it runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_model::{AttackId, Prefix, Timestamp};

use crate::census::Census;
use crate::forensics::{Budget, Record, Recorder, Segment};
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
    /// Where the sources of attacks go, if they are counted.
    pub counting: Option<Counting>,
}

/// Where the sources of attacks go.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Octets that one worker keeps.
    pub octets: usize,
    /// Who takes them. What finds no room is lost.
    pub parts: SyncSender<SourcePart>,
    /// Octets of exact sets that were handed over and not added up yet: who takes a part subtracts its
    /// [cost](Census::cost). Until there are none a worker goes on with what it has.
    pub on_the_way: Arc<AtomicUsize>,
}

/// The sources of one attack that one worker saw since it last handed them over.
#[derive(Debug)]
pub struct SourcePart {
    /// Which attack.
    pub attack: AttackId,
    /// Its sources.
    pub census: Census,
    /// The worker counts no more of them.
    pub last: bool,
}

/// How often the sources of an attack are handed over, and how soon for the first time.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
const FIRST_COUNT: Duration = Duration::from_secs(1);

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

/// Attacks with their targets.
type Attacks = Arc<[(AttackId, Prefix)]>;

#[derive(Debug, Default)]
struct Shared {
    generation: AtomicU64,
    config: Mutex<Option<Arc<Config>>>,
    attacks_generation: AtomicU64,
    attacks: Mutex<Option<Attacks>>,
}

impl CaptureControl {
    /// Protects the addresses of `config`, from the next tick on.
    pub fn protect(&self, config: Config) {
        let mut held = self.0.config.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::new(config));
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// Counts the sources of `attacks`, from the next tick on, and of no others.
    pub fn count_sources(&self, attacks: &[(AttackId, Prefix)]) {
        let mut held = self.0.attacks.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(attacks.into());
        self.0.attacks_generation.fetch_add(1, Ordering::Release);
    }

    fn newer_config(&self, known: &mut u64) -> Option<Arc<Config>> {
        newer(&self.0.config, &self.0.generation, known)
    }

    fn newer_attacks(&self, known: &mut u64) -> Option<Attacks> {
        newer(&self.0.attacks, &self.0.attacks_generation, known)
    }
}

/// What is held, if it is newer than `known`. Never waits.
fn newer<T: Clone>(held: &Mutex<Option<T>>, generation: &AtomicU64, known: &mut u64) -> Option<T> {
    let generation = generation.load(Ordering::Acquire);
    if generation == *known {
        return None;
    }
    // Held for the time of an assignment; if it is held now, the next tick will do.
    let value = held.try_lock().ok()?.clone();
    *known = generation;
    value
}

/// One worker's meter and recorder.
pub(super) struct Feed {
    pub(super) meter: Meter,
    recorder: Option<(Recorder, SyncSender<Segment>)>,
    lost_records: u64,
    counting: Option<Counting>,
    count_due: Timestamp,
    control: CaptureControl,
    generation: u64,
    attacks_generation: u64,
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
        let mut meter = Meter::new(&intake.config, intake.seed).opening(intake.tunnels);
        if let Some(counting) = &intake.counting {
            meter = meter.counting_within(counting.octets);
        }
        Self {
            meter,
            recorder,
            lost_records: 0,
            counting: intake.counting.clone(),
            count_due: now,
            control,
            generation: 0,
            attacks_generation: 0,
        }
    }

    #[inline]
    pub(super) fn observe(&mut self, interface: u16, link: LinkType, packet: &pcap::Packet<'_>) {
        let place = self.meter.observe(link, packet.data, packet.header.len);
        if let Some((recorder, _)) = &mut self.recorder {
            let stamp = packet.header.ts;
            // The fraction is in nanoseconds: that is the precision the handle was opened with.
            let time = u64::try_from(stamp.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
            let time = time.saturating_add(u64::try_from(stamp.tv_usec).unwrap_or(0));
            let (data, wire_length) = (packet.data, packet.header.len);
            recorder.record(place, Record { time, interface, link, data, wire_length });
        }
    }

    /// What is due at the end of a tick, besides the meter's summary.
    pub(super) fn finish_tick(&mut self, end: Timestamp) {
        if let Some(config) = self.control.newer_config(&mut self.generation) {
            self.meter.handle_config(&config);
        }
        self.hand_over_sources(end);
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

    fn hand_over_sources(&mut self, now: Timestamp) {
        let Some(counting) = &self.counting else { return };
        let send = |attack, census: Census, last| {
            let cost = census.cost();
            counting.on_the_way.fetch_add(cost, Ordering::Relaxed);
            if counting.parts.try_send(SourcePart { attack, census, last }).is_err() {
                counting.on_the_way.fetch_sub(cost, Ordering::Relaxed);
            }
        };
        if let Some(attacks) = self.control.newer_attacks(&mut self.attacks_generation) {
            for (attack, census) in self.meter.count_sources(&attacks) {
                send(attack, census, true);
            }
            self.count_due = self.count_due.min(now + FIRST_COUNT);
        }
        if now >= self.count_due && counting.on_the_way.load(Ordering::Relaxed) == 0 {
            self.count_due = now + COUNT_INTERVAL;
            for (attack, census) in self.meter.take_sources() {
                send(attack, census, false);
            }
        }
    }
}
