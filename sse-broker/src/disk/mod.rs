//! The log on disk, on redb.
//!
//! One thread writes and a few read; publishers and readers wait in their futures, on no thread, and
//! need no particular runtime. What is acknowledged is in a commit that the disk has confirmed (at the
//! level `fsync`), and so is all that the tail hears: no reader ever saw what a crash took back.
//!
//! * **Group commit without a timer.** What arrives while a commit runs is the next group. One publisher
//!   alone waits for its own commit and for nothing else; many share one. Only after a commit that
//!   answered several does the writer let them run for up to an eighth of that commit's time when the
//!   first of them is back: with 1,024 in flight that was 44,000 appends a second before and 126,000
//!   after, beside redb's bare 120,000 and 194,000 in the same two runs on a busy machine.
//! * **A failed commit fences the writer.** Nothing is acknowledged on a storage that has once failed,
//!   nothing is tried again blindly; what was committed before can be read on. Opening the log again is
//!   the way out. A full disk is an answer of its own, and ends by itself when there is space.
//! * **A commit writes its records and little else.** They lie side by side in blocks of a page or a few,
//!   one insertion each. What points at them by topic follows some thousand records later, sorted; ids are
//!   found in memory, nine to eighteen bytes for each that is retained, and are listed in the file only to
//!   be read when it is opened.
//! * **Reads cost what they return.** A position is sought in a B-tree, a topic and an id in an index.
//! * **Damage is contained.** Each record and each value carries a checksum. A damaged record is left out
//!   and announced as a gap; a damaged index is passed over.
//! * **A log that may have lost something is another log.** Below the level `fsync` a log that was not
//!   closed gets a new [`Epoch`] when it is opened, and so every reader of the old one hears of a gap.
//!
//! # Space
//!
//! The file grows to what retention keeps and is reused from there on; pages that become free at its end
//! are given back with the next commits, those in its middle when the file is compacted: when it is opened and is
//! mostly free ([`DiskConfig::compact_above_bytes`]), or by [`StoppedLog::compact`].

mod block;
mod codec;
mod commit;
mod ids;
mod import;
mod index;
mod open;
mod read;
mod shared_database;
mod states;
mod storage;
mod tables;
mod tombstones;
mod tools;
mod topic_retention;
mod trim;
mod write;
mod yield_budget;

use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use redb::StorageBackend;
use sse_protocol::EventId;
use tokio::sync::oneshot;

pub(crate) use codec::Texts;
pub use import::{Imported, LogImport};
pub use open::OpenError;
pub use tools::{Done, Inspection, LogProblem, LogToolError, StoppedLog, Verification};

use crate::broker::BoxFuture;
use crate::memory::DEFAULT_MAX_PENDING_BYTES;
use crate::queue::{Answer, Batch, Waiting, weight_bytes};
use crate::{
    AppendError, Bounds, Broker, Durability, Epoch, NewRecord, Offset, Page, ReadError,
    ReadRequest, Render, Rendered, Retention, StateChange, StoredState, Tail, Topic, Trimmed,
    UnixMillis,
};
use index::Index;
use open::{LogState, Opened, Place};
use read::Readers;
use shared_database::Slot;
use states::StateCall;
use write::{Encoded, Pace, TrimCall, Work, Writer};

/// How a [`DiskBroker`] is set up.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// How safe an acknowledged record is.
    ///
    /// [`Durability::Os`] leaves out the sync: a crash of the process loses nothing, a crash of the
    /// machine may lose the newest records, or damage the file. [`Durability::Memory`] writes to the disk
    /// only when [`Broker::trim`] is called and at the end.
    pub durability: Durability,
    /// How long records are kept.
    pub retention: Retention,
    /// How many bytes may wait behind the commit that is under way; then appends answer
    /// [`AppendError::Busy`].
    pub max_pending_bytes: usize,
    /// How many bytes one commit may take up, so that the first of it is not answered late.
    pub max_group_bytes: usize,
    /// The epoch of a log that starts anew; random when `None`.
    pub epoch: Option<Epoch>,
    /// How much of the file may be kept in memory.
    pub cache_bytes: usize,
    /// How many threads read.
    pub read_threads: usize,
    /// A file that is larger than this, and than four times what its records weigh, is made small when it is
    /// opened: what is in it is moved together, which takes time with what is kept, and the rest given back.
    pub compact_above_bytes: u64,
    /// So much of the disk is left free: below it appends answer [`AppendError::Full`], so that
    /// trimming and closing still work. Where the free space is not known it counts for nothing.
    pub min_free_bytes: u64,
    /// How long after a commit that found the disk full, reserve or not, the log is opened again to
    /// try anew. Until then appends answer [`AppendError::Full`].
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
            cache_bytes: 64 << 20,
            read_threads: 2,
            compact_above_bytes: 64 << 20,
            min_free_bytes: 16 << 20,
            full_retry_after: Duration::from_secs(1),
        }
    }
}

/// A log in a folder of its own.
///
/// It is closed by [`close`](Broker::close), or when the last reference to it goes; either waits for what
/// is under way.
///
/// ```
/// use sse_broker::{Broker, DiskBroker, DiskConfig, NewRecord, Topic};
/// use sse_protocol::Event;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// # runtime.block_on(async {
/// let broker = DiskBroker::open(folder, DiskConfig::default())?;
/// let record = NewRecord::new(Topic::new("job/42")?, Event::new("42 %"), 1_700_000_000_000);
/// broker.append(vec![record]).await?; // it is on the disk now
/// broker.close().await;
///
/// let again = DiskBroker::open(folder, DiskConfig::default())?;
/// assert_eq!(again.bounds().head, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct DiskBroker {
    shared: Arc<Shared>,
    readers: Readers,
    durability: Durability,
}

/// What publishers, readers and the writer share.
struct Shared {
    slot: Slot,
    index: Index,
    queue: Mutex<Queue>,
    changed: Condvar,
    bounds: Mutex<Bounds>,
    tail: OnceLock<Arc<dyn Tail>>,
    max_group_bytes: usize,
}

struct Queue {
    waiting: Waiting<Encoded>,
    trims: Vec<TrimCall>,
    states: Vec<StateCall>,
    life: Life,
}

enum Life {
    Open,
    /// Nothing more is taken; these wait for the end.
    Closing(Vec<oneshot::Sender<()>>),
    Closed,
}

impl DiskBroker {
    /// Opens the log in `folder`, and makes folder and log when there are none.
    ///
    /// Blocks: a log that was not closed is checked from end to end first, at about the disk's speed.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the log is left as it was.
    pub fn open(folder: &Path, config: DiskConfig) -> Result<Arc<Self>, OpenError> {
        Self::open_at(Place::folder(folder)?, config)
    }

    /// Opens the log on a storage of the caller's own, as fault tests do; `open` is called again when
    /// the log is opened anew after the storage was full, and `available_bytes` tells what is free.
    #[doc(hidden)]
    pub fn open_on(
        open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + 'static,
        available_bytes: impl Fn() -> Option<u64> + Send + 'static,
        config: DiskConfig,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_at(Place::storage(open, available_bytes), config)
    }

    fn open_at(place: Place, config: DiskConfig) -> Result<Arc<Self>, OpenError> {
        let path = place.path.clone();
        let opened = place.open(&config, None)?;
        let index = opened.index().map_err(|error| OpenError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let Opened {
            db, watch, state, ..
        } = opened;
        let shared = Arc::new(Shared {
            slot: Slot::new(db),
            index,
            queue: Mutex::new(Queue {
                waiting: Waiting::new(config.max_pending_bytes),
                trims: Vec::new(),
                states: Vec::new(),
                life: Life::Open,
            }),
            changed: Condvar::new(),
            bounds: Mutex::new(bounds(&state)),
            tail: OnceLock::new(),
            max_group_bytes: config.max_group_bytes,
        });
        let unusable = |source| OpenError::Unusable {
            path: path.clone(),
            source,
        };
        let readers = Readers::start(config.read_threads).map_err(unusable)?;
        let durability = config.durability;
        let writer = Writer::new(Arc::clone(&shared), place, config, watch, state);
        std::thread::Builder::new()
            .name("sse-log-write".into())
            .spawn(move || writer.run())
            .map_err(unusable)?;
        Ok(Arc::new(Self {
            shared,
            readers,
            durability,
        }))
    }

    fn read_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&redb::Database, &Index, Bounds) -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ReadError>> {
        let shared = Arc::clone(&self.shared);
        self.readers.run(move || {
            let db = shared.slot.lend().ok_or(ReadError::Closed)?;
            // Taken after the database and before its transaction: the bounds are of something that
            // the transaction sees.
            let bounds = *shared.bounds.lock();
            read(&db, &shared.index, bounds)
        })
    }

    /// Begins to close; what it returns is ready at the end.
    fn begin_closing(&self) -> Option<oneshot::Receiver<()>> {
        let (closed, when_closed) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            match &mut queue.life {
                Life::Open => queue.life = Life::Closing(vec![closed]),
                Life::Closing(waiting) => waiting.push(closed),
                Life::Closed => return None,
            }
        }
        self.shared.changed.notify_one();
        Some(when_closed)
    }
}

fn bounds(state: &LogState) -> Bounds {
    Bounds {
        epoch: state.epoch,
        floor: state.floor,
        head: state.head,
    }
}

impl Shared {
    /// Takes all that waits; when `may_wait`, waits until there is something.
    ///
    /// Publishers that were answered together come back together, each at its own moment: a commit
    /// that takes only the first of them makes all others wait for it. So when fewer wait than were
    /// answered last, the writer lets the other threads run a little, and looks again.
    fn next_work(&self, may_wait: bool, pace: Pace) -> Work {
        let mut queue = self.queue.lock();
        let mut has_lingered = false;
        loop {
            let is_closing = !matches!(queue.life, Life::Open);
            let has_work =
                !queue.waiting.is_empty() || !queue.trims.is_empty() || !queue.states.is_empty();
            let is_first_of_many = (1..pace.last_group).contains(&queue.waiting.len());
            if is_first_of_many && !is_closing && !has_lingered {
                has_lingered = true;
                let begun = Instant::now();
                while queue.waiting.len() < pace.last_group && begun.elapsed() < pace.patience {
                    MutexGuard::unlocked(&mut queue, std::thread::yield_now);
                }
            }
            if has_work || is_closing || !may_wait {
                let group = queue.waiting.take_group(self.max_group_bytes);
                let trims = std::mem::take(&mut queue.trims);
                let states = std::mem::take(&mut queue.states);
                return Work {
                    group,
                    trims,
                    states,
                    is_closing,
                };
            }
            self.changed.wait(&mut queue);
        }
    }

    fn set_bounds(&self, state: &LogState) {
        *self.bounds.lock() = bounds(state);
    }

    /// The writer is at its end.
    fn has_closed(&self) {
        let (life, waiting, trims, states) = {
            let mut queue = self.queue.lock();
            let life = std::mem::replace(&mut queue.life, Life::Closed);
            (
                life,
                queue.waiting.take_group(usize::MAX),
                std::mem::take(&mut queue.trims),
                std::mem::take(&mut queue.states),
            )
        };
        // Without their senders those who wait are told, too: after a panic there may be some.
        drop((waiting, trims, states));
        if let Life::Closing(waiting) = life {
            for closed in waiting {
                let _ = closed.send(());
            }
        }
    }
}

impl Broker for DiskBroker {
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Answer> {
        let weight_bytes = weight_bytes(&records);
        let ids = &self.shared.index.ids;
        let records: Vec<_> = records
            .into_iter()
            .map(|record| Encoded::new(record, ids))
            .collect();
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if !matches!(queue.life, Life::Open) {
                return Box::pin(ready(Err(AppendError::Closed)));
            }
            if !queue.waiting.has_room_for(weight_bytes) {
                return Box::pin(ready(Err(AppendError::Busy)));
            }
            queue.waiting.push(Batch {
                records,
                weight_bytes,
                answer,
            });
        }
        self.shared.changed.notify_one();
        Box::pin(async move {
            match answered.await {
                Ok(answered) => answered.take(),
                Err(_) => Err(AppendError::Fenced {
                    reason: "the writer has gone".into(),
                }),
            }
        })
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.read_with(move |db, index, bounds| read::page(db, index, bounds, &request))
    }

    fn render(
        &self,
        request: ReadRequest,
        render: Render,
    ) -> BoxFuture<'static, Result<Rendered, ReadError>> {
        self.read_with(move |db, index, bounds| read::rendered(db, index, bounds, &request, render))
    }

    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<Offset>, ReadError>> {
        if id.is_empty() {
            return Box::pin(ready(Ok(None)));
        }
        self.read_with(move |db, index, bounds| read::locate(db, index, bounds, &id))
    }

    fn snapshots(
        &self,
        prefix: &str,
    ) -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>> {
        let prefix = prefix.to_owned();
        self.read_with(move |db, _, _| read::snapshots(db, &prefix))
    }

    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if !matches!(queue.life, Life::Open) {
                return Box::pin(ready(Err(AppendError::Closed)));
            }
            queue.trims.push(TrimCall { now, answer });
        }
        self.shared.changed.notify_one();
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                Err(AppendError::Fenced {
                    reason: "the writer has gone".into(),
                })
            })
        })
    }

    fn put_states(&self, changes: Vec<StateChange>) -> BoxFuture<'static, Result<(), AppendError>> {
        let weight_bytes = changes.iter().map(StateChange::weight_bytes).sum();
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if !matches!(queue.life, Life::Open) {
                return Box::pin(ready(Err(AppendError::Closed)));
            }
            let waiting: usize = queue.states.iter().map(|call| call.weight_bytes).sum();
            if waiting.saturating_add(weight_bytes) > MAX_PENDING_STATE_BYTES && waiting > 0 {
                return Box::pin(ready(Err(AppendError::Busy)));
            }
            queue.states.push(StateCall {
                changes,
                weight_bytes,
                answer,
            });
        }
        self.shared.changed.notify_one();
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                Err(AppendError::Fenced {
                    reason: "the writer has gone".into(),
                })
            })
        })
    }

    fn states(&self, prefix: &str) -> BoxFuture<'static, Result<Vec<StoredState>, ReadError>> {
        let prefix = prefix.to_owned();
        self.read_with(move |db, _, _| states::read(db, &prefix))
    }

    fn bounds(&self) -> Bounds {
        *self.shared.bounds.lock()
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn follow(&self, tail: Arc<dyn Tail>) {
        // A second tail is refused, as the contract says: records go to one.
        let _ = self.shared.tail.set(tail);
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let when_closed = self.begin_closing();
        Box::pin(async move {
            if let Some(when_closed) = when_closed {
                // The sender goes without a word only with the writer: closed as well.
                let _ = when_closed.await;
            }
        })
    }
}

impl Drop for DiskBroker {
    /// Closes the log and waits for it, so that the folder can be opened again at once.
    fn drop(&mut self) {
        let Some(mut when_closed) = self.begin_closing() else {
            return;
        };
        // The last reference may be dropped on the writer's own thread, by the tail, which cannot
        // wait for itself.
        if std::thread::current().name() == Some("sse-log-write") {
            return;
        }
        while let Err(oneshot::error::TryRecvError::Empty) = when_closed.try_recv() {
            std::thread::sleep(CLOSE_POLL);
        }
    }
}

/// How much of states may wait to be committed: a few of the largest calls. A stated guess.
const MAX_PENDING_STATE_BYTES: usize = 16 << 20;

/// How often a dropped log looks whether it is closed. It has no runtime to wait in.
const CLOSE_POLL: Duration = Duration::from_millis(1);

impl std::fmt::Debug for DiskBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskBroker")
            .field("bounds", &self.bounds())
            .finish_non_exhaustive()
    }
}
