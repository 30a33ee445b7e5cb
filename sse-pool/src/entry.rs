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
    /// What the entry counts for against the window's and a read's bound, in bytes.
    pub size_bytes: usize,
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
    /// A public entry of normal priority, without a label.
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
            topics: topics.into(),
            audience: Audience::Everyone,
            recipients: None,
            label: None,
            priority: Priority::Normal,
        }
    }
}

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
