//! The store against files as they happen to be: fresh, full, damaged, from elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rusqlite::Connection;
use tidegate::event::Verb;
use tidegate::incident::{Incident, Status, WallTime, sample};
use tidegate::store::journal::{Durability, Held, Journal};
use tidegate::store::{
    AlertKey, JobRow, Limits, Listing, MessageRow, Opened, Reader, StoreError, open,
};
use tidegate_model::{
    AddressFamily, BackendId, Command, CommandId, CommandKind, FlowSpecComponent, FlowSpecRule,
    MitigationKey, Nlri, Outcome, OutcomeKind, Prefix, Route,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> WallTime {
    "2026-08-22T13:00:00Z".parse().unwrap()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("incidents.db")
    }

    fn open(&self) -> Opened {
        self.open_with(Limits::default(), now())
    }

    fn open_with(&self, limits: Limits, now: WallTime) -> Opened {
        open(&self.path(), limits, now).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Lets go of the store and waits until its writer has closed the file: SQLite removes the log
    /// then.
    fn close(&self, opened: Opened) {
        assert!(opened.store.settle(PATIENCE));
        drop(opened);
        let deadline = Instant::now() + PATIENCE;
        while self.files().iter().any(|name| name.ends_with(".db-wal")) {
            assert!(Instant::now() < deadline, "the writer does not end");
            std::thread::yield_now();
        }
    }
}

fn incident(number: u64, status: Status) -> Incident {
    let mut incident = if status == Status::Closed { sample::closed() } else { sample::incident() };
    let later = Duration::from_secs(number);
    incident.id = format!("i{number:05}");
    incident.times.onset = incident.times.onset.after(later);
    incident.updated = incident.updated.after(later);
    incident.status = status;
    incident
}

#[test]
fn incidents_survive_and_are_read_beside_the_writer() {
    let place = Place::new();
    let opened = place.open();
    assert!(opened.moved.is_none() && opened.unfinished.is_empty());
    let mut active = incident(1, Status::Active);
    opened.store.put_incident(Arc::new(active.clone()));
    opened.store.put_incident(Arc::new(incident(2, Status::Closed)));
    active.sources = 9_999;
    opened.store.put_incident(Arc::new(active.clone()));
    assert!(opened.store.settle(PATIENCE));

    let reader = Reader::open(&place.path()).unwrap();
    assert_eq!(reader.incident("i00001").unwrap(), Some(active.clone()));
    assert_eq!(reader.incident("none").unwrap(), None);
    let ids = |listing: &Listing| -> Vec<String> {
        let incidents = reader.incidents(listing).unwrap();
        incidents.into_iter().map(|incident| incident.id).collect()
    };
    let all = Listing { limit: 10, ..Listing::default() };
    assert_eq!(ids(&all), ["i00002", "i00001"]);
    assert_eq!(ids(&Listing { status: Some(Status::Closed), ..all.clone() }), ["i00002"]);
    assert_eq!(ids(&Listing { target: Some("203.0.113.7/32".to_owned()), ..all.clone() }).len(), 2);
    assert_eq!(ids(&Listing { target: Some("' OR 1=1 --".to_owned()), ..all.clone() }).len(), 0);
    let onset = incident(2, Status::Closed).times.onset;
    assert_eq!(ids(&Listing { before: Some(onset), ..all.clone() }), ["i00001"]);
    assert_eq!(ids(&Listing { limit: 1, ..all }).len(), 1);
    drop(reader);

    place.close(opened);
    let opened = place.open();
    assert_eq!(opened.unfinished, [active]);
}

#[test]
fn any_sqlite_tool_can_read_it() {
    let place = Place::new();
    let opened = place.open();
    opened.store.put_incident(Arc::new(incident(1, Status::Closed)));
    assert!(opened.store.settle(PATIENCE));
    let connection = Connection::open(place.path()).unwrap();
    let row: (String, String, i64, String) = connection
        .query_row(
            "SELECT target, vector, peak_packets_per_second, \
             document ->> '$.mitigations[0].nlri' FROM incidents WHERE severity = 'high'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    let nlri = "flow4 { destination 203.0.113.7/32; protocol =17; source-port =53 }";
    assert_eq!(row, ("203.0.113.7/32".into(), "dns-amplification".into(), 420_000, nlri.into()));
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn a_damaged_file_is_moved_aside() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("text", |path| {
            std::fs::write(path, "this is no database, but long enough to be one").unwrap()
        }),
        ("overwritten", |path| {
            let mut octets = std::fs::read(path).unwrap();
            let middle = octets.len() / 8;
            octets[middle..].fill(0xa5);
            std::fs::write(path, octets).unwrap();
        }),
        ("cut", |path| {
            let octets = std::fs::read(path).unwrap();
            std::fs::write(path, &octets[..octets.len() / 2]).unwrap();
        }),
        ("a table is gone", |path| {
            Connection::open(path).unwrap().execute_batch("DROP TABLE intents").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let place = Place::new();
        let opened = place.open();
        for number in 0..200 {
            opened.store.put_incident(Arc::new(incident(number, Status::Closed)));
        }
        place.close(opened);
        damage(&place.path());
        let opened = place.open();
        let moved = opened.moved.clone().unwrap_or_else(|| panic!("{name}: not moved"));
        assert!(moved.exists(), "{name}");
        assert!(moved.to_string_lossy().contains("incidents.db.damaged-20260822T130000"), "{name}");
        assert!(opened.unfinished.is_empty() && opened.held.is_empty(), "{name}");
        opened.store.put_incident(Arc::new(incident(1, Status::Active)));
        place.close(opened);
        assert_eq!(place.open().unfinished.len(), 1, "{name}");
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let place = Place::new();
    let foreign = Connection::open(place.path()).unwrap();
    foreign.execute_batch("CREATE TABLE ledger (id INTEGER)").unwrap();
    let error = open(&place.path(), Limits::default(), now()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(place.files(), ["incidents.db"]);

    let place = Place::new();
    place.close(place.open());
    let newer = Connection::open(place.path()).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    let error = open(&place.path(), Limits::default(), now()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("use the newer tidegate"));

    let nowhere = place.folder.path().join("none/incidents.db");
    let error = open(&nowhere, Limits::default(), now()).unwrap_err();
    assert!(error.to_string().contains("check that the directory exists"), "{error}");
}

#[test]
fn old_and_surplus_incidents_go_and_open_ones_stay() {
    let place = Place::new();
    let opened = place.open();
    for number in 0..400 {
        let mut long = incident(number, Status::Closed);
        long.group = "g".repeat(5_000);
        opened.store.put_incident(Arc::new(long));
    }
    opened.store.put_incident(Arc::new(incident(0, Status::Active)));
    place.close(opened);
    let before = std::fs::metadata(place.path()).unwrap().len();

    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    place.close(place.open_with(limits, now()));
    let reader = Reader::open(&place.path()).unwrap();
    let all = Listing { limit: 1_000, ..Listing::default() };
    let kept = reader.incidents(&all).unwrap();
    assert!((10..200).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0].id, "i00399", "the newest stay");
    assert_eq!(kept.last().unwrap().id, "i00000", "and what is not closed");
    assert!(std::fs::metadata(place.path()).unwrap().len() < before / 2);
    drop(reader);

    let limits = Limits { keep: Duration::from_secs(60), ..Limits::default() };
    place.close(place.open_with(limits, now().after(Duration::from_secs(7_200))));
    let kept = Reader::open(&place.path()).unwrap().incidents(&all).unwrap();
    assert_eq!(kept.iter().map(|kept| kept.id.as_str()).collect::<Vec<_>>(), ["i00000"]);
}

#[test]
fn a_disk_that_refuses_delays_nobody_and_loses_nothing_once_it_takes() {
    let place = Place::new();
    let opened = place.open();
    // Someone else holds the file: every commit fails after its patience.
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let began = Instant::now();
    for number in 0..100 {
        opened.store.put_incident(Arc::new(incident(number, Status::Active)));
    }
    let journal = Journal::new(opened.store.clone(), now());
    let receipt = journal.intend(now(), &announce(1, &border(), &rule(7)));
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waited for the disk");
    assert_eq!(receipt.wait(Duration::from_millis(10)), Durability::NotYet);
    let deadline = Instant::now() + PATIENCE;
    while opened.store.failed() == 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert_eq!(receipt.wait(PATIENCE), Durability::Durable);
    drop(journal);
    place.close(opened);
    let opened = place.open();
    assert_eq!((opened.unfinished.len(), opened.held.len()), (100, 1));
}

#[test]
fn alerts_wait_on_disk_in_their_latest_revision() {
    let place = Place::new();
    let opened = place.open();
    let key =
        || AlertKey { channel: "team".to_owned(), alert: "a'; DROP TABLE intents".to_owned() };
    let job = |event: &str, revision| JobRow {
        key: key(),
        event: event.to_owned(),
        revision,
        created: now(),
        snapshot: format!("{{\"revision\":{revision}}}"),
    };
    for job in [job("opened", 1), job("opened", 2), job("ended", 3)] {
        opened.store.put_job(job);
    }
    opened.store.remove_job(key(), "opened", 1);
    opened.store.remove_job(key(), "ended", 3);
    // What is no JSON is left out, and keeps nothing else from the disk.
    opened.store.put_job(JobRow { snapshot: "{".to_owned(), ..job("mitigated", 4) });
    let message = MessageRow {
        key: key(),
        remote: Some("C1 1.2".to_owned()),
        severity: "high".to_owned(),
        updated: now(),
    };
    opened.store.put_message(message.clone());
    place.close(opened);
    let opened = place.open();
    assert_eq!(opened.jobs, [job("opened", 2)]);
    assert_eq!(opened.messages, [message]);
    for revision in 10..2_100 {
        opened.store.put_job(JobRow {
            key: AlertKey { alert: format!("a{revision}"), ..key() },
            created: now().after(Duration::from_secs(revision)),
            ..job("opened", revision)
        });
        // The queue is bounded; the writer is given the time that it needs.
        assert!(revision % 500 != 0 || opened.store.settle(PATIENCE));
    }
    place.close(opened);
    let jobs = place.open().jobs;
    assert_eq!((jobs.len(), jobs[0].revision), (1_000, 1_100), "the oldest go");
}

fn border() -> BackendId {
    BackendId::Peer("border1".to_owned())
}

fn rule(number: u8) -> Nlri {
    let target = Prefix::host([203, 0, 113, number].into());
    let components = vec![FlowSpecComponent::DestinationPrefix(target)];
    Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap())
}

fn route(nlri: &Nlri) -> Route {
    Route {
        nlri: nlri.clone(),
        next_hop: None,
        communities: Default::default(),
        large_communities: Default::default(),
        actions: Vec::new(),
    }
}

fn announce(command: u64, backend: &BackendId, nlri: &Nlri) -> Command {
    let (route, lease) = (route(nlri), Duration::from_secs(600));
    let kind = CommandKind::Announce { route, lease };
    Command { id: CommandId(command), backend: backend.clone(), kind }
}

fn withdraw(command: u64, backend: &BackendId, nlri: &Nlri) -> Command {
    let kind = CommandKind::Withdraw(nlri.clone());
    Command { id: CommandId(command), backend: backend.clone(), kind }
}

fn answer(command: u64, backend: &BackendId, nlri: &Nlri, applied: bool) -> Outcome {
    let kind = if applied {
        OutcomeKind::Applied { bytes: Vec::new().into() }
    } else {
        OutcomeKind::Failed { why: "busy".to_owned() }
    };
    Outcome { command: CommandId(command), backend: backend.clone(), nlri: nlri.clone(), kind }
}

#[test]
fn the_journal_tells_what_may_be_held() {
    let place = Place::new();
    let opened = place.open();
    let journal = Journal::new(opened.store.clone(), now());
    let host = Nlri::Unicast("2001:db8::7/128".parse().unwrap());
    let kernel = BackendId::Kernel;
    let exabgp = BackendId::External("exabgp".to_owned());
    let _ = journal.intend(now(), &announce(9, &exabgp, &host));
    let receipt = journal.intend(now(), &announce(1, &border(), &rule(1)));
    assert_eq!(receipt.wait(PATIENCE), Durability::Durable);
    journal.confirm(Verb::Announce, &answer(1, &border(), &rule(1), true));
    let _ = journal.intend(now(), &announce(2, &kernel, &host));
    for (command, applied) in [(3, true), (4, false)] {
        let nlri = rule(u8::try_from(command).unwrap());
        let _ = journal.intend(now(), &announce(command, &border(), &nlri));
        let _ = journal.intend(now(), &withdraw(command + 10, &border(), &nlri));
        journal.confirm(Verb::Withdraw, &answer(command + 10, &border(), &nlri, applied));
    }
    // An answer to a command that a later one overtook.
    journal.confirm(Verb::Announce, &answer(4, &border(), &rule(4), true));
    drop(journal);
    place.close(opened);

    let held = place.open().held;
    let lease = Some(now().after(Duration::from_secs(600)));
    let entry = |backend: &BackendId, nlri: &Nlri, intent, confirmed| Held {
        key: MitigationKey { backend: backend.clone(), nlri: nlri.clone() },
        intent,
        confirmed,
        lease_until: if intent == Verb::Announce { lease } else { None },
    };
    assert_eq!(
        held,
        [
            entry(&exabgp, &host, Verb::Announce, false),
            entry(&kernel, &host, Verb::Announce, false),
            entry(&border(), &rule(1), Verb::Announce, true),
            entry(&border(), &rule(4), Verb::Withdraw, false),
        ]
    );
}

#[test]
fn an_intent_that_is_told_again_does_not_undo_a_later_one() {
    let place = Place::new();
    let opened = place.open();
    let journal = Journal::new(opened.store.clone(), now());
    let _ = journal.intend(now(), &announce(1, &border(), &rule(1)));
    let _ = journal.intend(now(), &withdraw(2, &border(), &rule(1)));
    let _ = journal.intend(now(), &announce(1, &border(), &rule(1)));
    // Commands are numbered anew in each run: the later run counts.
    let next = Journal::new(opened.store.clone(), now().after(Duration::from_secs(1)));
    let _ = journal.intend(now(), &withdraw(9, &border(), &rule(2)));
    let _ = next.intend(now(), &announce(1, &border(), &rule(2)));
    drop((journal, next));
    place.close(opened);
    let intents: Vec<Verb> = place.open().held.iter().map(|held| held.intent).collect();
    assert_eq!(intents, [Verb::Withdraw, Verb::Announce]);
}

#[derive(Clone, Debug)]
enum Step {
    Intend(Verb, u8),
    Confirm(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 0_u8..4).prop_map(|(announce, nlri)| {
            Step::Intend(if announce { Verb::Announce } else { Verb::Withdraw }, nlri)
        }),
        any::<bool>().prop_map(Step::Confirm),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The journal is what a model of it says, and telling it everything twice changes nothing.
    #[test]
    fn replaying_the_journal_changes_nothing(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let place = Place::new();
        let mut model: BTreeMap<u8, (Verb, u64, bool)> = BTreeMap::new();
        let opened = place.open();
        let journal = Journal::new(opened.store.clone(), now());
        for time in 0..2 {
            let mut last = None;
            for (number, step) in steps.iter().enumerate() {
                let command = number as u64 + 1;
                match step {
                    Step::Intend(verb, nlri) => {
                        let order = match verb {
                            Verb::Announce => announce(command, &border(), &rule(*nlri)),
                            Verb::Withdraw => withdraw(command, &border(), &rule(*nlri)),
                        };
                        let _ = journal.intend(now(), &order);
                        last = Some((*verb, *nlri, command));
                        if time == 0 {
                            model.insert(*nlri, (*verb, command, false));
                        }
                    }
                    Step::Confirm(applied) => {
                        let Some((verb, nlri, command)) = last else { continue };
                        journal.confirm(verb, &answer(command, &border(), &rule(nlri), *applied));
                        if time == 0 {
                            match (verb, applied) {
                                (Verb::Withdraw, true) => { model.remove(&nlri); }
                                _ => if let Some(entry) = model.get_mut(&nlri) { entry.2 = *applied; },
                            }
                        }
                    }
                }
            }
            prop_assert!(opened.store.settle(PATIENCE));
        }
        drop(journal);
        place.close(opened);
        let held: BTreeMap<Nlri, (Verb, bool)> = place
            .open()
            .held
            .into_iter()
            .map(|held| (held.key.nlri, (held.intent, held.confirmed)))
            .collect();
        let expected: BTreeMap<Nlri, (Verb, bool)> = model
            .into_iter()
            .map(|(nlri, (verb, _, confirmed))| (rule(nlri), (verb, confirmed)))
            .collect();
        prop_assert_eq!(held, expected);
    }
}
