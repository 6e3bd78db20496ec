//! Commands on their way to the task of a backend.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_model::{Command, CommandKind, Nlri};
use tokio::sync::Notify;

/// Announcements that wait. What does not fit fails at once, to be tried again.
const MOST_ANNOUNCES: usize = 16_384;
/// Withdraws that wait, which need room of their own: announcements that a stuck daemon does not
/// take must not keep them out. More than the ledger can ask for.
const MOST_WITHDRAWS: usize = 65_536;

/// Of each NLRI the last command; withdraws apart.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    withdraws: BTreeMap<Nlri, Command>,
    announces: BTreeMap<Nlri, Command>,
    observe: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.withdraws.is_empty() && self.announces.is_empty() && !self.observe
    }
}

impl Mailbox {
    /// Puts `command` in, in place of an earlier one for the same NLRI.
    ///
    /// # Errors
    /// The command, if there is no room for it.
    pub(super) fn put(&self, command: Command) -> Result<(), Box<Command>> {
        let mut waiting = self.waiting();
        let Waiting { withdraws, announces, .. } = &mut *waiting;
        let (to, other, most) = match command.kind {
            CommandKind::Announce { .. } => (announces, withdraws, MOST_ANNOUNCES),
            CommandKind::Withdraw(_) => (withdraws, announces, MOST_WITHDRAWS),
        };
        if to.len() >= most && !to.contains_key(command.nlri()) {
            return Err(Box::new(command));
        }
        other.remove(command.nlri());
        to.insert(command.nlri().clone(), command);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Asks for a look at what the daemon holds.
    pub(super) fn observe(&self) {
        self.waiting().observe = true;
        self.filled.notify_one();
    }

    /// Waits until there is something to do. Nothing is lost if it is not waited for.
    pub(super) async fn filled(&self) {
        while self.waiting().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Every withdraw that waits.
    pub(super) fn take_withdraws(&self) -> Vec<Command> {
        std::mem::take(&mut self.waiting().withdraws).into_values().collect()
    }

    /// At most `most` announcements; none while a withdraw waits.
    pub(super) fn take_announces(&self, most: usize) -> Vec<Command> {
        let mut waiting = self.waiting();
        if !waiting.withdraws.is_empty() {
            return Vec::new();
        }
        let taken = std::iter::from_fn(|| waiting.announces.pop_first());
        taken.take(most).map(|(_, command)| command).collect()
    }

    /// Whether a look was asked for since the last call.
    pub(super) fn take_observe(&self) -> bool {
        std::mem::take(&mut self.waiting().observe)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked with it in hand left whole maps.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tidegate_model::{BackendId, CommandId, Prefix, Route};

    fn command(id: u64, host: u32, announce: bool) -> Command {
        let nlri = Nlri::Unicast(Prefix::host(std::net::Ipv4Addr::from(host).into()));
        let route = Route {
            nlri: nlri.clone(),
            next_hop: None,
            communities: [].into(),
            large_communities: [].into(),
            actions: vec![],
        };
        let kind = if announce {
            CommandKind::Announce { route, lease: Duration::ZERO }
        } else {
            CommandKind::Withdraw(nlri)
        };
        Command { id: CommandId(id), backend: BackendId::Kernel, kind }
    }

    fn numbers(commands: &[Command]) -> Vec<u64> {
        commands.iter().map(|command| command.id.0).collect()
    }

    #[test]
    fn the_last_command_for_a_route_counts() {
        let mailbox = Mailbox::default();
        for (id, host, announce) in
            [(1, 1, true), (2, 1, false), (3, 2, false), (4, 2, true), (5, 3, true), (6, 3, true)]
        {
            mailbox.put(command(id, host, announce)).unwrap();
        }
        assert_eq!(mailbox.take_announces(9), []);
        assert_eq!(numbers(&mailbox.take_withdraws()), [2]);
        assert_eq!(numbers(&mailbox.take_announces(1)), [4]);
        assert_eq!(numbers(&mailbox.take_announces(9)), [6]);
        assert!(mailbox.waiting().is_empty());
    }

    #[test]
    fn announcements_that_nobody_takes_leave_room_for_withdraws() {
        let mailbox = Mailbox::default();
        let mut full = None;
        for host in 0..=u32::try_from(MOST_ANNOUNCES).unwrap() {
            full = mailbox.put(command(1, host, true)).err();
        }
        assert!(full.is_some());
        mailbox.put(command(2, 7, true)).unwrap();
        mailbox.put(command(3, 9, false)).unwrap();
        assert_eq!(numbers(&mailbox.take_withdraws()), [3]);
    }
}
