//! Messages in an established session: UPDATE to events.
//!
//! Input: an octet that configures the session, then messages, each as its type less one (modulo
//! five, so that 1 is an UPDATE), two octets of length and so many octets of body. Markers and
//! lengths are made right, so that what is tried is behind them.

use tidegate_bgpd::convert::{EncodeError, decode_flowspec, decode_update, encode_nlri};
use tidegate_model::Nlri;

use crate::peer::{Peer, message};

const LONGEST_BODY: usize = 65_535 - 19;
const UPDATE: u8 = 2;

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let [mode, rest @ ..] = input else { return };
    let mut peer = Peer::established(*mode);
    let mut rest = rest;
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (body, next) = behind.split_at(length.min(behind.len()).min(LONGEST_BODY));
        let message = message(1 + kind % 5, body);
        if 1 + kind % 5 == UPDATE {
            show(&message);
        }
        peer.give(&message);
        rest = next;
    }
    let deeds = peer.deeds();
    peer.check(&deeds);
}

/// What can be shown of an UPDATE can be written and read back.
fn show(message: &[u8]) {
    let Ok(decoded) = decode_update(message) else { return };
    assert!(!decoded.to_string().is_empty() || decoded.announced.is_empty());
    for nlri in decoded.announced.iter().chain(&decoded.withdrawn) {
        match (encode_nlri(nlri), nlri) {
            (Ok(octets), Nlri::FlowSpec(rule)) => {
                let again = decode_flowspec(rule.family(), &octets);
                assert_eq!(again.as_deref(), Ok(std::slice::from_ref(rule)), "{nlri}");
            }
            // Rules may be longer than what is sent, and compare a field with more than it holds.
            (Ok(_) | Err(EncodeError::TooLong { .. } | EncodeError::Value { .. }), _) => {}
            (Err(error), _) => panic!("{nlri}: {error}"),
        }
    }
}
