//! What the fuzz targets do, with their seeds and with every input that once broke one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

#[path = "../../fuzz/src/gate.rs"]
mod gate;
#[path = "../../fuzz/src/inputs.rs"]
mod inputs;
#[path = "../../fuzz/src/peer.rs"]
mod peer;
#[path = "support/safety.rs"]
mod safety;
#[path = "../../fuzz/src/stream.rs"]
mod stream;
#[path = "../../fuzz/src/update.rs"]
mod update;

fn replay(target: &str, run: fn(&[u8])) {
    for (name, input) in inputs::of(target) {
        // The last line before a panic names the input.
        println!("{name}");
        run(&input);
    }
}

#[test]
fn stream() {
    replay("stream", stream::run);
}

#[test]
fn update() {
    replay("update", update::run);
}

#[test]
fn gate() {
    replay("gate", gate::run);
}
