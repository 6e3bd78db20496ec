//! What speaks for forged source addresses.
//!
//! Addresses drawn by lot are spread evenly over the whole space, each sends once or twice, some
//! are addresses that nobody can have (RFC 6890), and their TTLs are drawn as well or are all the
//! same though the hosts would be many hops apart. Real hosts come from the part of the space that
//! is in use, come back, and have TTLs a few hops below the usual initial values.

use std::net::{IpAddr, Ipv4Addr};

/// Packets from which on anything is said.
const ENOUGH: u64 = 500;

/// What was measured, each in `0.0..=1.0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spoofing {
    /// How evenly IPv4 sources are spread over the first octet: 1 is as if drawn by lot.
    pub evenness: f64,
    /// Distinct sources for each packet: 1 is that none sends twice.
    pub novelty: f64,
    /// Packets from addresses that no host on the Internet has.
    pub bogons: f64,
    /// Packets whose TTL is not within 32 hops of 64, 128 or 255.
    pub odd_ttls: f64,
    /// Different TTLs, of 256.
    pub ttls: u16,
    /// What follows.
    pub verdict: Verdict,
}

/// Whether the sources are forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Several signs say so: source addresses mean nothing.
    Forged,
    /// One sign or another says so.
    Unclear,
    /// Nothing says so.
    Plausible,
    /// Too few packets to tell.
    TooFew,
}

/// Counters behind it.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    first_octets: Box<[u32; 256]>,
    ttls: Box<[u32; 256]>,
    bogons: u64,
    ipv4: u64,
}

impl Default for Signs {
    fn default() -> Self {
        Self { first_octets: Box::new([0; 256]), ttls: Box::new([0; 256]), bogons: 0, ipv4: 0 }
    }
}

impl Signs {
    #[inline]
    pub(super) fn insert(&mut self, source: IpAddr, ttl: u8) {
        if let Some(count) = self.ttls.get_mut(usize::from(ttl)) {
            *count = count.saturating_add(1);
        }
        if let IpAddr::V4(source) = source {
            let [first, ..] = source.octets();
            if let Some(count) = self.first_octets.get_mut(usize::from(first)) {
                *count = count.saturating_add(1);
            }
            self.ipv4 += 1;
        }
        self.bogons += u64::from(is_bogon(source));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let pairs = self.first_octets.iter_mut().zip(other.first_octets.iter());
        for (mine, theirs) in pairs.chain(self.ttls.iter_mut().zip(other.ttls.iter())) {
            *mine = mine.saturating_add(*theirs);
        }
        self.bogons += other.bogons;
        self.ipv4 += other.ipv4;
    }

    #[expect(clippy::cast_precision_loss, reason = "shares")]
    pub(super) fn judge(&self, packets: u64, distinct: u64) -> Spoofing {
        let of = |part: u64| part as f64 / packets.max(1) as f64;
        let odd = |ttl: usize| ![64, 128, 255].iter().any(|top| (top - 32..=*top).contains(&ttl));
        let odd_ttls = self.ttls.iter().enumerate().filter(|(ttl, _)| odd(*ttl));
        let odd_ttls: u64 = odd_ttls.map(|(_, &count)| u64::from(count)).sum();
        let ttls = self.ttls.iter().filter(|&&count| count > 0).count();
        let mut spoofing = Spoofing {
            evenness: self.evenness(),
            novelty: of(distinct).min(1.0),
            bogons: of(self.bogons),
            odd_ttls: of(odd_ttls),
            ttls: u16::try_from(ttls).unwrap_or(u16::MAX),
            verdict: Verdict::TooFew,
        };
        if packets >= ENOUGH {
            let signs = [
                spoofing.evenness >= 0.95,
                spoofing.novelty >= 0.7,
                spoofing.bogons >= 0.01,
                spoofing.odd_ttls >= 0.3,
                spoofing.ttls == 1 && distinct >= ENOUGH / 5,
            ];
            spoofing.verdict = match signs.into_iter().filter(|sign| *sign).count() {
                0 => Verdict::Plausible,
                1 => Verdict::Unclear,
                _ => Verdict::Forged,
            };
        }
        spoofing
    }

    /// Entropy of the first octet, as a share of what it is when addresses are drawn by lot from
    /// the unicast space (1 to 223).
    fn evenness(&self) -> f64 {
        if self.ipv4 == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let total = self.ipv4 as f64;
        let shares = self.first_octets.iter().map(|&count| f64::from(count) / total);
        let entropy: f64 =
            shares.filter(|share| *share > 0.0).map(|share| -share * share.log2()).sum();
        (entropy / 223.0_f64.log2()).min(1.0)
    }
}

/// Addresses that no host on the Internet has (RFC 6890, RFC 1112 §4, RFC 4291 §2.4).
fn is_bogon(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => {
            let [first, second, third, _] = source.octets();
            matches!(
                (first, second, third),
                (0 | 10 | 127 | 224.., _, _)
                    | (100, 64..=127, _)
                    | (169, 254, _)
                    | (172, 16..=31, _)
                    | (192, 168, _)
                    | (192, 0, 0 | 2)
                    | (198, 18 | 19, _)
                    | (198, 51, 100)
                    | (203, 0, 113)
            ) || source == Ipv4Addr::BROADCAST
        }
        // Global unicast is 2000::/3, without the documentation's prefix.
        IpAddr::V6(source) => {
            let [first, second, ..] = source.segments();
            first >> 13 != 1 || (first, second) == (0x2001, 0x0db8)
        }
    }
}
