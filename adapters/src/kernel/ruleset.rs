//! The table, its chain and its rules as nf_tables messages (linux/netfilter/nf_tables.h).

#![deny(clippy::indexing_slicing)]

use std::time::Duration;

use super::filter::{Condition, Field, Term};
use super::message::{
    APPEND, Attributes, CREATE, ECHO, EXCLUSIVE, Message, TYPE_BATCH_BEGIN, TYPE_BATCH_END, Writer,
};

/// Name of the table; its family is `inet`.
pub(crate) const TABLE: &str = "tidegate";
/// Name of its only chain.
pub(crate) const CHAIN: &str = "filters";
/// Before everything else that may look at packets, and before fragments are put together for
/// connection tracking (`NF_IP_PRI_RAW_BEFORE_DEFRAG`), so that fragments are seen as they came.
const PRIORITY: i32 = -450;
/// Name of the chain that remembers who has completed a handshake, where its packets have passed
/// connection tracking (`NF_IP_PRI_CONNTRACK` is -200) and nothing else.
const HISTORY_CHAIN: &str = "history";
const HISTORY_PRIORITY: i32 = -190;
/// Name of the chain of the rules that peers ask for, after our own, and its priority.
const LEARNT_CHAIN: &str = "learnt";
const LEARNT_PRIORITY: i32 = -440;
/// Sources that are remembered in each family. What finds no room is not remembered, and limited.
const MOST_SOURCES: u32 = 262_144;
/// Every rule's comment begins like this.
const MARK: &str = "tidegate ";
/// A comment longer than this is cut; nft(8) shows no more.
const COMMENT_LENGTH: usize = 127;

/// `NFPROTO_INET`
pub(crate) const FAMILY_INET: u8 = 1;
/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;

const fn nf_tables(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}
/// `NFT_MSG_NEWTABLE`
const NEW_TABLE: u16 = nf_tables(0);
/// `NFT_MSG_NEWCHAIN`
const NEW_CHAIN: u16 = nf_tables(3);
/// `NFT_MSG_NEWRULE`
pub(crate) const NEW_RULE: u16 = nf_tables(6);
/// `NFT_MSG_GETRULE`
pub(crate) const GET_RULE: u16 = nf_tables(7);
/// `NFT_MSG_DELRULE`
const DELETE_RULE: u16 = nf_tables(8);
/// `NFT_MSG_NEWSET`
const NEW_SET: u16 = nf_tables(9);
/// `NFT_MSG_NEWOBJ`
const NEW_OBJECT: u16 = nf_tables(18);
/// `NFT_MSG_DELOBJ`
const DELETE_OBJECT: u16 = nf_tables(20);

/// `NFT_TABLE_F_OWNER`
const TABLE_OWNER: u32 = 2;
/// `NF_ACCEPT`, `NF_DROP`
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
/// `NFT_SET_TIMEOUT | NFT_SET_EVAL`
const SET_FLAGS: u32 = 0x10 | 0x20;
/// `NFT_OBJECT_LIMIT`
const OBJECT_LIMIT: u32 = 4;
/// `NFT_REG_1`, `NFT_REG_VERDICT`
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
/// Attributes of rules that are also read back: `NFTA_RULE_HANDLE` and so on.
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;

/// What a filter does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Drop it all.
    Drop,
    /// Drop what is over the limit.
    DropOver(RateLimit),
}

/// A rate in whole units per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub(crate) unit: Unit,
    pub(crate) per_second: u64,
    pub(crate) burst: u32,
}

/// What a rate limit counts. The numbers are `NFT_LIMIT_PKTS` and `NFT_LIMIT_PKT_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Packets = 0,
    Bytes = 1,
}

/// Sources of one family that have completed a handshake of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    Ipv4,
    Ipv6,
}

impl History {
    const fn set(self) -> &'static str {
        match self {
            Self::Ipv4 => "handshakes4",
            Self::Ipv6 => "handshakes6",
        }
    }

    /// The set's number in a transaction.
    const fn id(self) -> u32 {
        match self {
            Self::Ipv4 => 1,
            Self::Ipv6 => 2,
        }
    }

    /// The type of its keys as nft(8) shows them, and their length.
    const fn key(self) -> (u32, u32) {
        match self {
            Self::Ipv4 => (7, 4),
            Self::Ipv6 => (8, 16),
        }
    }

    const fn source(self) -> Field {
        match self {
            Self::Ipv4 => Field::Network { offset: 12, length: 4 },
            Self::Ipv6 => Field::Network { offset: 8, length: 16 },
        }
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`
    const fn family(self) -> u128 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// One change of the ruleset; one netlink message.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Our table. The kernel removes it with our socket and lets nobody else touch it.
    Table,
    /// Our chain, which sees every packet that arrives.
    Chain,
    /// A rule at the end of the chain.
    Rule {
        term: Term,
        verdict: Verdict,
        /// The named limit that all rules of a filter share, if there are several.
        shared_limit: Option<String>,
        /// Who is in this set is not meant.
        except: Option<History>,
        comment: String,
    },
    /// The chain of the rules that peers ask for.
    LearntChain,
    /// It becomes empty.
    FlushLearnt,
    /// A rule at its end: what it matches is dropped, or what is over the limit; with no verdict,
    /// nothing, and no later rule is asked.
    LearntRule {
        term: Term,
        verdict: Option<Verdict>,
        shared_limit: Option<String>,
        comment: String,
    },
    /// The chain that fills the sets.
    HistoryChain,
    /// A set whose members are forgotten after this time.
    HistorySet(History, Duration),
    /// Fills it.
    HistoryRule(History),
    /// The rule with this handle goes.
    DeleteRule(u64),
    /// A named limit.
    Limit(String, RateLimit),
    /// The limit of this name goes.
    DeleteLimit(String),
}

/// The comment of a filter's rules: our mark, its number, and itself for people to read.
pub(crate) fn comment(serial: u64, filter: &str) -> String {
    let mut text = format!("{MARK}{serial} {filter}");
    while text.len() > COMMENT_LENGTH {
        text.pop();
    }
    text
}

/// The number in a comment of ours.
fn serial(comment: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(comment).ok()?.strip_prefix(MARK)?;
    text.split(' ').next()?.parse().ok()
}

/// Writes the mark that begins or ends a transaction.
pub(crate) fn write_batch_begin(writer: &mut Writer, sequence: u32) {
    writer.message((TYPE_BATCH_BEGIN, 0, sequence), (0, SUBSYSTEM), |_| {});
}

/// Writes the mark that ends a transaction.
pub(crate) fn write_batch_end(writer: &mut Writer, sequence: u32) {
    writer.message((TYPE_BATCH_END, 0, sequence), (0, SUBSYSTEM), |_| {});
}

impl Change {
    /// Writes the change as a message; `flags` are added to those it needs.
    pub(crate) fn write(&self, writer: &mut Writer, flags: u16, sequence: u32) {
        let (kind, needed) = match self {
            Self::Table => (NEW_TABLE, CREATE | EXCLUSIVE),
            Self::Chain | Self::HistoryChain | Self::LearntChain => (NEW_CHAIN, CREATE | EXCLUSIVE),
            Self::FlushLearnt => (DELETE_RULE, 0),
            Self::LearntRule { .. } => (NEW_RULE, CREATE | APPEND),
            Self::HistorySet(..) => (NEW_SET, CREATE | EXCLUSIVE),
            Self::HistoryRule(_) => (NEW_RULE, CREATE | APPEND),
            Self::Rule { .. } => (NEW_RULE, CREATE | APPEND | ECHO),
            Self::DeleteRule(_) => (DELETE_RULE, 0),
            Self::Limit(..) => (NEW_OBJECT, CREATE | EXCLUSIVE),
            Self::DeleteLimit(_) => (DELETE_OBJECT, 0),
        };
        writer.message((kind, flags | needed, sequence), (FAMILY_INET, 0), |writer| {
            writer.string(1, TABLE);
            self.write_attributes(writer);
        });
    }

    fn write_attributes(&self, writer: &mut Writer) {
        match self {
            Self::Table => writer.number32(2, TABLE_OWNER),
            Self::Chain => write_chain(writer, CHAIN, PRIORITY),
            Self::HistoryChain => write_chain(writer, HISTORY_CHAIN, HISTORY_PRIORITY),
            Self::LearntChain => write_chain(writer, LEARNT_CHAIN, LEARNT_PRIORITY),
            Self::FlushLearnt => writer.string(2, LEARNT_CHAIN),
            Self::LearntRule { term, verdict, shared_limit, comment } => {
                writer.string(2, LEARNT_CHAIN);
                writer.nested(RULE_EXPRESSIONS, |writer| {
                    for condition in term {
                        write_condition(writer, condition);
                    }
                    match verdict {
                        Some(verdict) => {
                            write_excess(writer, *verdict, shared_limit.as_deref());
                            write_counted_drop(writer);
                        }
                        None => write_verdict(writer, ACCEPT),
                    }
                });
                write_comment(writer, comment);
            }
            Self::HistorySet(history, timeout) => write_set(writer, *history, *timeout),
            Self::HistoryRule(history) => {
                writer.string(2, HISTORY_CHAIN);
                writer.nested(RULE_EXPRESSIONS, |writer| write_remember(writer, *history));
            }
            Self::Rule { term, verdict, shared_limit, except, comment } => {
                writer.string(2, CHAIN);
                writer.nested(RULE_EXPRESSIONS, |writer| {
                    for condition in term {
                        write_condition(writer, condition);
                    }
                    if let Some(history) = except {
                        write_load(writer, history.source());
                        expression(writer, "lookup", |writer| {
                            writer.string(1, history.set());
                            writer.number32(2, REGISTER);
                            // NFT_LOOKUP_F_INV: matches who is not in it.
                            writer.number32(5, 1);
                        });
                    }
                    write_excess(writer, *verdict, shared_limit.as_deref());
                    write_counted_drop(writer);
                });
                write_comment(writer, comment);
            }
            Self::DeleteRule(handle) => {
                writer.string(2, CHAIN);
                writer.number64(RULE_HANDLE, *handle);
            }
            Self::Limit(name, limit) => {
                writer.string(2, name);
                writer.number32(3, OBJECT_LIMIT);
                writer.nested(4, |writer| write_limit(writer, *limit));
            }
            Self::DeleteLimit(name) => {
                writer.string(2, name);
                writer.number32(3, OBJECT_LIMIT);
            }
        }
    }
}

fn write_chain(writer: &mut Writer, name: &str, priority: i32) {
    writer.string(3, name);
    writer.nested(4, |writer| {
        // NF_INET_PRE_ROUTING
        writer.number32(1, 0);
        writer.attribute(2, &priority.to_be_bytes());
    });
    writer.number32(5, ACCEPT);
    writer.string(7, "filter");
}

fn write_set(writer: &mut Writer, history: History, timeout: Duration) {
    let (kind, length) = history.key();
    writer.string(2, history.set());
    writer.number32(3, SET_FLAGS);
    writer.number32(4, kind);
    writer.number32(5, length);
    // NFTA_SET_DESC { NFTA_SET_DESC_SIZE }
    writer.nested(9, |writer| writer.number32(1, MOST_SOURCES));
    writer.number32(10, history.id());
    writer.number64(11, milliseconds(timeout));
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Remembers the source of a packet of a TCP connection that has seen its handshake, from who opened
/// it. Forged sources get no answer, and their acknowledgements are outside the window.
fn write_remember(writer: &mut Writer, history: History) {
    let ct = |writer: &mut Writer, key| {
        expression(writer, "ct", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, key);
        });
    };
    // Connection tracking's own numbers are in host order.
    let any_bit = |writer: &mut Writer, bits: u32| {
        expression(writer, "bitwise", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, REGISTER);
            writer.number32(3, 4);
            data(writer, 4, &bits.to_ne_bytes());
            data(writer, 5, &[0; 4]);
        });
        expression(writer, "cmp", |writer| {
            writer.number32(1, REGISTER);
            // NFT_CMP_NEQ
            writer.number32(2, 1);
            data(writer, 3, &[0; 4]);
        });
    };
    write_condition(writer, &Condition::equal(Field::FamilyNumber, 0xFF, history.family()));
    // TCP
    write_condition(writer, &Condition::equal(Field::UpperLayerProtocol, 0xFF, 6));
    // NFT_CT_STATE: established is bit 1. NFT_CT_STATUS: IPS_ASSURED is bit 2.
    ct(writer, 0);
    any_bit(writer, 2);
    ct(writer, 2);
    any_bit(writer, 4);
    // NFT_CT_DIRECTION: IP_CT_DIR_ORIGINAL
    ct(writer, 1);
    expression(writer, "cmp", |writer| {
        writer.number32(1, REGISTER);
        writer.number32(2, 0);
        data(writer, 3, &[0]);
    });
    write_load(writer, history.source());
    expression(writer, "dynset", |writer| {
        writer.string(1, history.set());
        writer.number32(2, history.id());
        // NFT_DYNSET_OP_UPDATE: seen again, it is remembered for longer.
        writer.number32(3, 1);
        writer.number32(4, REGISTER);
    });
}

/// Writes the request for every rule of our chain.
pub(crate) fn write_dump(writer: &mut Writer, sequence: u32) {
    writer.message((GET_RULE, super::message::DUMP, sequence), (FAMILY_INET, 0), |writer| {
        writer.string(1, TABLE);
        writer.string(2, CHAIN);
    });
}

fn expression(writer: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    // NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA }
    writer.nested(1, |writer| {
        writer.string(1, name);
        writer.nested(2, data);
    });
}

/// `NFTA_DATA_VALUE` inside `kind`.
fn data(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nested(kind, |writer| writer.attribute(1, value));
}

fn write_condition(writer: &mut Writer, condition: &Condition) {
    let length = condition.field.length();
    let value = |number: u128| {
        let octets = number.to_be_bytes();
        let start = octets.len().saturating_sub(usize::from(length));
        octets.get(start..).unwrap_or_default().to_vec()
    };
    write_load(writer, condition.field);
    if condition.mask != condition.field.full_mask() {
        expression(writer, "bitwise", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, REGISTER);
            writer.number32(3, length.into());
            data(writer, 4, &value(condition.mask));
            data(writer, 5, &value(0));
        });
    }
    // NFT_CMP_EQ and NFT_CMP_NEQ are the same numbers as NFT_RANGE_EQ and NFT_RANGE_NEQ.
    let operation = u32::from(condition.negated);
    if condition.low == condition.high {
        expression(writer, "cmp", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, operation);
            data(writer, 3, &value(condition.low));
        });
    } else {
        expression(writer, "range", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, operation);
            data(writer, 3, &value(condition.low));
            data(writer, 4, &value(condition.high));
        });
    }
}

fn write_load(writer: &mut Writer, field: Field) {
    let meta = |writer: &mut Writer, key| {
        expression(writer, "meta", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, key);
        });
    };
    let payload = |writer: &mut Writer, base, offset: u8, length: u8| {
        expression(writer, "payload", |writer| {
            writer.number32(1, REGISTER);
            writer.number32(2, base);
            writer.number32(3, offset.into());
            writer.number32(4, length.into());
        });
    };
    // IPPROTO_FRAGMENT; NFT_EXTHDR_F_PRESENT asks whether the header is there at all.
    let fragment_header = |writer: &mut Writer, offset, length, flags| {
        expression(writer, "exthdr", |writer| {
            writer.number32(1, REGISTER);
            writer.attribute(2, &[44]);
            writer.number32(3, offset);
            writer.number32(4, length);
            writer.number32(5, flags);
        });
    };
    match field {
        // NFT_META_NFPROTO, NFT_META_L4PROTO
        Field::FamilyNumber => meta(writer, 15),
        Field::UpperLayerProtocol => meta(writer, 16),
        // NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER
        Field::Network { offset, length } => payload(writer, 1, offset, length),
        Field::Transport { offset, length } => payload(writer, 2, offset, length),
        Field::FragmentHeader => fragment_header(writer, 2, 2, 0),
        Field::FragmentHeaderPresent => fragment_header(writer, 0, 1, 1),
    }
}

fn write_limit(writer: &mut Writer, limit: RateLimit) {
    writer.number64(1, limit.per_second);
    // The unit of time in seconds.
    writer.number64(2, 1);
    writer.number32(3, limit.burst);
    writer.number32(4, limit.unit as u32);
    // NFT_LIMIT_F_INV: matches what is over the limit.
    writer.number32(5, 1);
}

/// Matches what is to be dropped: of a limit, what is over it.
fn write_excess(writer: &mut Writer, verdict: Verdict, shared_limit: Option<&str>) {
    match (shared_limit, verdict) {
        (_, Verdict::Drop) => {}
        (Some(name), Verdict::DropOver(_)) => {
            expression(writer, "objref", |writer| {
                writer.number32(1, OBJECT_LIMIT);
                writer.string(2, name);
            });
        }
        (None, Verdict::DropOver(limit)) => {
            expression(writer, "limit", |writer| write_limit(writer, limit));
        }
    }
}

fn write_counted_drop(writer: &mut Writer) {
    expression(writer, "counter", |_| {});
    write_verdict(writer, DROP);
}

fn write_verdict(writer: &mut Writer, code: u32) {
    expression(writer, "immediate", |writer| {
        writer.number32(1, VERDICT_REGISTER);
        // NFTA_IMMEDIATE_DATA { NFTA_DATA_VERDICT { NFTA_VERDICT_CODE } }
        writer.nested(2, |writer| writer.nested(2, |writer| writer.number32(1, code)));
    });
}

/// The comment as libnftnl keeps it: type 0, length, text with its terminating zero octet.
fn write_comment(writer: &mut Writer, comment: &str) {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut userdata = vec![0, length];
    userdata.extend_from_slice(comment.as_bytes());
    userdata.push(0);
    writer.attribute(RULE_USERDATA, &userdata);
}

/// One of our rules as the kernel reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReportedRule {
    /// The number of the filter that it belongs to.
    pub(crate) serial: u64,
    /// What it is deleted by.
    pub(crate) handle: u64,
    /// Packets and bytes that it dropped.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// Reads a rule; `None` for any other message and for rules that are not ours.
pub(crate) fn read_rule(message: &Message<'_>) -> Option<ReportedRule> {
    if message.kind != NEW_RULE {
        return None;
    }
    let attributes = message.attributes();
    if attributes.text(1)? != TABLE.as_bytes() {
        return None;
    }
    let userdata = attributes.get(RULE_USERDATA)?;
    let (&[kind, length], rest) = userdata.split_first_chunk::<2>()?;
    let comment = rest.get(..usize::from(length))?;
    let comment = comment.strip_suffix(&[0]).unwrap_or(comment);
    let (packets, bytes) = read_counter(attributes.nested(RULE_EXPRESSIONS));
    (kind == 0).then_some(())?;
    Some(ReportedRule {
        serial: serial(comment)?,
        handle: attributes.number64(RULE_HANDLE)?,
        packets,
        bytes,
    })
}

fn read_counter(expressions: Attributes<'_>) -> (u64, u64) {
    for (_, element) in expressions {
        let element = Attributes::new(element);
        if element.text(1) == Some(b"counter") {
            let counter = element.nested(2);
            return (counter.number64(2).unwrap_or(0), counter.number64(1).unwrap_or(0));
        }
    }
    (0, 0)
}
