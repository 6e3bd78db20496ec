//! A first configuration for a host as it is: its own addresses, and nothing is done.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tidegate_model::Prefix;

/// What the first configuration is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where packets are seen; `None` leaves it to the default route at every start.
    pub interface: Option<String>,
    /// What is watched and may be protected. None lies in another.
    pub owned: BTreeSet<Prefix>,
    /// Our AS number, if there is to be BGP.
    pub asn: u32,
}

impl Host {
    /// For private use (RFC 6996 §5): stands for no AS until there are peers.
    pub const NO_AS: u32 = 64512;

    /// Of `owned`, those that lie in no other.
    #[must_use]
    pub fn new(interface: Option<String>, owned: &[Prefix], asn: u32) -> Self {
        let lies_in_other =
            |prefix: &Prefix| owned.iter().any(|other| other != prefix && other.contains(prefix));
        let owned = owned.iter().filter(|prefix| !lies_in_other(prefix)).copied().collect();
        Self { interface, owned, asn }
    }

    /// `tidegate.toml`.
    #[must_use]
    pub fn config(&self) -> String {
        let interface = match &self.interface {
            Some(name) => format!("interface = {}\n", super::quoted(name)),
            None => {
                "# interface = \"eth0\"          # left out: the interface of the default route\n"
                    .to_owned()
            }
        };
        format!(
            "# What belongs to this machine. Every key: docs/configuration.md\n\
             policy = \"policy\"              # the directory beside this file\n\n\
             [capture]\n{interface}\n\
             [forensics]                    # the packets of each attack, as pcapng\n\
             directory = \"/var/lib/tidegate/forensics\"\n\n\
             [incidents]                    # what happened, as SQLite\n\
             database = \"/var/lib/tidegate/incidents.db\"\n"
        )
    }

    /// `policy/policy.toml`.
    #[must_use]
    pub fn policy(&self) -> String {
        let first = self.owned.iter().find_map(|prefix| match prefix.address() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        let router_id = first.unwrap_or(Ipv4Addr::new(192, 0, 2, 1));
        let owned: String =
            self.owned.iter().map(|prefix| format!("    \"{prefix}\",\n")).collect();
        format!(
            "# What belongs to the network. Every key: docs/policy.md\n\
             # Nothing is done about an attack yet: it is recognised, recorded and told.\n\n\
             [speaker]                      # who we are to BGP peers; needed even without any\n\
             as = {}\n\
             router-id = \"{router_id}\"\n\n\
             [owned]                        # only what lies in here is watched\n\
             prefixes = [\n{owned}]\n\n\
             # The most that is normal for one host; what is left out is built in.\n\
             # [groups.default.thresholds]\n\
             # total = {{ packets = \"100k\", bits = \"1G\" }}\n\n\
             # What is done: here a rule in the kernel of this host that lets a trickle through.\n\
             # `tidegate policy explain ADDRESS --policy DIR --vector syn-flood --pps 200000` says what\n\
             # it would do.\n\
             # [[responses]]\n\
             # name = \"limit\"\n\
             # when = {{ severity = \"medium\", confidence = 0.8 }}\n\
             # action = \"local\"\n\
             # filter = {{ rate-limit = \"2kpps\" }}\n",
            self.asn,
        )
    }
}

/// Whether `address` is one that packets from elsewhere can be sent to.
#[must_use]
pub fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address == Ipv6Addr::UNSPECIFIED
                || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::import::write_new;

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_written_checks_and_does_nothing() {
        for (interface, owned) in [
            (None, &["192.0.2.10", "2001:db8::10"][..]),
            (Some("eth1".to_owned()), &["203.0.113.0/24", "203.0.113.7"]),
            (Some("a\"b".to_owned()), &["2001:db8:1::/48"]),
        ] {
            let host = Host::new(interface.clone(), &prefixes(owned), Host::NO_AS);
            let folder = tempfile::tempdir().unwrap();
            let [path, _] = write_new(folder.path(), &host.config(), &host.policy()).unwrap();
            let (config, policy) = config::load(&path).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(config.capture.interfaces, interface.into_iter().collect::<Vec<_>>());
            assert!(policy.responses.is_empty() && policy.peers.is_empty());
            assert!(policy.space.owned.iter().copied().eq(host.owned.iter().copied()));
        }
    }

    #[test]
    fn what_is_offered_in_comments_is_sound_too() {
        let host = Host::new(None, &prefixes(&["192.0.2.10"]), Host::NO_AS);
        let live: String = host
            .policy()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with('[') || key.contains(" = ") && !key.contains('`') => {
                    key
                }
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let [path, _] = write_new(folder.path(), &host.config(), &live).unwrap();
        let (_, policy) = config::load(&path).unwrap_or_else(|report| panic!("{report}\n{live}"));
        assert_eq!(policy.responses.len(), 1);
    }

    #[test]
    fn only_addresses_that_others_can_reach_count() {
        for (address, reachable) in [
            ("192.0.2.1", true),
            ("10.0.0.1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_reachable(address.parse().unwrap()), reachable, "{address}");
        }
    }
}
