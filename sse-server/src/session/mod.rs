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
//! A `Session` decides which bytes come next; it owns no socket, no timer and no waker. Who writes asks it
//! for the next bytes when the last ones are on their way, so back-pressure is the socket's own and nothing is
//! queued. Replay and live are one path: whatever falls out of the window is read from the log, page by page,
//! until the window holds what comes next.
//!
//! Two writers share it: [`EventStream`], for a task or a body per reader, and the reactor, for thousands of
//! sockets in one task.

mod pages;
mod prelude;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{
    Gap, GapReason, Offset, Position, ReadError, Rendered, ResumeFrom, Splice, Step, Topic,
};
use sse_compress::Coding;
use sse_pool::{CloseReason, ConnectionId, Entry, Read, ReaderKey};
use sse_protocol::{Retry, encoder};

pub(crate) use pages::{PageCall, page_request};
pub(crate) use prelude::{Connected, NamedSubscriptionJson, Prelude, jittered_retry};
pub use stream::EventStream;

use crate::clock;
use crate::config::{HeartbeatForm, OverflowSetting};
use crate::hub::{EncodedRecord, Format, Inner, Member};
use pages::Pages;

/// What one reader's stream is at, apart from its cursor, which the pool keeps.
pub(crate) struct Session {
    form: Format,
    /// The stream is compressed.
    member: Option<Box<Member>>,
    phase: Phase,
    splice: Splice,
    pages: Pages,
    /// Job events up to these offsets are in the snapshots that the stream began with.
    snapshots: Vec<(Topic, Offset)>,
    /// It has not had everything yet since it began or fell behind: what it gets is late because it asked late.
    is_behind: bool,
}

enum Phase {
    /// These bytes come before anything else.
    Opening(Bytes),
    Live,
    /// The page after this offset is needed.
    Fetching(Offset),
    /// The page was asked for.
    Replaying,
    /// These are the last bytes.
    Ending(Bytes),
    Ended,
}

/// What whoever writes a session does next.
pub(crate) enum Next {
    /// Write these bytes, then ask again.
    Write(Bytes),
    /// Read the window, and say what came of it: [`Session::handle_read`].
    Look,
    /// Read this page of the log: [`Session::handle_page`].
    Fetch(PageCall),
    /// The page is still being read.
    Await,
    /// Nothing comes any more.
    End,
}

/// Entries of the window, as they are read.
pub(crate) type Batch = Vec<Arc<Entry<Arc<EncodedRecord>>>>;

/// A reader of the pool, as its session sees it.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) hub: &'a Inner,
    pub(crate) key: ReaderKey,
}

impl Session {
    pub(crate) fn new(
        form: Format,
        member: Option<Member>,
        splice: Splice,
        prelude: Prelude,
    ) -> Self {
        Self {
            form,
            member: member.map(Box::new),
            phase: Phase::Opening(prelude.bytes),
            splice,
            pages: Pages::default(),
            snapshots: prelude.snapshots,
            is_behind: true,
        }
    }

    /// Puts what the window had when the stream was made behind its first bytes.
    pub(crate) fn open_with(&mut self, reader: Reader<'_>, batch: &mut Batch, now: Instant) {
        // The first bytes are compressed together, when they are written.
        let member = self.member.take();
        let events = self.handle_read(Some(Read::Entries), reader, batch, now);
        self.member = member;
        if let (Phase::Opening(first), Some(events)) = (&mut self.phase, events) {
            *first = [&first[..], &events].concat().into();
        }
    }

    /// The session of a reader that was live and has nothing special about it; what [`is_plain`](Self::is_plain)
    /// allowed to forget.
    pub(crate) fn plain(form: Format, reader: Reader<'_>) -> Self {
        let bounds = reader.hub.broker.bounds();
        let after = reader.hub.pool.cursor(reader.key).unwrap_or(bounds.head);
        let here = ResumeFrom::Position(Position {
            epoch: bounds.epoch,
            offset: after.min(bounds.head),
        });
        let (mut splice, _gap) = Splice::begin(here, bounds);
        splice.handle_lag(after);
        let _no_gap = splice.handle_window(0);
        Self {
            form,
            member: None,
            phase: Phase::Live,
            splice,
            pages: Pages::default(),
            snapshots: Vec::new(),
            is_behind: true,
        }
    }

    /// Whether nothing but the form need be remembered: the reader is live, and all of every batch is for it.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_live() && self.snapshots.is_empty() && self.member.is_none()
    }

    /// Whether the window serves it.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live) && matches!(self.splice.step(), Step::Live { .. })
    }

    /// Whether nothing but its place in its cohort need be known to write what the window has: see
    /// [`compress`](Self::compress).
    pub(crate) fn is_plain_but_compressed(&self) -> bool {
        self.member.is_some() && !self.is_behind && self.snapshots.is_empty() && self.is_live()
    }

    /// A batch as the reader's cohort has it. `may_have_changed` is whether the reader may have another selector than it came
    /// with.
    pub(crate) fn compress(
        &mut self,
        reader: Reader<'_>,
        batch: &Batch,
        may_have_changed: bool,
    ) -> Option<Bytes> {
        let form = self.form;
        let is_same =
            |selector: &_| !may_have_changed || reader.hub.pool.has_selector(reader.key, selector);
        let bytes = self.member.as_mut()?.batch(batch, is_same, |delivery| {
            delivery.frame(form, &reader.hub.compressor)
        });
        Some(bytes)
    }

    /// What its bytes are in.
    pub(crate) fn coding(&self) -> Coding {
        self.member
            .as_ref()
            .map_or(Coding::Identity, |member| member.coding())
    }

    pub(crate) fn form(&self) -> Format {
        self.form
    }

    /// What comes next.
    pub(crate) fn next(&mut self, reader: Reader<'_>) -> Next {
        match self.next_plain(reader) {
            Next::Write(plain) => Next::Write(self.own(plain)),
            Next::End => match self.member.take() {
                Some(member) => Next::Write(member.finish()),
                None => Next::End,
            },
            next => next,
        }
    }

    /// A heartbeat is due and nothing else is to be said.
    pub(crate) fn heartbeat(&mut self, reader: Reader<'_>, now: Instant) -> Bytes {
        let plain = reader.heartbeat(now);
        match &mut self.member {
            Some(member) => member.heartbeat(&plain),
            None => plain,
        }
    }

    /// Bytes for this reader alone, as they go out.
    fn own(&mut self, plain: Bytes) -> Bytes {
        match &mut self.member {
            Some(member) => member.own(&plain),
            None => plain,
        }
    }

    fn next_plain(&mut self, reader: Reader<'_>) -> Next {
        if !matches!(self.phase, Phase::Replaying) {
            // Who asks has written all that was there.
            self.pages.are_written();
        }
        match &mut self.phase {
            Phase::Opening(bytes) => {
                let bytes = std::mem::take(bytes);
                self.phase = Phase::Live;
                Next::Write(bytes)
            }
            Phase::Live => Next::Look,
            Phase::Fetching(after) => {
                let after = *after;
                self.phase = Phase::Replaying;
                Next::Fetch(self.page_call(reader, after))
            }
            Phase::Replaying => Next::Await,
            Phase::Ending(last) => {
                let last = std::mem::take(last);
                self.phase = Phase::Ended;
                if last.is_empty() {
                    Next::End
                } else {
                    Next::Write(last)
                }
            }
            Phase::Ended => Next::End,
        }
    }

    /// Takes what the window gave, `None` when it has nothing more; the bytes to write for it.
    pub(crate) fn handle_read(
        &mut self,
        read: Option<Read>,
        reader: Reader<'_>,
        batch: &mut Batch,
        now: Instant,
    ) -> Option<Bytes> {
        if !matches!(read, Some(Read::Lagged { .. }))
            && matches!(self.splice.step(), Step::Join { .. })
        {
            // The window has all that this reader wants: it is live.
            let _no_gap = self.splice.handle_window(0);
        }
        match read? {
            Read::Entries => self.write_batch(reader, batch, now),
            Read::Lagged { after, floor } => {
                self.is_behind = true;
                self.handle_lag(reader, after, floor);
                None
            }
            Read::Closed(reason) => {
                tracing::debug!(connection = %reader.id(), %reason, "stream closed");
                self.phase = Phase::Ending(farewell(reader.hub, reason));
                None
            }
        }
    }

    /// It has been given everything there is, and waits.
    pub(crate) fn has_caught_up(&mut self) {
        self.is_behind = false;
    }

    fn write_batch(
        &mut self,
        reader: Reader<'_>,
        batch: &mut Batch,
        now: Instant,
    ) -> Option<Bytes> {
        let snapshots = &self.snapshots;
        if !snapshots.is_empty() {
            batch.retain(|entry| {
                !is_in_snapshot(
                    snapshots,
                    &entry.payload.record().content.topics,
                    entry.offset,
                )
            });
        }
        let written = if self.member.is_some() {
            self.compress_what_is_left(reader, batch)
        } else {
            join_frames(self.form, reader.hub, batch)
        };
        batch.clear();
        let written = written?;
        let (metrics, events) = (&reader.hub.metrics, written.events);
        if self.is_behind {
            metrics.record_replay(events, written.bytes.len(), now);
        } else {
            let latency = now.saturating_duration_since(written.oldest);
            metrics.record_deliveries(latency, 1, events, written.bytes.len(), now);
        }
        self.forget_snapshots(reader);
        Some(written.bytes)
    }

    fn compress_what_is_left(&mut self, reader: Reader<'_>, batch: &mut Batch) -> Option<Written> {
        leave_out_expired(batch);
        let oldest = batch.first()?.payload.committed_at();
        Some(Written {
            bytes: self.compress(reader, batch, true)?,
            events: batch.len() as u64,
            oldest,
        })
    }

    fn handle_lag(&mut self, reader: Reader<'_>, after: Offset, floor: Offset) {
        let position = self.splice.position();
        if after < position.offset {
            // Somebody moved the cursor back on purpose.
            let back = ResumeFrom::Position(Position {
                epoch: position.epoch,
                offset: after,
            });
            let (splice, gap) = Splice::begin(back, reader.hub.broker.bounds());
            self.splice = splice;
            if let Some(gap) = gap {
                return self.handle_gap(reader, gap, Vec::new());
            }
        } else if matches!(self.splice.step(), Step::Live { .. }) {
            self.splice.handle_lag(after);
        }
        let gap = self.splice.handle_window(floor);
        match self.splice.step() {
            Step::Read { after } => self.phase = Phase::Fetching(after),
            Step::Join { after } | Step::Live { after } => {
                reader.hub.pool.rejoin(reader.key, after);
            }
        }
        if let Some(gap) = gap {
            self.handle_gap(reader, gap, Vec::new());
        }
    }

    /// The page after `after`, as this reader gets it.
    fn page_call(&mut self, reader: Reader<'_>, after: Offset) -> PageCall {
        let snapshots = self.snapshots.clone();
        let is_packed = self.member.is_some();
        self.pages
            .call(reader, after, self.form, is_packed, move |record| {
                let topic = record.topics().next();
                let mut snapshots = snapshots.iter();
                !snapshots
                    .any(|(of, upto)| record.position.offset <= *upto && topic == Some(of.as_str()))
            })
    }

    /// Takes a page from the log and moves the cursor behind it; the bytes to write for it.
    pub(crate) fn handle_page(
        &mut self,
        page: Result<Rendered, ReadError>,
        reader: Reader<'_>,
        now: Instant,
    ) -> Option<Bytes> {
        self.phase = Phase::Live;
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(connection = %reader.id(), %error, "replay failed");
                self.phase = Phase::Ending(Bytes::new());
                return None;
            }
        };
        if !self.pages.take(reader) {
            // What it wants has changed while the page was read.
            self.phase = Phase::Fetching(self.splice.position().offset);
            return None;
        }
        let hub = reader.hub;
        let gap = self.splice.handle_rendered(&page);
        let Rendered {
            mut bytes, events, ..
        } = page;
        hub.pool.rejoin(reader.key, self.splice.position().offset);
        match gap {
            Some(gap) if gap.reason == GapReason::Thinned => {
                // What else there is follows: this reader's next event is still kept.
                hub.metrics.record_gap();
                let mut first = Vec::with_capacity(bytes.len() + 256);
                prelude::gap_event(&gap, &mut first);
                first.append(&mut bytes);
                bytes = first;
            }
            Some(gap) => {
                self.handle_gap(reader, gap, bytes);
                return None;
            }
            None => {}
        }
        if bytes.is_empty() {
            return None;
        }
        hub.metrics.record_replay(events, bytes.len(), now);
        hub.pool.touch(reader.key, now);
        self.forget_snapshots(reader);
        Some(self.own(Bytes::from(bytes)))
    }

    /// Announces a gap, and goes on with what comes after it where the policy wants that.
    fn handle_gap(&mut self, reader: Reader<'_>, gap: Gap, after: Vec<u8>) {
        reader.hub.metrics.record_gap();
        let mut bytes = Vec::new();
        prelude::gap_event(&gap, &mut bytes);
        match reader.hub.config.overflow {
            OverflowSetting::Disconnect => self.phase = Phase::Ending(Bytes::from(bytes)),
            OverflowSetting::DropOldest => {
                bytes.extend_from_slice(&after);
                let next = gap.to.offset.max(self.splice.position().offset);
                reader.hub.pool.rejoin(reader.key, next);
                self.phase = Phase::Opening(Bytes::from(bytes));
            }
        }
    }

    fn forget_snapshots(&mut self, reader: Reader<'_>) {
        if !self.snapshots.is_empty() {
            let cursor = reader.hub.pool.cursor(reader.key).unwrap_or(Offset::MAX);
            self.snapshots.retain(|(_, offset)| *offset > cursor);
        }
    }
}

impl Reader<'_> {
    fn id(&self) -> ConnectionId {
        match self.hub.pool.info(self.key) {
            Some(info) => info.id.clone(),
            None => ConnectionId::from_uuid([0; 16]),
        }
    }

    /// The reader took nothing for the send timeout: it is let go.
    pub(crate) fn stalled(self) {
        let id = self.id();
        if self.hub.pool.close(&id, CloseReason::Stalled) {
            self.hub.metrics.record_evictions(1, 0, clock::now());
            tracing::info!(connection = %id, reason = %CloseReason::Stalled, "connection evicted");
        }
    }

    /// A heartbeat is due and nothing else is to be said.
    pub(crate) fn heartbeat(self, now: Instant) -> Bytes {
        self.hub.pool.touch(self.key, now);
        self.hub.metrics.record_heartbeat();
        Bytes::from_static(match self.hub.config.heartbeat_form {
            HeartbeatForm::Event => b"event: ping\ndata: keep-alive\n\n",
            HeartbeatForm::Comment => b":\n\n",
        })
    }
}

/// A batch as bytes.
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) events: u64,
    /// When the oldest of them was committed.
    pub(crate) oldest: Instant,
}

/// Leaves out what nobody is to get any more.
pub(crate) fn leave_out_expired(batch: &mut Batch) {
    if batch
        .iter()
        .any(|entry| entry.payload.record().content.expires_at.is_some())
    {
        let unix_now = clock::unix_millis();
        batch.retain(|entry| !entry.payload.record().is_expired(unix_now));
    }
}

/// The frames of a batch behind each other, without those that have expired; `None` when none is left.
pub(crate) fn join_frames(form: Format, hub: &Inner, batch: &mut Batch) -> Option<Written> {
    leave_out_expired(batch);
    let bytes = match &batch[..] {
        [] => return None,
        [only] => only.payload.frame(form, &hub.compressor).clone(),
        many => {
            let size = many
                .iter()
                .map(|entry| entry.payload.frame(form, &hub.compressor).len());
            let mut bytes = Vec::with_capacity(size.sum());
            for entry in many {
                bytes.extend_from_slice(entry.payload.frame(form, &hub.compressor));
            }
            Bytes::from(bytes)
        }
    };
    Some(Written {
        bytes,
        events: batch.len() as u64,
        oldest: batch.first()?.payload.committed_at(),
    })
}

/// The last words of a stream that the hub ends: when to come back, different for each reader.
fn farewell(hub: &Inner, reason: CloseReason) -> Bytes {
    let mut bytes = Vec::new();
    if matches!(reason, CloseReason::Draining | CloseReason::Shutdown) {
        encoder::retry(
            Retry::from_millis(jittered_retry(hub.config.retry)),
            &mut bytes,
        );
    }
    Bytes::from(bytes)
}

fn is_in_snapshot(snapshots: &[(Topic, Offset)], topics: &[Topic], offset: Offset) -> bool {
    snapshots
        .iter()
        .any(|(topic, upto)| offset <= *upto && topics.first() == Some(topic))
}

/// As much as one write takes at once: enough to make the system call cheap per event, little enough
/// that a stalled reader holds no more than this and the socket's own buffers.
pub(crate) const MAX_CHUNK_BYTES: usize = 32 << 10;
