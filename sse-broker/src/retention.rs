//! Retention: how long the log keeps records.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::{Offset, TopicPattern, UnixMillis};

/// How long records are kept: as long as every bound that is set allows.
///
/// Trimming removes the oldest records first and so only ever moves the log's floor upwards; what was
/// trimmed is a gap that is announced, never a hole. Bounds by count and bytes are kept as records
/// arrive and always leave the newest record; what is too old goes when the time is told, by
/// [`Broker::trim`](crate::Broker::trim), and a reader does not get it meanwhile. The default is 7 days and 1 GiB.
///
/// Within these bounds [`topics`](Self::topics) may ask for less of some topics. What they remove is missing
/// from the middle of the log, and is accounted for by topic, so that those readers hear of it whom it
/// concerns, and nobody else.
///
/// ```
/// # use std::time::Duration;
/// # use sse_broker::Retention;
/// let an_hour = Retention { max_age: Some(Duration::from_secs(3600)), ..Retention::default() };
/// assert_eq!(an_hour.max_bytes, Some(1 << 30));
/// assert_eq!(Retention::UNBOUNDED.max_age, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old a record may become, by its [`retention_time`](crate::NewRecord::retention_time).
    pub max_age: Option<Duration>,
    /// How many records are kept.
    pub max_records: Option<u64>,
    /// How many bytes the kept records may weigh, by [`NewRecord::weight_bytes`](crate::NewRecord::weight_bytes).
    pub max_bytes: Option<u64>,
    /// Tighter bounds for some topics. The first that means a topic is that topic's rule.
    pub topics: Vec<TopicRetention>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Some(DEFAULT_MAX_AGE),
            max_records: None,
            max_bytes: Some(DEFAULT_MAX_BYTES),
            topics: Vec::new(),
        }
    }
}

impl Retention {
    /// Keeps everything.
    pub const UNBOUNDED: Self = Self {
        max_age: None,
        max_records: None,
        max_bytes: None,
        topics: Vec::new(),
    };

    /// The rule for a topic: the first of [`topics`](Self::topics) that means it.
    #[must_use]
    pub fn rule_for(&self, topic: &str) -> Option<&TopicRetention> {
        self.topics.iter().find(|rule| rule.means(topic))
    }

    /// Whether there is any rule for single topics.
    #[must_use]
    pub fn has_topic_rules(&self) -> bool {
        !self.topics.is_empty()
    }

    /// Whether a log of so many records and bytes holds too much. The newest record is never too much.
    pub(crate) fn is_over(&self, records: u64, bytes: u64) -> bool {
        records > 1
            && (self.max_records.is_some_and(|max| records > max)
                || self.max_bytes.is_some_and(|max| bytes > max))
    }

    /// The newest publication time that is too old at `now`: everything up to it may go.
    pub(crate) fn too_old_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        too_old_at(self.max_age, now)
    }
}

/// How long the records of some topics are kept, within the bounds of the whole log.
///
/// Age, number and bytes bound all records of the rule together, and the oldest go first.
/// [`keep_latest`](Self::keep_latest) bounds each topic by itself. What is beyond number, bytes or the newest
/// of a topic leaves the file with a commit after the one that made it so: nothing is removed for a record that
/// is not safe itself. Readers do not get it meanwhile.
///
/// * **A record of several topics** follows a rule when all its topics do. Where they have different rules,
///   or one of them none, the bounds of the log alone count: nobody loses a record by another topic's rule.
/// * **Whoever resumes hears of what is missing** ([`GapReason::Thinned`](crate::GapReason::Thinned)) when a
///   record of a topic that it wants was removed after its position. `keep_latest` of 1 makes a topic a
///   *value*, of which each record replaces the one before: what was replaced is not missing, and no gap.
///   With more than 1 a topic is a history, and it is.
/// * **The id of a record that a rule has removed** is remembered for the newest 100,000 of these: published
///   again it is not stored again, lest an old value replace a new one, and a reader may resume after it.
///
/// ```
/// # use std::sync::Arc;
/// # use sse_broker::{Retention, Topic, TopicRetention};
/// # fn main() -> Result<(), sse_broker::InvalidTopic> {
/// let weather = TopicRetention {
///     keep_latest: std::num::NonZeroU32::new(1),
///     ..TopicRetention::of([Arc::new(Topic::new("weather")?) as _])
/// };
/// let retention = Retention { topics: vec![weather], ..Retention::default() };
/// # assert_eq!(retention.topics.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TopicRetention {
    /// The topics it is for: those that any of these means.
    pub topics: Vec<Arc<dyn TopicPattern>>,
    /// How old a record may become.
    pub max_age: Option<Duration>,
    /// How many records all these topics together keep; the newest is always kept.
    pub max_records: Option<u64>,
    /// How many bytes all these topics together keep; the newest record is always kept.
    pub max_bytes: Option<u64>,
    /// How many of the newest records of each topic are kept; more than [`MAX_KEEP_LATEST`](Self::MAX_KEEP_LATEST)
    /// count as that.
    pub keep_latest: Option<NonZeroU32>,
}

impl TopicRetention {
    /// The most that [`keep_latest`](Self::keep_latest) can ask for: the list of a topic's newest records is
    /// written anew with each of them. A stated guess.
    pub const MAX_KEEP_LATEST: u32 = 1000;

    /// A rule for these topics that asks for nothing yet.
    #[must_use]
    pub fn of(topics: impl IntoIterator<Item = Arc<dyn TopicPattern>>) -> Self {
        Self {
            topics: topics.into_iter().collect(),
            max_age: None,
            max_records: None,
            max_bytes: None,
            keep_latest: None,
        }
    }

    /// Whether it is for this topic, unless another rule before it is.
    pub(crate) fn means(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// The rule as it was written, for comparing.
    fn said(&self) -> impl PartialEq {
        let texts: Vec<_> = self.topics.iter().map(|topic| topic.as_str()).collect();
        let texts = texts.join("\n");
        (
            texts,
            self.max_age,
            self.max_records,
            self.max_bytes,
            self.keep_latest,
        )
    }

    /// Whether records of the rule must be known in their order, and counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.max_age.is_some() || self.max_records.is_some() || self.max_bytes.is_some()
    }

    /// As [`Retention::is_over`], for the records of this rule.
    pub(crate) fn is_over(&self, records: u64, bytes: u64) -> bool {
        records > 1
            && (self.max_records.is_some_and(|max| records > max)
                || self.max_bytes.is_some_and(|max| bytes > max))
    }

    /// As [`Retention::too_old_at`], for the records of this rule.
    pub(crate) fn too_old_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        too_old_at(self.max_age, now)
    }
}

impl PartialEq for TopicRetention {
    fn eq(&self, other: &Self) -> bool {
        self.said() == other.said()
    }
}

impl Eq for TopicRetention {}

fn too_old_at(max_age: Option<Duration>, now: UnixMillis) -> Option<UnixMillis> {
    now.checked_sub(millis(max_age?))
}

/// From when on a record is too old whose age counts from then.
#[cfg(feature = "disk")]
pub(crate) fn due_at(max_age: Option<Duration>, from: UnixMillis) -> UnixMillis {
    max_age.map_or(UnixMillis::MAX, |max_age| {
        from.saturating_add(millis(max_age))
    })
}

fn millis(max_age: Duration) -> UnixMillis {
    u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX)
}

/// What a call of [`Broker::trim`](crate::Broker::trim) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// How many records went.
    pub records: u64,
    /// The log's floor afterwards: everything up to it is gone.
    pub floor: Offset,
}

/// Seven days: long enough for a weekend and a holiday. A stated guess.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One GiB: small beside any disk, and some five million events of 150 bytes. A stated guess.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_kept_however_large_it_is() {
        let retention = Retention {
            max_bytes: Some(10),
            ..Retention::UNBOUNDED
        };
        assert!(!retention.is_over(1, 1_000));
        assert!(retention.is_over(2, 1_000));
        assert!(!retention.is_over(2, 10));
    }

    #[test]
    fn an_age_greater_than_the_clock_trims_nothing() {
        let retention = Retention {
            max_age: Some(Duration::MAX),
            ..Retention::UNBOUNDED
        };
        assert_eq!(retention.too_old_at(u64::MAX), Some(0));
        assert_eq!(Retention::default().too_old_at(1_000), None);
        assert_eq!(Retention::UNBOUNDED.too_old_at(u64::MAX), None);
    }
}
