//! Which group an address belongs to: longest prefix match on disjoint ranges.

use std::net::IpAddr;

use tidegate_model::Prefix;

use crate::config::Config;

/// Index of a group in [`Config::groups`].
pub(crate) type GroupIndex = u16;

/// The protected addresses. Groups beyond the 65,535th are not protected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    ipv4: Ranges<u32>,
    ipv6: Ranges<u128>,
    /// A prefix of length zero protects the whole family.
    all_of_ipv4: bool,
    all_of_ipv6: bool,
}

impl Space {
    pub(crate) fn new(config: &Config) -> Self {
        let groups = config.groups.iter().zip(0..GroupIndex::MAX);
        Self::of(
            groups.flat_map(|(group, index)| {
                group.prefixes.iter().map(move |prefix| (prefix, index))
            }),
        )
    }

    fn of<'a>(prefixes: impl Iterator<Item = (&'a Prefix, GroupIndex)>) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        let (mut all_of_ipv4, mut all_of_ipv6) = (false, false);
        for (prefix, index) in prefixes {
            match prefix.address() {
                IpAddr::V4(address) => {
                    all_of_ipv4 |= prefix.length() == 0;
                    let last = u32::from(address) | host_bits(prefix, 32) as u32;
                    ipv4.push((u32::from(address), last, index));
                }
                IpAddr::V6(address) => {
                    all_of_ipv6 |= prefix.length() == 0;
                    let last = u128::from(address) | host_bits(prefix, 128);
                    ipv6.push((u128::from(address), last, index));
                }
            }
        }
        Self { ipv4: Ranges::new(ipv4), ipv6: Ranges::new(ipv6), all_of_ipv4, all_of_ipv6 }
    }

    /// The addresses of `prefixes`, as one group; `None` if there are none.
    pub(crate) fn of_prefixes(prefixes: &[Prefix]) -> Option<Self> {
        (!prefixes.is_empty()).then(|| Self::of(prefixes.iter().map(|prefix| (prefix, 0))))
    }

    /// Whether there are addresses of the family of `address` that are not protected. Where there
    /// are none, as in a replay of a capture from anywhere, nobody can be told to be outside.
    #[inline]
    pub(crate) const fn has_outside(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !self.all_of_ipv4,
            IpAddr::V6(_) => !self.all_of_ipv6,
        }
    }

    /// The group of the longest prefix that holds `address`.
    #[inline]
    pub(crate) fn group_of(&self, address: IpAddr) -> Option<GroupIndex> {
        match address {
            IpAddr::V4(address) => self.ipv4.find(u32::from(address)),
            IpAddr::V6(address) => self.ipv6.find(u128::from(address)),
        }
    }
}

/// Ones below the prefix length.
fn host_bits(prefix: &Prefix, width: u32) -> u128 {
    let free = width - u32::from(prefix.length()).min(width);
    u128::MAX.checked_shr(128 - free).unwrap_or(0)
}

/// Disjoint ranges in ascending order, by their last address.
#[derive(Clone, Debug)]
struct Ranges<A> {
    ends: Vec<A>,
    /// First address and group of the range that ends at the same index.
    starts: Vec<(A, GroupIndex)>,
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self { ends: Vec::new(), starts: Vec::new() }
    }
}

/// The next lower and higher address.
trait Address: Copy + Ord {
    fn before(self) -> Option<Self>;
    fn after(self) -> Option<Self>;
}

impl Address for u32 {
    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn before(self) -> Option<Self> {
        self.checked_sub(1)
    }
    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<A: Address> Ranges<A> {
    /// Cuts nested prefixes into disjoint ranges. Of the same prefix twice the first wins.
    fn new(mut prefixes: Vec<(A, A, GroupIndex)>) -> Self {
        prefixes.sort_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
        prefixes.dedup_by_key(|&mut (first, last, _)| (first, last));
        let mut ranges = Self::default();
        // Prefixes that are open at the sweep's place, outermost first; `next` is the first
        // address not yet given to anyone.
        let mut open: Vec<(A, GroupIndex)> = Vec::new();
        let mut next: Option<A> = None;
        for (first, last, group) in prefixes {
            while let Some(&(end, outer)) = open.last() {
                if end >= first {
                    ranges.push(next, first.before(), outer);
                    break;
                }
                ranges.push(next, Some(end), outer);
                next = end.after();
                open.pop();
            }
            open.push((last, group));
            next = Some(first);
        }
        while let Some((end, group)) = open.pop() {
            ranges.push(next, Some(end), group);
            next = end.after();
        }
        ranges
    }

    fn push(&mut self, first: Option<A>, last: Option<A>, group: GroupIndex) {
        if let (Some(first), Some(last)) = (first, last)
            && first <= last
        {
            self.ends.push(last);
            self.starts.push((first, group));
        }
    }

    #[inline]
    fn find(&self, address: A) -> Option<GroupIndex> {
        let index = self.ends.partition_point(|&end| end < address);
        let &(first, group) = self.starts.get(index)?;
        (first <= address).then_some(group)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use tidegate_model::Thresholds;

    use super::*;
    use crate::config::Group;

    fn space(groups: &[Vec<Prefix>]) -> Space {
        let groups = groups.iter().map(|prefixes| Group {
            name: String::new(),
            prefixes: prefixes.clone(),
            thresholds: Thresholds::default(),
            aggregate: None,
        });
        Space::new(&Config { groups: groups.collect(), ..Config::default() })
    }

    #[test]
    fn longest_prefix_wins() {
        let space = space(&[
            vec!["10.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()],
            vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            vec!["10.1.0.0/24".parse().unwrap(), "10.1.2.3".parse().unwrap()],
            vec!["255.255.255.255".parse().unwrap(), "0.0.0.0".parse().unwrap()],
        ]);
        for (address, group) in [
            ("9.255.255.255", None),
            ("10.0.0.0", Some(0)),
            ("10.0.255.255", Some(0)),
            ("10.1.0.0", Some(2)),
            ("10.1.1.0", Some(1)),
            ("10.1.2.2", Some(1)),
            ("10.1.2.3", Some(2)),
            ("10.1.2.4", Some(1)),
            ("10.2.0.0", Some(0)),
            ("10.255.255.255", Some(0)),
            ("11.0.0.0", None),
            ("0.0.0.0", Some(3)),
            ("0.0.0.1", None),
            ("255.255.255.255", Some(3)),
            ("::", Some(0)),
            ("2001:db8::1", Some(1)),
            ("ffff::", Some(0)),
        ] {
            assert_eq!(space.group_of(address.parse().unwrap()), group, "{address}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            prefixes in proptest::collection::vec((0_u32..64, 24_u8..=32), 0..20),
            probe in 0_u32..80,
        ) {
            let prefixes: Vec<Prefix> = prefixes
                .into_iter()
                .map(|(host, length)| Prefix::new(Ipv4Addr::from(host).into(), length).unwrap())
                .collect();
            let groups: Vec<Vec<Prefix>> = prefixes.iter().map(|&prefix| vec![prefix]).collect();
            let probe = IpAddr::from(Ipv4Addr::from(probe));
            let mut best: Option<(u8, usize)> = None;
            for (index, prefix) in prefixes.iter().enumerate() {
                let longer = best.is_none_or(|(length, _)| prefix.length() > length);
                if prefix.contains_address(probe) && longer {
                    best = Some((prefix.length(), index));
                }
            }
            let expected = best.map(|(_, index)| index as GroupIndex);
            prop_assert_eq!(space(&groups).group_of(probe), expected);
        }
    }
}
