//! Who is on the shard: joining, leaving, being closed.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};

use super::{Effects, Shard, park::announce};
use crate::{
    CloseReason, ReaderKey, Start,
    reader::{Reader, State},
    slab::Slab,
};

impl<T> Shard<T> {
    /// Takes a reader in, or gives it back when its id is in use.
    pub(crate) fn join(
        &mut self,
        mut reader: Reader,
        start: Start,
        now: Instant,
    ) -> Result<ReaderKey, Reader> {
        if self.find(&reader.info.id).is_some() {
            return Err(reader);
        }
        self.last_generation = self.last_generation.wrapping_add(1);
        reader.generation = self.last_generation;
        reader.since = self.compact(now);
        reader.direct_after = self.direct_after;
        reader.cursor = match start {
            Start::Live => self.window.head(),
            Start::After(offset) => offset,
        };
        reader.next_seq = self.window.seq_after(reader.cursor);
        let hash = self.hasher.hash_one(&reader.info.id);
        let generation = reader.generation;
        let slot = self.readers.insert(reader);
        let (readers, hasher) = (&self.readers, &self.hasher);
        self.by_id
            .insert_unique(hash, slot, |&slot| hash_of(readers, hasher, slot));
        self.most_ids.grown(self.by_id.len());
        self.link(slot);
        Ok(ReaderKey {
            shard: self.number,
            slot,
            generation,
        })
    }

    /// Lets a reader go; dropping it (its place, its waker) is for when the lock is gone.
    pub(crate) fn leave(&mut self, key: ReaderKey, fx: &mut Effects<T>) -> Option<Reader> {
        self.reader(key)?;
        self.take_out(key, CloseReason::Client, fx);
        fx.notes.extend(self.notes.remove(&key.slot));
        self.readers.remove(key.slot)
    }

    /// Takes a reader out of the index and tells it why; false when it is closed already, or gone.
    pub(crate) fn close(
        &mut self,
        key: ReaderKey,
        reason: CloseReason,
        fx: &mut Effects<T>,
    ) -> bool {
        if !self.take_out(key, reason, fx) {
            return false;
        }
        if let Some(reader) = self.readers.get_mut(key.slot) {
            announce(reader, key, &mut self.ready, &mut fx.wakers);
            self.take_ready_waker(fx);
        }
        true
    }

    /// Takes a reader out of every index, its id included; only its place stays.
    fn take_out(&mut self, key: ReaderKey, reason: CloseReason, fx: &mut Effects<T>) -> bool {
        if self.open_reader(key).is_none() {
            return false;
        }
        self.unlink(key.slot);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return false;
        };
        reader.state = State::Closed(reason);
        let held = reader.info.held.as_ref();
        fx.ended.extend(held.map(|held| (Arc::clone(held), reason)));
        if !reader.patterns.is_empty() {
            fx.released.push(std::mem::take(&mut reader.patterns));
        }
        let hash = self.hasher.hash_one(&reader.info.id);
        if let Ok(found) = self.by_id.find_entry(hash, |&slot| slot == key.slot) {
            found.remove();
        }
        if let Some(capacity) = self.most_ids.shrunk(self.by_id.len()) {
            let (readers, hasher) = (&self.readers, &self.hasher);
            self.by_id
                .shrink_to(capacity, |&slot| hash_of(readers, hasher, slot));
        }
        self.totals.closed[reason.index()] += 1;
        true
    }
}

fn hash_of(readers: &Slab<Reader>, hasher: &RandomState, slot: u32) -> u64 {
    readers
        .get(slot)
        .map_or(0, |reader| hasher.hash_one(&reader.info.id))
}
