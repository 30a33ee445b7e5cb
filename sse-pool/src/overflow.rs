//! What a reader that fell behind still gets, when not everything can be kept for it.

use std::{collections::HashSet, sync::Arc};

use crate::{Entry, Priority};

/// The policy for a reader that missed more than can be made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Let it go; it comes back and resumes, or learns of the gap then.
    #[default]
    Disconnect,
    /// Keep the newest that fit.
    DropOldest,
    /// Keep the newest of each topic: state replaces state. If even those do not fit, the newest of them.
    KeepLatestPerTopic,
    /// Drop low priority first, then normal, then high; within a priority the oldest first.
    DropLowPriority,
}

/// What the policy needs to know of one missed entry.
#[derive(Clone, Copy, Debug)]
pub struct Missed<'a> {
    /// Its topics.
    pub topics: &'a [Arc<str>],
    /// Its priority.
    pub priority: Priority,
    /// What it counts for against the budget.
    pub size_bytes: usize,
}

impl<'a, T> From<&'a Entry<T>> for Missed<'a> {
    fn from(entry: &'a Entry<T>) -> Self {
        Self {
            topics: &entry.topics,
            priority: entry.priority,
            size_bytes: entry.size_bytes,
        }
    }
}

/// How much of what was missed may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Entries.
    pub max_entries: usize,
    /// Bytes.
    pub max_bytes: usize,
}

/// What becomes of the entries a reader missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It is let go.
    Disconnect,
    /// It gets some, and is told of the rest.
    Keep {
        /// The indices of what it gets, ascending.
        kept: Vec<usize>,
        /// What it does not get.
        dropped: Dropped,
    },
}

/// Entries that a reader does not get, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Too old for the budget.
    pub oldest: usize,
    /// Followed by a newer one of the same topics.
    pub superseded: usize,
    /// Of too low a priority for the budget.
    pub low_priority: usize,
}

impl Dropped {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.oldest + self.superseded + self.low_priority
    }
}

impl Overflow {
    /// Decides over what a reader missed, given oldest first.
    ///
    /// What fits into the budget is kept whole, whatever the policy, except that
    /// [`KeepLatestPerTopic`](Self::KeepLatestPerTopic) always keeps only the latest. Nothing is ever kept
    /// beyond the budget. Cost: linear, and a sort for priorities.
    ///
    /// ```
    /// use sse_pool::{Budget, Missed, Overflow, Priority, Resolution};
    ///
    /// let missed = [Priority::High, Priority::Low, Priority::Normal]
    ///     .map(|priority| Missed { topics: &[], priority, size_bytes: 10 });
    /// let budget = Budget { max_entries: 2, max_bytes: 1_000 };
    /// let Resolution::Keep { kept, dropped } = Overflow::DropLowPriority.resolve(&missed, budget) else {
    ///     unreachable!("only `Disconnect` lets a reader go");
    /// };
    /// assert_eq!((kept, dropped.low_priority), (vec![0, 2], 1));
    /// ```
    #[must_use]
    pub fn resolve(self, missed: &[Missed<'_>], budget: Budget) -> Resolution {
        let mut dropped = Dropped::default();
        let candidates: Vec<usize> = match self {
            Self::KeepLatestPerTopic => latest_per_topic(missed),
            _ => (0..missed.len()).collect(),
        };
        dropped.superseded = missed.len() - candidates.len();
        let kept = match self {
            Self::DropLowPriority => {
                let mut order = candidates.clone();
                // Dearest first, and within a priority the newest first.
                order.sort_by_key(|&index| std::cmp::Reverse((missed[index].priority, index)));
                let mut kept = fitting(&order, missed, budget);
                kept.sort_unstable();
                dropped.low_priority = candidates.len() - kept.len();
                kept
            }
            _ => {
                let newest_first: Vec<usize> = candidates.iter().rev().copied().collect();
                let mut kept = fitting(&newest_first, missed, budget);
                kept.reverse();
                dropped.oldest = candidates.len() - kept.len();
                kept
            }
        };
        if self == Self::Disconnect && dropped.total() > 0 {
            return Resolution::Disconnect;
        }
        Resolution::Keep { kept, dropped }
    }
}

/// The longest beginning of `order` that the budget holds.
fn fitting(order: &[usize], missed: &[Missed<'_>], budget: Budget) -> Vec<usize> {
    let mut bytes = 0_usize;
    let fits = |&&index: &&usize| {
        bytes = bytes.saturating_add(missed[index].size_bytes);
        bytes <= budget.max_bytes
    };
    order
        .iter()
        .take(budget.max_entries)
        .take_while(fits)
        .copied()
        .collect()
}

/// Those that are the newest of at least one of their topics. One without topics supersedes nothing.
fn latest_per_topic(missed: &[Missed<'_>]) -> Vec<usize> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut latest: Vec<usize> = Vec::new();
    for (index, entry) in missed.iter().enumerate().rev() {
        let mut newest = entry.topics.is_empty();
        for topic in entry.topics {
            newest |= seen.insert(topic);
        }
        if newest {
            latest.push(index);
        }
    }
    latest.reverse();
    latest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICIES: [Overflow; 4] = [
        Overflow::Disconnect,
        Overflow::DropOldest,
        Overflow::KeepLatestPerTopic,
        Overflow::DropLowPriority,
    ];

    #[derive(Clone, Debug)]
    struct Owned(Vec<Arc<str>>, Priority, usize);

    fn owned() -> impl Strategy<Value = Vec<Owned>> {
        let priority = prop_oneof![
            Just(Priority::Low),
            Just(Priority::Normal),
            Just(Priority::High)
        ];
        let topics = prop::collection::vec("[a-c]".prop_map(Arc::from), 0..3);
        let one = (topics, priority, 0..50_usize);
        prop::collection::vec(
            one.prop_map(|(topics, priority, size)| Owned(topics, priority, size)),
            0..20,
        )
    }

    fn views(owned: &[Owned]) -> Vec<Missed<'_>> {
        owned
            .iter()
            .map(|one| Missed {
                topics: &one.0,
                priority: one.1,
                size_bytes: one.2,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_is_in_order_within_budget_and_adds_up(
            owned in owned(), max_entries in 0..12_usize, max_bytes in 0..300_usize,
        ) {
            let missed = views(&owned);
            for policy in POLICIES {
                let Resolution::Keep { kept, dropped } =
                    policy.resolve(&missed, Budget { max_entries, max_bytes })
                else {
                    prop_assert_eq!(policy, Overflow::Disconnect);
                    continue;
                };
                prop_assert!(kept.is_sorted());
                prop_assert!(kept.len() <= max_entries);
                prop_assert!(kept.iter().map(|&i| missed[i].size_bytes).sum::<usize>() <= max_bytes);
                prop_assert_eq!(kept.len() + dropped.total(), missed.len());
            }
        }

        #[test]
        fn with_room_for_all_nothing_is_dropped_but_what_was_superseded(owned in owned()) {
            let missed = views(&owned);
            let room = Budget { max_entries: usize::MAX, max_bytes: usize::MAX };
            for policy in POLICIES {
                let Resolution::Keep { kept, dropped } = policy.resolve(&missed, room) else {
                    panic!("{policy:?} let a reader go without need");
                };
                prop_assert_eq!(dropped.oldest + dropped.low_priority, 0);
                prop_assert!(policy == Overflow::KeepLatestPerTopic || kept.len() == missed.len());
            }
        }

        #[test]
        fn dropping_by_priority_never_keeps_a_lower_one_instead_of_a_higher(
            owned in owned(), max_entries in 0..12_usize,
        ) {
            let missed = views(&owned);
            let budget = Budget { max_entries, max_bytes: usize::MAX };
            let Resolution::Keep { kept, .. } = Overflow::DropLowPriority.resolve(&missed, budget) else {
                panic!("only `Disconnect` lets a reader go");
            };
            let lowest_kept = kept.iter().map(|&i| missed[i].priority).min();
            let highest_dropped =
                (0..missed.len()).filter(|i| !kept.contains(i)).map(|i| missed[i].priority).max();
            if let (Some(kept), Some(dropped)) = (lowest_kept, highest_dropped) {
                prop_assert!(kept >= dropped);
            }
        }

        #[test]
        fn every_topic_keeps_its_latest(owned in owned()) {
            let missed = views(&owned);
            let room = Budget { max_entries: usize::MAX, max_bytes: usize::MAX };
            let Resolution::Keep { kept, .. } = Overflow::KeepLatestPerTopic.resolve(&missed, room) else {
                panic!("only `Disconnect` lets a reader go");
            };
            for topic in ["a", "b", "c"] {
                let last = missed.iter().rposition(|one| one.topics.iter().any(|it| &**it == topic));
                prop_assert!(last.is_none_or(|last| kept.contains(&last)));
            }
        }
    }
}
