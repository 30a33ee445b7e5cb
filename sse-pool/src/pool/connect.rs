//! Connecting and leaving: a reader takes its id and its place, and gives them back.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{Inner, Pool};
use crate::{
    Connection, ConnectionId, ConnectionInfo, Permit, ReaderKey, Selector, Start,
    compact_instant::CompactInstant,
    reader::{Break, Links, Reader, State},
    shard::Effects,
    sync::Mutex,
};

/// Why a connection could not be made. Its permit is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The selector names more topics and patterns than one connection may.
    #[error("{asked} topics asked for, {limit} allowed")]
    TooManyTopics {
        /// How many the selector names.
        asked: usize,
        /// How many it may name.
        limit: usize,
    },
    /// An open connection has this id.
    #[error("the connection id is in use")]
    IdInUse,
    /// There is no shard with this number.
    #[error("there is no shard {0}")]
    NoSuchShard(usize),
    /// The permit was given out by another pool.
    #[error("the permit is another pool's")]
    ForeignPermit,
}

impl<T> Pool<T> {
    /// Makes a connection, on the next shard in turn.
    ///
    /// The info and the selector may be shared with other connections (`Arc`), which saves their memory.
    ///
    /// # Errors
    ///
    /// When the selector is too wide or the id is in use.
    pub fn connect(
        &self,
        permit: Permit,
        info: impl Into<Arc<ConnectionInfo>>,
        selector: impl Into<Arc<Selector>>,
        start: Start,
        now: Instant,
    ) -> Result<Connection<T>, ConnectError> {
        let shard = self.inner.next_shard.fetch_add(1, Relaxed) % self.inner.shards.len();
        self.connect_on(shard, permit, info, selector, start, now)
    }

    /// Makes a connection on a given shard, for a runtime per core.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and when there is no such shard.
    pub fn connect_on(
        &self,
        shard: usize,
        permit: Permit,
        info: impl Into<Arc<ConnectionInfo>>,
        selector: impl Into<Arc<Selector>>,
        start: Start,
        now: Instant,
    ) -> Result<Connection<T>, ConnectError> {
        let key = self.join(
            shard,
            permit,
            info.into(),
            selector.into(),
            start,
            now,
            false,
        )?;
        Ok(Connection::new(self.clone(), key))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the one place both kinds of reader come through"
    )]
    pub(crate) fn join(
        &self,
        shard: usize,
        permit: Permit,
        info: Arc<ConnectionInfo>,
        selector: Arc<Selector>,
        start: Start,
        now: Instant,
        batch: bool,
    ) -> Result<ReaderKey, ConnectError> {
        let inner = &*self.inner;
        let (asked, limit) = (
            selector.topic_count(),
            inner.config.limits.max_topics_per_connection,
        );
        if asked > limit {
            return Err(ConnectError::TooManyTopics { asked, limit });
        }
        if !permit.is_from(&inner.admission) {
            return Err(ConnectError::ForeignPermit);
        }
        let home = inner
            .shards
            .get(shard)
            .ok_or(ConnectError::NoSuchShard(shard))?;
        let stripe = inner.stripe(&info.id);
        let reader = Reader {
            patterns: inner.patterns.intern(selector.topic_patterns()),
            info,
            selector,
            links: Links::none(),
            waker: None,
            address: permit.into_address(),
            next_seq: 0,
            cursor: 0,
            direct_after: 0,
            delivered_entries: 0,
            delivered_bytes: 0,
            since: CompactInstant::default(),
            generation: 0,
            seeks: 0,
            state: State::Ready,
            batch,
            in_hand: false,
            broken: Break::None,
            filters_labels: false,
            asks_grants: false,
            is_changed: false,
        };
        let joined = {
            let _taking = stripe.map(Mutex::lock);
            let others = inner
                .shards
                .iter()
                .enumerate()
                .filter(|&(number, _)| number != shard);
            let mut others = others.map(|(_, other)| other);
            if others.any(|other| other.lock().find(&reader.info.id).is_some()) {
                Err(reader)
            } else {
                home.lock().join(reader, start, now)
            }
        };
        joined.map_err(|mut reader| {
            inner.patterns.release(std::mem::take(&mut reader.patterns));
            inner.admission.release(reader.address);
            ConnectError::IdInUse
        })
    }

    pub(crate) fn leave(&self, key: ReaderKey) -> bool {
        let Some(shard) = self.inner.shards.get(key.shard()) else {
            return false;
        };
        let mut fx = Effects::default();
        let reader = shard.lock().leave(key, &mut fx);
        self.carry_out(&mut fx);
        let Some(reader) = reader else { return false };
        self.inner.admission.release(reader.address);
        true
    }
}

impl<T> Inner<T> {
    /// The lock under which this id is taken; one shard alone needs none.
    fn stripe(&self, id: &ConnectionId) -> Option<&Mutex<()>> {
        if self.shards.len() == 1 {
            return None;
        }
        let hash = id.stripe_hash();
        self.id_stripes.get(hash % self.id_stripes.len())
    }
}
