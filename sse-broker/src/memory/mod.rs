//! The log in memory.
//!
//! There is no writer thread: the publisher that finds nobody committing commits, and with its own
//! batch those that others put behind it meanwhile. So an append without contention finishes within
//! the call, and the order of the calls is the order of the log. Three locks, all leaves: one around
//! what waits, one around what is stored, one around the states; none is held while the tail is told.

mod records;
mod store;

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use sse_protocol::EventId;
use tokio::sync::oneshot;

use crate::broker::BoxFuture;
use crate::queue::{Answer, Answered, Batch, DEFAULT_MAX_PENDING_BYTES, Waiting, weight_bytes};
use crate::topic_retention::Rules;
use crate::{
    AppendError, Appended, Bounds, Broker, Durability, Epoch, NewRecord, Offset, Page, Position,
    ReadError, ReadRequest, Record, Retention, Scope, StateChange, StoredState, Tail, Topic,
    Trimmed, UnixMillis,
};
use store::Store;

/// How a [`MemoryBroker`] is set up.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    /// Which log this is. Nothing of an earlier one is left, so draw it anew: [`Epoch::random`].
    pub epoch: Epoch,
    /// How long records are kept.
    pub retention: Retention,
    /// How much memory records and snapshots may take, indexes and topics among it, as [`Broker::memory_bytes`] counts it. Old
    /// records make room; snapshots and the newest record always stay. It is a bound beside [`Retention::max_bytes`], which counts the records alone and as on disk.
    pub max_memory_bytes: Option<u64>,
    /// How many bytes may wait behind the commit that is under way; then appends answer
    /// [`AppendError::Busy`].
    pub max_pending_bytes: usize,
}

impl Default for MemoryConfig {
    /// A random epoch, the default retention, and [`DEFAULT_MAX_PENDING_BYTES`].
    fn default() -> Self {
        Self {
            epoch: Epoch::random(),
            retention: Retention::default(),
            max_memory_bytes: None,
            max_pending_bytes: DEFAULT_MAX_PENDING_BYTES,
        }
    }
}

/// A log that lives as long as the process.
///
/// Reads and appends finish within the call; the futures are ready at once, but for an append that
/// finds another one committing.
///
/// ```
/// use sse_broker::{Appended, Broker, MemoryBroker, MemoryConfig, NewRecord, Topic};
/// use sse_protocol::Event;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let broker = MemoryBroker::new(MemoryConfig::default());
/// let record = NewRecord::new(Topic::new("job/42")?, Event::new("42 %"), 1_700_000_000_000);
/// let answers = broker.append(vec![record]).await?;
/// assert!(matches!(answers[..], [Appended::Stored(position)] if position.offset == 1));
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct MemoryBroker {
    queue: Mutex<Queue>,
    store: Mutex<Store>,
    states: Mutex<States>,
    tail: OnceLock<Arc<dyn Tail>>,
    rules: Arc<Rules>,
}

struct Queue {
    waiting: Waiting,
    /// Whether a publisher is committing.
    is_led: bool,
    /// Why nothing more is taken, once that is so.
    closed: Option<AppendError>,
    /// Epochs to begin, after what waits.
    epochs: Vec<EpochCall>,
    /// Who waits for the last commit.
    closing: Vec<oneshot::Sender<()>>,
}

/// What stands beside the log.
#[derive(Default)]
struct States {
    by_key: BTreeMap<Box<str>, Bytes>,
    /// What they take.
    memory_bytes: usize,
}

impl States {
    fn put(&mut self, change: StateChange) {
        let bytes = |key: &str, value: &Bytes| key.len() + value.len() + STATE_BYTES;
        self.memory_bytes += change.value.as_ref().map_or(0, |it| bytes(&change.key, it));
        let before = match change.value {
            Some(value) => {
                let len = change.key.len();
                let before = self.by_key.insert(change.key, value);
                before.map(|before| len + before.len() + STATE_BYTES)
            }
            None => {
                let before = self.by_key.remove(&change.key);
                before.map(|before| bytes(&change.key, &before))
            }
        };
        self.memory_bytes -= before.unwrap_or(0);
    }
}

/// A place in the tree of states, and what holds its texts.
const STATE_BYTES: usize = 128;

type EpochCall = (Epoch, oneshot::Sender<Bounds>);

impl MemoryBroker {
    /// An empty log.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Arc<Self> {
        let rules = Arc::new(Rules::new(&config.retention.topics));
        Arc::new(Self {
            queue: Mutex::new(Queue {
                waiting: Waiting::new(config.max_pending_bytes),
                is_led: false,
                closed: None,
                epochs: Vec::new(),
                closing: Vec::new(),
            }),
            store: Mutex::new(Store::new(
                config.epoch,
                config.retention,
                config.max_memory_bytes.unwrap_or(u64::MAX),
                Arc::clone(&rules),
            )),
            states: Mutex::default(),
            tail: OnceLock::new(),
            rules,
        })
    }

    /// Commits one batch, and collects in `stored` what the tail is to hear of.
    fn commit(&self, records: Vec<NewRecord>, stored: &mut Vec<Arc<Record>>) -> Vec<Appended> {
        let mut evicted = Vec::new();
        self.store.lock().append(records, stored, &mut evicted)
        // `evicted` is dropped here, after the lock.
    }

    fn tell(&self, stored: &[Arc<Record>]) {
        if let (Some(tail), false) = (self.tail.get(), stored.is_empty()) {
            tail.committed(stored);
        }
    }

    /// Commits what others have put into the queue while this publisher was committing, until
    /// nothing waits.
    fn lead_on(&self) {
        loop {
            let (group, epochs) = {
                let mut queue = self.queue.lock();
                if queue.waiting.is_empty() && queue.epochs.is_empty() {
                    queue.is_led = false;
                    break;
                }
                let group = queue.waiting.take_group(MAX_GROUP_BYTES);
                (group, std::mem::take(&mut queue.epochs))
            };
            let mut stored = Vec::new();
            let answers: Vec<_> = group
                .into_iter()
                .map(|batch| (batch.answer, self.commit(batch.records, &mut stored)))
                .collect();
            self.tell(&stored);
            for (answer, appended) in answers {
                let (answered, left) = (Ok(appended), Vec::new());
                // Whoever dropped the future does not want the answer.
                let _ = answer.send(Answered {
                    answer: answered,
                    left,
                });
            }
            for (epoch, answer) in epochs {
                let (bounds, has_changed) = self.store.lock().begin_epoch(epoch);
                if let (Some(tail), true) = (self.tail.get(), has_changed) {
                    tail.epoch_changed(bounds);
                }
                let _ = answer.send(bounds);
            }
        }
        let closing = {
            let mut queue = self.queue.lock();
            if queue.is_led {
                Vec::new()
            } else {
                std::mem::take(&mut queue.closing)
            }
        };
        for closed in closing {
            let _ = closed.send(());
        }
    }
}

/// How much of what waits is committed at a time, so that the first of a group is not answered late.
const MAX_GROUP_BYTES: usize = 1 << 20;

/// Keeps a panic of the tail from leaving a queue that nobody leads: the broker is fenced instead.
struct Lead<'a>(&'a MemoryBroker);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (waiting, epochs, closing) = {
                let mut queue = self.0.queue.lock();
                queue.is_led = false;
                queue.closed = Some(AppendError::Fenced {
                    reason: "the tail panicked".into(),
                });
                (
                    queue.waiting.take_group(usize::MAX),
                    std::mem::take(&mut queue.epochs),
                    std::mem::take(&mut queue.closing),
                )
            };
            // Without their senders the waiting publishers are told, too.
            drop((waiting, epochs, closing));
        }
    }
}

impl Broker for MemoryBroker {
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Answer> {
        let weight_bytes = weight_bytes(&records);
        {
            let mut queue = self.queue.lock();
            if let Some(closed) = &queue.closed {
                return Box::pin(ready(Err(closed.clone())));
            }
            if queue.is_led {
                if !queue.waiting.has_room_for(weight_bytes) {
                    return Box::pin(ready(Err(AppendError::Busy)));
                }
                let (answer, answered) = oneshot::channel();
                queue.waiting.push(Batch {
                    records,
                    weight_bytes,
                    answer,
                });
                return Box::pin(async move {
                    match answered.await {
                        Ok(answered) => answered.take(),
                        Err(_) => Err(AppendError::Fenced {
                            reason: "the tail panicked".into(),
                        }),
                    }
                });
            }
            queue.is_led = true;
        }
        let lead = Lead(self);
        let mut stored = Vec::with_capacity(records.len());
        let appended = self.commit(records, &mut stored);
        self.tell(&stored);
        self.lead_on();
        drop(lead);
        Box::pin(ready(Ok(appended)))
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'static, Result<Page, ReadError>> {
        let (mut page, removed_after) = loop {
            let mut evicted = Vec::new();
            let mut store = self.store.lock();
            // What is due at the time of reading goes first, as a call of `trim` would have it.
            let (_, is_done) = store.trim(request.now, TRIM_CHUNK, &mut evicted);
            let page = is_done.then(|| store.read(&request));
            drop(store);
            if let Some(page) = page {
                break page;
            }
        };
        if let Scope::Matching(pattern) = &request.scope {
            page.removed = page.removed.max(removed_after.of(&**pattern));
        }
        Box::pin(ready(Ok(page)))
    }

    fn locate(&self, id: EventId) -> BoxFuture<'static, Result<Option<Offset>, ReadError>> {
        let offset = self.store.lock().locate(&id);
        Box::pin(ready(Ok(offset)))
    }

    fn snapshots(
        &self,
        prefix: &str,
    ) -> BoxFuture<'static, Result<Vec<(Topic, Bytes)>, ReadError>> {
        let snapshots = self.store.lock().snapshots(prefix);
        Box::pin(ready(Ok(snapshots)))
    }

    fn snapshot_version(&self, topic: Topic) -> BoxFuture<'static, Result<Position, ReadError>> {
        let version = self.store.lock().snapshot_version(&topic);
        Box::pin(ready(Ok(version)))
    }

    fn begin_epoch(&self, epoch: Epoch) -> BoxFuture<'static, Result<Bounds, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let leads = {
            let mut queue = self.queue.lock();
            if let Some(closed) = &queue.closed {
                return Box::pin(ready(Err(closed.clone())));
            }
            queue.epochs.push((epoch, answer));
            !std::mem::replace(&mut queue.is_led, true)
        };
        if leads {
            let lead = Lead(self);
            self.lead_on();
            drop(lead);
        }
        Box::pin(async move {
            answered.await.map_err(|_| AppendError::Fenced {
                reason: "the tail panicked".into(),
            })
        })
    }

    fn has_rule_for(&self, topic: &str) -> bool {
        self.rules.rule_of_topic(topic).is_some()
    }

    fn has_topic_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    fn trim(&self, now: UnixMillis) -> BoxFuture<'static, Result<Trimmed, AppendError>> {
        if let Some(closed) = &self.queue.lock().closed {
            return Box::pin(ready(Err(closed.clone())));
        }
        let mut records = 0;
        let floor = loop {
            let mut evicted = Vec::new();
            let (floor, is_done) = self.store.lock().trim(now, TRIM_CHUNK, &mut evicted);
            records += evicted.len() as u64;
            if is_done {
                break floor;
            }
        };
        Box::pin(ready(Ok(Trimmed { records, floor })))
    }

    fn erase(&self, offsets: Vec<Offset>) -> BoxFuture<'static, Result<u64, AppendError>> {
        if let Some(closed) = &self.queue.lock().closed {
            return Box::pin(ready(Err(closed.clone())));
        }
        let mut evicted = Vec::new();
        let erased = self.store.lock().erase(&offsets, &mut evicted);
        Box::pin(ready(Ok(erased)))
    }

    fn put_states(&self, changes: Vec<StateChange>) -> BoxFuture<'static, Result<(), AppendError>> {
        if let Some(closed) = &self.queue.lock().closed {
            return Box::pin(ready(Err(closed.clone())));
        }
        let mut states = self.states.lock();
        for change in changes {
            states.put(change);
        }
        drop(states);
        Box::pin(ready(Ok(())))
    }

    fn states(&self, prefix: &str) -> BoxFuture<'static, Result<Vec<StoredState>, ReadError>> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let found = self
            .states
            .lock()
            .by_key
            .range::<str, _>(from)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| StoredState {
                key: key.clone(),
                value: Some(value.clone()),
            })
            .collect();
        Box::pin(ready(Ok(found)))
    }

    fn bounds(&self) -> Bounds {
        self.store.lock().bounds()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn memory_bytes(&self) -> usize {
        let stored = self.store.lock().memory_bytes();
        let states = self.states.lock().memory_bytes;
        usize::try_from(stored).unwrap_or(usize::MAX) + states
    }

    fn follow(&self, tail: Arc<dyn Tail>) {
        // A second tail is refused, as the contract says: records go to one.
        let _ = self.tail.set(tail);
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let mut queue = self.queue.lock();
        queue.closed.get_or_insert(AppendError::Closed);
        if !queue.is_led {
            return Box::pin(ready(()));
        }
        let (closed, when_closed) = oneshot::channel();
        queue.closing.push(closed);
        Box::pin(async move {
            // The sender goes without a word only when the tail has panicked: closed as well.
            let _ = when_closed.await;
        })
    }
}

/// How many records are trimmed while the store's lock is held.
const TRIM_CHUNK: usize = 1024;

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("bounds", &self.bounds())
            .finish_non_exhaustive()
    }
}
