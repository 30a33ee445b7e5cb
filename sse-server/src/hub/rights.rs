//! Rights that end while a stream is open: credentials that expire, that are renewed, and that are revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sse_broker::{AppendError, StateChange, StoredState, UnixMillis};
use sse_pool::{CloseReason, ConnectionId, ConnectionStatus, Selector};

use super::{Hub, InvalidInterest, interest};
use crate::access::{Caller, Credential};
use crate::clock;

/// Whose rights are taken away.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// Every credential of a user.
    User(String),
    /// Every credential of a session.
    Session(String),
    /// One credential: the `jti` of a signed token, or the id of an API token.
    Credential(String),
}

impl Revoked {
    /// The field that names it.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Session(_) => "session",
            Self::Credential(_) => "jti",
        }
    }

    /// The name of the user, the session or the credential.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Session(name) | Self::Credential(name) => name,
        }
    }

    fn key(&self) -> String {
        format!("{KEY_PREFIX}{}/{}", self.field(), self.name())
    }

    fn from_key(key: &str) -> Option<Self> {
        let (field, name) = key.strip_prefix(KEY_PREFIX)?.split_once('/')?;
        let name = name.to_owned();
        match field {
            "user" => Some(Self::User(name)),
            "session" => Some(Self::Session(name)),
            "jti" => Some(Self::Credential(name)),
            _ => None,
        }
    }
}

/// Why rights were not taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// So many revocations are remembered already.
    #[error("{0} revocations are remembered, and no more are taken before some of them end")]
    Full(usize),
    /// It holds now, and may be forgotten at a restart.
    #[error(
        "the revocation holds now, but it could not be stored and would be forgotten at a restart: {0}"
    )]
    Log(#[from] AppendError),
}

/// Why a connection did not get other rights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// There is no such connection, or it is another user's or session's.
    #[error("there is no connection {0}")]
    Unknown(ConnectionId),
    /// The new rights do not go as far as what it reads.
    #[error(transparent)]
    Interest(#[from] InvalidInterest),
}

/// When a revocation was made, and until when it is remembered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Revocation {
    at: UnixMillis,
    until: UnixMillis,
}

/// What is known of rights that end.
#[derive(Debug)]
pub(super) struct EndingRights {
    /// No open stream's credential expires before this.
    earliest: AtomicU64,
    revoked: Mutex<HashMap<Revoked, Revocation>>,
}

impl EndingRights {
    /// With the revocations that the log remembers.
    pub(super) fn new(stored: Vec<StoredState>) -> Self {
        let mut revoked = HashMap::new();
        for state in stored {
            let value = state
                .value
                .as_deref()
                .and_then(|value| serde_json::from_slice(value).ok());
            match (Revoked::from_key(&state.key), value) {
                (Some(what), Some(revocation)) => {
                    revoked.insert(what, revocation);
                }
                // Whoever was revoked stays so, as long as anything says who it was.
                (Some(what), None) => {
                    tracing::warn!(
                        key = &*state.key,
                        "a revocation is damaged, and holds without an end"
                    );
                    let for_ever = Revocation {
                        at: UnixMillis::MAX,
                        until: UnixMillis::MAX,
                    };
                    revoked.insert(what, for_ever);
                }
                (None, _) => tracing::warn!(
                    key = &*state.key,
                    "a revocation of an unknown kind is left out"
                ),
            }
        }
        Self {
            earliest: AtomicU64::new(UnixMillis::MAX),
            revoked: Mutex::new(revoked),
        }
    }

    fn is_revoked(&self, caller: &Caller) -> bool {
        let Some(credential) = caller.credential() else {
            return false;
        };
        let revoked = self.revoked.lock();
        if revoked.is_empty() {
            return false;
        }
        let is_before = |what: Revoked| {
            let revocation = revoked.get(&what);
            // One that does not say when it was issued may be an old one.
            revocation.is_some_and(|it| credential.issued_at.is_none_or(|issued| issued <= it.at))
        };
        let user = caller.user().map(|name| Revoked::User(name.to_owned()));
        let session = caller
            .session()
            .map(|name| Revoked::Session(name.to_owned()));
        let own = credential
            .id
            .as_deref()
            .map(|id| Revoked::Credential(id.to_owned()));
        [user, session, own].into_iter().flatten().any(is_before)
    }
}

impl Hub {
    /// Whether a caller's rights were taken away since they were given.
    #[must_use]
    pub fn is_revoked(&self, caller: &Caller) -> bool {
        self.inner.ending_rights.is_revoked(caller)
    }

    /// Takes rights away that were given up to now: streams that have them end, and new requests with them are refused. It is
    /// remembered until `until`, which should be when the last such credential has expired by itself. Answers how many streams
    /// end.
    ///
    /// # Errors
    ///
    /// When there is no room for it, or it could not be stored; then it holds until the hub is stopped.
    pub async fn revoke(&self, what: Revoked, until: UnixMillis) -> Result<usize, RevokeError> {
        let inner = &self.inner;
        let revocation = Revocation {
            at: clock::unix_millis(),
            until,
        };
        {
            let mut revoked = inner.ending_rights.revoked.lock();
            if revoked.len() >= MAX_REVOCATIONS && !revoked.contains_key(&what) {
                return Err(RevokeError::Full(revoked.len()));
            }
            revoked.insert(what.clone(), revocation);
        }
        let ended = self.close_where(CloseReason::Revoked, |status| {
            self.is_revoked(&Caller::of(&status.info))
        });
        let value = serde_json::to_vec(&revocation).unwrap_or_default();
        let stored = StateChange {
            key: what.key().into(),
            value: Some(Bytes::from(value)),
        };
        inner.broker.put_states(vec![stored]).await?;
        Ok(ended)
    }

    /// Ends the streams whose credentials are gone, as `is_gone` says; how many those are.
    pub(crate) fn end_streams_of(&self, is_gone: impl Fn(&Credential) -> bool) -> usize {
        self.close_where(CloseReason::Revoked, |status| {
            let caller = Caller::of(&status.info);
            caller
                .credential()
                .is_some_and(|credential| is_gone(credential))
        })
    }

    /// Gives an open connection the rights of a caller that is the same user and session. What it asked for is narrowed to them anew.
    ///
    /// # Errors
    ///
    /// When there is no such connection, or nothing is left of what it reads; then it is as it was.
    pub fn renew(&self, id: &ConnectionId, caller: &Caller) -> Result<(), RenewError> {
        let unknown = || RenewError::Unknown(id.clone());
        let pool = &self.inner.pool;
        let status = pool.status(id).ok_or_else(unknown)?;
        let opener = Caller::of(&status.info);
        if opener.user() != caller.user() || opener.session() != caller.session() {
            return Err(unknown());
        }
        let next = |current: &Selector| self.narrowed(&interest::asked(current), caller);
        next(&status.selector)?;
        let client = self.client(status.info.client.user_agent.as_deref(), caller);
        // The rights first: for a moment it may read less, and never more.
        if !pool.update_client(id, &client) {
            return Err(unknown());
        }
        let mut refused = None;
        let updated = pool.update_selector(id, |current| {
            next(current).unwrap_or_else(|error| {
                refused = Some(error);
                current.clone()
            })
        });
        updated.map_err(|_| unknown())?;
        if let Some(error) = refused {
            // It has changed its wishes a moment ago, to what the new rights refuse.
            pool.close(id, CloseReason::Revoked);
            return Err(error.into());
        }
        self.expect_end_of_rights(caller);
        Ok(())
    }

    /// Notes when the rights of a caller end whose stream is in the pool now.
    pub(crate) fn expect_end_of_rights(&self, caller: &Caller) {
        let expires_at = caller
            .credential()
            .and_then(|credential| credential.expires_at);
        if let Some(expires_at) = expires_at {
            self.inner
                .ending_rights
                .earliest
                .fetch_min(expires_at, Ordering::AcqRel);
        }
    }

    /// Ends the streams whose credentials have expired, and forgets revocations that are over; to be called once a second.
    pub(super) async fn end_rights(&self, now: UnixMillis) {
        let rights = &self.inner.ending_rights;
        if now >= rights.earliest.load(Ordering::Acquire) {
            // Whoever connects from here on is noted anew, and whoever was noted before is in the pool.
            rights.earliest.store(UnixMillis::MAX, Ordering::Release);
            let mut next = UnixMillis::MAX;
            self.close_where(CloseReason::Expired, |status| {
                let caller = Caller::of(&status.info);
                let expires_at = caller
                    .credential()
                    .and_then(|credential| credential.expires_at);
                let is_over = expires_at.is_some_and(|at| at <= now);
                if !is_over {
                    next = next.min(expires_at.unwrap_or(UnixMillis::MAX));
                }
                is_over
            });
            rights.earliest.fetch_min(next, Ordering::AcqRel);
        }
        let over: Vec<Revoked> = {
            let mut revoked = rights.revoked.lock();
            let over = revoked.iter().filter(|(_, it)| it.until <= now);
            let over: Vec<Revoked> = over.map(|(what, _)| what.clone()).collect();
            revoked.retain(|_, it| it.until > now);
            over
        };
        if !over.is_empty() {
            let forgotten = over.iter().map(|what| StateChange {
                key: what.key().into(),
                value: None,
            });
            // What stays there is forgotten at the next start.
            let _ = self.inner.broker.put_states(forgotten.collect()).await;
        }
    }

    /// Ends every stream that is meant; says how many those were.
    fn close_where(
        &self,
        reason: CloseReason,
        is_meant: impl FnMut(&ConnectionStatus) -> bool,
    ) -> usize {
        let pool = &self.inner.pool;
        let meant = pool.find(is_meant);
        meant.iter().filter(|id| pool.close(id, reason)).count()
    }
}

/// Under this prefix revocations stand beside the log.
pub(super) const KEY_PREFIX: &str = "revocation/";
/// So many are remembered. A stated guess: some tens of MiB.
const MAX_REVOCATIONS: usize = 100_000;
