//! The column of BIRD in the matrix of `tidegate-lab interop`: every case, in both families.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

mod common;

use std::path::Path;

use tidegate_interop_tests::interop::{Case, Cell, PeerKind, run_column};
use tidegate_interop_tests::lab::{Lab, require};

#[test]
fn bird_holds_what_is_announced_and_nothing_else() {
    let test = "bird_holds_what_is_announced_and_nothing_else";
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate-lab"));
    for needed in ["bird", "birdc"] {
        let Some(_) = require::or_skip(test, require::program(needed)) else { return };
    }
    let Some(_) = require::or_skip(test, Lab::new()) else { return };
    let _turn = common::Turn::wait();
    let column =
        run_column(program, PeerKind::Bird, |_, _, _| {}).unwrap_or_else(|error| panic!("{error}"));
    let bad: Vec<String> = column
        .cells
        .iter()
        .filter(|(_, cell)| *cell != Cell::Ok)
        .map(|(case, cell)| format!("{case}: {} {:?}", cell.word(), cell.why()))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let run: Vec<Case> = column.cells.iter().map(|(case, _)| *case).collect();
    assert_eq!(run, Case::all());
}
