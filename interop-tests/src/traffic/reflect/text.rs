//! Protocols that answer in text, or in little else.

use super::{hexadecimal, letters};
use crate::traffic::random::Random;

/// A stored value under the UDP frame header (memcached `protocol.txt`, "UDP protocol").
///
/// One in ten datagrams is the first of its answer; the others are value alone. 1400 octets each.
pub(super) fn memcached_value(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let total: u16 = 750;
    let sequence = if random.chance(10) { 0 } else { random.port(1, total - 1) };
    random.fill(to, 2);
    to.extend_from_slice(&sequence.to_be_bytes());
    to.extend_from_slice(&total.to_be_bytes());
    to.extend_from_slice(&[0, 0]);
    if sequence == 0 {
        to.extend_from_slice(b"VALUE ");
        letters(random, to, 1);
        to.extend_from_slice(b" 0 1048500\r\n");
    }
    let letter = random.pick(b"0AaxX");
    to.resize(1400, letter);
    11_211
}

/// An answer to M-SEARCH (UPnP Device Architecture 1.1 §1.3.3).
pub(super) fn ssdp_response(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let services: [&str; 5] = [
        "upnp:rootdevice",
        "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "urn:schemas-wifialliance-org:device:WFADevice:1",
        "urn:schemas-upnp-org:service:Layer3Forwarding:1",
    ];
    let servers: [&str; 3] = [
        "Linux/2.6.36, UPnP/1.0, Portable SDK for UPnP devices/1.6.18",
        "miniupnpd/1.8 UPnP/1.1",
        "Custom/1.0 UPnP/1.0 Proc/Ver",
    ];
    let service = random.pick(&services);
    to.extend_from_slice(b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=");
    to.extend_from_slice(random.between(100, 1800).to_string().as_bytes());
    to.extend_from_slice(b"\r\nEXT:\r\nLOCATION: http://192.168.");
    let host =
        format!("{}.{}:{}", random.below(10), random.between(1, 254), random.port(1025, 65_535));
    to.extend_from_slice(host.as_bytes());
    to.extend_from_slice(b"/rootDesc.xml\r\nSERVER: ");
    to.extend_from_slice(random.pick(&servers).as_bytes());
    to.extend_from_slice(b"\r\nST: ");
    to.extend_from_slice(service.as_bytes());
    to.extend_from_slice(b"\r\nUSN: uuid:");
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            to.push(b'-');
        }
        hexadecimal(random, to, length);
    }
    to.extend_from_slice(b"::");
    to.extend_from_slice(service.as_bytes());
    to.extend_from_slice(b"\r\n\r\n");
    1900
}

/// Lines of 72 rotating characters (RFC 864), as the unbounded implementations send them.
pub(super) fn chargen_lines(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let start = random.octet();
    for line in 0..random.between(7, 19) {
        for column in 0..72 {
            let [.., shift] = (line + column + u64::from(start)).to_be_bytes();
            to.push(0x20 + shift % 95);
        }
        to.extend_from_slice(b"\r\n");
    }
    19
}

/// A quotation of less than 512 characters (RFC 865).
pub(super) fn quote(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.push(b'"');
    for _ in 0..random.between(12, 45) {
        let length = random.between(2, 9);
        letters(random, to, length);
        to.push(b' ');
    }
    to.extend_from_slice(b"\"\r\n");
    17
}

/// ProbeMatches in SOAP (WS-Discovery 1.1 §5.3): 0.7 to 1.4 kB.
pub(super) fn probe_matches(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?><SOAP-ENV:Envelope xmlns:SOAP-ENV=\
\"http://www.w3.org/2003/05/soap-envelope\" xmlns:wsa=\
\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:d=\
\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><SOAP-ENV:Header><wsa:MessageID>uuid:",
    );
    hexadecimal(random, to, 32);
    to.extend_from_slice(
        b"</wsa:MessageID><wsa:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches\
</wsa:Action></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch><d:Types>\
dn:NetworkVideoTransmitter</d:Types><d:Scopes>",
    );
    for _ in 0..random.between(2, 14) {
        to.extend_from_slice(b"onvif://www.onvif.org/type/");
        let length = random.between(8, 24);
        letters(random, to, length);
        to.push(b' ');
    }
    to.extend_from_slice(
        b"</d:Scopes><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches>\
</SOAP-ENV:Body></SOAP-ENV:Envelope>",
    );
    3702
}

/// 2.05 Content in link format to GET /.well-known/core (RFC 7252 §3, RFC 6690).
pub(super) fn coap_core(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    // Version 1, acknowledgement, no token; code 2.05; message identifier; Content-Format 40.
    to.extend_from_slice(&[0x60, 0x45]);
    random.fill(to, 2);
    to.extend_from_slice(&[0xc1, 0x28, 0xff]);
    for _ in 0..random.between(6, 30) {
        to.extend_from_slice(b"</");
        let length = random.between(4, 12);
        letters(random, to, length);
        to.extend_from_slice(b">;rt=\"oic.r.");
        letters(random, to, 6);
        to.extend_from_slice(b"\";if=\"oic.if.baseline\",");
    }
    5683
}

/// A video recorder that announces itself: a 32-octet header with `DHIP`, then JSON.
pub(super) fn dvr_discovery(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    let mut body = b"{\"mac\":\"".to_vec();
    for index in 0..6 {
        if index > 0 {
            body.push(b':');
        }
        hexadecimal(random, &mut body, 2);
    }
    body.extend_from_slice(
        b"\",\"method\":\"client.notifyDevInfo\",\"params\":{\"deviceInfo\":{\"AlarmInputChannels\":16,\
\"AlarmOutputChannels\":6,\"DeviceClass\":\"NVR\",\"DeviceType\":\"NVR4216\",\"HttpPort\":80,\
\"IPv4Address\":{\"DefaultGateway\":\"192.168.1.1\",\"DhcpEnable\":false,\"IPAddress\":\
\"192.168.1.108\",\"SubnetMask\":\"255.255.255.0\"},\"IPv6Address\":{\"DefaultGateway\":\"\",\
\"DhcpEnable\":null,\"IPAddress\":\"\\/64\",\"LinkLocalAddress\":\"\"},\"MachineName\":\"",
    );
    let length = random.between(6, 20);
    letters(random, &mut body, length);
    body.extend_from_slice(
        b"\",\"Manufacturer\":\"Private\",\"Port\":37777,\"RemoteVideoInputChannels\":16,\"SerialNo\":\"",
    );
    hexadecimal(random, &mut body, 15);
    body.extend_from_slice(
        b"\",\"Vendor\":\"Private\",\"Version\":\"3.215.0.3\",\"VideoInputChannels\":0}}}\n\0",
    );
    let length = u32::try_from(body.len()).unwrap_or(0).to_le_bytes();
    to.extend_from_slice(&[0x20, 0, 0, 0]);
    to.extend_from_slice(b"DHIP");
    to.extend_from_slice(&[0; 8]);
    to.extend_from_slice(&length);
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&length);
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&body);
    37_810
}

/// The auto-discovery answer of Jenkins before 2.219.
pub(super) fn jenkins_announcement(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(b"<hudson><version>2.");
    to.extend_from_slice(random.between(100, 218).to_string().as_bytes());
    to.extend_from_slice(b"</version><url>http://");
    letters(random, to, 8);
    to.extend_from_slice(b".example:8080/</url><server-id>");
    hexadecimal(random, to, 32);
    to.extend_from_slice(b"</server-id><slave-port>");
    to.extend_from_slice(random.between(30_000, 60_000).to_string().as_bytes());
    to.extend_from_slice(b"</slave-port></hudson>");
    33_848
}

/// An answer to `find_node` or `get_peers` of the mainline DHT (BEP 5).
///
/// Most clients listen on 6881; the others chose a port of their own.
pub(super) fn dht_nodes(random: &mut Random, to: &mut Vec<u8>) -> u16 {
    to.extend_from_slice(b"d1:rd2:id20:");
    random.fill(to, 20);
    to.extend_from_slice(b"5:nodes208:");
    random.fill(to, 208);
    to.extend_from_slice(b"5:token8:");
    random.fill(to, 8);
    to.extend_from_slice(b"e1:t2:");
    random.fill(to, 2);
    to.extend_from_slice(b"1:v4:");
    random.fill(to, 4);
    to.extend_from_slice(b"1:y1:re");
    if random.chance(80) { 6881 } else { random.port(10_000, 60_000) }
}
