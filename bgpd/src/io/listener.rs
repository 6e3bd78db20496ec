//! Accepts connections and hands each to the peer whose address it comes from, or to one that is
//! made for it if the address is in a prefix for dynamic neighbours.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::roster::Roster;
use super::sockopt;
use super::transport::HopLimit;

/// How long to wait when the system has no file descriptor or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections from one address go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The peer's address.
    pub(crate) remote: IpAddr,
    /// Our end, if the peer must connect to that one.
    pub(crate) local: Option<IpAddr>,
    /// How far away the peer may be.
    pub(crate) hops: HopLimit,
    /// The peer's task. When it is full the connection is closed; the peer will try again.
    pub(crate) to: mpsc::Sender<TcpStream>,
}

/// One listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) routes: Vec<Route>,
    /// Knows the prefixes that others may come from.
    pub(crate) roster: Arc<Roster>,
}

impl Listener {
    /// Runs until it is aborted.
    pub(crate) async fn run(self) {
        loop {
            match self.socket.accept().await {
                Ok((stream, from)) => self.hand_over(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// A stranger's connection is closed without a word: nothing is kept of it.
    fn hand_over(&self, stream: TcpStream, from: SocketAddr) {
        let remote = from.ip().to_canonical();
        let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
        let configured = self.routes.iter().find(|route| {
            route.remote == remote && (route.local.is_none() || route.local == local)
        });
        let Some(route) = configured.cloned().or_else(|| self.roster.invite(remote)) else {
            tracing::debug!(%from, "connection from an address that is no peer's");
            return;
        };
        if let Err(error) = sockopt::guard(&stream, route.hops) {
            tracing::warn!(%from, %error, "connection closed: it cannot be held to its hop limit");
            return;
        }
        if route.to.try_send(stream).is_err() {
            tracing::debug!(%from, "connection closed: the peer has several waiting already");
        }
    }
}
