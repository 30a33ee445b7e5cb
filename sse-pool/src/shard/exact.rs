//! A reader of named topics, or of everything, takes what is ready, in one visit to the lock.
//!
//! Each topic lists where its entries stand in the window; a read merges the lists of the reader's topics and
//! of the entries addressed to it, and looks at nobody else's entries.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
    sync::Arc,
};

use super::{Shard, Step};
use crate::{
    Entry,
    reader::Reader,
    topics::{Content, Index},
    window::Window,
};

impl<T> Shard<T> {
    pub(super) fn step_exact(
        &mut self,
        slot: u32,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
        out_start: usize,
    ) -> Step<T> {
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
            is_all: true,
            out,
            out_start,
        };
        let stopped_at = if take.reader.is_linked_to_all() {
            take.all_of(window)
        } else {
            let lists = Lists {
                window,
                index,
                direct: match directs.is_empty() {
                    true => None,
                    false => directs.get(&take.reader.info.id),
                },
            };
            lists.find_heads(take.reader, heads);
            // Nothing to merge for a reader of one topic, as most are.
            if heads.len() == 1
                && let Some(Reverse((_, source, at))) = heads.pop()
            {
                lists.take_one(source, at, &mut take)
            } else {
                lists.merge(heads, &mut take)
            }
        };
        take.out.truncate(out_start + take.taken);
        let (taken, taken_bytes, is_all) = (take.taken, take.taken_bytes, take.is_all);
        let reader = take.reader;
        reader.next_seq = stopped_at.unwrap_or_else(|| window.end());
        reader.cursor = reader.cursor.max(window.offset_before(reader.next_seq));
        if taken == 0 {
            return Step::Nothing;
        }
        totals.count_taken(reader, taken, taken_bytes);
        Step::Entries { is_all }
    }
}

/// The next entry of one list in a merge: sequence number, list, position.
pub(super) type Head = Reverse<(u64, Source, usize)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Topic(u32),
    Direct,
}

/// The lists of a reader: where in the window the entries of its topics stand, and those addressed to it.
struct Lists<'a, T> {
    window: &'a Window<T>,
    index: &'a Index,
    direct: Option<&'a VecDeque<u64>>,
}

impl<T> Lists<'_, T> {
    #[inline]
    fn list(&self, source: Source) -> Option<&VecDeque<u64>> {
        match source {
            Source::Direct => self.direct,
            Source::Topic(node) => match &self.index.node(node)?.content {
                Content::Topic { seqs, .. } => Some(seqs),
                _ => None,
            },
        }
    }

    /// Collects the next entry of each list that has one.
    #[inline]
    fn find_heads(&self, reader: &Reader, heads: &mut BinaryHeap<Head>) {
        heads.clear();
        let next_seq = reader.next_seq;
        let links = reader.links.as_slice().iter();
        let topics = links.map(|link| Source::Topic(link.node));
        for source in topics.chain([Source::Direct]) {
            if let Some(seqs) = self.list(source)
                && seqs.back().is_some_and(|&back| back >= next_seq)
            {
                let at = seqs.partition_point(|&seq| seq < next_seq);
                heads.extend(seqs.get(at).map(|&seq| Reverse((seq, source, at))));
            }
        }
    }

    /// Takes the entries of one list from a position on. Says where it stopped if the budget was spent.
    #[inline]
    fn take_one(&self, source: Source, at: usize, take: &mut Take<'_, T>) -> Option<u64> {
        let mut seqs = self.list(source)?.range(at..).copied();
        seqs.find(|&seq| !self.offer(seq, take))
    }

    /// The same for several lists, in the order of their entries.
    #[inline]
    fn merge(&self, heads: &mut BinaryHeap<Head>, take: &mut Take<'_, T>) -> Option<u64> {
        let mut last = None;
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((seq, source, at)) = *head;
            match self.list(source).and_then(|seqs| seqs.get(at + 1)) {
                Some(&next) => *head = Reverse((next, source, at + 1)),
                None => drop(PeekMut::pop(head)),
            }
            // An entry with several of the reader's topics stands in several lists.
            if last.replace(seq) != Some(seq) && !self.offer(seq, take) {
                return Some(seq);
            }
        }
        None
    }

    /// Offers what the window has there; false when the budget is spent.
    #[inline]
    fn offer(&self, seq: u64, take: &mut Take<'_, T>) -> bool {
        self.window.get(seq).is_none_or(|entry| take.offer(entry))
    }
}

/// What one read has taken so far.
struct Take<'a, T> {
    reader: &'a mut Reader,
    max_bytes: usize,
    taken: usize,
    taken_bytes: usize,
    /// Nothing that was offered was left out.
    is_all: bool,
    /// What is taken stands from `out_start` on; behind it is what an earlier reader got.
    out: &'a mut Vec<Arc<Entry<T>>>,
    out_start: usize,
}

impl<T> Take<'_, T> {
    /// Takes the entries of every topic. Says where it stopped if the budget was spent.
    #[inline]
    fn all_of(&mut self, window: &Window<T>) -> Option<u64> {
        let from = self.reader.next_seq.max(window.base());
        for (seq, entry) in (from..).zip(window.range_from(from)) {
            if !self.offer(entry) {
                return Some(seq);
            }
        }
        None
    }

    /// Takes an entry of a followed topic if it is wanted; false when the budget is spent.
    fn offer(&mut self, entry: &Arc<Entry<T>>) -> bool {
        if entry.offset <= self.reader.cursor || !self.reader.may_see(entry) {
            self.is_all = false;
            return true;
        }
        let bytes = self.taken_bytes.saturating_add(entry.size_bytes);
        if self.taken > 0 && bytes > self.max_bytes {
            self.is_all = false;
            return false;
        }
        let at = self.out_start + self.taken;
        self.taken += 1;
        self.taken_bytes = bytes;
        // Readers of one topic get the same entries one after another: those that stand there need not be shared anew.
        if !self.out.get(at).is_some_and(|it| Arc::ptr_eq(it, entry)) {
            self.out.truncate(at);
            self.out.push(Arc::clone(entry));
        }
        true
    }
}
