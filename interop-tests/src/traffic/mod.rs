//! The traffic generator: every attack vector by name, and the benign traffic around it.

pub mod command;
