//! One reader's stream, from its first byte to its last.
//!
//! ```text
//!            prelude written          fell out of the window
//!   Opening ────────────────▶ Live ─────────────────────────▶ Replaying
//!                              ▲  ▲                               │
//!                              │  └──────── page written ─────────┘
//!                              │
//!                              └─▶ Ended      closed, or its history is gone
//! ```
//!
//! The stream owns a cursor in the pool and decides which bytes come next; who writes them (hyper's
//! body here) asks for a chunk when the last one is on its way, so back-pressure is the socket's own and
//! nothing is queued. Replay and live are one path: whatever falls out of the window is read from the
//! log, page by page, until the window holds what comes next.

mod prelude;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sse_broker::{
    BoxFuture, Gap, Offset, Page, Position, ReadError, ReadRequest, ResumeFrom, Scope, Splice,
    Step, Topic,
};
use sse_pool::{CloseReason, Connection, ConnectionId, Entry, Read, TopicFilter};
use sse_protocol::{Retry, encoder};
use tokio::time::Sleep;

pub(crate) use prelude::{Connected, DurableJson, Prelude, jittered_retry};

use crate::clock;
use crate::config::{HeartbeatForm, OverflowSetting};
use crate::hub::{Delivery, Form, Inner, encode, entry};

/// The events of one connection, as bytes to write.
///
/// Dropping it leaves the pool. It is bound to the tokio runtime by its heartbeat's timer.
pub struct EventStream {
    hub: Arc<Inner>,
    connection: Connection<Arc<Delivery>>,
    form: Form,
    phase: Phase,
    splice: Splice,
    /// Job events up to these offsets are in the snapshots that the stream began with.
    snapshots: Vec<(Topic, Offset)>,
    heartbeat: Option<Heartbeat>,
    batch: Vec<Arc<Entry<Arc<Delivery>>>>,
}

enum Phase {
    Opening(Bytes),
    Live,
    Replaying(BoxFuture<'static, Result<Page, ReadError>>),
    /// These are the last bytes.
    Ending(Bytes),
    Ended,
}

struct Heartbeat {
    interval: Duration,
    last_write: Instant,
    timer: Pin<Box<Sleep>>,
}

impl EventStream {
    pub(crate) fn new(
        hub: Arc<Inner>,
        connection: Connection<Arc<Delivery>>,
        form: Form,
        splice: Splice,
        prelude: Prelude,
        now: Instant,
    ) -> Self {
        let heartbeat = hub.config.heartbeat.map(|interval| Heartbeat {
            interval,
            last_write: now,
            timer: Box::pin(tokio::time::sleep_until((now + interval).into())),
        });
        let phase = Phase::Opening(prelude.bytes);
        Self {
            hub,
            connection,
            form,
            phase,
            splice,
            snapshots: prelude.snapshots,
            heartbeat,
            batch: Vec::new(),
        }
    }

    /// The connection's id, as `connected` told it.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.connection.id()
    }

    /// The socket has taken a part of the last chunk.
    pub(crate) fn progressed(&mut self) {
        self.connection.touch(clock::now());
    }

    /// The socket has taken nothing for the send timeout: the reader is let go.
    pub(crate) fn stalled(&mut self) {
        let id = self.connection.id();
        if self.hub.pool.close(&id, CloseReason::Stalled) {
            self.hub.vitals.record_evictions(1, 0, clock::now());
            tracing::info!(connection = %id, reason = %CloseReason::Stalled, "connection evicted");
        }
    }

    /// The next bytes, or `None` when the stream has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next_chunk(&mut self) -> Option<Bytes> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The same as [`next_chunk`](Self::next_chunk), for who polls.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.phase {
                Phase::Opening(prelude) => {
                    let prelude = std::mem::take(prelude);
                    self.phase = Phase::Live;
                    return Poll::Ready(Some(prelude));
                }
                Phase::Live => match self.poll_live(cx) {
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(bytes)) => return Poll::Ready(Some(bytes)),
                    Poll::Pending => return self.poll_heartbeat(cx),
                },
                Phase::Replaying(page) => {
                    let page = ready!(page.as_mut().poll(cx));
                    if let Some(bytes) = self.handle_page(page) {
                        return Poll::Ready(Some(bytes));
                    }
                }
                Phase::Ending(last) => {
                    let last = std::mem::take(last);
                    self.phase = Phase::Ended;
                    if !last.is_empty() {
                        return Poll::Ready(Some(last));
                    }
                }
                Phase::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Takes what the window has; `None` when the phase has changed instead.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let now = clock::now();
        self.batch.clear();
        let read = self
            .connection
            .poll_read(cx, now, MAX_CHUNK_BYTES, &mut self.batch);
        if !matches!(read, Poll::Ready(Read::Lagged { .. }))
            && matches!(self.splice.step(), Step::Join { .. })
        {
            // The window has all that this reader wants: it is live.
            let _no_gap = self.splice.handle_window(0);
        }
        match ready!(read) {
            Read::Entries => Poll::Ready(self.write_batch(now)),
            Read::Lagged { after, floor } => {
                self.handle_lag(after, floor);
                Poll::Ready(None)
            }
            Read::Closed(reason) => {
                tracing::debug!(connection = %self.connection.id(), %reason, "stream closed");
                self.phase = Phase::Ending(self.farewell(reason));
                Poll::Ready(None)
            }
        }
    }

    fn write_batch(&mut self, now: Instant) -> Option<Bytes> {
        let unix_now = clock::unix_millis();
        let (form, compressor) = (self.form, &self.hub.compressor);
        let snapshots = &self.snapshots;
        self.batch.retain(|entry| {
            let record = entry.payload.record();
            !record.is_expired(unix_now)
                && !is_in_snapshot(snapshots, &record.content.topics, entry.offset)
        });
        let oldest = self.batch.first()?.payload.committed_at();
        let events = self.batch.len() as u64;
        let bytes = match &self.batch[..] {
            [only] => only.payload.frame(form, compressor).clone(),
            many => {
                let size = many
                    .iter()
                    .map(|entry| entry.payload.frame(form, compressor).len())
                    .sum();
                let mut bytes = Vec::with_capacity(size);
                for entry in many {
                    bytes.extend_from_slice(entry.payload.frame(form, compressor));
                }
                Bytes::from(bytes)
            }
        };
        self.batch.clear();
        if self.batch.capacity() > IDLE_BATCH_ENTRIES {
            self.batch = Vec::new();
        }
        self.hub.vitals.record_delivery(
            now.saturating_duration_since(oldest),
            events,
            bytes.len(),
            now,
        );
        self.wrote(now);
        Some(bytes)
    }

    fn handle_lag(&mut self, after: Offset, floor: Offset) {
        let position = self.splice.position();
        if after < position.offset {
            // Somebody moved the cursor back on purpose.
            let back = ResumeFrom::Position(Position {
                epoch: position.epoch,
                offset: after,
            });
            let (splice, gap) = Splice::begin(back, self.hub.broker.bounds());
            self.splice = splice;
            if let Some(gap) = gap {
                return self.handle_gap(gap, Vec::new());
            }
        } else if matches!(self.splice.step(), Step::Live { .. }) {
            self.splice.handle_lag(after);
        }
        let gap = self.splice.handle_window(floor);
        match self.splice.step() {
            Step::Read { after } => self.phase = Phase::Replaying(self.read_page(after)),
            Step::Join { after } | Step::Live { after } => self.connection.rejoin(after),
        }
        if let Some(gap) = gap {
            self.handle_gap(gap, Vec::new());
        }
    }

    fn read_page(&self, after: Offset) -> BoxFuture<'static, Result<Page, ReadError>> {
        let scope = match &self.connection.selector().topics {
            TopicFilter::Topics { exact, patterns } if patterns.is_empty() => {
                let info = self.connection.info();
                let own = Arc::from(format!("connection/{}", self.connection.id()));
                let names = exact
                    .iter()
                    .chain(info.identities.iter())
                    .chain(std::iter::once(&own));
                Scope::Topics(
                    names
                        .filter_map(|name| Topic::new(Arc::clone(name)).ok())
                        .collect(),
                )
            }
            _ => Scope::All,
        };
        self.hub.broker.read(ReadRequest {
            after,
            scope,
            max_records: MAX_PAGE_RECORDS,
            max_bytes: MAX_CHUNK_BYTES,
        })
    }

    /// The bytes of a page from the log, and the cursor moved behind it.
    fn handle_page(&mut self, page: Result<Page, ReadError>) -> Option<Bytes> {
        self.phase = Phase::Live;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(connection = %self.connection.id(), %error, "replay failed");
                self.phase = Phase::Ending(Bytes::new());
                return None;
            }
        };
        let gap = self.splice.handle_page(&page);
        let (now, unix_now) = (clock::now(), clock::unix_millis());
        let selector = self.connection.selector();
        let (id, info) = (self.connection.id(), self.connection.info());
        let mut bytes = Vec::new();
        let mut events = 0;
        for record in &page.records {
            let wanted = selector.wants(&entry(record, (), 0), &info.identities, &id)
                && !record.is_expired(unix_now)
                && !is_in_snapshot(
                    &self.snapshots,
                    &record.content.topics,
                    record.position.offset,
                );
            if wanted {
                events += 1;
                bytes.extend_from_slice(&encode(record, self.form, &self.hub.compressor));
            }
        }
        self.connection.rejoin(self.splice.position().offset);
        if let Some(gap) = gap {
            self.handle_gap(gap, bytes);
            return None;
        }
        if bytes.is_empty() {
            return None;
        }
        self.hub.vitals.record_replay(events, bytes.len(), now);
        self.connection.touch(now);
        self.wrote(now);
        Some(Bytes::from(bytes))
    }

    /// Announces a gap, and goes on with what comes after it where the policy wants that.
    fn handle_gap(&mut self, gap: Gap, after: Vec<u8>) {
        self.hub.vitals.record_gap();
        let mut bytes = Vec::new();
        prelude::gap_event(&gap, &mut bytes);
        match self.hub.config.overflow {
            OverflowSetting::Disconnect => self.phase = Phase::Ending(Bytes::from(bytes)),
            OverflowSetting::DropOldest => {
                bytes.extend_from_slice(&after);
                let next = std::mem::replace(&mut self.phase, Phase::Live);
                debug_assert!(
                    !matches!(next, Phase::Ending(_)),
                    "a gap is announced before the end"
                );
                self.connection
                    .rejoin(gap.to.offset.max(self.splice.position().offset));
                self.phase = Phase::Opening(Bytes::from(bytes));
            }
        }
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(heartbeat) = &mut self.heartbeat else {
            return Poll::Pending;
        };
        loop {
            ready!(heartbeat.timer.as_mut().poll(cx));
            let now = clock::now();
            let due = heartbeat.last_write + heartbeat.interval;
            if now >= due {
                heartbeat.last_write = now;
                heartbeat
                    .timer
                    .as_mut()
                    .reset((now + heartbeat.interval).into());
                // It is polled again once these bytes are on their way, and waits from then on.
                self.connection.touch(now);
                self.hub.vitals.record_heartbeat();
                return Poll::Ready(Some(match self.hub.config.heartbeat_form {
                    HeartbeatForm::Event => {
                        Bytes::from_static(b"event: ping\ndata: keep-alive\n\n")
                    }
                    HeartbeatForm::Comment => Bytes::from_static(b":\n\n"),
                }));
            }
            heartbeat.timer.as_mut().reset(due.into());
        }
    }

    /// The last words of a stream that the hub ends: when to come back, different for each reader.
    fn farewell(&self, reason: CloseReason) -> Bytes {
        let mut bytes = Vec::new();
        if matches!(reason, CloseReason::Draining | CloseReason::Shutdown) {
            encoder::retry(
                Retry::from_millis(jittered_retry(self.hub.config.retry)),
                &mut bytes,
            );
        }
        Bytes::from(bytes)
    }

    fn wrote(&mut self, now: Instant) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.last_write = now;
        }
        if !self.snapshots.is_empty() {
            let cursor = self.connection.cursor();
            self.snapshots.retain(|(_, offset)| *offset > cursor);
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

fn is_in_snapshot(snapshots: &[(Topic, Offset)], topics: &[Topic], offset: Offset) -> bool {
    snapshots
        .iter()
        .any(|(topic, upto)| offset <= *upto && topics.first() == Some(topic))
}

/// As much as one write takes at once: enough to make the system call cheap per event, little enough
/// that a stalled reader holds no more than this and the socket's own buffers.
const MAX_CHUNK_BYTES: usize = 32 << 10;
/// As many records as one page of replay holds.
const MAX_PAGE_RECORDS: usize = 256;
/// A batch buffer larger than this is given back after use.
const IDLE_BATCH_ENTRIES: usize = 32;
