//! What all backends have in common, shown with the fake one and with a speaker without peers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_adapters::fake::FakeBackend;
use tidegate_adapters::speaker::SpeakerBackend;
use tidegate_adapters::{Backend, BackendEvent, Backends, Held};
use tidegate_bgpd::Family;
use tidegate_bgpd::egress::GatePolicy;
use tidegate_bgpd::session::{ConnectMode, SessionOptions};
use tidegate_bgpd::speaker::{BlackholeProfile, PeerConfig, Speaker, SpeakerConfig, Transport};
use tidegate_model::{
    BackendId, BackendState, Command, CommandId, CommandKind, Community, MitigationKey, Nlri,
    Outcome, OutcomeKind, OwnedSpace, Route,
};
use tokio::sync::mpsc;

fn peer(name: &str) -> BackendId {
    BackendId::Peer(name.into())
}

fn blackhole() -> Route {
    Route {
        nlri: Nlri::Unicast("203.0.113.1".parse().unwrap()),
        next_hop: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        communities: BTreeSet::from([Community::BLACKHOLE, Community::NO_EXPORT]),
        large_communities: BTreeSet::new(),
        actions: vec![],
    }
}

fn announce(id: u64, backend: &BackendId) -> Command {
    let kind = CommandKind::Announce { route: blackhole(), lease: Duration::from_secs(60) };
    Command { id: CommandId(id), backend: backend.clone(), kind }
}

fn withdraw(id: u64, backend: &BackendId) -> Command {
    let kind = CommandKind::Withdraw(blackhole().nlri);
    Command { id: CommandId(id), backend: backend.clone(), kind }
}

fn applied() -> OutcomeKind {
    OutcomeKind::Applied { bytes: [].into() }
}

fn answer(command: &Command, kind: OutcomeKind) -> BackendEvent {
    BackendEvent::Outcome(Outcome {
        command: command.id,
        backend: command.backend.clone(),
        nlri: command.nlri().clone(),
        kind,
    })
}

fn holds(backend: &BackendId) -> BackendEvent {
    let held = vec![Held { nlri: blackhole().nlri, dropped: None }];
    BackendEvent::Observed { backend: backend.clone(), held }
}

/// A shared fake behind the trait.
struct Shared(Arc<FakeBackend>);

impl Backend for Shared {
    fn serves(&self, backend: &BackendId) -> bool {
        self.0.serves(backend)
    }

    fn submit(&self, command: Command) -> Result<(), Box<Outcome>> {
        self.0.submit(command)
    }

    fn observe(&self, backend: &BackendId) {
        self.0.observe(backend);
    }
}

#[test]
fn commands_go_to_the_backend_that_serves_them() {
    let (sender, mut events) = mpsc::channel(10);
    let (ours, strange) = (peer("ours"), peer("strange"));
    let fake = Arc::new(FakeBackend::new(BTreeSet::from([ours.clone()]), sender));
    let mut backends = Backends::new();
    backends.add(Box::new(Shared(Arc::clone(&fake))));

    let command = announce(1, &ours);
    backends.submit(command.clone()).unwrap();
    assert_eq!(events.try_recv(), Ok(answer(&command, applied())));
    assert_eq!(fake.routes(&ours), [blackhole()]);
    backends.observe(&ours);
    assert_eq!(events.try_recv(), Ok(holds(&ours)));

    let refused = backends.submit(announce(2, &strange)).unwrap_err();
    let why = "there is no backend `peer strange`".to_owned();
    assert_eq!(refused.kind, OutcomeKind::Rejected { why });
    let done = backends.submit(withdraw(3, &strange)).unwrap_err();
    assert_eq!((done.command, done.kind), (CommandId(3), applied()));
    backends.observe(&strange);
    assert!(events.try_recv().is_err());
}

#[test]
fn the_fake_keeps_routes_and_refuses_on_demand() {
    let (sender, mut events) = mpsc::channel(10);
    let kernel = BackendId::Kernel;
    let fake = FakeBackend::new(BTreeSet::from([kernel.clone()]), sender);
    let mut next = || match events.try_recv() {
        Ok(BackendEvent::Outcome(outcome)) => Some(outcome.kind),
        Ok(_) | Err(_) => None,
    };
    let key = MitigationKey { backend: kernel.clone(), nlri: blackhole().nlri };
    let refusal = OutcomeKind::Rejected { why: "no".into() };
    fake.set_refusal(key.clone(), Some(refusal.clone()));
    fake.submit(announce(1, &kernel)).unwrap();
    assert_eq!(next(), Some(refusal));
    assert_eq!(fake.routes(&kernel), []);

    fake.set_refusal(key, None);
    fake.set_state(&kernel, BackendState::Down { why: "gone".into() });
    assert_eq!(next(), None);
    fake.submit(announce(2, &kernel)).unwrap();
    assert!(matches!(next(), Some(OutcomeKind::Pending { .. })));
    fake.set_state(&kernel, BackendState::Up);
    assert_eq!(next(), None);
    fake.submit(announce(3, &kernel)).unwrap();
    assert_eq!(next(), Some(applied()));
    fake.forget(&kernel, &blackhole().nlri);
    assert_eq!(fake.routes(&kernel), []);
    fake.submit(withdraw(4, &kernel)).unwrap();
    assert_eq!(next(), Some(applied()));
}

/// A speaker whose only peer refuses connections.
fn speaker_config() -> SpeakerConfig {
    let unreachable = PeerConfig {
        name: "router".into(),
        address: Ipv4Addr::LOCALHOST.into(),
        asn: 65_001,
        port: 1,
        local_address: None,
        mode: ConnectMode::Active,
        hold_time: Duration::from_secs(9),
        families: BTreeSet::from([Family::Ipv4Unicast]),
        max_routes: 10,
        transport: Transport::default(),
        options: SessionOptions::default(),
        blackhole: BlackholeProfile::default(),
    };
    let owned = vec!["203.0.113.0/24".parse().unwrap()];
    let space = OwnedSpace { owned, never_touch: vec![] };
    SpeakerConfig {
        asn: 65_010,
        router_id: Ipv4Addr::new(10, 99, 0, 1),
        listen: vec![],
        peers: vec![unreachable],
        dynamic: vec![],
        gate: GatePolicy { space, ..GatePolicy::default() },
        seed: 1,
    }
}

#[tokio::test]
async fn the_speakers_peers_are_backends() {
    let (sender, mut events) = mpsc::channel(10);
    let (handle, news) = Speaker::start(speaker_config()).unwrap();
    let speaker = SpeakerBackend::new(handle, news, sender);
    let (router, strange) = (peer("router"), peer("strange"));
    assert!(speaker.serves(&router) && !speaker.serves(&BackendId::Kernel));
    let mut next = async || loop {
        match tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap() {
            BackendEvent::State { backend, state } => {
                assert!(backend == router && matches!(state, BackendState::Down { .. }));
            }
            event => return event,
        }
    };

    let command = announce(1, &router);
    speaker.submit(command.clone()).unwrap();
    match next().await {
        BackendEvent::Outcome(outcome) => {
            assert_eq!(outcome.command, command.id);
            assert!(matches!(outcome.kind, OutcomeKind::Pending { .. }), "{outcome:?}");
        }
        other => panic!("{other:?}"),
    }
    // Nothing was sent: there is no session.
    speaker.observe(&router);
    assert_eq!(next().await, BackendEvent::Observed { backend: router.clone(), held: vec![] });
    let command = withdraw(2, &router);
    speaker.submit(command.clone()).unwrap();
    assert_eq!(next().await, answer(&command, applied()));
    speaker.observe(&router);
    assert_eq!(next().await, BackendEvent::Observed { backend: router.clone(), held: vec![] });

    let failed = speaker.submit(announce(3, &strange)).unwrap_err();
    assert!(matches!(failed.kind, OutcomeKind::Failed { .. }), "{failed:?}");
    let done = speaker.submit(withdraw(4, &strange)).unwrap_err();
    assert_eq!(done.kind, applied());
    let wrong = speaker.submit(announce(5, &BackendId::Kernel)).unwrap_err();
    assert!(matches!(wrong.kind, OutcomeKind::Rejected { .. }), "{wrong:?}");
}
