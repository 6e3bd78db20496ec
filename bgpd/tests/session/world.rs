//! Two sessions, joined by queues. One seed decides how octets are cut and what happens first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_bgpd::Family;
use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::Gate;
use tidegate_bgpd::rib::Answer;
use tidegate_bgpd::session::{
    Action, Admission, ConnectMode, Direction, Session, SessionConfig, SessionEvent,
    SessionOptions, SessionState,
};
use tidegate_model::{Community, Nlri, Timestamp};

use crate::support::gate_policy;

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        (value % bound as u64) as usize
    }
}

pub(crate) fn gate() -> Arc<Gate> {
    Arc::new(Gate::new(gate_policy()))
}

/// End 0 is 192.0.2.1, end 1 is 192.0.2.2, in one AS.
pub(crate) fn config(end: usize, mode: ConnectMode, seed: u64) -> SessionConfig {
    SessionConfig {
        local_as: 65010,
        router_id: Ipv4Addr::new(192, 0, 2, 1 + end as u8),
        peer_as: 65010,
        families: Family::ALL.into(),
        hold_time: Duration::from_secs(9),
        mode,
        max_routes: 10_000,
        options: SessionOptions::default(),
        seed,
    }
}

pub(crate) fn address(end: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + end as u8))
}

/// One TCP connection.
struct Pipe {
    /// Octets on their way to each end.
    to: [VecDeque<u8>; 2],
    /// The direction that the connection has at each end; `None` once that end has closed it.
    ends: [Option<Direction>; 2],
    /// Octets that each end has read, after the last whole message.
    read: [Vec<u8>; 2],
    /// Octets vanish, and nobody is told.
    cut: bool,
}

/// One end.
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) events: Vec<SessionEvent>,
    /// The routes that it holds of the other end, with their communities.
    pub(crate) table: BTreeMap<Nlri, BTreeSet<Community>>,
    /// End-of-RIB markers that it got in this session.
    pub(crate) ends_of_rib: Vec<Family>,
    /// Every message handed out, with the time of it.
    pub(crate) sent: Vec<(Timestamp, Vec<u8>)>,
    dialling: bool,
}

impl End {
    pub(crate) fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.events.iter().filter_map(|event| match event {
            SessionEvent::Answer(answer) => Some(answer),
            _ => None,
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.session.status().state == SessionState::Established
    }
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) ends: [End; 2],
    pub(crate) random: Random,
    pipes: Vec<Pipe>,
    /// Whether connections can be made.
    pub(crate) reachable: bool,
}

impl World {
    pub(crate) fn new(seed: u64, modes: [ConnectMode; 2]) -> Self {
        Self::with(seed, [config(0, modes[0], seed), config(1, modes[1], !seed)])
    }

    pub(crate) fn with(seed: u64, configs: [SessionConfig; 2]) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000);
        let ends = configs.map(|config| End {
            session: Session::new(now, config, gate()),
            events: Vec::new(),
            table: BTreeMap::new(),
            ends_of_rib: Vec::new(),
            sent: Vec::new(),
            dialling: false,
        });
        let mut world =
            Self { now, ends, random: Random(seed), pipes: Vec::new(), reachable: true };
        for end in 0..2 {
            world.ends[end].session.handle_start(now);
            world.pump(end);
        }
        world
    }

    /// Connections that both ends still hold.
    pub(crate) fn connections(&self) -> usize {
        self.pipes.iter().filter(|pipe| pipe.ends.iter().all(Option::is_some)).count()
    }

    /// From now on nothing that is sent arrives, and nobody is told.
    pub(crate) fn cut(&mut self) {
        self.reachable = false;
        for pipe in &mut self.pipes {
            pipe.cut = true;
            pipe.to.iter_mut().for_each(VecDeque::clear);
        }
    }

    /// Every connection breaks, and both ends are told.
    pub(crate) fn reset(&mut self) {
        for index in 0..self.pipes.len() {
            for end in 0..2 {
                self.pipes[index].to[end].clear();
                if let Some(direction) = self.pipes[index].ends[end].take() {
                    let why = "reset".to_owned();
                    self.ends[end].session.handle_closed(self.now, direction, why);
                    self.pump(end);
                }
            }
        }
    }

    /// Runs until `done` or for `limit`. True if it was done.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step() {
                let timeouts = self.ends.iter().filter_map(|end| end.session.poll_timeout());
                match timeouts.min() {
                    Some(at) if at <= deadline => self.now = self.now.max(at),
                    _ => {
                        self.now = deadline;
                        return done(self);
                    }
                }
                for end in 0..2 {
                    self.ends[end].session.handle_timeout(self.now);
                    self.pump(end);
                }
            }
        }
    }

    /// Lets so many things happen, as far as they can without time passing.
    pub(crate) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Lets one thing happen, if anything can without time passing.
    fn step(&mut self) -> bool {
        let mut choices = Vec::new();
        for end in 0..2 {
            if self.ends[end].dialling && self.reachable {
                choices.push((usize::MAX, end));
            }
            for (index, pipe) in self.pipes.iter().enumerate() {
                let closed_afar = pipe.ends[1 - end].is_none() && !pipe.cut;
                if pipe.ends[end].is_some() && (!pipe.to[end].is_empty() || closed_afar) {
                    choices.push((index, end));
                }
            }
        }
        if choices.is_empty() {
            return false;
        }
        // A little time passes, so that the two clocks of a collision are not in step.
        self.now = self.now + Duration::from_micros(self.random.below(500) as u64);
        match choices[self.random.below(choices.len())] {
            (usize::MAX, end) => self.connect(end),
            (index, end) => self.deliver(index, end),
        }
        true
    }

    fn connect(&mut self, from: usize) {
        self.ends[from].dialling = false;
        self.pipes.retain(|pipe| pipe.ends.iter().any(Option::is_some));
        let mut pipe =
            Pipe { to: Default::default(), ends: [None; 2], read: Default::default(), cut: false };
        for (end, direction) in [(from, Direction::Outgoing), (1 - from, Direction::Incoming)] {
            let session = &mut self.ends[end].session;
            match session.handle_connected(self.now, direction, address(end)) {
                Admission::Admitted => pipe.ends[end] = Some(direction),
                Admission::Refused(last_words) => pipe.to[1 - end].extend(last_words),
            }
            // What it replaces is given up before the new one is there.
            self.carry_out(end);
        }
        self.pipes.push(pipe);
        self.pump(0);
        self.pump(1);
    }

    fn deliver(&mut self, index: usize, end: usize) {
        let waiting = self.pipes[index].to[end].len();
        let Some(direction) = self.pipes[index].ends[end] else { return };
        if waiting == 0 {
            self.pipes[index].ends[end] = None;
            self.ends[end].session.handle_closed(self.now, direction, "closed".to_owned());
        } else {
            let size = 1 + self.random.below(waiting.min(1 + self.random.0 as usize % 200));
            let bytes: Vec<u8> = self.pipes[index].to[end].drain(..size).collect();
            self.ends[end].session.handle_bytes(self.now, direction, &bytes);
            self.pump(end);
            self.follow(index, end, &bytes);
        }
        self.pump(end);
    }

    /// Keeps the table that a router would have.
    fn follow(&mut self, index: usize, end: usize, bytes: &[u8]) {
        let pipe = &mut self.pipes[index];
        let read = &mut pipe.read[end];
        read.extend(bytes);
        while let Some(length) = read.get(16..18)
            && let length = usize::from(u16::from_be_bytes([length[0], length[1]]))
            && read.len() >= length
        {
            let message: Vec<u8> = read.drain(..length).collect();
            if message[18] != 2 || pipe.ends[end].is_none() {
                continue;
            }
            let update = decode_update(&message).unwrap();
            let end = &mut self.ends[end];
            for nlri in update.withdrawn {
                assert!(end.table.remove(&nlri).is_some(), "{nlri} withdrawn and not there");
            }
            for nlri in update.announced {
                end.table.insert(nlri, update.communities.clone());
            }
            end.ends_of_rib.extend(update.end_of_rib);
        }
    }

    fn carry_out(&mut self, end: usize) {
        while let Some(action) = self.ends[end].session.poll_action() {
            match action {
                Action::Connect => self.ends[end].dialling = true,
                Action::AbortConnect => self.ends[end].dialling = false,
                Action::Close { direction, last_words } => {
                    for pipe in &mut self.pipes {
                        if pipe.ends[end] == Some(direction) {
                            pipe.ends[end] = None;
                            if !pipe.cut {
                                pipe.to[1 - end].extend(last_words.iter().flatten());
                            }
                        }
                    }
                }
            }
        }
    }

    /// Does everything that a session wants.
    pub(crate) fn pump(&mut self, end: usize) {
        self.carry_out(end);
        for index in 0..self.pipes.len() {
            while let Some(direction) = self.pipes[index].ends[end]
                && let Some(message) = self.ends[end].session.poll_transmit(self.now, direction)
            {
                if !self.pipes[index].cut {
                    self.pipes[index].to[1 - end].extend(&message);
                }
                self.ends[end].sent.push((self.now, message));
                self.ends[end].session.handle_written(self.now, direction);
                self.carry_out(end);
            }
        }
        while let Some(event) = self.ends[end].session.poll_event() {
            let end = &mut self.ends[end];
            if matches!(event, SessionEvent::Down { .. }) {
                end.table.clear();
                end.ends_of_rib.clear();
            }
            end.events.push(event);
        }
    }
}
