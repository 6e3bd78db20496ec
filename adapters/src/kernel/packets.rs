//! For tests: packets as octets, which packets a rule matches according to the RFCs, and random
//! rules and packets that often meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, NumericMatch,
    NumericOperator, NumericTest, Prefix,
};

use super::filter::{Condition, Field, Term};

/// What is random about a packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) dscp: u8,
    pub(crate) flow_label: u32,
    pub(crate) do_not_fragment: bool,
    /// Offset in units of eight octets, and whether more follow. In IPv6: a fragment header.
    pub(crate) fragment: Option<(u16, bool)>,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) tcp_flags: u16,
    pub(crate) icmp: (u8, u8),
    /// Octets behind the upper-layer header.
    pub(crate) payload: u16,
}

impl Packet {
    fn family(&self) -> AddressFamily {
        match self.destination {
            IpAddr::V4(_) => AddressFamily::Ipv4,
            IpAddr::V6(_) => AddressFamily::Ipv6,
        }
    }

    /// Whether it has the start of the upper-layer header.
    fn has_upper_layer(&self) -> bool {
        self.fragment.is_none_or(|(offset, _)| offset == 0)
    }

    fn upper_layer(&self) -> Vec<u8> {
        let mut octets = match self.protocol {
            1 | 58 => vec![self.icmp.0, self.icmp.1],
            _ => [self.source_port.to_be_bytes(), self.destination_port.to_be_bytes()].concat(),
        };
        octets.resize(if self.protocol == 6 { 20 } else { 8 }, 0);
        match self.protocol {
            6 => octets[12..14].copy_from_slice(&(0x5000 | self.tcp_flags).to_be_bytes()),
            17 => octets[4..6].copy_from_slice(&(8 + self.payload).to_be_bytes()),
            _ => {}
        }
        octets.resize(octets.len() + usize::from(self.payload), 0xAA);
        octets
    }

    /// The packet from its IP header on.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let upper = self.upper_layer();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (offset, more) = self.fragment.unwrap_or_default();
                let flags = u16::from(self.do_not_fragment) << 14 | u16::from(more) << 13;
                let length = u16::try_from(20 + upper.len()).unwrap();
                let mut octets = vec![0x45, self.dscp << 2];
                octets.extend(length.to_be_bytes());
                octets.extend([0, 1]);
                octets.extend((flags | offset).to_be_bytes());
                octets.extend([64, self.protocol, 0, 0]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
                octets.extend(upper);
                octets
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let first = 6 << 28 | u32::from(self.dscp) << 22 | self.flow_label;
                let extension = if self.fragment.is_some() { 8 } else { 0 };
                let length = u16::try_from(extension + upper.len()).unwrap();
                let next = if self.fragment.is_some() { 44 } else { self.protocol };
                let mut octets = first.to_be_bytes().to_vec();
                octets.extend(length.to_be_bytes());
                octets.extend([next, 64]);
                octets.extend(source.octets());
                octets.extend(destination.octets());
                if let Some((offset, more)) = self.fragment {
                    octets.extend([self.protocol, 0]);
                    octets.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    octets.extend([0, 0, 0, 1]);
                }
                octets.extend(upper);
                octets
            }
            other => panic!("two families: {other:?}"),
        }
    }

    /// Whether `rule` matches according to RFC 8955 §4.2.2 and RFC 8956 §3.
    pub(crate) fn is_matched_by(&self, rule: &FlowSpecRule) -> bool {
        self.family() == rule.family()
            && rule.components().iter().all(|component| self.meets(component))
    }

    fn meets(&self, component: &FlowSpecComponent) -> bool {
        let has_ports = matches!(self.protocol, 6 | 17) && self.has_upper_layer();
        let ports = [self.source_port, self.destination_port];
        let icmp = match self.family() {
            AddressFamily::Ipv4 => self.protocol == 1,
            AddressFamily::Ipv6 => self.protocol == 58,
        } && self.has_upper_layer();
        match component {
            FlowSpecComponent::DestinationPrefix(prefix) => {
                prefix.contains_address(self.destination)
            }
            FlowSpecComponent::SourcePrefix(prefix) => prefix.contains_address(self.source),
            FlowSpecComponent::IpProtocol(numeric) => numeric.matches(self.protocol.into()),
            FlowSpecComponent::Port(numeric) => {
                has_ports && ports.iter().any(|port| numeric.matches((*port).into()))
            }
            FlowSpecComponent::DestinationPort(numeric) => {
                has_ports && numeric.matches(self.destination_port.into())
            }
            FlowSpecComponent::SourcePort(numeric) => {
                has_ports && numeric.matches(self.source_port.into())
            }
            FlowSpecComponent::IcmpType(numeric) => icmp && numeric.matches(self.icmp.0.into()),
            FlowSpecComponent::IcmpCode(numeric) => icmp && numeric.matches(self.icmp.1.into()),
            FlowSpecComponent::TcpFlags(mask) => {
                self.protocol == 6 && self.has_upper_layer() && mask.matches(self.tcp_flags)
            }
            FlowSpecComponent::PacketLength(numeric) => {
                numeric.matches(self.octets().len().try_into().unwrap())
            }
            FlowSpecComponent::Dscp(numeric) => numeric.matches(self.dscp.into()),
            FlowSpecComponent::Fragment(mask) => mask.matches(self.fragment_bits()),
            FlowSpecComponent::FlowLabel(numeric) => numeric.matches(self.flow_label.into()),
        }
    }

    fn fragment_bits(&self) -> u16 {
        let df = self.do_not_fragment && self.family() == AddressFamily::Ipv4;
        let (offset, more) = self.fragment.unwrap_or_default();
        let bits = [df, offset > 0, offset == 0 && more, offset > 0 && !more];
        bits.iter().rev().fold(0, |sum, bit| sum << 1 | u16::from(*bit))
    }

    /// What nftables would load for `field`.
    fn load(&self, field: Field) -> Option<u128> {
        let octets = self.octets();
        let ipv6 = self.family() == AddressFamily::Ipv6;
        let header = match (ipv6, self.fragment) {
            (false, _) => 20,
            (true, None) => 40,
            (true, Some(_)) => 48,
        };
        let number = |start: usize| {
            let slice = octets.get(start..start + usize::from(field.length()))?;
            Some(slice.iter().fold(0_u128, |sum, octet| sum << 8 | u128::from(*octet)))
        };
        match field {
            Field::FamilyNumber => Some(if ipv6 { 10 } else { 2 }),
            Field::UpperLayerProtocol => Some(self.protocol.into()),
            Field::Network { offset, .. } => number(offset.into()),
            // Wherever it would be: nftables does not look whether it is there.
            Field::Transport { offset, .. } if ipv6 && !self.has_upper_layer() => {
                number(offset.into())
            }
            Field::Transport { offset, .. } => number(header + usize::from(offset)),
            Field::FragmentHeader if header == 48 => number(42),
            Field::FragmentHeader => None,
            Field::FragmentHeaderPresent => Some(u128::from(header == 48)),
        }
    }

    fn fulfils(&self, condition: &Condition) -> bool {
        self.load(condition.field).is_some_and(|value| {
            let masked = value & condition.mask;
            (condition.low <= masked && masked <= condition.high) != condition.negated
        })
    }

    /// Whether nftables would match one of `terms`.
    pub(crate) fn fulfils_any(&self, terms: &[Term]) -> bool {
        terms.iter().any(|term| term.iter().all(|condition| self.fulfils(condition)))
    }
}

const PORTS: [u16; 6] = [0, 53, 123, 1000, 1001, 65535];
const PROTOCOLS: [u8; 5] = [1, 6, 17, 47, 58];

fn ipv4(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, last).into()
}

fn ipv6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).into()
}

fn source(family: AddressFamily, last: u8) -> IpAddr {
    match family {
        AddressFamily::Ipv4 => Ipv4Addr::new(198, 51, 100, last).into(),
        AddressFamily::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, last.into()).into(),
    }
}

fn destination(family: AddressFamily, last: u8) -> IpAddr {
    match family {
        AddressFamily::Ipv4 => ipv4(last),
        AddressFamily::Ipv6 => ipv6(last.into()),
    }
}

/// Packets from 198.51.100.0/24 or 2001:db8:ffff::/48 to 203.0.113.0/24 or 2001:db8:1::/48.
pub(crate) fn packets(family: AddressFamily) -> impl Strategy<Value = Packet> {
    let addresses = (10..14_u8, 10..14_u8);
    let fragment = option::weighted(0.3, (select(vec![0_u16, 1, 100, 8191]), any::<bool>()));
    // Half of the labels look like ports.
    let port_like = select(PORTS.to_vec()).prop_map(u32::from);
    let label = prop_oneof![port_like, 0..=0xF_FFFF_u32];
    let network = (0..64_u8, label, any::<bool>(), fragment);
    let upper = (
        select(PROTOCOLS.to_vec()),
        select(PORTS.to_vec()),
        select(PORTS.to_vec()),
        0..0x1000_u16,
        (select(vec![0_u8, 3, 8, 128]), select(vec![0_u8, 1, 4])),
        select(vec![0_u16, 1, 100, 400]),
    );
    (addresses, network, upper).prop_map(move |(addresses, network, upper)| Packet {
        source: source(family, addresses.0),
        destination: destination(family, addresses.1),
        dscp: network.0,
        flow_label: network.1,
        do_not_fragment: network.2,
        fragment: network.3,
        protocol: upper.0,
        source_port: upper.1,
        destination_port: upper.2,
        tcp_flags: upper.3,
        icmp: upper.4,
        payload: upper.5,
    })
}

fn numeric(values: Vec<u64>) -> impl Strategy<Value = NumericMatch> {
    use NumericOperator as Is;
    let operators = vec![
        Is::Equal,
        Is::Equal,
        Is::Equal,
        Is::Greater,
        Is::GreaterOrEqual,
        Is::Less,
        Is::LessOrEqual,
        Is::NotEqual,
        Is::True,
        Is::False,
    ];
    let test = (select(operators), select(values));
    let test = test.prop_map(|(operator, value)| NumericTest { operator, value });
    vec(vec(test, 1..3), 1..3).prop_map(|groups| NumericMatch::new(groups).unwrap())
}

fn bitmask(bits: Vec<u16>) -> impl Strategy<Value = BitmaskMatch> {
    let test = (any::<bool>(), any::<bool>(), select(bits));
    let test = test.prop_map(|(all, negated, bits)| BitmaskTest { all, negated, bits });
    vec(vec(test, 1..3), 1..3).prop_map(|groups| BitmaskMatch::new(groups).unwrap())
}

fn prefixes(
    family: AddressFamily,
    address: impl Fn(AddressFamily, u8) -> IpAddr + 'static,
) -> impl Strategy<Value = Prefix> {
    (10..14_u8, 0..4_u8).prop_map(move |(last, shorter)| {
        let lengths =
            [family.bits(), family.bits() - 1, family.bits() - 2, 24.max(family.bits() / 2)];
        Prefix::new(address(family, last), lengths[usize::from(shorter)]).unwrap()
    })
}

/// Rules with a destination in the addresses of [`packets`], and up to four other components.
pub(crate) fn rules(family: AddressFamily) -> impl Strategy<Value = FlowSpecRule> {
    use FlowSpecComponent as Part;
    let ports = || numeric(vec![0, 52, 53, 54, 123, 1000, 1001, 65535, 70_000]);
    let lengths = vec![0, 20, 28, 40, 48, 128, 129, 448, 65535, 65_575, 70_000];
    // In IPv6 there is no do-not-fragment bit.
    let fragment_bits = match family {
        AddressFamily::Ipv4 => (0..20).collect(),
        AddressFamily::Ipv6 => (0..20).filter(|bits| bits & 1 == 0).collect(),
    };
    let mut others: Vec<BoxedStrategy<FlowSpecComponent>> = vec![
        prefixes(family, source).prop_map(Part::SourcePrefix).boxed(),
        numeric(PROTOCOLS.iter().map(|number| u64::from(*number)).chain([300]).collect())
            .prop_map(Part::IpProtocol)
            .boxed(),
        ports().prop_map(Part::Port).boxed(),
        ports().prop_map(Part::DestinationPort).boxed(),
        ports().prop_map(Part::SourcePort).boxed(),
        numeric(vec![0, 3, 8, 128, 255]).prop_map(Part::IcmpType).boxed(),
        numeric(vec![0, 1, 4, 256]).prop_map(Part::IcmpCode).boxed(),
        bitmask(vec![0, 0x02, 0x12, 0x3F, 0xFFF, 0x1002]).prop_map(Part::TcpFlags).boxed(),
        numeric(lengths).prop_map(Part::PacketLength).boxed(),
        numeric(vec![0, 10, 46, 63, 64]).prop_map(Part::Dscp).boxed(),
        bitmask(fragment_bits).prop_map(Part::Fragment).boxed(),
    ];
    if family == AddressFamily::Ipv6 {
        let labels = numeric(vec![0, 0x8_0000, 0xF_FFFF, 0x10_0000]);
        others.push(labels.prop_map(Part::FlowLabel).boxed());
    }
    let some = proptest::sample::subsequence(others, 0..=4);
    let to = prefixes(family, destination).prop_map(Part::DestinationPrefix);
    (to, some.prop_flat_map(|parts| parts)).prop_map(move |(to, parts)| {
        let components = std::iter::once(to).chain(parts).collect();
        FlowSpecRule::new(family, components).unwrap()
    })
}

/// Either family.
pub(crate) fn families() -> impl Strategy<Value = AddressFamily> {
    select(vec![AddressFamily::Ipv4, AddressFamily::Ipv6])
}
