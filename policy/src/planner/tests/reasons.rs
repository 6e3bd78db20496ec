//! The text that people read.

use super::*;

fn reasons(policy: Policy, attack: &Attack) -> String {
    let mut planner = planner(policy);
    planner.handle_attack(at(1.0), &started(attack));
    let text: Vec<String> =
        decisions(&mut planner).into_iter().map(|decision| decision.reason).collect();
    text.join("\n")
}

#[test]
fn of_a_filter() {
    insta::assert_snapshot!(reasons(policy(), &attack(1, "203.0.113.7", 12.0)), @"tcp-syn at 120 kpps, limit 10.0 kpps, peak 12.0 times the limit; syn-flood, confidence 0.97; severity high; `filter`: discard by 1 FlowSpec rule at peer router; at least 0 s, at most 6 h");
}

#[test]
fn of_a_blackhole() {
    insta::assert_snapshot!(reasons(policy(), &attack(1, "203.0.113.7", 31.5)), @"tcp-syn at 315 kpps, limit 10.0 kpps, peak 31.5 times the limit; syn-flood, confidence 0.97; severity critical; `blackhole`: blackhole at peer router; at least 1 min, at most 6 h");
}

#[test]
fn of_an_observation() {
    insta::assert_snapshot!(reasons(policy(), &attack(1, "203.0.113.7", 1.2)), @"tcp-syn at 12.0 kpps, limit 10.0 kpps, peak 1.2 times the limit; syn-flood, confidence 0.97; severity low; `watch`: observed only");
}

#[test]
fn of_a_trigger_by_bits() {
    let mut attack = attack(1, "203.0.113.7", 6.0);
    attack.vectors = vec![estimate(NTP, 1.0)];
    attack.trigger = Trigger {
        metric: Metric::Amplification,
        rate: Rate { packets: PacketsPerSecond(300_000), bits: BitsPerSecond(1_200_000_000) },
        limit: Limit {
            packets: Some(PacketsPerSecond(100_000)),
            bits: Some(BitsPerSecond(200_000_000)),
        },
    };
    insta::assert_snapshot!(reasons(policy(), &attack), @"amplification at 1.20 Gbps, limit 200 Mbps, peak 6.0 times the limit; ntp-amplification, confidence 0.97; severity high; `filter`: discard by 1 FlowSpec rule at peer router; at least 0 s, at most 6 h");
}

#[test]
fn of_a_fall_to_the_next_response() {
    let unknown = with_vectors(attack(1, "203.0.113.7", 6.0), &[(AttackVector::Unknown, 1.0)]);
    insta::assert_snapshot!(reasons(policy(), &unknown), @"tcp-syn at 60.0 kpps, limit 10.0 kpps, peak 6.0 times the limit; unknown, confidence 0.97; severity high; `watch`: observed only; not `filter`: the kind of flood is not recognised: a rule for everything to 203.0.113.7/32 would be a blackhole in disguise");
}

#[test]
fn of_a_refusal() {
    let mut strict = policy();
    strict.responses.pop();
    insta::assert_snapshot!(reasons(strict, &attack(1, "203.0.113.53", 100.0)), @"tcp-syn at 1.00 Mpps, limit 10.0 kpps, peak 100.0 times the limit; syn-flood, confidence 0.97; severity critical; not mitigated; not `blackhole`, `filter`: 203.0.113.53/32 touches 203.0.113.53/32, which no mitigation may touch; if it may be mitigated after all, take it off `never-touch` of `[owned]`");
}

#[test]
fn of_a_whole_life() {
    let mut policy = policy();
    policy.responses[0].max_lifetime = Duration::from_secs(200);
    let mut planner = planner(policy);
    let flood = attack(1, "203.0.113.7", 20.0);
    planner.handle_attack(at(0.0), &started(&flood));
    planner.handle_timeout(at(60.0));
    planner.handle_attack(at(60.2), &updated(&flood));
    planner.handle_timeout(at(180.2));
    planner.handle_timeout(at(192.2));
    planner.handle_timeout(at(200.0));
    let other = attack(2, "203.0.113.8", 6.0);
    planner.handle_attack(at(201.0), &started(&other));
    planner.handle_attack(at(230.0), &ended(&other));
    let third = attack(3, "203.0.113.9", 20.0);
    planner.handle_attack(at(240.0), &started(&third));
    planner.handle_timeout(at(300.0));
    planner.handle_attack(at(305.0), &ended(&third));
    let text: Vec<String> = decisions(&mut planner)
        .into_iter()
        .map(|decision| format!("{}: {}", decision.attack, decision.reason))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    attack-1: tcp-syn at 200 kpps, limit 10.0 kpps, peak 20.0 times the limit; syn-flood, confidence 0.97; severity critical; `blackhole`: blackhole at peer router; at least 1 min, at most 200 s
    attack-1: blackholed for 1 min: lifted to see whether the attack goes on
    attack-1: above its limit while the blackhole was lifted: back for 2 min; tcp-syn at 200 kpps, limit 10.0 kpps, peak 20.0 times the limit; syn-flood, confidence 0.97; severity critical; `blackhole`
    attack-1: blackholed for 2 min: lifted to see whether the attack goes on
    attack-1: not over while the blackhole was lifted: back for 4 min; tcp-syn at 200 kpps, limit 10.0 kpps, peak 20.0 times the limit; syn-flood, confidence 0.97; severity critical; `blackhole`
    attack-1: the maximum lifetime of 200 s is over: withdrawn, and not again for this attack
    attack-2: tcp-syn at 60.0 kpps, limit 10.0 kpps, peak 6.0 times the limit; syn-flood, confidence 0.97; severity high; `filter`: discard by 1 FlowSpec rule at peer router; at least 0 s, at most 6 h
    attack-2: over: below the exit threshold for 10.0 s; withdrawn
    attack-3: tcp-syn at 200 kpps, limit 10.0 kpps, peak 20.0 times the limit; syn-flood, confidence 0.97; severity critical; `blackhole`: blackhole at peer router; at least 1 min, at most 200 s
    attack-3: blackholed for 1 min: lifted to see whether the attack goes on
    attack-3: over: below the exit threshold for 10.0 s; the blackhole stays lifted
    ");
}
