//! Sockets made for BGP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tidegate_model::Prefix;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::system;
use super::transport::{HopLimit, Md5Key, Transport};

/// Connections that wait to be accepted. A peer needs one; the rest is for strangers, who are
/// turned away one by one.
const BACKLOG: i32 = 64;
/// Octets of ours that the kernel may hold back before the socket counts as full: a withdraw
/// must not stand behind more than that.
const UNSENT: u32 = 16 * 1024;

/// What a listening socket knows of those who may connect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Welcome {
    hops: Vec<HopLimit>,
    keys: Vec<(Prefix, Md5Key)>,
}

impl Welcome {
    /// Expects connections from `remote`.
    pub(crate) fn expect(&mut self, remote: Prefix, transport: &Transport) {
        self.hops.push(transport.hops);
        self.keys.extend(transport.md5.clone().map(|key| (remote, key)));
    }

    /// TTL that answers to a SYN leave with. A GTSM peer needs 255; the others do not mind.
    fn sent(&self) -> Option<u8> {
        self.hops.iter().filter_map(|hops| hops.sent()).max()
    }

    /// TTL that a SYN must have: what the least demanding peer is held to.
    fn least(&self) -> Option<u8> {
        self.hops.iter().map(|hops| hops.least()).min().flatten()
    }
}

/// Listens on `address`. An IPv6 address takes no IPv4 connections, so that both may be listed.
pub(crate) fn listen(address: SocketAddr, welcome: &Welcome) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Lets a restarted speaker listen while connections of the last one still linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    set_hops(&socket, address.is_ipv6(), welcome.sent(), welcome.least())?;
    for (remote, key) in &welcome.keys {
        if remote.address().is_ipv6() == address.is_ipv6() {
            system::set_md5_key(&socket, *remote, key)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects to `peer`, from `local` if that is set.
pub(crate) async fn connect(
    local: Option<IpAddr>,
    peer: SocketAddr,
    transport: Transport,
) -> io::Result<TcpStream> {
    let socket = match peer {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    limit_hops(&SockRef::from(&socket), peer.is_ipv6(), transport.hops)?;
    if let Some(key) = &transport.md5 {
        system::set_md5_key(&socket, Prefix::host(peer.ip()), key)?;
    }
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(peer).await
}

/// Holds a connection that was accepted to `hops`. Its key it has from the listening socket.
pub(crate) fn guard(stream: &TcpStream, hops: HopLimit) -> io::Result<()> {
    let is_ipv6 = stream.local_addr()?.is_ipv6();
    limit_hops(&SockRef::from(stream), is_ipv6, hops)
}

fn limit_hops(socket: &Socket, is_ipv6: bool, hops: HopLimit) -> io::Result<()> {
    set_hops(socket, is_ipv6, hops.sent(), hops.least())
}

fn set_hops(socket: &Socket, is_ipv6: bool, sent: Option<u8>, least: Option<u8>) -> io::Result<()> {
    match sent {
        Some(sent) if is_ipv6 => socket.set_unicast_hops_v6(sent.into())?,
        Some(sent) => socket.set_ttl_v4(sent.into())?,
        None => {}
    }
    match least {
        Some(least) => system::set_least_ttl(socket, is_ipv6, least),
        None => Ok(()),
    }
}

/// Prepares a connection, opened by either side. Options that the system does not have only cost
/// latency, so their failure is not one of the connection.
///
/// A peer that keeps its window closed and goes on talking would keep a withdraw in our kernel, which
/// the send hold timer does not see (RFC 9687): the connection breaks after `patience` (RFC 5482).
pub(crate) fn prepare(stream: &TcpStream, patience: Duration) {
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
        }
        if let Err(error) = socket.set_tcp_user_timeout(Some(patience)) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_asks_no_more_than_its_least_demanding_peer() {
        let transport = |hops| Transport { hops, md5: None };
        let multihop = HopLimit::Multihop(std::num::NonZeroU8::new(3).unwrap());
        for (peers, sent, least) in [
            (&[][..], None, None),
            (&[HopLimit::System], None, None),
            (&[HopLimit::Gtsm], Some(255), Some(255)),
            (&[HopLimit::Gtsm, HopLimit::Gtsm], Some(255), Some(255)),
            (&[HopLimit::Gtsm, HopLimit::System], Some(255), None),
            (&[multihop, HopLimit::Gtsm], Some(255), None),
            (&[multihop], Some(3), None),
        ] {
            let mut welcome = Welcome::default();
            for hops in peers {
                welcome.expect(Prefix::all_ipv4(), &transport(*hops));
            }
            assert_eq!((welcome.sent(), welcome.least()), (sent, least), "{peers:?}");
        }
    }
}
