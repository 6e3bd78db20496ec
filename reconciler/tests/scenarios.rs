//! The reconciler's promises one at a time, each as a short story.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_model::{
    AttackId, BackendId, BackendState, Command, CommandId, CommandKind, Community, DesiredSet,
    Lifetime, Mitigation, MitigationKey, Nlri, Outcome, OutcomeKind, OwnedSpace, Route, Timestamp,
};
use tidegate_reconciler::{
    AnnounceLimit, Change, Config, EntryState, Goal, Reconciler, Refusal, RemoveReason,
};

/// One reconciler, its time, and one peer to talk to.
struct Story {
    reconciler: Reconciler,
    now: Timestamp,
    generation: u64,
}

fn peer() -> BackendId {
    BackendId::Peer("router".into())
}

fn host(last: u8) -> Nlri {
    Nlri::Unicast(format!("203.0.113.{last}").parse().unwrap())
}

fn key(last: u8) -> MitigationKey {
    MitigationKey { backend: peer(), nlri: host(last) }
}

fn space(owned: &str) -> OwnedSpace {
    OwnedSpace { owned: vec![owned.parse().unwrap()], never_touch: vec![] }
}

fn config() -> Config {
    Config { max_entries: 4, ..Config::new(space("203.0.113.0/24")) }
}

impl Story {
    fn new(config: Config) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000);
        Self { reconciler: Reconciler::new(config), now, generation: 0 }
    }

    fn mitigation(&self, nlri: Nlri, backend: BackendId, version: u16, lease: u64) -> Mitigation {
        Mitigation {
            backend,
            route: Route {
                nlri,
                next_hop: None,
                communities: BTreeSet::from([Community::new(65010, version)]),
                large_communities: BTreeSet::new(),
                actions: vec![],
            },
            attacks: BTreeSet::from([AttackId(1)]),
            response: "blackhole".into(),
            reason: "test".into(),
            lifetime: Lifetime {
                at_least_until: self.now,
                not_after: self.now + Duration::from_secs(lease),
            },
        }
    }

    fn desire_all(&mut self, mitigations: Vec<Mitigation>) {
        self.generation += 1;
        let mitigations: BTreeMap<_, _> =
            mitigations.into_iter().map(|wanted| (wanted.key(), wanted)).collect();
        let desired = DesiredSet { generation: self.generation, mitigations };
        self.reconciler.handle_desired(self.now, &desired);
    }

    /// Desires these hosts at the peer for an hour.
    fn desire(&mut self, hosts: &[u8]) {
        let wanted =
            hosts.iter().map(|last| self.mitigation(host(*last), peer(), 1, 3_600)).collect();
        self.desire_all(wanted);
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.reconciler.poll_command()).collect()
    }

    /// `+1` for an announcement of host 1, `-1` for its withdraw.
    fn signs(&mut self) -> Vec<String> {
        let sign = |command: &Command| {
            let text = command.nlri().destination().unwrap().address().to_string();
            let last = text.rsplit('.').next().unwrap().to_owned();
            match command.kind {
                CommandKind::Announce { .. } => format!("+{last}"),
                CommandKind::Withdraw(_) => format!("-{last}"),
            }
        };
        self.commands().iter().map(sign).collect()
    }

    fn answer(&mut self, command: &Command, kind: OutcomeKind) {
        let outcome = Outcome {
            command: command.id,
            backend: command.backend.clone(),
            nlri: command.nlri().clone(),
            kind,
        };
        self.reconciler.handle_outcome(self.now, &outcome);
    }

    /// Answers everything outstanding with success.
    fn apply_all(&mut self) -> Vec<Command> {
        let commands = self.commands();
        for command in &commands {
            self.answer(command, applied());
        }
        commands
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.reconciler.handle_timeout(self.now);
    }

    fn state(&self, last: u8) -> Option<&EntryState> {
        self.reconciler.entry(&key(last)).map(|entry| entry.state())
    }

    fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.reconciler.poll_event()).map(|event| event.change).collect()
    }

    fn set_backend(&mut self, state: &BackendState) {
        self.reconciler.handle_backend(self.now, &peer(), state);
    }
}

fn applied() -> OutcomeKind {
    OutcomeKind::Applied { bytes: [].into() }
}

fn down() -> BackendState {
    BackendState::Down { why: "hold timer".into() }
}

#[test]
fn a_mitigation_comes_and_goes_and_tells_of_it() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    story.apply_all();
    story.desire(&[]);
    story.apply_all();
    assert_eq!(
        story.changes(),
        [
            Change::Entered(EntryState::Wanted),
            Change::Entered(EntryState::Announcing),
            Change::Entered(EntryState::Applied),
            Change::Entered(EntryState::Withdrawing),
            Change::Gone(RemoveReason::NotDesired),
        ]
    );
    assert_eq!(story.reconciler.entries().count(), 0);
    assert_eq!(story.reconciler.poll_timeout(), None);
}

#[test]
fn withdraws_go_first_and_the_same_desire_again_is_silent() {
    let mut story = Story::new(config());
    story.desire(&[1, 2]);
    story.apply_all();
    story.desire(&[1, 2]);
    assert!(story.signs().is_empty());
    story.desire(&[0, 2, 3]);
    assert_eq!(story.signs(), ["-1", "+0", "+3"]);
}

#[test]
fn a_withdraw_does_not_wait_for_the_answer_to_the_announcement() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let announced = story.commands();
    story.desire(&[]);
    let withdrawn = story.commands();
    story.answer(&announced[0], applied());
    assert_eq!(
        story.state(1),
        Some(&EntryState::Withdrawing),
        "the late answer counts for nothing"
    );
    story.answer(&withdrawn[0], applied());
    assert_eq!(story.state(1), None);
}

#[test]
fn a_withdraw_is_sent_until_it_is_done() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    story.apply_all();
    story.desire(&[]);
    for kind in [
        OutcomeKind::Failed { why: "busy".into() },
        OutcomeKind::Rejected { why: "unknown route".into() },
        OutcomeKind::Pending { why: "queue".into() },
    ] {
        let commands = story.commands();
        assert_eq!(commands.len(), 1, "before {kind:?}");
        story.answer(&commands[0], kind);
        assert!(story.signs().is_empty(), "not at once");
        story.pass(Duration::from_secs(10));
    }
    assert_eq!(story.signs(), ["-1"]);
    story.pass(Duration::from_secs(10));
    assert_eq!(story.signs(), ["-1"], "no answer at all");
    assert!(story.reconciler.entry(&key(1)).unwrap().failed_attempts() >= 3);
}

#[test]
fn a_lease_that_is_not_renewed_runs_out() {
    let mut story = Story::new(config());
    let wanted = story.mitigation(host(1), peer(), 1, 60);
    story.desire_all(vec![wanted.clone()]);
    story.apply_all();
    let not_after = story.reconciler.poll_timeout().unwrap();
    assert_eq!(not_after, wanted.lifetime.not_after);

    story.pass(Duration::from_secs(59));
    let renewed = story.mitigation(host(1), peer(), 1, 60);
    story.desire_all(vec![renewed.clone()]);
    assert!(story.signs().is_empty(), "a renewed lease changes nothing on the wire");

    story.pass(Duration::from_secs(59));
    assert!(story.signs().is_empty());
    story.pass(Duration::from_secs(1));
    assert_eq!(story.signs(), ["-1"]);
    story.desire_all(vec![renewed]);
    assert!(story.signs().is_empty(), "what is over is not announced again");
}

#[test]
fn failures_are_tried_again_later_and_rejections_only_when_something_changes() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let first = story.commands();
    story.answer(&first[0], OutcomeKind::Failed { why: "busy".into() });
    assert!(story.signs().is_empty());
    story.now = story.reconciler.poll_timeout().unwrap();
    story.reconciler.handle_timeout(story.now);
    let second = story.commands();
    assert_eq!(second.len(), 1);
    let why = "no such family".to_owned();
    story.answer(&second[0], OutcomeKind::Rejected { why: why.clone() });
    assert_eq!(story.state(1), Some(&EntryState::Rejected { why }));
    story.pass(Duration::from_secs(600));
    story.desire(&[1]);
    assert!(story.signs().is_empty());
    let changed = story.mitigation(host(1), peer(), 2, 3_600);
    story.desire_all(vec![changed]);
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let lost = story.commands();
    story.pass(Duration::from_secs(10));
    let again = story.commands();
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].id, lost[0].id);
    story.answer(&lost[0], OutcomeKind::Failed { why: "late".into() });
    assert_eq!(story.state(1), Some(&EntryState::Announcing));
}

#[test]
fn a_lost_session_withdraws_nothing_and_flaps_nothing() {
    let mut story = Story::new(config());
    story.desire(&[1, 2]);
    let commands = story.apply_all();
    story.set_backend(&down());
    assert!(matches!(story.state(1), Some(EntryState::Unknown { .. })));
    story.pass(Duration::from_secs(600));
    assert!(story.signs().is_empty());

    story.set_backend(&BackendState::Up);
    assert!(story.signs().is_empty(), "the speaker sends its routes again by itself");
    story.answer(&commands[0], applied());
    assert_eq!(story.state(1), Some(&EntryState::Applied));
    story.pass(Duration::from_secs(10));
    assert_eq!(story.signs(), ["+2"], "nothing confirmed this one");
}

#[test]
fn while_a_session_is_down_commands_wait_at_the_speaker() {
    let mut story = Story::new(config());
    story.set_backend(&down());
    story.desire(&[1]);
    let commands = story.commands();
    story.answer(&commands[0], OutcomeKind::Pending { why: "session is down".into() });
    story.pass(Duration::from_secs(600));
    assert!(story.signs().is_empty());
    story.set_backend(&BackendState::Up);
    story.answer(&commands[0], applied());
    assert_eq!(story.state(1), Some(&EntryState::Applied));
    assert!(story.signs().is_empty());
}

#[test]
fn a_backend_that_comes_up_is_told_to_withdraw_at_once() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    story.apply_all();
    story.set_backend(&down());
    story.desire(&[]);
    assert_eq!(story.signs(), ["-1"]);
    assert!(story.signs().is_empty());
    story.set_backend(&BackendState::Up);
    assert_eq!(story.signs(), ["-1"]);
}

#[test]
fn a_backend_that_comes_up_is_told_again_what_failed() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let commands = story.commands();
    story.answer(&commands[0], OutcomeKind::Failed { why: "no such peer".into() });
    assert!(story.signs().is_empty());
    story.set_backend(&BackendState::Up);
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn a_peer_that_comes_back_empty_is_told_again_once_that_is_observed() {
    let mut story = Story::new(config());
    story.desire(&[1, 2]);
    story.apply_all();
    story.set_backend(&down());
    story.set_backend(&BackendState::Up);
    story.reconciler.handle_observed(story.now, &peer(), vec![host(2)]);
    assert_eq!(story.signs(), ["+1"]);
    assert_eq!(story.state(2), Some(&EntryState::Applied));
}

#[test]
fn a_kernel_that_comes_back_is_told_everything_again() {
    let mut story = Story::new(config());
    let wanted = story.mitigation(host(1), BackendId::Kernel, 1, 60);
    story.desire_all(vec![wanted]);
    story.apply_all();
    story.reconciler.handle_backend(story.now, &BackendId::Kernel, &down());
    story.reconciler.handle_backend(story.now, &BackendId::Kernel, &BackendState::Up);
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn what_is_not_allowed_is_kept_as_refused_with_the_reason() {
    let mut story = Story::new(config());
    let foreign = Nlri::Unicast("198.51.100.1".parse().unwrap());
    let wanted = story.mitigation(foreign, peer(), 1, 60);
    story.desire_all(vec![wanted]);
    assert!(story.signs().is_empty());
    let refusal = Refusal::NotOwned("198.51.100.1".parse().unwrap());
    assert_eq!(story.changes(), [Change::Entered(EntryState::Refused(refusal))]);
    story.reconciler.handle_space(story.now, space("198.51.100.0/24"));
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn a_smaller_space_withdraws_first() {
    let mut story = Story::new(config());
    story.desire(&[1, 200]);
    story.apply_all();
    story.reconciler.handle_space(story.now, space("203.0.113.0/25"));
    story.desire(&[2, 200]);
    let commands = story.commands();
    let kinds: Vec<_> = commands.iter().map(|command| command.nlri().to_string()).collect();
    assert_eq!(kinds, ["203.0.113.1/32", "203.0.113.200/32", "203.0.113.2/32"]);
    for command in &commands {
        story.answer(command, applied());
    }
    let entry = story.reconciler.entry(&key(200)).unwrap();
    assert!(matches!(entry.goal(), Goal::Refuse(_)) && !entry.may_be_held());
    story.desire(&[2]);
    assert_eq!(story.state(200), None, "nothing to withdraw any more");
    assert!(story.signs().is_empty());
}

#[test]
fn what_another_daemon_or_the_kernel_rejected_is_tried_again_when_it_is_back() {
    for (backend, again) in
        [(BackendId::Kernel, true), (BackendId::External("bird".into()), true), (peer(), false)]
    {
        let mut story = Story::new(config());
        let wanted = story.mitigation(host(1), backend.clone(), 1, 3_600);
        story.desire_all(vec![wanted]);
        let commands = story.commands();
        story.answer(&commands[0], OutcomeKind::Rejected { why: "no such module".into() });
        for state in [down(), BackendState::Up] {
            assert!(story.signs().is_empty(), "{backend}");
            story.reconciler.handle_backend(story.now, &backend, &state);
        }
        assert_eq!(!story.signs().is_empty(), again, "{backend}");
    }
}

#[test]
fn what_was_rejected_is_tried_again_under_a_new_policy() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let commands = story.commands();
    story.answer(&commands[0], OutcomeKind::Rejected { why: "not by the gate".into() });
    story.reconciler.handle_space(story.now, space("203.0.113.0/25"));
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn what_an_earlier_run_left_is_adopted_if_it_is_desired_in_time_and_withdrawn_if_not() {
    let adopt_within = Duration::from_secs(5);
    let mut story = Story::new(Config { adopt_within, ..config() });
    story.reconciler.handle_left_behind(story.now, [key(1), key(2)]);
    story.reconciler.handle_observed(story.now, &peer(), vec![host(1), host(2), host(3)]);
    story.set_backend(&BackendState::Up);
    assert!(story.signs().is_empty());
    story.pass(Duration::from_secs(2));
    story.desire(&[1]);
    // Announced again, which changes nothing where it is held, and never withdrawn between.
    assert_eq!(story.signs(), ["+1"]);
    story.pass(Duration::from_secs(3));
    assert_eq!(story.signs(), ["-2", "-3"]);
    // What comes to light later has had its time.
    story.reconciler.handle_observed(story.now, &peer(), vec![host(4)]);
    assert_eq!(story.signs(), ["-4"]);
}

#[test]
fn in_a_panic_nothing_is_adopted() {
    let mut story = Story::new(Config { adopt_within: Duration::from_secs(5), ..config() });
    story.reconciler.handle_left_behind(story.now, [key(1)]);
    story.reconciler.withdraw_all(story.now);
    assert_eq!(story.signs(), ["-1"]);
}

#[test]
fn observation_restores_what_is_missing_and_removes_what_was_left_behind() {
    let mut story = Story::new(config());
    story.desire(&[1, 2]);
    story.apply_all();
    story.reconciler.handle_observed(story.now, &peer(), vec![host(2), host(9)]);
    assert_eq!(story.signs(), ["-9", "+1"]);
    story.desire(&[1, 2, 9]);
    assert_eq!(story.signs(), ["+9"], "wanted after all");
}

#[test]
fn a_full_ledger_makes_the_rest_wait() {
    let mut story = Story::new(config());
    let hosts: Vec<u8> = (1..=10).collect();
    story.desire(&hosts);
    assert_eq!(story.apply_all().len(), 4);
    let changes = story.changes();
    let count = |wanted: &Change| changes.iter().filter(|change| *change == wanted).count();
    assert_eq!((count(&Change::Waiting), count(&Change::Overflowed)), (4, 2));

    let held = (1..=4).chain(77..=82).map(host).collect();
    story.reconciler.handle_observed(story.now, &peer(), held);
    assert!(story.reconciler.entry(&key(77)).is_some(), "what was left behind has its own room");
    assert_eq!(story.reconciler.entries().count(), 8, "and a bound of its own");

    story.desire(&hosts[1..]);
    let gone = story.apply_all();
    assert_eq!(gone.len(), 5);
    assert_eq!(story.signs(), ["+5"], "in the room of the first");
}

#[test]
fn announcements_are_limited_and_withdraws_are_not() {
    let per_second = NonZeroU32::new(50).unwrap();
    let limit = AnnounceLimit { per_second, burst: NonZeroU32::new(100).unwrap() };
    let mut story = Story::new(Config { max_entries: 1_000, announces: limit, ..config() });
    let hosts: Vec<u8> = (0..=255).collect();
    story.desire(&hosts);
    assert_eq!(story.apply_all().len(), 100);
    assert_eq!(story.reconciler.poll_timeout(), Some(story.now + Duration::from_millis(20)));
    story.pass(Duration::from_secs(1));
    assert_eq!(story.apply_all().len(), 50);
    story.desire(&[]);
    assert_eq!(story.apply_all().len(), 150, "the others were never announced");
    assert_eq!(story.reconciler.entries().count(), 0);
}

#[test]
fn withdraw_all_lasts_until_resumed() {
    let mut story = Story::new(config());
    story.desire(&[1, 2]);
    story.apply_all();
    story.reconciler.withdraw_all(story.now);
    story.desire(&[1, 2, 3]);
    assert_eq!(story.signs(), ["-1", "-2"]);
    assert!(!story.reconciler.is_clear());
    story.reconciler.handle_observed(story.now, &peer(), vec![host(8)]);
    assert_eq!(story.signs(), ["-8"]);
    story.reconciler.resume(story.now);
    story.desire(&[3]);
    assert_eq!(story.signs(), ["+3"]);
}

#[test]
fn answers_to_what_nobody_asked_are_ignored() {
    let mut story = Story::new(config());
    story.desire(&[1]);
    let stranger =
        Command { id: CommandId(99), backend: peer(), kind: CommandKind::Withdraw(host(7)) };
    story.answer(&stranger, applied());
    story.answer(&Command { kind: CommandKind::Withdraw(host(1)), ..stranger }, applied());
    assert_eq!(story.signs(), ["+1"]);
}

#[test]
fn unread_events_are_bounded_and_counted() {
    let mut story = Story::new(config());
    for _ in 0..20 {
        story.desire(&[1]);
        story.desire(&[]);
    }
    assert_eq!(story.reconciler.events_lost(), 40 - 16);
    assert_eq!(story.changes().len(), 16);
}

#[test]
fn time_never_runs_backwards() {
    let mut story = Story::new(config());
    let wanted = story.mitigation(host(1), peer(), 1, 60);
    story.desire_all(vec![wanted]);
    story.apply_all();
    story.reconciler.handle_timeout(Timestamp::ZERO);
    assert!(story.signs().is_empty());
    story.reconciler.handle_timeout(Timestamp::MAX);
    assert_eq!(story.signs(), ["-1"]);
}
