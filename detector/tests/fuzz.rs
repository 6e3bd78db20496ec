//! What the fuzz targets do, with their seeds and with every input that once broke one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

#[cfg(feature = "capture")]
#[path = "../../fuzz/src/capture.rs"]
mod capture;
#[path = "../../fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../fuzz/src/packet.rs"]
mod packet;

fn replay(target: &str, run: fn(&[u8])) {
    for (name, input) in inputs::of(target) {
        // The last line before a panic names the input.
        println!("{name}");
        run(&input);
    }
}

#[test]
fn packet() {
    replay("packet", packet::run);
}

#[cfg(feature = "capture")]
#[test]
fn capture() {
    replay("capture", capture::run);
}
