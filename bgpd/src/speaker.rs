//! The speaker: every peer's session and Adj-RIB-Out behind one handle.
