//! [`HubConfig`]: the settings of a hub.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sse_broker::Bounds;
use sse_compress::Level;
use sse_health::{Signal, Thresholds};
use sse_pool::{Limits, PoolConfig, WindowConfig};

use super::{LateConfig, Need};
use crate::access::budget::{Account, STREAM_BYTES, Sizes, shares};
use crate::access::{PlaceLimits, RateLimits};
use crate::audit::AuditLog;
use crate::topic_pattern::Pattern;
use crate::wire::HeartbeatForm;

/// The settings of a [`Hub`](super::Hub). `HubConfig::default()` is what the server runs with.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address; an IPv6 address counts with its /64.
    pub max_connections_per_ip: usize,
    /// Connections at once of one user, or of one session or token that names no user. Who has shown nothing has no such bound.
    pub max_connections_per_user: usize,
    /// How fast one caller may connect and publish.
    pub rates: RateLimits,
    /// The most memory for remembering who has been how fast; none is taken where there are no [`rates`](Self::rates).
    pub rates_bytes: usize,
    /// Requests that are answered at once, without streams and those that wait.
    pub max_requests: usize,
    /// The same from one address; an IPv6 address counts with its /64.
    pub max_requests_per_ip: usize,
    /// Sockets at once; `None` for as many as there may be connections and requests.
    pub max_sockets: Option<usize>,
    /// Topics and event types one connection may subscribe to.
    pub max_subscriptions: usize,
    /// Largest data of one event.
    pub max_event_bytes: usize,
    /// The event types that may be published; `None` for any.
    pub allowed_event_types: Option<BTreeSet<String>>,
    /// Memory by account. The account `compression` has [`stream_compression_bytes`](Self::stream_compression_bytes) instead, and
    /// `window` has [`window_bytes`](Self::window_bytes).
    pub memory: Sizes,
    /// Jobs remembered at once.
    pub max_jobs: usize,
    /// Largest state of one job, as JSON.
    pub max_job_bytes: usize,
    /// Most named subscriptions remembered.
    pub max_named_subscriptions: usize,
    /// A named subscription that nobody has used for this long is forgotten; `None` for never.
    pub named_subscription_expiry: Option<Duration>,
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Option<Duration>,
    /// Under lasting load heartbeats become rarer, up to this; `None` for never.
    pub max_heartbeat: Option<Duration>,
    /// How a heartbeat looks.
    pub heartbeat_form: HeartbeatForm,
    /// Reconnection time told to clients; each is told between this and one and a half of it, so
    /// that they do not all come back at once.
    pub retry: Duration,
    /// A reader that takes nothing for so long, though events wait for it, is let go.
    pub send_timeout: Duration,
    /// A connection with no activity for so long is closed.
    pub idle_timeout: Duration,
    /// How often idle connections and old events are looked for.
    pub sweep_interval: Duration,
    /// What a reader that is late is spared.
    pub late: LateConfig,
    /// What happens to a reader whose next event is no longer kept.
    pub overflow: Overflow,
    /// Memory for the newest events, which all readers share, in bytes.
    pub window_bytes: usize,
    /// The same, counted in events.
    pub window_events: usize,
    /// Smallest data that is compressed for readers that ask for compressed messages.
    pub compression_threshold_bytes: usize,
    /// Effort of that compression.
    pub compression_level: Level,
    /// Memory for compressing streams (`Content-Encoding: gzip`), about half a MiB for each
    /// set of subscriptions that readers have in common. Where it is used up, further ones are not compressed. Zero for none.
    pub stream_compression_bytes: usize,
    /// Topics whose events are never compressed together with others: for secrets in streams that also carry
    /// what others can choose.
    pub never_compress: Vec<Arc<Pattern>>,
    /// From when on the hub calls itself unwell.
    pub thresholds: Thresholds,
    /// What it must have to call itself ready, beside being up.
    pub ready_needs: Vec<Need>,
    /// The most that waiting for more events may add to an event's latency. Only a busy hub waits; zero for never.
    pub max_linger: Duration,
    /// Where it is written who did what.
    pub audit: AuditLog,
    /// Takes the wall clock for right when the hub starts, whatever the log says of it.
    pub trust_clock: bool,
    /// Parts the pool is divided into; one for each core that serves connections.
    pub shards: usize,
}

impl HubConfig {
    /// The pool of a hub on a log that covers this.
    pub(super) fn pool(&self, bounds: Bounds) -> PoolConfig {
        PoolConfig {
            shards: self.shards.max(1),
            window: WindowConfig {
                max_bytes: self.window_bytes,
                max_entries: self.window_events,
            },
            limits: Limits {
                max_connections: self.max_connections,
                max_connections_per_ip: self.max_connections_per_ip,
                // Session, user and connection are topics too; they are the hub's own doing.
                max_topics_per_connection: self.max_subscriptions.saturating_add(4),
            },
            send_timeout: self.send_timeout,
            idle_timeout: self.idle_timeout,
            start_offset: bounds.head,
            start_series: bounds.epoch.0,
        }
    }

    /// What the accounts of the memory budget may hold.
    pub(super) fn account_sizes(&self) -> Sizes {
        let mut sizes = self.memory;
        sizes[Account::Compression as usize] = self.stream_compression_bytes;
        sizes[Account::Window as usize] = self.window_bytes;
        // The rest is for the places of streams, which take no permits.
        let connections = &mut sizes[Account::Connections as usize];
        *connections -= (*connections / 2).min(self.max_connections.saturating_mul(STREAM_BYTES));
        sizes
    }

    pub(super) fn request_limits(&self) -> PlaceLimits {
        PlaceLimits {
            max: self.max_requests,
            max_per_address: self.max_requests_per_ip,
        }
    }

    /// As many as may have a stream or a request on them: then a request that has a place has a socket.
    pub(super) fn socket_limits(&self) -> PlaceLimits {
        let connections_and_requests = self.max_connections.saturating_add(self.max_requests);
        PlaceLimits {
            max: self.max_sockets.unwrap_or(connections_and_requests),
            max_per_address: self
                .max_connections_per_ip
                .saturating_add(self.max_requests_per_ip),
        }
    }
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_ip: 100,
            // A stated guess: a user's devices and tabs, and few enough that a stolen token does not take all places.
            max_connections_per_user: 100,
            rates: RateLimits::default(),
            rates_bytes: 64 << 20,
            // Stated guesses: a publisher with some hundred requests at once is one address, and four of them are let in.
            max_requests: 2_000,
            max_requests_per_ip: 500,
            max_sockets: None,
            max_subscriptions: 64,
            max_event_bytes: 1 << 20,
            allowed_event_types: None,
            memory: shares(1 << 30),
            max_jobs: 10_000,
            max_job_bytes: 64 << 10,
            max_named_subscriptions: 10_000,
            // As long as events are kept.
            named_subscription_expiry: Some(Duration::from_secs(7 * 24 * 3600)),
            heartbeat: Some(Duration::from_secs(30)),
            max_heartbeat: None,
            heartbeat_form: HeartbeatForm::Event,
            retry: Duration::from_secs(2),
            send_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            sweep_interval: Duration::from_secs(60),
            late: LateConfig::default(),
            overflow: Overflow::Disconnect,
            window_bytes: 16 << 20,
            window_events: 65_536,
            compression_threshold_bytes: 1024,
            compression_level: Level::Balanced,
            stream_compression_bytes: 32 << 20,
            never_compress: Vec::new(),
            // A busy machine that delivers in time is not ill.
            thresholds: Thresholds::default().without(Signal::Cpu),
            ready_needs: Need::ALL.to_vec(),
            max_linger: Duration::from_millis(5),
            audit: AuditLog::default(),
            trust_clock: false,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What happens to a reader whose next event is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Overflow {
    /// Tell it, and end its stream; it resumes or gives up
    Disconnect,
    /// Tell it, and go on with what is still there
    DropOldest,
}
