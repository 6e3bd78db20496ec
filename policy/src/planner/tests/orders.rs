//! What people order.

use super::*;
use crate::policy::{Approvals, Group, Mode};

const BY: &str = "anna";

fn proposing() -> Policy {
    let mut policy = policy();
    policy.groups = vec![Group {
        name: "default".to_owned(),
        prefixes: vec![prefix("203.0.113.0/24")],
        thresholds: crate::policy::default_thresholds(),
        prefix_thresholds: None,
        capacity: None,
        allowed_ports: Vec::new(),
        approvals: Approvals { rtbh: Mode::Propose, ..Approvals::default() },
    }];
    policy
}

fn approve(id: u64) -> Order {
    Order::Approve { attack: AttackId(id), response: None, by: BY.to_owned() }
}

fn withdraw(id: AttackId) -> Order {
    Order::Withdraw { attack: id, by: BY.to_owned(), reason: "a mistake".to_owned() }
}

fn manual(target: &str, action: ManualAction) -> Order {
    Order::Announce {
        target: prefix(target),
        action,
        peers: Vec::new(),
        ttl: Duration::from_secs(600),
        by: BY.to_owned(),
        reason: "the customer asked".to_owned(),
    }
}

#[test]
fn an_approval_carries_out_what_waits() {
    let mut planner = planner(proposing());
    assert_eq!(planner.handle_order(at(0.0), &approve(1)), Err(OrderRefused::Unknown(AttackId(1))));
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 20.0)));
    assert_eq!(planner.handle_order(at(1.0), &approve(1)), Ok(AttackId(1)));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    assert_eq!(planner.proposals().count(), 0);
    assert_eq!(
        planner.handle_order(at(2.0), &approve(1)),
        Err(OrderRefused::NothingToApprove(AttackId(1)))
    );
}

/// Approved and withdrawn at once, in either order: withdrawn.
#[test]
fn a_withdrawal_wins() {
    for orders in [[approve(1), withdraw(AttackId(1))], [withdraw(AttackId(1)), approve(1)]] {
        let mut planner = planner(proposing());
        let flood = attack(1, "203.0.113.7", 20.0);
        planner.handle_attack(at(0.0), &started(&flood));
        for order in &orders {
            let _ = planner.handle_order(at(1.0), order);
        }
        assert!(desired(&planner).is_empty());
        planner.handle_attack(at(2.0), &updated(&flood));
        assert!(desired(&planner).is_empty());
    }
}

#[test]
fn a_hold_keeps_everything_as_it_is() {
    let mut planner = planner(policy());
    let flood = attack(1, "203.0.113.7", 6.0);
    planner.handle_attack(at(0.0), &started(&flood));
    let hold = Order::Hold { attack: AttackId(1), by: BY.to_owned() };
    planner.handle_order(at(1.0), &hold).unwrap();
    planner.handle_attack(at(2.0), &updated(&attack(1, "203.0.113.7", 40.0)));
    assert_eq!(desired(&planner), [SYN_RULE], "no step up");
    planner.handle_attack(at(100.0), &ended(&flood));
    planner.handle_timeout(at(200.0));
    assert_eq!(desired(&planner), [SYN_RULE], "and none down");
    assert_eq!(planner.poll_timeout(), Some(at(6.0 * 3600.0)));
    let resume = Order::Resume { attack: AttackId(1), by: BY.to_owned() };
    planner.handle_order(at(300.0), &resume).unwrap();
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.handle_order(at(301.0), &resume), Err(OrderRefused::Unknown(AttackId(1))));
}

#[test]
fn a_renewal_moves_the_hard_end() {
    let mut policy = policy();
    policy.responses[1].max_lifetime = Duration::from_secs(100);
    let mut planner = planner(policy);
    planner.handle_attack(at(0.0), &started(&attack(1, "203.0.113.7", 6.0)));
    let renew = |seconds| Order::Renew {
        attack: AttackId(1),
        extra: Duration::from_secs(seconds),
        by: BY.to_owned(),
    };
    planner.handle_order(at(50.0), &renew(60)).unwrap();
    planner.handle_timeout(at(100.0));
    assert_eq!(desired(&planner), [SYN_RULE]);
    planner.handle_timeout(at(160.0));
    assert!(desired(&planner).is_empty());
    // What is over can be renewed as well, and then lasts as long as the policy says.
    planner.handle_order(at(200.0), &renew(60)).unwrap();
    assert_eq!(desired(&planner), [SYN_RULE]);
    assert_eq!(planner.poll_timeout(), Some(at(300.0)));
    assert_eq!(planner.handle_order(at(201.0), &renew(0)), Err(OrderRefused::Time(Duration::ZERO)));
    let forever = planner.handle_order(at(201.0), &renew(8 * 86_400)).unwrap_err();
    assert_eq!(forever.to_string(), "the time must be from 1 s to 168 h, not 192 h");
}

#[test]
fn a_manual_blackhole_lasts_for_its_time() {
    let mut planner = planner(policy());
    let id =
        planner.handle_order(at(0.0), &manual("203.0.113.7", ManualAction::Blackhole)).unwrap();
    assert_eq!(id.to_string(), "manual-0");
    assert_eq!(desired(&planner), [BLACKHOLE]);
    let said = decisions(&mut planner);
    assert_eq!(said[0].reason, "anna: the customer asked; for 10 min");
    // It is looked after by nobody: no probe, no change by a new policy that allows it.
    planner.handle_timeout(at(300.0));
    planner.handle_policy(at(301.0), Arc::new(policy()));
    assert_eq!(desired(&planner), [BLACKHOLE]);
    planner.handle_timeout(at(600.0));
    assert!(desired(&planner).is_empty());
    assert_eq!(planner.poll_timeout(), None);
    // And it can be withdrawn before.
    let id =
        planner.handle_order(at(700.0), &manual("203.0.113.7", ManualAction::Blackhole)).unwrap();
    planner.handle_order(at(701.0), &withdraw(id)).unwrap();
    assert!(desired(&planner).is_empty());
}

#[test]
fn manual_mitigations_pass_the_same_guards() {
    let mut planner = planner(policy());
    let rule =
        || crate::rule::synthesise(prefix("203.0.113.7"), &attack(1, "203.0.113.7", 6.0).vectors);
    let rule = rule().unwrap().remove(0);
    let discard = FilterAction::Discard;
    for (order, refusal) in [
        (manual("192.0.2.1", ManualAction::Blackhole), "lies in no owned prefix"),
        (manual("203.0.113.53", ManualAction::Blackhole), "which no mitigation may touch"),
        (manual("203.0.113.0/24", ManualAction::Blackhole), "too wide"),
        (
            manual("203.0.113.8", ManualAction::FlowSpec(rule.clone(), discard)),
            "the rule does not lead to 203.0.113.8/32",
        ),
    ] {
        let error = planner.handle_order(at(0.0), &order).unwrap_err().to_string();
        assert!(error.contains(refusal), "{error}");
        assert!(desired(&planner).is_empty());
    }
    planner
        .handle_order(
            at(0.0),
            &manual("203.0.113.7", ManualAction::FlowSpec(rule.clone(), discard)),
        )
        .unwrap();
    planner
        .handle_order(at(0.0), &manual("203.0.113.7", ManualAction::Local(rule, discard)))
        .unwrap();
    assert_eq!(desired(&planner).len(), 2);
    // A policy that no longer owns the target takes them away at once.
    let mut smaller = policy();
    smaller.space.owned.remove(0);
    planner.handle_policy(at(1.0), Arc::new(smaller));
    assert!(desired(&planner).is_empty());
}
