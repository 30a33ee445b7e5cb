//! The writer of streams on sockets that were taken back from hyper: many of them in one task.
//!
//! Once a stream has begun, HTTP/1 has nothing more to say: chunks go out, and whatever comes in is ignored until
//! it ends. So a connection is an entry of 32 bytes beside its reader in the pool, and one task per core writes them
//! all: a publish wakes that task once, not each reader, and it sends the same framed bytes to one socket after
//! another. The sockets are watched by a poll of the reactor's own, whose descriptor is watched by the runtime's.
//!
//! ```text
//!   arrivals ─┐
//!   sockets ──┤            ┌─▶ read the window ─▶ frame once ─▶ send
//!   pages ────┼─▶ ready ───┤
//!   pool ─────┤            └─▶ session: opening, replaying, ending
//!   ticks ────┘
//! ```
//!
//! * **A turn is bounded.** After so many sends the reactor yields, so that requests and new connections on the same
//!   core are served in between.
//! * **Batches grow under load, and only then.** When the last round found several events waiting, the next one waits a
//!   few turns of the runtime for as long as events keep coming. A quiet hub writes at once.
//! * **A slow reader is a slice of bytes that are already there.** What a socket did not take is held as a
//!   reference to the shared frames; nothing more is read for it until they are gone.

mod check;
mod due;
mod frames;
mod live;
mod pace;
mod table;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use mio::{Events, Interest, Token};
use sse_broker::ReadError;
use sse_pool::{CloseReason, ReaderKey, ShardHandle};
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::chunks::{LAST_CHUNK, MAX_IGNORED_BYTES, chunk, write_chunk};
use crate::access::{Peer, StreamingSocket};
use crate::clock::{self, Moment};
use crate::hub::{Batch, EncodedRecord, HeldPage, Hub, Reader};
use crate::session::{EventStream, MAX_CHUNK_BYTES, Next, Session};
use due::Due;
use frames::Frames;
use pace::Pace;
use table::{Entry, Table, Ticks};

/// A stream and its socket, on their way to a reactor.
pub(crate) struct Arrival {
    /// Connected, in non-blocking mode, and with nothing left to be written by anyone else.
    pub(crate) socket: std::net::TcpStream,
    /// The head of the response.
    pub(crate) head: Vec<u8>,
    /// Whether the body goes in chunks.
    pub(crate) is_chunked: bool,
    /// Whether the connection outlives the stream.
    pub(crate) goes_on: bool,
    /// The stream, from which nothing was taken yet.
    pub(crate) stream: EventStream,
    /// The place of the socket.
    pub(crate) place: StreamingSocket,
    /// The peer that a proxy told of at the beginning of the connection.
    pub(crate) told: Option<Peer>,
}

/// A socket whose stream has ended and that is there for other requests, and the peer that a proxy told of.
pub(crate) type AfterStream = (std::net::TcpStream, Option<Peer>);

/// Where a reactor's arrivals go.
pub(crate) type Arrivals = mpsc::UnboundedSender<Arrival>;

/// Writes the streams of one shard of the pool.
pub(crate) struct Reactor {
    hub: Hub,
    shard: ShardHandle<Arc<EncodedRecord>>,
    poll: AsyncFd<mio::Poll>,
    events: Events,
    table: Table,
    /// Bounded by the pool's places: each arrival has one.
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    /// Where sockets go whose stream has ended and that are there for other requests.
    after_streams: mpsc::UnboundedSender<AfterStream>,
    pages: JoinSet<(ReaderKey, Result<HeldPage, ReadError>)>,
    /// Slots whose sockets take bytes again.
    writable: VecDeque<usize>,
    /// This turn has sent large pieces.
    has_sent_pieces: bool,
    /// Readers to be served, in the order in which there was something for them.
    ready: VecDeque<ReaderKey>,
    /// Readers that collect events until then.
    due: Due,
    keys: Vec<ReaderKey>,
    batch: Batch,
    frames: Frames,
    /// Readers that are served together; empty between two groups.
    group: Vec<ReaderKey>,
    origin: Instant,
    ticks: std::pin::Pin<Box<Sleep>>,
    tick: Duration,
    /// The slot from which on connections are still to be checked, since the last tick.
    unchecked: Option<usize>,
    pace: Pace,
}

impl Reactor {
    /// A reactor for one shard, and where its streams are to be sent.
    ///
    /// # Errors
    ///
    /// When the poll cannot be made, or there is no such shard.
    pub(crate) fn new(
        hub: &Hub,
        shard: usize,
        after_streams: mpsc::UnboundedSender<AfterStream>,
    ) -> io::Result<(Self, Arrivals)> {
        let hub = hub.clone();
        let table = Table::new(hub.sockets().clone());
        let shard = hub
            .shard(shard)
            .ok_or_else(|| io::Error::other("there is no such shard"))?;
        #[expect(
            deprecated,
            reason = "the new constructor is unsafe, and a poll keeps the one descriptor it owns"
        )]
        let poll = AsyncFd::with_interest(mio::Poll::new()?, Readiness::READABLE)?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let pace = Pace::new(hub.watch_head(), hub.config().max_linger);
        let interval = hub.config().heartbeat.unwrap_or(MAX_TICK);
        let tick = (interval / 8).clamp(MIN_TICK, MAX_TICK);
        let reactor = Self {
            hub,
            shard,
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            table,
            arrivals,
            after_streams,
            pages: JoinSet::new(),
            writable: VecDeque::new(),
            has_sent_pieces: false,
            ready: VecDeque::new(),
            due: Due::default(),
            keys: Vec::new(),
            batch: Vec::new(),
            frames: Frames::default(),
            group: Vec::new(),
            origin: clock::now(),
            ticks: Box::pin(tokio::time::sleep(tick)),
            tick,
            unchecked: None,
            pace,
        };
        Ok((reactor, sender))
    }

    /// Writes until the last stream has ended after `closing` was told.
    pub(crate) async fn run(mut self, closing: impl Future<Output = ()>) {
        let mut closing = std::pin::pin!(closing);
        let mut is_closing = false;
        loop {
            if is_closing && self.table.len() == 0 {
                break;
            }
            tokio::select! {
                biased;
                () = std::future::poll_fn(|cx| self.poll_work(cx)) => {}
                () = &mut closing, if !is_closing => is_closing = true,
            }
            if !self.ready.is_empty() {
                let hub = &self.hub;
                self.pace.linger(|| hub.is_publishing()).await;
            }
            self.serve_ready();
            let has_more_to_do = !self.ready.is_empty() || self.unchecked.is_some();
            if std::mem::take(&mut self.has_sent_pieces) || has_more_to_do {
                // Requests and new connections on this core are waiting for their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Looks at everything that may have something to do; ready when there was any.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut has_worked = !self.ready.is_empty();
        for _ in 0..ARRIVALS_PER_TURN {
            match self.arrivals.poll_recv(cx) {
                Poll::Ready(Some(arrival)) => {
                    self.take_in(arrival);
                    has_worked = true;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        has_worked |= self.poll_sockets(cx).is_ready();
        has_worked |= self.poll_behind(cx).is_ready();
        if self.shard.poll_ready(cx, &mut self.keys).is_ready() {
            self.ready.extend(self.keys.drain(..));
            has_worked = true;
        }
        if !self.due.is_empty() {
            let ready = &mut self.ready;
            let hand_on = |key| ready.push_back(key);
            has_worked |= self.due.poll(cx, clock::now(), hand_on).is_ready();
        }
        if Future::poll(self.ticks.as_mut(), cx).is_ready() {
            self.unchecked.get_or_insert(0);
            self.ticks.as_mut().reset((clock::now() + self.tick).into());
        }
        if let Some(from) = self.unchecked {
            self.check(from, Moment::read());
            has_worked = true;
        }
        if has_worked {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Sends a large piece to readers who are behind: pages, and what a socket did not take at once. Live
    /// events and requests have their turn in between, and so have other threads: one of these sends takes as long as
    /// dozens of live ones.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut has_worked = false;
        for _ in 0..PIECES_PER_TURN {
            if let Some(slot) = self.writable.pop_front() {
                self.handle_writable(slot, Moment::read());
            } else if let Poll::Ready(Some(page)) = self.pages.poll_join_next(cx) {
                let Ok((key, page)) = page else { continue };
                self.handle_page(key, page);
            } else {
                break;
            }
            std::thread::yield_now();
            has_worked = true;
        }
        self.has_sent_pieces |= has_worked;
        if has_worked {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Serves readers until all are, or the turn is over.
    fn serve_ready(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let moment = Moment::read();
        self.pace.begin(moment.now);
        let mut served = 0;
        while served < SENDS_PER_TURN && !self.ready.is_empty() {
            served += self.serve_group(moment);
        }
        self.frames.record(self.hub.metrics(), moment.now);
        if self.ready.is_empty() {
            self.pace.end(clock::now());
            self.frames.clear();
            self.batch.clear();
            if self.ready.capacity() > MAX_IDLE_READY {
                self.ready.shrink_to(0);
                self.keys.shrink_to(0);
            }
        }
    }

    /// Takes a new stream in and writes its beginning.
    fn take_in(&mut self, arrival: Arrival) {
        let Arrival {
            socket,
            head,
            is_chunked,
            goes_on,
            stream,
            place,
            told,
        } = arrival;
        let (session, key) = stream.into_session();
        let mut session = Box::new(session);
        let moment = Moment::read();
        let mut socket = mio::net::TcpStream::from_std(socket);
        let token = Token(key.slot());
        if let Err(error) =
            self.poll
                .get_ref()
                .registry()
                .register(&mut socket, token, Interest::READABLE)
        {
            tracing::warn!(%error, "a socket cannot be watched");
            self.shard.leave(key);
            return;
        }
        let mut first = BytesMut::with_capacity(head.len() + 1024);
        first.put_slice(&head);
        let reader = Reader {
            hub: &self.hub,
            key,
        };
        if let Next::Write(prelude) = session.next(reader, moment) {
            if is_chunked {
                write_chunk(&prelude, &mut first);
            } else {
                first.put_slice(&prelude);
            }
        }
        let mut entry = Entry {
            socket,
            key,
            last_write: Ticks::since(self.origin, moment.now),
            format: session.format(),
            is_chunked,
            goes_on,
            is_armed: false,
            more: None,
        };
        entry.more().session = Some(session);
        if let Some(before) = self.table.insert(entry, place, told) {
            debug_assert!(false, "the slot of {:?} is taken by {:?}", key, before.key);
        }
        if self.send(key, &first.freeze(), moment) {
            self.serve(key, moment);
        }
    }

    /// Serves one reader as far as the window, the log and its socket go.
    fn serve(&mut self, key: ReaderKey, moment: Moment) {
        for _ in 0..READS_PER_SERVE {
            let Some(entry) = self.table.get(key) else {
                return;
            };
            if entry.is_blocked() {
                // Its socket tells when it goes on. A closed one is not waited for, unless it ends with the hub: then
                // it gets the time that the hub has.
                let closed = self.shard.pool().closed(key);
                if closed.is_some_and(|reason| reason != CloseReason::Draining) {
                    self.remove(key);
                }
                return;
            }
            let goes_on = match entry.more.as_mut().and_then(|more| more.session.take()) {
                None => {
                    self.serve_group_read(&[key], moment);
                    return;
                }
                Some(session) => self.serve_session(key, session, moment),
            };
            if !goes_on {
                return;
            }
        }
        self.ready.push_back(key);
    }

    /// Does what a session wants; false when there is nothing more to do for now.
    fn serve_session(&mut self, key: ReaderKey, mut session: Box<Session>, moment: Moment) -> bool {
        let reader = Reader {
            hub: &self.hub,
            key,
        };
        let mut is_waiting = false;
        let mut is_last = false;
        let bytes = match session.next(reader, moment) {
            Next::Write(bytes) => Some(bytes),
            Next::Wait(then) => {
                self.due.add(then, key);
                is_waiting = true;
                None
            }
            Next::Look => {
                let taken =
                    self.shard
                        .read_group(&[key], moment.now, MAX_CHUNK_BYTES, &mut self.batch);
                is_waiting = taken.is_waiting;
                self.pace.found(self.batch.len());
                let bytes = session.handle_read(taken.read, reader, &mut self.batch, moment);
                if is_waiting {
                    session.has_caught_up();
                }
                bytes
            }
            Next::Fetch(call) => {
                let page = call.read(&self.hub);
                self.pages.spawn(async move { (key, page.await) });
                is_waiting = true;
                None
            }
            Next::Await => {
                is_waiting = true;
                None
            }
            Next::End => {
                is_last = true;
                None
            }
        };
        let Some(entry) = self.table.get(key) else {
            return false;
        };
        let is_chunked = entry.is_chunked;
        entry.more().session = Some(session);
        if is_waiting {
            entry.settle();
        }
        if is_last {
            entry.more().is_last = true;
            if !is_chunked || self.send(key, &Bytes::from_static(LAST_CHUNK), moment) {
                self.finish(key);
            }
            return false;
        }
        let is_sent = match bytes {
            Some(bytes) if is_chunked => self.send(key, &chunk(&bytes), moment),
            Some(bytes) => self.send(key, &bytes, moment),
            None => true,
        };
        is_sent && !is_waiting
    }

    fn handle_page(&mut self, key: ReaderKey, page: Result<HeldPage, ReadError>) {
        let moment = Moment::read();
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let is_chunked = entry.is_chunked;
        let Some(session) = entry.more.as_mut().and_then(|more| more.session.as_mut()) else {
            return;
        };
        let reader = Reader {
            hub: &self.hub,
            key,
        };
        let bytes = session.handle_page(page, reader, moment);
        let goes_on = match bytes {
            Some(bytes) if is_chunked => self.send(key, &chunk(&bytes), moment),
            Some(bytes) => self.send(key, &bytes, moment),
            None => true,
        };
        if goes_on {
            self.ready.push_back(key);
        }
    }

    /// Writes; true when the socket took everything. What it did not take is kept, unless it is broken: then the
    /// connection is gone.
    fn send(&mut self, key: ReaderKey, bytes: &Bytes, moment: Moment) -> bool {
        let Some(entry) = self.table.get(key) else {
            return false;
        };
        let ticks = Ticks::since(self.origin, moment.now);
        entry
            .send(self.poll.get_ref().registry(), bytes, ticks, moment.now)
            .unwrap_or_else(|error| self.broken(key, &error, true))
    }

    /// A socket broke, as it was written to or read from.
    fn broken(&mut self, key: ReaderKey, error: &io::Error, is_write: bool) -> bool {
        self.hub.metrics().record_broken(error, is_write);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let id = self.shard.pool().info(key).map(|info| info.id.to_string());
            tracing::debug!(connection = id, %error, "stream ended");
        }
        self.remove(key);
        false
    }

    /// Ends a stream whose last byte is on its way, and its connection unless that goes on. A hub that is leaving keeps none.
    fn finish(&mut self, key: ReaderKey) {
        let reason = self.shard.pool().closed(key);
        let is_leaving = matches!(reason, Some(CloseReason::Draining | CloseReason::Shutdown));
        let told = self.table.told(key);
        let entry = self.table.remove(key);
        self.shard.leave(key);
        let Some(entry) = entry else { return };
        let goes_on = entry.goes_on() && !is_leaving;
        let mut socket = entry.socket;
        if goes_on
            && self
                .poll
                .get_ref()
                .registry()
                .deregister(&mut socket)
                .is_ok()
        {
            // Where nobody takes it, it is closed.
            let _ = self.after_streams.send((socket.into(), told));
        } else {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
    }

    fn remove(&mut self, key: ReaderKey) {
        drop(self.table.remove(key));
        self.shard.leave(key);
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut guard = match ready!(self.poll.poll_read_ready_mut(cx)) {
                Ok(guard) => guard,
                Err(error) => {
                    tracing::error!(%error, "the reactor's poll failed");
                    return Poll::Pending;
                }
            };
            if let Err(error) = guard
                .get_inner_mut()
                .poll(&mut self.events, Some(Duration::ZERO))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the reactor's poll failed");
                return Poll::Pending;
            }
            if self.events.is_empty() {
                guard.clear_ready();
                continue;
            }
            let events: Vec<_> = self
                .events
                .iter()
                .map(|event| (event.token().0, event.is_readable(), event.is_writable()))
                .collect();
            for (slot, is_readable, is_writable) in events {
                if is_readable {
                    self.handle_readable(slot);
                }
                if is_writable {
                    self.writable.push_back(slot);
                }
            }
            return Poll::Ready(());
        }
    }

    /// Reads what nobody asked for. This is how it is seen that a client is gone.
    fn handle_readable(&mut self, slot: usize) {
        let Some(entry) = self.table.at(slot) else {
            return;
        };
        let key = entry.key;
        let mut space = [0; 4096];
        loop {
            match entry.socket.read(&mut space) {
                Ok(0) => return self.remove(key),
                Ok(read) => {
                    let more = entry.more();
                    more.ignored_bytes = more.ignored_bytes.saturating_add(read);
                    if more.ignored_bytes > MAX_IGNORED_BYTES {
                        let error = io::Error::other("the client keeps sending");
                        self.broken(key, &error, false);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.broken(key, &error, false);
                    return;
                }
            }
        }
    }

    /// The socket takes bytes again.
    fn handle_writable(&mut self, slot: usize, moment: Moment) {
        let Some(entry) = self.table.at(slot) else {
            return;
        };
        if !entry.is_blocked() {
            return;
        }
        let key = entry.key;
        let more = entry.more();
        let unsent = std::mem::take(&mut more.unsent);
        let is_last = more.is_last;
        let blocked_since = more.blocked_since.take();
        let before = unsent.len();
        let all = self.send(key, &unsent, moment);
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let more = entry.more();
        if more.unsent.len() < before {
            // Slow, but alive: the sweep must not take it for stalled.
            self.shard.touch(key, moment.now);
        } else {
            more.blocked_since = blocked_since;
        }
        if all {
            more.holds_since = None;
        }
        if all && is_last {
            self.finish(key);
        } else if all {
            self.ready.push_back(key);
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        for slot in 0..self.table.end() {
            if let Some(key) = self.table.at(slot).map(|entry| entry.key) {
                self.remove(key);
            }
        }
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("shard", &self.shard.number())
            .field("connections", &self.table.len())
            .finish_non_exhaustive()
    }
}

/// Readers served before others on the same core get a turn: so many sends are about three milliseconds.
const SENDS_PER_TURN: usize = 1024;
/// Large pieces for readers who are behind, before live events and requests get a turn: one of 128 KiB takes some fifty
/// microseconds.
const PIECES_PER_TURN: usize = 1;
/// Connections taken in before readers get a turn.
const ARRIVALS_PER_TURN: usize = 64;
/// How often one reader is served before the next one gets its turn.
const READS_PER_SERVE: usize = 4;
/// Socket events taken at a time.
const EVENTS_PER_POLL: usize = 1024;
/// Heartbeats and stalled sockets are looked for an eighth of the heartbeat's interval, within these bounds.
const MIN_TICK: Duration = Duration::from_millis(10);
const MAX_TICK: Duration = Duration::from_secs(1);
/// A queue larger than this is given back when it is empty.
const MAX_IDLE_READY: usize = 1024;
