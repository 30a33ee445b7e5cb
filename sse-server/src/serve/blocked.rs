//! Answers that hyper writes to a client that takes nothing.
//!
//! hyper asks a stream for more only when there is room for it. A stream whose client leaves it no room can therefore not
//! tell that it was closed. So whoever drives hyper looks now and then: a stream that is closed, and of which nothing
//! more is taken for the send timeout, is given up. It may be only slow, and its last words are still to be read. Any other
//! answer is given up once its client has taken nothing of it for the send timeout.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use sse_pool::ConnectionId;
use tokio::time::Sleep;

use crate::access::Busy;
use crate::http::Body;
use crate::hub::Hub;

/// How far an answer is, as hyper and its socket see it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stream: Mutex<Option<ConnectionId>>,
    has_stream: AtomicBool,
    /// The stream's last word was a chunk and not "nothing yet": then it is the client that is waited for.
    has_spoken: AtomicBool,
    /// The socket did not take the last write: hyper holds bytes that the client does not take.
    is_write_pending: AtomicBool,
    /// How often something went on: the stream was asked for more, or the socket has taken something.
    steps: AtomicU64,
}

impl Watch {
    /// Watches the stream in a body, if there is one. Its socket is at work until the body is gone.
    pub(super) fn body(self: Arc<Self>, body: Body, busy: Busy) -> WatchedBody {
        if let Some(id) = body.connection_id() {
            *self.stream.lock() = Some(id);
            self.has_stream.store(true, Ordering::Relaxed);
        }
        WatchedBody {
            body,
            watch: self,
            _busy: busy,
        }
    }

    /// Something went on.
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether the socket has taken a write.
    pub(super) fn wrote(&self, is_pending: bool) {
        self.is_write_pending.store(is_pending, Ordering::Relaxed);
        if !is_pending {
            self.step();
        }
    }

    /// Whether the socket did not take the last write.
    pub(super) fn is_write_pending(&self) -> bool {
        self.is_write_pending.load(Ordering::Relaxed)
    }

    fn is_blocked(&self) -> bool {
        let has_spoken = || self.has_spoken.load(Ordering::Relaxed);
        self.is_write_pending() || (self.has_stream.load(Ordering::Relaxed) && has_spoken())
    }

    /// Whether nobody else ends the answer: it is no stream, or one that was closed. Its last words may be still to be written.
    fn is_left_alone(&self, hub: &Hub) -> bool {
        let stream = self.stream.lock().clone();
        stream.is_none_or(|id| hub.connection_status(&id).is_none())
    }
}

/// A body that notes whether it has nothing to say.
pub(super) struct WatchedBody {
    body: Body,
    watch: Arc<Watch>,
    /// Its socket is at work.
    _busy: Busy,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.watch.step();
        self.watch
            .has_spoken
            .store(frame.is_ready(), Ordering::Relaxed);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks at a [`Watch`] as long as its answer is blocked.
#[derive(Default)]
pub(super) struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    /// The steps at the last look, if nobody else ended the answer then.
    steps: Option<u64>,
    /// For how long nothing has gone on.
    lasting: Duration,
}

impl Patience {
    /// Ready when the answer is to be given up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, watch: &Watch, hub: &Hub) -> Poll<()> {
        if !watch.is_blocked() {
            *self = Self::default();
            return Poll::Pending;
        }
        loop {
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_INTERVAL)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            let steps = watch
                .is_left_alone(hub)
                .then(|| watch.steps.load(Ordering::Relaxed));
            if steps.is_some() && self.steps == steps {
                self.lasting += LOOK_INTERVAL;
            } else {
                self.lasting = Duration::ZERO;
            }
            self.steps = steps;
            if self.lasting >= hub.config().send_timeout {
                return Poll::Ready(());
            }
        }
    }
}

/// How often a blocked answer is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
