//! The hub: the log of what was said, joined to the pool of who listens now. It knows no HTTP.
//!
//! A publish goes into the log; when it is committed, the log's tail hands it to the pool, which wakes
//! the readers of its topics; each reader writes it from its own cursor. Replay takes the same path,
//! only that the cursor is placed further back.

mod age_clock;
mod cohorts;
mod config;
mod connections;
mod encoded_record;
mod erase;
mod exclusions;
mod housekeeping;
mod interest;
mod interner;
mod job;
mod job_details;
mod job_updates;
mod jobs;
mod json_text;
mod load_governor;
mod metrics;
mod named_subscriptions;
mod names;
mod placement;
mod poll;
mod publication;
mod publish;
mod reader;
mod readiness;
mod replay;
mod rights;
mod stats;
mod when_late;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sse_broker::{
    Bounds, Broker, Durability, LogHealth, Offset, Page, Position, ReadError, ReadRequest, Record,
    RecordRef, StoredState, Tail, Topic, UnixMillis,
};
use sse_compress::MessageCompressor;
use sse_health::Phase;
use sse_pool::{
    ClientInfo, Connection, Entry, Pool, Selector, ShardHandle, TopicFilter, Visibility,
};
use tokio::sync::{Notify, Semaphore, watch};

pub use config::{HubConfig, Overflow};
pub(crate) use connections::ConnectionPlace;
pub use connections::{AdmissionError, ChangeError, SendError, SubscriptionChange};
pub use encoded_record::EncodedRecord;
pub use erase::{Erase, EraseError};
pub use interest::{Interest, InvalidInterest};
pub use job::{InvalidProgress, Job, JobChange, JobEnded, JobEvent, JobState, NewJob, Progress};
pub use job_details::Details;
pub use jobs::{JobCounts, JobError};
pub use json_text::JsonText;
pub(crate) use metrics::Metrics;
pub(crate) use named_subscriptions::SubscriptionStart;
pub use named_subscriptions::{
    NamedSubscription, NamedSubscriptionError, NamedSubscriptionStatus, SubscriptionPlace,
};
pub(crate) use placement::Placement;
pub use poll::{PollError, PollRequest, Polled};
pub use publication::{DEFAULT_TOPIC, Publication, RESERVED_EVENT_TYPES};
pub use publish::{PublishError, Published, RefusedPublication};
pub(crate) use reader::{Batch, Reader, Written};
pub use readiness::Need;
pub(crate) use replay::{HeldPage, RenderRecord};
pub use rights::{RenewError, RevokeError, Revoked};
pub use stats::{
    CompressionJson, GapCounts, HubStats, LatencyMs, LogJson, PlacesJson, RateJson,
    StreamCompressionJson, WindowJson,
};

pub use when_late::{LateConfig, LatePolicy, LateRule};
pub(crate) use when_late::{LeftOut, Reason as LeftOutReason};

use crate::access::budget::{Account, AccountStatus, Budget, STREAM_BYTES};
use crate::access::{Credential, Places, Rates, Sockets, UserPlaces, visibility};
use crate::audit::AuditLog;
use crate::clock;
use age_clock::AgeClock;
pub(crate) use cohorts::{CohortKey, Cohorts, Member};
use encoded_record::entry;
use exclusions::Exclusions;
pub(crate) use exclusions::MAX_EXCLUSION;
use interner::Interner;
use jobs::Jobs;
use load_governor::LoadGovernor;
use names::Names;
use when_late::WhenLate;

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
    budget: Budget,
    requests: Places,
    rates: Rates,
    user_places: UserPlaces,
    sockets: Sockets,
    broker: Arc<dyn Broker>,
    pool: Pool<Arc<EncodedRecord>>,
    compressor: Arc<MessageCompressor>,
    /// Polls that look at many events take turns.
    poll_turns: Semaphore,
    metrics: Metrics,
    load_governor: LoadGovernor,
    jobs: Jobs,
    named_subscriptions: named_subscriptions::NamedSubscriptions,
    exclusions: Exclusions,
    ending_rights: rights::EndingRights,
    age_clock: Mutex<AgeClock>,
    /// Why nothing can be stored, as it was logged last.
    told_fence: Mutex<Option<Arc<str>>>,
    /// Since when each fault is there, in seconds of Unix time.
    faults_since: Mutex<BTreeMap<&'static str, u64>>,
    storage: Mutex<readiness::Storage>,
    /// The newest offset that the pool has, for those who wait without a connection.
    head: watch::Sender<Offset>,
    phase: Mutex<Phase>,
    publishing: AtomicUsize,
    quiet: Notify,
    /// The shards that are served by a writer of their own.
    leased_shards: Mutex<Vec<bool>>,
    cohorts: Cohorts,
    when_late: WhenLate,
    /// The names that records have in common.
    names: Names,
    /// What the window's events take in other formats than the plain one.
    other_frames_bytes: Arc<AtomicUsize>,
    /// Selectors and clients that connections have alike.
    selectors: Interner<(Interest, Visibility), Selector>,
    clients: Interner<ClientKey, ClientInfo>,
}

/// The user agent of a client, its rights, and what it has shown to have them.
type ClientKey = (Option<String>, Visibility, Option<Arc<Credential>>);

/// What a [`ClientKey`] takes, with a user agent as long as it may be. A stated guess.
const CLIENT_KEY_BYTES: usize = 512;

impl Hub {
    /// A hub that keeps everything in memory.
    ///
    /// # Errors
    ///
    /// None today; the log in memory can always be read.
    pub async fn in_memory(config: HubConfig) -> Result<Self, ReadError> {
        let broker = sse_broker::MemoryBroker::new(sse_broker::MemoryConfig {
            max_memory_bytes: Some(config.memory[Account::Log as usize] as u64),
            ..sse_broker::MemoryConfig::default()
        });
        Self::open(config, broker).await
    }

    /// A hub on this log. The hub becomes the log's tail, so a log serves one hub.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn open(config: HubConfig, broker: Arc<dyn Broker>) -> Result<Self, ReadError> {
        let stored = Stored::read(&*broker).await?;
        if let Some(why) = broker.health().new_epoch {
            tracing::warn!(epoch = %stored.bounds.epoch, "the log begins a new epoch, and readers of the old one hear of a gap: {why}");
        }
        let inner = Arc::new(Inner::new(config, Arc::clone(&broker), stored));
        inner.budget.record(Account::Jobs, inner.jobs.bytes());
        // The log holds its tail weakly, or log and hub would keep each other alive for ever.
        broker.follow(Arc::new(PoolTail(Arc::downgrade(&inner))));
        Ok(Self { inner })
    }

    /// One shard of the pool, for a writer that serves all of its readers.
    pub(crate) fn shard(&self, number: usize) -> Option<ShardHandle<Arc<EncodedRecord>>> {
        self.inner.pool.shard(number)
    }

    /// The memory that may be held for clients.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    /// What each account holds. Cheap, but not for every event.
    #[must_use]
    pub fn memory(&self) -> [AccountStatus; Account::ALL.len()] {
        let inner = &self.inner;
        let pool = inner.pool.stats();
        let log = inner.broker.memory_bytes();
        // A log in memory holds the same records as the window; where rules remove some of them only the window does.
        let is_shared = self.durability() == Durability::Memory && !inner.broker.has_topic_rules();
        let shared = match is_shared {
            true => pool.window_shared_bytes.min(log),
            false => 0,
        };
        let others = inner.other_frames_bytes.load(Ordering::Relaxed) + inner.names.memory_bytes();
        let window = (pool.window_bytes + others).saturating_sub(shared);
        inner.budget.record(Account::Window, window);
        inner.budget.record(Account::Log, log);
        inner.budget.status().map(|status| match status.account {
            Account::Connections => AccountStatus {
                max_bytes: inner.config.memory[Account::Connections as usize],
                held_bytes: status.held_bytes + pool.active * STREAM_BYTES,
                ..status
            },
            _ => status,
        })
    }

    /// The places for requests that are answered at once.
    #[must_use]
    pub fn requests(&self) -> &Places {
        &self.inner.requests
    }

    /// How fast callers are.
    #[must_use]
    pub fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    /// Where it is written who did what.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.inner.config.audit
    }

    /// The places for sockets.
    #[must_use]
    pub fn sockets(&self) -> &Sockets {
        &self.inner.sockets
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

    /// The time by which events age: the wall clock's, unless that has jumped.
    pub(crate) fn age_now(&self) -> UnixMillis {
        let (now, wall) = (clock::now(), clock::unix_millis());
        self.inner.age_clock.lock().at(now, wall)
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

    /// Whether new connections and events are taken.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.inner.phase.lock().is_ready()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("phase", &*self.inner.phase.lock())
            .finish_non_exhaustive()
    }
}

/// What a hub takes over from its log.
struct Stored {
    jobs: Vec<(Topic, Bytes)>,
    named_subscriptions: Vec<StoredState>,
    revocations: Vec<StoredState>,
    bounds: Bounds,
}

impl Stored {
    async fn read(broker: &dyn Broker) -> Result<Self, ReadError> {
        Ok(Self {
            jobs: broker.snapshots("job/").await?,
            named_subscriptions: broker.states(named_subscriptions::KEY_PREFIX).await?,
            revocations: broker.states(rights::KEY_PREFIX).await?,
            bounds: broker.bounds(),
        })
    }
}

impl Inner {
    fn new(config: HubConfig, broker: Arc<dyn Broker>, stored: Stored) -> Self {
        let bounds = stored.bounds;
        // A log that holds nothing has nothing that could go too early.
        let trusts_clock = config.trust_clock || bounds.head == bounds.floor;
        let age_clock = housekeeping::start_age_clock(broker.last_time(), trusts_clock);
        let pool = Pool::new(config.pool(bounds));
        let budget = Budget::new(config.account_sizes());
        Self {
            budget: budget.clone(),
            rates: Rates::new(config.rates, config.rates_bytes, clock::now()),
            user_places: UserPlaces::new(config.max_connections_per_user),
            requests: Places::new(config.request_limits()),
            sockets: Sockets::new(config.socket_limits()),
            compressor: Arc::new(MessageCompressor::new(
                config.compression_threshold_bytes,
                config.compression_level,
            )),
            poll_turns: Semaphore::new(1),
            load_governor: LoadGovernor::new(
                config.compression_level,
                config.heartbeat,
                config.max_heartbeat,
            ),
            metrics: Metrics::new(&config, clock::now(), clock::unix_millis()),
            named_subscriptions: named_subscriptions::NamedSubscriptions::new(
                &config,
                stored.named_subscriptions,
                bounds,
            ),
            jobs: Jobs::new(
                config.max_jobs,
                config.memory[Account::Jobs as usize],
                stored.jobs,
            ),
            age_clock: Mutex::new(age_clock),
            told_fence: Mutex::default(),
            faults_since: Mutex::default(),
            storage: Mutex::default(),
            head: watch::Sender::new(bounds.head),
            phase: Mutex::new(Phase::default()),
            publishing: AtomicUsize::new(0),
            quiet: Notify::new(),
            cohorts: Cohorts::new(budget),
            when_late: WhenLate::new(config.late.clone(), config.window_bytes),
            names: Names::default(),
            other_frames_bytes: Arc::default(),
            exclusions: Exclusions::default(),
            ending_rights: rights::EndingRights::new(stored.revocations),
            selectors: Interner::new(|(interest, _)| interest.bytes()),
            clients: Interner::new(|_| CLIENT_KEY_BYTES),
            leased_shards: Mutex::new(vec![false; pool.shards()]),
            config,
            broker,
            pool,
        }
    }

    /// A committed record as the pool has it.
    fn entry(&self, record: &Arc<Record>, now: Instant) -> Entry<Arc<EncodedRecord>> {
        let class = self.when_late.class(&RecordRef::from(&**record));
        self.when_late.observe(class, record.position.offset);
        let encoded = EncodedRecord::new(
            Arc::clone(record),
            self.is_never_compressed(record),
            class,
            &self.compressor,
            Arc::clone(&self.other_frames_bytes),
            now,
        );
        let label = self.names.shared(visibility::label(&record.content));
        entry(record, Arc::new(encoded), label)
    }

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
        inner.budget.record(Account::Jobs, inner.jobs.bytes());
        // What readers of other formats have made of the window's events takes its part of the window.
        let others = inner.other_frames_bytes.load(Ordering::Relaxed);
        let left = inner.config.window_bytes.saturating_sub(others);
        inner.pool.set_max_window_bytes(left);
        // Piece by piece, because all of it takes memory: the entries, and whom each of them goes to.
        for (n, piece) in records.chunks(MAX_APPENDED).enumerate() {
            if n > 0 {
                // A piece takes about a millisecond; threads that deliver other events have their turn in between.
                std::thread::yield_now();
            }
            let entries: Vec<_> = piece
                .iter()
                .map(|record| Arc::new(inner.entry(record, now)))
                .collect();
            inner.pool.append(&entries, now);
        }
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
        inner.when_late.forget();
        inner.pool.reset(bounds.epoch.0, bounds.head, clock::now());
        inner.head.send_replace(bounds.head);
        tracing::warn!(
            epoch = %bounds.epoch,
            head = bounds.head,
            "the log goes on under another epoch; every reader hears of a gap"
        );
    }
}

/// How many events go to the pool at once.
const MAX_APPENDED: usize = 256;
