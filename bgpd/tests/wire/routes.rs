//! Arbitrary routes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_set, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_bgpd::{Family, SessionParameters};
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, Community, FlowSpecComponent, FlowSpecRule,
    LargeCommunity, Nlri, NumericMatch, NumericOperator, NumericTest, Prefix, Route,
    TrafficFilteringAction,
};

pub(crate) fn parameters() -> impl Strategy<Value = SessionParameters> {
    let numbers = select(vec![65010_u32, 65001, 23456, 4_200_000_000]);
    (numbers.clone(), numbers, any::<bool>()).prop_map(|(local_as, peer_as, four_octet_as)| {
        SessionParameters {
            local_as,
            peer_as,
            local_address: IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)),
            four_octet_as,
            families: BTreeSet::from(Family::ALL),
            role: None,
        }
    })
}

pub(crate) fn family() -> impl Strategy<Value = AddressFamily> {
    select(vec![AddressFamily::Ipv4, AddressFamily::Ipv6])
}

/// Mostly in and around the owned space.
pub(crate) fn prefix(family: AddressFamily) -> BoxedStrategy<Prefix> {
    let bits = family.bits();
    let length = prop_oneof![3 => Just(bits), 2 => bits - 10..=bits, 1 => 0..=bits];
    let address = match family {
        AddressFamily::Ipv4 => prop_oneof![
            8 => (0_u32..1024).prop_map(|low| Ipv4Addr::from(0xcb00_7000 | low)),
            1 => any::<u32>().prop_map(Ipv4Addr::from),
        ]
        .prop_map(IpAddr::V4)
        .boxed(),
        AddressFamily::Ipv6 => prop_oneof![
            4 => (select(vec![0_u128, 1, 0x53]), 0_u128..256).prop_map(|(site, low)| {
                Ipv6Addr::from(0x2001_0db8_u128 << 96 | site << 80 | low)
            }),
            1 => any::<u128>().prop_map(Ipv6Addr::from),
        ]
        .prop_map(IpAddr::V6)
        .boxed(),
    };
    (address, length).prop_map(|(address, length)| Prefix::new(address, length).unwrap()).boxed()
}

fn operator() -> impl Strategy<Value = NumericOperator> {
    use NumericOperator::{
        Equal, False, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual, True,
    };
    prop_oneof![
        4 => Just(Equal),
        1 => select(vec![False, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual, True]),
    ]
}

/// Numbers up to `most`; `usual` ones more often.
fn numeric(most: u64, usual: Vec<u64>) -> impl Strategy<Value = NumericMatch> {
    let value = prop_oneof![3 => select(usual), 1 => 0..=most];
    let test = (operator(), value).prop_map(|(operator, value)| NumericTest { operator, value });
    vec(vec(test, 1..3), 1..4).prop_map(|groups| NumericMatch::new(groups).unwrap())
}

fn bitmask(known: u16) -> impl Strategy<Value = BitmaskMatch> {
    let test = (any::<bool>(), any::<bool>(), any::<u16>())
        .prop_map(move |(all, negated, bits)| BitmaskTest { all, negated, bits: bits & known });
    vec(vec(test, 1..3), 1..3).prop_map(|groups| BitmaskMatch::new(groups).unwrap())
}

pub(crate) fn rule(family: AddressFamily) -> impl Strategy<Value = FlowSpecRule> {
    use FlowSpecComponent as Component;
    let ports = || numeric(0xffff, vec![53, 80, 123, 179, 1024, 65535]);
    let fragment_bits = if family == AddressFamily::Ipv4 { 0x0f } else { 0x0e };
    let numbers = (
        weighted(0.5, numeric(0xff, vec![1, 6, 17, 58])),
        weighted(0.2, ports()),
        weighted(0.3, ports()),
        weighted(0.3, ports()),
        weighted(0.2, numeric(0xff, vec![0, 8, 128])),
        weighted(0.1, numeric(0xff, vec![0])),
        weighted(0.2, numeric(0xffff, vec![0, 19, 20, 40, 576, 1500, 65535])),
        weighted(0.1, numeric(0x3f, vec![0, 46])),
        weighted(0.1, numeric(0xf_ffff, vec![0, 0xfffff])),
    );
    let others = (
        weighted(0.9, prefix(family)),
        weighted(0.2, prefix(family)),
        weighted(0.2, bitmask(0x0fff)),
        weighted(0.2, bitmask(fragment_bits)),
    );
    (numbers, others)
        .prop_map(move |(numbers, others)| {
            let (protocol, port, to, from, icmp_type, icmp_code, length, dscp, label) = numbers;
            let (destination, source, flags, fragment) = others;
            let components: Vec<Component> = [
                destination.map(Component::DestinationPrefix),
                source.map(Component::SourcePrefix),
                protocol.map(Component::IpProtocol),
                port.map(Component::Port),
                to.map(Component::DestinationPort),
                from.map(Component::SourcePort),
                icmp_type.map(Component::IcmpType),
                icmp_code.map(Component::IcmpCode),
                flags.map(Component::TcpFlags),
                length.map(Component::PacketLength),
                dscp.map(Component::Dscp),
                fragment.map(Component::Fragment),
                label.filter(|_| family == AddressFamily::Ipv6).map(Component::FlowLabel),
            ]
            .into_iter()
            .flatten()
            .collect();
            FlowSpecRule::new(family, components).ok()
        })
        .prop_filter_map("a rule has a component", |rule| rule)
}

pub(crate) fn action() -> impl Strategy<Value = TrafficFilteringAction> {
    use TrafficFilteringAction as Action;
    let rate = || prop_oneof![Just(0.0_f32), 0.0..1e12_f32, Just(f32::MIN_POSITIVE)];
    prop_oneof![
        4 => rate().prop_map(Action::RateLimitBytes),
        1 => rate().prop_map(Action::RateLimitPackets),
        1 => any::<(bool, bool)>()
            .prop_map(|(sample, terminal)| Action::TrafficAction { sample, terminal }),
        1 => any::<(u16, u32)>().prop_map(|(asn, number)| Action::RedirectAs2(asn, number)),
        1 => any::<(Ipv4Addr, u16)>()
            .prop_map(|(address, number)| Action::RedirectIpv4(address, number)),
        1 => any::<(u32, u16)>().prop_map(|(asn, number)| Action::RedirectAs4(asn, number)),
        1 => any::<(IpAddr, bool)>().prop_map(|(address, copy)| Action::RedirectToIp(address, copy)),
        1 => (0_u8..64).prop_map(Action::Mark),
    ]
}

pub(crate) fn communities() -> impl Strategy<Value = BTreeSet<Community>> {
    let one = prop_oneof![
        4 => select(vec![Community::BLACKHOLE, Community::NO_EXPORT, Community::NO_ADVERTISE]),
        1 => any::<u32>().prop_map(Community),
    ];
    btree_set(one, 0..5)
}

pub(crate) fn large_communities() -> impl Strategy<Value = BTreeSet<LargeCommunity>> {
    let one = any::<(u32, u32, u32)>().prop_map(|(global, local1, local2)| LargeCommunity {
        global,
        local1,
        local2,
    });
    btree_set(one, 0..3)
}

fn next_hop(family: AddressFamily) -> BoxedStrategy<IpAddr> {
    match family {
        AddressFamily::Ipv4 => prop_oneof![
            4 => Just(Ipv4Addr::new(192, 0, 2, 1)),
            1 => any::<u32>().prop_map(Ipv4Addr::from),
        ]
        .prop_map(IpAddr::V4)
        .boxed(),
        AddressFamily::Ipv6 => prop_oneof![
            4 => Just(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
            1 => any::<u128>().prop_map(Ipv6Addr::from),
        ]
        .prop_map(IpAddr::V6)
        .boxed(),
    }
}

pub(crate) fn unicast_route() -> impl Strategy<Value = Route> {
    family().prop_flat_map(|family| {
        (prefix(family), next_hop(family), communities(), large_communities()).prop_map(
            |(prefix, next_hop, communities, large_communities)| Route {
                nlri: Nlri::Unicast(prefix),
                next_hop: Some(next_hop),
                communities,
                large_communities,
                actions: Vec::new(),
            },
        )
    })
}

pub(crate) fn flowspec_route() -> impl Strategy<Value = Route> {
    let rule = family().prop_flat_map(rule);
    (rule, vec(action(), 0..3), communities(), large_communities()).prop_map(
        |(rule, actions, communities, large_communities)| Route {
            nlri: Nlri::FlowSpec(rule),
            next_hop: None,
            communities,
            large_communities,
            actions,
        },
    )
}

pub(crate) fn route() -> impl Strategy<Value = Route> {
    prop_oneof![unicast_route().boxed(), flowspec_route().boxed()]
}
