//! The messages of GoBGP's API that are needed, by hand: routes travel in them as BGP octets, so
//! that the forty or so messages for NLRI and attributes are not needed, and the same messages do
//! for version 3 and 4.
//!
//! Field numbers: `api/gobgp.proto` of GoBGP 3, package `apipb`, and of GoBGP 4, package `api`.

use prost::Message;

/// AFI and SAFI.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Family {
    #[prost(int32, tag = "1")]
    pub(super) afi: i32,
    #[prost(int32, tag = "2")]
    pub(super) safi: i32,
}

/// A route.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Path {
    #[prost(bool, tag = "5")]
    pub(super) is_withdraw: bool,
    #[prost(message, optional, tag = "9")]
    pub(super) family: Option<Family>,
    /// Of the peer that it came from; `<nil>` if it was made here.
    #[prost(string, tag = "15")]
    pub(super) neighbor_ip: String,
    #[prost(bytes = "vec", tag = "20")]
    pub(super) nlri_binary: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "21")]
    pub(super) pattrs_binary: Vec<Vec<u8>>,
}

/// AddPath, for one route.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddPathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) path: Option<Path>,
}

/// AddPathStream, for many; also for withdrawing.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AddPathStreamRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, repeated, tag = "3")]
    pub(super) paths: Vec<Path>,
}

/// The request of GetBgp, and answers of which nothing is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Nothing {}

/// ListPath.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPathRequest {
    #[prost(int32, tag = "1")]
    pub(super) table_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) family: Option<Family>,
    /// Only these; for unicast alone.
    #[prost(message, repeated, tag = "4")]
    pub(super) prefixes: Vec<LookupPrefix>,
    #[prost(bool, tag = "9")]
    pub(super) enable_only_binary: bool,
}

/// TableLookupPrefix; its type is EXACT, which is zero.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LookupPrefix {
    #[prost(string, tag = "1")]
    pub(super) prefix: String,
}

/// One of its answers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPathResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) destination: Option<Destination>,
}

/// All paths of one NLRI.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Destination {
    #[prost(message, repeated, tag = "2")]
    pub(super) paths: Vec<Path>,
}
