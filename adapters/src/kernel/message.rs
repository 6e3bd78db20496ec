//! Netlink messages and attributes as octets (linux/netlink.h, linux/netfilter/nfnetlink.h).
//!
//! Headers are in host order, everything of nf_tables itself in network order.

#![deny(clippy::indexing_slicing)]

/// `NLM_F_REQUEST`
const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`: answer even if all went well.
pub(crate) const ACK: u16 = 0x04;
/// `NLM_F_ECHO`: send back what was made of it.
pub(crate) const ECHO: u16 = 0x08;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the tables changed while they were dumped.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`
pub(crate) const TYPE_ERROR: u16 = 2;
/// `NLMSG_DONE`
pub(crate) const TYPE_DONE: u16 = 3;
/// `NFNL_MSG_BATCH_BEGIN`
pub(crate) const TYPE_BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`
pub(crate) const TYPE_BATCH_END: u16 = 0x11;

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`
const ATTRIBUTE_TYPE: u16 = 0x3FFF;
const HEADER_LENGTH: usize = 16;
const ATTRIBUTE_HEADER_LENGTH: usize = 4;
/// `struct nfgenmsg` before the attributes.
const FAMILY_HEADER_LENGTH: usize = 4;

/// Several messages, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A message of `kind` for an nfnetlink `family`; `resource` is zero but for batch marks.
    pub(crate) fn message(
        &mut self,
        (kind, flags, sequence): (u16, u16, u32),
        (family, resource): (u8, u16),
        attributes: impl FnOnce(&mut Self),
    ) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.0.extend_from_slice(&sequence.to_ne_bytes());
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&[family, 0]);
        self.0.extend_from_slice(&resource.to_be_bytes());
        attributes(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.patch(start, &length.to_ne_bytes());
    }

    /// An attribute with `value`, padded to four octets.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.with(kind, |writer| writer.0.extend_from_slice(value));
    }

    /// An attribute that holds attributes.
    pub(crate) fn nested(&mut self, kind: u16, attributes: impl FnOnce(&mut Self)) {
        self.with(kind | NESTED, attributes);
    }

    /// A string, terminated by a zero octet.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.with(kind, |writer| {
            writer.0.extend_from_slice(value.as_bytes());
            writer.0.push(0);
        });
    }

    /// A number in network order.
    pub(crate) fn number32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub(crate) fn number64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// The octets written.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    fn with(&mut self, kind: u16, value: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        value(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.patch(start, &length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn patch(&mut self, start: usize, octets: &[u8]) {
        if let Some(place) = self.0.get_mut(start..start + octets.len()) {
            place.copy_from_slice(octets);
        }
    }
}

/// One message that was received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The error number of a [`TYPE_ERROR`] message; zero means that all went well.
    pub(crate) fn error(&self) -> Option<i32> {
        let octets = self.payload.first_chunk::<4>()?;
        (self.kind == TYPE_ERROR).then(|| i32::from_ne_bytes(*octets).saturating_neg())
    }

    /// The attributes behind the family header.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(FAMILY_HEADER_LENGTH..).unwrap_or_default())
    }
}

/// The messages in `octets`; ends at the first that is cut off.
pub(crate) fn messages(mut octets: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (header, _) = octets.split_first_chunk::<HEADER_LENGTH>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let message = Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload: octets.get(HEADER_LENGTH..length)?,
        };
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes by type; ends at the first that is cut off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes in `octets`.
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The value of the first attribute of this type.
    pub(crate) fn get(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find_map(|(kind, value)| (kind == wanted).then_some(value))
    }

    /// The attributes inside the first attribute of this type.
    pub(crate) fn nested(self, wanted: u16) -> Attributes<'a> {
        Attributes(self.get(wanted).unwrap_or_default())
    }

    /// A number in network order.
    pub(crate) fn number64(self, wanted: u16) -> Option<u64> {
        self.get(wanted)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A string without its terminating zero octet.
    pub(crate) fn text(self, wanted: u16) -> Option<&'a [u8]> {
        let value = self.get(wanted)?;
        Some(value.strip_suffix(&[0]).unwrap_or(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [l0, l1, k0, k1] = *self.0.first_chunk::<ATTRIBUTE_HEADER_LENGTH>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(ATTRIBUTE_HEADER_LENGTH..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & ATTRIBUTE_TYPE, value))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.message((7, ACK, 1), (1, 10), |writer| {
            writer.string(1, "tidegate");
            writer.nested(2, |writer| writer.number64(3, 5));
            writer.attribute(4, &[1, 2, 3]);
        });
        writer.message((8, 0, 2), (0, 0), |_| {});
        let read: Vec<_> = messages(writer.octets()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (7, ACK | REQUEST, 1));
        let attributes = read[0].attributes();
        assert_eq!(attributes.text(1), Some(b"tidegate".as_slice()));
        assert_eq!(attributes.nested(2).number64(3), Some(5));
        assert_eq!(attributes.get(4), Some([1, 2, 3].as_slice()));
        assert_eq!(read[1].attributes().count(), 0);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for octets in [
            vec![],
            vec![0; 15],
            vec![0; 16],
            [&15_u32.to_ne_bytes()[..], &[0; 40]].concat(),
            [&41_u32.to_ne_bytes()[..], &[0; 36]].concat(),
            [&u32::MAX.to_ne_bytes()[..], &[0; 36]].concat(),
        ] {
            assert_eq!(messages(&octets).count(), 0, "{octets:?}");
        }
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[5, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[5, 0, 1, 0, 9]).count(), 1);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic_or_end_less_loop(octets: Vec<u8>) {
            for message in messages(&octets) {
                let _ = message.error();
                prop_assert!(message.attributes().count() <= octets.len());
            }
        }
    }
}
