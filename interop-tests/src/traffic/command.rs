//! The `traffic` subcommand.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;
use tidegate_model::Timestamp;

use super::stream::KEYS;
use super::transmit::{Sent, TransmitError, Transmitter};
use super::{CaptureWriter, LinkAddresses, MacAddress, Scenario, Stream, names};

/// Generates traffic into a capture file or onto an interface.
///
/// The same seed and streams give the same bytes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: tidegate-lab traffic --seed 7 --write out.pcap \
--stream 'benign,target=203.0.113.10,rate=2k,for=10s' \
--stream 'syn-flood,target=203.0.113.10,rate=50k,start=3s,for=4s'")]
pub struct Arguments {
    /// Lists what a stream may begin with, and its keys.
    #[arg(long, exclusive = true)]
    list: bool,

    /// Decides everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// One stream: a vector or mixture, then key=value pairs; may be given again.
    #[arg(long = "stream", value_name = "STREAM", required_unless_present = "list")]
    streams: Vec<Stream>,

    /// Writes a capture file in the pcap format.
    #[arg(long, value_name = "FILE", conflicts_with = "interface")]
    write: Option<PathBuf>,

    /// Sends onto this interface, each packet when it is due.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["write", "list"])]
    interface: Option<String>,

    /// Destination MAC address of the frames.
    #[arg(long, value_name = "MAC", default_value = "ff:ff:ff:ff:ff:ff")]
    destination_mac: MacAddress,

    /// Source MAC address of the frames.
    #[arg(long, value_name = "MAC", default_value = "02:74:69:64:65:01")]
    source_mac: MacAddress,

    /// Octets of each frame that a capture file keeps.
    #[arg(long, default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(1..))]
    snaplen: u32,

    /// Prints the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Transmit(#[from] TransmitError),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// Runs the subcommand. Exit code 2 says that it could not do what it was asked.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.list {
        return list();
    }
    let done = match (&arguments.write, &arguments.interface) {
        (Some(path), _) => write(arguments, path),
        (None, Some(interface)) => send(arguments, interface),
        (None, None) => return ExitCode::from(2),
    };
    match done {
        Ok(report) => {
            // A closed pipe is no failure of the command.
            let _ = writeln!(io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let source = std::error::Error::source(&error)
                .map_or_else(String::new, |source| format!(": {source}"));
            let _ = writeln!(io::stderr(), "error: {error}{source}");
            ExitCode::from(2)
        }
    }
}

fn list() -> ExitCode {
    let mut text = String::from("Streams:\n");
    for (name, meaning) in names() {
        text.push_str(&format!("  {name:<30} {meaning}\n"));
    }
    text.push_str("\nKeys:\n");
    for (key, meaning) in KEYS {
        text.push_str(&format!("  {key:<30} {meaning}\n"));
    }
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn scenario(arguments: &Arguments) -> Scenario {
    let link =
        LinkAddresses { destination: arguments.destination_mac, source: arguments.source_mac };
    arguments
        .streams
        .iter()
        .cloned()
        .fold(Scenario::new(arguments.seed).on_link(link), Scenario::with)
}

fn write(arguments: &Arguments, path: &Path) -> Result<String, CommandError> {
    let fail = |source| CommandError::Write { path: path.to_owned(), source };
    let mut writer = CaptureWriter::create(path, arguments.snaplen).map_err(fail)?;
    let mut packets = scenario(arguments).packets();
    let (mut count, mut bytes, mut last) = (0_u64, 0_u64, Timestamp::ZERO);
    while let Some(packet) = packets.next_packet() {
        writer.write(packet.time, packet.frame).map_err(fail)?;
        count += 1;
        bytes += packet.frame.len() as u64;
        last = packet.time;
    }
    writer.finish().map_err(fail)?;
    let span = last.since(Timestamp::ZERO);
    Ok(if arguments.json {
        let seconds = span.as_secs_f64();
        json!({"file": path, "packets": count, "bytes": bytes, "seconds": seconds}).to_string()
    } else {
        format!(
            "wrote {count} packets, {bytes} octets, {:.3} s of traffic to {}",
            span.as_secs_f64(),
            path.display()
        )
    })
}

fn send(arguments: &Arguments, interface: &str) -> Result<String, CommandError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(CommandError::Signals)?;
    }
    let transmitter = Transmitter::open(interface)?;
    let sent = transmitter.send(&mut scenario(arguments).packets(), &stop)?;
    Ok(report(&sent, interface, arguments.json))
}

fn report(sent: &Sent, interface: &str, json: bool) -> String {
    let seconds = sent.elapsed.max(Duration::from_nanos(1)).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (rate, bits) = (sent.packets as f64 / seconds, sent.bytes as f64 * 8.0 / seconds);
    if json {
        json!({
            "interface": interface,
            "packets": sent.packets,
            "bytes": sent.bytes,
            "seconds": seconds,
            "packets_per_second": rate,
            "bits_per_second": bits,
            "latest_seconds": sent.latest.as_secs_f64(),
            "stopped": sent.stopped,
        })
        .to_string()
    } else {
        format!(
            "sent {} packets, {} octets in {seconds:.3} s onto {interface}: {rate:.0} packets/s, \
             {:.1} Mbit/s, at most {:.1} ms late{}",
            sent.packets,
            sent.bytes,
            bits / 1e6,
            sent.latest.as_secs_f64() * 1e3,
            if sent.stopped { ", stopped before the end" } else { "" },
        )
    }
}
