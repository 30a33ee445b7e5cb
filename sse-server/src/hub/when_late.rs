//! What a late reader is spared: events that are worth less than the time that it takes to send them.
//!
//! A reader is late when its next event has waited for [`late_after`](LateConfig::late_after). Where a rule names the event's topics, the
//! event may then be left out: because a newer one says the same of the same thing, or because it is of low priority. Without
//! a rule nothing is ever left out, and a reader that keeps up misses nothing with one either.
//!
//! ```text
//!   every event ──▶ has a rule? ──▶ its slot: what it is about ──▶ newest offset of each slot
//!                                                                          │
//!   late reader ──▶ its next event ──▶ is there a newer one in the slot? ──┘──▶ left out, and counted
//! ```
//!
//! A slot is a hash of all that decides who gets an event: whoever misses the older event may have the newer one. Slots are
//! remembered for the newest events, in bounded memory; an event whose slot is forgotten is delivered.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sse_broker::{
    AudienceRef, Gap, GapReason, Offset, Position, Priority, RecordRef, TopicPattern, UnixMillis,
};

use super::Batch;
use crate::clock::Moment;
use crate::json_member::member;

/// When a reader is late, and what it is spared then.
#[derive(Clone, Debug)]
pub struct LateConfig {
    /// A reader is late when its next event has waited this long; for an event of low priority, when it has waited a quarter of it.
    pub late_after: Duration,
    /// The first rule that means all topics of an event applies to it.
    pub rules: Vec<LateRule>,
}

impl Default for LateConfig {
    fn default() -> Self {
        Self {
            late_after: Duration::from_secs(1),
            rules: Vec::new(),
        }
    }
}

/// What late readers of some topics are spared. Events of high priority are always delivered.
#[derive(Clone, Debug)]
pub struct LateRule {
    /// The topics. An event with several is meant when each of them is.
    pub topics: Vec<Arc<dyn TopicPattern>>,
    /// Which events are left out.
    pub policy: LatePolicy,
}

/// Which events a late reader does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatePolicy {
    /// Those that a newer event replaces: one with the same topics, type and audience and, where a field is named, the same value
    /// of that field of the data.
    Latest {
        /// A member of the data, which is a JSON object. An event without it replaces nothing.
        field: Option<Box<str>>,
    },
    /// All but the newest that were published in the same interval, by the same rule.
    Sample {
        /// From one delivered event to the next.
        interval: Duration,
        /// As in [`Latest`](Self::Latest).
        field: Option<Box<str>>,
    },
    /// Those of low priority.
    DropLow,
}

/// Why an event was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Expired,
    Superseded,
    Sampled,
    LowPriority,
}

impl Reason {
    pub(crate) const ALL: [Self; 4] = [
        Self::Expired,
        Self::Superseded,
        Self::Sampled,
        Self::LowPriority,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Sampled => "sampled",
            Self::LowPriority => "low_priority",
        }
    }
}

/// What was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// How many events, by [`Reason`].
    pub(crate) counts: [u32; Reason::ALL.len()],
    /// After what the reader has missed something that no newer event makes up for, and in what this ends.
    missing: Option<(Position, Position)>,
}

impl LeftOut {
    pub(crate) fn count(&mut self, reason: Reason, at: Position) {
        self.counts[reason as usize] += 1;
        if reason == Reason::LowPriority {
            let before = Position {
                offset: at.offset.saturating_sub(1),
                ..at
            };
            self.missing.get_or_insert((before, at));
        }
    }

    /// Everything up to here was looked at. What is missing ends here, because what comes before has been told by then.
    pub(crate) fn reached(&mut self, at: Position) {
        if let Some((_, until)) = &mut self.missing {
            *until = at;
        }
    }

    /// What the reader is to be told behind what is left. It moves the reader on, so it is told once.
    pub(crate) fn gap(&self) -> Option<Gap> {
        self.missing.map(|(from, to)| Gap {
            from: Some(from),
            to,
            until: to,
            reason: GapReason::LowPriority,
        })
    }
}

/// What a rule makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// Events with the same slot replace each other. Of no use where the reason is a low priority.
    slot: u64,
    /// Why it is left out, if it is.
    reason: Reason,
}

/// The rules, and the newest event of each slot.
pub(super) struct WhenLate {
    config: LateConfig,
    hasher: RandomState,
    newest: Mutex<Newest>,
}

/// The newest offset of each slot, in two halves: the older one is forgotten when the newer one is full.
#[derive(Default)]
struct Newest {
    recent: HashMap<u64, Offset>,
    before: HashMap<u64, Offset>,
    /// The most slots of a half.
    max: usize,
}

impl Newest {
    fn put(&mut self, slot: u64, offset: Offset) {
        if self.recent.len() >= self.max && !self.recent.contains_key(&slot) {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(slot, offset);
    }

    fn get(&self, slot: u64) -> Option<Offset> {
        let known = self.recent.get(&slot).or_else(|| self.before.get(&slot));
        known.copied()
    }
}

impl WhenLate {
    /// `window_bytes` is what the newest events may take; the slots take an eighth of it at most.
    pub(super) fn new(config: LateConfig, window_bytes: usize) -> Self {
        let max = (window_bytes / 8 / SLOT_BYTES / 2).clamp(1, MAX_SLOTS / 2);
        Self {
            config,
            hasher: RandomState::new(),
            newest: Mutex::new(Newest {
                max,
                ..Newest::default()
            }),
        }
    }

    /// What the rules make of an event; `None` where it is never left out.
    pub(super) fn class(&self, record: &RecordRef<'_>) -> Option<Class> {
        if self.config.rules.is_empty() || record.priority == Priority::High {
            return None;
        }
        let means = |rule: &LateRule| {
            let is_meant = |topic: &str| rule.topics.iter().any(|it| it.matches(topic));
            record.topics().all(is_meant)
        };
        let (number, rule) =
            (self.config.rules.iter().enumerate()).find(|(_, rule)| means(rule))?;
        let (field, interval, reason) = match &rule.policy {
            LatePolicy::DropLow => {
                let class = Class {
                    slot: 0,
                    reason: Reason::LowPriority,
                };
                return (record.priority == Priority::Low).then_some(class);
            }
            LatePolicy::Latest { field } => (field, None, Reason::Superseded),
            LatePolicy::Sample { interval, field } => (field, Some(*interval), Reason::Sampled),
        };
        let mut hasher = self.hasher.build_hasher();
        number.hash(&mut hasher);
        (record.event_type, record.label).hash(&mut hasher);
        for topic in record.topics() {
            topic.hash(&mut hasher);
        }
        match record.audience {
            AudienceRef::Everyone => 0.hash(&mut hasher),
            AudienceRef::Granted => 1.hash(&mut hasher),
            AudienceRef::Owners(names) => {
                2.hash(&mut hasher);
                for name in names {
                    name.hash(&mut hasher);
                }
            }
        }
        if let Some(field) = field {
            member(record.data, field).ok()??.hash(&mut hasher);
        }
        if let Some(interval) = interval {
            let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            (record.published_at / millis.max(1)).hash(&mut hasher);
        }
        Some(Class {
            slot: hasher.finish(),
            reason,
        })
    }

    /// An event has come to the window.
    pub(super) fn observe(&self, class: Option<Class>, offset: Offset) {
        if let Some(Class { slot, reason }) = class
            && reason != Reason::LowPriority
        {
            self.newest.lock().put(slot, offset);
        }
    }

    /// The log goes on under another epoch, with other offsets.
    pub(super) fn forget(&self) {
        let mut newest = self.newest.lock();
        newest.recent = HashMap::new();
        newest.before = HashMap::new();
    }

    /// Why a reader does not get an event that has waited so long for it, if it does not.
    fn reason(
        &self,
        class: Class,
        offset: Offset,
        priority: Priority,
        waited: Duration,
    ) -> Option<Reason> {
        let patience = match priority {
            Priority::Low => self.config.late_after / 4,
            Priority::Normal | Priority::High => self.config.late_after,
        };
        if waited < patience {
            return None;
        }
        let is_left_out = class.reason == Reason::LowPriority
            || (self.newest.lock().get(class.slot)).is_some_and(|newest| newest > offset);
        is_left_out.then_some(class.reason)
    }

    /// Takes out of a batch of the window what its readers do not get.
    pub(super) fn leave_out(&self, batch: &mut Batch, moment: Moment) -> LeftOut {
        let mut left_out = LeftOut::default();
        let end = batch.last().map(|entry| entry.payload.record().position);
        batch.retain(|entry| {
            let (payload, offset) = (&entry.payload, entry.offset);
            let record = payload.record();
            let reason = match payload.class() {
                _ if record.is_expired(moment.unix_millis) => Some(Reason::Expired),
                None => None,
                Some(class) => {
                    let committed_at = payload.committed_at();
                    let waited = moment.now.saturating_duration_since(committed_at);
                    self.reason(class, offset, record.content.priority, waited)
                }
            };
            if let Some(reason) = reason {
                left_out.count(reason, record.position);
            }
            reason.is_none()
        });
        if let Some(end) = end {
            left_out.reached(end);
        }
        left_out
    }

    /// Why a reader does not get a record that it reads from the log now, if it does not.
    pub(super) fn leaves_out(&self, record: &RecordRef<'_>, now: UnixMillis) -> Option<Reason> {
        let class = self.class(record)?;
        let waited = Duration::from_millis(now.saturating_sub(record.published_at));
        self.reason(class, record.position.offset, record.priority, waited)
    }
}

/// What a slot takes in a half's table, which may be half empty.
const SLOT_BYTES: usize = 40;
/// A stated guess: more than a page shows, and two and a half MiB.
const MAX_SLOTS: usize = 65_536;

#[cfg(test)]
mod tests;
