use tidegate_model::PacketsPerSecond;

use super::*;

const ZERO: Timestamp = Timestamp::ZERO;

fn policy(owned: &str) -> Policy {
    let text = format!(
        "[speaker]\nas = 65010\nrouter-id = \"10.99.0.1\"\n[owned]\nprefixes = [\"{owned}\"]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.toml"), text).unwrap();
    tidegate_policy::load(folder.path()).unwrap()
}

fn report(id: &str) -> Report {
    Report {
        reporter: "sensor".to_owned(),
        id: id.to_owned(),
        target: "203.0.113.7".parse().unwrap(),
        vector: AttackVector::SynFlood,
        confidence: Confidence::new(0.9),
        signature: Signature::default(),
        rate: Rate { packets: PacketsPerSecond(500_000), ..Rate::default() },
        sources: 10,
        onset: ZERO,
        volume: (0, 0),
        lease: Duration::from_secs(5),
        ended: false,
    }
}

fn seconds(seconds: u64) -> Timestamp {
    ZERO + Duration::from_secs(seconds)
}

#[test]
fn the_same_report_twice_is_one_attack() {
    let (policy, mut reports) = (policy("203.0.113.0/24"), Reports::default());
    let first = reports.handle_report(ZERO, &policy, report("a")).unwrap();
    let id = AttackId(AttackId::REPORTED);
    assert_eq!(first, Reported::Started(id));
    assert_eq!(reports.handle_report(seconds(1), &policy, report("a")), Ok(Reported::Renewed(id)));
    assert!(matches!(reports.poll_event(), Some(AttackEvent::Started(_))));
    assert!(matches!(reports.poll_event(), Some(AttackEvent::Updated(_))));
    assert_eq!(reports.poll_event(), None);
    // Another reporter's `a` is another attack.
    let other = Report { reporter: "other".to_owned(), ..report("a") };
    let other = reports.handle_report(seconds(1), &policy, other).unwrap();
    assert_eq!(other, Reported::Started(AttackId(AttackId::REPORTED + 1)));
}

#[test]
fn a_silent_reporter_ends_its_attack() {
    let (policy, mut reports) = (policy("203.0.113.0/24"), Reports::default());
    reports.handle_report(ZERO, &policy, report("a")).unwrap();
    reports.handle_report(seconds(3), &policy, report("a")).unwrap();
    assert_eq!(reports.poll_timeout(), Some(seconds(8)));
    reports.handle_timeout(seconds(7));
    reports.events.clear();
    reports.handle_timeout(seconds(8));
    let Some(AttackEvent::Ended(_, why)) = reports.poll_event() else { panic!("goes on") };
    assert_eq!(why, EndReason::Unconfirmed(Duration::from_secs(5)));
    assert_eq!(reports.poll_timeout(), None);
    let ended = Report { ended: true, ..report("a") };
    assert_eq!(reports.handle_report(seconds(9), &policy, ended), Err(ReportRefused::Unknown));
}

#[test]
fn the_worst_is_kept_and_the_onset_stays() {
    let (policy, mut reports) = (policy("203.0.113.0/24"), Reports::default());
    reports.handle_report(seconds(1), &policy, report("a")).unwrap();
    let calm = Report { rate: Rate::default(), onset: seconds(4), ..report("a") };
    reports.handle_report(seconds(4), &policy, calm).unwrap();
    reports.poll_event();
    let Some(AttackEvent::Updated(attack)) = reports.poll_event() else { panic!("no news") };
    assert_eq!((attack.onset, attack.current), (ZERO, Rate::default()));
    assert_eq!(attack.peak.packets, PacketsPerSecond(500_000));
    assert!(attack.excess > 1.0);
}

#[test]
fn what_cannot_be_is_refused() {
    let (policy, mut reports) = (policy("203.0.113.0/24"), Reports::default());
    reports.handle_report(ZERO, &policy, report("a")).unwrap();
    let elsewhere = "198.51.100.1".parse().unwrap();
    let cases = [
        (Report { id: String::new(), ..report("") }, ReportRefused::Id(0)),
        (report(&"x".repeat(MAX_ID + 1)), ReportRefused::Id(MAX_ID + 1)),
        (Report { lease: Duration::ZERO, ..report("b") }, ReportRefused::Lease),
        (Report { lease: LEASES.1 * 2, ..report("b") }, ReportRefused::Lease),
        (Report { target: elsewhere, ..report("b") }, ReportRefused::NotProtected(elsewhere)),
        (
            Report { target: elsewhere, ..report("a") },
            ReportRefused::OtherTarget(report("a").target),
        ),
        (Report { ended: true, ..report("b") }, ReportRefused::Unknown),
    ];
    for (report, why) in cases {
        assert_eq!(reports.handle_report(ZERO, &policy, report), Err(why));
    }
    assert_eq!(reports.held.len(), 1);
}

#[test]
fn there_are_only_so_many() {
    let (policy, mut reports) = (policy("203.0.113.0/24"), Reports::default());
    for number in 0..MAX_REPORTED {
        reports.handle_report(ZERO, &policy, report(&number.to_string())).unwrap();
    }
    let beyond = reports.handle_report(ZERO, &policy, report("one more"));
    assert_eq!(beyond, Err(ReportRefused::Full));
    // Those whose lease is over make room.
    assert!(reports.handle_report(seconds(5), &policy, report("one more")).is_ok());
    assert_eq!(reports.held.len(), 1);
}

#[test]
fn what_is_not_owned_any_more_ends() {
    let mut reports = Reports::default();
    reports.handle_report(ZERO, &policy("203.0.113.0/24"), report("a")).unwrap();
    reports.poll_event();
    reports.handle_policy(&policy("198.51.100.0/24"));
    let Some(AttackEvent::Ended(_, why)) = reports.poll_event() else { panic!("goes on") };
    assert_eq!(why, EndReason::NotProtected);
}
