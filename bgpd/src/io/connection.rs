//! One TCP connection: what waits to be written, and how it is closed.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::{sockopt, system};

/// How long a closed connection may take to deliver its last words.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// A socket, and how many octets it has taken.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    taken: AtomicU64,
}

impl Link {
    /// How many octets the peer's TCP has acknowledged. To be asked while nobody writes. `None` if
    /// the system does not tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        let taken = self.taken.load(Ordering::Relaxed);
        system::unacknowledged(&self.stream).ok().map(|rest| taken.saturating_sub(rest))
    }
}

/// A connection and the octets that its socket has not taken yet. Bounded by the session, which
/// hands out at most [`crate::session::MAX_IN_FLIGHT`] octets and one message.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Arc<Link>,
    out: Vec<u8>,
    written: usize,
}

impl Connection {
    /// Over `stream`, which breaks when the peer's TCP has acknowledged nothing for `patience`.
    pub(crate) fn new(stream: TcpStream, patience: Duration) -> Self {
        sockopt::prepare(&stream, patience);
        let link = Arc::new(Link { stream, taken: AtomicU64::new(0) });
        Self { link, out: Vec::new(), written: 0 }
    }

    /// For those who ask what has arrived. It does not keep the socket open.
    pub(crate) fn link(&self) -> Weak<Link> {
        Arc::downgrade(&self.link)
    }

    /// See [`Link::acknowledged`].
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.link.acknowledged()
    }

    /// Our end.
    pub(crate) fn local_address(&self) -> io::Result<IpAddr> {
        self.link.stream.local_addr().map(|address| address.ip().to_canonical())
    }

    pub(crate) fn queue(&mut self, message: &[u8]) {
        self.out.extend_from_slice(message);
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes as much as the socket takes. True when all is written.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.out.get(self.written..)
            && !rest.is_empty()
        {
            match self.link.stream.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => {
                    self.written += octets;
                    let octets = u64::try_from(octets).unwrap_or_default();
                    self.link.taken.fetch_add(octets, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Waits until there is something to read, or room for what waits to be written.
    pub(crate) async fn ready(&self) -> io::Result<Ready> {
        let interest = match self.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        self.link.stream.ready(interest).await
    }

    /// Reads what is there. `None` if there is nothing; zero at the end of the stream.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.link.stream.try_read(buffer) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the rest and `last_words`, then closes. Reads on meanwhile: a socket that is closed
    /// with something unread resets the connection, and the peer may never see what was sent last.
    pub(crate) async fn close(mut self, last_words: Option<Vec<u8>>) {
        self.queue(&last_words.unwrap_or_default());
        let goodbye = async {
            while !self.flush()? {
                self.link.stream.writable().await?;
            }
            SockRef::from(&self.link.stream).shutdown(Shutdown::Write)?;
            let mut ignored = [0; 4096];
            loop {
                self.link.stream.readable().await?;
                if self.read(&mut ignored)? == Some(0) {
                    return io::Result::Ok(());
                }
            }
        };
        match tokio::time::timeout(LINGER, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "while a connection was being closed"),
            Err(_) => tracing::debug!("a connection was closed before all was delivered"),
        }
    }
}
