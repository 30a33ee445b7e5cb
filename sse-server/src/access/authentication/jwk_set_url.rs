//! Keys that are published at a URL (a JWK set, RFC 7517), fetched again and again so that they can change.
//!
//! ```text
//!   fresh ── max-age, an hour at most ──▶ due: fetched in the background
//!     ▲                                     │ works        │ fails: the old ones hold for an hour more, then none
//!     └─────────────────────────────────────┘              ▼
//!                                            nobody who shows a token is let in (503)
//! ```
//!
//! A token that names a key that is not there may be signed with a new one: then they are fetched at once, but never more often
//! than once in ten seconds, however many such tokens come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use url::{Host, Url};

use super::application::InvalidApplication;
use super::client::Client;
use super::jwt::JwtKeys;
use crate::clock;

/// Keys at a URL. Cloning it is cheap; all clones are the same.
#[derive(Clone, Debug)]
pub struct JwkSetUrl(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    state: Mutex<State>,
    /// One fetch at a time; whoever waits for it need not fetch after it.
    turn: tokio::sync::Mutex<()>,
    fetches: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    keys: Arc<JwtKeys>,
    /// Changes with the keys.
    version: u64,
    tried_at: Option<Instant>,
    /// When they are to be fetched again.
    due: Instant,
    /// Until when they hold.
    good_until: Option<Instant>,
    is_failing: bool,
}

/// How often keys were fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwkSetStatus {
    /// In all.
    pub fetches: u64,
    /// How many of these failed.
    pub failures: u64,
}

impl JwkSetUrl {
    /// The keys at this URL: `https://`, or `http://` on this machine.
    ///
    /// # Errors
    ///
    /// When it is another URL, or cannot be asked.
    pub fn new(url: &Url) -> Result<Self, InvalidApplication> {
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !is_local {
            return Err(InvalidApplication(format!(
                "{url}: keys that come over plain http can be exchanged on their way; write https://"
            )));
        }
        Ok(Self(Arc::new(Shared {
            client: Client::new(url)?,
            state: Mutex::new(State {
                keys: Arc::default(),
                version: 0,
                tried_at: None,
                due: clock::now(),
                good_until: None,
                is_failing: false,
            }),
            turn: tokio::sync::Mutex::default(),
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })))
    }

    /// The keys that hold now, with a number that changes when they do; `None` where there are none.
    pub(super) fn keys(&self, now: Instant) -> Option<(Arc<JwtKeys>, u64)> {
        let state = self.0.state.lock();
        let is_good = state.good_until.is_some_and(|until| now < until);
        is_good.then(|| (Arc::clone(&state.keys), state.version))
    }

    /// Fetches them if that was not tried just now; whether others are there than this version.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on for others when this is dropped: at worst it is fetched again ten seconds later.
    pub(super) async fn fetch_unless_tried(&self, version: Option<u64>) -> bool {
        let _turn = self.0.turn.lock().await;
        let now = clock::now();
        let was_tried = self
            .0
            .state
            .lock()
            .tried_at
            .is_some_and(|at| now.saturating_duration_since(at) < MIN_PAUSE);
        if !was_tried {
            self.0.fetch(now).await;
        }
        self.keys(clock::now()).map(|(_, version)| version) != version
    }

    /// Fetches them in the background if that is due. To be called about once a second, within a runtime.
    pub(super) fn keep_fresh(&self, now: Instant) {
        if now < self.0.state.lock().due {
            return;
        }
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            // Whoever has the turn fetches already.
            if let Ok(_turn) = shared.turn.try_lock() {
                shared.fetch(clock::now()).await;
            }
        });
    }

    /// How often they were fetched.
    #[must_use]
    pub fn status(&self) -> JwkSetStatus {
        JwkSetStatus {
            fetches: self.0.fetches.load(Ordering::Relaxed),
            failures: self.0.failures.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    async fn fetch(&self, now: Instant) {
        {
            let mut state = self.state.lock();
            state.tried_at = Some(now);
            state.due = now + MIN_PAUSE;
        }
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let fetched = tokio::time::timeout(TIMEOUT, self.client.get()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let keys = fetched.and_then(|(text, max_age)| {
            let keys = JwtKeys::from_jwk_set(&text).map_err(|error| error.to_string())?;
            Ok((keys, max_age))
        });
        self.take(keys, clock::now());
    }

    fn take(&self, fetched: Result<(JwtKeys, Option<Duration>), String>, now: Instant) {
        let mut state = self.state.lock();
        match fetched {
            Ok((keys, max_age)) => {
                let fresh_for = max_age.unwrap_or(DEFAULT_FRESH).clamp(MIN_FRESH, MAX_FRESH);
                // Not all hubs at once.
                state.due = now + fresh_for.mul_f64(1.0 - clock::chance() / 5.0);
                state.good_until = Some(now + fresh_for + MAX_STALE);
                state.keys = Arc::new(keys);
                state.version += 1;
                if std::mem::take(&mut state.is_failing) {
                    drop(state);
                    tracing::info!("the keys at --jwt-jwks-url can be fetched again");
                }
            }
            Err(reason) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                state.due = now + MIN_PAUSE.mul_f64(1.0 + clock::chance());
                let is_new = !std::mem::replace(&mut state.is_failing, true);
                drop(state);
                if is_new {
                    tracing::error!(%reason, "the keys at --jwt-jwks-url cannot be fetched; those that were there hold for an hour");
                }
            }
        }
    }
}

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between two fetches, at least.
const MIN_PAUSE: Duration = Duration::from_secs(10);
/// How long they are taken for fresh: what the answer says, within these; and if it says nothing.
const MIN_FRESH: Duration = Duration::from_secs(60);
const MAX_FRESH: Duration = Duration::from_secs(3600);
const DEFAULT_FRESH: Duration = Duration::from_secs(300);
/// How long they hold beyond that when they cannot be fetched. A stated guess: an outage is seen to by then.
const MAX_STALE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn set() -> JwkSetUrl {
        JwkSetUrl::new(&"http://127.0.0.1:1/".parse().unwrap()).unwrap()
    }

    fn keys() -> JwtKeys {
        JwtKeys::from_jwk_set(SET.as_bytes()).unwrap()
    }

    #[test]
    fn keys_over_plain_http_come_from_this_machine_alone() {
        for url in [
            "http://example.com/jwks",
            "http://10.0.0.1/",
            "http://[2001:db8::1]/",
        ] {
            let error = JwkSetUrl::new(&url.parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("https://"), "{error}");
        }
        for url in [
            "https://example.com/jwks",
            "http://localhost:1/",
            "http://[::1]/",
        ] {
            JwkSetUrl::new(&url.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn they_hold_while_they_are_fresh_and_an_hour_more_and_then_not() {
        let set = set();
        let now = clock::now();
        assert!(set.keys(now).is_none());
        for (max_age, fresh_seconds) in [
            (None, 300),
            (Some(0), 60),
            (Some(600), 600),
            (Some(u64::MAX / 2), 3600),
        ] {
            let max_age = max_age.map(Duration::from_secs);
            set.0.take(Ok((keys(), max_age)), now);
            let due = set.0.state.lock().due.duration_since(now).as_secs_f64();
            let fresh = f64::from(fresh_seconds);
            assert!((0.8 * fresh..=fresh).contains(&due), "{due}");
            set.0.take(Err("gone".to_owned()), now);
            let until = now + Duration::from_secs(u64::from(fresh_seconds as u32) + 3600);
            assert!(set.keys(until - Duration::from_millis(1)).is_some());
            assert!(set.keys(until).is_none());
        }
        assert_eq!(set.status().failures, 4);
    }
}
