//! Whether an interface is there and can carry packets.

#![allow(unsafe_code, reason = "SIOCGIFFLAGS has no safe wrapper")]

use std::io;

use rustix::fd::OwnedFd;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// `SIOCGIFFLAGS` of `netdevice(7)`.
const GET_FLAGS: Opcode = 0x8913;

/// `IFNAMSIZ`: octets of an interface name with its terminating zero.
const NAME_SIZE: usize = 16;

const UP: u16 = 0x1;
const RUNNING: u16 = 0x40;

/// `struct ifreq` of `netdevice(7)`, as far as its flags.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    flags: u16,
    rest: [u8; 22],
}

/// What an interface is like now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// There is none of that name.
    Absent,
    /// It is there, but down or without carrier.
    Down { index: u32 },
    /// It can carry packets.
    Up { index: u32 },
}

impl LinkState {
    /// Its index, which a new interface of the same name does not inherit.
    pub(super) fn index(self) -> Option<u32> {
        match self {
            Self::Absent => None,
            Self::Down { index } | Self::Up { index } => Some(index),
        }
    }
}

/// Asks the kernel about interfaces. Two system calls a question.
#[derive(Debug)]
pub(super) struct LinkProbe(OwnedFd);

impl LinkProbe {
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?))
    }

    pub(super) fn state(&self, interface: &str) -> LinkState {
        let Ok(index) = netdevice::name_to_index(&self.0, interface) else {
            return LinkState::Absent;
        };
        match self.flags(interface) {
            Some(flags) if flags & (UP | RUNNING) == UP | RUNNING => LinkState::Up { index },
            Some(_) => LinkState::Down { index },
            None => LinkState::Absent,
        }
    }

    fn flags(&self, interface: &str) -> Option<u16> {
        let mut request = Request { name: [0; NAME_SIZE], flags: 0, rest: [0; 22] };
        let name = request.name.get_mut(..interface.len()).filter(|name| name.len() < NAME_SIZE)?;
        name.copy_from_slice(interface.as_bytes());
        // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of a `struct ifreq`, which is
        // 40 octets long on every 64-bit Linux and 32 on 32-bit ones; `Request` is 40.
        let done = unsafe { ioctl(&self.0, Updater::<GET_FLAGS, Request>::new(&mut request)) };
        done.ok().map(|()| request.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_interfaces_are_absent() {
        let probe = LinkProbe::new().unwrap();
        for name in ["nonexistent0", "", "a-name-far-too-long-for-an-interface"] {
            assert_eq!(probe.state(name), LinkState::Absent, "{name}");
        }
        assert!(probe.state("lo").index().is_some());
    }
}
