//! Two decoders that share no code with ours read what we send.
//!
//! netgauze-bgp-pkt reads whole messages but leaves FlowSpec NLRI as octets; bgpkit-parser reads
//! whole unicast messages, and FlowSpec rules one at a time, but knows no IPv6 prefix offset, so
//! it is given IPv6 rules without their prefixes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgpkit_parser::models::{
    AsnLength, AttributeValue, BgpMessage as KitMessage, BitmaskOperator,
    ExtendedCommunity as KitExtended, FlowSpecComponent as Kit, MetaCommunity,
    NumericOperator as KitNumber, Origin as KitOrigin, parse_flowspec_nlri,
};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::community::{
    ExtendedCommunity, ExtendedCommunityIpv6, TransitiveIpv4ExtendedCommunity,
    TransitiveIpv6ExtendedCommunity,
};
use netgauze_bgp_pkt::path_attribute::{
    As4PathSegment, AsPath, MpReach, MpUnreach, PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;
use tidegate_bgpd::convert::{encode_announce, encode_nlri, encode_withdraw};
use tidegate_bgpd::{Family, SessionParameters};
use tidegate_model::{
    AddressFamily, BitmaskMatch, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, Route, TrafficFilteringAction,
};

use crate::routes;

/// A route as an oracle sees it, in words both can be brought to.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    announced: Vec<String>,
    withdrawn: Vec<String>,
    next_hop: Option<IpAddr>,
    path: Vec<u32>,
    local_preference: Option<u32>,
    communities: Vec<String>,
    large_communities: Vec<String>,
    actions: usize,
}

fn expected(parameters: &SessionParameters, route: &Route, nlri: String) -> Seen {
    let internal = parameters.local_as == parameters.peer_as;
    Seen {
        announced: vec![nlri],
        withdrawn: vec![],
        next_hop: route.next_hop,
        path: if internal { vec![] } else { vec![parameters.local_as] },
        local_preference: internal.then_some(100),
        communities: route.communities.iter().map(ToString::to_string).collect(),
        large_communities: route.large_communities.iter().map(ToString::to_string).collect(),
        actions: route.actions.len(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn netgauze_update(parameters: &SessionParameters, message: &[u8]) -> BgpUpdateMessage {
    let mut context = BgpParsingContext::asn2_default();
    context.set_asn4(parameters.four_octet_as);
    let mut reader = SliceReader::new(message);
    match BgpMessage::parse(&mut reader, &mut context).unwrap() {
        BgpMessage::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn four_octet_path(segments: &[As4PathSegment]) -> Vec<u32> {
    segments.iter().flat_map(|segment| segment.as_numbers().to_vec()).collect()
}

fn netgauze_communities(seen: &mut Seen, attribute: &PathAttributeValue) {
    match attribute {
        PathAttributeValue::Communities(list) => {
            let text = |value: u32| format!("{}:{}", value >> 16, value & 0xffff);
            seen.communities = list.communities().iter().map(|one| text(one.value())).collect();
        }
        PathAttributeValue::LargeCommunities(list) => {
            seen.large_communities = list
                .communities()
                .iter()
                .map(|one| {
                    format!("{}:{}:{}", one.global_admin(), one.local_data1(), one.local_data2())
                })
                .collect();
        }
        PathAttributeValue::ExtendedCommunities(list) => {
            seen.actions += list.communities().len();
        }
        PathAttributeValue::ExtendedCommunitiesIpv6(list) => {
            seen.actions += list.communities().len();
        }
        other => panic!("{other:?}"),
    }
}

fn netgauze(parameters: &SessionParameters, message: &[u8]) -> Seen {
    let update = netgauze_update(parameters, message);
    let mut seen = Seen {
        announced: update.nlri().iter().map(|one| one.network().address().to_string()).collect(),
        withdrawn: update
            .withdraw_routes()
            .iter()
            .map(|one| one.network().address().to_string())
            .collect(),
        ..Seen::default()
    };
    let mut longer_path = None;
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::AsPath(AsPath::As4PathSegments(segments)) => {
                seen.path = four_octet_path(segments);
            }
            PathAttributeValue::AsPath(AsPath::As2PathSegments(segments)) => {
                let numbers = segments.iter().flat_map(|segment| segment.as_numbers().to_vec());
                seen.path = numbers.map(u32::from).collect();
            }
            PathAttributeValue::As4Path(path) => {
                longer_path = Some(four_octet_path(path.segments()));
            }
            PathAttributeValue::NextHop(hop) => seen.next_hop = Some(hop.next_hop().into()),
            PathAttributeValue::LocalPreference(preference) => {
                seen.local_preference = Some(preference.metric());
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { next_hop_global, nlri, .. }) => {
                seen.next_hop = Some(IpAddr::V6(*next_hop_global));
                seen.announced =
                    nlri.iter().map(|one| one.network().address().to_string()).collect();
            }
            // Next hop length 0, reserved octet 0, then the NLRI.
            PathAttributeValue::MpReach(MpReach::Unknown { value, .. }) => {
                let nlri = value.strip_prefix(&[0, 0]).unwrap();
                seen.announced = vec![hex(nlri)];
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                seen.withdrawn =
                    nlri.iter().map(|one| one.network().address().to_string()).collect();
            }
            PathAttributeValue::MpUnreach(MpUnreach::Unknown { nlri, .. }) => {
                seen.withdrawn = vec![hex(nlri)];
            }
            PathAttributeValue::Origin(_) => {}
            other => netgauze_communities(&mut seen, other),
        }
    }
    if let Some(path) = longer_path {
        seen.path = path;
    }
    seen
}

fn bgpkit(parameters: &SessionParameters, message: &[u8]) -> Seen {
    let width = if parameters.four_octet_as { AsnLength::Bits32 } else { AsnLength::Bits16 };
    let mut octets = bytes::Bytes::copy_from_slice(message);
    let update =
        match bgpkit_parser::parser::bgp::parse_bgp_message(&mut octets, false, &width).unwrap() {
            KitMessage::Update(update) => update,
            other => panic!("{other:?}"),
        };
    let attributes = &update.attributes;
    assert!(!attributes.has_validation_warnings(), "{:?}", attributes.validation_warnings());
    let mut seen = Seen {
        announced: update.announced_prefixes.iter().map(ToString::to_string).collect(),
        withdrawn: update.withdrawn_prefixes.iter().map(ToString::to_string).collect(),
        next_hop: attributes.next_hop(),
        local_preference: attributes.local_preference(),
        ..Seen::default()
    };
    if let Some(path) = attributes.effective_as_path() {
        seen.path =
            path.iter_segments().flat_map(|one| one.as_ref().to_vec()).map(u32::from).collect();
    }
    for community in attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(one) => seen.communities.push(plain(&one)),
            MetaCommunity::Large(one) => seen.large_communities.push(one.to_string()),
            _ => seen.actions += 1,
        }
    }
    for attribute in attributes.iter() {
        match attribute {
            AttributeValue::Origin(origin) => assert_eq!(*origin, KitOrigin::IGP),
            AttributeValue::MpReachNlri(nlri) => {
                seen.announced = nlri.prefixes.iter().map(ToString::to_string).collect();
                seen.next_hop = nlri.next_hop.map(|hop| hop.addr());
            }
            AttributeValue::MpUnreachNlri(nlri) => {
                seen.withdrawn = nlri.prefixes.iter().map(ToString::to_string).collect();
            }
            _ => {}
        }
    }
    seen
}

fn plain(community: &bgpkit_parser::models::Community) -> String {
    use bgpkit_parser::models::Community as Plain;
    match community {
        Plain::NoExport => "65535:65281".to_owned(),
        Plain::NoAdvertise => "65535:65282".to_owned(),
        Plain::NoExportSubConfed => "65535:65283".to_owned(),
        Plain::Custom(high, low) => format!("{}:{low}", u32::from(*high)),
    }
}

/// `(and, lt, gt, eq, value)` of every test in order.
type Numbers = Vec<(bool, bool, bool, bool, u64)>;
/// `(and, not, match, bits)` of every test in order.
type Masks = Vec<(bool, bool, bool, u64)>;

#[derive(Debug, PartialEq)]
enum Part {
    Prefix(String),
    Numbers(Numbers),
    Masks(Masks),
}

fn our_numbers(numeric: &NumericMatch) -> Part {
    let tests = numeric.groups().iter().flat_map(|group| group.iter().enumerate());
    let bits = |(index, test): (usize, &tidegate_model::NumericTest)| {
        let (lt, gt, eq) = match test.operator {
            NumericOperator::False => (false, false, false),
            NumericOperator::Equal => (false, false, true),
            NumericOperator::Greater => (false, true, false),
            NumericOperator::GreaterOrEqual => (false, true, true),
            NumericOperator::Less => (true, false, false),
            NumericOperator::LessOrEqual => (true, false, true),
            NumericOperator::NotEqual => (true, true, false),
            NumericOperator::True => (true, true, true),
        };
        (index > 0, lt, gt, eq, test.value)
    };
    Part::Numbers(tests.map(bits).collect())
}

fn our_masks(bitmask: &BitmaskMatch) -> Part {
    let tests = bitmask.groups().iter().flat_map(|group| group.iter().enumerate());
    Part::Masks(
        tests
            .map(|(index, test)| (index > 0, test.negated, test.all, u64::from(test.bits)))
            .collect(),
    )
}

fn our_parts(rule: &FlowSpecRule) -> Vec<(u8, Part)> {
    use FlowSpecComponent as Ours;
    let part = |component: &FlowSpecComponent| match component {
        Ours::DestinationPrefix(prefix) | Ours::SourcePrefix(prefix) => {
            Part::Prefix(prefix.to_string())
        }
        Ours::IpProtocol(numeric)
        | Ours::Port(numeric)
        | Ours::DestinationPort(numeric)
        | Ours::SourcePort(numeric)
        | Ours::IcmpType(numeric)
        | Ours::IcmpCode(numeric)
        | Ours::PacketLength(numeric)
        | Ours::Dscp(numeric)
        | Ours::FlowLabel(numeric) => our_numbers(numeric),
        Ours::TcpFlags(bitmask) | Ours::Fragment(bitmask) => our_masks(bitmask),
    };
    rule.components().iter().map(|one| (one.type_code(), part(one))).collect()
}

fn kit_numbers(operators: &[KitNumber]) -> Part {
    let bits = |one: &KitNumber| {
        (one.and_with_next, one.less_than, one.greater_than, one.equal, one.value)
    };
    assert!(operators.last().unwrap().end_of_list);
    Part::Numbers(operators.iter().map(bits).collect())
}

fn kit_masks(operators: &[BitmaskOperator]) -> Part {
    let bits = |one: &BitmaskOperator| (one.and_with_next, one.not, one.match_flag, one.bitmask);
    assert!(operators.last().unwrap().end_of_list);
    Part::Masks(operators.iter().map(bits).collect())
}

fn kit_parts(nlri: &[u8]) -> Vec<(u8, Part)> {
    let part = |component: &Kit| match component {
        Kit::DestinationPrefix(prefix) | Kit::SourcePrefix(prefix) => {
            Part::Prefix(prefix.to_string())
        }
        Kit::IpProtocol(operators)
        | Kit::Port(operators)
        | Kit::DestinationPort(operators)
        | Kit::SourcePort(operators)
        | Kit::IcmpType(operators)
        | Kit::IcmpCode(operators)
        | Kit::PacketLength(operators)
        | Kit::Dscp(operators)
        | Kit::FlowLabel(operators) => kit_numbers(operators),
        Kit::TcpFlags(operators) | Kit::Fragment(operators) => kit_masks(operators),
        other => panic!("{other:?}"),
    };
    let rule = parse_flowspec_nlri(nlri).unwrap();
    rule.components().iter().map(|one| (one.component_type(), part(one))).collect()
}

/// The rule, or of an IPv6 rule what does not depend on offsets.
fn readable_by_kit(rule: &FlowSpecRule) -> Option<FlowSpecRule> {
    if rule.family() == AddressFamily::Ipv4 {
        return Some(rule.clone());
    }
    let components = rule.components().iter().filter(|one| one.type_code() > 2).cloned();
    FlowSpecRule::new(rule.family(), components.collect()).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn unicast(parameters in routes::parameters(), route in routes::unicast_route()) {
        // netgauze takes no multicast address for unicast.
        prop_assume!(!route.nlri.destination().unwrap().address().is_multicast());
        let expected = expected(&parameters, &route, route.nlri.to_string());
        let message = encode_announce(&parameters, &[&route]).unwrap().message;
        prop_assert_eq!(&netgauze(&parameters, &message), &expected);
        prop_assert_eq!(&bgpkit(&parameters, &message), &expected);

        let message = encode_withdraw(&[&route.nlri]).unwrap().message;
        let withdrawn = vec![route.nlri.to_string()];
        let expected = Seen { withdrawn, ..Seen::default() };
        prop_assert_eq!(&netgauze(&parameters, &message), &expected);
        prop_assert_eq!(&bgpkit(&parameters, &message), &expected);
    }

    #[test]
    fn flowspec(parameters in routes::parameters(), route in routes::flowspec_route()) {
        let Ok(octets) = encode_nlri(&route.nlri) else { return Ok(()) };
        let expected = expected(&parameters, &route, hex(&octets));
        let message = encode_announce(&parameters, &[&route]).unwrap().message;
        prop_assert_eq!(&netgauze(&parameters, &message), &expected);
        let message = encode_withdraw(&[&route.nlri]).unwrap().message;
        let expected = Seen { withdrawn: vec![hex(&octets)], ..Seen::default() };
        prop_assert_eq!(&netgauze(&parameters, &message), &expected);

        let Nlri::FlowSpec(rule) = &route.nlri else { unreachable!() };
        if let Some(rule) = readable_by_kit(rule) {
            let octets = encode_nlri(&Nlri::FlowSpec(rule.clone())).unwrap();
            prop_assert_eq!(kit_parts(&octets), our_parts(&rule));
        }
    }
}

/// A session within our AS.
fn internal() -> SessionParameters {
    SessionParameters {
        local_as: 65010,
        peer_as: 65010,
        local_address: "10.99.0.1".parse().unwrap(),
        four_octet_as: true,
        families: Family::ALL.into(),
        role: None,
    }
}

#[test]
fn end_of_rib_is_known_for_one() {
    let parameters = internal();
    for family in [Family::Ipv4Unicast, Family::Ipv6Unicast] {
        let message = tidegate_bgpd::convert::encode_end_of_rib(family);
        assert!(netgauze_update(&parameters, &message).end_of_rib().is_some(), "{family}");
    }
}

/// What both decoders make of each traffic filtering action. Where they know no name for it they
/// give its type and octets, which are stated here after RFC 8955 §7 and RFC 7674.
#[test]
fn actions() {
    use TrafficFilteringAction as Action;
    let parameters = internal();
    let rule = FlowSpecRule::new(
        AddressFamily::Ipv4,
        vec![FlowSpecComponent::IpProtocol(NumericMatch::equal(17))],
    )
    .unwrap();
    for (action, expected) in [
        (Action::RateLimitBytes(9600.0), "8006 0000 46160000"),
        (Action::RateLimitPackets(1000.0), "800c 0000 447a0000"),
        (Action::TrafficAction { sample: true, terminal: false }, "8007 000000000002"),
        (Action::TrafficAction { sample: false, terminal: true }, "8007 000000000001"),
        (Action::RedirectAs2(65010, 12345), "8008 fdf2 00003039"),
        (Action::RedirectIpv4([192, 0, 2, 9].into(), 77), "8108 c0000209 004d"),
        (Action::RedirectAs4(4_200_000_000, 77), "8208 fa56ea00 004d"),
        (Action::RedirectToIp("192.0.2.9".parse().unwrap(), false), "010c c0000209 0000"),
        (Action::RedirectToIp("192.0.2.9".parse().unwrap(), true), "010c c0000209 0001"),
        (
            Action::RedirectToIp("2001:db8::9".parse().unwrap(), true),
            "000c 20010db8000000000000000000000009 0001",
        ),
        (Action::Mark(46), "8009 00000000002e"),
    ] {
        let route = Route {
            nlri: Nlri::FlowSpec(rule.clone()),
            next_hop: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            actions: vec![action],
        };
        let message = encode_announce(&parameters, &[&route]).unwrap().message;
        let update = netgauze_update(&parameters, &message);
        let by_netgauze = update.path_attributes().iter().find_map(|one| match one.value() {
            PathAttributeValue::ExtendedCommunities(list) => list.communities().first().map(octets),
            PathAttributeValue::ExtendedCommunitiesIpv6(list) => {
                list.communities().first().map(octets6)
            }
            _ => None,
        });
        let expected = expected.replace(' ', "");
        assert_eq!(by_netgauze, Some(expected.clone()), "{action}");
        // bgpkit-parser lists no IPv6 extended communities.
        if let TrafficFilteringAction::RedirectToIp(IpAddr::V6(_), _) = action {
            continue;
        }
        assert_eq!(kit_action(&without_reach(&message)), expected, "{action}");
    }
}

fn octets(community: &ExtendedCommunity) -> String {
    match community {
        ExtendedCommunity::Unknown(one) => {
            hex(&[&[one.code(), one.sub_type()][..], one.value()].concat())
        }
        ExtendedCommunity::TransitiveIpv4(
            TransitiveIpv4ExtendedCommunity::FlowSpecRedirectToIpv4 { global_admin, local_admin },
        ) => hex(&[&[0x01, 0x0c][..], &global_admin.octets(), &local_admin.to_be_bytes()].concat()),
        other => panic!("{other:?}"),
    }
}

fn octets6(community: &ExtendedCommunityIpv6) -> String {
    match community {
        ExtendedCommunityIpv6::TransitiveIpv6(
            TransitiveIpv6ExtendedCommunity::FlowSpecRedirectToIpv6 { global_admin, local_admin },
        ) => hex(&[&[0x00, 0x0c][..], &global_admin.octets(), &local_admin.to_be_bytes()].concat()),
        other => panic!("{other:?}"),
    }
}

fn kit_action(message: &[u8]) -> String {
    let mut octets = bytes::Bytes::copy_from_slice(message);
    let width = AsnLength::Bits32;
    let update = match bgpkit_parser::parser::bgp::parse_bgp_message(&mut octets, false, &width) {
        Ok(KitMessage::Update(update)) => update,
        other => panic!("{other:?}"),
    };
    match update.attributes.iter_communities().next() {
        Some(MetaCommunity::Extended(KitExtended::Raw(octets))) => hex(&octets),
        Some(MetaCommunity::Extended(KitExtended::TransitiveIpv4Addr(one))) => {
            hex(&[&[0x01, one.subtype][..], &one.global_admin.octets(), &one.local_admin].concat())
        }
        other => panic!("{other:?}"),
    }
}

/// The same UPDATE without its first attribute, MP_REACH_NLRI, which bgpkit-parser cannot read of a
/// FlowSpec family.
fn without_reach(message: &[u8]) -> Vec<u8> {
    const ATTRIBUTES: usize = 23;
    assert_eq!(message[ATTRIBUTES..ATTRIBUTES + 2], [0x80, 14]);
    let reach = 3 + usize::from(message[ATTRIBUTES + 2]);
    let mut rest = message.to_vec();
    rest.drain(ATTRIBUTES..ATTRIBUTES + reach);
    let length = (rest.len() as u16).to_be_bytes();
    rest[16..18].copy_from_slice(&length);
    let attributes = ((rest.len() - ATTRIBUTES) as u16).to_be_bytes();
    rest[21..ATTRIBUTES].copy_from_slice(&attributes);
    rest
}
