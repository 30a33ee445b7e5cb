//! Answers that hyper writes to a client that takes nothing.
//!
//! hyper asks a stream for more only when there is room for it. A stream whose client leaves it no room can therefore not
//! tell that it was closed. So whoever drives hyper looks now and then: a stream that is closed, and of which nothing
//! more is taken for the send timeout, is given up. It may be only slow, and its last words are still to be read. Whatever else
//! hyper holds is given up once the client has taken nothing of it for the send timeout: an answer, what a stream over HTTP/2 has
//! said, and all that goes through a socket over HTTP/2.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use sse_pool::ReaderKey;
use tokio::time::Sleep;

use crate::access::Busy;
use crate::access::budget::Account;
use crate::clock;
use crate::http::Body;
use crate::hub::{Hub, Reader};

/// How far an answer is, as hyper and its socket see it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stream: Mutex<Option<ReaderKey>>,
    /// hyper asks for more as soon as the client leaves room for it: of a stream, and over HTTP/2 of every answer.
    asks_for_more: AtomicBool,
    /// The answer's last word was a chunk and not "nothing yet": then it is the client that is waited for.
    has_spoken: AtomicBool,
    /// The socket did not take the last write: hyper holds bytes that the client does not take.
    is_write_pending: AtomicBool,
    /// What hyper holds of an answer over HTTP/2.
    unsent_bytes: AtomicUsize,
    /// How often something went on: the answer was asked for more, or the socket has taken something.
    steps: AtomicU64,
}

impl Watch {
    /// For one request over HTTP/2 and its answer.
    pub(super) fn exchange() -> Self {
        Self {
            asks_for_more: AtomicBool::new(true),
            ..Self::default()
        }
    }

    /// Watches the stream in a body, if there is one. Its socket is at work until the body is gone.
    pub(super) fn body(self: Arc<Self>, body: Body, busy: Busy) -> WatchedBody {
        if let Some(key) = body.reader_key() {
            *self.stream.lock() = Some(key);
            self.asks_for_more.store(true, Ordering::Relaxed);
        }
        WatchedBody {
            body,
            watch: self,
            _busy: busy,
        }
    }

    /// Something went on.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether the socket has taken a write or is rid of what it took before, and whether any of that has gone on to the peer.
    pub(super) fn wrote(&self, is_pending: bool, has_passed_on: bool) {
        let was_pending = self.is_write_pending.swap(is_pending, Ordering::Relaxed);
        // Looking at a socket that has nothing to do is no step.
        if has_passed_on || (was_pending && !is_pending) {
            self.step();
        }
    }

    /// Whether the socket did not take the last write.
    pub(super) fn is_write_pending(&self) -> bool {
        self.is_write_pending.load(Ordering::Relaxed)
    }

    /// hyper was given so many bytes over HTTP/2.
    pub(super) fn hand_over(&self, bytes: usize) {
        self.step();
        self.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has passed so many of them on, or thrown them away.
    pub(super) fn pass_on(&self, bytes: usize) {
        self.step();
        self.unsent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn has_unsent_bytes(&self) -> bool {
        self.unsent_bytes.load(Ordering::Relaxed) > 0
    }

    fn is_blocked(&self) -> bool {
        let has_spoken = || self.has_spoken.load(Ordering::Relaxed);
        let waits_for_room = || self.asks_for_more.load(Ordering::Relaxed) && has_spoken();
        self.is_write_pending() || self.has_unsent_bytes() || waits_for_room()
    }

    /// The reader of the stream, if the answer is one and was not closed.
    fn open_reader<'a>(&self, hub: &'a Hub) -> Option<Reader<'a>> {
        let key = (*self.stream.lock())?;
        let reader = Reader { hub, key };
        reader.is_open().then_some(reader)
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
    /// The steps at the last look.
    steps: Option<u64>,
    /// For how long nothing has gone on.
    lasting: Duration,
}

impl Patience {
    /// Ready when all that goes through a socket is to be given up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, watch: &Watch, hub: &Hub) -> Poll<()> {
        self.look(cx, watch, hub, |_| hub.config().send_timeout)
    }

    /// Ready when one answer is to be given up. It has less time where others wait for the memory that it holds, unless it is a
    /// stream.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        hub: &Hub,
        patience: impl Fn() -> Duration,
    ) -> Poll<()> {
        self.look(cx, watch, hub, |is_stream| match is_short(hub) {
            true if !is_stream => patience().min(STANDSTILL),
            _ => patience(),
        })
    }

    /// Ready when nothing has gone on for as long as the patience for a stream, or for something else.
    fn look(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        hub: &Hub,
        patience: impl Fn(bool) -> Duration,
    ) -> Poll<()> {
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
            let steps = watch.steps.load(Ordering::Relaxed);
            let before = self.steps.replace(steps);
            let stands_still = before == Some(steps);
            let reader = watch.open_reader(hub);
            // A stream that is open and of which hyper holds nothing is the pool's to judge.
            if stands_still && (reader.is_none() || watch.has_unsent_bytes()) {
                self.lasting += LOOK_INTERVAL;
            } else {
                self.lasting = Duration::ZERO;
            }
            match reader {
                // Slow, but alive: the sweep must not take it for stalled.
                Some(reader) if before.is_some() && !stands_still => reader.touch(clock::now()),
                _ => {}
            }
            if self.lasting >= patience(watch.stream.lock().is_some()) {
                if let Some(reader) = reader {
                    reader.stalled(clock::now());
                }
                return Poll::Ready(());
            }
        }
    }
}

/// Whether others wait for what an answer holds that nobody takes.
fn is_short(hub: &Hub) -> bool {
    let accounts = [Account::Connections, Account::Answers];
    accounts
        .into_iter()
        .any(|account| hub.budget().is_short(account))
}

/// How long an answer may stand still that others wait for.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How often a blocked answer is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
