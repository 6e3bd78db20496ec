//! How many routes an UPDATE announces, without looking at what they are.

/// MP_REACH_NLRI (RFC 4760 §3).
const MP_REACH_NLRI: u8 = 14;
/// FlowSpec (RFC 8955 §4).
const SAFI_FLOWSPEC: u8 = 133;

/// The routes that the UPDATE `message`, header included, announces. What cannot be read counts for
/// nothing: whoever waits for it misses it.
pub(super) fn announced(message: &[u8]) -> usize {
    count(message).unwrap_or_default()
}

fn count(message: &[u8]) -> Option<usize> {
    let body = message.get(19..)?;
    let (_, rest) = counted(body)?;
    let (mut attributes, nlri) = counted(rest)?;
    let mut routes = prefixes(nlri)?;
    while let [flags, kind, rest @ ..] = attributes {
        let (value, rest) = if flags & 0x10 == 0 {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        } else {
            counted(rest)?
        };
        if *kind == MP_REACH_NLRI {
            let safi = *value.get(2)?;
            let next_hop = usize::from(*value.get(3)?);
            let nlri = value.get(5 + next_hop..)?;
            routes += if safi == SAFI_FLOWSPEC { rules(nlri)? } else { prefixes(nlri)? };
        }
        attributes = rest;
    }
    Some(routes)
}

/// What a two-octet length in front of it delimits, and the rest.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A length in bits, then as many octets as hold them (RFC 4271 §4.3).
fn prefixes(mut nlri: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some((bits, rest)) = nlri.split_first() {
        nlri = rest.get(usize::from(*bits).div_ceil(8)..)?;
        count += 1;
    }
    Some(count)
}

/// A length of one octet below 240, of two otherwise, then the rule (RFC 8955 §4.1).
fn rules(mut nlri: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let Some((first, rest)) = nlri.split_first() {
        nlri = if *first < 0xf0 {
            rest.get(usize::from(*first)..)?
        } else {
            let (second, rest) = rest.split_first()?;
            rest.get((usize::from(first & 0x0f) << 8 | usize::from(*second))..)?
        };
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0xff; 16], &[0, 0, 2, 0, 0][..], &length, attributes, nlri].concat()
    }

    #[test]
    fn counts_what_is_announced() {
        let origin = [0x40, 1, 1, 0];
        let flow = [0x80, 14, 13, 0, 1, 133, 0, 0, 3, 3, 0x81, 17, 3, 3, 0x81, 6];
        let extended = [0x90, 14, 0, 10, 0, 2, 1, 0, 0, 8, 0x20, 16, 0x20, 1];
        for (name, message, expected) in [
            ("end of RIB", update(&[], &[]), 0),
            ("two prefixes", update(&origin, &[32, 192, 0, 2, 1, 24, 192, 0, 2]), 2),
            ("two rules", update(&flow, &[]), 2),
            ("two IPv6 prefixes", update(&extended, &[]), 2),
            ("both", update(&[&origin[..], &flow].concat(), &[32, 192, 0, 2, 1]), 3),
            ("cut off", update(&origin, &[32, 192]), 0),
            ("nothing", Vec::new(), 0),
        ] {
            assert_eq!(announced(&message), expected, "{name}");
        }
        let long = [[0xf0, 240].as_slice(), &[0; 240]].concat();
        assert_eq!(rules(&long), Some(1));
    }
}
