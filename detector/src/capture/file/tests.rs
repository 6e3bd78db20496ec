//! Capture files, built here octet by octet, and libpcap's reader as the oracle where it can be one.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

/// Writes numbers in a byte order.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }
}

const ORDERS: [Order; 2] = [Order::Little, Order::Big];
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

fn pcap_header(order: Order, magic: u32, link: u32) -> Vec<u8> {
    [
        order.words(&[magic]),
        [order.u16(2), order.u16(4)].concat(),
        order.words(&[0, 0, 65_535, link]),
    ]
    .concat()
}

fn pcap_record(order: Order, seconds: u32, fraction: u32, data: &[u8], original: u32) -> Vec<u8> {
    [order.words(&[seconds, fraction, data.len() as u32, original]), data.to_vec()].concat()
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let length = padded.len() as u32 + 12;
    [order.words(&[kind, length]), padded, order.words(&[length])].concat()
}

fn section(order: Order) -> Vec<u8> {
    let body = [order.words(&[0x1a2b_3c4d]), [order.u16(1), order.u16(0)].concat(), vec![0xff; 8]];
    block(order, 0x0a0d_0d0a, &body.concat())
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [order.u16(code), order.u16(value.len() as u16)].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn interface(order: Order, link: u16, snap: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        [order.u16(link), order.u16(0)].concat(),
        order.words(&[snap]),
        options.concat(),
        if options.is_empty() { Vec::new() } else { vec![0; 4] },
    ];
    block(order, 1, &body.concat())
}

fn enhanced(order: Order, interface: u32, units: u64, data: &[u8], original: u32) -> Vec<u8> {
    let words = [interface, (units >> 32) as u32, units as u32, data.len() as u32, original];
    block(order, 6, &[order.words(&words), data.to_vec()].concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Time, link type, data and wire length of a frame.
type Owned = (u64, LinkType, Vec<u8>, u32);

fn stored(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All frames of a file, and what ended it.
fn read_file(path: &Path) -> (Vec<Owned>, Result<Oddities, CaptureError>) {
    let mut file = match CaptureFile::open(path) {
        Ok(file) => file,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut frames = Vec::new();
    loop {
        match file.next_frame() {
            Ok(Some(frame)) => {
                let time = frame.time.as_nanos();
                frames.push((time, frame.link, frame.data.to_vec(), frame.wire_length));
            }
            Ok(None) => {
                assert_eq!(file.bytes_read(), file.total_bytes());
                return (frames, Ok(file.oddities()));
            }
            Err(error) => {
                assert!(file.next_frame().unwrap().is_none(), "nothing comes after an error");
                return (frames, Err(error));
            }
        }
    }
}

fn read(bytes: &[u8]) -> (Vec<Owned>, Result<Oddities, CaptureError>) {
    read_file(stored(bytes).path())
}

fn read_all(bytes: &[u8]) -> Vec<Owned> {
    let (frames, end) = read(bytes);
    end.unwrap();
    frames
}

#[test]
fn pcap_in_both_orders_and_precisions() {
    for order in ORDERS {
        for (magic, fraction) in [(MICROSECONDS, 7), (NANOSECONDS, 7_000)] {
            let bytes = [
                pcap_header(order, magic, 1),
                pcap_record(order, 1_600_000_000, fraction, b"frame one", 60),
                pcap_record(order, 1_600_000_001, 0, b"", 0),
            ]
            .concat();
            let expected = vec![
                (1_600_000_000_000_007_000, LinkType::Ethernet, b"frame one".to_vec(), 60),
                (1_600_000_001_000_000_000, LinkType::Ethernet, Vec::new(), 0),
            ];
            assert_eq!(read_all(&bytes), expected, "{order:?} {magic:x}");
            assert_eq!(read_all(&gzip(&bytes)), expected, "gzip {order:?} {magic:x}");
        }
    }
}

#[test]
fn link_types() {
    for (number, link) in [
        (0, LinkType::Null),
        (1, LinkType::Ethernet),
        (101, LinkType::RawIp),
        (113, LinkType::LinuxCooked),
        (276, LinkType::LinuxCooked2),
        // The upper bits tell of a frame check sequence.
        (0x2400_0001, LinkType::Ethernet),
    ] {
        let bytes = [
            pcap_header(Order::Little, MICROSECONDS, number),
            pcap_record(Order::Little, 1, 0, b"x", 1),
        ];
        assert_eq!(read_all(&bytes.concat())[0].1, link);
    }
    let (_, end) = read(&pcap_header(Order::Little, MICROSECONDS, 105));
    let error = end.unwrap_err().to_string();
    assert!(error.contains("link type 105") && error.contains("Ethernet (1)"), "{error}");
}

#[test]
fn pcapng_interfaces_sections_and_clocks() {
    let [little, big] = ORDERS;
    let resolution = |octet| option(little, 9, &[octet]);
    let old = 1_600_000_009_168_u64;
    let bytes = [
        section(little),
        interface(little, 1, 0, &[]),
        interface(little, 101, 0, &[option(little, 2, b"eth1"), resolution(9)]),
        interface(little, 1, 0, &[resolution(0x80 | 10), option(little, 14, &5_i64.to_le_bytes())]),
        // Microseconds, nanoseconds, and 1024ths of a second five seconds off.
        enhanced(little, 0, 1_600_000_000_000_001, b"first", 5),
        enhanced(little, 1, 1_600_000_000_000_002_000, b"second", 1000),
        enhanced(little, 2, 1_599_999_996 * 1024 + 512, b"third", 5),
        block(little, 3, &[little.words(&[6]), b"simple".to_vec()].concat()),
        // Blocks that are none of ours.
        block(little, 5, &[0; 20]),
        block(little, 0x0000_0bad, b"custom"),
        // A section of a machine with the other byte order.
        section(big),
        interface(big, 276, 4, &[option(big, 9, &[3]), option(big, 14, &(-7_i64).to_be_bytes())]),
        enhanced(big, 0, 1_600_000_010_000, b"fourth", 6),
        block(big, 3, &[big.words(&[900]), b"abcd".to_vec()].concat()),
        block(
            big,
            2,
            &[
                [big.u16(0), big.u16(3)].concat(),
                big.words(&[(old >> 32) as u32, old as u32, 3, 3]),
                b"old".to_vec(),
            ]
            .concat(),
        ),
    ]
    .concat();
    let second = 1_600_000_000_000_000_000;
    let expected = vec![
        (second + 1_000, LinkType::Ethernet, b"first".to_vec(), 5),
        (second + 2_000, LinkType::RawIp, b"second".to_vec(), 1000),
        (second + 1_500_000_000, LinkType::Ethernet, b"third".to_vec(), 5),
        (second + 1_500_000_000, LinkType::Ethernet, b"simple".to_vec(), 6),
        (second + 3_000_000_000, LinkType::LinuxCooked2, b"fourth".to_vec(), 6),
        (second + 3_000_000_000, LinkType::LinuxCooked2, b"abcd".to_vec(), 900),
        (second + 3_000_000_000, LinkType::LinuxCooked2, b"old".to_vec(), 3),
    ];
    let (frames, end) = read(&bytes);
    assert_eq!(frames, expected);
    assert_eq!(end.unwrap().reordered, 1);
    assert_eq!(read_all(&gzip(&bytes)), expected);
}

#[test]
fn packets_with_options_are_read() {
    let order = Order::Little;
    let words = order.words(&[0, 0, 5, 3, 3]);
    let options =
        [option(order, 2, &[1, 0, 0, 0]), option(order, 1, b"comment"), vec![0; 4]].concat();
    let body = [words, b"abc\0".to_vec(), options].concat();
    let bytes = [section(order), interface(order, 1, 0, &[]), block(order, 6, &body)].concat();
    assert_eq!(read_all(&bytes), [(5_000, LinkType::Ethernet, b"abc".to_vec(), 3)]);
}

#[test]
fn unreadable_interfaces_are_counted_unless_they_are_all() {
    let order = Order::Little;
    let start =
        [section(order), interface(order, 189, 0, &[]), interface(order, 1, 0, &[])].concat();
    let usb = enhanced(order, 0, 1, b"usb", 3);
    let (frames, end) =
        read(&[start.clone(), usb.clone(), enhanced(order, 1, 2, b"ip", 2)].concat());
    assert_eq!(frames.len(), 1);
    assert_eq!(end.unwrap().unreadable, 1);
    let (_, end) = read(&[start.clone(), usb].concat());
    assert!(end.unwrap_err().to_string().contains("link type 189"));
    assert!(read_all(&start).is_empty());
}

#[test]
fn truncated_files_name_the_offset_after_their_frames() {
    let order = Order::Little;
    let pcap = [
        pcap_header(order, MICROSECONDS, 1),
        pcap_record(order, 10, 0, &[1; 100], 100),
        pcap_record(order, 11, 0, &[2; 100], 100),
    ]
    .concat();
    let pcapng = [
        section(order),
        interface(order, 1, 0, &[]),
        enhanced(order, 0, 10, &[1; 100], 100),
        enhanced(order, 0, 11, &[2; 100], 100),
    ]
    .concat();
    // Record lengths: 24, 116, 116 and 28, 20, 132, 132.
    for (bytes, starts) in [(pcap, vec![0, 24, 140, 256]), (pcapng, vec![0, 28, 48, 180, 312])] {
        let headers = starts.len() - 3;
        for length in 4..bytes.len() {
            let (frames, end) = read(&bytes[..length]);
            let record = starts.iter().rposition(|start| *start <= length).unwrap();
            assert_eq!(frames.len(), record.saturating_sub(headers), "{length}");
            if starts[record] == length {
                assert!(end.is_ok(), "{length}");
            } else {
                let error = end.unwrap_err().to_string();
                assert!(error.contains(&format!("byte {} ", starts[record])), "{length}: {error}");
                assert!(error.contains("truncated"), "{error}");
            }
        }
    }
}

#[test]
fn truncated_gzip_delivers_what_is_there() {
    let order = Order::Little;
    let mut bytes = pcap_header(order, MICROSECONDS, 1);
    for index in 0..5000_u32 {
        bytes.extend(pcap_record(order, 10 + index, 0, &index.to_be_bytes(), 60));
    }
    let whole = gzip(&bytes);
    let (frames, end) = read(&whole[..whole.len() * 2 / 3]);
    assert!((1000..5000).contains(&frames.len()), "{}", frames.len());
    let error = end.unwrap_err();
    assert!(matches!(error, CaptureError::Truncated { of: OffsetOf::Decompressed, .. }));
    assert!(error.to_string().contains("of the decompressed data"), "{error}");
    // Two members after each other are one stream (RFC 1952 §2.2).
    let (first, second) = bytes.split_at(10_000);
    assert_eq!(read_all(&[gzip(first), gzip(second)].concat()).len(), 5000);
    // A damaged one is corrupt.
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 40].fill(0xff);
    let error = read(&damaged).1.unwrap_err();
    assert!(matches!(error, CaptureError::Corrupt { .. } | CaptureError::Truncated { .. }));
}

/// Offset of the damage, file, and what the message must say.
fn hostile() -> Vec<(u64, Vec<u8>, &'static str)> {
    let order = Order::Little;
    let pcap = |rest: Vec<u8>| [pcap_header(order, MICROSECONDS, 1), rest].concat();
    let ng = |rest: Vec<u8>| [section(order), interface(order, 1, 0, &[]), rest].concat();
    let interface_with = |option: Vec<u8>| {
        let described = interface(order, 1, 0, &[option]);
        [section(order), described, enhanced(order, 0, 1, b"x", 1)].concat()
    };
    let mut version = pcap_header(order, MICROSECONDS, 1);
    version[4] = 3;
    let mut two_lengths = enhanced(order, 0, 1, b"abcd", 4);
    let last = two_lengths.len() - 4;
    two_lengths[last] = 0;
    let mut decades = pcap_record(order, 0, 0, b"", 0);
    decades.extend(pcap_record(order, 1_600_000_000, 0, b"", 0));
    vec![
        (0, version, "version 3.4"),
        (24, pcap(order.words(&[1, 0, u32::MAX, 60])), "a frame of 4294967295 bytes"),
        (24, pcap(order.words(&[1, 0, 4, u32::MAX])), "an original length of 4294967295 bytes"),
        (40, pcap(decades), "50 years after"),
        (48, ng(order.words(&[6, 0, 0])), "a block of 0 bytes"),
        (48, ng(order.words(&[6, 33, 0])), "a block of 33 bytes"),
        (48, ng(order.words(&[6, 0xffff_fffc, 0])), "a block of 4294967292 bytes"),
        (48, ng(two_lengths), "has 36 bytes, and at its end 0"),
        (48, ng(block(order, 6, &[])), "in a block of 12"),
        (48, ng(block(order, 6, &order.words(&[0, 0, 0, 400, 400]))), "a frame of 400 bytes"),
        (48, ng(enhanced(order, 9, 1, b"x", 1)), "interface 9"),
        (48, ng(enhanced(order, 0, u64::MAX, b"", 0)), "outside the years"),
        (28, [section(order), enhanced(order, 0, 1, b"x", 1)].concat(), "describes 0"),
        (0, block(order, 0x0a0d_0d0a, &[7; 16]), "no byte-order magic"),
        (28, interface_with(option(order, 9, &[99])), "timestamp resolution"),
        (64, interface_with(option(order, 14, &i64::MIN.to_le_bytes())), "outside the years"),
    ]
}

#[test]
fn hostile_files_are_refused_with_their_offset() {
    for (offset, bytes, part) in hostile() {
        for (bytes, of) in [(gzip(&bytes), " of the decompressed data"), (bytes, "")] {
            let error = read(&bytes).1.unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
            assert!(error.contains(&format!("byte {offset}{of}")), "{part}: {error}");
        }
    }
}

#[test]
fn interfaces_are_bounded() {
    let order = Order::Little;
    let mut bytes = section(order);
    for _ in 0..5000 {
        bytes.extend(interface(order, 1, 0, &[]));
    }
    assert!(read(&bytes).1.unwrap_err().to_string().contains("more than 4096 interfaces"));
    // Sections begin anew, as many as there are.
    let section =
        [section(order), interface(order, 1, 0, &[]), enhanced(order, 0, 1, b"x", 1)].concat();
    assert_eq!(read_all(&section.repeat(6000)).len(), 6000);
}

#[test]
fn what_is_no_capture_is_said() {
    for (bytes, part) in [
        (b"".to_vec(), "it is empty"),
        (b"\xd4\xc3".to_vec(), "bytes d4 c3"),
        (b"[owned]\nprefixes = []\n".to_vec(), "text \"[owned]\""),
        (gzip(b"just some text"), "compressed with gzip, and inside it begins with the text"),
        (gzip(b""), "inside it is empty"),
        (b"\x1f\x8bnot gzip at all".to_vec(), "begins like gzip, but is not"),
        (b"\x28\xb5\x2f\xfd\0\0\0\0".to_vec(), "zstd -d"),
    ] {
        let error = read(&bytes).1.unwrap_err();
        assert!(matches!(error, CaptureError::NotACapture { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(part), "{error}");
        assert!(error.contains("expected a pcap or pcapng file"), "{error}");
    }
    let error = CaptureFile::open("/nonexistent/capture").unwrap_err().to_string();
    assert!(error.contains("/nonexistent/capture") && error.contains("No such file"), "{error}");
    let error = CaptureFile::open(std::env::temp_dir()).unwrap_err().to_string();
    assert!(error.contains("is a directory"), "{error}");
}

#[test]
fn memory_grows_with_the_longest_record_only() {
    let order = Order::Little;
    let mut bytes =
        [section(order), block(order, 0x0bad, &vec![0; 3 << 20]), interface(order, 1, 0, &[])]
            .concat();
    for index in 0..100 {
        bytes.extend(enhanced(order, 0, index, &vec![index as u8; 200_000], 200_000));
    }
    let file = stored(&bytes);
    let mut capture = CaptureFile::open(file.path()).unwrap();
    let mut last = 0;
    for index in 0..100_u8 {
        let frame = capture.next_frame().unwrap().unwrap();
        assert_eq!((frame.data.len(), frame.data[0]), (200_000, index));
        let read = capture.bytes_read();
        assert!(read >= last && read <= capture.total_bytes());
        last = read;
    }
    assert!(capture.next_frame().unwrap().is_none());
}

#[test]
fn libpcap_reads_the_same() {
    let order = Order::Big;
    let bytes = [
        section(order),
        interface(order, 1, 0, &[option(order, 9, &[9])]),
        enhanced(order, 0, 1_600_000_000_123_456_789, b"abcdefghij", 10),
        enhanced(order, 0, 1_600_000_000_223_456_789, b"klm", 1500),
    ]
    .concat();
    let file = stored(&bytes);
    let frames = read_file(file.path()).0;
    let mut oracle =
        ::pcap::Capture::from_file_with_precision(file.path(), ::pcap::Precision::Nano).unwrap();
    for (time, _, data, wire_length) in frames {
        let packet = oracle.next_packet().unwrap();
        let stamp = packet.header.ts;
        assert_eq!(stamp.tv_sec as u64 * 1_000_000_000 + stamp.tv_usec as u64, time);
        assert_eq!((packet.data, packet.header.len), (data.as_slice(), wire_length));
    }
    assert!(oracle.next_packet().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the bytes, reading ends, without a panic, and time does not run backwards.
    #[test]
    fn any_bytes_end(
        format in 0..3_usize,
        mut tail in proptest::collection::vec(any::<u8>(), 0..600),
        records in 0..4_usize,
    ) {
        let order = Order::Little;
        let mut bytes = match format {
            0 => pcap_header(order, NANOSECONDS, 1),
            1 => [section(order), interface(order, 1, 0, &[])].concat(),
            _ => Vec::new(),
        };
        for index in 0..records as u32 {
            bytes.extend(match format {
                0 => pcap_record(order, index, 0, b"frame", 5),
                _ => enhanced(order, 0, u64::from(index), b"frame", 5),
            });
        }
        bytes.append(&mut tail);
        let (frames, _) = read(&bytes);
        prop_assert!(format == 2 || frames.len() >= records);
        prop_assert!(frames.is_sorted_by_key(|frame| frame.0));
    }

    /// A flipped octet anywhere never panics, and the frames before it stay what they are.
    #[test]
    fn damage_spares_what_came_before(at in 0..2000_usize, value: u8, compressed: bool) {
        let order = Order::Little;
        let mut bytes = [section(order), interface(order, 1, 0, &[])].concat();
        let start = bytes.len();
        for index in 0..20 {
            bytes.extend(enhanced(order, 0, index, &[index as u8; 50], 50));
        }
        let intact = read_all(&bytes);
        let at = at % bytes.len();
        bytes[at] = value;
        let before = at.saturating_sub(start) / 84;
        let (frames, _) = if compressed { read(&gzip(&bytes)) } else { read(&bytes) };
        prop_assert!(at < start || frames.len() >= before);
        for (frame, expected) in frames.iter().zip(&intact).take(before) {
            prop_assert_eq!(frame, expected);
        }
    }
}
