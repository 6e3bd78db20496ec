//! Between model values and whole BGP messages. Nothing outside this crate sees the codec.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_model::{Community, LargeCommunity, Nlri, Route, TrafficFilteringAction};

use crate::family::Family;
use crate::parameters::SessionParameters;

/// A message and how many of the routes it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// One whole BGP UPDATE, marker included, at most [`crate::MAX_MESSAGE_LENGTH`] octets.
    pub message: Vec<u8>,
    /// So many routes, counted from the first, are in it. At least one.
    pub taken: usize,
}

/// Something that cannot be put on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The list is empty.
    #[error("no route to encode")]
    Nothing,
}

/// Octets that are no UPDATE that tidegate can show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

/// An UPDATE, read back for people and tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedUpdate {
    /// Routes that become reachable.
    pub announced: Vec<Nlri>,
    /// Routes that are taken back.
    pub withdrawn: Vec<Nlri>,
    /// Set if the message is an End-of-RIB marker (RFC 4724 §2).
    pub end_of_rib: Option<Family>,
    /// Next hop of the announced unicast routes.
    pub next_hop: Option<IpAddr>,
    /// AS_PATH (with AS4_PATH merged in), leftmost first.
    pub as_path: Vec<u32>,
    /// LOCAL_PREF, on iBGP sessions.
    pub local_preference: Option<u32>,
    /// Communities.
    pub communities: BTreeSet<Community>,
    /// Large communities.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// Traffic filtering actions.
    pub actions: Vec<TrafficFilteringAction>,
}

/// Announces as many of `routes` as fit one message. All must share family and attributes.
///
/// # Errors
/// [`EncodeError`] if a route cannot be put on the wire.
pub fn encode_announce(
    parameters: &SessionParameters,
    routes: &[&Route],
) -> Result<Packed, EncodeError> {
    let _ = (parameters, routes);
    Err(EncodeError::Nothing)
}

/// Withdraws as many of `nlris` as fit one message. All must be of one family.
///
/// # Errors
/// [`EncodeError`] if an NLRI cannot be put on the wire.
pub fn encode_withdraw(nlris: &[&Nlri]) -> Result<Packed, EncodeError> {
    let _ = nlris;
    Err(EncodeError::Nothing)
}

/// The End-of-RIB marker of `family` (RFC 4724 §2).
#[must_use]
pub fn encode_end_of_rib(family: Family) -> Vec<u8> {
    let _ = family;
    Vec::new()
}

/// Reads one whole BGP UPDATE.
///
/// # Errors
/// [`DecodeError`] if `message` is anything else.
pub fn decode_update(message: &[u8]) -> Result<DecodedUpdate, DecodeError> {
    let _ = message;
    Err(DecodeError("not an UPDATE".to_owned()))
}
