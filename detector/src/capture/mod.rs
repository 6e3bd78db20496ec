//! Capture drivers.
