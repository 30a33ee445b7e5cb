//! One independently locked part of the pool: a window, the readers on it, and the index between them.
//!
//! Everything here happens under the shard's lock and is therefore small: entries and selectors are `Arc`s,
//! nothing foreign is called, nothing large is dropped. What has to happen afterwards (wakes, drops, pattern
//! releases) is handed out as [`Effects`].
//!
//! This file is what a shard is and how a reader is found on it; what it does is in the files below, one idea
//! each.

mod append;
mod cursor;
mod exact;
mod group;
mod links;
mod membership;
mod park;
mod read;
mod reset;
mod scan;
mod status;
mod sweep;

use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::Arc,
    task::Waker,
    time::Instant,
};

use hashbrown::HashTable;

use self::exact::Head;
use self::reset::Series;
pub(crate) use self::{
    links::Exchange,
    park::{Park, Waiter},
    read::Step,
};
use crate::{
    CloseReason, ConnectionId, Entry, HeldByConnection, Note, ReaderKey, WindowConfig,
    compact_instant::{CompactInstant, Origin},
    high_water::HighWater,
    patterns::PatternKeys,
    reader::{Reader, State},
    slab::Slab,
    topics::Index,
    window::Window,
};

#[derive(Debug)]
pub(crate) struct Shard<T> {
    number: u16,
    window: Window<T>,
    readers: Slab<Reader>,
    /// The open readers by id; four bytes each, the id stands in the reader.
    by_id: HashTable<u32>,
    most_ids: HighWater,
    index: Index,
    /// The entries in the window that are addressed to connections.
    directs: HashMap<ConnectionId, VecDeque<u64>>,
    most_directs: HighWater,
    /// What came with the last move of a reader, by its slot.
    notes: HashMap<u32, Note>,
    /// After this offset no entry addressed to anyone was evicted.
    direct_after: u64,
    /// The readers without a waker of their own that have something to hear.
    ready: Vec<ReaderKey>,
    ready_waker: Option<Waker>,
    last_generation: u32,
    hasher: RandomState,
    totals: Totals,
    /// What the readers' instants are counted from; there as soon as a reader is.
    origin: Option<Origin>,
    /// The heads of the lists being merged; kept for its capacity.
    heads: BinaryHeap<Head>,
    series: Series,
}

/// Sums over the life of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) delivered_entries: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) lagged: u64,
    pub(crate) closed: [u64; CloseReason::COUNT],
}

impl Totals {
    /// Counts what a reader has taken.
    fn count_taken(&mut self, reader: &mut Reader, entries: usize, bytes: usize) {
        reader.in_hand = true;
        reader.delivered_entries += entries as u64;
        reader.delivered_bytes += bytes as u64;
        self.delivered_entries += entries as u64;
        self.delivered_bytes += bytes as u64;
    }
}

/// What is left to do once the lock is gone.
#[derive(Debug)]
pub(crate) struct Effects<T> {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) evicted: Vec<Arc<Entry<T>>>,
    pub(crate) released: Vec<PatternKeys>,
    pub(crate) notes: Vec<Note>,
    /// What is to hear that its connection has ended.
    pub(crate) ended: Vec<(Arc<dyn HeldByConnection>, CloseReason)>,
    pub(crate) readers: usize,
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            evicted: Vec::new(),
            released: Vec::new(),
            notes: Vec::new(),
            ended: Vec::new(),
            readers: 0,
        }
    }
}

impl<T> Shard<T> {
    pub(crate) fn new(
        number: u16,
        shards: usize,
        bounds: WindowConfig,
        start_offset: u64,
        series: u64,
    ) -> Self {
        let window = Window::new(bounds, shards, start_offset);
        Self {
            number,
            direct_after: start_offset,
            window,
            readers: Slab::new(),
            by_id: HashTable::new(),
            most_ids: HighWater::default(),
            most_directs: HighWater::default(),
            index: Index::new(),
            directs: HashMap::new(),
            notes: HashMap::new(),
            ready: Vec::new(),
            ready_waker: None,
            last_generation: 0,
            hasher: RandomState::new(),
            totals: Totals::default(),
            origin: None,
            heads: BinaryHeap::new(),
            series: Series::new(series, start_offset),
        }
    }

    pub(crate) const fn set_max_bytes(&mut self, max_bytes: usize) {
        self.window.set_max_bytes(max_bytes);
    }

    pub(crate) const fn window(&self) -> &Window<T> {
        &self.window
    }

    pub(crate) const fn index(&self) -> &Index {
        &self.index
    }

    pub(crate) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// An instant in few bytes; the first one ever asked about becomes the origin.
    pub(crate) fn compact(&mut self, now: Instant) -> CompactInstant {
        self.origin
            .get_or_insert_with(|| Origin::new(now))
            .compact(now)
    }

    /// The open reader with this id.
    pub(crate) fn find(&self, id: &ConnectionId) -> Option<u32> {
        let is_it = |&slot: &u32| self.readers.get(slot).is_some_and(|it| it.info.id == *id);
        self.by_id.find(self.hasher.hash_one(id), is_it).copied()
    }

    pub(crate) fn key_of(&self, id: &ConnectionId) -> Option<ReaderKey> {
        self.find(id).and_then(|slot| self.key(slot))
    }

    fn key(&self, slot: u32) -> Option<ReaderKey> {
        let generation = self.readers.get(slot)?.generation;
        Some(ReaderKey {
            shard: self.number,
            slot,
            generation,
        })
    }

    pub(crate) fn reader(&self, key: ReaderKey) -> Option<&Reader> {
        self.readers
            .get(key.slot)
            .filter(|reader| reader.generation == key.generation)
    }

    fn reader_mut(&mut self, key: ReaderKey) -> Option<&mut Reader> {
        self.readers
            .get_mut(key.slot)
            .filter(|reader| reader.generation == key.generation)
    }

    pub(crate) fn open_reader(&self, key: ReaderKey) -> Option<&Reader> {
        self.reader(key)
            .filter(|reader| !matches!(reader.state, State::Closed(_)))
    }

    /// One past the highest slot in use.
    pub(crate) const fn slots(&self) -> usize {
        self.readers.end()
    }

    /// The keys of the open readers in these slots.
    pub(crate) fn keys_in(&self, slots: Range<usize>) -> impl Iterator<Item = ReaderKey> {
        slots
            .filter_map(|slot| self.key(u32::try_from(slot).ok()?))
            .filter(|&key| self.open_reader(key).is_some())
    }
}
