//! Which interfaces there are, which one to take when none is named, and what they drop.

use std::fs;
use std::net::IpAddr;

use super::link_state::{LinkProbe, LinkState};

/// Routing tables of this thread's network namespace (`proc(5)`).
const IPV4_ROUTES: &str = "/proc/thread-self/net/route";
const IPV6_ROUTES: &str = "/proc/thread-self/net/ipv6_route";

/// Route flags (`linux/route.h`): in use, and refusing instead of forwarding.
const ROUTE_UP: u32 = 0x1;
const ROUTE_REJECT: u32 = 0x200;

/// Names of the network interfaces, without libpcap's devices that are none. Sorted.
pub(super) fn existing(probe: &LinkProbe) -> Vec<String> {
    let mut names: Vec<String> = pcap::Device::list()
        .unwrap_or_default()
        .into_iter()
        .map(|device| device.name)
        .filter(|name| probe.state(name) != LinkState::Absent)
        .collect();
    names.sort();
    names
}

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses, in order.
    pub addresses: Vec<IpAddr>,
}

/// The interfaces of this host, and the index of the one that is captured on when none is named.
#[must_use]
pub fn survey() -> (Vec<Interface>, Option<usize>) {
    let Ok(probe) = LinkProbe::new() else { return (Vec::new(), None) };
    let devices = pcap::Device::list().unwrap_or_default();
    let interfaces: Vec<Interface> = existing(&probe)
        .into_iter()
        .map(|name| {
            let device = devices.iter().find(|device| device.name == name);
            let addresses = device.into_iter().flat_map(|device| &device.addresses);
            let mut addresses: Vec<IpAddr> = addresses.map(|address| address.addr).collect();
            addresses.sort();
            addresses.dedup();
            Interface { name, addresses }
        })
        .collect();
    let usual = default(&probe);
    let index = interfaces.iter().position(|it| usual.as_ref() == Some(&it.name));
    (interfaces, index)
}

/// The interface with the default route, else the first that is up and no loopback.
pub(super) fn default(probe: &LinkProbe) -> Option<String> {
    let routes = |path| fs::read_to_string(path).unwrap_or_default();
    ipv4_default(&routes(IPV4_ROUTES))
        .or_else(|| ipv6_default(&routes(IPV6_ROUTES)))
        .or_else(|| first_up(probe))
}

fn first_up(probe: &LinkProbe) -> Option<String> {
    let loopbacks: Vec<String> = pcap::Device::list()
        .unwrap_or_default()
        .into_iter()
        .filter(|device| device.flags.is_loopback())
        .map(|device| device.name)
        .collect();
    existing(probe)
        .into_iter()
        .filter(|name| !loopbacks.contains(name))
        .find(|name| matches!(probe.state(name), LinkState::Up { .. }))
}

/// Packets that `interface` dropped for want of room since it exists; zero if that is not known. Not
/// among them is what the system dropped after the capture had seen it.
pub(super) fn dropped_by(interface: &str) -> u64 {
    let counter = |name: &str| {
        let path = format!("/sys/class/net/{interface}/statistics/{name}");
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0_u64)
    };
    counter("rx_missed_errors") + counter("rx_fifo_errors")
}

/// The interface of the IPv4 default route with the smallest metric.
fn ipv4_default(table: &str) -> Option<String> {
    // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let destination = fields.next()?;
        let flags = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
        let metric: u32 = fields.nth(2)?.parse().ok()?;
        let mask = fields.next()?;
        let usable = flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP;
        (usable && destination == "00000000" && mask == "00000000").then_some((metric, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

/// The interface of the IPv6 default route with the smallest metric.
fn ipv6_default(table: &str) -> Option<String> {
    // destination length source length next-hop metric references use flags device
    let routes = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let destination = fields.next()?;
        let length = fields.next()?;
        let metric = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
        let name = fields.next()?;
        let usable = flags & (ROUTE_UP | ROUTE_REJECT) == ROUTE_UP;
        let default = length == "00" && destination.bytes().all(|digit| digit == b'0');
        (usable && default && name != "lo").then_some((metric, name))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t010012AC\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            bad0\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth2\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(ipv4_default(table).as_deref(), Some("eth0"));
        for table in
            ["", "header\n", "header\nshort line\n", "header\neth0 00000000 0 zz 0 0 0 00000000"]
        {
            assert_eq!(ipv4_default(table), None, "{table}");
        }

        let zero = "0".repeat(32);
        let gateway = "fe800000000000000000000000000001";
        let table = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003     eth3\n\
             fe80{} 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth4\n",
            "0".repeat(28)
        );
        assert_eq!(ipv6_default(&table).as_deref(), Some("eth3"));
        assert_eq!(ipv6_default("nothing here"), None);
    }
}
