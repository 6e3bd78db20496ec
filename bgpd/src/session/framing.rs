//! Cuts the byte stream of a connection into messages (RFC 4271 §4.1, §6.1).

use bytes::{Buf, Bytes, BytesMut};
use rustbgpd_wire::notification::{header_subcode, route_refresh_subcode};
use rustbgpd_wire::{NotificationCode, NotificationMessage};

/// Longest message (RFC 4271 §4.1), and longest OPEN and KEEPALIVE whatever was agreed on.
const MAX_MESSAGE: u16 = 4096;
/// Longest message once both sides have offered RFC 8654.
const MAX_EXTENDED: u16 = u16::MAX;
const HEADER: usize = 19;
const MARKER: [u8; 16] = [0xff; 16];

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// A stream that can not be cut any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// To be answered with this NOTIFICATION.
    Answer(NotificationMessage),
    /// A NOTIFICATION too short to say anything. It is never answered (RFC 4271 §6.4).
    ShortNotification,
}

/// The receive buffer of one connection, never larger than two messages.
#[derive(Debug)]
pub(crate) struct Framer {
    buffer: BytesMut,
    longest: u16,
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self { buffer: BytesMut::with_capacity(2 * usize::from(MAX_MESSAGE)), longest: MAX_MESSAGE }
    }

    /// From now on messages may be longer (RFC 8654 §4).
    pub(crate) fn extend(&mut self) {
        self.longest = MAX_EXTENDED;
    }

    /// Longest message that is taken, in octets.
    pub(crate) fn longest(&self) -> u16 {
        self.longest
    }

    /// Most that is buffered: a whole message, and what came with it.
    fn capacity(&self) -> usize {
        2 * usize::from(self.longest)
    }

    /// Takes as many of `bytes` as there is room for and returns the rest. Once
    /// [`Self::next_frame`] has given all messages there is room for more.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.capacity().saturating_sub(self.buffer.len());
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        self.buffer.extend_from_slice(taken);
        rest
    }

    /// The next whole message with its header, whose length fits its type.
    ///
    /// # Errors
    /// [`FramingError`] if the header is malformed; the stream is lost then.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Bytes>, FramingError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let (length, refresh) = check_header(header, self.longest)?;
        if self.buffer.len() < length {
            return Ok(None);
        }
        let frame = self.buffer.split_to(length).copy_to_bytes(length);
        if refresh && !is_refresh_length(&frame) {
            // RFC 7313 §5: with the whole message.
            let subcode = route_refresh_subcode::INVALID_MESSAGE_LENGTH;
            return Err(answer(NotificationCode::RouteRefreshMessage, subcode, &frame));
        }
        Ok(Some(frame))
    }
}

/// Whether a whole ROUTE-REFRESH message is as long as its subtype has it: four octets behind the
/// header, and in a request (RFC 2918) perhaps Outbound Route Filters (RFC 5291 §4), of four octets
/// at least.
fn is_refresh_length(frame: &[u8]) -> bool {
    const SUBTYPE_AT: usize = HEADER + 2;
    match frame.len() - HEADER {
        4 => true,
        8.. => frame.get(SUBTYPE_AT) == Some(&0),
        _ => false,
    }
}

/// The length of the message that `header` opens, and whether it is a ROUTE-REFRESH.
fn check_header(header: &[u8; HEADER], longest: u16) -> Result<(usize, bool), FramingError> {
    let [marker @ .., high, low, kind] = header;
    if *marker != MARKER {
        let subcode = header_subcode::CONNECTION_NOT_SYNCHRONIZED;
        return Err(answer(NotificationCode::MessageHeader, subcode, &[]));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let bad_length = || {
        let subcode = header_subcode::BAD_MESSAGE_LENGTH;
        answer(NotificationCode::MessageHeader, subcode, &[*high, *low])
    };
    if !(HEADER..=usize::from(longest)).contains(&length) {
        return Err(bad_length());
    }
    match *kind {
        OPEN if !(29..=usize::from(MAX_MESSAGE)).contains(&length) => Err(bad_length()),
        UPDATE if length < 23 => Err(bad_length()),
        KEEPALIVE if length != HEADER => Err(bad_length()),
        NOTIFICATION if length < 21 => Err(FramingError::ShortNotification),
        OPEN | UPDATE | KEEPALIVE | NOTIFICATION | ROUTE_REFRESH => {
            Ok((length, *kind == ROUTE_REFRESH))
        }
        _ => {
            let subcode = header_subcode::BAD_MESSAGE_TYPE;
            Err(answer(NotificationCode::MessageHeader, subcode, &[*kind]))
        }
    }
}

fn answer(code: NotificationCode, subcode: u8, data: &[u8]) -> FramingError {
    FramingError::Answer(NotificationMessage::new(code, subcode, Bytes::copy_from_slice(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, kind: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes.extend(vec![0; body]);
        bytes
    }

    fn reaction(bytes: &[u8]) -> Result<Option<usize>, Option<(u8, u8)>> {
        let mut framer = Framer::new();
        framer.push(bytes);
        match framer.next_frame() {
            Ok(frame) => Ok(frame.map(|frame| frame.len())),
            Err(FramingError::ShortNotification) => Err(None),
            Err(FramingError::Answer(message)) => {
                Err(Some((message.code.as_u8(), message.subcode)))
            }
        }
    }

    #[test]
    fn headers_are_judged_before_their_bodies_arrive() {
        let mut unsynchronised = message(19, KEEPALIVE, 0);
        *unsynchronised.get_mut(7).unwrap() = 0;
        let mut incomplete = message(19, KEEPALIVE, 0);
        incomplete.pop();
        for (name, bytes, expected) in [
            ("keepalive", message(19, KEEPALIVE, 0), Ok(Some(19))),
            ("18 octets only", incomplete, Ok(None)),
            ("marker", unsynchronised, Err(Some((1, 1)))),
            ("length 18", message(18, KEEPALIVE, 0), Err(Some((1, 2)))),
            ("length 0", message(0, UPDATE, 0), Err(Some((1, 2)))),
            ("length 65535", message(65535, UPDATE, 0), Err(Some((1, 2)))),
            ("length 4097", message(4097, UPDATE, 0), Err(Some((1, 2)))),
            ("length 4096 incomplete", message(4096, UPDATE, 0), Ok(None)),
            ("length 4096", message(4096, UPDATE, 4077), Ok(Some(4096))),
            ("keepalive of 20", message(20, KEEPALIVE, 1), Err(Some((1, 2)))),
            ("open of 28", message(28, OPEN, 9), Err(Some((1, 2)))),
            ("update of 22", message(22, UPDATE, 3), Err(Some((1, 2)))),
            ("notification of 20", message(20, NOTIFICATION, 1), Err(None)),
            ("refresh of 24", message(24, ROUTE_REFRESH, 5), Err(Some((7, 1)))),
            ("type 0", message(19, 0, 0), Err(Some((1, 3)))),
            ("type 6", message(19, 6, 0), Err(Some((1, 3)))),
            ("type 255", message(19, 255, 0), Err(Some((1, 3)))),
        ] {
            assert_eq!(reaction(&bytes), expected, "{name}");
        }
    }

    #[test]
    fn the_buffer_is_bounded() {
        let mut framer = Framer::new();
        let flood = message(19, KEEPALIVE, 0).repeat(10_000);
        let mut rest = framer.push(&flood);
        let mut frames = 0;
        loop {
            assert!(framer.buffer.len() <= 8192);
            while framer.next_frame().unwrap().is_some() {
                frames += 1;
            }
            if rest.is_empty() {
                break;
            }
            rest = framer.push(rest);
        }
        assert_eq!(frames, 10_000);
    }
}
