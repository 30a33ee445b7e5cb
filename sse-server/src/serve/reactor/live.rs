//! Readers that are live and nothing else: those that get the same are read together, and each is sent the same bytes, or those
//! of its cohort.
//!
//! Most deliveries of a hub are of this kind, and what they cost beside the system call is mostly memory that the
//! kernel has driven out of the processor's caches meanwhile, and a lock that waits for what the kernel has written. So
//! a few readers are looked up one right after the other, in one visit to the lock, before the first is written to.

use sse_pool::{GroupRead, Read, ReaderKey};

use super::Reactor;
use super::table::Ticks;
use crate::clock::Moment;
use crate::hub::Reader;
use crate::session::{MAX_CHUNK_BYTES, Session};

impl Reactor {
    /// Serves the next few readers, and says how many.
    pub(super) fn serve_group(&mut self, moment: Moment) -> usize {
        let mut group = std::mem::take(&mut self.group);
        let mut served = 0;
        let mut other = None;
        while served < GROUP
            && other.is_none()
            && let Some(key) = self.ready.pop_front()
        {
            served += 1;
            match self.table.get(key) {
                None => {}
                Some(entry) if entry.is_live() => group.push(key),
                Some(_) => other = Some(key),
            }
        }
        let mut rest = &group[..];
        while !rest.is_empty() {
            let served = self.serve_group_read(rest, moment);
            rest = rest.get(served..).unwrap_or_default();
        }
        group.clear();
        self.group = group;
        if let Some(key) = other {
            self.serve(key, moment);
        }
        served
    }

    /// Serves the first of `keys` and those behind it that get the same; says how many. They are live.
    pub(super) fn serve_group_read(&mut self, keys: &[ReaderKey], moment: Moment) -> usize {
        let taken = self
            .shard
            .read_group(keys, moment.now, MAX_CHUNK_BYTES, &mut self.batch);
        let keys = keys.get(..taken.readers).unwrap_or(keys);
        match taken.read {
            Some(Read::Entries) => self.deliver(keys, taken, moment),
            None => {
                for &key in keys {
                    if let Some(entry) = self.table.get(key) {
                        entry.settle();
                    }
                }
            }
            Some(other) => {
                for &key in keys {
                    self.begin_session(key, other, moment);
                    self.ready.push_back(key);
                }
            }
        }
        keys.len()
    }

    /// Sends the batch to readers that have got it; those for whom there may be more are served again.
    fn deliver(&mut self, keys: &[ReaderKey], taken: GroupRead, moment: Moment) {
        self.pace.found(self.batch.len());
        let left_out = self.hub.leave_out(&mut self.batch, keys.len(), moment);
        let is_silent = self.batch.is_empty() && left_out.gap().is_none();
        let ticks = Ticks::since(self.origin, moment.now);
        let mut framed = None;
        let (mut compressed_readers, mut compressed_bytes) = (0, 0);
        for &key in keys {
            let Some(entry) = self.table.get(key) else {
                continue;
            };
            let is_chunked = entry.is_chunked;
            let registry = self.poll.get_ref().registry();
            let is_sent = if is_silent {
                Ok(true)
            } else if let Some(session) = entry.live_session() {
                let reader = Reader {
                    hub: &self.hub,
                    key,
                };
                let may_have_changed = taken.may_have_changed;
                let Some(bytes) =
                    session.compress(reader, &self.batch, left_out, may_have_changed, moment)
                else {
                    continue;
                };
                compressed_readers += 1;
                compressed_bytes += bytes.len();
                let wire = if is_chunked {
                    self.frames.chunk(&bytes)
                } else {
                    bytes
                };
                entry.send(registry, &wire, ticks, moment.now)
            } else {
                let kind = (entry.format, is_chunked);
                let at = match framed {
                    Some((known, at)) if known == kind => at,
                    _ => self
                        .frames
                        .find(kind.0, kind.1, &self.hub, &self.batch, left_out, moment),
                };
                framed = Some((kind, at));
                match self.frames.wire(at) {
                    Some(wire) => entry.send(registry, wire, ticks, moment.now),
                    None => Ok(true),
                }
            };
            match is_sent {
                Ok(true) if taken.is_waiting => entry.settle(),
                Ok(true) => self.ready.push_back(key),
                Ok(false) => {}
                Err(error) => {
                    self.broken(key, &error, true);
                }
            }
        }
        if let Some(oldest) = self.batch.first()
            && compressed_readers > 0
        {
            let latency = moment
                .now
                .saturating_duration_since(oldest.payload.committed_at());
            self.hub.metrics().record_deliveries(
                latency,
                compressed_readers,
                self.batch.len() as u64,
                compressed_bytes,
                moment.now,
            );
        }
    }

    /// Something else than entries is to be told to a reader that was live.
    fn begin_session(&mut self, key: ReaderKey, read: Read, moment: Moment) {
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let reader = Reader {
            hub: &self.hub,
            key,
        };
        let epoch = match (reader.epoch(), read) {
            (Some(epoch), _) => epoch,
            // The news say where it goes on, or it does not.
            (None, Read::Reset { .. } | Read::Closed(_)) => reader.bounds().epoch,
            // The log has begun another epoch since it was read. It hears that first: what it would fetch now is of the new one.
            (None, _) => return,
        };
        let format = entry.format;
        let session = entry
            .more()
            .session
            .get_or_insert_with(|| Box::new(Session::plain(format, reader, epoch)));
        let bytes = session.handle_read(Some(read), reader, &mut self.batch, moment);
        debug_assert!(bytes.is_none(), "only entries are written");
    }
}

/// Readers looked up together; what they are sent stays near the processor meanwhile.
const GROUP: usize = 16;
