//! Changing an open connection from outside: what it wants, and where it reads.

use std::sync::Arc;

use super::Pool;
use crate::{
    ClientInfo, ConnectionId, Seek, Selector,
    shard::{Effects, Exchange},
};

/// Why a selector could not be changed. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// No open connection has this id.
    #[error("no such connection")]
    NotFound,
    /// The new selector names more topics and patterns than one connection may.
    #[error("{asked} topics asked for, {limit} allowed")]
    TooManyTopics {
        /// How many the selector names.
        asked: usize,
        /// How many it may name.
        limit: usize,
    },
}

impl<T> Pool<T> {
    /// Changes what a connection wants, and answers what it wants now.
    ///
    /// `change` is called without a lock, and again if someone else changed the selector meanwhile. A reader
    /// that waits gets what the new selector wants from here on; one that is behind, from its cursor on.
    ///
    /// # Errors
    ///
    /// When no open connection has this id, or the new selector is too wide.
    pub fn update_selector(
        &self,
        id: &ConnectionId,
        change: impl FnMut(&Selector) -> Selector,
    ) -> Result<Arc<Selector>, UpdateError> {
        self.update(id, None, change)
    }

    /// The same and a [`seek`](Self::seek) at once: nothing is read by the new selector before the cursor is in its new place.
    /// Where the place is of another series, only the selector changes: the reader hears of a reset.
    ///
    /// # Errors
    ///
    /// As [`update_selector`](Self::update_selector).
    pub fn update_selector_and_seek(
        &self,
        id: &ConnectionId,
        seek: &Seek,
        change: impl FnMut(&Selector) -> Selector,
    ) -> Result<Arc<Selector>, UpdateError> {
        self.update(id, Some(seek), change)
    }

    fn update(
        &self,
        id: &ConnectionId,
        seek: Option<&Seek>,
        mut change: impl FnMut(&Selector) -> Selector,
    ) -> Result<Arc<Selector>, UpdateError> {
        let inner = &*self.inner;
        loop {
            let (key, seen) = inner
                .shards
                .iter()
                .find_map(|shard| {
                    let shard = shard.lock();
                    let key = shard.key_of(id)?;
                    Some((key, Arc::clone(&shard.open_reader(key)?.selector)))
                })
                .ok_or(UpdateError::NotFound)?;
            let new = Arc::new(change(&seen));
            let (asked, limit) = (
                new.topic_count(),
                inner.config.limits.max_topics_per_connection,
            );
            if asked > limit {
                return Err(UpdateError::TooManyTopics { asked, limit });
            }
            let patterns = inner.patterns.intern(new.topic_patterns());
            let shard = inner.shards.get(key.shard()).ok_or(UpdateError::NotFound)?;
            let mut fx = Effects::default();
            let exchanged = {
                let mut shard = shard.lock();
                let exchanged = shard.exchange_selector(key, &seen, &new, patterns);
                if let (Exchange::Done { .. }, Some(seek)) = (&exchanged, seek) {
                    shard.seek(key, seek, &mut fx);
                }
                exchanged
            };
            self.carry_out(&mut fx);
            let patterns = match exchanged {
                Exchange::Done { selector, patterns } => {
                    inner.patterns.release(patterns);
                    drop(selector);
                    return Ok(new);
                }
                Exchange::Gone { patterns } => {
                    inner.patterns.release(patterns);
                    return Err(UpdateError::NotFound);
                }
                Exchange::Changed { patterns } => patterns,
            };
            inner.patterns.release(patterns);
        }
    }

    /// Changes what is known of a connection's client, and with it what it may have. Its selector stays; false when no open one has
    /// this id.
    pub fn update_client(&self, id: &ConnectionId, client: &Arc<ClientInfo>) -> bool {
        let mut before = None;
        let found = self.inner.shards.iter().any(|shard| {
            let mut shard = shard.lock();
            let Some(key) = shard.key_of(id) else {
                return false;
            };
            before = shard.exchange_client(key, client);
            before.is_some()
        });
        // Let go without a lock.
        drop(before);
        found
    }

    /// Places a connection's cursor from outside. Its reader is woken where it waits, and hears [`Read::Moved`](crate::Read::Moved)
    /// before it reads anything from there. False when no open one has this id, or the pool's offsets are of
    /// [another series](Self::reset) by now.
    pub fn seek(&self, id: &ConnectionId, seek: &Seek) -> bool {
        self.inner.shards.iter().any(|shard| {
            let mut fx = Effects::default();
            let found = {
                let mut shard = shard.lock();
                let key = shard.key_of(id);
                key.is_some_and(|key| shard.seek(key, seek, &mut fx))
            };
            self.carry_out(&mut fx);
            found
        })
    }
}
