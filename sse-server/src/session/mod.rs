//! One reader's stream, from its first byte to its last.
//!
//! ```text
//!        first words written          fell out of the window
//!   Opening ────────────────▶ Live ─────────────────────────▶ Replaying
//!                              ▲  ▲                               │
//!                              │  └──────── page written ─────────┘
//!                              │
//!                              └─▶ Ended      closed, or its history is gone
//! ```
//!
//! A `Session` decides which bytes come next; it owns no socket, no timer and no waker. Its writer asks it
//! for the next bytes when the last ones are on their way, so back-pressure is the socket's own and nothing is
//! queued. Replay and live are one path: whatever falls out of the window is read from the log, page by page,
//! until the window holds what comes next.
//!
//! Two writers share it: [`EventStream`], for a task or a body per reader, and the reactor, for thousands of
//! sockets in one task.

mod batching;
mod open;
mod opening;
mod pages;
mod stream;

use std::time::{Duration, Instant};

use bytes::Bytes;
use sse_broker::{
    Bounds, Epoch, Gap, GapReason, Offset, Position, ReadError, Rendered, ResumeFrom, Splice, Step,
    Topic,
};
use sse_compress::Coding;
use sse_pool::{CloseReason, Read};
use sse_protocol::Retry;

pub use open::{ConnectError, ConnectionRequest};
pub(crate) use pages::PageCall;
pub use stream::EventStream;

use crate::clock::Moment;
use crate::hub::{Batch, HeldPage, LeftOut, Member, Overflow, Reader, Written};
use crate::wire::{Format, Message, Unavailable};
use batching::Batching;
use opening::Opening;
use pages::Pages;

/// What one reader's stream is at, apart from its cursor, which the pool keeps.
pub(crate) struct Session {
    format: Format,
    /// The stream is compressed.
    member: Option<Box<Member>>,
    phase: Phase,
    splice: Splice,
    pages: Pages,
    /// Job events up to these offsets are in the snapshots that the stream began with.
    snapshots: Vec<(Topic, Offset)>,
    /// The first page comes from the log, whatever the window holds.
    reads_log_first: bool,
    /// Why the hub has ended it.
    farewell: Option<Farewell>,
    /// It has not had everything yet since it began or fell behind: what it gets is late because it asked late.
    is_behind: bool,
    /// Its events are collected before they are written.
    batching: Option<Batching>,
}

/// Why the hub ends a stream, and when its reader should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub reason: CloseReason,
    /// When to come back, where that is not the reader's own matter.
    pub retry: Option<Retry>,
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
    /// Come back then: events that come until then are written together. They may be there already.
    Wait(Instant),
    /// Read the window, and say what came of it: [`Session::handle_read`].
    Look,
    /// Read this page of the log: [`Session::handle_page`].
    Fetch(PageCall),
    /// The page is still being read.
    Await,
    /// Nothing comes any more.
    End,
}

impl Session {
    fn new(
        format: Format,
        member: Option<Member>,
        splice: Splice,
        opening: Opening,
        batch: Option<Duration>,
    ) -> Self {
        Self {
            batching: batch.map(Batching::new),
            format,
            member: member.map(Box::new),
            phase: Phase::Opening(opening.bytes),
            splice,
            pages: Pages::default(),
            snapshots: opening.snapshots,
            reads_log_first: false,
            farewell: None,
            is_behind: true,
        }
    }

    /// Puts what the window had when the stream was made behind its first bytes.
    fn open_with(&mut self, reader: Reader<'_>, batch: &mut Batch, moment: Moment) {
        // The first bytes are compressed together, when they are written.
        let member = self.member.take();
        let events = self.handle_read(Some(Read::Entries), reader, batch, moment);
        self.member = member;
        if let (Phase::Opening(first), Some(events)) = (&mut self.phase, events) {
            *first = [&first[..], &events].concat().into();
        }
    }

    /// What comes after the first bytes is read from the log, whatever the window holds.
    fn read_log_first(&mut self) {
        self.reads_log_first = true;
    }

    /// The session of a reader that was live and has nothing special about it; what [`is_plain`](Self::is_plain)
    /// allowed to forget. `epoch` is what it has read of: the log may have begun another one of which the reader has not heard.
    pub(crate) fn plain(format: Format, reader: Reader<'_>, epoch: Epoch) -> Self {
        let after = reader.cursor().unwrap_or(reader.bounds().head);
        let bounds = Bounds {
            epoch,
            // What has gone behind it is told when it is looked for.
            floor: 0,
            head: after,
        };
        let here = ResumeFrom::Position(Position {
            epoch: bounds.epoch,
            offset: after,
        });
        let (mut splice, _no_gap) = Splice::begin(here, bounds);
        splice.handle_lag(after);
        let _no_gap = splice.handle_window(0);
        Self {
            format,
            member: None,
            phase: Phase::Live,
            splice,
            pages: Pages::default(),
            snapshots: Vec::new(),
            reads_log_first: false,
            farewell: None,
            is_behind: true,
            batching: None,
        }
    }

    /// Whether nothing but the form need be remembered: the reader is live, and all of every batch is for it.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_live()
            && self.snapshots.is_empty()
            && self.member.is_none()
            && self.batching.is_none()
    }

    /// Whether the window serves it.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live) && matches!(self.splice.step(), Step::Live { .. })
    }

    /// Whether nothing but its place in its cohort need be known to write what the window has: see
    /// [`compress`](Self::compress).
    pub(crate) fn is_plain_but_compressed(&self) -> bool {
        self.member.is_some()
            && self.batching.is_none()
            && !self.is_behind
            && self.snapshots.is_empty()
            && self.is_live()
    }

    /// A batch as the reader's cohort has it. `may_have_changed` is whether the reader may have another selector than it came
    /// with.
    pub(crate) fn compress(
        &mut self,
        reader: Reader<'_>,
        batch: &Batch,
        left_out: LeftOut,
        may_have_changed: bool,
        moment: Moment,
    ) -> Option<Bytes> {
        let format = self.format;
        let is_same = |selector: &_| !may_have_changed || reader.has_selector(selector);
        let member = self.member.as_mut()?;
        let mut bytes = match batch.is_empty() {
            true => Bytes::new(),
            false => member.batch(batch, is_same, |delivery| {
                reader.hub.frame(delivery, format)
            }),
        };
        if let Some(gap) = reader.hub.gap_bytes(format, left_out, moment) {
            bytes = [&bytes[..], &member.own(&gap)].concat().into();
        }
        Some(bytes)
    }

    /// What its bytes are in.
    pub(crate) fn coding(&self) -> Coding {
        self.member
            .as_ref()
            .map_or(Coding::Identity, |member| member.coding())
    }

    /// Why the hub has ended it, once it has.
    fn farewell_said(&self) -> Option<Farewell> {
        self.farewell
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// What comes next.
    pub(crate) fn next(&mut self, reader: Reader<'_>, moment: Moment) -> Next {
        match self.next_plain(reader, moment) {
            Next::Write(plain) => Next::Write(self.own(plain)),
            Next::End => match self.member.take() {
                Some(member) => Next::Write(member.finish()),
                None => Next::End,
            },
            next => next,
        }
    }

    /// A heartbeat is due and nothing else is to be said.
    pub(crate) fn heartbeat(&mut self, reader: Reader<'_>, moment: Moment) -> Bytes {
        let plain = reader.heartbeat(self.format, moment.now);
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

    fn next_plain(&mut self, reader: Reader<'_>, moment: Moment) -> Next {
        if !matches!(self.phase, Phase::Replaying) {
            // Who asks has written all that was there.
            self.pages.are_written();
        }
        match &mut self.phase {
            Phase::Opening(bytes) => {
                let bytes = std::mem::take(bytes);
                self.phase = match std::mem::take(&mut self.reads_log_first) {
                    true => Phase::Fetching(self.splice.position().offset),
                    false => Phase::Live,
                };
                Next::Write(bytes)
            }
            Phase::Live => {
                let batching = self.batching.as_ref();
                match batching.and_then(Batching::not_before) {
                    // One that was closed hears so at once.
                    Some(then) if then > moment.now && reader.is_open() => Next::Wait(then),
                    _ => Next::Look,
                }
            }
            Phase::Fetching(after) => {
                let after = *after;
                self.phase = Phase::Replaying;
                Next::Fetch(self.page_call(reader, after, moment))
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
        moment: Moment,
    ) -> Option<Bytes> {
        if !matches!(read, Some(Read::Lagged { .. }))
            && matches!(self.splice.step(), Step::Join { .. })
        {
            // The window has all that this reader wants: it is live.
            let _no_gap = self.splice.handle_window(0);
        }
        match read? {
            Read::Entries => self.write_batch(reader, batch, moment),
            Read::Lagged { after, floor } => {
                self.is_behind = true;
                self.handle_lag(reader, after, floor, moment);
                None
            }
            Read::Reset {
                from_series,
                before,
                series,
                after,
            } => {
                self.is_behind = true;
                let position = |series, offset| Position {
                    epoch: Epoch(series),
                    offset,
                };
                let from = from_series.map(|series| position(series, before));
                self.handle_epoch(reader, from, position(series, after), moment);
                None
            }
            Read::Moved { series, after } => {
                self.is_behind = true;
                let to = Position {
                    epoch: Epoch(series),
                    offset: after,
                };
                self.handle_move(reader, to, moment);
                None
            }
            Read::Closed(reason) => {
                tracing::debug!(connection = %reader.id(), %reason, "stream closed");
                self.phase = Phase::Ending(self.farewell(reader, reason));
                None
            }
        }
    }

    /// It has been given everything there is, and waits.
    pub(crate) fn has_caught_up(&mut self) {
        self.is_behind = false;
        if let Some(batching) = &mut self.batching {
            batching.has_caught_up();
        }
    }

    fn write_batch(
        &mut self,
        reader: Reader<'_>,
        batch: &mut Batch,
        moment: Moment,
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
        let left_out = reader.hub.leave_out(batch, 1, moment);
        let written = if self.member.is_some() {
            self.compress_what_is_left(reader, batch, left_out, moment)
        } else {
            let hub = reader.hub;
            hub.join_frames(self.format, batch, left_out, moment)
        };
        batch.clear();
        let written = written?;
        if let Some(batching) = &mut self.batching {
            batching.has_written(moment.now);
        }
        let (metrics, events) = (reader.hub.metrics(), written.events);
        if self.is_behind {
            metrics.record_replay(events, written.bytes.len(), moment.now);
        } else {
            let latency = moment.now.saturating_duration_since(written.oldest);
            metrics.record_deliveries(latency, 1, events, written.bytes.len(), moment.now);
        }
        self.forget_snapshots(reader);
        Some(written.bytes)
    }

    fn compress_what_is_left(
        &mut self,
        reader: Reader<'_>,
        batch: &Batch,
        left_out: LeftOut,
        moment: Moment,
    ) -> Option<Written> {
        if batch.is_empty() && left_out.gap().is_none() {
            return None;
        }
        let oldest = batch.first().map(|entry| entry.payload.committed_at());
        Some(Written {
            bytes: self.compress(reader, batch, left_out, true, moment)?,
            events: batch.len() as u64,
            oldest: oldest.unwrap_or(moment.now),
        })
    }

    fn handle_lag(&mut self, reader: Reader<'_>, after: Offset, floor: Offset, moment: Moment) {
        if matches!(self.splice.step(), Step::Live { .. }) {
            self.splice.handle_lag(after);
        }
        let gap = self.splice.handle_window(floor);
        match self.splice.step() {
            Step::Read { after } => self.phase = Phase::Fetching(after),
            Step::Join { after } | Step::Live { after } => {
                reader.rejoin(after);
            }
        }
        if let Some(gap) = gap {
            self.handle_gap(reader, gap, Vec::new(), moment);
        }
    }

    /// The log has begun another epoch: the reader hears of a gap and goes on after `to`.
    fn handle_epoch(
        &mut self,
        reader: Reader<'_>,
        from: Option<Position>,
        to: Position,
        moment: Moment,
    ) {
        let here = Bounds {
            epoch: to.epoch,
            floor: 0,
            head: to.offset,
        };
        self.splice = Splice::begin(ResumeFrom::Position(to), here).0;
        self.snapshots.clear();
        let gap = Gap {
            from,
            to,
            until: to,
            reason: GapReason::ForeignEpoch,
        };
        self.handle_gap(reader, gap, Vec::new(), moment);
    }

    /// Somebody has placed the cursor elsewhere: the reader hears what is missing before that place, and goes on from there.
    fn handle_move(&mut self, reader: Reader<'_>, to: Position, moment: Moment) {
        let placement = reader.placement();
        let known = reader.bounds();
        let bounds = match known.epoch == to.epoch {
            true => known,
            // Of another epoch the reader hears otherwise.
            false => Bounds {
                epoch: to.epoch,
                floor: 0,
                head: to.offset,
            },
        };
        let from = match &placement {
            Some(placement) if placement.is_earliest => ResumeFrom::Earliest,
            _ => ResumeFrom::Position(to),
        };
        let (splice, trimmed) = Splice::begin(from, bounds);
        self.splice = splice;
        // What the reader asks for again is more than the states of jobs that it was shown.
        self.snapshots.clear();
        reader.rejoin(self.splice.position().offset);
        let missing = placement.and_then(|placement| placement.gap);
        let gap = match (missing, trimmed) {
            // What came behind the place was trimmed meanwhile.
            (Some(gap), Some(trimmed)) => Some(Gap {
                to: trimmed.to,
                until: trimmed.until,
                ..gap
            }),
            (gap, trimmed) => gap.or(trimmed),
        };
        if let Some(gap) = gap {
            reader.hub.metrics().record_gap(&gap);
            let mut bytes = Vec::new();
            let message = Message::Gap(&gap, moment.unix_millis);
            reader.hub.write(self.format, message, &mut bytes);
            self.phase = Phase::Opening(Bytes::from(bytes));
        }
    }

    /// The page after `after`, as this reader gets it.
    fn page_call(&mut self, reader: Reader<'_>, after: Offset, moment: Moment) -> PageCall {
        let snapshots = self.snapshots.clone();
        let is_packed = self.member.is_some();
        self.pages.call(
            reader,
            after,
            self.format,
            is_packed,
            moment,
            move |record| {
                let topic = record.topics().next();
                let mut snapshots = snapshots.iter();
                !snapshots
                    .any(|(of, upto)| record.position.offset <= *upto && topic == Some(of.as_str()))
            },
        )
    }

    /// Takes a page from the log and moves the cursor behind it; the bytes to write for it.
    pub(crate) fn handle_page(
        &mut self,
        page: Result<HeldPage, ReadError>,
        reader: Reader<'_>,
        moment: Moment,
    ) -> Option<Bytes> {
        self.phase = Phase::Live;
        let HeldPage {
            rendered: page,
            permit,
        } = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(connection = %reader.id(), %error, "replay failed");
                self.phase = Phase::Ending(Bytes::new());
                return None;
            }
        };
        if reader.is_moved() {
            // The window has the news.
            return None;
        }
        if !self.pages.take(reader, permit) {
            // What it wants has changed while the page was read.
            self.phase = Phase::Fetching(self.splice.position().offset);
            return None;
        }
        if reader.bounds().epoch != self.splice.position().epoch {
            // It may be of either epoch. The window has the news, or will have them at once.
            return None;
        }
        let hub = reader.hub;
        let gap = self.splice.handle_rendered(&page);
        let Rendered {
            mut bytes, events, ..
        } = page;
        reader.rejoin(self.splice.position().offset);
        let left_out = self.pages.take_left_out(self.splice.position());
        hub.record_left_out(left_out);
        if let Some(gap) = hub.gap_bytes(self.format, left_out, moment) {
            bytes.extend_from_slice(&gap);
        }
        match gap {
            Some(gap) if gap.reason == GapReason::Thinned => {
                // What else there is follows: this reader's next event is still kept.
                hub.metrics().record_gap(&gap);
                let mut first = Vec::with_capacity(bytes.len() + 256);
                hub.write(
                    self.format,
                    Message::Gap(&gap, moment.unix_millis),
                    &mut first,
                );
                first.append(&mut bytes);
                bytes = first;
            }
            Some(gap) => {
                self.handle_gap(reader, gap, bytes, moment);
                return None;
            }
            None => {}
        }
        if bytes.is_empty() {
            return None;
        }
        hub.metrics().record_replay(events, bytes.len(), moment.now);
        reader.touch(moment.now);
        self.forget_snapshots(reader);
        Some(self.own(Bytes::from(bytes)))
    }

    /// Announces a gap, and goes on with what comes after it where the policy wants that.
    fn handle_gap(&mut self, reader: Reader<'_>, gap: Gap, after: Vec<u8>, moment: Moment) {
        match gap.reason {
            GapReason::ForeignEpoch => reader.hub.metrics().record_gap(&gap),
            _ => reader.hub.metrics().record_loss(&gap, moment.now),
        }
        let mut bytes = Vec::new();
        reader.hub.write(
            self.format,
            Message::Gap(&gap, moment.unix_millis),
            &mut bytes,
        );
        let policy = match gap.reason {
            // That is nobody's slowness, and all readers at once would have to come back.
            GapReason::ForeignEpoch => Overflow::DropOldest,
            _ => reader.hub.config().overflow,
        };
        match policy {
            Overflow::Disconnect => {
                self.farewell = Some(Farewell {
                    reason: CloseReason::Lagged,
                    retry: None,
                });
                self.phase = Phase::Ending(Bytes::from(bytes));
            }
            Overflow::DropOldest => {
                bytes.extend_from_slice(&after);
                let next = gap.to.offset.max(self.splice.position().offset);
                reader.rejoin(next);
                self.phase = Phase::Opening(Bytes::from(bytes));
            }
        }
    }

    /// The last words of a stream that the hub ends: when to come back, different for each reader.
    fn farewell(&mut self, reader: Reader<'_>, reason: CloseReason) -> Bytes {
        let base = match reason {
            CloseReason::Draining | CloseReason::Shutdown => Some(reader.hub.config().retry),
            CloseReason::Replaced => reader.hub.replaced_retry(&reader.id()),
            CloseReason::Expired | CloseReason::Revoked => Some(reader.hub.config().retry),
            _ => None,
        };
        let retry = base.map(|base| jittered_retry(base, reader.chance()));
        self.farewell = Some(Farewell { reason, retry });
        let mut bytes = Vec::new();
        let detail = match reason {
            CloseReason::Expired => {
                Some("what you have shown has expired; come back with a new one")
            }
            CloseReason::Revoked => Some("what you have shown is not good any more"),
            _ => None,
        };
        let unavailable;
        let message = match (detail, retry) {
            (Some(detail), retry) => {
                unavailable = Unavailable {
                    status: 401,
                    title: "Unauthorized",
                    detail,
                    code: reason.as_str(),
                    retry,
                };
                Some(Message::Unavailable(&unavailable))
            }
            (None, retry) => retry.map(Message::Farewell),
        };
        if let Some(message) = message {
            reader.hub.write(self.format, message, &mut bytes);
        }
        Bytes::from(bytes)
    }

    fn forget_snapshots(&mut self, reader: Reader<'_>) {
        if !self.snapshots.is_empty() {
            let cursor = reader.cursor().unwrap_or(Offset::MAX);
            self.snapshots.retain(|(_, offset)| *offset > cursor);
        }
    }
}

/// A reconnection time between `base` and one and a half of it, by `chance` from 0 to 1: not all readers come back at
/// once.
fn jittered_retry(base: Duration, chance: f64) -> Retry {
    let millis = base.mul_f64(1.0 + chance / 2.0).as_millis();
    Retry::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn is_in_snapshot(snapshots: &[(Topic, Offset)], topics: &[Topic], offset: Offset) -> bool {
    snapshots
        .iter()
        .any(|(topic, upto)| offset <= *upto && topics.first() == Some(topic))
}

/// As much as one write takes at once: enough to make the system call cheap per event, little enough
/// that a stalled reader holds no more than this and the socket's own buffers.
pub(crate) const MAX_CHUNK_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests;
