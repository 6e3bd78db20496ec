//! Steps, approvals, severities and hours.

use super::*;
use crate::policy::{
    Approvals, Condition, Group, Hours, Mode, Otherwise, SensorPlace, ServicePort, Step,
};

const LOCAL_RULE: &str =
    "flow4 { destination 203.0.113.7/32; protocol =6; tcp-flags syn&!ack } at kernel";

fn group() -> Group {
    Group {
        name: "default".to_owned(),
        prefixes: vec![prefix("203.0.113.0/24")],
        thresholds: crate::policy::default_thresholds(),
        prefix_thresholds: None,
        capacity: None,
        allowed_ports: Vec::new(),
        approvals: Approvals::default(),
    }
}

fn step(action: ResponseAction, when: Condition) -> Step {
    let peers = match action {
        ResponseAction::Local(_) => Vec::new(),
        _ => vec!["router".to_owned()],
    };
    Step {
        when: vec![when],
        action,
        peers,
        widen: Widen::Never,
        rules_from: RuleSource::Signature,
        min_lifetime: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(3600),
    }
}

/// Local, then FlowSpec when that stops too little, then a blackhole for what is critical.
fn ladder() -> Policy {
    let mut policy = policy();
    policy.effect.sensor = SensorPlace::BehindFilters;
    policy.groups = vec![group()];
    let mut first =
        response("ladder", ResponseAction::Local(FilterAction::Discard), from(Severity::Low));
    first.peers.clear();
    first.then = vec![
        step(
            ResponseAction::FlowSpec(FilterAction::Discard),
            Condition { severity: Some(Severity::Medium), ..Condition::default() },
        ),
        step(
            ResponseAction::Rtbh,
            Condition {
                coverage_below: Some(0.9),
                after: Duration::from_secs(10),
                severity: Some(Severity::High),
                ..Condition::default()
            },
        ),
    ];
    policy.responses = vec![first];
    policy
}

fn sight(excess: f64) -> Sight {
    Sight { rate: now_at(attack(0, "203.0.113.7", 1.0), excess).current, excess }
}

#[test]
fn a_ladder_is_climbed_step_by_step() {
    let mut planner = planner(ladder());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 1.5)));
    assert_eq!(desired(&planner), [LOCAL_RULE]);
    planner.handle_attack(at(1.0), &updated(&attack(1, "203.0.113.7", 6.0)));
    assert_eq!(desired(&planner), [SYN_RULE]);
    // Two thirds stopped is too little, but not at once.
    for second in 2..11 {
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), sight(2.0))]);
        assert_eq!(desired(&planner), [SYN_RULE], "{second} s");
    }
    planner.handle_sights(at(11.0), [(AttackId(1), sight(2.0))]);
    assert_eq!(desired(&planner), [BLACKHOLE]);
    let said = decisions(&mut planner);
    assert!(
        said[2].reason.contains("`ladder`, step 3: blackhole at peer router"),
        "{}",
        said[2].reason
    );
}

#[test]
fn a_ladder_that_works_is_not_climbed() {
    let mut planner = planner(ladder());
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    for second in 1..300 {
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), sight(0.2))]);
    }
    assert_eq!(desired(&planner), [SYN_RULE]);
}

/// Where the effect cannot be seen nothing is concluded from it.
#[test]
fn an_unknown_effect_climbs_nothing() {
    let mut policy = ladder();
    policy.effect.sensor = SensorPlace::BeforeFilters;
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    for second in 1..300 {
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), sight(6.0))]);
    }
    assert_eq!(desired(&planner), [SYN_RULE]);
}

#[test]
fn the_filters_take_over_when_a_blackhole_is_lifted() {
    let mut planner = planner(ladder());
    let flood = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(0.0), &started(&flood));
    for second in 1..=15 {
        planner.handle_sights(at(f64::from(second)), [(AttackId(1), sight(2.0))]);
    }
    assert_eq!(desired(&planner), [BLACKHOLE]);
    let due = planner.poll_timeout().unwrap();
    planner.handle_timeout(due);
    assert_eq!(desired(&planner), [SYN_RULE]);
    // Over behind the filters: they stay as long as the blackhole did, for the next pulse.
    let over = due + Duration::from_secs(10);
    planner.handle_attack(over, &ended(&flood));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(planner.poll_timeout(), Some(over + Duration::from_secs(60)));
    planner.handle_timeout(over + Duration::from_secs(60));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), None);
}

#[test]
fn a_step_that_is_not_enforced_leads_to_the_next_where_the_policy_says_so() {
    for (otherwise, expected) in [(Otherwise::Stay, LOCAL_RULE), (Otherwise::Next, SYN_RULE)] {
        let mut policy = ladder();
        policy.enforcement.otherwise = otherwise;
        let mut planner = planner(policy);
        planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 1.5)));
        let key = planner.desired().mitigations.keys().next().unwrap().clone();
        let why = "no CAP_NET_ADMIN".to_owned();
        planner.handle_standings(at(0.1), [(key, Standing::Rejected { why })]);
        assert_eq!(desired(&planner), [expected], "{otherwise}");
    }
}

#[test]
fn what_needs_approval_waits_and_something_weaker_is_done() {
    let mut policy = policy();
    policy.groups = vec![group()];
    policy.groups[0].approvals.rtbh = Mode::Propose;
    let mut planner = planner(policy);
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_attack(at(1.0), &updated(&flood));
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(kinds(&mut planner), ["propose -", "mitigate filter"]);
    let proposals: Vec<String> =
        planner.proposals().flat_map(|it| &it.keys).map(ToString::to_string).collect();
    assert_eq!(proposals, [BLACKHOLE]);
}

#[test]
fn what_is_only_observed_says_what_would_be_done() {
    let mut policy = policy();
    policy.groups = vec![group()];
    policy.groups[0].approvals =
        Approvals { local: Mode::Observe, flowspec: Mode::Observe, rtbh: Mode::Observe };
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert!(desired(&planner).is_empty());
    let said = decisions(&mut planner);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].reason.contains("would `blackhole`: blackhole at peer router"),
        "{}",
        said[0].reason
    );
}

#[test]
fn severity_is_a_share_of_the_link_where_that_is_known() {
    let mut policy = policy();
    policy.groups = vec![group()];
    let gigabits =
        |bits: u64| Limit { packets: None, bits: Some(BitsPerSecond(bits * 1_000_000_000)) };
    policy.groups[0].capacity = Some(gigabits(10));
    for (excess, bits, expected) in [
        (100.0, 0, Severity::High),
        (100.0, 8_000_000_000, Severity::Critical),
        (1.0, 1_000_000_000, Severity::Low),
        (1.0, 2_000_000_000, Severity::Medium),
        (1.0, 5_000_000_000, Severity::High),
    ] {
        let mut attack = attack(1, "203.0.113.7", excess);
        attack.peak.bits = BitsPerSecond(bits);
        assert_eq!(policy.severity(at(1.0), &attack), expected, "{excess} times, {bits} bps");
    }
    // What is uncertain is no more than the policy says.
    policy.severities.uncertain_below = Confidence::new(0.99);
    policy.severities.uncertain_at_most = Severity::Medium;
    assert_eq!(policy.severity(at(1.0), &attack(1, "203.0.113.7", 100.0)), Severity::Medium);
}

#[test]
fn an_attack_that_lasts_becomes_more_severe_by_itself() {
    let mut policy = policy();
    policy.severities.after =
        [None, Some(Duration::from_secs(60)), Some(Duration::from_secs(3600))];
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(&attack(1, "203.0.113.7", 1.5)));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), Some(at(60.0)));
    planner.handle_timeout(at(60.0));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_timeout(at(3600.0));
    assert_eq!(desired(&planner), [BLACKHOLE]);
}

#[test]
fn a_response_has_its_hours() {
    let mut policy = policy();
    policy.utc_offset = 60;
    let night = Hours { days: [true; 7], from: 22 * 60, to: 6 * 60 };
    policy.responses[0].matcher.hours = vec![night];
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert_eq!(desired(&planner), [SYN_RULE], "nobody has said what time it is");
    // 20:59 UTC is 21:59 here.
    planner.handle_wall(at(10.0), 20 * 3600 + 59 * 60);
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_wall(at(70.0), 21 * 3600);
    assert_eq!(desired(&planner), [BLACKHOLE]);
}

#[test]
fn services_are_not_cut_off() {
    let mut policy = policy();
    policy.groups = vec![group()];
    policy.groups[0].allowed_ports = vec![ServicePort { protocol: 6, port: 443 }];
    policy.responses.remove(0);
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    assert!(desired(&planner).is_empty());
    let reason = planner.poll_decision().unwrap().reason;
    assert!(reason.contains("would cut off every client of tcp/443"), "{reason}");
    // What tells the attack from clients is no harm to the service.
    planner.handle_attack(
        at(0.0),
        &started(&with_vectors(attack(2, "203.0.113.8", 6.0), &[(NTP, 1.0)])),
    );
    assert_eq!(desired(&planner).len(), 1);
}

/// The next pulse goes on where the one before had got to: nothing weaker comes and goes.
#[test]
fn a_pulse_goes_on_from_the_step_of_the_one_before() {
    let mut planner = planner(ladder());
    let first = attack(1, "203.0.113.7", 2.0);
    planner.handle_attack(at(0.0), &started(&first));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_attack(at(5.0), &ended(&first));
    planner.handle_attack(at(10.0), &started(&attack(2, "203.0.113.7", 1.5)));
    assert_eq!(desired(&planner), [SYN_RULE]);
    // Once nothing is left of it, it begins anew.
    planner.handle_attack(at(20.0), &ended(&attack(2, "203.0.113.7", 1.5)));
    planner.handle_timeout(at(80.0));
    assert!(desired(&planner).is_empty());
    planner.handle_attack(at(100.0), &started(&attack(3, "203.0.113.7", 1.5)));
    assert_eq!(desired(&planner), [LOCAL_RULE]);
}
