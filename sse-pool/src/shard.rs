//! One independently locked part of the pool: a window, the readers on it, and the index between them.
//!
//! Everything here happens under the shard's lock and is therefore small: entries and selectors are `Arc`s,
//! nothing foreign is called, nothing large is dropped. What has to happen afterwards (wakes, drops, pattern
//! releases) is handed out as [`Effects`].

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, binary_heap::PeekMut},
    hash::{BuildHasher, RandomState},
    ops::Range,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use hashbrown::HashTable;

use crate::{
    CloseReason, ConnectionId, ConnectionInfo, ConnectionStatus, Entry, ReaderKey, ReaderState,
    Selector, Start, WindowConfig,
    high_water::HighWater,
    patterns::PatternKey,
    reader::{Links, Reader, State},
    slab::Slab,
    topics::{ALL, Content, Index, Member},
    window::Window,
};

/// How many entries a pattern reader looks at per visit to the lock.
pub(crate) const SCAN_CHUNK: usize = 64;

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
    /// After this offset no entry addressed to anyone was evicted.
    direct_after: u64,
    /// The readers without a waker of their own that have something to hear.
    ready: Vec<ReaderKey>,
    ready_waker: Option<Waker>,
    last_generation: u32,
    hasher: RandomState,
    totals: Totals,
    /// The heads of the lists being merged; kept for its capacity.
    heads: BinaryHeap<Head>,
}

/// Sums over the life of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) delivered_entries: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) lagged: u64,
    pub(crate) closed: [u64; CloseReason::COUNT],
}

/// The next entry of one list in a merge: sequence number, list, position.
type Head = Reverse<(u64, Source, usize)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Topic(u32),
    Direct,
}

/// What is left to do once the lock is gone.
#[derive(Debug)]
pub(crate) struct Effects<T> {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) evicted: Vec<Arc<Entry<T>>>,
    pub(crate) released: Vec<PatternKey>,
    pub(crate) readers: usize,
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Self {
            wakers: Vec::new(),
            evicted: Vec::new(),
            released: Vec::new(),
            readers: 0,
        }
    }
}

/// What a look at the window gave.
pub(crate) enum Step<T> {
    Entries,
    Nothing,
    Lagged {
        after: u64,
        floor: u64,
    },
    Closed(CloseReason),
    /// Entries to be filtered without the lock; then come back with the same [`Scan`].
    Filter {
        chunk: Vec<Arc<Entry<T>>>,
        selector: Arc<Selector>,
        info: Arc<ConnectionInfo>,
    },
}

/// How far a pattern reader's read has come between two visits to the lock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    seeks: u32,
    next_seq: u64,
    cursor: u64,
    taken: usize,
    taken_bytes: usize,
    full: bool,
}

impl Scan {
    /// Takes what is wanted of a chunk, up to the budget.
    pub(crate) fn filter<T>(
        &mut self,
        chunk: Vec<Arc<Entry<T>>>,
        selector: &Selector,
        info: &ConnectionInfo,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) {
        for entry in chunk {
            if entry.offset > self.cursor && selector.wants(&entry, &info.identities, &info.id) {
                if self.taken > 0 && self.taken_bytes.saturating_add(entry.size_bytes) > max_bytes {
                    self.full = true;
                    return;
                }
                self.taken += 1;
                self.taken_bytes = self.taken_bytes.saturating_add(entry.size_bytes);
                self.cursor = entry.offset;
                out.push(entry);
            } else {
                self.cursor = self.cursor.max(entry.offset);
            }
            self.next_seq += 1;
        }
    }
}

/// What became of an attempt to park.
pub(crate) enum Park {
    /// Parked; a waker that was replaced is to be dropped without the lock.
    Parked(Option<Waker>),
    /// Come back with a clone of the task's waker, made without the lock.
    NeedsWaker,
}

/// What became of an attempt to change a selector, with what is not needed any more, to be let go without the
/// lock.
pub(crate) enum Exchange {
    Done {
        selector: Arc<Selector>,
        patterns: Box<[PatternKey]>,
    },
    /// Someone else changed it since it was looked at.
    Changed {
        patterns: Box<[PatternKey]>,
    },
    Gone {
        patterns: Box<[PatternKey]>,
    },
}

/// How a reader that finds nothing is told later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter<'a> {
    Task(&'a Waker),
    Batch,
}

impl<T> Shard<T> {
    pub(crate) fn new(number: u16, bounds: WindowConfig, start_offset: u64) -> Self {
        let window = Window::new(bounds, start_offset);
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
            ready: Vec::new(),
            ready_waker: None,
            last_generation: 0,
            hasher: RandomState::new(),
            totals: Totals::default(),
            heads: BinaryHeap::new(),
        }
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

    // ---- joining and leaving -------------------------------------------------------------------------

    /// Takes a reader in, or gives it back when its id is in use.
    pub(crate) fn join(
        &mut self,
        mut reader: Box<Reader>,
        start: Start,
    ) -> Result<ReaderKey, Box<Reader>> {
        if self.find(&reader.info.id).is_some() {
            return Err(reader);
        }
        self.last_generation = self.last_generation.wrapping_add(1);
        reader.generation = self.last_generation;
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
    pub(crate) fn leave(&mut self, key: ReaderKey, fx: &mut Effects<T>) -> Option<Box<Reader>> {
        self.reader(key)?;
        self.take_out(key, CloseReason::Client, fx);
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
        fx.released.extend(std::mem::take(&mut reader.patterns));
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

    /// Exchanges the selector, if it is still the one that was seen.
    ///
    /// A parked reader stays parked: it has seen everything so far, and the new selector holds from here on.
    /// One that is reading gets what the new selector wants from its cursor on.
    pub(crate) fn exchange_selector(
        &mut self,
        key: ReaderKey,
        seen: &Arc<Selector>,
        new: &Arc<Selector>,
        patterns: Box<[PatternKey]>,
    ) -> Exchange {
        match self.open_reader(key) {
            None => return Exchange::Gone { patterns },
            Some(reader) if !Arc::ptr_eq(&reader.selector, seen) => {
                return Exchange::Changed { patterns };
            }
            Some(_) => {}
        }
        self.unlink(key.slot);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return Exchange::Gone { patterns };
        };
        let selector = std::mem::replace(&mut reader.selector, Arc::clone(new));
        let patterns = std::mem::replace(&mut reader.patterns, patterns);
        self.link(key.slot);
        Exchange::Done { selector, patterns }
    }

    /// Sets the cursor of a reader; a parked one becomes ready, and is told when `wake` is given.
    pub(crate) fn seek(
        &mut self,
        key: ReaderKey,
        after: u64,
        wake: Option<&mut Effects<T>>,
    ) -> bool {
        if self.open_reader(key).is_none() {
            return false;
        }
        let next_seq = self.window.seq_after(after);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return false;
        };
        reader.cursor = after;
        reader.next_seq = next_seq;
        reader.lagging = false;
        reader.seeks = reader.seeks.wrapping_add(1);
        if reader.state != State::Parked {
            return true;
        }
        reader.state = State::Ready;
        for link in reader.links.as_slice() {
            if let Some(node) = self.index.node_mut(link.node) {
                node.parked -= 1;
            }
        }
        if let Some(fx) = wake {
            announce(reader, key, &mut self.ready, &mut fx.wakers);
            self.take_ready_waker(fx);
        }
        true
    }

    pub(crate) fn touch(&mut self, key: ReaderKey, now: Instant) {
        if let Some(reader) = self.reader_mut(key) {
            reader.since = reader.since.max(now);
        }
    }

    /// Makes the reader a member of every node its selector and its identities name.
    fn link(&mut self, slot: u32) {
        let floor = self.window.floor();
        let Some(reader) = self.readers.get_mut(slot) else {
            return;
        };
        let mut nodes: Vec<u32> = Vec::new();
        if reader.follows_all() {
            nodes.push(ALL);
        } else {
            let names = reader
                .selector
                .exact_topics()
                .iter()
                .chain(&*reader.info.identities);
            nodes.extend(names.map(|name| self.index.topic_or_insert(name, floor)));
            for key in &reader.patterns {
                nodes.push(
                    self.index
                        .pattern_or_insert(key.number, Arc::clone(&key.text)),
                );
            }
            nodes.sort_unstable();
            nodes.dedup();
        }
        let parked = u32::from(reader.state == State::Parked);
        reader.links = (0..)
            .zip(nodes)
            .map(|(link, node)| {
                if let Some(node) = self.index.node_mut(node) {
                    node.parked += parked;
                }
                self.index.join(node, Member { slot, link })
            })
            .collect();
    }

    fn unlink(&mut self, slot: u32) {
        let Some(reader) = self.readers.get_mut(slot) else {
            return;
        };
        let parked = u32::from(reader.state == State::Parked);
        let links = std::mem::replace(&mut reader.links, Links::none());
        for link in links.as_slice() {
            if let Some(node) = self.index.node_mut(link.node) {
                node.parked -= parked;
            }
            // A reader is a member of a node once, so whoever moved here is another one.
            if let Some(moved) = self.index.leave(*link)
                && let Some(other) = self.readers.get_mut(moved.slot)
                && let Some(back) = other.links.as_mut_slice().get_mut(moved.link as usize)
            {
                back.position = link.position;
            }
        }
    }

    // ---- appending -----------------------------------------------------------------------------------

    /// Appends one entry and readies the parked readers that want it.
    ///
    /// `matching` are the patterns that match among those numbered up to `known`. False when the entry is not
    /// after the head.
    pub(crate) fn append(
        &mut self,
        entry: &Arc<Entry<T>>,
        matching: &[u64],
        known: u64,
        now: Instant,
        fx: &mut Effects<T>,
    ) -> bool {
        let before = self.window.head();
        if entry.offset <= before {
            return false;
        }
        let floor = self.window.floor();
        let seq = self.window.push(Arc::clone(entry));
        let news = News {
            entry,
            seq,
            before,
            now,
        };
        if entry.recipients.is_empty() {
            for topic in &*entry.topics {
                let node = self.index.topic_or_insert(topic, floor);
                self.index.push(node, seq);
                self.ready_members(node, &news, fx);
            }
            self.ready_members(ALL, &news, fx);
            for &pattern in matching {
                if let Some(node) = self.index.pattern(pattern) {
                    self.ready_members(node, &news, fx);
                }
            }
            if self.index.newest_pattern() > known {
                for node in self.index.patterns_after(known) {
                    self.ready_members(node, &news, fx);
                }
            }
        } else {
            for id in &*entry.recipients {
                let seqs = self.directs.entry(id.clone()).or_default();
                if seqs.back() != Some(&seq) {
                    seqs.push_back(seq);
                }
                self.most_directs.grown(self.directs.len());
                if let Some(slot) = self.find(id) {
                    self.ready_reader(slot, &news, fx);
                }
            }
        }
        self.evict(fx);
        true
    }

    fn ready_members(&mut self, node: u32, news: &News<'_, T>, fx: &mut Effects<T>) {
        let mut at = 0;
        while let Some(node) = self.index.node(node)
            && node.parked > 0
            && let Some(member) = node.members().get(at)
        {
            let slot = member.slot;
            self.ready_reader(slot, news, fx);
            at += 1;
        }
    }

    fn ready_reader(&mut self, slot: u32, news: &News<'_, T>, fx: &mut Effects<T>) {
        let Some(reader) = self.readers.get_mut(slot) else {
            return;
        };
        if reader.state != State::Parked
            || news.entry.offset <= reader.cursor
            || !reader.selector.allows(news.entry, &reader.info.identities)
        {
            return;
        }
        reader.state = State::Ready;
        reader.next_seq = news.seq;
        reader.cursor = reader.cursor.max(news.before);
        reader.since = reader.since.max(news.now);
        for link in reader.links.as_slice() {
            if let Some(node) = self.index.node_mut(link.node) {
                node.parked -= 1;
            }
        }
        fx.readers += 1;
        let key = ReaderKey {
            shard: self.number,
            slot,
            generation: reader.generation,
        };
        announce(reader, key, &mut self.ready, &mut fx.wakers);
    }

    fn evict(&mut self, fx: &mut Effects<T>) {
        while let Some((seq, entry)) = self.window.evict() {
            if entry.recipients.is_empty() {
                for topic in &*entry.topics {
                    self.index.evict(topic, seq, entry.offset);
                }
            } else {
                self.direct_after = entry.offset;
                for id in &*entry.recipients {
                    if let Some(seqs) = self.directs.get_mut(id) {
                        while seqs.front().is_some_and(|&front| front <= seq) {
                            seqs.pop_front();
                        }
                        if seqs.is_empty() {
                            self.directs.remove(id);
                        }
                    }
                    if let Some(slot) = self.find(id)
                        && let Some(reader) = self.readers.get_mut(slot)
                    {
                        reader.direct_after = entry.offset;
                    }
                }
                if let Some(capacity) = self.most_directs.shrunk(self.directs.len()) {
                    self.directs.shrink_to(capacity);
                }
            }
            fx.evicted.push(entry);
        }
    }

    /// One wake for all the readers on the ready list.
    pub(crate) fn take_ready_waker(&mut self, fx: &mut Effects<T>) {
        if !self.ready.is_empty() {
            fx.wakers.extend(self.ready_waker.take());
        }
    }

    // ---- reading -------------------------------------------------------------------------------------

    /// Looks for what is ready: everything for exact readers, one chunk at a time for pattern readers.
    pub(crate) fn step(
        &mut self,
        key: ReaderKey,
        now: Instant,
        max_bytes: usize,
        scan: &mut Option<Scan>,
        out: &mut Vec<Arc<Entry<T>>>,
        out_start: usize,
    ) -> Step<T> {
        let Some(reader) = self.reader_mut(key) else {
            return Step::Closed(CloseReason::Client);
        };
        match reader.state {
            State::Closed(reason) => {
                out.truncate(out_start);
                return Step::Closed(reason);
            }
            State::Parked => return Step::Nothing,
            State::Ready => {}
        }
        reader.since = reader.since.max(now);
        reader.in_hand = false;
        if reader.scans() || scan.is_some() {
            self.step_scan(key.slot, scan, out, out_start)
        } else {
            self.step_exact(key.slot, max_bytes, out)
        }
    }

    fn step_exact(&mut self, slot: u32, max_bytes: usize, out: &mut Vec<Arc<Entry<T>>>) -> Step<T> {
        if self.has_lost(slot) {
            return self.lag(slot);
        }
        let Self {
            window,
            readers,
            index,
            directs,
            heads,
            totals,
            ..
        } = self;
        let Some(reader) = readers.get_mut(slot) else {
            return Step::Nothing;
        };
        let mut take = Take {
            reader,
            max_bytes,
            taken: 0,
            taken_bytes: 0,
            out,
        };
        let mut stopped_at = None;
        if take.reader.follows_all() {
            let from = take.reader.next_seq.max(window.base());
            for (seq, entry) in (from..).zip(window.range_from(from)) {
                if !take.offer(entry) {
                    stopped_at = Some(seq);
                    break;
                }
            }
        } else {
            let next_seq = take.reader.next_seq;
            let directs = match directs.is_empty() {
                true => None,
                false => directs.get(&take.reader.info.id),
            };
            let list = |source| match source {
                Source::Direct => directs,
                Source::Topic(node) => match &index.node(node)?.content {
                    Content::Topic { seqs, .. } => Some(seqs),
                    _ => None,
                },
            };
            heads.clear();
            let topics = take
                .reader
                .links
                .as_slice()
                .iter()
                .map(|link| Source::Topic(link.node));
            for source in topics.chain([Source::Direct]) {
                if let Some(seqs) = list(source)
                    && seqs.back().is_some_and(|&back| back >= next_seq)
                {
                    let at = seqs.partition_point(|&seq| seq < next_seq);
                    heads.extend(seqs.get(at).map(|&seq| Reverse((seq, source, at))));
                }
            }
            let mut last = None;
            while let Some(mut head) = heads.peek_mut() {
                let Reverse((seq, source, at)) = *head;
                match list(source).and_then(|seqs| seqs.get(at + 1)) {
                    Some(&next) => *head = Reverse((next, source, at + 1)),
                    None => drop(PeekMut::pop(head)),
                }
                // An entry with several of the reader's topics stands in several lists.
                if last.replace(seq) == Some(seq) {
                    continue;
                }
                if let Some(entry) = window.get(seq)
                    && !take.offer(entry)
                {
                    stopped_at = Some(seq);
                    break;
                }
            }
        }
        let (taken, taken_bytes) = (take.taken, take.taken_bytes);
        let reader = take.reader;
        reader.next_seq = stopped_at.unwrap_or_else(|| window.end());
        reader.cursor = reader.cursor.max(window.offset_before(reader.next_seq));
        account(reader, totals, taken, taken_bytes)
    }

    fn step_scan(
        &mut self,
        slot: u32,
        scan: &mut Option<Scan>,
        out: &mut Vec<Arc<Entry<T>>>,
        out_start: usize,
    ) -> Step<T> {
        let Some(reader) = self.readers.get_mut(slot) else {
            return Step::Nothing;
        };
        let progress = match scan {
            Some(progress) if progress.seeks == reader.seeks => progress,
            _ => {
                out.truncate(out_start);
                scan.insert(Scan {
                    seeks: reader.seeks,
                    next_seq: reader.next_seq,
                    cursor: reader.cursor,
                    ..Scan::default()
                })
            }
        };
        reader.cursor = reader.cursor.max(progress.cursor);
        let lost = reader.cursor < self.window.floor();
        if !lost {
            progress.next_seq = progress.next_seq.max(self.window.base());
        }
        reader.next_seq = progress.next_seq;
        if lost && progress.taken == 0 {
            return self.lag(slot);
        }
        let at_end = !lost && progress.next_seq == self.window.end();
        if at_end {
            reader.cursor = reader.cursor.max(self.window.head());
        }
        if at_end || lost || progress.full {
            let Scan {
                taken, taken_bytes, ..
            } = *progress;
            *scan = None;
            return account(reader, &mut self.totals, taken, taken_bytes);
        }
        Step::Filter {
            chunk: self
                .window
                .range_from(progress.next_seq)
                .take(SCAN_CHUNK)
                .cloned()
                .collect(),
            selector: Arc::clone(&reader.selector),
            info: Arc::clone(&reader.info),
        }
    }

    /// Parks a reader that found nothing.
    pub(crate) fn park(
        &mut self,
        key: ReaderKey,
        waiter: Waiter<'_>,
        spare: &mut Option<Waker>,
        now: Instant,
    ) -> Park {
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return Park::Parked(None);
        };
        let mut replaced = None;
        if let Waiter::Task(waker) = waiter
            && !reader
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
        {
            let Some(waker) = spare.take() else {
                return Park::NeedsWaker;
            };
            replaced = reader.waker.replace(waker);
        }
        if reader.state == State::Ready {
            reader.state = State::Parked;
            reader.since = reader.since.max(now);
            for link in reader.links.as_slice() {
                if let Some(node) = self.index.node_mut(link.node) {
                    node.parked += 1;
                }
            }
        }
        Park::Parked(replaced)
    }

    /// Moves the ready list out, or leaves the waker to be told; see [`Park`].
    pub(crate) fn take_ready(
        &mut self,
        waker: &Waker,
        spare: &mut Option<Waker>,
        out: &mut Vec<ReaderKey>,
    ) -> Option<Park> {
        if !self.ready.is_empty() {
            out.append(&mut self.ready);
            crate::slab::give_back(&mut self.ready);
            return None;
        }
        if self
            .ready_waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            return Some(Park::Parked(None));
        }
        let Some(waker) = spare.take() else {
            return Some(Park::NeedsWaker);
        };
        Some(Park::Parked(self.ready_waker.replace(waker)))
    }

    fn lag(&mut self, slot: u32) -> Step<T> {
        let floor = self.window.floor();
        let Some(reader) = self.readers.get_mut(slot) else {
            return Step::Nothing;
        };
        if !std::mem::replace(&mut reader.lagging, true) {
            self.totals.lagged += 1;
        }
        Step::Lagged {
            after: reader.cursor,
            floor,
        }
    }

    /// Whether something this reader may want was evicted before it was read.
    fn has_lost(&self, slot: u32) -> bool {
        let Some(reader) = self.readers.get(slot) else {
            return false;
        };
        if reader.follows_all() || reader.scans() {
            return reader.cursor < self.window.floor();
        }
        reader.cursor < reader.direct_after
            || reader.links.as_slice().iter().any(|link| {
                matches!(
                    self.index.node(link.node).map(|node| &node.content),
                    Some(Content::Topic { complete_after, .. }) if reader.cursor < *complete_after
                )
            })
    }

    /// Whether there may be something to read: exact for topics, a "perhaps" for patterns and labels.
    fn has_unread(&self, slot: u32) -> bool {
        let Some(reader) = self.readers.get(slot) else {
            return false;
        };
        if reader.state == State::Parked {
            return false;
        }
        if reader.follows_all() || reader.scans() {
            return reader.next_seq < self.window.end();
        }
        let holds = |seqs: &VecDeque<u64>| seqs.back().is_some_and(|&back| back >= reader.next_seq);
        self.has_lost(slot)
            || self.directs.get(&reader.info.id).is_some_and(holds)
            || reader.links.as_slice().iter().any(|link| {
                matches!(
                    self.index.node(link.node).map(|node| &node.content),
                    Some(Content::Topic { seqs, .. }) if holds(seqs)
                )
            })
    }

    // ---- looking and sweeping ------------------------------------------------------------------------

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

    /// The cursor as seen from outside: a parked reader has seen everything.
    pub(crate) fn cursor(&self, key: ReaderKey) -> Option<u64> {
        let reader = self.reader(key)?;
        Some(match reader.state {
            State::Parked => reader.cursor.max(self.window.head()),
            State::Ready | State::Closed(_) => reader.cursor,
        })
    }

    pub(crate) fn status(&self, key: ReaderKey) -> Option<ConnectionStatus> {
        let reader = self.open_reader(key)?;
        let cursor = self.cursor(key)?;
        let behind = match reader.state {
            State::Parked => 0,
            _ => self.window.end() - reader.next_seq.max(self.window.base()),
        };
        Some(ConnectionStatus {
            key,
            info: Arc::clone(&reader.info),
            selector: Arc::clone(&reader.selector),
            state: match reader.state {
                State::Parked => ReaderState::Waiting,
                _ if reader.lagging => ReaderState::Lagging,
                _ => ReaderState::Reading,
            },
            cursor,
            behind_offsets: self.window.head().saturating_sub(cursor),
            behind_entries: usize::try_from(behind).unwrap_or(usize::MAX),
            delivered_entries: reader.delivered_entries,
            delivered_bytes: reader.delivered_bytes,
            since: reader.since,
        })
    }

    /// Why this reader should be let go now, if it should.
    pub(crate) fn verdict(
        &self,
        key: ReaderKey,
        now: Instant,
        send_timeout: Duration,
        idle_timeout: Duration,
    ) -> Option<CloseReason> {
        let reader = self.open_reader(key)?;
        let quiet = now.saturating_duration_since(reader.since);
        if quiet >= send_timeout
            && reader.state == State::Ready
            && (reader.in_hand || self.has_unread(key.slot))
        {
            Some(CloseReason::Stalled)
        } else if quiet >= idle_timeout {
            Some(CloseReason::Idle)
        } else {
            None
        }
    }
}

/// An entry that has just been appended.
struct News<'a, T> {
    entry: &'a Entry<T>,
    seq: u64,
    /// The head before it.
    before: u64,
    now: Instant,
}

/// What one read has taken so far.
struct Take<'a, T> {
    reader: &'a mut Reader,
    max_bytes: usize,
    taken: usize,
    taken_bytes: usize,
    out: &'a mut Vec<Arc<Entry<T>>>,
}

impl<T> Take<'_, T> {
    /// Takes an entry of a followed topic if it is wanted; false when the budget is spent.
    fn offer(&mut self, entry: &Arc<Entry<T>>) -> bool {
        let wanted = entry.offset > self.reader.cursor
            && self
                .reader
                .selector
                .allows(entry, &self.reader.info.identities)
            && (entry.recipients.is_empty() || entry.recipients.contains(&self.reader.info.id));
        if !wanted {
            return true;
        }
        let bytes = self.taken_bytes.saturating_add(entry.size_bytes);
        if self.taken > 0 && bytes > self.max_bytes {
            return false;
        }
        self.taken += 1;
        self.taken_bytes = bytes;
        self.out.push(Arc::clone(entry));
        true
    }
}

fn account<T>(reader: &mut Reader, totals: &mut Totals, taken: usize, bytes: usize) -> Step<T> {
    if taken == 0 {
        return Step::Nothing;
    }
    reader.in_hand = true;
    reader.delivered_entries += taken as u64;
    reader.delivered_bytes += bytes as u64;
    totals.delivered_entries += taken as u64;
    totals.delivered_bytes += bytes as u64;
    Step::Entries
}

/// Tells a reader that there is something to hear, by its waker or by the shard's list.
fn announce(
    reader: &mut Reader,
    key: ReaderKey,
    ready: &mut Vec<ReaderKey>,
    wakers: &mut Vec<Waker>,
) {
    if reader.batch {
        ready.push(key);
    } else {
        wakers.extend(reader.waker.take());
    }
}

fn hash_of(readers: &Slab<Reader>, hasher: &RandomState, slot: u32) -> u64 {
    readers
        .get(slot)
        .map_or(0, |reader| hasher.hash_one(&reader.info.id))
}
