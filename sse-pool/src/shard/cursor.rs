//! A reader's cursor, as it is set and seen from outside.
//!
//! A reader sets its own cursor when it has read elsewhere ([`Shard::rejoin`]). When somebody else does ([`Shard::seek`]), the
//! reader hears of it before it reads anything from there, and what it is about to say of its own place is void.

use super::{Effects, Shard, Step, park::announce};
use crate::{
    Note, ReaderKey, Seek,
    reader::{Break, State},
};

impl<T> Shard<T> {
    /// Sets the cursor of a reader that has read elsewhere; nobody is told.
    pub(crate) fn rejoin(&mut self, key: ReaderKey, after: u64) {
        // Of a reset or a new place it hears first: the offset is of where it was before.
        let is_free = |broken: Break| !broken.is_news();
        if self.open_reader(key).is_some_and(|it| is_free(it.broken)) {
            self.set_cursor(key, after, Break::None);
        }
    }

    /// Places the cursor of a reader from outside, and readies it to hear of that: also in place of a reset that it has not heard
    /// of, because it begins anew in the new series. False when it is gone, or the place is of another series.
    pub(crate) fn seek(&mut self, key: ReaderKey, seek: &Seek, fx: &mut Effects<T>) -> bool {
        if self.open_reader(key).is_none() || self.series_now() != seek.series {
            return false;
        }
        let before = match &seek.note {
            Some(note) => self.notes.insert(key.slot, Note::clone(note)),
            None => self.notes.remove(&key.slot),
        };
        fx.notes.extend(before);
        if self.set_cursor(key, seek.after, Break::Moved)
            && let Some(reader) = self.readers.get_mut(key.slot)
        {
            announce(reader, key, &mut self.ready, &mut fx.wakers);
            self.take_ready_waker(fx);
        }
        true
    }

    /// Whether it waited; it is ready in any case.
    fn set_cursor(&mut self, key: ReaderKey, after: u64, broken: Break) -> bool {
        let next_seq = self.window.seq_after(after);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return false;
        };
        reader.cursor = after;
        reader.next_seq = next_seq;
        reader.broken = broken;
        reader.seeks = reader.seeks.wrapping_add(1);
        if reader.state != State::Parked {
            return false;
        }
        reader.state = State::Ready;
        for link in reader.links.as_slice() {
            if let Some(node) = self.index.node_mut(link.node) {
                node.parked -= 1;
            }
        }
        true
    }

    /// Tells a reader where it was placed, if it has not heard.
    pub(super) fn tell_of_move(&mut self, slot: u32) -> Option<Step<T>> {
        let series = self.series_now();
        let reader = self.readers.get_mut(slot)?;
        if reader.broken != Break::Moved {
            return None;
        }
        reader.broken = Break::None;
        Some(Step::Moved {
            series,
            after: reader.cursor,
        })
    }

    /// What came with the last move that the reader has heard of.
    pub(crate) fn take_note(&mut self, key: ReaderKey) -> Option<Note> {
        self.open_reader(key)?;
        self.notes.remove(&key.slot)
    }

    /// The cursor as seen from outside: a parked reader has seen everything.
    pub(crate) fn cursor(&self, key: ReaderKey) -> Option<u64> {
        let reader = self.reader(key)?;
        Some(match reader.state {
            State::Parked => reader.cursor.max(self.window.head()),
            State::Ready | State::Closed(_) => reader.cursor,
        })
    }
}
