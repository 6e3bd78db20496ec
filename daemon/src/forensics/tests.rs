//! Files, their limits, and what happens when they cannot be written.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_detector::LinkType;
use tidegate_detector::capture::file::CaptureFile;
use tidegate_detector::forensics::{Record, Recorder};
use tidegate_model::{
    AttackVector, BitsPerSecond, Confidence, Limit, Metric, PacketsPerSecond, Rate, Timestamp,
    Trigger, VectorEstimate,
};

use super::*;

/// Onset of the attacks.
const ONSET: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn attack(number: u64) -> Attack {
    let rate = Rate { packets: PacketsPerSecond(1000), bits: BitsPerSecond(1) };
    Attack {
        id: AttackId(number),
        target: "203.0.113.9/32".parse().unwrap(),
        group: "web".to_owned(),
        onset: ONSET,
        detected: ONSET + Duration::from_millis(56),
        trigger: Trigger {
            metric: Metric::Udp,
            rate,
            limit: Limit { packets: Some(PacketsPerSecond(100)), bits: None },
        },
        vectors: vec![VectorEstimate {
            vector: AttackVector::UdpFlood,
            share: 1.0,
            confidence: Confidence::new(0.9),
            signature: tidegate_model::Signature::default(),
            evidence: Vec::new(),
        }],
        current: rate,
        peak: rate,
        excess: 10.0,
        packets: 1,
        bytes: 1,
        sources: 1,
    }
}

fn started(number: u64) -> AttackEvent {
    AttackEvent::Started(attack(number))
}

fn ended(number: u64) -> AttackEvent {
    AttackEvent::Ended(attack(number), EndReason::Quiet(Duration::from_secs(30)))
}

/// A UDP packet to 203.0.113.9, captured so many milliseconds after the onset.
fn segment(milliseconds: i64) -> Segment {
    let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9];
    bytes.extend([0, 53, 0, 99, 0, 8, 0, 0]);
    let time = ONSET.as_nanos().checked_add_signed(milliseconds * 1_000_000).unwrap();
    let mut recorder =
        Recorder::new(Budget { rate: 1 << 20, burst: 1 << 20 }, Timestamp::from_nanos(time));
    let (link, data) = (LinkType::RawIp, &bytes[..]);
    recorder.record(None, Record { time, interface: 0, link, data, wire_length: 28 });
    recorder.hand_over().unwrap()
}

fn revision() -> Revision {
    Revision { commit: "4be1c0".to_owned(), state: tidegate_policy::Tree::Clean }
}

fn context() -> Context {
    let (interfaces, tunnels) = (vec!["eth7".to_owned()], Tunnels::NONE);
    Context { interfaces, tunnels, wall: WallOrigin::EPOCH }
}

fn archive(settings: Settings) -> Archive {
    Archive::open(settings, context()).unwrap()
}

/// Names of the files in `directory`, sorted.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// Times of the packets in a file, in milliseconds after the onset.
fn times(path: &Path) -> Vec<i128> {
    let mut file = CaptureFile::open(path).unwrap();
    let mut times = Vec::new();
    while let Some(frame) = file.next_frame().unwrap() {
        let (time, onset) = (frame.time.as_nanos(), ONSET.as_nanos());
        times.push((i128::from(time) - i128::from(onset)) / 1_000_000);
    }
    times
}

#[test]
fn an_attack_becomes_a_file_with_what_was_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("deeper/packets");
    let mut archive = archive(Settings::new(directory.clone()));
    archive.handle_segment(segment(-40_000));
    archive.handle_segment(segment(-20_000));
    archive.handle_segment(segment(-10));
    archive.handle_attack(&started(17), Some(&revision()));
    archive.handle_segment(segment(70));
    archive.handle_attack(&ended(17), None);
    archive.handle_segment(segment(80));
    let name = "tidegate-20231114T221320.056Z-attack-17-203.0.113.9-32.pcapng";
    assert_eq!(files(&directory), [name]);
    let path = directory.join(name);
    assert_eq!(times(&path), [-20_000, -10, 70]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let notes: Vec<_> = archive.poll_notes().collect();
    assert!(
        matches!(notes.as_slice(), [Note::Written { packets: 3, path: told, .. }] if *told == path),
        "{notes:?}"
    );
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    for part in ["attack-17", "udp-flood", "policy commit: 4be1c0", "onset of attack-17", "ended"] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn a_full_disk_loses_the_file_and_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = archive(Settings::new(folder.path().to_owned()));
    archive.create = |_| File::options().write(true).open("/dev/full");
    for number in 1..=3 {
        archive.handle_attack(&started(number), None);
        archive.handle_segment(segment(1));
        archive.handle_attack(&ended(number), None);
    }
    let notes: Vec<_> = archive.poll_notes().collect();
    let [note @ Note::Failed { .. }] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.describe().1.contains("No space left on device"), "{note:?}");
    assert_eq!(files(folder.path()), [""; 0]);
    // It is said again after it went well.
    archive.create = create;
    archive.handle_attack(&started(4), None);
    archive.handle_attack(&ended(4), None);
    archive.create = |_| File::options().write(true).open("/dev/full");
    archive.handle_attack(&started(5), None);
    let notes: Vec<_> = archive.poll_notes().collect();
    assert!(matches!(notes.as_slice(), [Note::Written { .. }, Note::Failed { .. }]), "{notes:?}");
}

#[test]
fn a_disk_that_fills_up_later_loses_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = archive(Settings::new(folder.path().to_owned()));
    archive.handle_attack(&started(1), None);
    archive.open.get_mut(&AttackId(1)).unwrap().output =
        File::options().write(true).open("/dev/full").unwrap();
    archive.handle_segment(segment(1));
    let notes: Vec<_> = archive.poll_notes().collect();
    assert!(matches!(notes.as_slice(), [Note::Failed { .. }]), "{notes:?}");
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_at_the_start() {
    let settings = Settings::new("/proc/nowhere".into());
    assert!(Archive::open(settings, context()).is_err());
}

#[test]
fn old_files_make_room() {
    let make = |directory: &Path, name: &str, bytes: u64, days: u64| {
        let file = File::create_new(directory.join(name)).unwrap();
        file.set_len(bytes).unwrap();
        let age = Duration::from_secs(days * 24 * 3600);
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    let kept = |change: fn(&mut Settings), open: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        for (days, bytes) in [(1, 1000), (2, 2000), (40, 4000), (50, 100)] {
            make(directory, &format!("tidegate-{days}.pcapng"), bytes, days);
        }
        make(directory, "notes.txt", 1 << 20, 1000);
        make(directory, "tidegate.pcapng", 1 << 20, 1000);
        let mut settings = Settings::new(directory.to_owned());
        settings.max_age = Duration::from_secs(3650 * 24 * 3600);
        settings.file.bytes = 500;
        change(&mut settings);
        let open: Vec<PathBuf> = open.iter().map(|name| directory.join(name)).collect();
        rotation::rotate(&settings, &open);
        let mut names = files(directory);
        assert_eq!(names.split_off(names.len() - 1), ["tidegate.pcapng"]);
        assert_eq!(names.remove(0), "notes.txt");
        names.concat().replace("tidegate-", "").replace(".pcapng", " ")
    };
    let month = Duration::from_secs(30 * 24 * 3600);
    assert_eq!(month, Settings::new(PathBuf::new()).max_age);
    assert_eq!(kept(|_| {}, &[]), "1 2 40 50 ");
    assert_eq!(kept(|it| it.max_age = Duration::from_secs(30 * 24 * 3600), &[]), "1 2 ");
    assert_eq!(kept(|it| it.max_files = 3, &[]), "1 2 40 ");
    assert_eq!(kept(|it| it.max_bytes = 3000, &[]), "1 2 ");
    assert_eq!(kept(|it| it.max_bytes = 3499, &["tidegate-50.pcapng"]), "1 50 ");
    assert_eq!(kept(|it| it.max_files = 1, &["tidegate-50.pcapng"]), "50 ");
}

#[test]
fn the_thread_writes_what_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, told) = std::sync::mpsc::channel();
    let archive = archive(Settings::new(folder.path().to_owned()));
    let (recording, mut desk) = start(archive, move |note| notes.send(note).unwrap()).unwrap();
    assert_eq!(recording.budget.rate, (64 << 20) / 30);
    desk.report(&started(1), Some(&Arc::new(revision())));
    recording.segments.send(segment(5)).unwrap();
    // The capture ends while the attack is on.
    drop(recording);
    desk.close(Duration::from_secs(60));
    let notes: Vec<_> = told.try_iter().collect();
    let [Note::Written { path, packets: 1, .. }] = notes.as_slice() else { panic!("{notes:?}") };
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    assert!(text.contains("policy commit: 4be1c0") && text.contains("tidegate stopped"), "{text}");
}
