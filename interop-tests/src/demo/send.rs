//! The sender of the demonstration: the generator onto an interface, and the time of its beginning.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::traffic::transmit::{TransmitError, Transmitter};
use crate::traffic::{Scenario, Stream};

/// Decides everything that is random in the demonstration's traffic.
const SEED: u64 = 1;

/// Sends `stream` to its end; says on standard output when the first packet leaves.
pub(super) fn run(stream: &Stream, interface: &str) -> ExitCode {
    match send(stream, interface) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn send(stream: &Stream, interface: &str) -> Result<(), TransmitError> {
    let transmitter = Transmitter::open(interface)?;
    let mut packets = Scenario::new(SEED).with(stream.clone()).packets();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = now.as_nanos() + u128::from(packets.next_time().unwrap_or_default().as_nanos());
    let line = json!({ "event": "first-packet", "time_ns": u64::try_from(first).ok() });
    // Nobody who reads it: nobody who misses it.
    let _ = writeln!(io::stdout(), "{line}");
    transmitter.send(&mut packets, &AtomicBool::new(false)).map(|_| ())
}
