//! A reader's cursor, as it is set and seen from outside.

use super::{Effects, Shard, park::announce};
use crate::{
    ReaderKey,
    reader::{Break, State},
};

impl<T> Shard<T> {
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
        if self.series(key).is_none() {
            // The offset is of the log before, and the reader hears where it goes on.
            return true;
        }
        let next_seq = self.window.seq_after(after);
        let Some(reader) = self.readers.get_mut(key.slot) else {
            return false;
        };
        reader.cursor = after;
        reader.next_seq = next_seq;
        reader.broken = Break::None;
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

    /// The cursor as seen from outside: a parked reader has seen everything.
    pub(crate) fn cursor(&self, key: ReaderKey) -> Option<u64> {
        let reader = self.reader(key)?;
        Some(match reader.state {
            State::Parked => reader.cursor.max(self.window.head()),
            State::Ready | State::Closed(_) => reader.cursor,
        })
    }
}
