//! The services. Each reads a view, or hands an ask over and waits for its answer.

mod incidents;
mod mitigations;
mod network;
mod oversight;
mod reports;
mod stream;

use tonic::{Request, Status};

use super::access::Caller;
use super::link::{AskError, NotOrdered};
use super::serve::Desk;

impl From<AskError> for Status {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Self::resource_exhausted(error.to_string()),
            AskError::Late => Self::deadline_exceeded(error.to_string()),
            AskError::Gone => Self::unavailable(error.to_string()),
        }
    }
}

impl From<NotOrdered> for Status {
    fn from(error: NotOrdered) -> Self {
        use tidegate_policy::OrderRefused as Refused;
        let text = error.to_string();
        match error {
            NotOrdered::Refused(Refused::Unknown(_)) => Self::not_found(text),
            NotOrdered::Refused(
                Refused::Time(_) | Refused::TooLong(_) | Refused::Elsewhere(_) | Refused::NoPeer(_),
            ) => Self::invalid_argument(text),
            NotOrdered::Refused(Refused::TooMany) => Self::resource_exhausted(text),
            NotOrdered::Refused(_) | NotOrdered::Panic => Self::failed_precondition(text),
        }
    }
}

/// Who asks. The gate has let nobody else through.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("nobody knows who asks"))
}

/// Text for the record: what is longer than `most` characters is refused by whoever keeps it, and
/// control characters are shown, not sent.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let hidden = character.is_control();
            let escaped = hidden.then(|| character.escape_default());
            let shown = (!hidden).then_some(character);
            escaped.into_iter().flatten().chain(shown)
        })
        .collect()
}

impl Desk {
    fn wall(&self) -> crate::clock::WallOrigin {
        self.clock.wall()
    }

    /// A place among those who watch.
    fn watch_place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        std::sync::Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted("too many clients watch already; end one, or list instead")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(plain("für später"), "für später");
    }
}
