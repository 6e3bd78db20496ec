//! Sockets made for BGP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted. A peer needs one; the rest is for strangers, who are
/// turned away one by one.
const BACKLOG: i32 = 64;
/// Octets of ours that the kernel may hold back before the socket counts as full: a withdraw
/// must not stand behind more than that.
const UNSENT: u32 = 16 * 1024;

/// Listens on `address`. An IPv6 address takes no IPv4 connections, so that both may be listed.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Lets a restarted speaker listen while connections of the last one still linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects to `peer`, from `local` if that is set.
pub(crate) async fn connect(local: Option<IpAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = match peer {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(peer).await
}

/// Prepares a connection, opened by either side. Options that the system does not have only cost
/// latency, so their failure is not one of the connection.
pub(crate) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
    }
}
