//! A stream of octets from a peer that has just connected: framing, OPEN, the state machine.
//!
//! Input: an octet that configures the session, an octet that seeds where the stream is cut, the
//! stream. However it is cut, the session does the same.

use crate::peer::{Deeds, Peer};

/// Runs one input.
pub(crate) fn run(input: &[u8]) {
    let [mode, cut, stream @ ..] = input else { return };
    let whole = told(*mode, std::iter::once(stream));
    let pieces = told(*mode, pieces(*cut, stream));
    assert_eq!(whole, pieces, "it depends on where the stream is cut");
}

fn told<'a>(mode: u8, pieces: impl Iterator<Item = &'a [u8]>) -> Deeds {
    let mut peer = Peer::new(mode);
    pieces.for_each(|piece| peer.give(piece));
    let deeds = peer.deeds();
    peer.check(&deeds);
    deeds
}

/// Cuts `stream` in pieces of 1 to 64 octets.
fn pieces(seed: u8, stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = u32::from(seed) | 0x100;
    let mut rest = stream;
    std::iter::from_fn(move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = ((random >> 26) as usize + 1).min(rest.len());
        let (piece, left) = rest.split_at(length);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}
