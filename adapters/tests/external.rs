//! The task that runs a driver, with a driver that does as it is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_adapters::external::{
    Change, Driver, ExternalBackend, ExternalError, Guard, Observation, Refusal, Seen,
};
use tidegate_adapters::{Backend, BackendEvent, Capabilities, Held};
use tidegate_bgpd::egress::GatePolicy;
use tidegate_model::{
    BackendId, BackendState, Command, CommandId, CommandKind, Nlri, OutcomeKind, OwnedSpace, Route,
};
use tokio::sync::mpsc::{self, Receiver};

/// What the daemon is like; shared with the test.
#[derive(Default)]
struct World {
    held: BTreeMap<Nlri, Route>,
    foreign: BTreeSet<Nlri>,
    gone: bool,
    /// It stops at a bug when it is told the next change.
    faulty: bool,
    batches: Vec<Vec<String>>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<World>>);

impl Scripted {
    fn reach(&self) -> Result<(), ExternalError> {
        let gone = self.0.lock().unwrap().gone;
        if gone { Err(ExternalError::Lost("it is gone".to_owned())) } else { Ok(()) }
    }
}

impl Driver for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn spelled(&self, nlri: &Nlri) -> Result<Nlri, String> {
        Ok(nlri.clone())
    }

    async fn connect(&mut self) -> Result<(), ExternalError> {
        self.reach()
    }

    async fn probe(&mut self) -> Result<(), ExternalError> {
        self.reach()
    }

    async fn apply(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), Refusal>>, ExternalError> {
        self.reach()?;
        let faulty = std::mem::take(&mut self.0.lock().unwrap().faulty);
        assert!(!faulty, "as it was told to");
        let mut world = self.0.lock().unwrap();
        let mut batch = Vec::new();
        for change in changes {
            match change {
                Change::Announce(route) => {
                    batch.push(format!("+{}", route.nlri));
                    world.held.insert(route.nlri.clone(), route.clone());
                }
                Change::Withdraw(nlri) => {
                    batch.push(format!("-{nlri}"));
                    world.held.remove(nlri);
                }
            }
        }
        world.batches.push(batch);
        Ok(vec![Ok(()); changes.len()])
    }

    async fn observe(&mut self) -> Result<Observation, ExternalError> {
        self.reach()?;
        let world = self.0.lock().unwrap();
        let seen = |(nlri, route): (&Nlri, &Route)| Seen {
            nlri: nlri.clone(),
            route: Some(route.clone()),
        };
        let ours = world.held.iter().map(seen).collect();
        Ok(Observation { ours, foreign: world.foreign.clone() })
    }
}

fn blackhole(last: u8) -> Route {
    Route {
        nlri: Nlri::Unicast(format!("203.0.113.{last}").parse().unwrap()),
        next_hop: Some([192, 0, 2, 1].into()),
        communities: ["blackhole".parse().unwrap(), "no-export".parse().unwrap()].into(),
        large_communities: [].into(),
        actions: vec![],
    }
}

fn id() -> BackendId {
    BackendId::External("daemon".to_owned())
}

struct Story {
    world: Scripted,
    backend: ExternalBackend,
    events: Receiver<BackendEvent>,
    next: u64,
}

impl Story {
    fn new(world: Scripted) -> Self {
        let (sender, events) = mpsc::channel(100);
        let owned = vec!["203.0.113.0/24".parse().unwrap()];
        let space = OwnedSpace { owned, never_touch: vec![] };
        let guard = Guard::new(GatePolicy { space, ..GatePolicy::default() });
        let driver = world.clone();
        let backend = ExternalBackend::start("daemon", move || driver.clone(), guard, sender);
        Self { world, backend, events, next: 0 }
    }

    async fn event(&mut self) -> BackendEvent {
        let next = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
        next.await.unwrap().unwrap()
    }

    fn submit(&mut self, kind: CommandKind) {
        self.next += 1;
        let command = Command { id: CommandId(self.next), backend: id(), kind };
        self.backend.submit(command).unwrap();
    }

    fn announce(&mut self, route: &Route) {
        let lease = Duration::from_secs(60);
        self.submit(CommandKind::Announce { route: route.clone(), lease });
    }

    fn withdraw(&mut self, route: &Route) {
        self.submit(CommandKind::Withdraw(route.nlri.clone()));
    }

    async fn outcome(&mut self) -> OutcomeKind {
        match self.event().await {
            BackendEvent::Outcome(outcome) => outcome.kind,
            other => panic!("{other:?}"),
        }
    }

    async fn held(&mut self) -> Vec<Nlri> {
        self.backend.observe(&id());
        match self.event().await {
            BackendEvent::Observed { held, .. } => held.into_iter().map(|one| one.nlri).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn come_up(&mut self, expected: &[&Route]) {
        let held = expected.iter().map(|one| Held { nlri: one.nlri.clone(), dropped: None });
        let observed = BackendEvent::Observed { backend: id(), held: held.collect() };
        assert_eq!(self.event().await, observed);
        let up = BackendEvent::State { backend: id(), state: BackendState::Up };
        assert_eq!(self.event().await, up);
    }
}

fn is_failed(kind: &OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Failed { .. })
}

fn is_applied(kind: &OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Applied { .. })
}

#[tokio::test]
async fn what_is_held_is_told_before_it_is_up_and_nothing_is_known_of_what_is_down() {
    let world = Scripted::default();
    let (one, two) = (blackhole(1), blackhole(2));
    world.0.lock().unwrap().held.insert(one.nlri.clone(), one.clone());
    let mut story = Story::new(world);
    story.come_up(&[&one]).await;
    story.world.0.lock().unwrap().gone = true;
    story.announce(&two);
    assert!(is_failed(&story.outcome().await));
    let down = story.event().await;
    assert!(matches!(down, BackendEvent::State { state: BackendState::Down { .. }, .. }));
    // A withdraw is not done because nobody can be asked.
    story.withdraw(&one);
    assert!(is_failed(&story.outcome().await));
    story.world.0.lock().unwrap().gone = false;
    story.come_up(&[&one]).await;
    story.withdraw(&one);
    assert!(is_applied(&story.outcome().await));
    assert_eq!(story.held().await, []);
}

#[tokio::test]
async fn withdraws_go_first_and_alone_and_the_last_command_counts() {
    let mut story = Story::new(Scripted::default());
    let (one, two, three) = (blackhole(1), blackhole(2), blackhole(3));
    // All of them are there before the task runs.
    story.announce(&one);
    story.announce(&two);
    story.withdraw(&three);
    story.withdraw(&one);
    story.come_up(&[]).await;
    for _ in 0..3 {
        assert!(is_applied(&story.outcome().await));
    }
    let batches = story.world.0.lock().unwrap().batches.clone();
    let expected = [vec!["-203.0.113.1/32", "-203.0.113.3/32"], vec!["+203.0.113.2/32"]];
    assert_eq!(batches, expected);
}

#[tokio::test]
async fn the_gate_and_the_routes_of_others_are_respected() {
    let world = Scripted::default();
    let theirs = blackhole(7);
    world.0.lock().unwrap().foreign.insert(theirs.nlri.clone());
    let mut story = Story::new(world);
    story.come_up(&[]).await;
    let not_owned = Route { nlri: Nlri::Unicast("198.51.100.1".parse().unwrap()), ..blackhole(1) };
    story.announce(&not_owned);
    assert!(matches!(story.outcome().await, OutcomeKind::Rejected { .. }));
    story.announce(&theirs);
    assert!(is_failed(&story.outcome().await));
    story.withdraw(&theirs);
    // It looks again before it says that nothing is there to withdraw.
    assert!(matches!(story.event().await, BackendEvent::Observed { .. }));
    assert!(is_applied(&story.outcome().await));
    assert!(story.world.0.lock().unwrap().batches.is_empty());
}

#[tokio::test]
async fn what_is_ours_beside_a_route_of_others_is_withdrawn() {
    let world = Scripted::default();
    let route = blackhole(7);
    world.0.lock().unwrap().foreign.insert(route.nlri.clone());
    let mut story = Story::new(world);
    story.come_up(&[]).await;
    // At another neighbour of the daemon, say.
    story.world.0.lock().unwrap().held.insert(route.nlri.clone(), route.clone());
    story.withdraw(&route);
    assert!(matches!(story.event().await, BackendEvent::Observed { .. }));
    assert!(is_applied(&story.outcome().await));
    assert!(story.world.0.lock().unwrap().held.is_empty());
}

#[tokio::test]
async fn a_driver_that_stops_at_a_bug_is_down_and_started_again() {
    let mut story = Story::new(Scripted::default());
    story.come_up(&[]).await;
    let route = blackhole(1);
    story.announce(&route);
    assert!(is_applied(&story.outcome().await));
    story.world.0.lock().unwrap().faulty = true;
    story.withdraw(&route);
    let down = story.event().await;
    assert!(
        matches!(down, BackendEvent::State { state: BackendState::Down { .. }, .. }),
        "{down:?}"
    );
    story.come_up(&[&route]).await;
    story.withdraw(&route);
    assert!(is_applied(&story.outcome().await));
    assert_eq!(story.held().await, []);
}

#[tokio::test]
async fn what_somebody_changed_counts_as_missing() {
    let mut story = Story::new(Scripted::default());
    story.come_up(&[]).await;
    let route = blackhole(1);
    story.announce(&route);
    assert!(is_applied(&story.outcome().await));
    assert_eq!(story.held().await, std::slice::from_ref(&route.nlri));
    let changed = Route { communities: [].into(), ..route.clone() };
    story.world.0.lock().unwrap().held.insert(route.nlri.clone(), changed);
    assert_eq!(story.held().await, []);
}
