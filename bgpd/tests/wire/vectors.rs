//! Vectors recorded from other speakers, taken from RFCs and from other projects' tests.
//!
//! They lie beside the workspace, in `../shared/data/bgp`. Without that folder these tests say so
//! and pass; in CI (variable `CI` set) its absence is a failure.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tidegate_bgpd::convert::{
    DecodedUpdate, EncodeError, decode_flowspec, decode_update, encode_announce, encode_end_of_rib,
    encode_nlri,
};
use tidegate_bgpd::{Family, SessionParameters};
use tidegate_model::{
    AddressFamily, BitmaskMatch, BitmaskTest, FlowSpecComponent, FlowSpecRule, Nlri, NumericMatch,
    NumericOperator, NumericTest, Route, TrafficFilteringAction,
};

pub(crate) fn vectors(list: &str) -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/bgp/flowspec-vectors.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        println!("skipped: {} is not there", path.display());
        return Vec::new();
    };
    let all: Value = serde_json::from_str(&text).unwrap();
    all[list].as_array().unwrap().clone()
}

pub(crate) fn octets(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str()?;
    let digit = |index| u8::from_str_radix(&text[index..index + 2], 16).unwrap();
    Some((0..text.len()).step_by(2).map(digit).collect())
}

fn family(vector: &Value) -> AddressFamily {
    if vector["afi"] == 2 { AddressFamily::Ipv6 } else { AddressFamily::Ipv4 }
}

/// IPv6 offsets, VPN families and rules over 239 octets are never sent.
fn out_of_range(vector: &Value) -> bool {
    let offset = |component: &Value| component["offset"].as_u64().unwrap_or(0) > 0;
    let components = vector["components"].as_array();
    vector["safi"] == 134
        || components.is_some_and(|components| components.iter().any(offset))
        || octets(&vector["nlri_hex"]).is_some_and(|octets| octets.first() >= Some(&0xf0))
}

fn numeric(operators: &[Value]) -> NumericMatch {
    let mut groups: Vec<Vec<NumericTest>> = Vec::new();
    for operator in operators {
        let test = NumericTest {
            operator: match operator["op"].as_str().unwrap() {
                "==" => NumericOperator::Equal,
                "!=" => NumericOperator::NotEqual,
                ">" => NumericOperator::Greater,
                ">=" => NumericOperator::GreaterOrEqual,
                "<" => NumericOperator::Less,
                "<=" => NumericOperator::LessOrEqual,
                "true" => NumericOperator::True,
                "false" => NumericOperator::False,
                other => panic!("operator {other}"),
            },
            value: operator["value"].as_u64().unwrap(),
        };
        match groups.last_mut() {
            Some(group) if operator["and"] == true => group.push(test),
            _ => groups.push(vec![test]),
        }
    }
    NumericMatch::new(groups).unwrap()
}

fn bitmask(operators: &[Value]) -> BitmaskMatch {
    let mut groups: Vec<Vec<BitmaskTest>> = Vec::new();
    for operator in operators {
        let test = BitmaskTest {
            all: operator["match"] == true,
            negated: operator["not"] == true,
            bits: operator["value"].as_u64().unwrap().try_into().unwrap(),
        };
        match groups.last_mut() {
            Some(group) if operator["and"] == true => group.push(test),
            _ => groups.push(vec![test]),
        }
    }
    BitmaskMatch::new(groups).unwrap()
}

/// The rule that the vector's `components` describe.
fn described(vector: &Value) -> FlowSpecRule {
    use FlowSpecComponent as Component;
    let component = |component: &Value| {
        let prefix = || component["prefix"].as_str().unwrap().parse().unwrap();
        let operators = component["ops"].as_array().map_or(&[][..], Vec::as_slice);
        match component["type"].as_u64().unwrap() {
            1 => Component::DestinationPrefix(prefix()),
            2 => Component::SourcePrefix(prefix()),
            3 => Component::IpProtocol(numeric(operators)),
            4 => Component::Port(numeric(operators)),
            5 => Component::DestinationPort(numeric(operators)),
            6 => Component::SourcePort(numeric(operators)),
            7 => Component::IcmpType(numeric(operators)),
            8 => Component::IcmpCode(numeric(operators)),
            9 => Component::TcpFlags(bitmask(operators)),
            10 => Component::PacketLength(numeric(operators)),
            11 => Component::Dscp(numeric(operators)),
            12 => Component::Fragment(bitmask(operators)),
            13 => Component::FlowLabel(numeric(operators)),
            other => panic!("component {other}"),
        }
    };
    let components = vector["components"].as_array().unwrap().iter().map(component).collect();
    FlowSpecRule::new(family(vector), components).unwrap()
}

/// Whether the vector writes some value in more octets than it needs, which is never sent.
fn is_wide(vector: &Value) -> bool {
    let components = vector["components"].as_array().unwrap();
    let mut operators = components.iter().filter_map(|one| one["ops"].as_array()).flatten();
    operators.any(|operator| {
        let needed = match operator["value"].as_u64().unwrap() {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        operator["len"].as_u64().unwrap() > needed
    })
}

/// The actions of a vector that are traffic filtering actions of the standards.
fn described_actions(vector: &Value) -> Vec<TrafficFilteringAction> {
    use TrafficFilteringAction as Action;
    let action = |action: &Value| {
        let rate = action["rate"].as_f64().unwrap_or(f64::NAN) as f32;
        Some(match action["action"].as_str().unwrap().split(' ').next().unwrap() {
            "traffic-rate-bytes" => Action::RateLimitBytes(rate),
            "traffic-rate-packets" => Action::RateLimitPackets(rate),
            "traffic-action" => Action::TrafficAction {
                sample: action["sample"] == true,
                terminal: action["terminal_bit_T"] == true,
            },
            "traffic-marking" => Action::Mark(octets(&action["hex"]).unwrap()[7]),
            "rt-redirect-as2" => Action::RedirectAs2(
                action["as"].as_u64().unwrap().try_into().unwrap(),
                action["value"].as_u64().unwrap().try_into().unwrap(),
            ),
            "redirect-to-ip" => Action::RedirectToIp(
                action["ip"].as_str().unwrap().parse().unwrap(),
                action["copy"] == true,
            ),
            _ => return None,
        })
    };
    vector["actions"].as_array().into_iter().flatten().filter_map(action).collect()
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn expected_texts(value: &Value) -> BTreeSet<String> {
    texts(value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()))
}

fn check_rule(id: &str, vector: &Value) {
    let rule = described(vector);
    let nlri = octets(&vector["nlri_hex"]).unwrap();
    let decode = |octets: &[u8]| {
        let rules = decode_flowspec(family(vector), octets).unwrap();
        rules.into_iter().map(Nlri::FlowSpec).collect::<Vec<Nlri>>()
    };
    let rule = [Nlri::FlowSpec(rule)];
    assert_eq!(decode(&nlri), rule, "{id}");
    let encoded = encode_nlri(&rule[0]).unwrap();
    if is_wide(vector) {
        assert_eq!(decode(&encoded), rule, "{id}");
    } else {
        assert_eq!(encoded, nlri, "{id}");
    }
    if let Some(update) = octets(&vector["update_hex"]) {
        let decoded = decode_update(&update).unwrap();
        let (expected, other) = if vector["kind"] == "withdraw" {
            (&decoded.withdrawn, &decoded.announced)
        } else {
            (&decoded.announced, &decoded.withdrawn)
        };
        assert_eq!(expected, &rule, "{id}");
        assert!(other.is_empty(), "{id}");
        assert_eq!(decoded.actions, described_actions(vector), "{id}");
        assert_eq!(texts(&decoded.communities), expected_texts(&vector["communities"]), "{id}");
    }
    for (name, encoder) in vector["encoders"].as_object().into_iter().flatten() {
        let read = |key: &str| octets(&encoder[key]).map(|update| decode_update(&update).unwrap());
        if let Some(decoded) = read("update_announce_hex") {
            assert_eq!(decoded.announced, rule, "{id} by {name}");
            assert_eq!(decoded.actions, described_actions(vector), "{id} by {name}");
        }
        if let Some(decoded) = read("update_withdraw_hex") {
            assert_eq!(decoded.withdrawn, rule, "{id} by {name}");
        }
    }
}

fn check_refused(id: &str, vector: &Value) {
    let decode =
        |key: &str| octets(&vector[key]).map(|octets| decode_flowspec(family(vector), &octets));
    match (decode("nlri_hex"), decode("normalised_nlri_hex")) {
        (Some(Ok(rules)), Some(Ok(normalised))) => assert_eq!(rules, normalised, "{id}"),
        (Some(Err(_)), _) => {}
        (None, _) => {
            assert!(decode_update(&octets(&vector["update_hex"]).unwrap()).is_err(), "{id}")
        }
        other => panic!("{id}: {other:?}"),
    }
}

/// An UPDATE of ours, its action replaced by the vector's octets.
fn with_extended_community(community: &[u8]) -> DecodedUpdate {
    let parameters = SessionParameters {
        local_as: 65010,
        peer_as: 65010,
        local_address: "10.99.0.1".parse().unwrap(),
        four_octet_as: true,
        families: Family::ALL.into(),
        role: None,
    };
    let components = vec![FlowSpecComponent::IpProtocol(NumericMatch::equal(17))];
    let route = Route {
        nlri: Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap()),
        next_hop: None,
        communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        actions: vec![TrafficFilteringAction::DISCARD],
    };
    let mut message = encode_announce(&parameters, &[&route]).unwrap().message;
    let start = message.len() - 8;
    message[start..].copy_from_slice(community);
    decode_update(&message).unwrap()
}

#[test]
fn flowspec() {
    let (mut checked, mut skipped) = (0, 0);
    let vectors = vectors("vectors");
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        if out_of_range(vector) {
            skipped += 1;
            continue;
        }
        checked += 1;
        match (vector["kind"].as_str().unwrap(), &vector["valid"]) {
            ("length-prefix", _) => check_length(vector),
            ("order", _) => {
                for key in ["first_nlri_hex", "second_nlri_hex"] {
                    let nlri = octets(&vector[key]).unwrap();
                    let rules = decode_flowspec(family(vector), &nlri).unwrap();
                    let encoded = encode_nlri(&Nlri::FlowSpec(rules[0].clone())).unwrap();
                    assert_eq!(encoded, nlri, "{id}");
                }
            }
            ("ext-community", _) => {
                let decoded =
                    with_extended_community(&octets(&vector["ext_community_hex"]).unwrap());
                assert_eq!(decoded.actions, described_actions(vector), "{id}");
            }
            ("end-of-rib", _) => {
                let afi = vector["afi"].as_u64().unwrap().try_into().unwrap();
                let safi = vector["safi"].as_u64().unwrap().try_into().unwrap();
                let family = Family::from_codes(afi, safi).unwrap();
                let update = octets(&vector["update_hex"]).unwrap();
                // ExaBGP sets the extended-length flag, we do not.
                for update in [update, encode_end_of_rib(family)] {
                    assert_eq!(decode_update(&update).unwrap().end_of_rib, Some(family), "{id}");
                }
            }
            (_, Value::Bool(true)) => check_rule(id, vector),
            _ => check_refused(id, vector),
        }
    }
    println!("FlowSpec vectors: {checked} checked, {skipped} of kinds that are never sent");
    assert!(vectors.is_empty() || checked > 2 * skipped);
}

/// A rule of that many octets, which goes out with this length octet or not at all.
fn check_length(vector: &Value) {
    let length = octets(&vector["length_hex"]).unwrap();
    let octets: usize = match length.as_slice() {
        [short] => usize::from(*short),
        [high, low] => usize::from(u16::from_be_bytes([high & 0x0f, *low])),
        other => panic!("{other:?}"),
    };
    // A source port in two octets takes three; protocols make up the rest.
    let protocols = match octets % 3 {
        1 => vec![1],
        0 => vec![1, 2],
        _ => vec![1, 2, 3],
    };
    let ports = (octets - 2 - 2 * protocols.len()) / 3;
    let ports: Vec<u64> = (1000..).take(ports).collect();
    let components = vec![
        FlowSpecComponent::IpProtocol(NumericMatch::one_of(protocols[0], protocols[1..].to_vec())),
        FlowSpecComponent::SourcePort(NumericMatch::one_of(ports[0], ports[1..].to_vec())),
    ];
    let nlri = Nlri::FlowSpec(FlowSpecRule::new(AddressFamily::Ipv4, components).unwrap());
    match encode_nlri(&nlri) {
        Ok(encoded) => {
            assert_eq!(encoded.len(), length.len() + octets);
            assert!(encoded.starts_with(&length));
        }
        Err(EncodeError::TooLong { octets: refused, .. }) => {
            assert_eq!(refused, octets);
            assert!(octets > 239);
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn blackholes() {
    let vectors = vectors("rtbh");
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let expected = &vector["expected"];
        let decoded = decode_update(&octets(&vector["update_hex"]).unwrap()).unwrap();
        assert_eq!(texts(&decoded.announced), expected_texts(&expected["nlri"]), "{id}");
        assert_eq!(texts(&decoded.withdrawn), expected_texts(&expected["withdrawn"]), "{id}");
        if expected["end_of_rib"].is_null() {
            assert_eq!(decoded.end_of_rib, None, "{id}");
        } else {
            assert!(decoded.end_of_rib.is_some(), "{id}");
        }
        if decoded.announced.is_empty() {
            continue;
        }
        let path: Vec<u32> = expected["as_path"]
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_u64().unwrap().try_into().unwrap())
            .collect();
        assert_eq!(decoded.as_path, Some(path), "{id}");
        let next_hop = expected["next_hop"].as_str().map(|text| text.parse().unwrap());
        assert_eq!(decoded.next_hop, next_hop, "{id}");
        let preference = expected["local_pref"].as_u64();
        assert_eq!(decoded.local_preference.map(u64::from), preference, "{id}");
        let large = &expected["large_communities"];
        assert_eq!(texts(&decoded.communities), expected_texts(&expected["communities"]), "{id}");
        assert_eq!(texts(&decoded.large_communities), expected_texts(large), "{id}");
    }
    println!("blackhole vectors: {} checked", vectors.len());
}
