//! A connection as a shard sees it.

use std::{sync::Arc, task::Waker};

use crate::{
    CloseReason, ConnectionInfo, Entry, Selector, TopicFilter, Visibility,
    admission::AddressKey,
    compact_instant::CompactInstant,
    patterns::PatternKeys,
    topics::{ALL, Link},
};

/// ```text
///            nothing to read                      close()
///   Ready ───────────────────▶ Parked        any ─────────▶ Closed
///     ▲                          │
///     └──── an entry matches ────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It reads, writes, or has been told to; `next_seq` says from where.
    Ready,
    /// It has seen everything; the next entry it wants sets its cursor and wakes it.
    Parked,
    /// It is out of the index and learns of it at its next read.
    Closed(CloseReason),
}

/// What stands between a reader and the entries after its cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    None,
    /// It was told that it lagged and has not rejoined.
    Lagging,
    /// The pool was reset and it has not heard: its cursor is of the series before.
    Reset,
    /// The same, more than once: its cursor is of an older series still.
    ResetAgain,
    /// Somebody has placed its cursor elsewhere and it has not heard.
    Moved,
}

impl Break {
    /// Whether the reader has yet to hear of a reset.
    pub(crate) fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::ResetAgain)
    }

    /// Whether the reader has yet to hear of something before it reads on.
    pub(crate) fn is_news(self) -> bool {
        self.is_reset() || self == Self::Moved
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) selector: Arc<Selector>,
    /// The pool's table counts these uses.
    pub(crate) patterns: PatternKeys,
    pub(crate) links: Links,
    /// Boxed, because most readers are announced by their shard's handle and have none.
    pub(crate) waker: Option<Box<Waker>>,
    /// Whose place it holds; given back by the pool when the reader has left.
    pub(crate) address: AddressKey,
    /// The next sequence number to look at, while `Ready`.
    pub(crate) next_seq: u64,
    /// Everything up to this offset was delivered or is not for this reader. May be ahead of the window,
    /// after a replay from a log that knows more; what the window gets up to it is then skipped.
    pub(crate) cursor: u64,
    /// After this offset the shard still has every entry addressed to this reader.
    pub(crate) direct_after: u64,
    pub(crate) delivered_entries: u64,
    pub(crate) delivered_bytes: u64,
    /// The last sign of life, or since when it has owed one.
    pub(crate) since: CompactInstant,
    pub(crate) generation: u32,
    /// How often the cursor was set from outside: a scan under way sees that it must start again.
    pub(crate) seeks: u32,
    pub(crate) state: State,
    /// Announced on the shard's ready list instead of by a waker of its own.
    pub(crate) batch: bool,
    /// It took entries and has not come back since.
    pub(crate) in_hand: bool,
    pub(crate) broken: Break,
    /// Its selector names labels; noted when it is linked.
    pub(crate) filters_labels: bool,
    /// Patterns or limits say what it may have.
    pub(crate) asks_grants: bool,
    /// It has another selector than it came with.
    pub(crate) is_changed: bool,
}

impl Reader {
    pub(crate) fn follows_all(&self) -> bool {
        matches!(self.selector.topics, TopicFilter::All)
    }

    /// The same, without a look at the selector: what it was linked to.
    pub(crate) fn is_linked_to_all(&self) -> bool {
        matches!(self.links, Links::One(link) if link.node == ALL)
    }

    /// Whether it may have an entry of its lists and wants its label. Mostly this is known without a look at the
    /// selector and the visibility, which are elsewhere in memory.
    pub(crate) fn may_see<T>(&self, entry: &Entry<T>) -> bool {
        (entry.label.is_none()
            || !self.filters_labels
            || self.selector.passes_label(entry.label.as_deref()))
            && (entry.audience.is_everyone() && entry.recipients.is_none()
                || self.visibility().may_allow(entry, Some(&self.info.id)))
    }

    pub(crate) fn visibility(&self) -> &Visibility {
        &self.info.client.visibility
    }

    /// Its entries are found by asking patterns, which is done without the lock.
    pub(crate) fn scans(&self) -> bool {
        !self.patterns.is_empty() || self.asks_grants
    }
}

/// The nodes a reader is a member of; most readers have one.
#[derive(Debug)]
pub(crate) enum Links {
    One(Link),
    Many(Box<[Link]>),
}

impl Links {
    pub(crate) fn none() -> Self {
        Self::Many(Box::default())
    }

    pub(crate) fn as_slice(&self) -> &[Link] {
        match self {
            Self::One(link) => std::slice::from_ref(link),
            Self::Many(links) => links,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Link] {
        match self {
            Self::One(link) => std::slice::from_mut(link),
            Self::Many(links) => links,
        }
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        let links: Box<[Link]> = links.into_iter().collect();
        match *links {
            [link] => Self::One(link),
            _ => Self::Many(links),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<Reader>() <= 120, "{}", size_of::<Reader>());
        assert_eq!(size_of::<Links>(), 16);
    }
}
