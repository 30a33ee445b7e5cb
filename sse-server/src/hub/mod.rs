//! The hub: the log of what was said, joined to the pool of who listens now. It knows no HTTP.
//!
//! A publish goes into the log; when it is committed, the log's tail hands it to the pool, which wakes
//! the readers of its topics; each reader writes it from its own cursor. Replay takes the same path,
//! only that the cursor is placed further back.

mod cohorts;
mod config;
mod connections;
mod encoded_record;
mod exclusions;
mod interest;
mod interner;
mod job;
mod jobs;
mod load_governor;
mod metrics;
mod named_subscriptions;
mod poll;
mod publication;
mod reader;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sse_broker::{
    AppendError, Appended, Bounds, BoxFuture, Broker, Durability, LogHealth, NewRecord, Offset,
    Page, Position, ReadError, ReadRequest, Record, Render, Rendered, Tail,
};
use sse_compress::MessageCompressor;
use sse_health::Phase;
use sse_pool::{
    ClientInfo, CloseReason, Connection, Pool, PoolConfig, ReaderState, Selector, ShardHandle,
    TopicFilter, Visibility, WindowConfig,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

pub use config::{HubConfig, Overflow};
pub use connections::{ChangeError, SendError, SubscriptionChange};
pub use encoded_record::EncodedRecord;
pub use interest::{Interest, InvalidInterest};
pub use job::{Job, JobChange, JobEnded, JobEvent, JobState, NewJob, Progress};
pub use jobs::{JobCounts, JobError};
pub(crate) use metrics::Metrics;
pub use metrics::{
    CompressionJson, HubStats, LatencyMs, LogJson, StreamCompressionJson, WindowJson,
};
pub(crate) use named_subscriptions::SubscriptionStart;
pub use named_subscriptions::{
    NamedSubscription, NamedSubscriptionError, NamedSubscriptionStatus, SubscriptionPlace,
};
pub use poll::{PollError, PollRequest, Polled};
pub use publication::{DEFAULT_TOPIC, Publication, RESERVED_EVENT_TYPES};
pub(crate) use reader::{Batch, Reader, Written, leave_out_expired};

use crate::clock;
use crate::wire::Format;
pub(crate) use cohorts::{CohortKey, Cohorts, Member};
use encoded_record::entry;
use exclusions::Exclusions;
pub(crate) use exclusions::MAX_EXCLUSION;
use interner::Interner;
use jobs::Jobs;
use load_governor::LoadGovernor;

/// A running hub. Cloning it is cheap; all clones are the same hub.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sse_server::hub::{Hub, HubConfig, Publication};
///
/// let hub = Hub::in_memory(HubConfig::default()).await?;
/// let published = hub.publish(Publication::new("hello")).await?;
/// println!("{} is at {}", published.id, published.position);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    config: HubConfig,
    broker: Arc<dyn Broker>,
    pool: Pool<Arc<EncodedRecord>>,
    compressor: Arc<MessageCompressor>,
    /// Whoever holds one may read a large page of the log at a time.
    large_pages: Arc<Semaphore>,
    metrics: Metrics,
    load_governor: LoadGovernor,
    jobs: Jobs,
    named_subscriptions: named_subscriptions::NamedSubscriptions,
    exclusions: Exclusions,
    /// The newest offset that the pool has, for those who wait without a connection.
    head: watch::Sender<Offset>,
    phase: Mutex<Phase>,
    publishing: AtomicUsize,
    quiet: Notify,
    /// The shards that are served by a writer of their own.
    leased_shards: Mutex<Vec<bool>>,
    cohorts: Cohorts,
    /// Selectors and clients that connections have alike.
    selectors: Interner<Interest, Selector>,
    clients: Interner<(Option<String>, Visibility), ClientInfo>,
}

/// What became of a published event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id that readers see: the publisher's own, or the position.
    pub id: String,
    /// Its place in the order.
    pub position: Position,
    /// How safe it is.
    pub durability: Durability,
    /// Whether the same event was there already; then nothing new was stored or delivered.
    pub duplicate: bool,
}

/// Why an event was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub sends this type itself.
    #[error("the event type `{0}` is the hub's own")]
    ReservedEventType(String),
    /// The hub was told to take only certain types.
    #[error("the event type `{event_type}` is not allowed here; allowed are {allowed}")]
    EventTypeNotAllowed {
        /// The type.
        event_type: String,
        /// Those that are.
        allowed: String,
    },
    /// It has more data than the hub takes.
    #[error("the data has {bytes} bytes, and an event may have {max} at most")]
    TooLarge {
        /// How much it has.
        bytes: usize,
        /// How much it may have.
        max: usize,
    },
    /// Its id belongs to another event.
    #[error("the id was published with other content before, at {0}")]
    Conflict(Position),
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    Draining,
    /// The log did not take it.
    #[error("the log did not take it")]
    Log(#[from] AppendError),
}

/// One of many publications is wrong, so none was published.
#[derive(Clone, Debug, thiserror::Error)]
#[error("event {index}: {source}")]
pub struct RefusedPublication {
    /// Which, counted from 0.
    pub index: usize,
    /// Why.
    pub source: PublishError,
}

impl Hub {
    /// A hub that keeps everything in memory.
    ///
    /// # Errors
    ///
    /// None today; the log in memory can always be read.
    pub async fn in_memory(config: HubConfig) -> Result<Self, ReadError> {
        let broker = sse_broker::MemoryBroker::new(sse_broker::MemoryConfig::default());
        Self::open(config, broker).await
    }

    /// A hub on this log. The hub becomes the log's tail, so a log serves one hub.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn open(config: HubConfig, broker: Arc<dyn Broker>) -> Result<Self, ReadError> {
        let snapshots = broker.snapshots("job/").await?;
        let durables = broker.states(named_subscriptions::KEY_PREFIX).await?;
        let bounds = broker.bounds();
        if let Some(why) = broker.health().new_epoch {
            tracing::warn!(epoch = %bounds.epoch, "the log begins a new epoch, and readers of the old one hear of a gap: {why}");
        }
        let pool = Pool::new(PoolConfig {
            shards: config.shards.max(1),
            window: WindowConfig {
                max_bytes: config.window_bytes,
                max_entries: config.window_events,
            },
            limits: sse_pool::Limits {
                max_connections: config.max_connections,
                max_connections_per_ip: config.max_connections_per_ip,
                // Session, user and connection are topics too; they are the hub's own doing.
                max_topics_per_connection: config.max_subscriptions.saturating_add(4),
            },
            send_timeout: config.send_timeout,
            idle_timeout: config.idle_timeout,
            start_offset: bounds.head,
            start_series: bounds.epoch.0,
        });
        let inner = Arc::new(Inner {
            compressor: Arc::new(MessageCompressor::new(
                config.compression_threshold_bytes,
                config.compression_level,
            )),
            large_pages: Arc::new(Semaphore::new(MAX_LARGE_PAGES)),
            load_governor: LoadGovernor::new(
                config.compression_level,
                config.heartbeat,
                config.max_heartbeat,
            ),
            metrics: Metrics::new(&config, clock::now(), clock::unix_millis()),
            named_subscriptions: named_subscriptions::NamedSubscriptions::new(
                &config, durables, bounds,
            ),
            jobs: Jobs::new(config.max_jobs, snapshots),
            head: watch::Sender::new(bounds.head),
            phase: Mutex::new(Phase::default()),
            publishing: AtomicUsize::new(0),
            quiet: Notify::new(),
            cohorts: Cohorts::new(config.stream_compression_bytes),
            exclusions: Exclusions::default(),
            selectors: Interner::new(),
            clients: Interner::new(),
            leased_shards: Mutex::new(vec![false; pool.shards()]),
            config,
            broker: Arc::clone(&broker),
            pool,
        });
        // The log holds its tail weakly, or log and hub would keep each other alive for ever.
        broker.follow(Arc::new(PoolTail(Arc::downgrade(&inner))));
        Ok(Self { inner })
    }

    /// One shard of the pool, for a writer that serves all of its readers.
    pub(crate) fn shard(&self, number: usize) -> Option<ShardHandle<Arc<EncodedRecord>>> {
        self.inner.pool.shard(number)
    }

    /// What is measured.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The encoders that readers share.
    pub(crate) fn cohorts(&self) -> &Cohorts {
        &self.inner.cohorts
    }

    /// What compresses single messages.
    pub(crate) fn message_compressor(&self) -> Arc<MessageCompressor> {
        Arc::clone(&self.inner.compressor)
    }

    /// How long a stream may be silent now; `None` without heartbeats.
    pub(crate) fn heartbeat_interval(&self) -> Option<Duration> {
        self.inner.load_governor.heartbeat()
    }

    /// What the log covers now.
    pub(crate) fn bounds(&self) -> Bounds {
        self.inner.broker.bounds()
    }

    /// Whether a rule takes events of a reader's topics out of the log that others around them outlive: then only the log
    /// can tell what is kept.
    pub(crate) fn has_retention_rule(&self, connection: &Connection<Arc<EncodedRecord>>) -> bool {
        let broker = &self.inner.broker;
        if !broker.has_topic_rules() {
            return false;
        }
        match &connection.selector().topics {
            TopicFilter::Topics { exact, patterns } if patterns.is_empty() => {
                let info = connection.info();
                let mut names = exact.iter().chain(info.client.visibility.own());
                names.any(|name| broker.has_rule_for(name))
            }
            _ => true,
        }
    }

    /// The newest offset that readers can have, as it changes.
    pub(crate) fn watch_head(&self) -> watch::Receiver<Offset> {
        self.inner.head.subscribe()
    }

    /// Reads a page of the log.
    pub(crate) async fn read(&self, request: ReadRequest) -> Result<Page, ReadError> {
        self.inner.broker.read(request).await
    }

    /// Reads a page of the log as bytes.
    pub(crate) fn render(
        &self,
        request: ReadRequest,
        render: Render,
    ) -> BoxFuture<'static, Result<Rendered, ReadError>> {
        self.inner.broker.render(request, render)
    }

    /// The right to hold a large page of the log, while there are any.
    pub(crate) fn large_page(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.large_pages).try_acquire_owned().ok()
    }

    /// Whether events are on their way to the log.
    pub(crate) fn is_publishing(&self) -> bool {
        self.inner.publishing.load(Ordering::Relaxed) > 0
    }

    /// A shard of the pool for one writer that serves all of its readers; `None` when each has one.
    pub(crate) fn lease_shard(&self) -> Option<ShardLease> {
        let mut leased = self.inner.leased_shards.lock();
        let shard = leased.iter().position(|is_leased| !is_leased)?;
        leased[shard] = true;
        Some(ShardLease {
            inner: Arc::clone(&self.inner),
            shard,
        })
    }

    /// What the hub was told.
    #[must_use]
    pub fn config(&self) -> &HubConfig {
        &self.inner.config
    }

    /// How safe an acknowledged event is.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.inner.broker.durability()
    }

    /// How the log is: whether it is written to, and whether it goes on as what it was.
    #[must_use]
    pub fn log_health(&self) -> LogHealth {
        self.inner.broker.health()
    }

    /// Where the log stands: the position of its newest record.
    #[must_use]
    pub fn head(&self) -> Position {
        let bounds = self.inner.broker.bounds();
        Position {
            epoch: bounds.epoch,
            offset: bounds.head,
        }
    }

    /// Publishes one event. It answers when the event is as safe as [`durability`](Self::durability) says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the event back; only its answer is lost. With an id of the
    /// publisher's own, publishing again is safe.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let mut results = self
            .publish_all(vec![publication])
            .await
            .map_err(|refused| refused.source)?;
        results.pop().unwrap_or(Err(PublishError::Draining))
    }

    /// Publishes several events side by side in the order; one result for each.
    ///
    /// # Errors
    ///
    /// When one is wrong or the log does not take them; then none is published. A conflict of one
    /// event's id is that event's result and does not hinder the others.
    pub async fn publish_all(
        &self,
        publications: Vec<Publication>,
    ) -> Result<Vec<Result<Published, PublishError>>, RefusedPublication> {
        for (index, publication) in publications.iter().enumerate() {
            self.check(publication)
                .map_err(|source| RefusedPublication { index, source })?;
        }
        let now = clock::unix_millis();
        let records: Vec<_> = publications
            .into_iter()
            .map(|publication| publication.into_record(now))
            .collect();
        self.append(records)
            .await
            .map_err(|source| RefusedPublication { index: 0, source })
    }

    /// Appends records of the hub's own or checked ones.
    pub(crate) async fn append(
        &self,
        records: Vec<NewRecord>,
    ) -> Result<Vec<Result<Published, PublishError>>, PublishError> {
        let inner = &self.inner;
        let _publishing = Publishing::begin(inner)?;
        let ids: Vec<_> = records
            .iter()
            .map(|record| record.event.id.clone())
            .collect();
        let appended = inner.broker.append(records).await.inspect_err(|error| {
            inner.metrics.record_error(clock::now());
            tracing::warn!(%error, "publish failed");
        })?;
        let durability = self.durability();
        let results = ids.into_iter().zip(appended).map(|(id, appended)| {
            let (position, duplicate) = match appended {
                Appended::Stored(position) => (position, false),
                Appended::Duplicate(position) => (position, true),
                Appended::Conflict(position) => return Err(PublishError::Conflict(position)),
                _ => return Err(PublishError::Log(AppendError::Closed)),
            };
            let id = id.map_or_else(|| position.to_string(), |id| id.as_str().to_owned());
            Ok(Published {
                id,
                position,
                durability,
                duplicate,
            })
        });
        Ok(results.collect())
    }

    fn check(&self, publication: &Publication) -> Result<(), PublishError> {
        let config = &self.inner.config;
        let event_type = publication
            .event_type
            .as_ref()
            .map_or("message", |event_type| event_type.as_str());
        if RESERVED_EVENT_TYPES.contains(&event_type) {
            return Err(PublishError::ReservedEventType(event_type.to_owned()));
        }
        if let Some(allowed) = &config.allowed_event_types
            && !allowed.contains(event_type)
        {
            let allowed = allowed
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(PublishError::EventTypeNotAllowed {
                event_type: event_type.to_owned(),
                allowed,
            });
        }
        if publication.data.len() > config.max_event_bytes {
            return Err(PublishError::TooLarge {
                bytes: publication.data.len(),
                max: config.max_event_bytes,
            });
        }
        Ok(())
    }

    /// Whether new connections and events are taken.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.inner.phase.lock().is_ready()
    }

    /// Looks for stalled and idle connections, old events and health; to be called about once a
    /// second. The server does; who embeds the hub may use [`run_housekeeping`](Self::run_housekeeping).
    pub async fn housekeep(&self, now: Instant) {
        let inner = &self.inner;
        let swept = inner.pool.sweep(now);
        for (ids, reason) in [
            (&swept.stalled, CloseReason::Stalled),
            (&swept.idle, CloseReason::Idle),
        ] {
            for id in ids {
                tracing::info!(connection = %id, %reason, "connection evicted");
            }
        }
        inner
            .metrics
            .record_evictions(swept.stalled.len(), swept.idle.len(), now);
        inner.metrics.record_most_behind(swept.most_behind_entries);
        if inner.metrics.is_sweep_due(now) {
            self.sweep_named_subscriptions();
            if let Err(error) = inner.broker.trim(clock::unix_millis()).await {
                inner.metrics.record_error(now);
                tracing::warn!(%error, "old events could not be trimmed");
            }
        }
        self.save_named_subscriptions().await;
        let (cpu, transitions) = inner.metrics.observe(self, now);
        if let Some(cpu) = cpu {
            inner
                .compressor
                .set_level(inner.load_governor.observe(cpu, now));
        }
        for transition in transitions {
            let (from, to) = (transition.from, transition.to);
            tracing::warn!(
                signal = transition.signal.name(),
                "{from} => {to}: {}",
                transition.reason
            );
        }
    }

    /// Keeps house once a second until the hub is shut down.
    pub async fn run_housekeeping(&self) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while *self.inner.phase.lock() != Phase::Drained {
            ticks.tick().await;
            self.housekeep(clock::now()).await;
        }
    }

    /// Begins to leave: no new connections and events are taken from here on. Those that are there
    /// have `within` to end; a second call changes nothing.
    pub fn drain(&self, within: Duration) {
        let before = {
            let mut phase = self.inner.phase.lock();
            let before = *phase;
            phase.drain(clock::now(), within);
            before
        };
        if before == Phase::Serving {
            self.inner.pool.set_draining(true);
            // Who polls and waits is answered now.
            self.inner.head.send_modify(|_| ());
            self.wake_job_waiters();
            tracing::info!(
                connections = self.inner.pool.stats().active,
                ?within,
                "serving => draining"
            );
        }
    }

    /// Shuts down: takes nothing new, lets what was accepted be committed and what was committed be
    /// delivered, ends every stream and closes the log. Returns how many streams had to be cut.
    ///
    /// Few streams end at once; many end one slice after another over most of `within`, so that their
    /// clients do not all come back to another node at the same moment. The last eighth of it is left to
    /// who is slow to take the last bytes. A reader that is still behind when its turn comes resumes from
    /// its position elsewhere.
    pub async fn shutdown(&self, within: Duration) -> usize {
        let begin = clock::now();
        self.drain(within);
        let inner = &self.inner;
        let committed = async {
            loop {
                let quiet = inner.quiet.notified();
                if inner.publishing.load(Ordering::Acquire) == 0 {
                    break;
                }
                quiet.await;
            }
        };
        let _ = tokio::time::timeout(within / 4, committed).await;
        self.delivered(within / 4).await;
        let total = inner.pool.stats().active;
        if total <= STREAMS_PER_SLICE {
            inner.pool.close_all(CloseReason::Draining);
        }
        let mut closed = 0;
        while inner.pool.stats().active > 0 && clock::now() < begin + within {
            // Ahead of time: whose turn came with the end itself would be cut.
            let at = clock::now() + within / LAST_BYTES;
            let due = inner.phase.lock().leavers_due(total, at);
            if due > closed {
                closed += inner.pool.close_some(CloseReason::Draining, due - closed);
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
        let cut = inner.pool.close_all(CloseReason::Shutdown);
        self.save_named_subscriptions().await;
        inner.broker.close().await;
        inner.phase.lock().handle_empty();
        cut
    }

    /// Waits until no reader has unread events, for so long at most.
    async fn delivered(&self, within: Duration) {
        let deadline = clock::now() + within;
        let behind = || {
            self.inner
                .pool
                .find(|status| status.state != ReaderState::Waiting)
        };
        while !behind().is_empty() && clock::now() < deadline {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("phase", &*self.inner.phase.lock())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Whether an event is on a topic that is never compressed.
    fn is_never_compressed(&self, record: &Record) -> bool {
        let never = &self.config.never_compress;
        !never.is_empty()
            && record
                .content
                .topics
                .iter()
                .any(|topic| never.iter().any(|pattern| pattern.is_match(topic.as_str())))
    }
}

/// The right to serve a shard's readers alone; given back on drop.
pub(crate) struct ShardLease {
    inner: Arc<Inner>,
    shard: usize,
}

impl ShardLease {
    pub(crate) fn shard(&self) -> usize {
        self.shard
    }
}

impl Drop for ShardLease {
    fn drop(&mut self) {
        self.inner.leased_shards.lock()[self.shard] = false;
    }
}

/// The pool as the log's tail.
struct PoolTail(std::sync::Weak<Inner>);

impl Tail for PoolTail {
    fn committed(&self, records: &[Arc<Record>]) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        let now = clock::now();
        inner.jobs.observe(records);
        let entries: Vec<_> = records
            .iter()
            .map(|record| {
                let is_never_compressed = inner.is_never_compressed(record);
                let encoded = EncodedRecord::new(
                    Arc::clone(record),
                    is_never_compressed,
                    &inner.compressor,
                    now,
                );
                let size_bytes =
                    encoded.frame(Format::PLAIN, &inner.compressor).len() + ENTRY_OVERHEAD_BYTES;
                Arc::new(entry(record, Arc::new(encoded), size_bytes))
            })
            .collect();
        inner.pool.append(&entries, now);
        inner.metrics.record_published(records.len(), now);
        if let Some(last) = records.last() {
            inner.head.send_replace(last.position.offset);
        }
    }

    /// Every reader hears of a gap, and goes on with what comes next.
    fn epoch_changed(&self, bounds: Bounds) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        inner.jobs.forget_offsets();
        inner.pool.reset(bounds.epoch.0, bounds.head, clock::now());
        inner.head.send_replace(bounds.head);
        tracing::warn!(
            epoch = %bounds.epoch,
            head = bounds.head,
            "the log goes on under another epoch; every reader hears of a gap"
        );
    }
}

/// A publish under way, so that a shutdown can wait for it.
struct Publishing<'a>(&'a Inner);

impl<'a> Publishing<'a> {
    fn begin(inner: &'a Inner) -> Result<Self, PublishError> {
        inner.publishing.fetch_add(1, Ordering::AcqRel);
        let publishing = Self(inner);
        let serving = inner.phase.lock().is_ready();
        if serving {
            Ok(publishing)
        } else {
            Err(PublishError::Draining)
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if self.0.publishing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// Large pages of the log that may be held by readers at once, 32 MiB of them.
const MAX_LARGE_PAGES: usize = 256;

/// How often stalled readers are looked for: a fraction of the send timeout's five seconds.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
/// What an entry of the window weighs beside its frame: the record, topics and index. A stated guess
/// on the safe side, checked by the memory test.
const ENTRY_OVERHEAD_BYTES: usize = 512;
/// So many streams end at once without anybody noticing their return. A stated guess.
const STREAMS_PER_SLICE: usize = 100;
/// What part of a drain is left to the last bytes of the streams that ended last. A stated guess.
const LAST_BYTES: u32 = 8;
/// How often a drain looks at what is left.
const DRAIN_STEP: Duration = Duration::from_millis(10);
