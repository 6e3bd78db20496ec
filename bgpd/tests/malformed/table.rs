//! The rows.
//!
//! What is discarded and what is treated as withdrawn are both counted as malformed. A rule that
//! comes with a next hop (51) and an attribute whose inside is known and is no use to us (41) are
//! too; an IPv6 offset (54) is not, though there is no form for such a rule here.

use super::Expected::{self, Accepted, Closed, Reset, Tolerated};
use super::Row;
use super::When::{self, Established, Extended, OpenConfirm, OpenSent};
use super::Who::{self, External, Internal, Provider, Strict};
use super::octets::{
    ATTRIBUTES, KEEPALIVE, NLRI, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, capabilities,
    lying_message, message, open, open_with, update,
};

const ID: [u8; 4] = [192, 0, 2, 2];
const AS: u16 = 65001;

struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        number: u8,
        name: &'static str,
        when: When,
        octets: Vec<u8>,
        expected: Expected,
    ) {
        self.from(External, number, name, when, octets, expected);
    }

    fn from(
        &mut self,
        who: Who,
        number: u8,
        name: &'static str,
        when: When,
        octets: Vec<u8>,
        expected: Expected,
    ) {
        self.0.push(Row { number, name, who, when, octets, expected });
    }

    /// An UPDATE in an established session.
    fn update(&mut self, number: u8, name: &'static str, octets: Vec<u8>, expected: Expected) {
        self.add(number, name, Established, octets, expected);
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    framing(&mut rows);
    opens(&mut rows);
    capability_lists(&mut rows);
    attributes(&mut rows);
    more_attributes(&mut rows);
    multiprotocol(&mut rows);
    flow_specifications(&mut rows);
    other_messages(&mut rows);
    rows.0
}

fn framing(rows: &mut Rows) {
    let mut marker = message(KEEPALIVE, &[]);
    marker[3] = 0xfe;
    for when in [OpenSent, OpenConfirm, Established] {
        rows.add(1, "marker", when, marker.clone(), Reset(1, 1));
        rows.add(2, "length 18", when, lying_message(KEEPALIVE, 18, &[]), Reset(1, 2));
        rows.add(2, "length 0", when, lying_message(UPDATE, 0, &[]), Reset(1, 2));
        rows.add(2, "length 65535", when, lying_message(UPDATE, 65535, &[]), Reset(1, 2));
        rows.add(3, "UPDATE of 4097", when, lying_message(UPDATE, 4097, &[]), Reset(1, 2));
        rows.add(4, "KEEPALIVE of 20", when, message(KEEPALIVE, &[0]), Reset(1, 2));
        rows.add(4, "OPEN of 28", when, message(OPEN, &[4; 9]), Reset(1, 2));
        rows.add(4, "UPDATE of 22", when, message(UPDATE, &[0; 3]), Reset(1, 2));
        rows.add(5, "NOTIFICATION of 20", when, message(NOTIFICATION, &[6]), Closed);
        rows.add(5, "garbage code", when, message(NOTIFICATION, &[200, 99, 1]), Closed);
        for kind in [0, 6, 255] {
            rows.add(6, "type", when, message(kind, &[]), Reset(1, 3));
        }
    }
    rows.add(3, "OPEN of 4097", Extended, message(OPEN, &[4; 4078]), Reset(1, 2));
    rows.add(8, "KEEPALIVE first", OpenSent, message(KEEPALIVE, &[]), Reset(5, 1));
    rows.add(8, "UPDATE first", OpenSent, update(&[], &[], &[]), Reset(5, 1));
    rows.add(9, "UPDATE", OpenConfirm, update(&[], &ATTRIBUTES, &NLRI), Reset(5, 2));
    rows.add(9, "second OPEN", Established, External.open(), Reset(5, 3));
}

fn opens(rows: &mut Rows) {
    let with = |parameters: &[u8]| open_with(4, AS, 90, ID, parameters);
    for (number, name, octets, expected) in [
        (10, "version 3", open_with(3, AS, 90, ID, &[]), Reset(2, 1)),
        (10, "version 5", open_with(5, AS, 90, ID, &[]), Reset(2, 1)),
        (11, "AS 0", open_with(4, 0, 90, ID, &[]), Reset(2, 2)),
        (11, "another AS", open(65002, &capabilities(65002)), Reset(2, 2)),
        (11, "AS_TRANS and 0", open(23456, &[65, 4, 0, 0, 0, 0]), Reset(2, 2)),
        (12, "identifier 0", open_with(4, AS, 90, [0; 4], &[]), Reset(2, 3)),
        (13, "hold time 1", open_with(4, AS, 1, ID, &[]), Reset(2, 6)),
        (13, "hold time 2", open_with(4, AS, 2, ID, &[]), Reset(2, 6)),
        (14, "parameter 1", with(&[1, 1, 0]), Reset(2, 4)),
        (14, "parameter 200", with(&[200, 0]), Reset(2, 4)),
        (15, "ends at the length", message(OPEN, &with(&[2])[19..]), Reset(2, 0)),
        (
            15,
            "a length and nothing",
            message(OPEN, &[&with(&[])[19..28], &[2]].concat()),
            Reset(2, 0),
        ),
        (16, "extended, 1 octet", with(&[255, 0]), Reset(2, 0)),
        (16, "extended, too long", with(&[255, 255, 255, 2, 0, 0]), Reset(2, 0)),
        (17, "extended, short", with(&[255, 0, 9, 2, 0, 6, 1, 4, 0, 1, 0, 1]), Accepted),
    ] {
        rows.add(number, name, OpenSent, octets, expected);
    }
    let same = open_with(4, 65010, 90, [127, 0, 0, 1], &[]);
    rows.from(Internal, 12, "our identifier", OpenSent, same, Reset(2, 3));
}

fn capability_lists(rows: &mut Rows) {
    let with = |more: &[u8]| open(AS, &[&capabilities(AS), more].concat());
    let extended = |list: &[u8]| {
        let mut body = vec![4];
        body.extend(AS.to_be_bytes());
        body.extend([0, 90, 192, 0, 2, 2, 255, 255]);
        body.extend((list.len() as u16 + 3).to_be_bytes());
        body.push(2);
        body.extend((list.len() as u16).to_be_bytes());
        body.extend(list);
        message(OPEN, &body)
    };
    let parameters = open_with(4, AS, 90, ID, &[2, 0].repeat(127));
    for (number, name, octets, expected) in [
        (18, "overruns", open(AS, &[1, 9, 0, 1, 0, 1]), Reset(2, 0)),
        (19, "4-octet AS of 0", open(AS, &[65, 0, 1, 4, 0, 1, 0, 1]), Reset(2, 0)),
        (20, "software version", with(&[75, 3, 9, b'a', b'b']), Accepted),
        (21, "500 times", extended(&[1, 4, 0, 1, 0, 1].repeat(500)), Accepted),
        (22, "GR of 3", with(&[64, 3, 0xff, 0xff, 1]), Accepted),
        (22, "restart time 4095", with(&[64, 2, 0x0f, 0xff]), Accepted),
        (24, "role 9, without ours", with(&[9, 1, 9]), Accepted),
        (24, "role of 2, without ours", with(&[9, 2, 0, 0]), Accepted),
        (25, "127 empty parameters", parameters, Accepted),
        (25, "500 empty capabilities", extended(&[200, 0].repeat(500)), Accepted),
    ] {
        rows.add(number, name, OpenSent, octets, expected);
    }
    rows.from(Strict, 23, "one is missing", OpenSent, with(&[1, 4, 0, 1, 0, 133]), Reset(2, 7));
    rows.from(Strict, 23, "both are missing", OpenSent, with(&[]), Reset(2, 7));
    for (name, more, expected) in [
        ("role 9", &[9, 1, 9][..], Reset(2, 11)),
        ("role of 2 octets", &[9, 2, 0, 0], Reset(2, 11)),
        ("two roles", &[9, 1, 0, 9, 1, 1], Reset(2, 11)),
        ("mismatch", &[9, 1, 3], Reset(2, 11)),
        ("the right one", &[9, 1, 0], Accepted),
    ] {
        rows.from(Provider, 24, name, OpenSent, with(more), expected);
    }
}

/// The usual attributes with one octet replaced.
fn replaced(index: usize, octet: u8) -> Vec<u8> {
    let mut attributes = ATTRIBUTES;
    attributes[index] = octet;
    update(&[], &attributes, &NLRI)
}

fn also(attribute: &[u8]) -> Vec<u8> {
    update(&[], &[&ATTRIBUTES, attribute].concat(), &NLRI)
}

/// ORIGIN, this AS_PATH, NEXT_HOP.
fn path(value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    let attributes =
        [&[0x40, 1, 1, 0, 0x50, 2][..], &length, value, &[0x40, 3, 4, 192, 0, 2, 2]].concat();
    update(&[], &attributes, &NLRI)
}

/// ORIGIN, AS_PATH, this NEXT_HOP.
fn next_hop(value: &[u8]) -> Vec<u8> {
    let attribute = [&[0x40, 3, value.len() as u8][..], value].concat();
    update(&[], &[&ATTRIBUTES[..13], &attribute].concat(), &NLRI)
}

fn attributes(rows: &mut Rows) {
    let sequence = [2, 1, 0, 0, 0xfd, 0xe9];
    for (number, name, octets, expected) in [
        (27, "withdrawn too long", message(UPDATE, &[0, 9, 0, 0]), Reset(3, 1)),
        (27, "attributes too long", message(UPDATE, &[0, 0, 0, 9]), Reset(3, 1)),
        (28, "/33", update(&[], &ATTRIBUTES, &[33, 1, 2, 3, 4, 5]), Reset(3, 10)),
        (28, "/255", update(&[], &ATTRIBUTES, &[255]), Reset(3, 10)),
        (28, "NLRI cut short", update(&[], &ATTRIBUTES, &[24, 1, 2]), Reset(3, 10)),
        (28, "withdrawn cut short", update(&[32, 1, 2, 3], &[], &[]), Reset(3, 10)),
        (
            29,
            "ORIGIN of 2",
            update(&[], &[&[0x40, 1, 2, 0, 0][..], &ATTRIBUTES[4..]].concat(), &NLRI),
            Tolerated,
        ),
        (29, "ORIGIN 3", replaced(3, 3), Tolerated),
        (29, "ORIGIN not transitive", replaced(0, 0), Tolerated),
        (30, "no attributes", update(&[], &[], &NLRI), Tolerated),
        (30, "no ORIGIN", update(&[], &ATTRIBUTES[4..], &NLRI), Tolerated),
        (30, "no NEXT_HOP", update(&[], &ATTRIBUTES[..13], &NLRI), Tolerated),
        (30, "attribute 31 only", update(&[], &[0xc0, 31, 1, 0], &NLRI), Tolerated),
        (31, "segment 0", path(&[0, 1, 0, 0, 0xfd, 0xe9]), Tolerated),
        (31, "segment 9", path(&[9, 1, 0, 0, 0xfd, 0xe9]), Tolerated),
        (31, "segment of none", path(&[2, 0]), Tolerated),
        (31, "segment overrun", path(&[2, 7, 0, 0, 0xfd, 0xe9]), Tolerated),
        (31, "one octet behind", path(&[&sequence[..], &[1]].concat()), Tolerated),
        (33, "AS4_PATH from NEW", also(&[0xc0, 17, 6, 2, 1, 0, 0, 0, 1]), Tolerated),
        (34, "confederation", path(&[&[3, 1, 0, 0, 0, 9][..], &sequence].concat()), Tolerated),
        (34, "another AS to the left", path(&[2, 1, 0, 0, 0, 9]), Tolerated),
        (35, "NEXT_HOP of 3", next_hop(&[192, 0, 2]), Tolerated),
        (35, "NEXT_HOP of 5", next_hop(&[192, 0, 2, 2, 2]), Tolerated),
        (35, "NEXT_HOP 0.0.0.0", next_hop(&[0; 4]), Tolerated),
        (35, "NEXT_HOP 127.0.0.1", next_hop(&[127, 0, 0, 1]), Tolerated),
        (35, "NEXT_HOP 224.0.0.5", next_hop(&[224, 0, 0, 5]), Tolerated),
        (36, "MED of 3", also(&[0x80, 4, 3, 0, 0, 0]), Tolerated),
        (36, "LOCAL_PREF, external", also(&[0x40, 5, 4, 0, 0, 0, 9]), Accepted),
        (37, "ATOMIC_AGGREGATE of 1", also(&[0x40, 6, 1, 0]), Tolerated),
        (37, "AGGREGATOR of 7", also(&[0xc0, 7, 7, 0, 0, 0, 0, 0, 0, 0]), Tolerated),
    ] {
        rows.update(number, name, octets, expected);
    }
    let mut long = Vec::new();
    for _ in 0..40 {
        long.extend([2, 255]);
        long.extend([0, 0, 0xfd, 0xe9].repeat(255));
    }
    rows.add(32, "10,200 AS numbers", Extended, path(&long), Accepted);
    let local_pref = also(&[0x40, 5, 3, 0, 0, 0]);
    rows.from(Internal, 36, "LOCAL_PREF of 3", Established, local_pref, Tolerated);
}

fn more_attributes(rows: &mut Rows) {
    let reach = [0x80, 14, 5, 0, 1, 133, 0, 0];
    for (number, name, octets, expected) in [
        (38, "COMMUNITIES of 0", also(&[0xc0, 8, 0]), Tolerated),
        (38, "COMMUNITIES of 6", also(&[0xc0, 8, 6, 0, 0, 0, 0, 0, 0]), Tolerated),
        (38, "EXTENDED COMMUNITIES of 7", also(&[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0]), Tolerated),
        (38, "LARGE_COMMUNITY of 0", also(&[0xc0, 32, 0]), Tolerated),
        (38, "LARGE_COMMUNITY of 13", also(&[&[0xc0, 32, 13][..], &[0; 13]].concat()), Tolerated),
        (38, "IPv6 EXTENDED of 19", also(&[&[0xc0, 25, 19][..], &[0; 19]].concat()), Tolerated),
        (39, "ORIGIN twice", also(&[0x40, 1, 1, 0]), Tolerated),
        (39, "MP_REACH_NLRI twice", update(&[], &reach.repeat(2), &[]), Reset(3, 1)),
        (40, "longer than the rest", also(&[0xd0, 99, 0xff, 0xff]), Tolerated),
        (40, "one stray octet", also(&[0x40]), Tolerated),
        (40, "two stray octets", also(&[0xc0, 8]), Tolerated),
        (41, "23, corrupted", also(&[0xc0, 23, 5, 0, 9, 0xff, 0xff, 1]), Tolerated),
        (41, "40, zeroes", also(&[0xc0, 40, 3, 0, 0, 0]), Accepted),
        (41, "255", also(&[0xc0, 255, 2, 1, 2]), Accepted),
        (41, "128", also(&[0xc0, 128, 4, 1, 2, 3, 4]), Accepted),
        (41, "29", also(&[0x80, 29, 3, 1, 2, 3]), Tolerated),
        (42, "OTC of 0", also(&[0xc0, 35, 0]), Tolerated),
        (42, "OTC of 5", also(&[0xc0, 35, 5, 0, 0, 0, 0, 1]), Tolerated),
        (42, "OTC of 1024", also(&[&[0xd0, 35, 4, 0][..], &[0; 1024]].concat()), Tolerated),
        (43, "unknown well-known", also(&[0x40, 99, 1, 0]), Reset(3, 2)),
        (44, "no NLRI, bad ORIGIN", update(&[], &[0x40, 1, 1, 3], &[]), Reset(3, 1)),
    ] {
        rows.update(number, name, octets, expected);
    }
    let huge = also(&[&[0xd0, 99, 0xfe, 0xc8][..], &vec![0x5a; 0xfec8]].concat());
    rows.add(45, "65,224 octets of unknown", Extended, huge, Accepted);
}

/// MP_REACH_NLRI with this value, then ORIGIN and AS_PATH.
fn reach(value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    let attribute = [&[0x90, 14][..], &length, value].concat();
    update(&[], &[&attribute, &ATTRIBUTES[..13]].concat(), &[])
}

fn multiprotocol(rows: &mut Rows) {
    let unreach = [0x80, 15, 2, 0, 1];
    let next_hop_15 = [&[0, 2, 1, 15][..], &[0; 16]].concat();
    let next_hop_255 = [&[0, 2, 1, 255][..], &[0; 16]].concat();
    let long_prefix = [&[0, 2, 1, 16][..], &[1; 16], &[0, 129], &[1; 17]].concat();
    for (number, name, octets, expected) in [
        (46, "MP_REACH_NLRI of 4", reach(&[0, 1, 133, 0]), Tolerated),
        (46, "MP_UNREACH_NLRI of 2", update(&[], &unreach, &[]), Tolerated),
        (46, "next hop of 15", reach(&next_hop_15), Tolerated),
        (46, "next hop of 255", reach(&next_hop_255), Tolerated),
        (46, "IPv6 /129", reach(&long_prefix), Tolerated),
        (47, "AFI 25", reach(&[0, 25, 70, 4, 1, 2, 3, 4, 0]), Accepted),
        (47, "AFI 16388", reach(&[0x40, 4, 71, 4, 1, 2, 3, 4, 0]), Accepted),
    ] {
        rows.update(number, name, octets, expected);
    }
}

/// An IPv4 rule with this body, its length in one octet or in two.
fn rule(body: &[u8]) -> Vec<u8> {
    let length = match body.len() {
        length @ 0..240 => vec![length as u8],
        length => (0xf000 | length as u16).to_be_bytes().to_vec(),
    };
    reach(&[&[0, 1, 133, 0, 0][..], &length, body].concat())
}

/// A destination, then values of one component until the body has `length` octets.
fn long_rule(length: usize) -> Vec<u8> {
    let mut body = vec![1, 32, 192, 0, 2, 9, 4];
    // Values in three octets, up to two in two octets, and the last one.
    let rest = length - body.len() - 2;
    let short = [0, 2, 1][rest % 3];
    body.extend([0x01, 80].repeat(short));
    body.extend([0x11, 0, 80].repeat((rest - 2 * short) / 3));
    body.extend([0x81, 80]);
    rule(&body)
}

/// A rule for a destination, with this traffic-rate in octets per second.
fn rate(value: f32) -> Vec<u8> {
    let attribute = [0x90, 14, 0, 12, 0, 1, 133, 0, 0, 6, 1, 32, 192, 0, 2, 9];
    let community = [&[0xc0, 16, 8, 0x80, 6, 0, 0][..], &value.to_be_bytes()].concat();
    update(&[], &[&attribute[..], &ATTRIBUTES[..13], &community].concat(), &[])
}

fn flow_specifications(rows: &mut Rows) {
    let destination = [1, 32, 192, 0, 2, 9];
    let with = |more: &[u8]| rule(&[&destination, more].concat());
    let alone = [0x80, 14, 9, 0, 1, 133, 0, 0, 3, 3, 129, 6];
    let hop = |hop: &[u8]| {
        reach(&[&[0, 1, 133, hop.len() as u8][..], hop, &[0, 6], &destination].concat())
    };
    let v6 = |body: &[u8]| reach(&[&[0, 2, 133, 0, 0, body.len() as u8][..], body].concat());
    let wide = reach(&[&[0, 1, 133, 0, 0, 0xf0, 6][..], &destination].concat());
    for (number, name, octets, expected) in [
        (48, "length 0", reach(&[0, 1, 133, 0, 0, 0]), Tolerated),
        (48, "length 0xf000", reach(&[0, 1, 133, 0, 0, 0xf0, 0]), Tolerated),
        (48, "cut short", reach(&[0, 1, 133, 0, 0, 0xf0]), Tolerated),
        (48, "longer than it is", reach(&[0, 1, 133, 0, 0, 20, 1, 32]), Tolerated),
        (49, "240 octets", long_rule(240), Accepted),
        (49, "241 octets", long_rule(241), Accepted),
        (50, "6 octets, long form", wide, Accepted),
        (51, "alone", update(&[], &alone, &[]), Tolerated),
        (51, "next hop of 4", hop(&[192, 0, 2, 1]), Tolerated),
        (51, "next hop of 16", hop(&[1; 16]), Tolerated),
        (52, "out of order", rule(&[5, 0x81, 80, 1, 32, 192, 0, 2, 9]), Tolerated),
        (52, "type 5 twice", with(&[5, 0x81, 80, 5, 0x81, 81]), Tolerated),
        (52, "type 0", with(&[0, 0x81, 80]), Tolerated),
        (52, "type 255", with(&[255, 0x81, 80]), Tolerated),
        (53, "no end bit", with(&[4, 1, 80]), Tolerated),
        (53, "AND in the first", with(&[4, 0xc1, 80]), Accepted),
        (54, "destination /33", rule(&[1, 33, 192, 0, 2, 9, 0]), Tolerated),
        (54, "IPv6 offset 64 of 32", v6(&[1, 32, 64, 0x20, 1, 13, 0xb8]), Accepted),
        (55, "rate -1.0", rate(-1.0), Accepted),
        (55, "rate NaN", rate(f32::NAN), Tolerated),
        (55, "rate infinite", rate(f32::INFINITY), Tolerated),
        (55, "rate 1e-40", rate(1e-40), Tolerated),
        (56, "no destination", rule(&[3, 0x81, 17]), Accepted),
        (56, "all protocols", rule(&[3, 0x83, 0]), Accepted),
        (57, "length 99,971", with(&[10, 0xa1, 0, 1, 0x86, 0x83]), Accepted),
        (57, "ICMP type and port", with(&[4, 0x81, 80, 7, 0x81, 8]), Accepted),
    ] {
        rows.update(number, name, octets, expected);
    }
    rows.add(49, "4095 octets", Extended, long_rule(4095), Accepted);
}

fn other_messages(rows: &mut Rows) {
    let refresh = |body: &[u8]| message(ROUTE_REFRESH, body);
    // Immediate, prefix ORF: one entry that is well-formed, one that is not.
    let filters =
        [refresh(&[0, 1, 0, 1, 1, 64, 0, 1, 0x80]), refresh(&[0, 1, 0, 1, 1, 64, 0, 9, 0, 0, 0])];
    for (number, name, octets, expected) in [
        (58, "refresh of 22", refresh(&[0, 1, 0]), Reset(7, 1)),
        (58, "refresh of 24", refresh(&[0, 1, 0, 1, 0]), Reset(7, 1)),
        (58, "BoRR of 27", refresh(&[0, 1, 1, 1, 0, 0, 0, 0]), Reset(7, 1)),
        (58, "subtype 3", refresh(&[0, 1, 3, 1]), Accepted),
        (58, "AFI 99", refresh(&[0, 99, 0, 1]), Accepted),
        (58, "filters", filters.concat(), Accepted),
        (58, "10,000 of them", refresh(&[0, 1, 0, 1]).repeat(10_000), Accepted),
        (59, "EoRR", refresh(&[0, 1, 2, 1]), Accepted),
        (59, "BoRR and no end", refresh(&[0, 1, 1, 1]), Accepted),
        (60, "text of 0xff", message(NOTIFICATION, &[6, 2, 4, 255, 255, 255, 255]), Closed),
        (60, "longer than it is", message(NOTIFICATION, &[6, 2, 99, b'a']), Closed),
        (60, "escapes", message(NOTIFICATION, b"\x06\x02\x05\x1b[2J\n"), Closed),
        (63, "200,000 withdrawn", update(&NLRI.repeat(800), &[], &[]).repeat(250), Accepted),
        (
            63,
            "to and fro",
            [update(&[], &ATTRIBUTES, &NLRI), update(&NLRI, &[], &[])].concat().repeat(20_000),
            Accepted,
        ),
    ] {
        rows.add(number, name, Established, octets, expected);
    }
}
