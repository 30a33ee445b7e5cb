//! A reader as it is shown to an operator.

use std::sync::Arc;

use super::Shard;
use crate::{ConnectionStatus, ReaderKey, ReaderState, reader::State};

impl<T> Shard<T> {
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
}
