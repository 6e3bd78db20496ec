//! The control plane: summaries to attacks.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::FixedState;
use tidegate_model::{
    Attack, AttackEvent, AttackId, AttackSample, EndReason, Occlusion, Prefix, Thresholds,
    Timestamp,
};

use crate::baseline::{BaselineTable, Baselines, InForce, RestoreError, SavedBaselines};
use crate::block::{Blocks, Scope, Turn};
use crate::config::{Config, Group};
use crate::judge::is_notable;
use crate::loss::Loss;
use crate::memory::Memory;
use crate::sampling::Samples;
use crate::space::Space;
use crate::summary::{TargetTraffic, TrafficSummary};
use crate::tracker::{Progress, Tick, Tracked, Watch};

/// How often watched targets are gone over for those that are calm again.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);
/// Most attacks on single addresses that go on at the same time. An address beyond that is judged
/// on, and has its attack when another is over; each tick in which it has none is counted in
/// [`Detector::overlooked`]. So many at once are one flood over networks, which are judged apart.
const MAX_ATTACKS: usize = 4096;

/// Judges, classifies and tracks: the state behind every protected address that is not quiet.
///
/// Bounds: as many watched targets, attacks included, as
/// [`Judging::max_targets`](crate::Judging); a target beyond that is not watched and counted in
/// [`Detector::overlooked`], and so is a network beyond the 4096 that are judged, and an attack on
/// an address beyond the 4096 that go on. Events wait in the queue until they are polled; one summary
/// makes at most one for each attack and one for each listed target.
pub struct Detector {
    config: Config,
    space: Space,
    /// Targets with something over a threshold, but no attack yet.
    watched: hashbrown::HashMap<IpAddr, Watch, FixedState>,
    attacks: BTreeMap<IpAddr, Tracked>,
    blocks: Blocks,
    interface: Blocks,
    memory: Memory,
    samples: Samples,
    baselines: Baselines,
    /// For each group, thresholds below which nothing is looked at.
    floors: Vec<Thresholds>,
    events: VecDeque<AttackEvent>,
    next_id: u64,
    now: Timestamp,
    sweep_at: Timestamp,
    loss: Loss,
    overlooked: u64,
    borne: u64,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let baselines = Baselines::new(config.learning);
        Self {
            floors: floors(&config, &baselines),
            baselines,
            space: Space::new(&config),
            blocks: Blocks::new(Scope::Network, &config),
            interface: Blocks::new(Scope::Interface, &config),
            memory: Memory::default(),
            samples: Samples::new(),
            borne: 0,
            config,
            // Never iterated for output, keyed by addresses that the bounded meter lets through.
            watched: hashbrown::HashMap::with_hasher(FixedState::default()),
            attacks: BTreeMap::new(),
            events: VecDeque::new(),
            next_id: 1,
            now: Timestamp::ZERO,
            sweep_at: Timestamp::ZERO,
            loss: Loss::default(),
            overlooked: 0,
        }
    }

    /// Takes in what the meter counted; the time is the summary's end.
    pub fn handle_summary(&mut self, summary: &TrafficSummary) {
        self.now = self.now.max(summary.end);
        self.loss.add(summary.span(), summary.lost, summary.packets);
        let tick = Tick {
            end: summary.end,
            span: summary.span(),
            blind: summary.blind,
            dark_since: summary.dark_since,
            loss: self.loss.part(),
            traffic: None,
        };
        self.advance_attacks(&tick, &summary.targets);
        self.advance_blocks(&tick, &summary.targets);
        for traffic in &summary.targets {
            if !self.attacks.contains_key(&traffic.address) {
                self.watch(&Tick { traffic: Some(traffic), ..tick }, traffic);
            }
        }
        self.learn(&tick, &summary.targets);
        self.sample(summary);
        if self.now >= self.sweep_at {
            self.sweep_at = self.now + SWEEP_INTERVAL;
            self.sweep();
        }
    }

    fn advance_attacks(&mut self, tick: &Tick<'_>, targets: &[TargetTraffic]) {
        let (events, judging) = (&mut self.events, &self.config.judging);
        let memory = &mut self.memory;
        self.attacks.retain(|address, tracked| {
            let found = targets.binary_search_by_key(address, |traffic| traffic.address);
            let traffic = found.ok().and_then(|index| targets.get(index));
            match tracked.advance(&Tick { traffic, ..*tick }, judging) {
                Progress::Same => true,
                Progress::Updated => {
                    events.push_back(AttackEvent::Updated(tracked.attack.clone()));
                    true
                }
                Progress::Over(quiet) => {
                    memory.note(tracked.attack.target, tracked.past(tick.end, quiet));
                    let attack = tracked.attack.clone();
                    events.push_back(AttackEvent::Ended(attack, EndReason::Quiet(quiet)));
                    false
                }
            }
        });
    }

    fn advance_blocks(&mut self, tick: &Tick<'_>, targets: &[TargetTraffic]) {
        let (judging, attacks) = (self.config.judging, &self.attacks);
        let attacked = |address: IpAddr| attacks.contains_key(&address);
        let turn =
            self.blocks.advance(&self.space, &judging, &self.memory, tick, targets, attacked);
        self.finish_turn(Scope::Network, turn, tick);
        let (attacks, blocks, space) = (&self.attacks, &self.blocks, &self.space);
        let attacked =
            |address: IpAddr| attacks.contains_key(&address) || blocks.is_attacked(space, address);
        let turn =
            self.interface.advance(&self.space, &judging, &self.memory, tick, targets, attacked);
        self.finish_turn(Scope::Interface, turn, tick);
    }

    fn finish_turn(&mut self, scope: Scope, turn: Turn, tick: &Tick<'_>) {
        let blocks = match scope {
            Scope::Network => &mut self.blocks,
            Scope::Interface => &mut self.interface,
        };
        self.overlooked += turn.overlooked;
        self.borne += turn.borne;
        for (block, progress) in turn.progress {
            let event = match progress {
                Progress::Same => continue,
                Progress::Updated => {
                    let tracked = blocks.attacks.get(&block);
                    tracked.map(|tracked| AttackEvent::Updated(tracked.attack.clone()))
                }
                Progress::Over(quiet) => blocks.attacks.remove(&block).map(|tracked| {
                    self.memory.note(block, tracked.past(tick.end, quiet));
                    AttackEvent::Ended(tracked.attack, EndReason::Quiet(quiet))
                }),
            };
            self.events.extend(event);
        }
        for (block, crossing) in turn.crossed {
            let id = AttackId(self.next_id);
            let judging = &self.config.judging;
            if let Some(tracked) = blocks.start(id, block, &crossing, judging, tick) {
                self.next_id += 1;
                self.events.push_back(AttackEvent::Started(tracked.attack.clone()));
            }
        }
    }

    /// Learns from everything but attacks, and groups that have one.
    fn learn(&mut self, tick: &Tick<'_>, targets: &[TargetTraffic]) {
        if self.baselines.is_off() {
            return;
        }
        let attacked: std::collections::BTreeSet<&str> =
            self.attacks.values().chain(self.blocks.attacks.values()).map(group_name).collect();
        let group_of = |address: IpAddr| {
            let index = self.space.group_of(address)?;
            let group = self.config.groups.get(usize::from(index))?;
            (!attacked.contains(group.name.as_str())).then_some(index)
        };
        let seen = (tick.loss, tick.blind);
        self.baselines.add(tick.end, seen, targets, &self.config.groups, group_of);
    }

    /// Judges a target on which there is no attack yet.
    fn watch(&mut self, tick: &Tick<'_>, traffic: &TargetTraffic) {
        let Some(index) = self.space.group_of(traffic.address).map(usize::from) else { return };
        let (Some(group), Some(floor)) = (self.config.groups.get(index), self.floors.get(index))
        else {
            return;
        };
        let judging = &self.config.judging;
        let is_new = !self.watched.contains_key(&traffic.address);
        let counts = &traffic.unasked;
        if is_new && !is_notable(counts, tick.span, floor) {
            return;
        }
        let thresholds = self.baselines.thresholds(traffic.address, group);
        if is_new {
            if !is_notable(counts, tick.span, &thresholds) {
                return;
            }
            if self.watched.len() + self.attacks.len() >= judging.max_targets {
                self.overlooked += 1;
                return;
            }
        }
        let start = tick.end - tick.span;
        let past = || self.memory.recall(tick.end, Prefix::host(traffic.address));
        let watch =
            self.watched.entry(traffic.address).or_insert_with(|| Watch::new(start, past()));
        // Time without traffic leaks first, so that the onset is not put before it.
        watch.add(start, None, &thresholds, judging);
        watch.add(tick.end, Some(traffic), &thresholds, judging);
        let Some(crossing) = watch.judge.crossing(&thresholds, judging.tolerance) else {
            return;
        };
        if watch.is_borne(tick.end, &crossing, &thresholds, judging) {
            self.borne += 1;
            return;
        }
        if self.blocks.explains(&self.space, traffic.address, &crossing) {
            return;
        }
        if self.attacks.len() >= MAX_ATTACKS {
            self.overlooked += 1;
            return;
        }
        let Some(watch) = self.watched.remove(&traffic.address) else { return };
        let id = AttackId(self.next_id);
        self.next_id += 1;
        let target = Prefix::host(traffic.address);
        let group = &Group { thresholds, ..group.clone() };
        let tracked = Tracked::start(id, target, group, judging, watch, &crossing, tick);
        self.events.push_back(AttackEvent::Started(tracked.attack.clone()));
        self.attacks.insert(traffic.address, tracked);
    }

    /// Keeps some packets of each target, apart for those that are attacked.
    fn sample(&mut self, summary: &TrafficSummary) {
        let (attacks, space) = (&self.attacks, &self.space);
        let attacked = |address: IpAddr| {
            attacks.contains_key(&address)
                || self.blocks.is_attacked(space, address)
                || self.interface.is_attacked(space, address)
        };
        self.samples.add(summary.end, &summary.targets, attacked);
    }

    /// Packets of an attack that goes on or has just begun, and of the traffic before it. At most a
    /// few hundred each; none if there was no room for the target.
    #[must_use]
    pub fn sample_of(&self, attack: &Attack) -> AttackSample {
        self.samples.of(attack)
    }

    /// Forgets watched targets whose buckets are empty by now.
    fn sweep(&mut self) {
        let (now, space, config) = (self.now, &self.space, &self.config);
        let baselines = &self.baselines;
        self.watched.retain(|&address, watch| {
            let Some(group) = group_of(space, config, address) else { return false };
            let thresholds = baselines.thresholds(address, group);
            watch.add(now, None, &thresholds, &config.judging);
            !watch.judge.is_calm()
        });
        self.memory.forget_old(now);
        self.samples.sweep(now);
    }

    /// What hides the addresses of `target`, from now on.
    pub fn handle_occlusion(&mut self, target: Prefix, occlusion: Occlusion) {
        // Addresses of a prefix follow one another.
        let inside = self.attacks.range_mut(target.address()..);
        for (_, tracked) in inside.take_while(|(address, _)| target.contains_address(**address)) {
            tracked.occlude(self.now, occlusion);
        }
        for (block, tracked) in self.blocks.attacks.iter_mut().chain(&mut self.interface.attacks) {
            if target.contains(block) {
                tracked.occlude(self.now, occlusion);
            }
        }
    }

    /// A new policy. Attacks go on under its thresholds, or end if it protects their targets no
    /// more.
    pub fn handle_config(&mut self, now: Timestamp, config: Config) {
        self.now = self.now.max(now);
        self.space = Space::new(&config);
        self.config = config;
        self.baselines.handle_config(self.config.learning, &self.config.groups);
        self.floors = floors(&self.config, &self.baselines);
        // What fills a bucket under one threshold says nothing under another.
        self.watched.clear();
        self.memory.clear();
        let dropped = self.blocks.handle_config(&self.space, &self.config);
        for tracked in
            dropped.into_iter().chain(self.interface.handle_config(&self.space, &self.config))
        {
            self.events.push_back(AttackEvent::Ended(tracked.attack, EndReason::NotProtected));
        }
        let (space, config, events) = (&self.space, &self.config, &mut self.events);
        self.attacks.retain(|&address, tracked| match group_of(space, config, address) {
            Some(group) => {
                tracked.regroup(group);
                true
            }
            None => {
                let attack = tracked.attack.clone();
                events.push_back(AttackEvent::Ended(attack, EndReason::NotProtected));
                false
            }
        });
    }

    /// At `now` so much time had gone by since the Unix epoch: what is learned is kept by the hour
    /// of the week. Until it is told the detector takes its own clock for that of the world. A step
    /// of the world's clock moves what is learned to another hour and does nothing else.
    pub fn handle_wall_clock(&mut self, now: Timestamp, since_epoch: Duration) {
        self.baselines.handle_wall_clock(now, since_epoch);
    }

    /// What has been learned, to be written down.
    #[must_use]
    pub fn save_baselines(&self) -> SavedBaselines {
        self.baselines.save()
    }

    /// Takes what was written down before. Groups of the present policy only are used.
    ///
    /// # Errors
    /// [`RestoreError`] if it is of another version or damaged; nothing of it is taken then.
    pub fn restore_baselines(&mut self, saved: &SavedBaselines) -> Result<(), RestoreError> {
        self.baselines.restore(saved)
    }

    /// What has been learned, for people: every group, and the first `most` hosts inside `within`, or
    /// of all.
    #[must_use]
    pub fn baselines(&self, within: Option<Prefix>, most: usize) -> BaselineTable {
        let group_of = |address| group_of(&self.space, &self.config, address);
        let wanted = |address| within.is_none_or(|prefix: Prefix| prefix.contains_address(address));
        self.baselines.table(most, &self.config.groups, group_of, wanted)
    }

    /// The thresholds that `address` is judged by, and why; empty if it is not protected.
    #[must_use]
    pub fn in_force(&self, address: IpAddr) -> Vec<InForce> {
        let group = group_of(&self.space, &self.config, address);
        group.map_or_else(Vec::new, |group| self.baselines.in_force(address, group))
    }

    /// Times that a host was not learned about because too many others were.
    #[must_use]
    pub const fn unlearned(&self) -> u64 {
        self.baselines.refused()
    }

    /// Nothing more will come: every attack ends.
    pub fn handle_input_end(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.watched.clear();
        for (_, tracked) in std::mem::take(&mut self.attacks) {
            self.events.push_back(AttackEvent::Ended(tracked.attack, EndReason::InputEnded));
        }
        let blocks = std::mem::take(&mut self.blocks.attacks);
        for (_, tracked) in blocks.into_iter().chain(std::mem::take(&mut self.interface.attacks)) {
            self.events.push_back(AttackEvent::Ended(tracked.attack, EndReason::InputEnded));
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<AttackEvent> {
        self.events.pop_front()
    }

    /// Attacks that go on: those on addresses by address, then those on networks, then those on
    /// everything together.
    pub fn attacks(&self) -> impl Iterator<Item = &Attack> {
        self.tracked().map(|tracked| &tracked.attack)
    }

    fn tracked(&self) -> impl Iterator<Item = &Tracked> {
        let blocks = self.blocks.attacks.values().chain(self.interface.attacks.values());
        self.attacks.values().chain(blocks)
    }

    /// Ticks in which a target was over a threshold by nothing but ICMP errors about packets that
    /// others sent in its name: backscatter, which is no attack on the target.
    #[must_use]
    pub const fn borne(&self) -> u64 {
        self.borne
    }

    /// Every attack that goes on, in the order of [`Detector::attacks`], with how many times over
    /// its worst threshold its target is now: 1.0 is at it.
    pub fn excesses(&self) -> impl Iterator<Item = (&Attack, f64)> {
        self.tracked().map(|tracked| (&tracked.attack, tracked.excess()))
    }

    /// Times that a target was not watched, or its attack not told, because of too many others.
    #[must_use]
    pub const fn overlooked(&self) -> u64 {
        self.overlooked
    }
}

fn group_name(tracked: &Tracked) -> &str {
    &tracked.attack.group
}

fn floors(config: &Config, baselines: &Baselines) -> Vec<Thresholds> {
    config.groups.iter().map(|group| baselines.floor(&group.thresholds)).collect()
}

/// The group that protects `address`.
fn group_of<'a>(space: &Space, config: &'a Config, address: IpAddr) -> Option<&'a Group> {
    config.groups.get(usize::from(space.group_of(address)?))
}
