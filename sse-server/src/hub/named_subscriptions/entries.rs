//! What is known under each name, and how it gets into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sse_broker::{
    AppendError, Bounds, Broker, Position, ResumeFrom, StateChange, StoredState, UnixMillis,
};
use sse_pool::{AddressKey, ConnectionId};

use super::contention::{Contention, Replaced};
use super::{NamedSubscriptionError, NamedSubscriptionStatus};
use crate::access::Caller;
use crate::clock;
use crate::hub::HubConfig;

/// All named subscriptions.
pub(crate) struct NamedSubscriptions {
    pub(super) entries: Mutex<Entries>,
    /// Held while changes go to the log, so that an older state of a name cannot overtake a newer one.
    saving: tokio::sync::Mutex<()>,
    /// Streams that were replaced and have not been told yet when to come back.
    replaced: Mutex<Replaced>,
    max: usize,
    expiry: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Entries {
    pub(super) by_name: BTreeMap<Box<str>, Entry>,
    /// Names whose state in the log is not the newest.
    pub(super) unsaved: BTreeSet<Box<str>>,
    /// Whether the last attempt to save failed, so that it is logged once.
    is_failing: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) acked: Position,
    user: Option<Box<str>>,
    /// Whose it is where that is no user.
    session: Option<Box<str>>,
    /// From where it was made; not known after a restart.
    address: Option<AddressKey>,
    created_at: UnixMillis,
    pub(super) used_at: UnixMillis,
    /// What the log says of `used_at`.
    saved_used_at: UnixMillis,
    connection: Option<ConnectionId>,
    contention: Contention,
}

/// An entry as the log has it.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    v: u32,
    acked: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Box<str>>,
    created_at: UnixMillis,
    used_at: UnixMillis,
}

/// What became of a claim.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// The stream that had the name until now; it may have ended.
    pub(super) before: Option<ConnectionId>,
    /// With this one the name counts as contended, since newly.
    pub(super) is_contended: bool,
}

impl Entry {
    fn to_bytes(&self) -> Bytes {
        let stored = StoredEntry {
            v: STORED_VERSION,
            acked: self.acked.to_string(),
            user: self.user.clone(),
            session: self.session.clone(),
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
            session: stored.session,
            address: None,
            created_at: stored.created_at,
            used_at: stored.used_at,
            saved_used_at: stored.used_at,
            connection: None,
            contention: Contention::default(),
        })
    }

    pub(super) fn status(&self, name: &str, bounds: Bounds) -> NamedSubscriptionStatus {
        NamedSubscriptionStatus {
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
    /// The entry of a name, for whoever it belongs to.
    pub(super) fn get_mut(
        &mut self,
        name: &str,
        caller: &Caller,
    ) -> Result<&mut Entry, NamedSubscriptionError> {
        let entry = self
            .by_name
            .get_mut(name)
            .ok_or_else(|| NamedSubscriptionError::Unknown(name.to_owned()))?;
        // On an open hub, where everyone administers, the name of a user is a safeguard all the same.
        let is_admin = caller.credential().is_some() && caller.grants().is_admin();
        let is_own = match (&entry.user, &entry.session) {
            (Some(user), _) => Some(&**user) == caller.user(),
            (None, Some(session)) => Some(&**session) == caller.session(),
            (None, None) => true,
        };
        if !is_own && !is_admin {
            return Err(NamedSubscriptionError::NotYours(name.to_owned()));
        }
        Ok(entry)
    }

    fn is_known(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }
}

impl NamedSubscriptions {
    /// What the log kept. An entry whose bytes are damaged is there, too, before everything that is
    /// kept: its reader gets events again, and none is passed over.
    pub(crate) fn new(config: &HubConfig, stored: Vec<StoredState>, bounds: Bounds) -> Self {
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
                    "a named subscription is damaged; it begins with the oldest event"
                );
                entries.unsaved.insert(name.into());
                Entry {
                    acked: Position {
                        epoch: bounds.epoch,
                        offset: 0,
                    },
                    user: None,
                    session: None,
                    address: None,
                    created_at: now,
                    used_at: now,
                    saved_used_at: now,
                    connection: None,
                    contention: Contention::default(),
                }
            });
            entries.by_name.insert(name.into(), entry);
        }
        Self {
            entries: Mutex::new(entries),
            saving: tokio::sync::Mutex::new(()),
            replaced: Mutex::default(),
            max: config.max_named_subscriptions,
            expiry: config.named_subscription_expiry,
        }
    }

    /// Where the stream of a name that is known begins; `None` when it is not known.
    ///
    /// `resumed` is what the reader itself still knew. It counts when it is a place in this log, and
    /// never takes the reader back behind what it has acknowledged.
    pub(super) fn resume(
        &self,
        name: &str,
        caller: &Caller,
        resumed: Option<ResumeFrom>,
        bounds: Bounds,
        now: UnixMillis,
    ) -> Result<Option<ResumeFrom>, NamedSubscriptionError> {
        let mut entries = self.entries.lock();
        if !entries.is_known(name) {
            return Ok(None);
        }
        let entry = entries.get_mut(name, caller)?;
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
    pub(super) fn create(
        &self,
        name: &str,
        caller: &Caller,
        acked: Position,
        now: UnixMillis,
    ) -> Result<bool, NamedSubscriptionError> {
        let mut entries = self.entries.lock();
        if entries.is_known(name) {
            return Ok(false);
        }
        if entries.by_name.len() >= self.max {
            return Err(NamedSubscriptionError::Full { max: self.max });
        }
        let address = AddressKey::from(caller.address());
        let share = self.max.div_ceil(2).max(MIN_SHARE);
        // Nobody has more than that before so many are there.
        if entries.by_name.len() >= share {
            let own = |entry: &&Entry| entry.address.as_ref() == Some(&address);
            if entries.by_name.values().filter(own).count() >= share {
                return Err(NamedSubscriptionError::AddressFull { share });
            }
        }
        // A session that was only said, and not shown, may be another one after the page is loaded again.
        let has_shown = caller.user().is_none() && caller.credential().is_some();
        let session = caller.session().filter(|_| has_shown);
        let entry = Entry {
            acked,
            user: caller.user().map(Into::into),
            session: session.map(Into::into),
            address: Some(address),
            created_at: now,
            used_at: now,
            saved_used_at: now,
            connection: None,
            contention: Contention::default(),
        };
        entries.by_name.insert(name.into(), entry);
        entries.unsaved.insert(name.into());
        Ok(true)
    }

    pub(super) fn forget(&self, name: &str) {
        let mut entries = self.entries.lock();
        entries.by_name.remove(name);
        entries.unsaved.insert(name.into());
    }

    /// When a newcomer should try again, where readers contend for a name and the one that has it is alive; `None` when the
    /// name can be had.
    pub(super) fn contended(
        &self,
        name: &str,
        caller: &Caller,
        now: Instant,
        is_alive: impl Fn(&ConnectionId) -> bool,
    ) -> Result<Option<Duration>, NamedSubscriptionError> {
        let (holder, retry_after) = {
            let mut entries = self.entries.lock();
            if !entries.is_known(name) {
                return Ok(None);
            }
            let entry = entries.get_mut(name, caller)?;
            match (entry.contention.refuses(now), &entry.connection) {
                (Some(retry_after), Some(holder)) => (holder.clone(), retry_after),
                _ => return Ok(None),
            }
        };
        Ok(is_alive(&holder).then_some(retry_after))
    }

    /// The stream that has read under this name last.
    pub(super) fn holder(&self, name: &str) -> Option<ConnectionId> {
        self.entries.lock().by_name.get(name)?.connection.clone()
    }

    /// Gives a name to a stream; `is_open` says whether the one that had it is still there.
    pub(super) fn claim(
        &self,
        name: &str,
        connection: &ConnectionId,
        is_open: bool,
        base: Duration,
        now: Instant,
    ) -> Takeover {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.by_name.get_mut(name) else {
            return Takeover::default();
        };
        let before = entry.connection.replace(connection.clone());
        let Some(before) = before.filter(|before| is_open && before != connection) else {
            return Takeover::default();
        };
        let is_contended = entry.contention.taken_over(now);
        let retry = entry.contention.retry(base);
        drop(entries);
        self.replaced.lock().push(before.clone(), retry);
        Takeover {
            before: Some(before),
            is_contended,
        }
    }

    /// When a stream that was replaced should come back; told once.
    pub(super) fn replaced_retry(&self, connection: &ConnectionId) -> Option<Duration> {
        self.replaced.lock().take(connection)
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
            tracing::warn!(%error, "named subscriptions could not be saved; trying again");
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

/// What the keys of named subscriptions begin with.
pub(crate) const KEY_PREFIX: &str = "durable/";
/// The layout of what is stored.
const STORED_VERSION: u32 = 1;

/// However few names there may be, an address may have so many of them. A stated guess: a machine's own programs.
const MIN_SHARE: usize = 16;

#[cfg(test)]
mod tests {
    use sse_broker::Epoch;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        epoch: Epoch(7),
        floor: 10,
        head: 20,
    };

    fn caller(user: Option<&str>) -> Caller {
        Caller::new([127, 0, 0, 1].into(), user, None).unwrap()
    }

    fn at(offset: u64) -> Position {
        Position {
            epoch: Epoch(7),
            offset,
        }
    }

    fn subscriptions(max: usize) -> NamedSubscriptions {
        let config = HubConfig {
            max_named_subscriptions: max,
            named_subscription_expiry: Some(Duration::from_secs(1)),
            ..HubConfig::default()
        };
        NamedSubscriptions::new(&config, Vec::new(), BOUNDS)
    }

    fn resumed(subscriptions: &NamedSubscriptions, from: Option<ResumeFrom>) -> ResumeFrom {
        let resumed = subscriptions.resume("a", &caller(None), from, BOUNDS, 0);
        resumed.unwrap().expect("a known name")
    }

    #[test]
    fn a_reader_goes_on_after_what_it_acknowledged_or_what_it_still_knows() {
        let subscriptions = subscriptions(9);
        assert!(subscriptions.create("a", &caller(None), at(15), 0).unwrap());
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
                resumed(&subscriptions, from),
                ResumeFrom::Position(at(expected)),
                "{from:?}"
            );
        }
    }

    #[test]
    fn names_are_bounded_and_unused_ones_are_forgotten() {
        let subscriptions = subscriptions(2);
        let open = ConnectionId::from_uuid([1; 16]);
        assert!(subscriptions.create("a", &caller(None), at(15), 0).unwrap());
        assert!(subscriptions.create("b", &caller(None), at(15), 0).unwrap());
        assert!(!subscriptions.create("b", &caller(None), at(16), 0).unwrap());
        let full = subscriptions.create("c", &caller(None), at(15), 0);
        assert!(matches!(full, Err(NamedSubscriptionError::Full { max: 2 })));
        let claim = |connection| {
            let second = Duration::from_secs(1);
            subscriptions.claim("a", connection, true, second, clock::now())
        };
        assert_eq!(claim(&open).before, None);
        assert_eq!(subscriptions.sweep(999, |_| false), 0);
        // The one with an open stream is in use.
        assert_eq!(subscriptions.sweep(1_000, |id| *id == open), 1);
        assert!(
            subscriptions
                .create("c", &caller(None), at(15), 1_000)
                .unwrap()
        );
        assert_eq!(subscriptions.sweep(2_000, |_| false), 2);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_a_damaged_one_begins_with_the_oldest() {
        let entry = Entry {
            acked: at(15),
            user: Some("u".into()),
            session: None,
            address: None,
            created_at: 1,
            used_at: 2,
            saved_used_at: 2,
            connection: None,
            contention: Contention::default(),
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
        let subscriptions = NamedSubscriptions::new(&HubConfig::default(), stored, BOUNDS);
        let mut entries = subscriptions.entries.lock();
        let whole = entries.get_mut("whole", &caller(Some("u"))).unwrap();
        assert_eq!((whole.acked, whole.created_at), (at(15), 1));
        let others = entries.get_mut("whole", &caller(None));
        assert!(matches!(others, Err(NamedSubscriptionError::NotYours(_))));
        assert_eq!(
            entries.get_mut("damaged", &caller(None)).unwrap().acked,
            at(0)
        );
    }

    #[test]
    fn an_address_has_half_of_the_names_at_most_and_leaves_the_others_to_others() {
        let config = HubConfig {
            max_named_subscriptions: 100,
            ..HubConfig::default()
        };
        let subscriptions = NamedSubscriptions::new(&config, Vec::new(), BOUNDS);
        let create = |address: [u8; 4], name: &str| {
            let caller = Caller::new(address.into(), None, None).unwrap();
            subscriptions.create(name, &caller, at(15), 0)
        };
        for n in 0..50 {
            create([127, 0, 0, 1], &format!("a{n}")).unwrap();
        }
        let refused = create([127, 0, 0, 1], "one more");
        assert!(matches!(
            refused,
            Err(NamedSubscriptionError::AddressFull { share: 50 })
        ));
        for n in 0..50 {
            create([127, 0, 0, 2], &format!("b{n}")).unwrap();
        }
        let full = create([127, 0, 0, 3], "late");
        assert!(matches!(
            full,
            Err(NamedSubscriptionError::Full { max: 100 })
        ));
        subscriptions.forget("a0");
        create([127, 0, 0, 1], "again").unwrap();
    }
}
