//! One TCP connection: what waits to be written, and how it is closed.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;

use super::sockopt;

/// How long a closed connection may take to deliver its last words.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// A connection and the octets that its socket has not taken yet. Bounded by the session, which
/// hands out at most [`crate::session::MAX_IN_FLIGHT`] octets and one message.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        sockopt::prepare(&stream);
        Self { stream, out: Vec::new(), written: 0 }
    }

    /// Our end.
    pub(crate) fn local_address(&self) -> io::Result<IpAddr> {
        self.stream.local_addr().map(|address| address.ip().to_canonical())
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
            match self.stream.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(octets) => self.written += octets,
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
        self.stream.ready(interest).await
    }

    /// Reads what is there. `None` if there is nothing; zero at the end of the stream.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.try_read(buffer) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the rest and `last_words`, then closes. Reads on meanwhile: a socket that is closed
    /// with something unread resets the connection, and the peer may never see what was sent last.
    pub(crate) async fn close(mut self, last_words: Option<Vec<u8>>) {
        let goodbye = async {
            let rest = self.out.split_off(self.written);
            self.stream.write_all(&rest).await?;
            self.stream.write_all(&last_words.unwrap_or_default()).await?;
            self.stream.shutdown().await?;
            let mut ignored = [0; 4096];
            while self.stream.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        match tokio::time::timeout(LINGER, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "while a connection was being closed"),
            Err(_) => tracing::debug!("a connection was closed before all was delivered"),
        }
    }
}
