//! Ethernet frames around IPv4 and IPv6 packets, with right lengths and checksums.
//!
//! RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443. The buffer is reused: building a frame
//! allocates nothing once it has grown to the largest one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of an Ethernet header.
const ETHERNET_HEADER: usize = 14;

/// Largest IP packet in a frame: the MTU of plain Ethernet.
pub(crate) const MTU: usize = 1500;

/// IP protocol numbers.
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const IGMP: u8 = 2;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const GRE: u8 = 47;
    pub(crate) const ESP: u8 = 50;
    pub(crate) const IPV6_FRAGMENT: u8 = 44;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
}

/// TCP flags (RFC 9293 §3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Every station on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

/// Text that is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address; write six octets in hexadecimal, such as 02:00:00:00:00:01")]
pub struct ParseMacError(String);

impl std::str::FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            *octet = parts
                .next()
                // `from_str_radix` alone would take a sign.
                .filter(|part| (1..=2).contains(&part.len()) && !part.starts_with('+'))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| ParseMacError(text.to_owned()))?;
        }
        if parts.next().is_some() {
            return Err(ParseMacError(text.to_owned()));
        }
        Ok(Self(octets))
    }
}

/// The two stations that every frame names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddresses {
    /// Where frames go.
    pub destination: MacAddress,
    /// Where they say they come from.
    pub source: MacAddress,
}

impl Default for LinkAddresses {
    /// To everybody, from a locally administered address.
    fn default() -> Self {
        Self {
            destination: MacAddress::BROADCAST,
            source: MacAddress([0x02, 0x74, 0x69, 0x64, 0x65, 0x01]),
        }
    }
}

/// What an IP header says, beside its length and checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    pub(crate) identification: u16,
}

impl Ip {
    fn is_ipv4(&self) -> bool {
        self.destination.is_ipv4()
    }

    /// Octets of the header without extensions.
    pub(crate) fn header_length(&self) -> usize {
        if self.is_ipv4() { 20 } else { 40 }
    }

    /// The protocol number of ICMP in this family.
    pub(crate) fn icmp_protocol(&self) -> u8 {
        if self.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 }
    }
}

/// A TCP header, without ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    /// In octets; a multiple of eight.
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

/// Builds one frame at a time into its own buffer.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    link: LinkAddresses,
    frame: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn new(link: LinkAddresses) -> Self {
        Self { link, frame: Vec::with_capacity(ETHERNET_HEADER + MTU) }
    }

    /// The frame that was built last.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// An IP packet of any protocol around `payload`.
    pub(crate) fn raw(&mut self, ip: &Ip, protocol: u8, payload: &[u8]) {
        self.start(ip, protocol, payload.len(), None);
        self.frame.extend_from_slice(payload);
    }

    /// One fragment of a datagram of `protocol`.
    pub(crate) fn fragment(&mut self, ip: &Ip, protocol: u8, part: Fragment, payload: &[u8]) {
        self.start(ip, protocol, payload.len(), Some(part));
        self.frame.extend_from_slice(payload);
    }

    /// A UDP datagram.
    pub(crate) fn udp(&mut self, ip: &Ip, ports: (u16, u16), payload: &[u8]) {
        self.start(ip, protocol::UDP, 8 + payload.len(), None);
        let transport = self.frame.len();
        put_udp(&mut self.frame, ip, ports, payload);
        debug_assert_eq!(self.frame.len(), transport + 8 + payload.len());
    }

    /// A TCP segment; `options` is padded by the caller to a multiple of four octets.
    pub(crate) fn tcp(
        &mut self,
        ip: &Ip,
        ports: (u16, u16),
        tcp: &Tcp,
        options: &[u8],
        payload: &[u8],
    ) {
        let header = 20 + options.len();
        self.start(ip, protocol::TCP, header + payload.len(), None);
        let transport = self.frame.len();
        let to = &mut self.frame;
        to.extend_from_slice(&ports.0.to_be_bytes());
        to.extend_from_slice(&ports.1.to_be_bytes());
        to.extend_from_slice(&tcp.sequence.to_be_bytes());
        to.extend_from_slice(&tcp.acknowledgement.to_be_bytes());
        to.extend_from_slice(&[octet(header / 4) << 4, tcp.flags]);
        to.extend_from_slice(&tcp.window.to_be_bytes());
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(options);
        to.extend_from_slice(payload);
        seal(to, transport, 16, pseudo_header(ip, protocol::TCP, header + payload.len()));
    }

    /// An ICMP or ICMPv6 message: `kind` is type and code, `rest` all after the checksum.
    pub(crate) fn icmp(&mut self, ip: &Ip, kind: (u8, u8), rest: &[u8]) {
        let protocol = ip.icmp_protocol();
        let length = 4 + rest.len();
        self.start(ip, protocol, length, None);
        let transport = self.frame.len();
        self.frame.extend_from_slice(&[kind.0, kind.1, 0, 0]);
        self.frame.extend_from_slice(rest);
        // Only ICMPv6 sums a pseudo-header (RFC 4443 §2.3).
        let pseudo = if ip.is_ipv4() { 0 } else { pseudo_header(ip, protocol, length) };
        seal(&mut self.frame, transport, 2, pseudo);
    }

    /// Writes Ethernet and IP headers for `length` octets of payload to come.
    fn start(&mut self, ip: &Ip, protocol: u8, length: usize, part: Option<Fragment>) {
        self.frame.clear();
        self.frame.extend_from_slice(&self.link.destination.0);
        self.frame.extend_from_slice(&self.link.source.0);
        match (ip.source, ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.frame.extend_from_slice(&[0x08, 0x00]);
                put_ipv4(&mut self.frame, ip, (source, destination), protocol, length, part);
            }
            (source, destination) => {
                self.frame.extend_from_slice(&[0x86, 0xdd]);
                let addresses = (as_ipv6(source), as_ipv6(destination));
                put_ipv6(&mut self.frame, ip, addresses, protocol, length, part);
            }
        }
    }
}

/// Addresses of mixed families do not occur; if they did, the mapped form keeps the frame valid.
fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn put_ipv4(
    to: &mut Vec<u8>,
    ip: &Ip,
    (source, destination): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    length: usize,
    part: Option<Fragment>,
) {
    let start = to.len();
    // Whole packets carry Don't Fragment, as today's stacks send them; fragments cannot.
    let fragmentation = part.map_or(0x4000, |part| {
        short(part.offset / 8) & 0x1fff | if part.more { 0x2000 } else { 0 }
    });
    to.extend_from_slice(&[0x45, 0]);
    to.extend_from_slice(&short(20 + length).to_be_bytes());
    to.extend_from_slice(&ip.identification.to_be_bytes());
    to.extend_from_slice(&fragmentation.to_be_bytes());
    to.extend_from_slice(&[ip.ttl, protocol, 0, 0]);
    to.extend_from_slice(&source.octets());
    to.extend_from_slice(&destination.octets());
    seal(to, start, 10, 0);
}

fn put_ipv6(
    to: &mut Vec<u8>,
    ip: &Ip,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    protocol: u8,
    length: usize,
    part: Option<Fragment>,
) {
    let extension = if part.is_some() { 8 } else { 0 };
    let next = if part.is_some() { protocol::IPV6_FRAGMENT } else { protocol };
    to.extend_from_slice(&[0x60, 0, 0, 0]);
    to.extend_from_slice(&short(length + extension).to_be_bytes());
    to.extend_from_slice(&[next, ip.ttl]);
    to.extend_from_slice(&source.octets());
    to.extend_from_slice(&destination.octets());
    if let Some(part) = part {
        to.extend_from_slice(&[protocol, 0]);
        to.extend_from_slice(&(short(part.offset) & 0xfff8 | u16::from(part.more)).to_be_bytes());
        to.extend_from_slice(&[0, 0]);
        to.extend_from_slice(&ip.identification.to_be_bytes());
    }
}

/// Appends a UDP header and `payload` to `to`.
pub(crate) fn put_udp(to: &mut Vec<u8>, ip: &Ip, ports: (u16, u16), payload: &[u8]) {
    let transport = to.len();
    let length = 8 + payload.len();
    to.extend_from_slice(&ports.0.to_be_bytes());
    to.extend_from_slice(&ports.1.to_be_bytes());
    to.extend_from_slice(&short(length).to_be_bytes());
    to.extend_from_slice(&[0, 0]);
    to.extend_from_slice(payload);
    seal(to, transport, 6, pseudo_header(ip, protocol::UDP, length));
    // A sum of zero is sent as all ones: zero says that there is none (RFC 768).
    if let Some(sum) = to.get_mut(transport + 6..transport + 8).filter(|sum| **sum == [0, 0]) {
        sum.fill(0xff);
    }
}

/// Appends an IPv4 packet with a UDP datagram to `to`: the inside of a tunnel.
pub(crate) fn put_ipv4_udp(to: &mut Vec<u8>, ip: &Ip, ports: (u16, u16), payload: &[u8]) {
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (ip.source, ip.destination) {
        put_ipv4(to, ip, (source, destination), protocol::UDP, 8 + payload.len(), None);
        put_udp(to, ip, ports, payload);
    }
}

/// Writes the checksum of all from `start` on at `start + at`.
fn seal(to: &mut [u8], start: usize, at: usize, pseudo: u64) {
    let sum = fold(pseudo + sum(to.get(start..).unwrap_or_default()));
    if let Some(field) = to.get_mut(start + at..start + at + 2) {
        field.copy_from_slice(&(!sum).to_be_bytes());
    }
}

fn pseudo_header(ip: &Ip, protocol: u8, length: usize) -> u64 {
    let addresses = match (ip.source, ip.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum(&source.octets()) + sum(&destination.octets())
        }
        (source, destination) => {
            sum(&as_ipv6(source).octets()) + sum(&as_ipv6(destination).octets())
        }
    };
    addresses + u64::from(protocol) + length as u64
}

/// One's complement sum of 16-bit words, not yet folded (RFC 1071), four octets at a step.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let total: u64 =
        words.by_ref().map(|word| u64::from(word.try_into().map_or(0, u32::from_be_bytes))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    total + u64::from(u32::from_be_bytes(last))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    short(sum as usize)
}

/// A length that is known to fit its field; larger ones are cut, not wrapped.
pub(crate) fn short(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// A length that is known to fit one octet.
pub(crate) fn octet(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_a_known_header() {
        // RFC 1071 §3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
        assert_eq!(fold(sum(&[0x12])), 0x1200);
        assert_eq!(fold(sum(&[])), 0);
    }

    #[test]
    fn mac_addresses_read() {
        assert_eq!("ff:ff:ff:ff:ff:ff".parse(), Ok(MacAddress::BROADCAST));
        assert_eq!("2:0:0:0:0:a".parse(), Ok(MacAddress([2, 0, 0, 0, 0, 10])));
        for text in
            ["", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:g", "001:2:3:4:5:6", "+1:2:3:4:5:6"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
