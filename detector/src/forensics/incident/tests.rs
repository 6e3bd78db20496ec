//! Files as tshark reads them back.

use std::process::Command;
use std::time::Duration;

use tidegate_model::Timestamp;

use super::*;
use crate::forensics::{Budget, Recorder};

const SECOND: u64 = 1_000_000_000;
const ONSET: u64 = 1_700_000_000 * SECOND;

/// UDP from documentation addresses to `to`.
fn packet(to: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1];
    bytes.extend(to);
    bytes.extend([0, 53, 0, 99, 0, 12, 0, 0, 1, 2, 3, 4]);
    bytes
}

/// A segment of `packets`: seconds from the onset, and where to.
fn segment(packets: &[(i64, [u8; 4])]) -> Segment {
    let mut recorder = Recorder::new(Budget { rate: 1 << 30, burst: 1 << 30 }, Timestamp::ZERO);
    for (seconds, to) in packets {
        let time = ONSET.checked_add_signed(seconds * SECOND.cast_signed()).unwrap();
        let (link, data) = (LinkType::RawIp, &packet(*to)[..]);
        recorder.record(None, Record { time, interface: 0, link, data, wire_length: 1500 });
    }
    recorder.hand_over().unwrap()
}

const TARGET: [u8; 4] = [203, 0, 113, 9];
const OTHER: [u8; 4] = [203, 0, 113, 10];

fn header() -> IncidentHeader {
    IncidentHeader {
        target: "203.0.113.9/32".parse().unwrap(),
        onset: ONSET,
        comment: "incident 17: ntp-amplification; policy 4be1c0".to_owned(),
        onset_comment: "onset of incident 17".to_owned(),
        program: "tidegate 0.1".to_owned(),
    }
}

fn begin(limits: FileLimits, ring: &Ring, out: &mut Vec<u8>) -> IncidentFile {
    IncidentFile::begin(header(), limits, Tunnels::NONE, ring, &["eth7".to_owned()], out)
}

fn ring(segments: impl IntoIterator<Item = Segment>) -> Ring {
    let mut ring = Ring::new(Duration::from_secs(30), 64 << 20);
    segments.into_iter().for_each(|segment| ring.push(segment));
    ring
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
            eprintln!("skipped: {program} is not installed");
            return None;
        }
    };
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {problem}");
    assert!(!problem.to_lowercase().contains("cut short"), "{problem}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn wireshark_opens_it() {
    let mut bytes = Vec::new();
    // Two threads copied, so the times are not in order.
    let ring = ring([
        segment(&[(-20, TARGET), (-10, OTHER), (1, TARGET)]),
        segment(&[(-5, TARGET), (0, TARGET)]),
    ]);
    let mut file = begin(FileLimits::default(), &ring, &mut bytes);
    file.append(&segment(&[(2, TARGET), (3, OTHER)]), &[], &mut bytes);
    assert_eq!(file.packets(), 5);
    file.finish("ended: quiet for 30 s", &mut bytes);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.pcapng");
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap();
    let fields = ["frame.time_epoch", "frame.len", "ip.dst", "udp.srcport", "frame.interface_name"];
    let mut arguments = vec!["-r", path, "-T", "fields"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    arguments.extend(["-e", "frame.comment"]);
    let Some(printed) = run("tshark", &arguments) else { return };
    let expected: String = [-20, -5, 0, 1, 2]
        .map(|second: i64| {
            let comment = if second == 0 { "onset of incident 17" } else { "" };
            let time = 1_700_000_000 + second;
            format!("{time}.000000000\t1500\t203.0.113.9\t53\teth7\t{comment}\n")
        })
        .concat();
    assert_eq!(printed, expected);
    let Some(about) = run("capinfos", &[path]) else { return };
    for part in [
        "pcapng",
        "incident 17: ntp-amplification; policy 4be1c0",
        "tidegate 0.1",
        "Number of packets:   5",
        "timestamp precision:  nanoseconds",
        "Name = eth7",
    ] {
        assert!(about.contains(part), "{part} in {about}");
    }
}

#[cfg(feature = "capture")]
#[test]
fn our_own_reader_opens_it() {
    let mut bytes = Vec::new();
    let file = begin(FileLimits::default(), &ring([segment(&[(-1, TARGET)])]), &mut bytes);
    file.finish("ended", &mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incident.pcapng");
    std::fs::write(&path, bytes).unwrap();
    let mut file = crate::capture::file::CaptureFile::open(path).unwrap();
    let frame = file.next_frame().unwrap().unwrap();
    assert_eq!((frame.data, frame.wire_length), (packet(TARGET).as_slice(), 1500));
    assert_eq!((frame.time.as_nanos(), frame.link), (ONSET - SECOND, LinkType::RawIp));
    assert!(file.next_frame().unwrap().is_none());
}

#[test]
fn limits_hold_and_the_first_packets_are_kept() {
    let flood: Vec<(i64, [u8; 4])> = (0..1000).map(|_| (1, TARGET)).collect();
    let quiet: Vec<(i64, [u8; 4])> = (1..=1000).map(|second| (-second, TARGET)).rev().collect();
    let size = |limits: FileLimits| {
        let mut bytes = Vec::new();
        let mut file = begin(limits, &ring([segment(&quiet)]), &mut bytes);
        let before = file.packets();
        file.append(&segment(&flood), &[], &mut bytes);
        let packets = file.packets();
        file.finish("ended", &mut bytes);
        assert!((bytes.len() as u64) <= limits.bytes, "{}", bytes.len());
        (before, packets - before)
    };
    let limits = FileLimits { bytes: 1 << 20, full: 100, sampling: 10 };
    assert_eq!(size(limits), (1000, 190));
    assert_eq!(size(FileLimits { sampling: 0, ..limits }), (1000, 100));
    // Half for what was before, the latest of it; 64 octets a block.
    let small = FileLimits { bytes: 32 << 10, ..limits };
    let (before, after) = size(FileLimits { full: 1000, ..small });
    assert_eq!(before, (16 << 10) / (32 + 36));
    assert!((120..150).contains(&after), "{after}");
}

#[test]
fn an_incident_without_packets_is_a_file() {
    let mut bytes = Vec::new();
    let file = begin(FileLimits::default(), &ring([]), &mut bytes);
    file.finish("ended", &mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.pcapng");
    std::fs::write(&path, bytes).unwrap();
    let Some(about) = run("capinfos", &[path.to_str().unwrap()]) else { return };
    assert!(about.contains("Number of packets:   0"), "{about}");
}
