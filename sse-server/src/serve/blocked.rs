//! Streams that hyper writes to a client that takes nothing.
//!
//! hyper asks a stream for more only when there is room for it. A stream whose client leaves it no room can therefore not
//! tell that it was closed. So whoever drives hyper looks now and then: a stream that is closed, and of which nothing
//! more is taken for the send timeout, is given up. It may be only slow, and its last words are still to be read.

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

use crate::http::Body;
use crate::hub::Hub;

/// How far a stream is, as hyper and its socket see it. Without a stream it is never blocked.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stream: Mutex<Option<ConnectionId>>,
    has_stream: AtomicBool,
    /// The stream's last word was a chunk and not "nothing yet": then it is the client that is waited for.
    has_spoken: AtomicBool,
    /// How often something went on: the stream was asked for more, or the socket has taken something.
    steps: AtomicU64,
}

impl Watch {
    /// Watches the stream in a body, if there is one.
    pub(super) fn body(self: Arc<Self>, body: Body) -> WatchedBody {
        if let Some(id) = body.connection_id() {
            *self.stream.lock() = Some(id);
            self.has_stream.store(true, Ordering::Relaxed);
        }
        WatchedBody { body, watch: self }
    }

    /// The socket has taken something.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn is_blocked(&self) -> bool {
        self.has_stream.load(Ordering::Relaxed) && self.has_spoken.load(Ordering::Relaxed)
    }

    /// Whether the stream was closed meanwhile. Its last words may be still to be written.
    fn is_closed(&self, hub: &Hub) -> bool {
        let stream = self.stream.lock().clone();
        stream.is_some_and(|id| hub.connection_status(&id).is_none())
    }
}

/// A body that notes whether it has nothing to say.
pub(super) struct WatchedBody {
    body: Body,
    watch: Arc<Watch>,
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

/// Looks at a [`Watch`] as long as its stream is blocked.
#[derive(Default)]
pub(super) struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    /// The steps at the last look, if the stream was closed by then.
    steps: Option<u64>,
    /// For how long nothing has gone on since the stream was closed.
    lasting: Duration,
}

impl Patience {
    /// Ready when the stream is to be given up.
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
                .is_closed(hub)
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

/// How often a blocked stream is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
