#![no_main]

#[path = "../src/gate.rs"]
mod gate;
#[path = "../../bgpd/tests/support/safety.rs"]
mod safety;

libfuzzer_sys::fuzz_target!(|input: &[u8]| gate::run(input));
