//! The socket options and requests that no safe wrapper has. Linux only: elsewhere they fail, and so does what
//! asked for them, since a guard that is not there must not pass for one.

#![allow(unsafe_code, reason = "setsockopt(2) and ioctl(2)")]

use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use tidegate_model::Prefix;

use super::transport::Md5Key;

/// `TCP_MD5SIG_FLAG_PREFIX`: the prefix length counts.
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h, without its alignment. It has no padding.
#[repr(C)]
struct Md5Signature {
    /// `struct sockaddr_storage`.
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; Md5Key::LONGEST],
}

/// Drops what arrives with a TTL or hop limit below `least` (RFC 5082 §3).
#[cfg(target_os = "linux")]
pub(super) fn set_least_ttl(socket: &impl AsFd, is_ipv6: bool, least: u8) -> io::Result<()> {
    let least = c_int::from(least);
    if is_ipv6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &least)
    }
}

/// Signs what goes to `remote` with `key`, and drops what comes from there and is not signed so.
#[cfg(target_os = "linux")]
pub(super) fn set_md5_key(socket: &impl AsFd, remote: Prefix, key: &Md5Key) -> io::Result<()> {
    let mut signature = Md5Signature {
        address: socket_address(remote.address()),
        flags: if remote.is_host() { 0 } else { FLAG_PREFIX },
        prefix_length: if remote.is_host() { 0 } else { remote.length() },
        key_length: u16::try_from(key.octets().len()).unwrap_or(u16::MAX),
        interface: 0,
        key: [0; Md5Key::LONGEST],
    };
    for (to, from) in signature.key.iter_mut().zip(key.octets()) {
        *to = *from;
    }
    let option = if remote.is_host() { libc::TCP_MD5SIG } else { libc::TCP_MD5SIG_EXT };
    let result = set(socket, libc::IPPROTO_TCP, option, &signature);
    signature.key.fill(0);
    std::hint::black_box(&signature.key);
    result
}

/// `struct sockaddr_in` or `sockaddr_in6` with port 0, in a `sockaddr_storage`.
#[cfg(target_os = "linux")]
fn socket_address(address: IpAddr) -> [u8; 128] {
    let (family, at, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, 4, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, 8, address.octets().to_vec()),
    };
    let family = u16::try_from(family).unwrap_or_default();
    let mut storage = [0; 128];
    let fields = family.to_ne_bytes().into_iter().enumerate();
    for (index, octet) in fields.chain((at..).zip(octets)) {
        if let Some(place) = storage.get_mut(index) {
            *place = octet;
        }
    }
    storage
}

#[cfg(target_os = "linux")]
fn set<T>(socket: &impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the descriptor is open as long as `socket` is borrowed. `value` is valid for reads of
    // `length` octets, all of them initialised: T is an integer or a struct without padding. The
    // kernel only reads them, and keeps no pointer.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many octets that the socket took are not acknowledged by the other end (`SIOCOUTQ`, tcp(7)).
#[cfg(target_os = "linux")]
pub(super) fn unacknowledged(socket: &impl AsFd) -> io::Result<u64> {
    let mut octets: c_int = 0;
    // SAFETY: the descriptor is open as long as `socket` is borrowed. The kernel writes one int to
    // `octets`, which is valid for that, and keeps no pointer.
    let result = unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut octets))
    };
    if result == 0 {
        u64::try_from(octets).map_err(io::Error::other)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn unacknowledged(_: &impl AsFd) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_least_ttl(_: &impl AsFd, _: bool, _: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_md5_key(_: &impl AsFd, _: Prefix, _: &Md5Key) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The sizes that linux/tcp.h has, and the fields where the kernel looks for them.
    #[test]
    fn structures_are_laid_out_as_the_kernel_reads_them() {
        assert_eq!(size_of::<Md5Signature>(), 216);
        let ipv4 = socket_address([192, 0, 2, 1].into());
        assert_eq!(ipv4[..8], [2, 0, 0, 0, 192, 0, 2, 1]);
        let ipv6 = socket_address("2001:db8::1".parse().unwrap());
        assert_eq!(ipv6[..2], [10, 0]);
        assert_eq!(ipv6[8..12], [0x20, 1, 0x0d, 0xb8]);
        assert_eq!(ipv6[23], 1);
    }
}
