//! A handler that panics is an error of the hub's: its own request gets a 500, and the connection's others go on.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use http::StatusCode;

use super::problem::Problem;

/// It panicked.
pub(super) struct Panicked;

/// What the future gives, unless it panics. What it held is dropped then, and nothing of it is looked at again; locks are
/// given back by their guards.
pub(super) async fn contained<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => {
                tracing::error!("a request's handler panicked");
                Poll::Ready(Err(Panicked))
            }
        }
    })
    .await
}

/// What its client is told.
pub(super) fn problem() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the hub failed on this request by a fault of its own, which its log tells; whether the request was carried out is not known",
    )
}
