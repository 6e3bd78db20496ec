//! The least of a BGP peer: brings the session up, keeps it alive, and notes when what arrived.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{BenchError, system};

/// A session that is not up by then is not going to be.
const SESSION_LIMIT: Duration = Duration::from_secs(15);

/// An UPDATE and when its last octet had been read.
pub(super) type Arrival = (Instant, Vec<u8>);

/// Waits for one session and hands over its UPDATEs undecoded, so that reading is all that the
/// receiving thread does.
pub(super) struct Peer {
    pub(super) updates: Receiver<Arrival>,
    established: Receiver<()>,
}

impl Peer {
    /// Listens on `address` and serves the first session.
    pub(super) fn listen(address: SocketAddr) -> Result<Self, BenchError> {
        let listener = TcpListener::bind(address).map_err(system("listen"))?;
        let (arrived, updates) = channel();
        let (up, established) = channel();
        thread::spawn(move || {
            // The end of the session ends the thread; whoever waits for it sees the channel close.
            let _ = listener.accept().and_then(|(stream, _)| serve(stream, &arrived, &up));
        });
        Ok(Self { updates, established })
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

fn serve(mut stream: TcpStream, arrived: &Sender<Arrival>, up: &Sender<()>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&[&MARKER[..], &OPEN].concat())?;
    let mut reader = io::BufReader::with_capacity(1 << 20, stream.try_clone()?);
    loop {
        let mut header = [0; 19];
        reader.read_exact(&mut header)?;
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut message = header.to_vec();
        message.resize(length.max(19), 0);
        reader.read_exact(&mut message[19..])?;
        match header[18] {
            1 => stream.write_all(&[&MARKER[..], &KEEPALIVE].concat())?,
            // A receiver that is gone has measured enough.
            2 if arrived.send((Instant::now(), message)).is_err() => return Ok(()),
            2 => {}
            4 => {
                stream.write_all(&[&MARKER[..], &KEEPALIVE].concat())?;
                let _ = up.send(());
            }
            _ => return Ok(()),
        }
    }
}
