//! Streams from a function of what came before.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

type Step<S, T> = Pin<Box<dyn Future<Output = Option<(T, S)>> + Send>>;

struct Unfold<S, T, F> {
    next: F,
    /// The step that is under way; `None` after the end.
    step: Option<Step<S, T>>,
}

/// A stream of what `next` makes of its state, until it makes nothing. Nothing is made before it is
/// asked for: a client that reads nothing costs nothing.
pub(super) fn unfold<S, T, F, N>(state: S, next: F) -> Pin<Box<dyn Stream<Item = T> + Send>>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Fn(S) -> N + Send + Unpin + 'static,
    N: Future<Output = Option<(T, S)>> + Send + 'static,
{
    let next = move |state| -> Step<S, T> { Box::pin(next(state)) };
    let step = Some(next(state));
    Box::pin(Unfold { next, step })
}

impl<S, T, F> Stream for Unfold<S, T, F>
where
    F: Fn(S) -> Step<S, T> + Unpin,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(step) = &mut self.step else { return Poll::Ready(None) };
        match step.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.step = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((item, state))) => {
                self.step = Some((self.next)(state));
                Poll::Ready(Some(item))
            }
        }
    }
}
