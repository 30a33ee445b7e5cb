//! [`DiskBroker`]: the broker's promises, kept by one thread that writes and a few that read.

use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use redb::{ReadableDatabase as _, StorageBackend};
use sse_protocol::EventId;
use tokio::sync::oneshot;

use super::commit::{self, Group};
use super::config::DiskConfig;
use super::due::ReadRetention;
use super::error::OpenError;
use super::index::Index;
use super::location::Location;
use super::log_state::LogState;
use super::lookup;
use super::open::{self, Opened};
use super::page;
use super::pending::{Encoded, EpochCall, EraseCall, StateCall, TrimCall};
use super::readers::Readers;
use super::seal::NewEpoch;
use super::shared::{Life, Queue, Shared};
use super::shared_database::SharedDatabase;
use super::states;
use super::topic_retention::MAX_PIECE;
use super::writer::Writer;
use crate::broker::BoxFuture;
use crate::queue::{Answer, Batch, Waiting, weight_bytes};
use crate::topic_retention::Rules;
use crate::{
    AppendError, Bounds, Broker, Durability, Epoch, LogHealth, LogTime, NewRecord, Offset, Page,
    Position, ReadError, ReadRequest, Render, Rendered, StateChange, StoredState, Tail, Topic,
    Trimmed, UnixMillis,
};

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

impl DiskBroker {
    /// Opens the log in `folder`, and makes folder and log when there are none.
    ///
    /// Blocks: a log that was not closed is checked from end to end first, at about the disk's speed, and rules for
    /// topics that are new to it are applied to all of it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the log is left as it was.
    pub fn open(folder: &Path, config: DiskConfig) -> Result<Arc<Self>, OpenError> {
        Self::open_at(Location::folder(folder)?, config)
    }

    /// Opens the log on a storage of the caller's own, as fault tests do; `open` is called again when
    /// the log is opened anew after the storage was full, and `available_bytes` tells what is free.
    #[doc(hidden)]
    pub fn open_on(
        open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + 'static,
        available_bytes: impl Fn() -> Option<u64> + Send + 'static,
        config: DiskConfig,
    ) -> Result<Arc<Self>, OpenError> {
        Self::open_at(Location::storage(open, available_bytes), config)
    }

    fn open_at(location: Location, config: DiskConfig) -> Result<Arc<Self>, OpenError> {
        let path = location.path.clone();
        let opened = open::open(&location, &config, None)?;
        let index = opened.index().map_err(|error| OpenError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let Opened {
            db,
            watch,
            mut state,
            new_epoch,
            ..
        } = opened;
        let health = LogHealth {
            has_lost: matches!(new_epoch, Some(NewEpoch::FellBack { .. })),
            new_epoch: new_epoch.map(|why| why.to_string().into()),
            ..LogHealth::default()
        };
        let retention = ReadRetention::new(&config.retention);
        settle(&db, &config, &retention.rules, &index, &mut state).map_err(|reason| {
            OpenError::Storage {
                path: path.clone(),
                reason: reason.to_string(),
            }
        })?;
        if let Some(failure) = watch.failure() {
            return Err(OpenError::Storage {
                path,
                reason: failure.reason.to_string(),
            });
        }
        let shared = Arc::new(Shared {
            database: SharedDatabase::new(db),
            index,
            queue: Mutex::new(Queue {
                waiting: Waiting::new(config.max_pending_bytes),
                trims: Vec::new(),
                states: Vec::new(),
                epochs: Vec::new(),
                erases: Vec::new(),
                life: Life::Open,
            }),
            changed: Condvar::new(),
            bounds: Mutex::new(state.bounds()),
            health: Mutex::new(health),
            tail: OnceLock::new(),
            max_group_bytes: config.max_group_bytes,
            retention,
            time: Mutex::new(None),
            last_time: location.last_time(),
        });
        let unusable = |source| OpenError::Unusable {
            path: path.clone(),
            source,
        };
        let readers = Readers::start(config.read_threads).map_err(unusable)?;
        let durability = config.durability;
        let writer = Writer::new(Arc::clone(&shared), location, config, watch, state);
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
        read: impl FnOnce(&redb::Database, &Shared, Bounds) -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ReadError>> {
        let shared = Arc::clone(&self.shared);
        self.readers.run(move || {
            let db = shared.database.lend().ok_or(ReadError::Closed)?;
            // Taken after the database and before its transaction: the bounds are of something that
            // the transaction sees.
            let bounds = *shared.bounds.lock();
            read(&db, &shared, bounds)
        })
    }

    /// Puts a call into the writer's queue, and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        put: impl FnOnce(&mut Queue, oneshot::Sender<Result<T, AppendError>>),
    ) -> BoxFuture<'static, Result<T, AppendError>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if !matches!(queue.life, Life::Open) {
                return Box::pin(ready(Err(AppendError::Closed)));
            }
            put(&mut queue, answer);
        }
        self.shared.changed.notify_one();
        Box::pin(async move {
            answered
                .await
                .unwrap_or_else(|_| Err(the_writer_has_gone()))
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
                Err(_) => Err(the_writer_has_gone()),
            }
        })
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.read_with(move |db, shared, bounds| page::read(db, shared, bounds, &request))
    }

    fn render(
        &self,
        request: ReadRequest,
        render: Render,
    ) -> BoxFuture<'static, Result<Rendered, ReadError>> {
        self.read_with(move |db, shared, bounds| page::render(db, shared, bounds, &request, render))
    }

    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<Offset>, ReadError>> {
        if id.is_empty() {
            return Box::pin(ready(Ok(None)));
        }
        self.read_with(move |db, shared, bounds| lookup::locate(db, &shared.index, bounds, &id))
    }

    fn snapshots(
        &self,
        prefix: &str,
    ) -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>> {
        let prefix = prefix.to_owned();
        self.read_with(move |db, _, _| lookup::snapshots(db, &prefix))
    }

    fn snapshot_version(&self, topic: Topic) -> BoxFuture<'static, Result<Position, ReadError>> {
        self.read_with(move |db, _, bounds| lookup::snapshot_version(db, bounds, topic.as_str()))
    }

    fn begin_epoch(&self, epoch: Epoch) -> BoxFuture<'static, Result<Bounds, AppendError>> {
        self.ask(|queue, answer| queue.epochs.push(EpochCall { epoch, answer }))
    }

    fn has_rule_for(&self, topic: &str) -> bool {
        self.shared.retention.rules.rule_of_topic(topic).is_some()
    }

    fn has_topic_rules(&self) -> bool {
        !self.shared.retention.rules.is_empty()
    }

    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>> {
        self.ask(|queue, answer| queue.trims.push(TrimCall { now, answer }))
    }

    fn erase(&self, offsets: Vec<Offset>) -> BoxFuture<'static, Result<u64, AppendError>> {
        self.ask(|queue, answer| queue.erases.push(EraseCall { offsets, answer }))
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
            answered
                .await
                .unwrap_or_else(|_| Err(the_writer_has_gone()))
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

    fn memory_bytes(&self) -> usize {
        let cached = self.shared.database.try_lend();
        let cached = cached.map_or(0, |db| db.cache_stats().used_bytes());
        cached + self.shared.index.memory_bytes()
    }

    fn health(&self) -> LogHealth {
        self.shared.health.lock().clone()
    }

    fn note_time(&self, time: LogTime) {
        *self.shared.time.lock() = Some(time);
    }

    fn last_time(&self) -> Option<LogTime> {
        self.shared.last_time
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

/// It ended without an answer, and may have done so in the middle of a commit.
fn the_writer_has_gone() -> AppendError {
    AppendError::Unknown {
        reason: "the writer has gone".into(),
    }
}

/// Applies rules that are new to a log, or to most of it, before anybody reads: what is left then is little.
fn settle(
    db: &redb::Database,
    config: &DiskConfig,
    rules: &Rules,
    index: &Index,
    state: &mut LogState,
) -> Result<(), Arc<str>> {
    let is_far_behind = |state: &LogState| {
        let applied_upto = state.retention.applied_upto.max(state.floor);
        state.head.saturating_sub(applied_upto) > MAX_PIECE as u64
    };
    while !rules.is_empty() && is_far_behind(state) {
        let group = Group {
            batches: &mut VecDeque::new(),
            states: &[],
            now: None,
        };
        let done = commit::commit(db, config, rules, state, index, group)?;
        done.note(index, &VecDeque::new());
        *state = done.state;
    }
    Ok(())
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
