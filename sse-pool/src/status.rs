//! What can be seen of a connection from outside.

use std::{sync::Arc, time::Instant};

use crate::{ConnectionInfo, Selector};

/// A reader's place in the pool: its shard, its slot there, and which reader of that slot it is.
///
/// Copyable and small, for callers that keep many: a key whose reader is gone simply finds nothing, also when
/// the slot has another reader since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderKey {
    pub(crate) shard: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ReaderKey {
    /// A place from which [`Pool::statuses`](crate::Pool::statuses) goes on, whether or not a reader is there; `None` beyond
    /// what there can be. It is no reader's key.
    #[must_use]
    pub fn place(shard: usize, slot: usize) -> Option<Self> {
        Some(Self {
            shard: shard.try_into().ok()?,
            slot: slot.try_into().ok()?,
            generation: 0,
        })
    }

    /// The shard the reader is on.
    #[must_use]
    pub const fn shard(self) -> usize {
        self.shard as usize
    }

    /// The slot within the shard: unique among the readers that are there at one time, and small, so that a
    /// reactor can index its own table with it.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionStatus {
    /// Its place; also where [`Pool::statuses`](crate::Pool::statuses) goes on from.
    pub key: ReaderKey,
    /// Who it is.
    pub info: Arc<ConnectionInfo>,
    /// What it wants.
    pub selector: Arc<Selector>,
    /// What it is doing.
    pub state: ReaderState,
    /// Everything up to this offset was delivered to it or is not for it.
    pub cursor: u64,
    /// How far the cursor is behind the head, in offsets.
    pub behind_offsets: u64,
    /// How many entries of the window it has yet to look at, for whichever topic.
    pub behind_entries: usize,
    /// How many entries it has taken.
    pub delivered_entries: u64,
    /// How many bytes it has taken.
    pub delivered_bytes: u64,
    /// When it last read, waited or wrote; or when an entry came that it has not fetched.
    pub since: Instant,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReaderState {
    /// It has seen everything and waits.
    Waiting,
    /// It has something to read, or is writing it.
    Reading,
    /// It was told that it fell out of the window, and has not rejoined.
    Lagging,
}
