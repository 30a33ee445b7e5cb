//! One reader of the pool, as the session that serves it sees it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sse_broker::{Bounds, Epoch, Offset, ReadRequest, RecordRef, Scope};
use sse_pool::{CloseReason, ConnectionId, ConnectionInfo, Entry, ReaderKey, Selector};

use super::when_late::Reason;
use super::{EncodedRecord, Hub, LeftOut, Placement};
use crate::access::visibility;
use crate::clock::Moment;
use crate::wire::{Format, Message};

/// Entries of the window, as they are read.
pub(crate) type Batch = Vec<Arc<Entry<Arc<EncodedRecord>>>>;

/// A reader and its hub.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) key: ReaderKey,
}

impl Reader<'_> {
    /// The connection that it is; `None` when it is gone.
    pub(crate) fn info(self) -> Option<Arc<ConnectionInfo>> {
        self.hub.inner.pool.info(self.key)
    }

    /// Whether it was neither closed nor has left.
    pub(crate) fn is_open(self) -> bool {
        self.hub.inner.pool.closed(self.key).is_none()
    }

    /// Where it is; nowhere when it is gone.
    pub(crate) fn address(self) -> IpAddr {
        let info = self.info();
        info.map_or(Ipv4Addr::UNSPECIFIED.into(), |info| info.ip.into())
    }

    /// Its id; that of nobody when it is gone.
    pub(crate) fn id(self) -> ConnectionId {
        self.info()
            .map_or(ConnectionId::from_uuid([0; 16]), |info| info.id.clone())
    }

    /// A number from 0 to 1 that is this reader's own, and different for each: chance, drawn when its id was made.
    pub(crate) fn chance(self) -> f64 {
        let bytes = self.id().as_uuid().unwrap_or_default();
        let half = bytes
            .iter()
            .skip(8)
            .fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte));
        #[expect(clippy::cast_precision_loss, reason = "53 bits of chance will do")]
        let share = (half & (u64::MAX >> 2)) as f64 / (u64::MAX >> 2) as f64;
        share
    }

    /// Everything up to here was delivered to it or is not for it.
    pub(crate) fn cursor(self) -> Option<Offset> {
        self.hub.inner.pool.cursor(self.key)
    }

    /// Places the cursor: what was read elsewhere reached `after`.
    pub(crate) fn rejoin(self, after: Offset) {
        self.hub.inner.pool.rejoin(self.key, after);
    }

    /// Whether somebody has placed its cursor elsewhere, and it has not heard.
    pub(crate) fn is_moved(self) -> bool {
        self.hub.inner.pool.is_moved(self.key)
    }

    /// Where it was placed, once it has heard of that.
    pub(crate) fn placement(self) -> Option<Arc<Placement>> {
        self.hub.inner.pool.take_note(self.key)?.downcast().ok()
    }

    /// A sign of life: something was written to it.
    pub(crate) fn touch(self, now: Instant) {
        self.hub.inner.pool.touch(self.key, now);
    }

    /// What it wants now; `None` when it is gone.
    pub(crate) fn selector(self) -> Option<Arc<Selector>> {
        self.hub.inner.pool.selector(self.key)
    }

    /// Whether that is the very selector it wants.
    pub(crate) fn has_selector(self, selector: &Arc<Selector>) -> bool {
        self.hub.inner.pool.has_selector(self.key, selector)
    }

    /// Of which epoch its cursor is; `None` while it has yet to hear that the log has begun another one.
    pub(crate) fn epoch(self) -> Option<Epoch> {
        self.hub.inner.pool.series(self.key).map(Epoch)
    }

    /// What the log covers now.
    pub(crate) fn bounds(self) -> Bounds {
        self.hub.inner.broker.bounds()
    }

    /// It took nothing for the send timeout: it is let go.
    pub(crate) fn stalled(self, now: Instant) {
        let id = self.id();
        if self.hub.inner.pool.close(&id, CloseReason::Stalled) {
            self.hub.inner.metrics.record_stalled(1, now);
            tracing::info!(connection = %id, reason = %CloseReason::Stalled, "connection evicted");
        }
    }

    /// A heartbeat is due and nothing else is to be said.
    pub(crate) fn heartbeat(self, format: Format, now: Instant) -> Bytes {
        self.touch(now);
        self.hub.inner.metrics.record_heartbeat();
        self.hub.heartbeat_bytes(format)
    }

    /// The page of the log that it needs after `after`: of its own topics, where it names them.
    pub(crate) fn page_request(
        self,
        after: Offset,
        max_records: usize,
        max_bytes: usize,
    ) -> ReadRequest {
        let scope = match (self.selector(), self.info()) {
            (Some(selector), Some(info)) => {
                let connection = Arc::from(format!("connection/{}", info.id));
                visibility::scope(&selector.topics, &info.client.visibility, Some(connection))
            }
            _ => Scope::All,
        };
        ReadRequest {
            after,
            scope,
            max_records,
            max_bytes,
            now: self.hub.age_now(),
        }
    }
}

/// A batch as bytes.
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    pub(crate) events: u64,
    /// When the oldest of them was committed.
    pub(crate) oldest: Instant,
}

impl Hub {
    /// The event's bytes in this format.
    pub(crate) fn frame<'a>(&self, encoded: &'a EncodedRecord, format: Format) -> &'a Bytes {
        encoded.frame(format, &self.inner.compressor)
    }

    /// A message of the hub's own, as bytes.
    pub(crate) fn write(&self, format: Format, message: Message<'_>, out: &mut Vec<u8>) {
        format.write(message, &self.inner.compressor, out);
    }

    fn heartbeat_bytes(&self, format: Format) -> Bytes {
        let mut bytes = Vec::new();
        let heartbeat = Message::Heartbeat(self.inner.config.heartbeat_form);
        self.write(format, heartbeat, &mut bytes);
        Bytes::from(bytes)
    }

    /// Takes out of a batch what its readers do not get: what has expired, and what they are spared because they are late.
    pub(crate) fn leave_out(&self, batch: &mut Batch, readers: usize, moment: Moment) -> LeftOut {
        let left_out = self.inner.when_late.leave_out(batch, moment);
        self.inner.metrics.record_left_out(left_out, readers);
        left_out
    }

    /// Why a reader does not get a record that it reads from the log now, if it does not.
    pub(crate) fn leaves_out(&self, record: &RecordRef<'_>, moment: Moment) -> Option<Reason> {
        let when_late = &self.inner.when_late;
        when_late.leaves_out(record, moment.unix_millis)
    }

    /// What was left out of a page of the log for one reader.
    pub(crate) fn record_left_out(&self, left_out: LeftOut) {
        self.inner.metrics.record_left_out(left_out, 1);
    }

    /// The frames of a batch behind each other, and what is to be told of what was left out of it; `None` when there is neither.
    pub(crate) fn join_frames(
        &self,
        format: Format,
        batch: &Batch,
        left_out: LeftOut,
        moment: Moment,
    ) -> Option<Written> {
        let gap = self.gap_bytes(format, left_out, moment);
        let bytes = match &batch[..] {
            [] => Bytes::from(gap?),
            [only] if gap.is_none() => self.frame(&only.payload, format).clone(),
            many => {
                let size = many
                    .iter()
                    .map(|entry| self.frame(&entry.payload, format).len());
                let gap = gap.unwrap_or_default();
                let mut bytes = Vec::with_capacity(size.sum::<usize>() + gap.len());
                for entry in many {
                    bytes.extend_from_slice(self.frame(&entry.payload, format));
                }
                bytes.extend_from_slice(&gap);
                Bytes::from(bytes)
            }
        };
        let oldest = batch.first().map(|entry| entry.payload.committed_at());
        Some(Written {
            bytes,
            events: batch.len() as u64,
            oldest: oldest.unwrap_or(moment.now),
        })
    }

    /// What a reader is told of what was left out.
    pub(crate) fn gap_bytes(
        &self,
        format: Format,
        left_out: LeftOut,
        moment: Moment,
    ) -> Option<Vec<u8>> {
        let gap = left_out.gap()?;
        let mut bytes = Vec::new();
        self.write(format, Message::Gap(&gap, moment.unix_millis), &mut bytes);
        Some(bytes)
    }
}
