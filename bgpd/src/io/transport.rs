//! What a peer's TCP connections must be like.

use std::fmt;
use std::hint::black_box;
use std::num::NonZeroU8;

/// How a peer's TCP connections are made and guarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// How far away the peer is.
    pub hops: HopLimit,
    /// Key of the TCP MD5 signature (RFC 2385). With one, segments of the peer that are not signed
    /// by it do not exist, and ours are signed.
    pub md5: Option<Md5Key>,
}

/// How many hops packets may travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HopLimit {
    /// Ours leave with the TTL that the system gives them; of the peer's nothing is asked.
    #[default]
    System,
    /// The peer is on the link. Ours leave with a TTL of 255, and those that arrive with less are
    /// dropped by the kernel, so that nobody farther away can reach the session (RFC 5082).
    Gtsm,
    /// The peer is at most so many hops away, and ours leave with that TTL.
    Multihop(NonZeroU8),
}

impl HopLimit {
    /// TTL or hop limit of what is sent.
    pub(crate) fn sent(self) -> Option<u8> {
        match self {
            Self::System => None,
            Self::Gtsm => Some(u8::MAX),
            Self::Multihop(hops) => Some(hops.get()),
        }
    }

    /// Least TTL or hop limit of what is received.
    pub(crate) fn least(self) -> Option<u8> {
        (self == Self::Gtsm).then_some(u8::MAX)
    }
}

/// A key for TCP MD5 signatures. Its octets are not shown by `Debug`, and are overwritten when it
/// is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(Vec<u8>);

/// Octets that are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TCP MD5 key has 1 to {limit} octets, not {length}", limit = Md5Key::LONGEST)]
pub struct Md5KeyError {
    /// How many octets there are.
    pub length: usize,
}

impl Md5Key {
    /// Most octets of a key: what Linux takes.
    pub const LONGEST: usize = 80;

    /// The key made of these octets, all of them: a line feed at the end is part of it.
    ///
    /// # Errors
    /// [`Md5KeyError`] if there is none or there are more than [`Self::LONGEST`].
    pub fn new(octets: &[u8]) -> Result<Self, Md5KeyError> {
        match octets.len() {
            1..=Self::LONGEST => Ok(Self(octets.to_vec())),
            length => Err(Md5KeyError { length }),
        }
    }

    /// Whether a blank is part of it, which some routers cannot be configured with.
    #[must_use]
    pub fn has_blank(&self) -> bool {
        self.0.contains(&b' ')
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Md5Key(..)")
    }
}

impl Drop for Md5Key {
    fn drop(&mut self) {
        self.0.fill(0);
        // So that the compiler does not take the zeroes for useless.
        black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_bounds_and_keep_silent() {
        assert_eq!(Md5Key::new(b""), Err(Md5KeyError { length: 0 }));
        assert_eq!(Md5Key::new(&[7; 81]), Err(Md5KeyError { length: 81 }));
        let key = Md5Key::new(b"secret").unwrap();
        let shown = format!("{:?}", Transport { md5: Some(key), ..Transport::default() });
        assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
        assert_eq!(Md5Key::new(&[7; 80]).unwrap().octets().len(), 80);
    }

    #[test]
    fn only_gtsm_asks_something_of_what_arrives() {
        let three = HopLimit::Multihop(NonZeroU8::new(3).unwrap());
        for (hops, sent, least) in [
            (HopLimit::System, None, None),
            (HopLimit::Gtsm, Some(255), Some(255)),
            (three, Some(3), None),
        ] {
            assert_eq!((hops.sent(), hops.least()), (sent, least));
        }
    }
}
