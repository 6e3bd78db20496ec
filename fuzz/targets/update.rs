#![no_main]

#[path = "../src/peer.rs"]
mod peer;
#[path = "../src/update.rs"]
mod update;

libfuzzer_sys::fuzz_target!(|input: &[u8]| update::run(input));
