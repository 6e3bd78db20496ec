//! Open libpcap handles, and the packets that come out of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pcap::{Active, Capture, Precision};

use super::link_state::{LinkProbe, LinkState};
use super::options::LiveOptions;
use super::packet_socket::{Fanout, take_statistics};
use super::worker::FIRST_GENERATION;
use super::{ANY, BATCH, BLOCK_TIMEOUT, Feed, interfaces};
use crate::capture::CaptureError;
use crate::packet::LinkType;

/// An open libpcap handle: the part of an interface's packets that one worker takes.
pub(super) struct Attachment {
    capture: Capture<Active>,
    link: LinkType,
    /// Index of the interface; zero for [`ANY`].
    pub(super) index: u32,
    /// Which of the groups that were opened on the interface one after the other it belongs to.
    pub(super) generation: u64,
    /// Nothing that is in the ring belongs to this worker alone: the group was not complete yet.
    pub(super) unsettled: bool,
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }
}

impl Attachment {
    /// Opens `interface` once for each worker.
    pub(super) fn open_group(
        interface: &str,
        options: &LiveOptions,
        probe: &LinkProbe,
    ) -> Result<Vec<Self>, CaptureError> {
        let fail = |error: io::Error| live_error(interface, format!("cannot share it: {error}"));
        let workers = options.workers.get();
        let mut group: Vec<Self> = Vec::with_capacity(workers.into());
        let mut fanout = None;
        for _ in 0..workers {
            let mut attachment = Self::open(interface, options, probe)?;
            if workers > 1 {
                match fanout {
                    None => fanout = Some(Fanout::found(attachment.as_fd()).map_err(fail)?),
                    Some(fanout) => Fanout::join(fanout, attachment.as_fd()).map_err(fail)?,
                }
                attachment.unsettled = true;
            }
            group.push(attachment);
        }
        Ok(group)
    }

    /// Opens `interface`.
    fn open(
        interface: &str,
        options: &LiveOptions,
        probe: &LinkProbe,
    ) -> Result<Self, CaptureError> {
        let state = probe.state(interface);
        let index = match state.index() {
            Some(index) => index,
            None if interface == ANY => 0,
            None => {
                let existing = interfaces::existing(probe);
                return Err(CaptureError::NoInterface { name: interface.to_owned(), existing });
            }
        };
        let mut capture = activate(interface, options, state)?;
        let number = capture.get_datalink().0;
        let link = LinkType::from_dlt(number).ok_or_else(|| CaptureError::InterfaceLinkType {
            interface: interface.to_owned(),
            number,
        })?;
        if let Some(filter) = &options.filter {
            capture.filter(filter, true).map_err(|error| CaptureError::Filter {
                filter: filter.clone(),
                message: text(&error),
            })?;
        }
        let capture = capture.setnonblock().map_err(|error| live_error(interface, text(&error)))?;
        Ok(Self { capture, link, index, generation: FIRST_GENERATION, unsettled: false })
    }

    /// Feeds what is in the ring, at most [`BATCH`] packets, and returns how many there were.
    /// `number` is the interface's.
    pub(super) fn observe(&mut self, number: u16, feed: &mut Feed) -> Result<usize, pcap::Error> {
        if self.unsettled {
            return self.capture.dispatch(Some(BATCH), |_| {});
        }
        let link = self.link;
        self.capture.dispatch(Some(BATCH), |packet| feed.observe(number, link, &packet))
    }

    /// Packets received, dropped ones included, and dropped, since it was last asked.
    pub(super) fn take_statistics(&self) -> (u64, u64) {
        let (received, dropped) = take_statistics(self.capture.as_fd()).unwrap_or((0, 0));
        (received.into(), dropped.into())
    }
}

fn activate(
    interface: &str,
    options: &LiveOptions,
    state: LinkState,
) -> Result<Capture<Active>, CaptureError> {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let open = |promiscuous| {
        Capture::from_device(interface)?
            .snaplen(number(options.snap_length))
            .buffer_size(number(options.buffer_each()))
            .promisc(promiscuous)
            .immediate_mode(false)
            .timeout(i32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(1))
            // Every packet socket of Linux has them.
            .precision(Precision::Nano)
            .open()
    };
    // `any` cannot be promiscuous, and the crate takes libpcap's warning for an error.
    open(options.promiscuous && interface != ANY).map_err(|error| {
        let message = text(&error);
        let lower = message.to_lowercase();
        if lower.contains("permi") || lower.contains("cap_net_raw") {
            CaptureError::NotPermitted { interface: interface.to_owned() }
        } else if matches!(state, LinkState::Down { .. }) {
            let message = format!("it is down; `ip link set {interface} up` brings it up");
            live_error(interface, message)
        } else {
            live_error(interface, message)
        }
    })
}

pub(super) fn live_error(interface: &str, message: String) -> CaptureError {
    CaptureError::Live { interface: interface.to_owned(), message }
}

/// What libpcap says, without the crate's prefix.
fn text(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    }
}
