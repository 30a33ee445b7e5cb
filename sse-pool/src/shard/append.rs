//! An entry comes: it goes into the window, readies the readers that wait for it, and pushes old ones out.

use std::{sync::Arc, time::Instant};

use super::{Effects, Shard, park::announce};
use crate::{
    Entry, ReaderKey, compact_instant::CompactInstant, patterns::Meant, reader::State, topics::ALL,
};

impl<T> Shard<T> {
    /// Appends one entry and readies the parked readers that want it.
    ///
    /// `matching` names, as its second numbers, the patterns that match among those numbered up to `known`, and `meant` is
    /// what readers are to know of that later. False when the entry is not
    /// after the head.
    pub(crate) fn append(
        &mut self,
        entry: &Arc<Entry<T>>,
        matching: &[(usize, u64)],
        meant: Meant,
        known: u64,
        now: Instant,
        fx: &mut Effects<T>,
    ) -> bool {
        let before = self.window.head();
        if entry.offset <= before {
            return false;
        }
        let now = self.compact(now);
        let floor = self.window.floor();
        let seq = self.window.push(Arc::clone(entry), meant);
        let news = News {
            entry,
            seq,
            before,
            now,
        };
        if entry.recipients.is_none() {
            for topic in &*entry.topics {
                let node = self.index.topic_or_insert(topic, floor);
                if self.index.push(node, seq) {
                    self.window.add_topic(topic);
                }
                self.ready_members(node, &news, fx);
            }
            self.ready_members(ALL, &news, fx);
            for &(_, pattern) in matching {
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
            for id in entry.recipients.iter().flat_map(|ids| &**ids) {
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
            || !reader.may_see(news.entry)
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

    /// Takes out what is too much.
    fn evict(&mut self, fx: &mut Effects<T>) {
        while let Some((seq, entry)) = self.window.evict() {
            self.take_out_of_indexes(seq, entry, fx);
        }
    }

    /// Takes out everything up to an offset.
    pub(crate) fn evict_upto(&mut self, offset: u64, fx: &mut Effects<T>) {
        while let Some((seq, entry)) = self.window.evict_upto(offset) {
            self.take_out_of_indexes(seq, entry, fx);
        }
    }

    fn take_out_of_indexes(&mut self, seq: u64, entry: Arc<Entry<T>>, fx: &mut Effects<T>) {
        if entry.recipients.is_none() {
            for topic in &*entry.topics {
                if self.index.evict(topic, seq, entry.offset) {
                    self.window.remove_topic(topic);
                }
            }
        } else {
            self.direct_after = entry.offset;
            for id in entry.recipients.iter().flat_map(|ids| &**ids) {
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

/// An entry that has just been appended.
struct News<'a, T> {
    entry: &'a Entry<T>,
    seq: u64,
    /// The head before it.
    before: u64,
    now: CompactInstant,
}
