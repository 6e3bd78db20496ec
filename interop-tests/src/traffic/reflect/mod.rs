//! What abused services answer, protocol by protocol.
//!
//! Every answer is built from the protocol's own specification or from published descriptions of
//! the abuse, with the sizes that are seen in attacks. The detector's signature table is not
//! consulted: a classifier that is wrong about a protocol must be able to fail on this traffic.

mod ber;
mod binary;
mod dns;
mod further;
mod text;

use tidegate_model::Reflector;

pub(crate) use dns::{
    address_response as dns_response, query as dns_query, random_query as dns_random_query,
};

use super::random::Random;

/// One answer of a reflector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The UDP port that it comes from.
    pub(crate) port: u16,
    /// The UDP payload; larger than an MTU if the protocol answers so.
    pub(crate) payload: Vec<u8>,
}

/// One answer of `reflector`, with everything that varies between servers drawn from `random`.
pub(crate) fn answer(reflector: Reflector, random: &mut Random) -> Answer {
    let mut payload = Vec::new();
    let to = &mut payload;
    let port = match reflector {
        Reflector::Dns => dns::any_response(random, to),
        Reflector::Mdns => dns::multicast_response(random, to),
        Reflector::Ntp => binary::ntp_monlist(random, to),
        Reflector::NetBios => binary::netbios_status(random, to),
        Reflector::Rip => binary::rip_table(random, to),
        Reflector::Portmap => binary::portmap_dump(random, to),
        Reflector::Stun => binary::stun_binding(random, to),
        Reflector::OpenVpn => binary::openvpn_reset(random, to),
        Reflector::Ubiquiti => binary::ubiquiti_discovery(random, to),
        Reflector::L2tp => binary::l2tp_start_reply(random, to),
        Reflector::Ipmi => binary::ipmi_capabilities(random, to),
        Reflector::Ike => binary::ike_main_mode(random, to),
        Reflector::Tftp => binary::tftp_data(random, to),
        Reflector::Arms => binary::arms_status(random, to),
        Reflector::SourceEngine => binary::source_engine_info(random, to),
        Reflector::Snmp => ber::snmp_bulk(random, to),
        Reflector::Cldap => ber::cldap_root(random, to),
        Reflector::Memcached => text::memcached_value(random, to),
        Reflector::Ssdp => text::ssdp_response(random, to),
        Reflector::Chargen => text::chargen_lines(random, to),
        Reflector::Qotd => text::quote(random, to),
        Reflector::WsDiscovery => text::probe_matches(random, to),
        Reflector::Coap => text::coap_core(random, to),
        Reflector::DhcpDiscover => text::dvr_discovery(random, to),
        Reflector::Jenkins => text::jenkins_announcement(random, to),
        Reflector::BitTorrent => text::dht_nodes(random, to),
        Reflector::Echo => further::echo(random, to),
        Reflector::Quake => further::quake_status(random, to),
        Reflector::MsSql => further::mssql_instances(random, to),
        Reflector::Rdp => further::rdp_syn_ack(random, to),
        Reflector::Slp => further::slp_reply(random, to),
        Reflector::Xdmcp => further::xdmcp_willing(random, to),
        Reflector::Sentinel => further::sentinel_licences(random, to),
        Reflector::VxWorks => further::vxworks_target(random, to),
        Reflector::Plex => further::plex_server(random, to),
        Reflector::BacNet => further::bacnet_properties(random, to),
        Reflector::Sadp => further::sadp_device(random, to),
        Reflector::Mitel => further::mitel_status(random, to),
        Reflector::Sip => further::sip_answer(random, to),
        Reflector::Kad => further::kad_nodes(random, to),
        Reflector::Dtls => further::dtls_hello(random, to),
    };
    Answer { port, payload }
}

/// Appends `length` lower-case letters.
fn letters(random: &mut Random, to: &mut Vec<u8>, length: u64) {
    for _ in 0..length {
        to.push(random.pick(b"abcdefghijklmnopqrstuvwxyz"));
    }
}

/// Appends `length` hexadecimal digits.
fn hexadecimal(random: &mut Random, to: &mut Vec<u8>, length: u64) {
    for _ in 0..length {
        to.push(random.pick(b"0123456789abcdef"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reflector_answers_with_plausible_sizes() {
        let mut random = Random::new(1);
        for reflector in Reflector::ALL {
            for _ in 0..200 {
                let answer = answer(*reflector, &mut random);
                assert_ne!(answer.port, 0, "{}", reflector.name());
                let length = answer.payload.len();
                assert!((20..=4096).contains(&length), "{}: {length}", reflector.name());
            }
        }
    }

    #[test]
    fn known_bytes_stand_where_the_protocols_want_them() {
        let mut random = Random::new(2);
        let mut first = |reflector| answer(reflector, &mut random);
        // Mode 7 response of implementation 3, request 42, six items of 72 octets (ntpdc monlist).
        let ntp = first(Reflector::Ntp);
        assert_eq!(ntp.payload.len(), 440);
        assert_eq!(ntp.payload[2..8], [0x03, 0x2a, 0x00, 0x06, 0x00, 0x48]);
        assert_eq!(first(Reflector::Stun).payload[..2], [0x01, 0x01]);
        assert_eq!(first(Reflector::Stun).payload[4..8], [0x21, 0x12, 0xa4, 0x42]);
        assert!(first(Reflector::Ssdp).payload.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(first(Reflector::SourceEngine).payload[..4], [0xff; 4]);
        assert_eq!(first(Reflector::Rip).payload[..2], [2, 1]);
        assert_eq!(first(Reflector::Dns).payload[2] & 0x80, 0x80);
    }
}
