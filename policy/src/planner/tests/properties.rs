//! What holds whatever attacks, policies and times come.

use proptest::prelude::*;
use tidegate_model::{
    BitmaskTest, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch, NumericOperator,
};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    News { id: u64, target: usize, excess: f64, vectors: Vec<(AttackVector, f64)>, current: f64 },
    End { id: u64, reason: EndReason },
    Timeout,
    Policy(usize),
    Standings(Standing),
    BackendUp,
    Sights(f64),
    Sensor(Sensor),
    Order(u64, u8),
    Wall(u64),
}

const TARGETS: [&str; 8] = [
    "203.0.113.7",
    "203.0.113.8",
    "203.0.113.53",
    "203.0.113.0/24",
    "10.99.0.2",
    "192.0.2.1",
    "2001:db8:1::7",
    "10.1.0.0/16",
];

/// Policies that differ in responses, peers, limits and space.
fn policies() -> Vec<Policy> {
    let first = policy();
    let mut tight = policy();
    tight.peers[0].max_routes = 3;
    tight.responses[0].max_lifetime = Duration::from_secs(90);
    tight.responses.insert(
        0,
        response(
            "limit",
            ResponseAction::FlowSpec(FilterAction::RateLimitPackets(1000)),
            Matcher { vectors: vec![NTP], ..Matcher::default() },
        ),
    );
    let mut local = policy();
    local.space.owned.remove(1);
    local.space.never_touch.push(prefix("203.0.113.8"));
    local.peers = vec![peer("router", &[Family::Ipv4Unicast, Family::Ipv6FlowSpec])];
    local.responses.insert(
        1,
        response("here", ResponseAction::Local(FilterAction::Discard), from(Severity::Medium)),
    );
    local.responses[2].min_lifetime = Duration::from_secs(45);
    vec![first, tight, local]
}

fn any_feedback() -> impl Strategy<Value = Step> {
    let why = || "a reason".to_owned();
    let standing = prop::sample::select(vec![
        Standing::Enforced,
        Standing::Awaited { why: why() },
        Standing::Rejected { why: why() },
        Standing::Gone,
    ]);
    prop_oneof![
        3 => standing.prop_map(Step::Standings),
        1 => Just(Step::BackendUp),
        2 => (0.0..3.0_f64).prop_map(Step::Sights),
        1 => prop::sample::select(vec![Sensor::Blind, Sensor::Seeing]).prop_map(Step::Sensor),
        3 => (0..6_u64, 0..5_u8).prop_map(|(id, order)| Step::Order(id, order)),
        1 => (0..604_800_u64).prop_map(Step::Wall),
    ]
}

fn any_step() -> impl Strategy<Value = (f64, Step)> {
    let vector = prop::sample::select(vec![
        AttackVector::SynFlood,
        AttackVector::UdpFlood,
        NTP,
        AttackVector::Unknown,
    ]);
    let vectors = prop::collection::vec((vector, 0.05..1.0_f64), 1..4);
    let news = (0..6_u64, 0..TARGETS.len(), 0.5..40.0_f64, vectors, 0.0..3.0_f64);
    let news = news.prop_map(|(id, target, excess, vectors, current)| Step::News {
        id,
        target,
        excess,
        vectors,
        current,
    });
    let reason = prop::sample::select(vec![
        EndReason::Quiet(Duration::from_secs(10)),
        EndReason::InputEnded,
        EndReason::NotProtected,
    ]);
    let end = (0..6_u64, reason).prop_map(|(id, reason)| Step::End { id, reason });
    let step = prop_oneof![
        6 => news,
        2 => end,
        3 => Just(Step::Timeout),
        1 => (0..3_usize).prop_map(Step::Policy),
        2 => any_feedback(),
    ];
    (prop_oneof![4 => 0.0..3.0_f64, 1 => 0.0..200.0_f64], step)
}

fn apply(planner: &mut Planner, policies: &[Policy], now: Timestamp, step: &Step) {
    match step {
        Step::News { id, target, excess, vectors, current } => {
            // One target for each attack, whatever else changes.
            let target = TARGETS[(*target * 6 + usize::try_from(*id).unwrap()) % TARGETS.len()];
            let target = planner
                .attacks
                .get(&AttackId(*id))
                .map_or_else(|| target.to_owned(), |known| known.attack.target.to_string());
            let attack = now_at(with_vectors(attack(*id, &target, *excess), vectors), *current);
            planner.handle_attack(now, &updated(&attack));
        }
        Step::End { id, reason } => {
            let known = planner.attacks.get(&AttackId(*id)).map(|known| known.attack.clone());
            if let Some(attack) = known {
                planner.handle_attack(now, &AttackEvent::Ended(attack, *reason));
            }
        }
        Step::Timeout => planner.handle_timeout(now),
        Step::Policy(index) => planner.handle_policy(now, Arc::new(policies[*index].clone())),
        Step::Standings(standing) => {
            let keys: Vec<_> = planner.desired().mitigations.keys().cloned().collect();
            let news = keys.into_iter().map(|key| (key, standing.clone()));
            planner.handle_standings(now, news);
        }
        Step::BackendUp => {
            planner.handle_backend_up(now, &BackendId::Peer("router".to_owned()));
        }
        Step::Sights(ratio) => {
            let attacks = planner.attacks.values();
            let sights: Vec<_> = attacks
                .map(|it| (it.attack.id, Sight { rate: it.attack.current, excess: *ratio }))
                .collect();
            planner.handle_sights(now, sights);
        }
        Step::Sensor(sensor) => planner.handle_sensor(now, *sensor),
        Step::Order(id, order) => {
            let (attack, by) = (AttackId(*id), "anna".to_owned());
            let order = match order {
                0 => Order::Hold { attack, by },
                1 => Order::Resume { attack, by },
                2 => Order::Withdraw { attack, by, reason: "a mistake".to_owned() },
                3 => Order::Renew { attack, extra: Duration::from_secs(600), by },
                _ => Order::Approve { attack, response: None, by },
            };
            let _ = planner.handle_order(now, &order);
        }
        Step::Wall(unix) => planner.handle_wall(now, *unix),
    }
}

fn values(numeric: &NumericMatch) -> Vec<u64> {
    numeric.groups().iter().flatten().map(|test| test.value).collect()
}

/// The rules for rules, stated anew: by trying packets, not by looking at bounds.
fn rule_is_safe(rule: &FlowSpecRule) -> Result<(), String> {
    let destination = rule.destination().ok_or("no destination")?;
    let shortest = if destination.address().is_ipv4() { 24 } else { 48 };
    if destination.length() < shortest {
        return Err("too wide".into());
    }
    let mut protocols: Vec<u64> = Vec::new();
    let mut narrowing = 0;
    for component in rule.components() {
        use FlowSpecComponent as C;
        let (most, needs): (u64, &[u64]) = match component {
            C::DestinationPrefix(_) => continue,
            C::IpProtocol(numeric) => {
                protocols = (0..=255).filter(|value| numeric.matches(*value)).collect();
                (255, &[])
            }
            C::DestinationPort(_) | C::SourcePort(_) => (65_535, &[6, 17, 132]),
            C::IcmpType(_) => (255, &[1, 58]),
            C::TcpFlags(_) => (0xfff, &[6]),
            C::PacketLength(_) => (65_535, &[]),
            C::Fragment(_) => (15, &[]),
            _ => return Err(format!("{} is never made", component.name())),
        };
        if !needs.is_empty()
            && (protocols.is_empty() || protocols.iter().any(|number| !needs.contains(number)))
        {
            return Err(format!("{} without its protocol", component.name()));
        }
        let (count, hits) = match component {
            C::IpProtocol(numeric)
            | C::DestinationPort(numeric)
            | C::SourcePort(numeric)
            | C::IcmpType(numeric)
            | C::PacketLength(numeric) => {
                let exotic = numeric.groups().iter().flatten().any(|test| {
                    matches!(test.operator, NumericOperator::NotEqual | NumericOperator::True)
                });
                if exotic || values(numeric).iter().any(|value| *value > most) {
                    return Err("operator or value".into());
                }
                let hits = (0..=most).filter(|value| numeric.matches(*value)).count();
                (values(numeric).len(), hits)
            }
            C::TcpFlags(mask) | C::Fragment(mask) => {
                let tests: Vec<&BitmaskTest> = mask.groups().iter().flatten().collect();
                let most = u16::try_from(most).unwrap();
                (tests.len(), (0..=most).filter(|bits| mask.matches(*bits)).count())
            }
            _ => (0, 0),
        };
        if count > 5 || hits == 0 {
            return Err(format!("{count} values, {hits} hits"));
        }
        narrowing += usize::from(u64::try_from(hits).unwrap() <= most);
    }
    if narrowing == 0 { Err("matches everything".into()) } else { Ok(()) }
}

/// `known` are rules that were found safe before.
fn is_safe(
    planner: &Planner,
    policy: &Policy,
    known: &mut BTreeSet<FlowSpecRule>,
) -> Result<(), String> {
    let mut at: BTreeMap<&BackendId, u32> = BTreeMap::new();
    for (key, mitigation) in &planner.desired().mitigations {
        let fail = |why: &str| Err(format!("{key}: {why}"));
        let destination = key.nlri.destination().ok_or("no destination")?;
        if !policy.space.owned.iter().any(|owned| owned.as_net().contains(&destination.as_net())) {
            return fail("not owned");
        }
        let touches = |other: &Prefix| other.contains(&destination) || destination.contains(other);
        if policy.space.never_touch.iter().any(touches) {
            return fail("never touch");
        }
        if policy.peers.iter().any(|peer| destination.overlaps(&peer.location.prefix())) {
            return fail("session");
        }
        match &key.nlri {
            Nlri::Unicast(prefix) if !prefix.is_host() => return fail("not a host"),
            Nlri::Unicast(prefix) => {
                let next_hop = mitigation.route.next_hop.ok_or("no next hop")?;
                if next_hop.is_ipv4() != prefix.address().is_ipv4() {
                    return fail("next hop");
                }
            }
            Nlri::FlowSpec(rule) => {
                if known.insert(rule.clone()) {
                    rule_is_safe(rule).or_else(|why| fail(&why))?;
                }
                if mitigation.route.actions.len() != 1 {
                    return fail("action");
                }
            }
        }
        if mitigation.attacks.is_empty() || mitigation.key() != *key {
            return fail("for nobody");
        }
        *at.entry(&key.backend).or_default() += 1;
    }
    let blackholed = planner.desired().mitigations.keys().filter_map(|key| match key.nlri {
        Nlri::Unicast(target) => Some(target),
        Nlri::FlowSpec(_) => None,
    });
    let blackholed: BTreeSet<Prefix> = blackholed.collect();
    for target in TARGETS.map(prefix) {
        if (planner.occlusion(target) == Occlusion::Blackholed) != blackholed.contains(&target) {
            return Err(format!("occlusion of {target}"));
        }
    }
    for (backend, count) in at {
        if let BackendId::Peer(name) = backend {
            let most = policy.peer(name).ok_or("unknown peer")?.max_routes;
            if count > 1 && count * 5 > most * 4 {
                return Err(format!("{count} of {most} routes at {name}"));
            }
        }
    }
    Ok(())
}

type Story = (Vec<DesiredSet>, Vec<Decision>);

fn play(steps: &[(f64, Step)]) -> Result<(Planner, Timestamp, Story), String> {
    let policies = policies();
    let mut current = 0;
    let mut planner = Planner::new(Arc::new(policies[current].clone()));
    let mut known = BTreeSet::new();
    let mut now = at(0.0);
    let mut story: Story = (Vec::new(), Vec::new());
    for (wait, step) in steps {
        now = now + Duration::from_secs_f64(*wait);
        if let Step::Policy(index) = step {
            current = *index;
        }
        let before = planner.desired().clone();
        apply(&mut planner, &policies, now, step);
        is_safe(&planner, &policies[current], &mut known)?;
        let after = planner.desired();
        if (before.generation == after.generation) != (before.mitigations == after.mitigations) {
            return Err(format!("generation {} says otherwise", after.generation));
        }
        planner.handle_timeout(now);
        if planner.poll_timeout().is_some_and(|due| due <= now) {
            return Err(format!("{:?} is still due at {now:?}", planner.poll_timeout()));
        }
        is_safe(&planner, &policies[current], &mut known)?;
        let after = planner.desired();
        story.0.push(after.clone());
        story.1.extend(decisions(&mut planner));
    }
    Ok((planner, now, story))
}

proptest! {
    #[test]
    fn everything_desired_is_safe_and_goes_in_the_end(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let (mut planner, mut now, _) = play(&steps).map_err(TestCaseError::fail)?;
        // All attacks end as attacks do: by quiet.
        for id in 0..6 {
            let known = planner.attacks.get(&AttackId(id)).map(|known| known.attack.clone());
            if let Some(attack) = known {
                planner.handle_attack(now, &ended(&attack));
            }
            // Nobody keeps anything.
            apply(&mut planner, &[], now, &Step::Order(id, 1));
        }
        let mut timeouts = 0;
        while let Some(due) = planner.poll_timeout() {
            now = now.max(due);
            planner.handle_timeout(now);
            timeouts += 1;
            prop_assert!(timeouts < 100, "timers without end");
        }
        prop_assert!(planner.desired().mitigations.is_empty());
        prop_assert!(planner.attacks.is_empty() && planner.claims.is_empty());
        prop_assert!(planner.claimed_at.is_empty());
    }

    #[test]
    fn the_same_story_has_the_same_end(steps in prop::collection::vec(any_step(), 1..30)) {
        let first = play(&steps).map_err(TestCaseError::fail)?.2;
        let second = play(&steps).map_err(TestCaseError::fail)?.2;
        prop_assert_eq!(first, second);
    }

    /// Whatever the engine forgets to tell, every mitigation has an end of its own.
    #[test]
    fn without_news_everything_goes(steps in prop::collection::vec(any_step(), 1..30)) {
        let (mut planner, _, _) = play(&steps).map_err(TestCaseError::fail)?;
        let mut timeouts = 0;
        while let Some(due) = planner.poll_timeout() {
            planner.handle_timeout(due);
            timeouts += 1;
            prop_assert!(timeouts < 1000, "timers without end");
        }
        prop_assert!(planner.desired().mitigations.is_empty());
    }
}
