//! Readers that collect events before they are written, each with the time when it is served again.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use sse_pool::ReaderKey;
use tokio::time::Sleep;

/// Which readers are to be served, and when. One timer is for all of them.
#[derive(Default)]
pub(super) struct Due {
    readers: BTreeSet<(Instant, ReaderKey)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Due {
    /// A reader is to be served then. Said twice, it is served once.
    pub(super) fn add(&mut self, then: Instant, reader: ReaderKey) {
        self.readers.insert((then, reader));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Hands on the readers whose time has come at `now`; ready when there were any. The task is woken when the next one's has.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        mut hand_on: impl FnMut(ReaderKey),
    ) -> Poll<()> {
        let mut is_any = false;
        while let Some((then, _)) = self.readers.first() {
            if *then > now {
                let then = (*then).into();
                let timer = self
                    .timer
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(then)));
                if timer.deadline() != then {
                    timer.as_mut().reset(then);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
                // It has come between the two looks at the clock.
            }
            if let Some((_, reader)) = self.readers.pop_first() {
                hand_on(reader);
                is_any = true;
            }
        }
        if self.readers.is_empty() {
            self.timer = None;
        }
        if is_any {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
