//! How the log on disk is set up.

use std::time::Duration;

use crate::queue::DEFAULT_MAX_PENDING_BYTES;
use crate::{Durability, Epoch, Retention};

/// How a [`DiskBroker`](crate::DiskBroker) is set up.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// How safe an acknowledged record is.
    ///
    /// [`Durability::Os`] leaves out the sync: a crash of the process loses nothing, a crash of the
    /// machine may lose the newest records, or damage the file. [`Durability::Memory`] writes to the disk
    /// only when [`Broker::trim`](crate::Broker::trim) is called and at the end.
    pub durability: Durability,
    /// How long records are kept.
    pub retention: Retention,
    /// How many bytes may wait behind the commit that is under way; then appends answer
    /// [`AppendError::Busy`](crate::AppendError::Busy).
    pub max_pending_bytes: usize,
    /// How many bytes one commit may take up, so that the first of it is not answered late.
    pub max_group_bytes: usize,
    /// The epoch of a log that starts anew; random when `None`.
    pub epoch: Option<Epoch>,
    /// Takes a log that is a copy, an import, or an older state that was put back for the log that it was: it keeps its
    /// epoch. Whoever says so knows that no reader has positions from beyond the copy.
    pub same_log: bool,
    /// How much of the file may be kept in memory.
    pub cache_bytes: usize,
    /// How many threads read.
    pub read_threads: usize,
    /// A file that is larger than this, and than four times what its records weigh, is made small when it is
    /// opened: what is in it is moved together, which takes time with what is kept, and the rest given back.
    pub compact_above_bytes: u64,
    /// So much of the disk is left free: below it appends answer [`AppendError::Full`](crate::AppendError::Full), so that
    /// trimming and closing still work. Where the free space is not known it counts for nothing.
    pub min_free_bytes: u64,
    /// How long after a commit that found the disk full, reserve or not, the log is opened again to
    /// try anew. Until then appends answer [`AppendError::Full`](crate::AppendError::Full).
    pub full_retry_after: Duration,
}

impl Default for DiskConfig {
    /// [`Durability::Fsync`], the default retention, a random epoch, 64 MiB of cache and of what may
    /// wait, 4 MiB in a commit, two threads that read, files of more than 64 MiB made small when they are opened,
    /// 16 MiB of the disk left free, a second between tries on a full disk.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            retention: Retention::default(),
            max_pending_bytes: DEFAULT_MAX_PENDING_BYTES,
            max_group_bytes: 4 << 20,
            epoch: None,
            same_log: false,
            cache_bytes: 64 << 20,
            read_threads: 2,
            compact_above_bytes: 64 << 20,
            min_free_bytes: 16 << 20,
            full_retry_after: Duration::from_secs(1),
        }
    }
}
