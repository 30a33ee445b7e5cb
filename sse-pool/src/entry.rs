//! What the window holds: one event, encoded once, with what routing needs to know.

use std::sync::Arc;

use crate::{Audience, ConnectionId, Routed};

/// One event in the window: an opaque payload and what routing looks at.
///
/// An entry is shared (`Arc<Entry<T>>`) by all readers of a shard; each shard has a clone of its own.
///
/// ```
/// use std::sync::Arc;
/// use sse_pool::Entry;
///
/// let entry = Entry::new(7, "id: 7\ndata: hello\n\n", 19, vec![Arc::from("news")]);
/// assert_eq!(entry.offset, 7);
/// assert!(entry.audience.is_everyone(), "public unless said otherwise");
/// ```
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The place in the one order of all entries: strictly increasing, not necessarily contiguous.
    pub offset: u64,
    /// What is delivered; the pool never looks at it.
    pub payload: T,
    /// What the entry counts for against a read's bound, in bytes.
    pub size_bytes: usize,
    /// What its payload takes in memory, with all that it keeps there. It counts against the window's bound.
    pub payload_bytes: usize,
    /// The part of that which others may hold too, such as a log. It only counts in
    /// [`Stats::window_shared_bytes`](crate::Stats::window_shared_bytes).
    pub shared_bytes: usize,
    /// The topics it was published to. Naming one twice means the same as once.
    pub topics: Arc<[Arc<str>]>,
    /// Who may have it.
    pub audience: Audience,
    /// When given, only these connections get it, whatever its topics; an empty list means nobody.
    pub recipients: Option<Arc<[ConnectionId]>>,
    /// What a type filter compares. An entry without a label passes every filter.
    pub label: Option<Arc<str>>,
    /// How important its publisher says that it is. The pool only carries it: order and delivery do not depend on it.
    pub priority: Priority,
}

impl<T> Entry<T> {
    /// A public entry of normal priority, without a label. Its payload takes `size_bytes`.
    pub fn new(
        offset: u64,
        payload: T,
        size_bytes: usize,
        topics: impl Into<Arc<[Arc<str>]>>,
    ) -> Self {
        Self {
            offset,
            payload,
            size_bytes,
            payload_bytes: size_bytes,
            shared_bytes: 0,
            topics: topics.into(),
            audience: Audience::Everyone,
            recipients: None,
            label: None,
            priority: Priority::Normal,
        }
    }

    /// What it takes in a window of so many shards, and counts for against the window's bound: all but the names of its
    /// topics, which [`topic_bytes`] counts once for all entries of a topic.
    #[must_use]
    pub fn memory_bytes(&self, shards: usize) -> usize {
        let owners = match &self.audience {
            Audience::Owners(names) if !names.is_empty() => list_bytes::<Arc<str>>(names.len()),
            _ => 0,
        };
        let (recipients, indexed) = match &self.recipients {
            Some(ids) => {
                // It stands in no topic's list, so nobody else counts their names.
                let names: usize = self.topics.iter().map(|name| name_bytes(name)).sum();
                let list = list_bytes::<ConnectionId>(ids.len());
                (names + list, RECIPIENT_BYTES * ids.len())
            }
            None => (0, REFERENCE_BYTES * self.topics.len()),
        };
        let entry = allocated(ARC_BYTES + size_of::<Self>()) + REFERENCE_BYTES;
        self.payload_bytes
            + list_bytes::<Arc<str>>(self.topics.len())
            + owners
            + recipients
            + shards * (entry + indexed)
    }
}

/// What a topic takes in a window of so many shards, beside its entries: its name and its places in the index. It is counted
/// as long as the window has an entry of it.
#[must_use]
pub const fn topic_bytes(name: &str, shards: usize) -> usize {
    name_bytes(name) + shards * NODE_BYTES
}

/// What the text of a name takes; all shards and entries share it.
pub(crate) const fn name_bytes(name: &str) -> usize {
    allocated(ARC_BYTES + name.len())
}

const fn list_bytes<T>(len: usize) -> usize {
    allocated(ARC_BYTES + len * size_of::<T>())
}

/// What an allocator takes for so many bytes: a word more, and whole pairs of words.
const fn allocated(bytes: usize) -> usize {
    let whole = (bytes + 8).next_multiple_of(16);
    if whole < 32 { 32 } else { whole }
}

/// The two counters of an `Arc`.
const ARC_BYTES: usize = 16;
/// A number in a list that grows by doubling and so has some room to spare.
const REFERENCE_BYTES: usize = 10;
/// A node of the index, its place in the table, and the first room of its list: counted by the memory test.
const NODE_BYTES: usize = 144;
/// A place in the table of connections that have something of their own, with its list: counted by the memory test.
const RECIPIENT_BYTES: usize = 136;

impl<T> Routed for Entry<T> {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    fn owners(&self) -> impl Iterator<Item = &str> {
        let names = match &self.audience {
            Audience::Owners(names) => &names[..],
            Audience::Everyone | Audience::Granted => &[],
        };
        names.iter().map(|name| &**name)
    }

    fn needs_grant(&self) -> bool {
        matches!(self.audience, Audience::Granted)
    }

    fn is_addressed(&self) -> bool {
        self.recipients.is_some()
    }

    fn is_addressed_to(&self, id: &ConnectionId) -> bool {
        self.recipients.as_ref().is_some_and(|ids| ids.contains(id))
    }

    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// How important an entry is, for whoever reads it and cannot keep everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Can be left out first.
    Low,
    /// The default.
    #[default]
    Normal,
    /// To be left out last.
    High,
}
