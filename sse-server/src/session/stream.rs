//! A session with a waker and a timer of its own: what a task or a response body polls.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{BoxFuture, ReadError};
use sse_compress::Coding;
use sse_pool::{Connection, ConnectionId, ReaderKey};
use tokio::time::Sleep;

use super::{Farewell, MAX_CHUNK_BYTES, Next, Session};
use crate::clock::{self, Moment};
use crate::hub::{Batch, EncodedRecord, HeldPage, Hub, Reader};

/// The events of one connection, as bytes to write.
///
/// Dropping it leaves the pool. It is bound to the tokio runtime by its heartbeat's timer.
pub struct EventStream {
    hub: Hub,
    connection: Connection<Arc<EncodedRecord>>,
    session: Session,
    page: Option<BoxFuture<'static, Result<HeldPage, ReadError>>>,
    heartbeat: Option<Heartbeat>,
    batch: Batch,
    /// Until events that are collected are due.
    wait: Option<Pin<Box<Sleep>>>,
}

/// Made at the first wait, so that a stream that is handed to the reactor never has one.
struct Heartbeat {
    last_write: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl EventStream {
    pub(crate) fn new(
        hub: Hub,
        connection: Connection<Arc<EncodedRecord>>,
        session: Session,
        now: Instant,
    ) -> Self {
        let heartbeat = hub.config().heartbeat.map(|_| Heartbeat {
            last_write: now,
            timer: None,
        });
        Self {
            hub,
            connection,
            session,
            page: None,
            heartbeat,
            batch: Vec::new(),
            wait: None,
        }
    }

    /// Takes it apart, for a writer that serves the reader by its key. Nothing may have been written yet.
    #[cfg(unix)]
    pub(crate) fn into_session(self) -> (Session, ReaderKey) {
        (self.session, self.connection.into_key())
    }

    /// The connection's id, as `connected` told it.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.connection.id()
    }

    /// The reader that it is for.
    pub(crate) fn key(&self) -> ReaderKey {
        self.connection.key()
    }

    /// The content coding of its bytes; where that is not identity, the response must name it (`Content-Encoding`).
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.session.coding()
    }

    /// The socket has taken a part of the last chunk.
    pub(crate) fn progressed(&mut self) {
        self.connection.touch(clock::now());
    }

    /// The socket has taken nothing for the send timeout: the reader is let go.
    pub(crate) fn stalled(&mut self) {
        self.reader().stalled(clock::now());
    }

    /// Why the hub has ended it, once it has; `None` also when its history could not be read.
    #[must_use]
    pub fn farewell(&self) -> Option<Farewell> {
        self.session.farewell_said()
    }

    /// The next bytes, or `None` when the stream has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next_chunk(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The same as [`next_chunk`](Self::next_chunk), as a poll.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut moment = Moment::read();
        loop {
            let reader = Reader {
                hub: &self.hub,
                key: self.connection.key(),
            };
            let bytes = match self.session.next(reader, moment) {
                Next::Write(bytes) => Some(bytes),
                Next::Wait(then) => {
                    let timer = self
                        .wait
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(then.into())));
                    if timer.deadline() != then.into() {
                        timer.as_mut().reset(then.into());
                    }
                    if timer.as_mut().poll(cx).is_pending() {
                        return self.poll_heartbeat(cx);
                    }
                    moment = Moment::read();
                    None
                }
                Next::Look => {
                    self.batch.clear();
                    let read =
                        self.connection
                            .poll_read(cx, moment.now, MAX_CHUNK_BYTES, &mut self.batch);
                    let is_waiting = read.is_pending();
                    let read = match read {
                        Poll::Ready(read) => Some(read),
                        Poll::Pending => None,
                    };
                    let bytes = self
                        .session
                        .handle_read(read, reader, &mut self.batch, moment);
                    if self.batch.capacity() > IDLE_BATCH_ENTRIES {
                        self.batch = Vec::new();
                    }
                    if is_waiting {
                        self.session.has_caught_up();
                        return self.poll_heartbeat(cx);
                    }
                    bytes
                }
                Next::Fetch(call) => {
                    let page = call.read(&self.hub);
                    self.page = Some(match self.session.pages.was_empty {
                        false => page,
                        // Many pages in a row may hold nothing for this reader, and the log in memory has each at once.
                        true => Box::pin(async move {
                            tokio::task::yield_now().await;
                            page.await
                        }),
                    });
                    None
                }
                Next::Await => {
                    let Some(page) = &mut self.page else {
                        return Poll::Ready(None);
                    };
                    let page = ready!(page.as_mut().poll(cx));
                    self.page = None;
                    let bytes = self.session.handle_page(page, reader, moment);
                    self.session.pages.was_empty = bytes.is_none();
                    bytes
                }
                Next::End => return Poll::Ready(None),
            };
            if let Some(bytes) = bytes {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.last_write = clock::now();
                }
                return Poll::Ready(Some(bytes));
            }
        }
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(heartbeat) = &mut self.heartbeat else {
            return Poll::Pending;
        };
        loop {
            let Some(interval) = self.hub.heartbeat_interval() else {
                return Poll::Pending;
            };
            let due = heartbeat.last_write + interval;
            let timer = heartbeat
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
            ready!(timer.as_mut().poll(cx));
            let moment = Moment::read();
            let now = moment.now;
            if now >= due {
                // It is polled again once these bytes are on their way, and waits from then on.
                heartbeat.last_write = now;
                timer.as_mut().reset((now + interval).into());
                let reader = Reader {
                    hub: &self.hub,
                    key: self.connection.key(),
                };
                return Poll::Ready(Some(self.session.heartbeat(reader, moment)));
            }
            timer.as_mut().reset(due.into());
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            hub: &self.hub,
            key: self.connection.key(),
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream")
            .field("id", &self.connection.id())
            .finish_non_exhaustive()
    }
}

/// A batch buffer larger than this is given back after use.
const IDLE_BATCH_ENTRIES: usize = 32;
