//! A reader of named topics, or of everything, takes what is ready, in one visit to the lock.
//!
//! Each topic lists where its entries stand in the window; a read merges the lists of the reader's topics and
//! of the entries addressed to it, and looks at nobody else's entries.

use std::{cmp::Reverse, collections::binary_heap::PeekMut, sync::Arc};

use super::{Shard, Step};
use crate::{Entry, reader::Reader, topics::Content};

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
        let mut stopped_at = None;
        if take.reader.is_linked_to_all() {
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
            // Nothing to merge for a reader of one topic, as most are.
            if heads.len() == 1
                && let Some(Reverse((_, source, at))) = heads.pop()
            {
                let seqs = list(source).into_iter().flat_map(|seqs| seqs.range(at..));
                for &seq in seqs {
                    if let Some(entry) = window.get(seq)
                        && !take.offer(entry)
                    {
                        stopped_at = Some(seq);
                        break;
                    }
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
