//! Named durable subscriptions: the hub keeps the place of readers that keep nothing themselves.
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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sse_broker::{
    AppendError, Bounds, Broker, ParsePositionError, Position, ReadError, ResumeFrom, StateChange,
    StoredState, UnixMillis,
};
use sse_pool::{CloseReason, ConnectionId};

use super::{Hub, HubConfig};
use crate::clock;

/// A named durable subscription, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableStatus {
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

/// What is wrong with a request about a named durable subscription.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// No subscription can have this name.
    #[error("a durable name has 1 to {MAX_NAME_BYTES} bytes without control characters")]
    InvalidName,
    /// There is none of this name.
    #[error("there is no durable subscription {0:?}")]
    Unknown(String),
    /// It was created for another user.
    #[error("the durable subscription {0:?} belongs to another user")]
    NotYours(String),
    /// There are as many as there may be.
    #[error("there are {max} durable subscriptions, and no more are taken")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// What was acknowledged is no position.
    #[error(transparent)]
    NotAPosition(#[from] ParsePositionError),
    /// The position is another log's.
    #[error("the position {0} is another log's")]
    ForeignEpoch(Position),
    /// The log never gave out that position.
    #[error("the position {0} was never given out")]
    BeyondHead(Position),
    /// No kept event has this id.
    #[error("no event that is kept has the id {0:?}")]
    UnknownId(String),
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A place in the order, as a reader names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurablePlace {
    /// A position.
    At(Position),
    /// The event with this id: its publisher's, or its position.
    Event(String),
    /// Before the oldest event that is kept; only for a reset.
    Earliest,
    /// After the newest event; only for a reset.
    Latest,
}

/// Where a stream under a name begins.
pub(super) struct DurableStart {
    pub(super) from: ResumeFrom,
    pub(super) is_new: bool,
}

/// All named subscriptions.
pub(super) struct Durables {
    entries: Mutex<Entries>,
    /// Held while changes go to the log, so that an older state of a name cannot overtake a newer one.
    saving: tokio::sync::Mutex<()>,
    max: usize,
    expiry: Option<Duration>,
}

#[derive(Default)]
struct Entries {
    by_name: BTreeMap<Box<str>, Entry>,
    /// Names whose state in the log is not the newest.
    unsaved: BTreeSet<Box<str>>,
    /// Whether the last attempt to save failed, so that it is logged once.
    is_failing: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    acked: Position,
    user: Option<Box<str>>,
    created_at: UnixMillis,
    used_at: UnixMillis,
    /// What the log says of `used_at`.
    saved_used_at: UnixMillis,
    connection: Option<ConnectionId>,
}

/// An entry as the log has it.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    v: u32,
    acked: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    created_at: UnixMillis,
    used_at: UnixMillis,
}

impl Entry {
    fn to_bytes(&self) -> Bytes {
        let stored = StoredEntry {
            v: STORED_VERSION,
            acked: self.acked.to_string(),
            user: self.user.clone(),
            created_at: self.created_at,
            used_at: self.used_at,
        };
        let json = serde_json::to_vec(&stored).expect("texts and numbers are always JSON");
        Bytes::from(json)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: StoredEntry = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            acked: stored.acked.parse().ok()?,
            user: stored.user,
            created_at: stored.created_at,
            used_at: stored.used_at,
            saved_used_at: stored.used_at,
            connection: None,
        })
    }

    fn status(&self, name: &str, bounds: Bounds) -> DurableStatus {
        DurableStatus {
            name: name.to_owned(),
            acked: self.acked,
            user: self.user.as_deref().map(str::to_owned),
            created_at: self.created_at,
            used_at: self.used_at,
            connection: self.connection.clone(),
            behind: (self.acked.epoch == bounds.epoch)
                .then(|| bounds.head.saturating_sub(self.acked.offset)),
        }
    }
}

impl Entries {
    /// The entry of a name, for the user that it belongs to.
    fn get_mut(&mut self, name: &str, user: Option<&str>) -> Result<&mut Entry, DurableError> {
        let entry = self
            .by_name
            .get_mut(name)
            .ok_or_else(|| DurableError::Unknown(name.to_owned()))?;
        if entry.user.is_some() && entry.user.as_deref() != user {
            return Err(DurableError::NotYours(name.to_owned()));
        }
        Ok(entry)
    }

    fn is_known(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

impl Durables {
    /// What the log kept. An entry whose bytes are damaged is there, too, before everything that is
    /// kept: its reader gets events again, and none is passed over.
    pub(super) fn new(config: &HubConfig, stored: Vec<StoredState>, bounds: Bounds) -> Self {
        let now = clock::unix_millis();
        let mut entries = Entries::default();
        for StoredState { key, value } in stored {
            let Some(name) = key.strip_prefix(KEY_PREFIX) else {
                continue;
            };
            let entry = value.as_deref().and_then(Entry::from_bytes);
            let entry = entry.unwrap_or_else(|| {
                tracing::warn!(
                    name,
                    "a durable subscription is damaged; it begins with the oldest event"
                );
                entries.unsaved.insert(name.into());
                Entry {
                    acked: Position {
                        epoch: bounds.epoch,
                        offset: 0,
                    },
                    user: None,
                    created_at: now,
                    used_at: now,
                    saved_used_at: now,
                    connection: None,
                }
            });
            entries.by_name.insert(name.into(), entry);
        }
        Self {
            entries: Mutex::new(entries),
            saving: tokio::sync::Mutex::new(()),
            max: config.max_durable,
            expiry: config.durable_expiry,
        }
    }

    /// Where the stream of a name that is known begins; `None` when it is not known.
    ///
    /// `resumed` is what the reader itself still knew. It counts when it is a place in this log, and
    /// never takes the reader back behind what it has acknowledged.
    fn resume(
        &self,
        name: &str,
        user: Option<&str>,
        resumed: Option<ResumeFrom>,
        bounds: Bounds,
        now: UnixMillis,
    ) -> Result<Option<ResumeFrom>, DurableError> {
        let mut entries = self.entries.lock();
        if !entries.is_known(name) {
            return Ok(None);
        }
        let entry = entries.get_mut(name, user)?;
        entry.used_at = now;
        let acked = entry.acked;
        let known = resumed.and_then(|from| match from.resolve(bounds) {
            (offset, None) if acked.epoch == bounds.epoch => Some(offset.max(acked.offset)),
            (offset, None) => Some(offset),
            (_, Some(_)) => None,
        });
        let position = known.map_or(acked, |offset| Position {
            epoch: bounds.epoch,
            offset,
        });
        Ok(Some(ResumeFrom::Position(position)))
    }

    /// Makes a name; false when somebody else just did.
    fn create(
        &self,
        name: &str,
        user: Option<&str>,
        acked: Position,
        now: UnixMillis,
    ) -> Result<bool, DurableError> {
        let mut entries = self.entries.lock();
        if entries.is_known(name) {
            return Ok(false);
        }
        if entries.by_name.len() >= self.max {
            return Err(DurableError::Full { max: self.max });
        }
        let entry = Entry {
            acked,
            user: user.map(Into::into),
            created_at: now,
            used_at: now,
            saved_used_at: now,
            connection: None,
        };
        entries.by_name.insert(name.into(), entry);
        entries.unsaved.insert(name.into());
        Ok(true)
    }

    fn forget(&self, name: &str) {
        let mut entries = self.entries.lock();
        entries.by_name.remove(name);
        entries.unsaved.insert(name.into());
    }

    /// The stream that reads under this name from now on; returns the one that did.
    pub(super) fn claim(&self, name: &str, connection: &ConnectionId) -> Option<ConnectionId> {
        let mut entries = self.entries.lock();
        let entry = entries.by_name.get_mut(name)?;
        entry.connection.replace(connection.clone())
    }

    /// Writes what is not in the log yet, in one commit.
    pub(super) async fn save(&self, broker: &dyn Broker) -> Result<(), AppendError> {
        let _saving = self.saving.lock().await;
        let (names, changes) = {
            let mut entries = self.entries.lock();
            let names = std::mem::take(&mut entries.unsaved);
            let changes: Vec<_> = names
                .iter()
                .map(|name| {
                    let entry = entries.by_name.get_mut(name);
                    StateChange {
                        key: format!("{KEY_PREFIX}{name}").into(),
                        value: entry.map(|entry| {
                            entry.saved_used_at = entry.used_at;
                            entry.to_bytes()
                        }),
                    }
                })
                .collect();
            (names, changes)
        };
        if changes.is_empty() {
            return Ok(());
        }
        let saved = broker.put_states(changes).await;
        let is_first_failure = {
            let mut entries = self.entries.lock();
            if saved.is_err() {
                entries.unsaved.extend(names);
            }
            let was_failing = std::mem::replace(&mut entries.is_failing, saved.is_err());
            saved.is_err() && !was_failing
        };
        if let (Err(error), true) = (&saved, is_first_failure) {
            tracing::warn!(%error, "durable subscriptions could not be saved; trying again");
        }
        saved
    }

    /// Forgets names that nobody has used for too long; those with an open stream are in use.
    pub(super) fn sweep(&self, now: UnixMillis, is_open: impl Fn(&ConnectionId) -> bool) -> usize {
        let Some(expiry) = self.expiry else { return 0 };
        let expiry = u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX);
        let connected: Vec<_> = {
            let entries = self.entries.lock();
            let with_stream = entries
                .by_name
                .iter()
                .filter_map(|(name, entry)| entry.connection.clone().map(|id| (name.clone(), id)));
            with_stream.collect()
        };
        let open: BTreeSet<_> = connected
            .into_iter()
            .filter(|(_, id)| is_open(id))
            .map(|(name, _)| name)
            .collect();
        let mut entries = self.entries.lock();
        let Entries {
            by_name, unsaved, ..
        } = &mut *entries;
        let before = by_name.len();
        by_name.retain(|name, entry| {
            if open.contains(name) {
                entry.used_at = now;
                // Often enough that a restart does not take it for unused, seldom enough to cost nothing.
                if now.saturating_sub(entry.saved_used_at) >= expiry / 8 {
                    unsaved.insert(name.clone());
                }
                return true;
            }
            let is_kept = now.saturating_sub(entry.used_at) < expiry;
            if !is_kept {
                unsaved.insert(name.clone());
            }
            is_kept
        });
        before - by_name.len()
    }
}

impl Hub {
    /// Finds where the stream of a durable name begins, and makes the name when there is none.
    ///
    /// A new name begins after `resumed`, else after `start`, else with what comes from now on.
    pub(super) async fn durable_start(
        &self,
        name: &str,
        user: Option<&str>,
        resumed: Option<&str>,
        start: Option<&str>,
    ) -> Result<DurableStart, DurableError> {
        check_name(name)?;
        let inner = self.inner();
        let broker = &*inner.broker;
        let now = clock::unix_millis();
        let resumed = match resumed {
            Some(id) => Some(ResumeFrom::last_event_id(broker, id).await?),
            None => None,
        };
        let known = |from| DurableStart {
            from,
            is_new: false,
        };
        let bounds = broker.bounds();
        if let Some(from) = inner.durables.resume(name, user, resumed, bounds, now)? {
            return Ok(known(from));
        }
        let from = match (resumed, start) {
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
        if inner.durables.create(name, user, acked, now)? {
            if let Err(error) = inner.durables.save(broker).await {
                inner.durables.forget(name);
                return Err(error.into());
            }
            // A fixed place and not "live": what comes until the stream is there belongs to it.
            let from = match (from, gap) {
                (ResumeFrom::Live, _) => ResumeFrom::Position(acked),
                (from, _) => from,
            };
            return Ok(DurableStart { from, is_new: true });
        }
        match inner.durables.resume(name, user, resumed, bounds, now)? {
            Some(from) => Ok(known(from)),
            None => Err(DurableError::Unknown(name.to_owned())),
        }
    }

    /// Makes a stream the one of its name; the one before it ends.
    pub(super) fn durable_claim(&self, name: &str, connection: &ConnectionId) {
        let before = self.inner().durables.claim(name, connection);
        if let Some(before) = before.filter(|before| before != connection)
            && self.inner().pool.close(&before, CloseReason::Server)
        {
            tracing::info!(connection = %before, name, "replaced by a newer stream of the same durable name");
        }
    }

    /// The reader of `name` has everything up to a place. Idempotent, and an older place than the one
    /// that is known changes nothing.
    ///
    /// It is in the log within about a second, see the module's text.
    ///
    /// # Errors
    ///
    /// See [`DurableError`].
    pub async fn durable_ack(
        &self,
        name: &str,
        user: Option<&str>,
        place: DurablePlace,
    ) -> Result<DurableStatus, DurableError> {
        // Nobody learns of ids by asking for a name that is not theirs.
        self.durable(name, user)?;
        let at = self.durable_place(place).await?;
        let inner = self.inner();
        let now = clock::unix_millis();
        let bounds = inner.broker.bounds();
        let mut entries = inner.durables.entries.lock();
        let entry = entries.get_mut(name, user)?;
        entry.used_at = now;
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
    /// See [`DurableError`].
    pub async fn durable_reset(
        &self,
        name: &str,
        user: Option<&str>,
        place: DurablePlace,
    ) -> Result<DurableStatus, DurableError> {
        self.durable(name, user)?;
        let at = self.durable_place(place).await?;
        let inner = self.inner();
        let bounds = inner.broker.bounds();
        let status = {
            let mut entries = inner.durables.entries.lock();
            let entry = entries.get_mut(name, user)?;
            entry.used_at = clock::unix_millis();
            entry.acked = at;
            let status = entry.status(name, bounds);
            entries.unsaved.insert(name.into());
            status
        };
        inner.durables.save(&*inner.broker).await?;
        if let Some(connection) = &status.connection {
            inner.pool.seek(connection, at.offset);
        }
        Ok(self.with_open_stream(status))
    }

    /// Forgets a name. Its stream, if one is open, goes on as one without a name.
    ///
    /// # Errors
    ///
    /// See [`DurableError`].
    pub async fn durable_delete(&self, name: &str, user: Option<&str>) -> Result<(), DurableError> {
        let inner = self.inner();
        {
            let mut entries = inner.durables.entries.lock();
            entries.get_mut(name, user)?;
            entries.by_name.remove(name);
            entries.unsaved.insert(name.into());
        }
        Ok(inner.durables.save(&*inner.broker).await?)
    }

    /// How one name stands.
    ///
    /// # Errors
    ///
    /// See [`DurableError`].
    pub fn durable(&self, name: &str, user: Option<&str>) -> Result<DurableStatus, DurableError> {
        let inner = self.inner();
        let bounds = inner.broker.bounds();
        let status = {
            let mut entries = inner.durables.entries.lock();
            entries.get_mut(name, user)?.status(name, bounds)
        };
        Ok(self.with_open_stream(status))
    }

    /// How many names there are, and how the first `limit` of them stand, in the order of the names.
    #[must_use]
    pub fn durables(&self, limit: usize) -> (usize, Vec<DurableStatus>) {
        let inner = self.inner();
        let bounds = inner.broker.bounds();
        let (total, statuses): (_, Vec<_>) = {
            let entries = inner.durables.entries.lock();
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
    fn with_open_stream(&self, mut status: DurableStatus) -> DurableStatus {
        let is_open = |id: &ConnectionId| self.inner().pool.status(id).is_some();
        status.connection = status.connection.filter(is_open);
        status
    }

    async fn durable_place(&self, place: DurablePlace) -> Result<Position, DurableError> {
        let broker = &*self.inner().broker;
        let bounds = broker.bounds();
        let at = |offset| Position {
            epoch: bounds.epoch,
            offset,
        };
        let from = match place {
            DurablePlace::Earliest => return Ok(at(bounds.floor)),
            DurablePlace::Latest => return Ok(at(bounds.head)),
            DurablePlace::At(position) => ResumeFrom::Position(position),
            DurablePlace::Event(id) => match ResumeFrom::last_event_id(broker, &id).await? {
                ResumeFrom::Id(Some(offset)) => return Ok(at(offset)),
                ResumeFrom::Position(position) => ResumeFrom::Position(position),
                _ => return Err(DurableError::UnknownId(id)),
            },
        };
        match from {
            ResumeFrom::Position(position) if position.epoch != bounds.epoch => {
                Err(DurableError::ForeignEpoch(position))
            }
            ResumeFrom::Position(position) if position.offset > broker.bounds().head => {
                Err(DurableError::BeyondHead(position))
            }
            ResumeFrom::Position(position) => Ok(position),
            _ => Ok(at(bounds.head)),
        }
    }

    /// Saves what has been acknowledged; to be called about once a second.
    pub(super) async fn save_durables(&self) {
        let inner = self.inner();
        // It is logged there, and tried again.
        let _ = inner.durables.save(&*inner.broker).await;
    }

    /// Forgets names that nobody has used for too long.
    pub(super) fn sweep_durables(&self) {
        let inner = self.inner();
        let is_open = |id: &ConnectionId| inner.pool.status(id).is_some();
        let expired = inner.durables.sweep(clock::unix_millis(), is_open);
        if expired > 0 {
            tracing::info!(expired, "durable subscriptions were unused for too long");
        }
    }
}

fn check_name(name: &str) -> Result<(), DurableError> {
    let is_fine =
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    is_fine.then_some(()).ok_or(DurableError::InvalidName)
}

/// What the keys of durable subscriptions begin with.
pub(super) const KEY_PREFIX: &str = "durable/";
/// The longest name. A stated guess: a host's name, a service's and a number.
const MAX_NAME_BYTES: usize = 128;
/// The layout of what is stored.
const STORED_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use sse_broker::Epoch;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        epoch: Epoch(7),
        floor: 10,
        head: 20,
    };

    fn at(offset: u64) -> Position {
        Position {
            epoch: Epoch(7),
            offset,
        }
    }

    fn durables(max: usize) -> Durables {
        let config = HubConfig {
            max_durable: max,
            durable_expiry: Some(Duration::from_secs(1)),
            ..HubConfig::default()
        };
        Durables::new(&config, Vec::new(), BOUNDS)
    }

    fn resumed(durables: &Durables, from: Option<ResumeFrom>) -> ResumeFrom {
        let resumed = durables.resume("a", None, from, BOUNDS, 0);
        resumed.unwrap().expect("a known name")
    }

    #[test]
    fn a_reader_goes_on_after_what_it_acknowledged_or_what_it_still_knows() {
        let durables = durables(9);
        assert!(durables.create("a", None, at(15), 0).unwrap());
        let cases = [
            (None, 15),
            (Some(ResumeFrom::Position(at(17))), 17),
            // It acknowledged more than it now says it has seen: elsewhere, perhaps.
            (Some(ResumeFrom::Position(at(12))), 15),
            // What it says is of no use, what it acknowledged is.
            (Some(ResumeFrom::Position(at(3))), 15),
            (Some(ResumeFrom::Position(at(99))), 15),
            (Some(ResumeFrom::Id(None)), 15),
            (Some(ResumeFrom::Id(Some(18))), 18),
        ];
        for (from, expected) in cases {
            assert_eq!(
                resumed(&durables, from),
                ResumeFrom::Position(at(expected)),
                "{from:?}"
            );
        }
    }

    #[test]
    fn names_are_bounded_and_unused_ones_are_forgotten() {
        let durables = durables(2);
        let open = ConnectionId::from_uuid([1; 16]);
        assert!(durables.create("a", None, at(15), 0).unwrap());
        assert!(durables.create("b", None, at(15), 0).unwrap());
        assert!(!durables.create("b", None, at(16), 0).unwrap());
        let full = durables.create("c", None, at(15), 0);
        assert!(matches!(full, Err(DurableError::Full { max: 2 })));
        assert_eq!(durables.claim("a", &open), None);
        assert_eq!(durables.sweep(999, |_| false), 0);
        // The one with an open stream is in use.
        assert_eq!(durables.sweep(1_000, |id| *id == open), 1);
        assert!(durables.create("c", None, at(15), 1_000).unwrap());
        assert_eq!(durables.sweep(2_000, |_| false), 2);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_a_damaged_one_begins_with_the_oldest() {
        let entry = Entry {
            acked: at(15),
            user: Some("u".into()),
            created_at: 1,
            used_at: 2,
            saved_used_at: 2,
            connection: None,
        };
        let stored = vec![
            StoredState {
                key: "durable/whole".into(),
                value: Some(entry.to_bytes()),
            },
            StoredState {
                key: "durable/damaged".into(),
                value: None,
            },
        ];
        let durables = Durables::new(&HubConfig::default(), stored, BOUNDS);
        let mut entries = durables.entries.lock();
        let whole = entries.get_mut("whole", Some("u")).unwrap();
        assert_eq!((whole.acked, whole.created_at), (at(15), 1));
        let others = entries.get_mut("whole", None);
        assert!(matches!(others, Err(DurableError::NotYours(_))));
        assert_eq!(entries.get_mut("damaged", None).unwrap().acked, at(0));
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("mail-service/eu 1").is_ok());
    }
}
