//! The one netlink socket: transactions and dumps.
//!
//! The kernel carries out a request while it is being sent, and all answers are in the socket's
//! buffer when sending returns. The socket is therefore never waited for: no answer means trouble.

#![deny(clippy::indexing_slicing)]

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::KernelError;
use super::message::{ACK, DUMP_INTERRUPTED, Message, TYPE_DONE, TYPE_ERROR, Writer, messages};
use super::ruleset::{
    Change, ReportedRule, read_rule, write_batch_begin, write_batch_end, write_dump,
};

/// Room for one answer of the kernel, which sends dumps in pieces of at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Answers that wait in the socket, in octets as the kernel counts them.
const ANSWERS_BUFFER: u32 = 1024 * 1024;
/// A dump that is interrupted by changes this often is given up.
const DUMP_ATTEMPTS: u32 = 5;

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Transaction {
    /// Everything was done; these rules were added.
    Done(Vec<ReportedRule>),
    /// Nothing was done: the error number of each change that was refused, by its index.
    Refused(Vec<(usize, i32)>),
}

/// A netlink socket that owns what it creates.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    pub(crate) fn open() -> Result<Self, KernelError> {
        let error = |operation| move |source| KernelError::Socket { operation, source };
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(error("open"))?;
        socket.bind_auto().map_err(error("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(error("connect"))?;
        socket.set_non_blocking(true).map_err(error("set non-blocking"))?;
        // More answers fit, if the system allows; if not, the default does too.
        drop(socket.set_rx_buf_sz(ANSWERS_BUFFER));
        // Errors without a copy of the request, so that many of them fit the buffer.
        socket.set_cap_ack(true).map_err(error("set options of"))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BUFFER) })
    }

    /// Makes all of `changes`, or none.
    pub(crate) fn transact(&mut self, changes: &[Change]) -> Result<Transaction, KernelError> {
        if changes.is_empty() {
            return Ok(Transaction::Done(vec![]));
        }
        let begin = self.next_sequence();
        let mut writer = Writer::default();
        write_batch_begin(&mut writer, begin);
        let mut last = begin;
        for (index, change) in changes.iter().enumerate() {
            let flags = if index + 1 == changes.len() { ACK } else { 0 };
            last = self.next_sequence();
            change.write(&mut writer, flags, last);
        }
        let end = self.next_sequence();
        write_batch_end(&mut writer, end);
        self.send(writer.octets())?;

        let mut refused = vec![];
        let mut rules = vec![];
        let mut acknowledged = false;
        while !acknowledged {
            let received = self.receive()?;
            for message in messages(received) {
                rules.extend(read_rule(&message));
                let Some(error) = message.error() else { continue };
                if message.sequence == begin && error == PERMISSION {
                    return Err(KernelError::Permission);
                }
                // Of an older request that was given up.
                if message.sequence.wrapping_sub(begin) > end.wrapping_sub(begin) {
                    continue;
                }
                acknowledged |= message.sequence == last;
                let index = message.sequence.wrapping_sub(begin).checked_sub(1);
                let index = index.and_then(|index| usize::try_from(index).ok());
                match index {
                    _ if error == 0 => {}
                    Some(index) if index < changes.len() => refused.push((index, error)),
                    _ => return Err(KernelError::transaction(error)),
                }
            }
        }
        Ok(if refused.is_empty() {
            Transaction::Done(rules)
        } else {
            Transaction::Refused(refused)
        })
    }

    /// Every rule of ours.
    pub(crate) fn dump(&mut self) -> Result<Vec<ReportedRule>, KernelError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(rules) = self.dump_once()? {
                return Ok(rules);
            }
        }
        Err(KernelError::Interrupted)
    }

    /// `None` if the rules changed meanwhile.
    fn dump_once(&mut self) -> Result<Option<Vec<ReportedRule>>, KernelError> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        write_dump(&mut writer, sequence);
        self.send(writer.octets())?;
        let mut rules = vec![];
        let mut interrupted = false;
        loop {
            let received = self.receive()?;
            for message in messages(received).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message {
                    Message { kind: TYPE_DONE, .. } => {
                        return Ok(Some(rules).filter(|_| !interrupted));
                    }
                    Message { kind: TYPE_ERROR, .. } => {
                        return Err(KernelError::transaction(message.error().unwrap_or(0)));
                    }
                    _ => rules.extend(read_rule(&message)),
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, octets: &[u8]) -> Result<(), KernelError> {
        let sent = self.socket.send(octets, 0);
        let error = |source| KernelError::Socket { operation: "write to", source };
        let sent = sent.map_err(error)?;
        if sent == octets.len() { Ok(()) } else { Err(KernelError::NoAnswer) }
    }

    fn receive(&mut self) -> Result<&[u8], KernelError> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer, 0) {
            Ok(_) => Ok(&self.buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(KernelError::NoAnswer),
            Err(source) => Err(KernelError::Socket { operation: "read from", source }),
        }
    }
}

/// `EPERM`
pub(crate) const PERMISSION: i32 = 1;
/// `ENOENT`
pub(crate) const NO_SUCH_ENTRY: i32 = 2;
/// `EEXIST`
pub(crate) const EXISTS: i32 = 17;
