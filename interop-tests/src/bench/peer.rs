//! The least of a BGP peer: brings the session up, keeps it alive, and notes when what arrived.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{BenchError, system};
use crate::lab::POLL_INTERVAL;

/// A session that is not up by then is not going to be.
pub(super) const SESSION_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of an UPDATE, and when its last octet had been read.
pub(super) type Arrival<T = Vec<u8>> = (Instant, T);

/// Serves one session and hands over what `T` keeps of its UPDATEs.
pub(super) struct Peer<T = Vec<u8>> {
    pub(super) updates: Receiver<Arrival<T>>,
    established: Receiver<()>,
}

impl Peer<Vec<u8>> {
    /// Listens on `address` and keeps the UPDATEs undecoded, so that reading is all that the
    /// receiving thread does.
    pub(super) fn listen(address: SocketAddr) -> Result<Self, BenchError> {
        Self::listening(address, <[u8]>::to_vec)
    }
}

impl<T: Send + 'static> Peer<T> {
    /// Listens on `address`, serves the first session, and keeps of each UPDATE what `digest` does.
    pub(super) fn listening(
        address: SocketAddr,
        digest: fn(&[u8]) -> T,
    ) -> Result<Self, BenchError> {
        let listener = TcpListener::bind(address).map_err(system("listen"))?;
        Ok(Self::serving(digest, move || Ok(listener.accept()?.0)))
    }

    /// Connects to `address` until a session comes up: who listens there may not know us yet.
    pub(super) fn connecting(address: SocketAddr, digest: fn(&[u8]) -> T) -> Self {
        Self::serving(digest, move || {
            thread::sleep(POLL_INTERVAL);
            TcpStream::connect(address)
        })
    }

    fn serving(
        digest: fn(&[u8]) -> T,
        connect: impl Fn() -> io::Result<TcpStream> + Send + 'static,
    ) -> Self {
        let (arrived, updates) = channel();
        let (up, established) = channel();
        let deadline = Instant::now() + SESSION_LIMIT;
        thread::spawn(move || {
            let mut was_up = false;
            // The end of the session ends the thread; whoever waits for it sees the channel close.
            while !was_up && Instant::now() < deadline {
                let _ = connect().and_then(|stream| {
                    serve(stream, digest, &arrived, || {
                        was_up = true;
                        let _ = up.send(());
                    })
                });
            }
        });
        Self { updates, established }
    }

    /// Waits until the session is up.
    pub(super) fn wait_until_established(&self) -> Result<(), BenchError> {
        self.established
            .recv_timeout(SESSION_LIMIT)
            .map_err(|_| BenchError::Unexpected("the session did not come up".to_owned()))
    }
}

const MARKER: [u8; 16] = [0xff; 16];

/// Version 4, AS 65001, hold time 90 s, identifier 192.0.2.1, capabilities: IPv4 unicast, IPv4
/// FlowSpec, 4-octet AS.
const OPEN: [u8; 33] = [
    0, 49, 1, 4, 0xfd, 0xe9, 0, 90, 192, 0, 2, 1, 20, 2, 18, 1, 4, 0, 1, 0, 1, 1, 4, 0, 1, 0, 133,
    65, 4, 0, 0, 0xfd, 0xe9,
];

const KEEPALIVE: [u8; 3] = [0, 19, 4];

fn serve<T>(
    mut stream: TcpStream,
    digest: fn(&[u8]) -> T,
    arrived: &Sender<Arrival<T>>,
    mut up: impl FnMut(),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&[&MARKER[..], &OPEN].concat())?;
    let mut reader = io::BufReader::with_capacity(1 << 20, stream.try_clone()?);
    let mut message = Vec::new();
    loop {
        let mut header = [0; 19];
        reader.read_exact(&mut header)?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        message.clear();
        message.extend_from_slice(&header);
        message.resize(length.max(19), 0);
        reader.read_exact(&mut message[19..])?;
        match header[18] {
            1 => stream.write_all(&[&MARKER[..], &KEEPALIVE].concat())?,
            // A receiver that is gone has measured enough.
            2 if arrived.send((Instant::now(), digest(&message))).is_err() => return Ok(()),
            2 => {}
            4 => {
                stream.write_all(&[&MARKER[..], &KEEPALIVE].concat())?;
                up();
            }
            _ => return Ok(()),
        }
    }
}
