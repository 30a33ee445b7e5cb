//! What waits to be written: a record with its bytes, and calls of `trim`, `erase`, `put_states` and `begin_epoch`.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::codec::encode;
use super::ids::{IdHash, Ids};
use crate::{
    AppendError, Bounds, Epoch, NewRecord, Offset, Position, Record, StateChange, Trimmed,
    UnixMillis,
};

/// A record with its bytes, which the publisher's own thread has made, and frees.
pub(super) struct Encoded {
    /// As the tail gets it, but for the position, which the commit gives it.
    pub(super) record: Arc<Record>,
    pub(super) bytes: Vec<u8>,
    /// Of the publisher's id.
    pub(super) id_hash: Option<IdHash>,
}

impl Encoded {
    pub(super) fn new(content: NewRecord, ids: &Ids) -> Self {
        let bytes = encode(&content);
        let id_hash = content.publisher_id().map(|id| ids.hash(id.as_str()));
        let nowhere = Position {
            epoch: Epoch(0),
            offset: 0,
        };
        Self {
            record: Arc::new(Record {
                position: nowhere,
                content,
            }),
            bytes,
            id_hash,
        }
    }
}

/// A call of `trim` that waits for its end.
pub(super) struct TrimCall {
    pub(super) now: UnixMillis,
    pub(super) answer: oneshot::Sender<Result<Trimmed, AppendError>>,
}

/// A call of `erase` that waits for its commit.
pub(super) struct EraseCall {
    pub(super) offsets: Vec<Offset>,
    pub(super) answer: oneshot::Sender<Result<u64, AppendError>>,
}

/// A call of `begin_epoch` that waits for its commit.
pub(super) struct EpochCall {
    pub(super) epoch: Epoch,
    pub(super) answer: oneshot::Sender<Result<Bounds, AppendError>>,
}

/// A call of `put_states` that waits for its commit.
pub(super) struct StateCall {
    pub(super) changes: Vec<StateChange>,
    pub(super) weight_bytes: usize,
    pub(super) answer: oneshot::Sender<Result<(), AppendError>>,
}
