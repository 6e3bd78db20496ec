//! The messages of GoBGP 3's `apipb.GobgpApi` that announcing needs; numbers of fields as in its
//! published description.

use prost::Message;

use crate::bench::announce::route::{NEXT_HOP, PROTOCOL, SOURCE_PORT, destination};
use crate::interop::Kind;

/// `AddPathRequest`. Table type 0 is the global one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddPathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) path: Option<Path>,
}

/// `AddPathResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddPathResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) uuid: Vec<u8>,
}

/// `AddPathStreamRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddPathStreamRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, repeated, tag = "3")]
    pub(super) paths: Vec<Path>,
}

/// `google.protobuf.Empty`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Path {
    #[prost(message, optional, tag = "1")]
    nlri: Option<Any>,
    #[prost(message, repeated, tag = "2")]
    pattrs: Vec<Any>,
    #[prost(message, optional, tag = "9")]
    family: Option<Family>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Family {
    #[prost(int32, tag = "1")]
    afi: i32,
    #[prost(int32, tag = "2")]
    safi: i32,
}

#[derive(Clone, PartialEq, Message)]
struct IpAddressPrefix {
    #[prost(uint32, tag = "1")]
    prefix_len: u32,
    #[prost(string, tag = "2")]
    prefix: String,
}

#[derive(Clone, PartialEq, Message)]
struct FlowSpecNlri {
    #[prost(message, repeated, tag = "1")]
    rules: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct FlowSpecIpPrefix {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    prefix_len: u32,
    #[prost(string, tag = "3")]
    prefix: String,
}

#[derive(Clone, PartialEq, Message)]
struct FlowSpecComponent {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(message, repeated, tag = "2")]
    items: Vec<FlowSpecComponentItem>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FlowSpecComponentItem {
    #[prost(uint32, tag = "1")]
    op: u32,
    #[prost(uint64, tag = "2")]
    value: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct OriginAttribute {
    #[prost(uint32, tag = "1")]
    origin: u32,
}

#[derive(Clone, PartialEq, Message)]
struct NextHopAttribute {
    #[prost(string, tag = "1")]
    next_hop: String,
}

#[derive(Clone, PartialEq, Message)]
struct CommunitiesAttribute {
    #[prost(uint32, repeated, tag = "1")]
    communities: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct MpReachNlriAttribute {
    #[prost(message, optional, tag = "1")]
    family: Option<Family>,
    #[prost(string, repeated, tag = "2")]
    next_hops: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    nlris: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ExtendedCommunitiesAttribute {
    #[prost(message, repeated, tag = "1")]
    communities: Vec<Any>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct TrafficRateExtended {
    #[prost(uint32, tag = "1")]
    asn: u32,
    #[prost(float, tag = "2")]
    rate: f32,
}

const BLACKHOLE: u32 = 0xffff_029a;
const NO_EXPORT: u32 = 0xffff_ff01;
const EQUAL: u32 = 1;

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/apipb.{name}"), value: message.encode_to_vec() }
}

/// Route number `index`.
pub(super) fn path(kind: Kind, index: usize) -> Path {
    let prefix = destination(index).to_string();
    let origin = any("OriginAttribute", &OriginAttribute { origin: 0 });
    let communities = |communities: &[u32]| {
        let communities = CommunitiesAttribute { communities: communities.to_vec() };
        any("CommunitiesAttribute", &communities)
    };
    match kind {
        Kind::Rtbh => {
            let next_hop = NextHopAttribute { next_hop: NEXT_HOP.to_string() };
            Path {
                nlri: Some(any("IPAddressPrefix", &IpAddressPrefix { prefix_len: 32, prefix })),
                pattrs: vec![
                    origin,
                    any("NextHopAttribute", &next_hop),
                    communities(&[BLACKHOLE, NO_EXPORT]),
                ],
                family: Some(Family { afi: 1, safi: 1 }),
            }
        }
        Kind::FlowSpec => {
            let family = Some(Family { afi: 1, safi: 133 });
            let component = |kind, value| {
                let items = vec![FlowSpecComponentItem { op: EQUAL, value }];
                any("FlowSpecComponent", &FlowSpecComponent { kind, items })
            };
            let destination = FlowSpecIpPrefix { kind: 1, prefix_len: 32, prefix };
            let rules = vec![
                any("FlowSpecIPPrefix", &destination),
                component(3, PROTOCOL.into()),
                component(6, SOURCE_PORT.into()),
            ];
            let nlri = any("FlowSpecNLRI", &FlowSpecNlri { rules });
            let reach = MpReachNlriAttribute {
                family,
                next_hops: vec!["0.0.0.0".to_owned()],
                nlris: vec![nlri.clone()],
            };
            let discard = any("TrafficRateExtended", &TrafficRateExtended { asn: 0, rate: 0.0 });
            let actions = ExtendedCommunitiesAttribute { communities: vec![discard] };
            Path {
                nlri: Some(nlri),
                pattrs: vec![
                    origin,
                    any("MpReachNLRIAttribute", &reach),
                    communities(&[NO_EXPORT]),
                    any("ExtendedCommunitiesAttribute", &actions),
                ],
                family,
            }
        }
    }
}
