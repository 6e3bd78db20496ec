//! Two speakers under a virtual clock, with everything that can go wrong between them: octets cut
//! and delivered in any order of connections, connections that break or fall silent with routes in
//! flight, and both ends connecting at once. When the faults stop, each end must hold what the other
//! one wants, over one connection.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use tidegate_bgpd::session::{ConnectMode, as_announced};
use tidegate_model::{CommandId, Community, Nlri, OutcomeKind, Route};

use crate::support::{blackhole, ntp_filter};
use crate::world::{Random, World};

const SEEDS: u64 = 10_000;
/// A connection that fell silent before the peer's OPEN came is given up after 240 s; the longest
/// wait before the next attempt is 10 s.
const LIMIT: Duration = Duration::from_secs(300);

/// Says which seed it was.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn route(random: &mut Random) -> Route {
    let host = 60 + random.below(4);
    let mut route = match random.below(3) {
        0 => blackhole(&format!("203.0.113.{host}")),
        1 => blackhole(&format!("2001:db8:1::{host}")),
        _ => ntp_filter(&format!("203.0.113.{host}")),
    };
    // The same again, or changed.
    route.communities.insert(Community::new(65010, random.below(2) as u16));
    route
}

fn wanted(world: &World, end: usize) -> BTreeMap<Nlri, BTreeSet<Community>> {
    let routes = world.ends[end].session.routes();
    routes.map(|route| (route.nlri.clone(), route.communities.clone())).collect()
}

fn is_converged(world: &World) -> bool {
    world.connections() == 1
        && (0..2)
            .all(|end| world.ends[end].is_up() && world.ends[1 - end].table == wanted(world, end))
}

/// One world from its beginning to its end. Returns how many collisions and lost sessions there
/// were.
fn live(seed: u64) -> (u64, u64) {
    let _told = Told(seed);
    let mut world = World::new(seed, [ConnectMode::Both, ConnectMode::Both]);
    let mut random = Random(!seed);
    // What each end was last told of each route.
    let mut last: [BTreeMap<Nlri, (CommandId, Option<Route>)>; 2] = Default::default();
    for command in 0..12 {
        let (end, command) = (random.below(2), CommandId(command));
        let route = route(&mut random);
        let session = &mut world.ends[end].session;
        let told = match random.below(3) {
            0 => {
                session.handle_withdraw(command, &route.nlri);
                None
            }
            _ => {
                session.handle_announce(command, route.clone());
                Some(as_announced(route.clone()))
            }
        };
        last[end].insert(route.nlri, (command, told));
        world.pump(end);
        // Mostly too short for it to arrive.
        match random.below(3) {
            0 => drop(world.run(Duration::from_millis(random.below(3000) as u64), |_| false)),
            _ => world.steps(random.below(12)),
        }
        match random.below(10) {
            0 | 1 => world.reset(),
            2 => world.cut(),
            3 | 4 => world.reachable = true,
            _ => {}
        }
    }
    world.reachable = true;
    let converged = world.run(LIMIT, is_converged);
    let shown = || world.ends.each_ref().map(|end| end.session.status());
    assert!(converged, "not within {LIMIT:?}: {} connections, {:#?}", world.connections(), shown());
    for (end, last) in last.iter().enumerate() {
        for (nlri, (command, told)) in last {
            let held = world.ends[1 - end].table.get(nlri);
            let told = told.as_ref().map(|route| &route.communities);
            assert_eq!(held, told, "{nlri}");
            let answers = world.ends[end].answers().filter(|answer| answer.command == *command);
            let answer = answers.last().map(|answer| &answer.kind);
            assert!(matches!(answer, Some(OutcomeKind::Applied { .. })), "{nlri}: {answer:?}");
        }
    }
    let counters = world.ends.each_ref().map(|end| end.session.status().counters);
    let sum = |of: fn(&tidegate_bgpd::session::Counters) -> u64| counters.iter().map(of).sum();
    (sum(|counters| counters.collisions), sum(|counters| counters.established))
}

#[test]
fn ten_thousand_worlds_converge() {
    let workers = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let (mut collisions, mut sessions) = (0, 0);
    thread::scope(|scope| {
        let work = |worker| move || (worker..SEEDS).step_by(workers as usize).map(live).collect();
        let all: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        for worker in all {
            let lives: Vec<(u64, u64)> = worker.join().unwrap();
            collisions += lives.iter().map(|(collisions, _)| collisions).sum::<u64>();
            sessions += lives.iter().map(|(_, sessions)| sessions).sum::<u64>();
        }
    });
    // Or else nothing was tried.
    println!("{collisions} collisions, {sessions} sessions");
    assert!(collisions > SEEDS / 4, "{collisions} collisions");
    assert!(sessions > 4 * SEEDS, "{sessions} sessions");
}
