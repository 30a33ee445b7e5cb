//! The index of publishers' ids: in memory, written to the file as lists in the order of the log.
//!
//! An id is anywhere in the order of ids, so a B-tree of them changes a page for each id that is stored:
//! that was two thirds of what an append cost, and more the longer the history. In memory it costs one
//! look at a hash table, nine to eighteen bytes for each retained id. What is on the disk only serves to
//! fill the table when the log is opened, and is appended a few thousand ids at a time.
//!
//! The table knows 40 bits of a keyed hash. Whoever finds an offset here reads the record and compares the
//! id itself, so hashes that meet cost a read and decide nothing.

use std::hash::Hasher;
use std::sync::OnceLock;

use hashbrown::{HashTable, hash_table};
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use super::checked::{checked, with_checksum};
use crate::Offset;
use crate::encoding::{Damaged, Rest, put_number};

/// 40 bits of an id's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdHash(u64);

/// What a log's ids are hashed with, drawn when it is made: who does not know it cannot make hashes meet.
pub(super) type IdKey = [u8; 16];

/// Where ids stand.
pub(super) struct Ids {
    key: IdKey,
    /// By the first eight bits. Parts, so that growing moves a small part of all at a time, and each
    /// under its own lock, so that a reader who looks for an id waits for nobody.
    shards: Box<[Mutex<HashTable<IdEntry>>]>,
    loaded: OnceLock<()>,
}

/// The other 32 bits, and the lower half of the offset: no log holds four billion records.
#[derive(Clone, Copy, PartialEq, Eq)]
struct IdEntry {
    hash: u32,
    offset: u32,
}

impl IdEntry {
    /// What the hash table takes for a hash: it wants the upper bits to differ, too.
    fn spread(&self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Ids {
    /// None yet; [`wait_until_loaded`](Self::wait_until_loaded) waits until
    /// [`has_loaded`](Self::has_loaded) is told.
    pub(super) fn new(key: IdKey) -> Self {
        Self {
            key,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            loaded: OnceLock::new(),
        }
    }

    /// Makes room for so many, so that loading them does not move them again and again.
    pub(super) fn reserve(&self, count: usize) {
        for shard in &self.shards {
            shard.lock().reserve(count / SHARDS, IdEntry::spread);
        }
    }

    /// What the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().allocation_size()).sum()
    }

    pub(super) fn has_loaded(&self) {
        let _ = self.loaded.set(());
    }

    pub(super) fn wait_until_loaded(&self) {
        self.loaded.wait();
    }

    pub(super) fn hash(&self, id: &str) -> IdHash {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(id.as_bytes());
        IdHash(hasher.finish() & HASH_MASK)
    }

    fn place(&self, hash: IdHash, offset: Offset) -> (&Mutex<HashTable<IdEntry>>, IdEntry) {
        let entry = IdEntry {
            hash: hash.0 as u32,
            offset: offset as u32,
        };
        (&self.shards[(hash.0 >> 32) as usize % SHARDS], entry)
    }

    /// The offsets after `floor` and up to `head` at which an id of this hash may stand. Where there
    /// is none, as almost always for an id that is new, nothing is allocated.
    pub(super) fn candidates(&self, hash: IdHash, floor: Offset, head: Offset) -> Vec<Offset> {
        let (shard, looked_for) = self.place(hash, 0);
        let shard = shard.lock();
        shard
            .iter_hash(looked_for.spread())
            .filter(|entry| entry.hash == looked_for.hash)
            .filter_map(|entry| head.checked_sub((head as u32).wrapping_sub(entry.offset).into()))
            .filter(|offset| *offset > floor)
            .collect()
    }

    /// Notes that an id of this hash stands at `offset`, which no record has yet. When others of this hash
    /// may stand before it and after `floor`, nothing is noted, and these are their offsets.
    pub(super) fn insert_new(
        &self,
        hash: IdHash,
        offset: Offset,
        floor: Offset,
    ) -> Option<Vec<Offset>> {
        let (shard, entry) = self.place(hash, offset);
        let is_alike = |other: &IdEntry| other.hash == entry.hash;
        let mut shard = shard.lock();
        if let hash_table::Entry::Vacant(vacant) =
            shard.entry(entry.spread(), is_alike, IdEntry::spread)
        {
            vacant.insert(entry);
            return None;
        }
        drop(shard);
        Some(self.candidates(hash, floor, offset.saturating_sub(1)))
    }

    pub(super) fn insert(&self, hash: IdHash, offset: Offset) {
        let (shard, entry) = self.place(hash, offset);
        shard
            .lock()
            .insert_unique(entry.spread(), entry, IdEntry::spread);
    }

    pub(super) fn remove(&self, hash: IdHash, offset: Offset) {
        let (shard, entry) = self.place(hash, offset);
        if let Ok(found) = shard.lock().find_entry(entry.spread(), |e| *e == entry) {
            found.remove();
        }
    }
}

/// An id that is to be found, or no more.
pub(super) type IdAt = (IdHash, Offset);

/// The value for ids in the order of their offsets, of which the last is the key. The first stands
/// whole and the others as differences.
pub(super) fn list_value(key: &[u8], ids: &[IdAt]) -> Vec<u8> {
    let mut value = Vec::with_capacity(ids.len() * 6 + 16);
    let mut before = 0;
    for (hash, offset) in ids {
        put_number(&mut value, offset.saturating_sub(before));
        before = *offset;
        value.extend_from_slice(&hash.0.to_le_bytes()[..HASH_BYTES]);
    }
    with_checksum(key, &value)
}

/// What [`list_value`] was given.
pub(super) fn list(key: &[u8], value: &[u8]) -> Result<Vec<IdAt>, Damaged> {
    let mut rest = Rest(checked(key, value)?);
    let mut ids = Vec::with_capacity(rest.0.len() / (HASH_BYTES + 1));
    let mut offset: Offset = 0;
    while !rest.0.is_empty() {
        offset = offset.checked_add(rest.number()?).ok_or(Damaged)?;
        let (bytes, others) = rest.0.split_first_chunk::<HASH_BYTES>().ok_or(Damaged)?;
        let [a, b, c, d, e] = *bytes;
        ids.push((IdHash(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])), offset));
        rest = Rest(others);
    }
    Ok(ids)
}

/// How many ids a list has at most: it fills a page of sixteen KiB.
pub(super) const MAX_LIST: usize = 2_600;

const SHARDS: usize = 256;
const HASH_BYTES: usize = 5;
const HASH_MASK: u64 = (1 << (8 * HASH_BYTES)) - 1;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a map from ids to offsets; also far beyond what the lower half of an offset tells.
        #[test]
        fn an_id_is_found_where_it_stands(
            base in prop_oneof![Just(0), Just(u64::from(u32::MAX) - 5), any::<u32>().prop_map(|n| u64::from(n) << 8)],
            steps in proptest::collection::vec((0..40u8, any::<bool>()), 1..200),
        ) {
            let ids = Ids::new([7; 16]);
            let mut naive: HashMap<u8, Offset> = HashMap::new();
            let mut head = base;
            for (name, goes) in steps {
                let hash = ids.hash(&name.to_string());
                match (naive.get(&name).copied(), goes) {
                    (Some(offset), true) => {
                        ids.remove(hash, offset);
                        naive.remove(&name);
                    }
                    (None, _) => {
                        head += 1;
                        ids.insert(hash, head);
                        naive.insert(name, head);
                    }
                    (Some(_), false) => {}
                }
                for name in 0..40u8 {
                    let found = ids.candidates(ids.hash(&name.to_string()), base, head);
                    prop_assert_eq!(found, Vec::from_iter(naive.get(&name).copied()));
                }
            }
            prop_assert!(ids.candidates(ids.hash("0"), head, head).is_empty());
        }

        #[test]
        fn a_list_is_read_as_it_was_written_or_found_out(
            ids in proptest::collection::btree_map(any::<u64>(), 0..=HASH_MASK, 0..50),
            at: prop::sample::Index,
        ) {
            let ids: Vec<_> = ids.into_iter().map(|(offset, hash)| (IdHash(hash), offset)).collect();
            let mut value = list_value(b"key", &ids);
            prop_assert_eq!(list(b"key", &value), Ok(ids));
            prop_assert_eq!(list(b"kez", &value), Err(Damaged));
            let at = at.index(value.len());
            value[at] ^= 1;
            prop_assert_eq!(list(b"key", &value), Err(Damaged));
        }
    }

    #[test]
    fn the_hash_of_a_file_is_the_same_tomorrow() {
        let ids = Ids::new(*b"0123456789abcdef");
        assert_eq!(ids.hash("order-7"), IdHash(34_469_611_331));
    }
}
