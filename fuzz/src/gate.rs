//! The egress gate: octets that are about to leave.
//!
//! Input: a whole message, or, if the first octet is not that of a marker, that octet and the body
//! of an UPDATE. Whatever passes reads the same with the codec that the gate does not use, and is
//! safe by rules that are stated apart from the gate.

use std::sync::LazyLock;

use tidegate_bgpd::convert::decode_update;
use tidegate_bgpd::egress::Gate;
use tidegate_model::Route;

use crate::safety;

const UPDATE: u8 = 2;
const TYPE_AT: usize = 18;

static GATE: LazyLock<Gate> = LazyLock::new(|| Gate::new(safety::policy()));

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let message = match input {
        [] | [0xff, ..] => input.to_vec(),
        [_, body @ ..] => {
            let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
            [&[0xff; 16][..], &length.to_be_bytes(), &[UPDATE], body].concat()
        }
    };
    if GATE.judge(&message).is_err() || message.get(TYPE_AT) != Some(&UPDATE) {
        return;
    }
    let decoded = match decode_update(&message) {
        Ok(decoded) => decoded,
        Err(error) => panic!("passed, and cannot be read: {error}"),
    };
    for nlri in decoded.announced {
        let route = Route {
            nlri,
            next_hop: decoded.next_hop,
            communities: decoded.communities.clone(),
            large_communities: decoded.large_communities.clone(),
            actions: decoded.actions.clone(),
        };
        assert!(safety::is_safe(&route), "passed: {route:?}");
    }
}
