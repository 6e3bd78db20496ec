//! The stage that all these tests share.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate_adapters::external::{ExternalBackend, ExternalConfig, Guard, Mark};
use tidegate_adapters::{Backend, BackendEvent};
use tidegate_bgpd::egress::GatePolicy;
use tidegate_interop_tests::lab::bird::{Bird, BirdConfig, BirdRoute, Connect};
use tidegate_interop_tests::lab::{End, Lab, Namespace, require};
use tidegate_model::{
    AddressFamily, BackendId, BackendState, Command, CommandId, CommandKind, Community,
    FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, OutcomeKind, OwnedSpace, Route,
    TrafficFilteringAction,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver};

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// On every route of ours in a daemon that keeps none of its own.
pub(crate) const MARK: Mark = Mark::of_as(65001);
/// The router's side of the link to the third one.
pub(crate) const ROUTER: &str = "10.98.0.2";
/// The third router's side.
pub(crate) const THIRD: &str = "10.98.0.3";

/// The namespaces, and the third router.
pub(crate) struct Stage {
    /// Processes go before the laboratory, whose folder their files are in.
    pub(crate) third: Bird,
    pub(crate) router: Namespace,
    pub(crate) lab: Lab,
}

impl Stage {
    /// The stage, if this machine has these programs.
    pub(crate) fn new(test: &str, programs: &[&str]) -> Option<Self> {
        for program in programs.iter().chain(&["bird"]) {
            require::or_skip(test, require::program(program))?;
        }
        let lab = require::or_skip(test, Lab::new())?;
        let router = lab.namespace("router").unwrap();
        let third = lab.namespace("third").unwrap();
        lab.link(
            End {
                namespace: &router,
                interface: "third",
                addresses: &["10.98.0.2/24", "fd98::2/64"],
            },
            End {
                namespace: &third,
                interface: "core",
                addresses: &["10.98.0.3/24", "fd98::3/64"],
            },
        )
        .unwrap();
        let config = BirdConfig {
            router_id: Ipv4Addr::new(10, 98, 0, 3),
            local_as: 65003,
            neighbor_as: 65001,
            local: THIRD.parse().unwrap(),
            neighbor: ROUTER.parse().unwrap(),
            hold_time: 9,
            connect: Connect::Active,
        };
        let third = Bird::start(&third, "third", &config.render()).unwrap();
        Some(Self { third, router, lab })
    }

    /// A file for the router's daemon.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.router.directory().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Waits until the third router holds exactly these, by what [`sketch`] makes of them.
    pub(crate) fn expect_third(&mut self, wanted: &[&Route]) {
        self.expect_third_beside(wanted, &[]);
    }

    /// The same, with routes of others.
    pub(crate) fn expect_third_beside(&mut self, wanted: &[&Route], others: &[&Route]) {
        let all = wanted.iter().chain(others);
        let wanted: BTreeSet<String> = all.map(|route| sketch(route)).collect();
        let started = Instant::now();
        loop {
            let held: BTreeSet<String> =
                self.third.routes().unwrap().iter().map(sketch_of_bird).collect();
            if held == wanted {
                return;
            }
            assert!(started.elapsed() < LIMIT, "the third router holds {held:#?}, not {wanted:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The `tidegate` program, built from the sources as they are now.
pub(crate) fn tidegate() -> PathBuf {
    crate::common::programs().tidegate.clone()
}

/// Waits for a condition.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a route means to the third router.
fn sketch(route: &Route) -> String {
    let communities: BTreeSet<String> = route.communities.iter().map(ToString::to_string).collect();
    match &route.nlri {
        Nlri::Unicast(prefix) => format!("{prefix} {communities:?}"),
        Nlri::FlowSpec(rule) => {
            let rate = route.actions.iter().find_map(|action| match action {
                TrafficFilteringAction::RateLimitBytes(rate) => Some(*rate),
                _ => None,
            });
            format!("{} {rate:?} {communities:?}", as_bird(rule))
        }
    }
}

/// A rule of [`rule`]'s components as BIRD prints it.
fn as_bird(rule: &FlowSpecRule) -> String {
    let (name, protocol) = match rule.family() {
        AddressFamily::Ipv4 => ("flow4", "proto"),
        AddressFamily::Ipv6 => ("flow6", "next header"),
    };
    let parts = rule.components().iter().map(|component| match component {
        FlowSpecComponent::DestinationPrefix(prefix) => format!("dst {prefix};"),
        FlowSpecComponent::IpProtocol(numbers) => format!("{protocol} {};", listed(numbers)),
        FlowSpecComponent::SourcePort(numbers) => format!("sport {};", listed(numbers)),
        other => panic!("{other}"),
    });
    format!("{name} {{ {} }}", parts.collect::<Vec<_>>().join(" "))
}

fn listed(numbers: &NumericMatch) -> String {
    numbers.to_string().trim_start_matches('=').replace(" =", ",")
}

fn sketch_of_bird(route: &BirdRoute) -> String {
    let communities: BTreeSet<String> =
        route.communities.iter().map(|(high, low)| format!("{high}:{low}")).collect();
    if !route.is_flowspec() {
        return format!("{} {communities:?}", route.net);
    }
    let rate = route.extended_communities.iter().find(|value| **value >> 48 == 0x8006);
    let rate = rate.map(|value| f32::from_bits(u32::try_from(value & 0xffff_ffff).unwrap()));
    format!("{} {rate:?} {communities:?}", route.net)
}

/// A blackhole of one of the owned addresses, without NO_EXPORT: the daemon passes it on.
pub(crate) fn blackhole(address: &str) -> Route {
    let address: IpAddr = address.parse().unwrap();
    let next_hop = match address {
        IpAddr::V4(_) => IpAddr::from([10, 98, 0, 77]),
        IpAddr::V6(_) => "fd98::77".parse().unwrap(),
    };
    Route {
        nlri: Nlri::Unicast(tidegate_model::Prefix::host(address)),
        next_hop: Some(next_hop),
        communities: [Community::BLACKHOLE, Community::new(65001, 7)].into(),
        large_communities: [].into(),
        actions: vec![],
    }
}

/// A rule against reflected DNS and NTP.
pub(crate) fn rule(address: &str, rate: f32) -> Route {
    let destination: tidegate_model::Prefix = address.parse().unwrap();
    let components = vec![
        FlowSpecComponent::DestinationPrefix(destination),
        FlowSpecComponent::IpProtocol(NumericMatch::equal(17)),
        FlowSpecComponent::SourcePort(NumericMatch::one_of(53, [123])),
    ];
    Route {
        nlri: Nlri::FlowSpec(FlowSpecRule::new(destination.family(), components).unwrap()),
        next_hop: None,
        communities: [Community::new(65001, 7)].into(),
        large_communities: [].into(),
        actions: vec![TrafficFilteringAction::RateLimitBytes(rate)],
    }
}

/// One route of each of the four families.
pub(crate) fn four() -> [Route; 4] {
    [
        blackhole("203.0.113.7"),
        blackhole("2001:db8:1::7"),
        rule("203.0.113.9", 0.0),
        rule("2001:db8:1::9", 125_000.0),
    ]
}

pub(crate) fn guard() -> Guard {
    let owned = ["203.0.113.0/24", "2001:db8:1::/48"].map(|text| text.parse().unwrap()).into();
    Guard::new(GatePolicy {
        space: OwnedSpace { owned, never_touch: vec![] },
        scope: BTreeSet::new(),
        ..GatePolicy::default()
    })
}

/// A driver at work, asked from the thread of the test.
pub(crate) struct Driven {
    backend: Option<ExternalBackend>,
    events: Receiver<BackendEvent>,
    runtime: Runtime,
    next: u64,
}

impl Driven {
    pub(crate) fn start(config: ExternalConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, events) = mpsc::channel(1000);
        let _entered = runtime.enter();
        let driver = move || config.driver();
        let backend = Some(ExternalBackend::start("daemon", driver, guard(), sender));
        Self { backend, events, runtime, next: 0 }
    }

    fn id() -> BackendId {
        BackendId::External("daemon".to_owned())
    }

    fn event(&mut self) -> BackendEvent {
        let next = self.events.recv();
        let next = self.runtime.block_on(async { tokio::time::timeout(LIMIT, next).await });
        next.expect("an event").expect("the backend's task")
    }

    pub(crate) fn wait_up(&mut self) {
        let started = Instant::now();
        let mut news = Vec::new();
        loop {
            match self.event() {
                BackendEvent::State { state: BackendState::Up, .. } => return,
                other => news.push(other),
            }
            assert!(started.elapsed() < LIMIT, "never up: {news:?}");
        }
    }

    /// Why it is down.
    pub(crate) fn wait_down(&mut self) -> String {
        let started = Instant::now();
        loop {
            if let BackendEvent::State { state: BackendState::Down { why }, .. } = self.event() {
                return why;
            }
            assert!(started.elapsed() < LIMIT, "never down");
        }
    }

    fn tell(&mut self, kind: CommandKind) -> OutcomeKind {
        let [outcome] = self.tell_all([kind]).try_into().unwrap();
        outcome
    }

    /// Hands all over, then waits for the answers, which are sorted by command.
    pub(crate) fn tell_all(
        &mut self,
        kinds: impl IntoIterator<Item = CommandKind>,
    ) -> Vec<OutcomeKind> {
        let mut open = BTreeSet::new();
        let mut answers = std::collections::BTreeMap::new();
        for kind in kinds {
            self.next += 1;
            let id = CommandId(self.next);
            let command = Command { id, backend: Self::id(), kind };
            match self.backend.as_ref().unwrap().submit(command) {
                Ok(()) => drop(open.insert(id)),
                Err(outcome) => drop(answers.insert(id, outcome.kind)),
            }
        }
        while !open.is_empty() {
            if let BackendEvent::Outcome(outcome) = self.event()
                && open.remove(&outcome.command)
            {
                answers.insert(outcome.command, outcome.kind);
            }
        }
        answers.into_values().collect()
    }

    pub(crate) fn announce(&mut self, route: &Route) -> OutcomeKind {
        self.tell(announce(route))
    }

    pub(crate) fn withdraw(&mut self, route: &Route) -> OutcomeKind {
        self.tell(withdraw(route))
    }

    pub(crate) fn observe(&mut self) -> BTreeSet<Nlri> {
        self.backend.as_ref().unwrap().observe(&Self::id());
        loop {
            if let BackendEvent::Observed { held, .. } = self.event() {
                return held.into_iter().map(|held| held.nlri).collect();
            }
        }
    }

    pub(crate) fn goes_through_all_families(&mut self, stage: &mut Stage) {
        self.goes_through_all_families_beside(stage, &[]);
    }

    /// Announces one route of each family, changes one, withdraws them; all as the third router
    /// sees it, which holds these routes of others all the time.
    pub(crate) fn goes_through_all_families_beside(
        &mut self,
        stage: &mut Stage,
        others: &[&Route],
    ) {
        let routes = four();
        let outcomes = self.tell_all(routes.iter().map(announce));
        assert_eq!(outcomes, vec![applied(); 4]);
        stage.expect_third_beside(&routes.each_ref(), others);
        assert_eq!(self.observe(), nlris(&routes));

        // Again: nothing changes. Otherwise: the new one counts.
        assert_eq!(self.announce(&routes[0]), applied());
        let slower = rule("203.0.113.9", 9600.0);
        assert_eq!(self.announce(&slower), applied());
        stage.expect_third_beside(&[&routes[0], &routes[1], &slower, &routes[3]], others);

        for route in &routes[..2] {
            assert_eq!(self.withdraw(route), applied());
        }
        stage.expect_third_beside(&[&slower, &routes[3]], others);
        assert_eq!(self.tell_all(routes.iter().map(withdraw)), vec![applied(); 4]);
        stage.expect_third(others);
        assert_eq!(self.observe(), BTreeSet::new());
    }
}

pub(crate) fn announce(route: &Route) -> CommandKind {
    CommandKind::Announce { route: route.clone(), lease: Duration::from_secs(60) }
}

pub(crate) fn withdraw(route: &Route) -> CommandKind {
    CommandKind::Withdraw(route.nlri.clone())
}

pub(crate) fn applied() -> OutcomeKind {
    OutcomeKind::Applied { bytes: [].into() }
}

pub(crate) fn nlris<'a>(routes: impl IntoIterator<Item = &'a Route>) -> BTreeSet<Nlri> {
    routes.into_iter().map(|route| route.nlri.clone()).collect()
}
