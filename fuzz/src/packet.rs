//! Headers of a captured frame.
//!
//! Input: an octet that chooses the link type, an octet that says how much longer the frame was on
//! the wire, the frame.

use tidegate_detector::packet::{Fragment, LinkType, Unreadable, Upper, parse};

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::LinuxCooked,
    LinkType::LinuxCooked2,
    LinkType::RawIp,
    LinkType::Null,
    LinkType::Ppp,
];

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let [link, cut, frame @ ..] = input else { return };
    let link = LINKS[usize::from(*link) % LINKS.len()];
    let wire_length = u32::try_from(frame.len()).unwrap_or(u32::MAX) + u32::from(*cut) * 8;
    let packet = match parse(link, frame, wire_length) {
        Ok(packet) => packet,
        Err(Unreadable::NotIp | Unreadable::Malformed) => return,
    };
    assert_eq!(packet.source.is_ipv4(), packet.destination.is_ipv4());
    assert!(frame.len() >= if packet.source.is_ipv4() { 20 } else { 40 });
    match packet.upper {
        Upper::Udp { payload, .. } => {
            let inside = frame.as_ptr_range();
            let payload = payload.as_ptr_range();
            let within = inside.start <= payload.start && payload.end <= inside.end;
            assert!(within || payload.is_empty());
        }
        Upper::Icmp { .. } => assert!(packet.source.is_ipv4()),
        Upper::Icmpv6 { .. } => assert!(packet.source.is_ipv6()),
        Upper::Tcp { .. } | Upper::Headless(_) | Upper::Other(_) => {}
    }
    if packet.fragment == Fragment::Later {
        assert!(
            matches!(packet.upper, Upper::Headless(_) | Upper::Other(_)),
            "a later fragment has no header: {packet:?}"
        );
    }
    // The longer the capture, the more is known; cutting it never shows another packet.
    for kept in [frame.len() / 2, frame.len().saturating_sub(1)] {
        if let Ok(less) = parse(link, &frame[..kept], wire_length) {
            assert_eq!(
                (less.source, less.destination),
                (packet.source, packet.destination),
                "cut to {kept}"
            );
        }
    }
}
