//! A reader as it is shown to an operator.

use std::{ops::Range, sync::Arc};

use super::Shard;
use crate::{
    ConnectionStatus, ReaderKey, ReaderState,
    reader::{Break, Reader, State},
};

impl<T> Shard<T> {
    pub(crate) fn status(&self, key: ReaderKey) -> Option<ConnectionStatus> {
        let reader = self.open_reader(key)?;
        let cursor = self.cursor(key)?;
        Some(ConnectionStatus {
            key,
            info: Arc::clone(&reader.info),
            selector: Arc::clone(&reader.selector),
            state: match reader.state {
                State::Parked => ReaderState::Waiting,
                _ if reader.broken == Break::Lagging => ReaderState::Lagging,
                _ => ReaderState::Reading,
            },
            cursor,
            behind_offsets: self.window.head().saturating_sub(cursor),
            behind_entries: self.behind_entries(reader),
            delivered_entries: reader.delivered_entries,
            delivered_bytes: reader.delivered_bytes,
            since: self.origin?.instant(reader.since),
        })
    }

    /// How many [entries](Self::behind_entries) each of these readers has yet to look at.
    pub(crate) fn behind(&self, slots: Range<usize>) -> impl Iterator<Item = usize> {
        let open = self.keys_in(slots).filter_map(|key| self.reader(key));
        open.map(|reader| self.behind_entries(reader))
    }

    /// The entries of the window this reader has yet to look at, for whichever topic.
    fn behind_entries(&self, reader: &Reader) -> usize {
        match reader.state {
            State::Parked => 0,
            State::Ready | State::Closed(_) => {
                let next_seq = reader.next_seq.max(self.window.base());
                usize::try_from(self.window.end() - next_seq).unwrap_or(usize::MAX)
            }
        }
    }
}
