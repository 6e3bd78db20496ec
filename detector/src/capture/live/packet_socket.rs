//! What is asked of the packet socket below libpcap (`packet(7)`): to share the traffic of an
//! interface among several, and to say what it dropped.

#![allow(unsafe_code, reason = "socket options that have no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `PACKET_FANOUT_CBPF` of `linux/if_packet.h`: a program picks the socket.
const FANOUT_CBPF: u32 = 6;

/// Where the kernel's filter machine finds the network header, and the ethertype
/// (`SKF_NET_OFF`, `SKF_AD_OFF + SKF_AD_PROTOCOL` of `linux/filter.h`).
const NETWORK: u32 = (-0x10_0000_i32).cast_unsigned();
const ETHERTYPE: u32 = (-0x1000_i32).cast_unsigned();

/// A group of packet sockets that share the traffic of one interface.
///
/// Everything between two addresses, both ways, whole or in fragments, goes to the same socket:
/// whether an answer was asked for is known only to the meter that saw the question. The kernel's
/// own hash takes the ports in, which a later fragment lacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fanout(u16);

impl Fanout {
    /// A new group of which `socket` is the first member.
    pub(super) fn found(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_UNIQUEID;
        set_option(socket, libc::PACKET_FANOUT, &(kind << 16))?;
        let mut chosen = 0_u32;
        get_option(socket, libc::PACKET_FANOUT, &mut chosen)?;
        let program = distribution();
        let header = libc::sock_fprog {
            len: u16::try_from(program.len()).unwrap_or(u16::MAX),
            filter: program.as_ptr().cast_mut(),
        };
        set_option(socket, libc::PACKET_FANOUT_DATA, &header)?;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the number")]
        Ok(Self(chosen as u16))
    }

    /// Makes `socket` the next member. Members are numbered as they come.
    pub(super) fn join(self, socket: BorrowedFd<'_>) -> io::Result<()> {
        set_option(socket, libc::PACKET_FANOUT, &(FANOUT_CBPF << 16 | u32::from(self.0)))
    }
}

/// Packets handed to `socket`, dropped ones included, and packets dropped for want of room in its
/// ring, both since it was last asked.
pub(super) fn take_statistics(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut statistics = [0_u32; 3];
    get_option(socket, libc::PACKET_STATISTICS, &mut statistics)?;
    let [received, dropped, _] = statistics;
    Ok((received, dropped))
}

fn set_option<T>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to a live `T` of the given size; the options used here take a 32-bit
    // number or a `sock_fprog`, whose program outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get_option<T: Copy>(socket: BorrowedFd<'_>, option: i32, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into the live `T`; the types used here are
    // 32-bit numbers and arrays of them, for which every bit pattern is a value.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Instruction codes of the classic filter machine (`linux/bpf_common.h`).
mod code {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_WORD_INDEXED: u16 = 0x40;
    pub(super) const LOAD_BYTE_INDEXED: u16 = 0x50;
    pub(super) const SET_INDEX: u16 = 0x01;
    pub(super) const INDEX_FROM_MEMORY: u16 = 0x61;
    pub(super) const STORE: u16 = 0x02;
    pub(super) const STORE_INDEX: u16 = 0x03;
    pub(super) const AND: u16 = 0x54;
    pub(super) const XOR_INDEX: u16 = 0xac;
    pub(super) const MULTIPLY: u16 = 0x24;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const SKIP_UNLESS_EQUAL: u16 = 0x15;
    pub(super) const SKIP_IF_SET: u16 = 0x45;
    pub(super) const RETURN_VALUE: u16 = 0x06;
    pub(super) const RETURN: u16 = 0x16;
}

const fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips `count` steps unless the accumulator is `value`.
const fn unless(value: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter { code: code::SKIP_UNLESS_EQUAL, jt: 0, jf: count, k: value }
}

/// An odd number whose multiples are spread evenly (Knuth, "Sorting and Searching", 6.4).
const GOLDEN: u32 = 0x9e37_79b1;

/// The program that picks the member: a hash of both addresses that is the same both ways, of which
/// the kernel takes the remainder.
///
/// A tag that the kernel left in place, PPPoE, and one or two MPLS labels are followed. What is no
/// IP, or lies deeper, goes to the first member.
fn distribution() -> Vec<libc::sock_filter> {
    use code::*;
    // The index says how far behind the network header, as the kernel sees it, IP begins.
    let mut program = vec![step(SET_INDEX, 0), step(LOAD_WORD, ETHERTYPE)];
    for (kind, length) in [(0x8100, 4), (0x88a8, 4), (0x9100, 4), (0x8864, 8)] {
        program.extend([unless(kind, 1), step(SET_INDEX, length)]);
    }
    program.extend([
        unless(0x8847, 4),
        step(SET_INDEX, 4),
        step(LOAD_BYTE, NETWORK + 2),
        libc::sock_filter { code: SKIP_IF_SET, jt: 1, jf: 0, k: 1 },
        step(SET_INDEX, 8),
    ]);
    let hash = [step(MULTIPLY, GOLDEN), step(SHIFT_RIGHT, 16), step(RETURN, 0)];
    let ipv4 = [
        step(LOAD_WORD_INDEXED, NETWORK + 12),
        step(STORE, 0),
        step(LOAD_WORD_INDEXED, NETWORK + 16),
        step(INDEX_FROM_MEMORY, 0),
        step(XOR_INDEX, 0),
    ];
    let mut ipv6 = vec![step(STORE_INDEX, 1), step(LOAD_WORD_INDEXED, NETWORK + 8)];
    for offset in (12..40).step_by(4) {
        ipv6.extend([
            step(STORE, 0),
            step(INDEX_FROM_MEMORY, 1),
            step(LOAD_WORD_INDEXED, NETWORK + offset),
            step(INDEX_FROM_MEMORY, 0),
            step(XOR_INDEX, 0),
        ]);
    }
    program.extend([step(LOAD_BYTE_INDEXED, NETWORK), step(AND, 0xf0)]);
    for (version, addresses) in [(0x40, &ipv4[..]), (0x60, &ipv6)] {
        let length = addresses.len() + hash.len();
        program.push(unless(version, u8::try_from(length).unwrap_or(u8::MAX)));
        program.extend_from_slice(addresses);
        program.extend_from_slice(&hash);
    }
    program.push(step(RETURN_VALUE, 0));
    program
}
