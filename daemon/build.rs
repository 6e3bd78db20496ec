//! Compiles the interface of the API. Needs no `protoc`: protox reads the files.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const INTERFACE: &str = "tidegate/v1/tidegate.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile([INTERFACE], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For reflection, for JSON, and for the test that compares it with what was published.
    fs::write(out.join("tidegate.v1.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
