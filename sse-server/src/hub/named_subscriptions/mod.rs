//! Named subscriptions: the hub keeps the place of readers that keep nothing themselves.
//!
//! A name holds one thing: the position up to which its reader has acknowledged everything. It holds no
//! filter (the topics of a stream are asked for at each connect, and a position is a place in the one
//! order of all topics), no queue, and no history: retention goes on as if it were not there.
//!
//! ```text
//!             first connect               connect: goes on after `acked`
//!   unknown ─────────────────▶ known ◀──────────────────────────────────┐
//!      ▲                        │  └──── ack: `acked` moves up ─────────┘
//!      └────────────────────────┘        reset: `acked` moves anywhere
//!         deleted, or unused for too long
//! ```
//!
//! What is answered to a creation, a reset or a deletion is in the log. Acknowledgements are collected and
//! go into the log once a second, in one commit with whatever else is due: an acknowledgement is the
//! reader's promise and not the hub's, and a crash that takes the newest ones back repeats events and
//! loses none.

mod contention;
mod entries;

use std::time::Duration;

use sse_broker::{AppendError, ParsePositionError, Position, ReadError, ResumeFrom, UnixMillis};
use sse_pool::{CloseReason, ConnectionId, ReaderState};

pub(super) use entries::{KEY_PREFIX, NamedSubscriptions};

use super::{Hub, Placement};
use crate::access::Caller;
use crate::clock;
use crate::units::Quoted;

/// A named subscription, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSubscriptionStatus {
    /// Its name.
    pub name: String,
    /// The reader has acknowledged everything up to here.
    pub acked: Position,
    /// The user it belongs to, where it was created by one.
    pub user: Option<String>,
    /// When it was first used.
    pub created_at: UnixMillis,
    /// When it was last used, give or take a minute while a stream is open.
    pub used_at: UnixMillis,
    /// The stream that reads under this name now.
    pub connection: Option<ConnectionId>,
    /// How many positions the log is ahead of it, whatever their topics; `None` when the position is
    /// another log's.
    pub behind: Option<u64>,
}

/// What is wrong with a request about a named subscription.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamedSubscriptionError {
    /// No subscription can have this name.
    #[error("a subscription's name has 1 to {MAX_NAME_BYTES} bytes without control characters")]
    InvalidName,
    /// There is none of this name.
    #[error("there is no named subscription {}", Quoted(.0))]
    Unknown(String),
    /// It was created for another user or session.
    #[error("the named subscription {} belongs to somebody else", Quoted(.0))]
    NotYours(String),
    /// The caller's address has made half of them.
    #[error("{share} named subscriptions were made from your address, and it may not have more")]
    AddressFull {
        /// How many an address may have made.
        share: usize,
    },
    /// There are as many as there may be.
    #[error("there are {max} named subscriptions, and no more are taken")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// The text is not a position.
    #[error(transparent)]
    NotAPosition(#[from] ParsePositionError),
    /// The position is another log's.
    #[error("the position {0} is another log's")]
    ForeignEpoch(Position),
    /// The log never gave out that position.
    #[error("the position {0} was never given out")]
    BeyondHead(Position),
    /// No kept event has this id.
    #[error("no event that is kept has the id {}", Quoted(.0))]
    UnknownId(String),
    /// Another stream reads under this name, and has been displaced too often.
    #[error(
        "another stream is reading the named subscription {}; end that one first, or choose another name", Quoted(.name)
    )]
    InUse {
        /// The name.
        name: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A place in the order, as a reader names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionPlace {
    /// A position.
    At(Position),
    /// The event with this id: its publisher's, or its position.
    Event(String),
    /// Before the oldest event that is kept; only for a reset.
    Earliest,
    /// After the newest event; only for a reset.
    Latest,
}

/// The name that a stream reads under: it begins after what was acknowledged under that name, or after what the reader says
/// it has seen where that is further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSubscription {
    /// The name.
    pub name: String,
    /// Where a name that is new begins, said as a `last_event_id`; `None` for what comes from now on.
    pub start: Option<String>,
}

/// Where a stream under a name begins.
pub(crate) struct SubscriptionStart {
    pub(crate) from: ResumeFrom,
    pub(crate) is_new: bool,
}

impl Hub {
    /// Finds where the stream of a named subscription begins, and creates the name when it is new.
    ///
    /// A new name begins after `resumed`, else after `start`, else with what comes from now on.
    pub(crate) async fn named_subscription_start(
        &self,
        subscription: &NamedSubscription,
        caller: &Caller,
        resumed: Option<&str>,
    ) -> Result<SubscriptionStart, NamedSubscriptionError> {
        let NamedSubscription { name, start } = subscription;
        self.check_named_subscription(name, caller)?;
        let inner = &self.inner;
        let broker = &*inner.broker;
        let now = self.used_now();
        let resumed = match resumed {
            Some(id) => Some(ResumeFrom::last_event_id(broker, id).await?),
            None => None,
        };
        let known = |from| SubscriptionStart {
            from,
            is_new: false,
        };
        let bounds = broker.bounds();
        if let Some(from) = inner
            .named_subscriptions
            .resume(name, caller, resumed, bounds, now)?
        {
            return Ok(known(from));
        }
        let from = match (resumed, start.as_deref()) {
            (Some(from), _) => from,
            (None, Some(id)) => ResumeFrom::last_event_id(broker, id).await?,
            (None, None) => ResumeFrom::Live,
        };
        let bounds = broker.bounds();
        let (offset, gap) = from.resolve(bounds);
        let acked = Position {
            epoch: bounds.epoch,
            offset,
        };
        if inner.named_subscriptions.create(name, caller, acked, now)? {
            if let Err(error) = inner.named_subscriptions.save(broker).await {
                inner.named_subscriptions.forget(name);
                return Err(error.into());
            }
            // A fixed place and not "live": what comes until the stream is there belongs to it.
            let from = match (from, gap) {
                (ResumeFrom::Live, _) => ResumeFrom::Position(acked),
                (from, _) => from,
            };
            return Ok(SubscriptionStart { from, is_new: true });
        }
        match inner
            .named_subscriptions
            .resume(name, caller, resumed, bounds, now)?
        {
            Some(from) => Ok(known(from)),
            None => Err(NamedSubscriptionError::Unknown(name.clone())),
        }
    }

    /// Whether this caller may read under a name now. A name that is read by somebody else, who is alive and was displaced
    /// again and again, is refused: without that, two readers that insist on it would take it from each other for ever.
    pub(crate) fn check_named_subscription(
        &self,
        name: &str,
        caller: &Caller,
    ) -> Result<(), NamedSubscriptionError> {
        check_name(name)?;
        let now = clock::now();
        let is_alive = |id: &ConnectionId| self.is_alive(id);
        let subscriptions = &self.inner.named_subscriptions;
        if let Some(retry_after) = subscriptions.contended(name, caller, now, is_alive)? {
            self.inner.metrics.record_refused_takeover();
            return Err(NamedSubscriptionError::InUse {
                name: name.to_owned(),
                retry_after,
            });
        }
        Ok(())
    }

    /// Whether a stream is open and has what there is, or has taken something not long ago.
    fn is_alive(&self, id: &ConnectionId) -> bool {
        let patience = self.inner.config.send_timeout;
        let status = self.inner.pool.status(id);
        status.is_some_and(|status| {
            status.state == ReaderState::Waiting
                || clock::now().saturating_duration_since(status.since) < patience
        })
    }

    /// Makes a stream the one of its name; the one before it ends, and hears to come back later each time this happens.
    pub(crate) fn claim_named_subscription(&self, name: &str, connection: &ConnectionId) {
        let subscriptions = &self.inner.named_subscriptions;
        let base = self.inner.config.retry;
        // A stream that has ended is not displaced: its reader comes back, as often as it likes.
        let holder = subscriptions.holder(name);
        let is_open = holder.is_some_and(|holder| self.inner.pool.status(&holder).is_some());
        let takeover = subscriptions.claim(name, connection, is_open, base, clock::now());
        if let Some(before) = takeover.before
            && self.inner.pool.close(&before, CloseReason::Replaced)
        {
            self.inner.metrics.record_takeover();
            if takeover.is_contended {
                tracing::warn!(
                    name,
                    "several readers insist on one named subscription; the newest is refused while one reads"
                );
            } else {
                tracing::debug!(connection = %before, name, "replaced by a newer stream of the same name");
            }
        }
    }

    /// When a stream that was replaced should come back.
    pub(crate) fn replaced_retry(&self, connection: &ConnectionId) -> Option<Duration> {
        self.inner.named_subscriptions.replaced_retry(connection)
    }

    /// The reader of `name` has everything up to a place. Idempotent, and an older place than the one
    /// that is known changes nothing.
    ///
    /// It is in the log within about a second, see the module's text.
    ///
    /// # Errors
    ///
    /// See [`NamedSubscriptionError`].
    pub async fn ack_named_subscription(
        &self,
        name: &str,
        caller: &Caller,
        place: SubscriptionPlace,
    ) -> Result<NamedSubscriptionStatus, NamedSubscriptionError> {
        // Nobody learns of ids by asking for a name that is not theirs.
        self.named_subscription(name, caller)?;
        let at = self.subscription_place(place).await?;
        let inner = &self.inner;
        let now = self.used_now();
        let bounds = inner.broker.bounds();
        let mut entries = inner.named_subscriptions.entries.lock();
        let entry = entries.get_mut(name, caller)?;
        entry.used_at = now;
        if at.epoch != bounds.epoch {
            // The log has begun another one since it was looked up.
            return Err(NamedSubscriptionError::ForeignEpoch(at));
        }
        let is_news = entry.acked.epoch != at.epoch || entry.acked.offset < at.offset;
        if is_news {
            entry.acked = at;
        }
        let status = entry.status(name, bounds);
        if is_news {
            entries.unsaved.insert(name.into());
        }
        Ok(status)
    }

    /// Puts a name's reader somewhere else, forwards or back; an open stream goes on from there.
    ///
    /// # Errors
    ///
    /// See [`NamedSubscriptionError`].
    pub async fn reset_named_subscription(
        &self,
        name: &str,
        caller: &Caller,
        place: SubscriptionPlace,
    ) -> Result<NamedSubscriptionStatus, NamedSubscriptionError> {
        self.named_subscription(name, caller)?;
        let is_earliest = place == SubscriptionPlace::Earliest;
        let at = self.subscription_place(place).await?;
        let inner = &self.inner;
        let bounds = inner.broker.bounds();
        let status = {
            let mut entries = inner.named_subscriptions.entries.lock();
            let entry = entries.get_mut(name, caller)?;
            entry.used_at = self.used_now();
            entry.acked = at;
            let status = entry.status(name, bounds);
            entries.unsaved.insert(name.into());
            status
        };
        inner.named_subscriptions.save(&*inner.broker).await?;
        if let Some(connection) = &status.connection {
            let from = match is_earliest {
                true => ResumeFrom::Earliest,
                false => ResumeFrom::Position(at),
            };
            inner.pool.seek(
                connection,
                &Placement::of(from, inner.broker.bounds()).seek(),
            );
        }
        Ok(self.with_open_stream(status))
    }

    /// Forgets a name. Its stream, if one is open, goes on as one without a name.
    ///
    /// # Errors
    ///
    /// See [`NamedSubscriptionError`].
    pub async fn delete_named_subscription(
        &self,
        name: &str,
        caller: &Caller,
    ) -> Result<(), NamedSubscriptionError> {
        let inner = &self.inner;
        {
            let mut entries = inner.named_subscriptions.entries.lock();
            entries.get_mut(name, caller)?;
            entries.by_name.remove(name);
            entries.unsaved.insert(name.into());
        }
        Ok(inner.named_subscriptions.save(&*inner.broker).await?)
    }

    /// How one name stands.
    ///
    /// # Errors
    ///
    /// See [`NamedSubscriptionError`].
    pub fn named_subscription(
        &self,
        name: &str,
        caller: &Caller,
    ) -> Result<NamedSubscriptionStatus, NamedSubscriptionError> {
        let inner = &self.inner;
        let bounds = inner.broker.bounds();
        let status = {
            let mut entries = inner.named_subscriptions.entries.lock();
            entries.get_mut(name, caller)?.status(name, bounds)
        };
        Ok(self.with_open_stream(status))
    }

    /// How many names there are, and how the first `limit` of them stand, in the order of the names.
    #[must_use]
    pub fn named_subscriptions(&self, limit: usize) -> (usize, Vec<NamedSubscriptionStatus>) {
        let inner = &self.inner;
        let bounds = inner.broker.bounds();
        let (total, statuses): (_, Vec<_>) = {
            let entries = inner.named_subscriptions.entries.lock();
            let named = entries.by_name.iter().take(limit);
            let statuses = named.map(|(name, entry)| entry.status(name, bounds));
            (entries.by_name.len(), statuses.collect())
        };
        let statuses = statuses
            .into_iter()
            .map(|status| self.with_open_stream(status))
            .collect();
        (total, statuses)
    }

    /// A stream that has ended is none.
    fn with_open_stream(&self, mut status: NamedSubscriptionStatus) -> NamedSubscriptionStatus {
        let is_open = |id: &ConnectionId| self.inner.pool.status(id).is_some();
        status.connection = status.connection.filter(is_open);
        status
    }

    async fn subscription_place(
        &self,
        place: SubscriptionPlace,
    ) -> Result<Position, NamedSubscriptionError> {
        let broker = &*self.inner.broker;
        let bounds = broker.bounds();
        let at = |offset| Position {
            epoch: bounds.epoch,
            offset,
        };
        let from = match place {
            SubscriptionPlace::Earliest => return Ok(at(bounds.floor)),
            SubscriptionPlace::Latest => return Ok(at(bounds.head)),
            SubscriptionPlace::At(position) => ResumeFrom::Position(position),
            SubscriptionPlace::Event(id) => match ResumeFrom::last_event_id(broker, &id).await? {
                ResumeFrom::Id(Some(offset)) => return Ok(at(offset)),
                ResumeFrom::Position(position) => ResumeFrom::Position(position),
                _ => return Err(NamedSubscriptionError::UnknownId(id)),
            },
        };
        match from {
            ResumeFrom::Position(position) if position.epoch != bounds.epoch => {
                Err(NamedSubscriptionError::ForeignEpoch(position))
            }
            ResumeFrom::Position(position) if position.offset > broker.bounds().head => {
                Err(NamedSubscriptionError::BeyondHead(position))
            }
            ResumeFrom::Position(position) => Ok(position),
            _ => Ok(at(bounds.head)),
        }
    }

    /// Saves what has been acknowledged; to be called about once a second.
    pub(super) async fn save_named_subscriptions(&self) {
        let inner = &self.inner;
        // It is logged there, and tried again.
        let _ = inner.named_subscriptions.save(&*inner.broker).await;
    }

    /// When a name is said to be used: the later time, where the clock has jumped.
    fn used_now(&self) -> UnixMillis {
        clock::unix_millis().max(self.age_now())
    }

    /// Forgets names that nobody has used for too long.
    pub(super) fn sweep_named_subscriptions(&self) {
        let inner = &self.inner;
        let is_open = |id: &ConnectionId| inner.pool.status(id).is_some();
        let expired = inner
            .named_subscriptions
            // While two clocks disagree a name is forgotten when it is unused by both.
            .sweep(clock::unix_millis().min(self.age_now()), is_open);
        if expired > 0 {
            tracing::info!(expired, "named subscriptions were unused for too long");
        }
    }
}

fn check_name(name: &str) -> Result<(), NamedSubscriptionError> {
    let is_fine =
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    is_fine
        .then_some(())
        .ok_or(NamedSubscriptionError::InvalidName)
}

/// The longest name. A stated guess: a host's name, a service's and a number.
const MAX_NAME_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused() {
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("mail-service/eu 1").is_ok());
    }
}
