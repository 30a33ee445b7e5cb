//! What the HTTP side goes by, and how that is exchanged while it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::{AllowedHost, AllowedOrigin, HubService, Refusals};
use crate::access::{Authentication, Credential, TrustedProxies};
use crate::clock;

/// What the HTTP side allows.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Host names answered to, besides `localhost` and IP addresses.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Web origins that may read and publish.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// How callers show who they are.
    pub authentication: Arc<Authentication>,
    /// How a browser's `EventSource` is told that it was refused.
    pub refusals: Refusals,
    /// Proxies whose word counts for the address of a request.
    pub trusted_proxies: TrustedProxies,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            authentication: Arc::default(),
            refusals: Refusals::default(),
            trusted_proxies: TrustedProxies::default(),
        }
    }
}

/// The settings that hold now. A request goes by those that held when it came.
#[derive(Debug)]
pub(super) struct Live {
    config: RwLock<Arc<HttpConfig>>,
    pub(super) reloads: Reloads,
}

/// How often settings were exchanged.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pub(super) done: AtomicU64,
    pub(super) refused: AtomicU64,
    /// When it was done last.
    pub(super) last: AtomicU64,
}

impl Live {
    pub(super) fn new(config: HttpConfig) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            reloads: Reloads::default(),
        }
    }
}

/// Authentication would be switched off while the hub runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication cannot be switched off while the hub runs; restart it")]
pub struct OpensHub;

impl HubService {
    /// The settings that hold now.
    pub(crate) fn config(&self) -> Arc<HttpConfig> {
        Arc::clone(&self.live.config.read())
    }

    /// Goes by other settings from now on, but for the size of bodies, which belongs to the memory that was shared out. Streams go
    /// on, except those of credentials that are not taken any more; returns how many ended.
    ///
    /// # Errors
    ///
    /// [`OpensHub`] when authentication would be switched off: an address that strangers reach may be listened on.
    pub fn reconfigure(&self, config: HttpConfig) -> Result<usize, OpensHub> {
        let old = self.config();
        if config.authentication.is_open() && !old.authentication.is_open() {
            return Err(OpensHub);
        }
        let new = Arc::new(HttpConfig {
            max_body_bytes: old.max_body_bytes,
            ..config
        });
        *self.live.config.write() = Arc::clone(&new);
        new.authentication.take_over(&old.authentication);
        let is_gone = |credential: &Credential| new.authentication.is_gone(credential);
        Ok(self.hub.end_streams_of(is_gone))
    }

    /// Counts that settings were read again, for the metrics; and whether they could be used.
    pub fn record_reload(&self, is_done: bool) {
        let reloads = &self.live.reloads;
        if is_done {
            reloads.done.fetch_add(1, Ordering::Relaxed);
            reloads.last.store(clock::unix_millis(), Ordering::Relaxed);
        } else {
            reloads.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}
