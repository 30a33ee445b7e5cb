//! Small states that stand beside the log, under keys of their owner's choice.

use bytes::Bytes;

/// A change of one state: what stands under `key` from then on, or that nothing does.
///
/// States are for what must outlive a restart and is no event: how far a named reader has
/// acknowledged, for instance. They are in no order with the records and retention does not touch
/// them; who puts them bounds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Where it stands. Keys of one owner share a prefix: `durable/…`.
    pub key: Box<str>,
    /// What it becomes; `None` takes it away.
    pub value: Option<Bytes>,
}

impl StateChange {
    /// What it counts for in the bound on what waits to be committed.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        OVERHEAD_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A state as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Where it stands.
    pub key: Box<str>,
    /// What it is; `None` when its bytes are damaged, so that its owner can say so instead of
    /// taking it for one that never was.
    pub value: Option<Bytes>,
}

/// What a change costs beside its texts while it waits. A stated guess.
const OVERHEAD_BYTES: usize = 64;
