//! What a capture has received and lost.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals of one interface since the capture was opened, over all workers. Updated at the end of
/// each tick; those of the interface's own drops every second.
#[derive(Debug)]
pub struct Counters {
    interface: String,
    received: AtomicU64,
    kernel_dropped: AtomicU64,
    interface_dropped: AtomicU64,
    attachments: AtomicU64,
}

impl Counters {
    pub(super) fn new(interface: &str) -> Self {
        Self {
            interface: interface.to_owned(),
            received: AtomicU64::new(0),
            kernel_dropped: AtomicU64::new(0),
            interface_dropped: AtomicU64::new(0),
            attachments: AtomicU64::new(1),
        }
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Packets that the kernel handed to the capture, with those that found no room in the ring.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Packets that found no room in the ring.
    #[must_use]
    pub fn kernel_dropped(&self) -> u64 {
        self.kernel_dropped.load(Ordering::Relaxed)
    }

    /// Packets that the interface or its driver dropped for want of room.
    #[must_use]
    pub fn interface_dropped(&self) -> u64 {
        self.interface_dropped.load(Ordering::Relaxed)
    }

    /// How many times the interface has been opened: more than once if it was lost.
    #[must_use]
    pub fn attachments(&self) -> u64 {
        self.attachments.load(Ordering::Relaxed)
    }

    pub(super) fn add_received(&self, received: u64, dropped: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.kernel_dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    pub(super) fn add_interface_dropped(&self, dropped: u64) {
        self.interface_dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    pub(super) fn add_attachment(&self) {
        self.attachments.fetch_add(1, Ordering::Relaxed);
    }
}
