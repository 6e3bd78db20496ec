#![no_main]

#[path = "../src/peer.rs"]
mod peer;
#[path = "../src/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|input: &[u8]| stream::run(input));
