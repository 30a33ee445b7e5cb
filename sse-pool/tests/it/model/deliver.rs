//! What an append and a read must give, by the naive pool's queues.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use sse_pool::{Audience, Entry, Read};

use super::{
    Handle, World,
    ops::{LABELS, NewEntry, OWN, TOPICS, name, pick},
};

impl World {
    pub(super) fn append(&mut self, new: Vec<NewEntry>) {
        let mut offset = self.head();
        let mut entries = Vec::new();
        for new in new {
            offset += u64::from(new.step);
            entries.push(Arc::new(Entry {
                audience: match &new.owners {
                    Some(owners) => Audience::Owners(pick(&OWN, owners)),
                    None => Audience::Granted,
                },
                recipients: (!new.recipients.is_empty())
                    .then(|| new.recipients.iter().map(|&n| name(n)).collect()),
                label: new.label.map(|n| Arc::from(LABELS[usize::from(n) % 2])),
                ..Entry::new(
                    offset,
                    offset,
                    usize::from(new.size),
                    pick(&TOPICS, &new.topics),
                )
            }));
        }
        let delivery = self.pool.append(&entries, self.now);
        assert_eq!((delivery.appended, delivery.stale), (entries.len(), 0));
        let mut called = Vec::new();
        for entry in &entries {
            self.log.push(Arc::clone(entry));
            for (index, reader) in self.readers.iter_mut().enumerate() {
                if reader.closed.is_none()
                    && reader
                        .selector
                        .wants(&**entry, &reader.visibility, Some(&reader.id))
                    && entry.offset > reader.skip_to
                {
                    reader.queue.push_back(Arc::clone(entry));
                    if std::mem::take(&mut reader.parked) {
                        reader.since = self.now;
                        called.push(index);
                    }
                }
            }
        }
        assert_eq!(
            delivery.readers,
            called.len(),
            "woken are those who waited for it"
        );
        for index in called {
            self.expect_call(index);
        }
    }

    pub(super) fn read(&mut self, index: usize, max_bytes: usize) {
        let now = self.now;
        let mut out = Vec::new();
        let mut waits = false;
        // Other readers that a reactor would serve next.
        let others: Vec<_> = (0..self.readers.len())
            .cycle()
            .skip(index + 1)
            .take(self.readers.len() - 1)
            .filter(|&other| matches!(self.readers[other].handle, Handle::Batch(..)))
            .collect();
        let mut group = 1;
        let waker = Waker::from(Arc::clone(&self.readers[index].calls));
        let read = match &mut self.readers[index].handle {
            Handle::Task(connection) => {
                let mut cx = Context::from_waker(&waker);
                match connection.poll_read(&mut cx, now, max_bytes, &mut out) {
                    Poll::Ready(read) => Some(read),
                    Poll::Pending => None,
                }
            }
            Handle::Batch(shard, key) if max_bytes.is_multiple_of(3) => {
                shard.read(*key, now, max_bytes, &mut out)
            }
            Handle::Batch(shard, key) => {
                let (shard, key) = (shard.clone(), *key);
                let keys: Vec<_> = std::iter::once(key)
                    .chain(others.iter().map(|&other| self.readers[other].key()))
                    .collect();
                // In place of what another reader got, as a reactor does.
                out.clone_from(&self.last_taken);
                let taken = shard.read_group(&keys, now, max_bytes, &mut out);
                (group, waits) = (taken.readers, taken.is_waiting);
                taken.read
            }
        };
        self.last_taken.clone_from(&out);
        let these = std::iter::once(index).chain(others);
        for index in these.take(group) {
            self.took(index, read, &out, waits, max_bytes);
        }
    }

    /// Checks what a reader got.
    fn took(
        &mut self,
        index: usize,
        read: Option<Read>,
        out: &[Arc<Entry<u64>>],
        waits: bool,
        max_bytes: usize,
    ) {
        let floor = self.floor();
        let head = self.head();
        let now = self.now;
        let reader = &mut self.readers[index];
        if let Some(reason) = reader.closed {
            assert_eq!((read, out.len()), (Some(Read::Closed(reason)), 0));
            return;
        }
        if !reader.parked {
            reader.since = now;
            reader.in_hand = false;
        }
        if std::mem::take(&mut reader.is_moved) {
            let moved = Read::Moved {
                series: 0,
                after: reader.skip_to,
            };
            assert_eq!((read, out.len()), (Some(moved), 0));
            return;
        }
        match read {
            None => {
                assert!(out.is_empty());
                assert!(
                    reader.queue.is_empty(),
                    "{} waits and misses {:?}",
                    reader.id,
                    reader.queue
                );
                reader.parked = true;
            }
            Some(Read::Entries) => {
                let mut bytes = 0;
                for (taken, entry) in out.iter().enumerate() {
                    let expected = reader.queue.pop_front().expect("more than was wanted");
                    assert_eq!(entry.offset, expected.offset);
                    bytes += entry.size_bytes;
                    assert!(taken == 0 || bytes <= max_bytes, "over the budget");
                }
                assert!(!out.is_empty());
                let next = reader.queue.front();
                assert!(
                    next.is_none_or(|next| bytes + next.size_bytes > max_bytes),
                    "took too few"
                );
                reader.in_hand = true;
                assert!(
                    !waits || reader.queue.is_empty(),
                    "{} waits and misses {:?}",
                    reader.id,
                    reader.queue
                );
                reader.parked |= waits;
                self.delivered += out.len() as u64;
            }
            Some(Read::Reset { .. } | Read::Moved { .. }) => panic!("nobody did that to it"),
            Some(Read::Lagged { after, floor: said }) => {
                assert!(out.is_empty());
                assert_eq!(said, floor);
                assert!(
                    reader.queue.iter().all(|entry| entry.offset > after),
                    "a cursor past its queue"
                );
                assert!(after < floor);
                let blind = reader.blind;
                let may_want = |entry: &Arc<Entry<u64>>| reader.may_want(entry);
                let lost = self
                    .log
                    .iter()
                    .any(|entry| entry.offset > after && entry.offset <= floor && may_want(entry));
                assert!(lost || blind, "{} lagged for nothing", reader.id);
                // Read on from the log, as far as the window reaches back or as the log goes.
                let target = if max_bytes.is_multiple_of(2) {
                    floor
                } else {
                    head
                };
                while reader
                    .queue
                    .front()
                    .is_some_and(|entry| entry.offset <= target)
                {
                    reader.queue.pop_front();
                }
                match &mut reader.handle {
                    Handle::Task(connection) => connection.rejoin(target),
                    Handle::Batch(shard, key) => shard.rejoin(*key, target),
                }
                reader.blind = false;
            }
            Some(Read::Closed(reason)) => panic!("{} was closed: {reason}", reader.id),
        }
    }
}
