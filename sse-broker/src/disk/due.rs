//! What retention asks for and no commit has done yet, so that readers are answered as if it had.
//!
//! The rules of topics are applied with the commit after the one that stored a record, and what is too old is
//! removed when [`trim`](crate::Broker::trim) is called. In between the file has more than retention allows. A read
//! finds that out for its own time: it applies the rules to the few records that they have not seen, without writing,
//! and goes through what has become too old since it last looked. Both are remembered for the next read, so that
//! each record is looked at once. A log without rules and without a bound by age pays nothing, and neither does a
//! reader whose topics have no rule.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable};

use super::block::RecordBlock;
use super::codec::RecordView;
use super::ledger::Ledger;
use super::log_state::RuleProgress;
use super::scan::view_at;
use super::tables::{ACCOUNTS, BLOCKS, NEWEST, QUEUES};
use super::tombstones::Batch;
use crate::retention::due_at;
use crate::topic_retention::{self, Rules};
use crate::{Offset, ReadRequest, Retention, Scope, UnixMillis};

/// Retention, as readers need it.
pub(super) struct ReadRetention {
    pub(super) rules: Arc<Rules>,
    retention: Retention,
    /// The time of the newest trim that is committed.
    trimmed_at: AtomicU64,
    by_rules: Mutex<ByRules>,
    by_age: Mutex<ByAge>,
}

/// What a read transaction sees of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogView {
    pub(super) progress: RuleProgress,
    pub(super) floor: Offset,
    /// Nothing after it concerns the reader.
    pub(super) head: Offset,
}

/// What a reader does not get although it is in the file.
#[derive(Default)]
pub(super) struct Due {
    /// Everything up to here is too old, or gone already.
    pub(super) floor: Offset,
    /// The newest removed offset after the request's, as far as readers of its scope are to hear of it.
    pub(super) removed: Option<Offset>,
    by_rules: Option<DueByRules>,
}

struct DueByRules {
    rules: Arc<Rules>,
    superseded: Arc<Batch>,
    /// Of each rule, up to where its records are too old.
    expired_upto: Vec<Offset>,
}

impl Due {
    /// Whether a rule removes this record.
    pub(super) fn has(&self, offset: Offset, view: &RecordView<'_>) -> bool {
        let Some(due) = &self.by_rules else {
            return false;
        };
        let is_expired = |rule: usize| due.expired_upto.get(rule).is_some_and(|to| offset <= *to);
        due.superseded.has(offset)
            || due.expired_upto.iter().any(|upto| offset <= *upto)
                && due.rules.rule_of(view.topics).is_some_and(is_expired)
    }
}

impl ReadRetention {
    pub(super) fn new(retention: &Retention) -> Self {
        Self {
            rules: Arc::new(Rules::new(&retention.topics)),
            retention: retention.clone(),
            trimmed_at: AtomicU64::new(0),
            by_rules: Mutex::default(),
            by_age: Mutex::default(),
        }
    }

    /// A trim at this time is committed.
    pub(super) fn has_trimmed(&self, now: UnixMillis) {
        self.trimmed_at.fetch_max(now, Ordering::AcqRel);
    }

    /// The newest trim that every transaction sees that begins after this call.
    pub(super) fn trimmed_at(&self) -> UnixMillis {
        self.trimmed_at.load(Ordering::Acquire)
    }

    /// What is due at the time of the request.
    pub(super) fn due(
        &self,
        txn: &ReadTransaction,
        blocks: &impl ReadableTable<Offset, &'static [u8]>,
        view: LogView,
        trimmed_at: UnixMillis,
        request: &ReadRequest,
    ) -> Result<Due, redb::Error> {
        let mut due = Due {
            floor: view.floor,
            ..Due::default()
        };
        let now = request.now;
        let too_old = self.retention.too_old_at(now);
        // What goes by a rule does not go by its age: whoever asks for ages needs the rules first.
        let mut rules_found = None;
        if self.has_rule_for(&request.scope) || !self.rules.is_empty() && too_old.is_some() {
            rules_found = Some(self.add_by_rules(&mut due, txn, view, trimmed_at, request)?);
        }
        if let Some(too_old) = too_old {
            let mut known = self.by_age.lock();
            // A clock that was set back is not answered by what was found for a later time.
            let mut earlier = (now < known.found_at).then(ByAge::default);
            let known = earlier.as_mut().unwrap_or(&mut known);
            if known.is_outdated(view, now, rules_found) {
                (known.found_at, known.rules_found) = (now, rules_found);
                let next = known.pass(blocks, view, (now, too_old), &due)?;
                let (at, ages_from) = next.unwrap_or((Offset::MAX, UnixMillis::MAX));
                known.next = at;
                known.next_due = due_at(self.retention.max_age, ages_from);
            }
            due.floor = due.floor.max(known.upto);
        }
        Ok(due)
    }

    /// Returns for which state of the log, and when, the rules were applied.
    fn add_by_rules(
        &self,
        due: &mut Due,
        txn: &ReadTransaction,
        view: LogView,
        trimmed_at: UnixMillis,
        request: &ReadRequest,
    ) -> Result<(LogView, UnixMillis), redb::Error> {
        let mut known = self.by_rules.lock();
        let mut earlier = (request.now < known.found_at).then(ByRules::default);
        let known = earlier.as_mut().unwrap_or(&mut known);
        if trimmed_at >= known.found_at {
            // All of it is gone from the file, and among its tombstones.
            known.expired_upto.fill(0);
            known.expired_topics.clear();
        }
        known.find(txn, view, &self.rules, request.now)?;
        due.removed = known.newest(request.after, &request.scope);
        due.by_rules = Some(DueByRules {
            rules: Arc::clone(&self.rules),
            superseded: Arc::clone(&known.superseded),
            expired_upto: known.expired_upto.clone(),
        });
        Ok((view, known.found_at))
    }

    fn has_rule_for(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Topics(topics) => topics
                .iter()
                .any(|topic| self.rules.rule_of_topic(topic.as_str()).is_some()),
            Scope::All | Scope::Matching(_) => !self.rules.is_empty(),
        }
    }
}

/// What the rules of topics ask for.
#[derive(Default)]
struct ByRules {
    /// For which state of the log this was found, and when.
    view: Option<LogView>,
    found_at: UnixMillis,
    /// When the next record becomes too old for its rule.
    next_due: UnixMillis,
    /// What the records that the rules have not been applied to make too much.
    superseded: Arc<Batch>,
    /// Of each rule, up to where its records are too old.
    expired_upto: Vec<Offset>,
    /// Of each topic, the newest record that is too old.
    expired_topics: HashMap<Box<str>, Offset>,
}

impl ByRules {
    fn find(
        &mut self,
        txn: &ReadTransaction,
        view: LogView,
        rules: &Rules,
        now: UnixMillis,
    ) -> Result<(), redb::Error> {
        if self.view == Some(view) && now < self.next_due {
            return Ok(());
        }
        let tables = (
            txn.open_table(BLOCKS)?,
            txn.open_table(QUEUES)?,
            txn.open_table(ACCOUNTS)?,
            txn.open_table(NEWEST)?,
        );
        let mut ledger = Ledger::new(tables, rules, view.floor, false);
        let applied_upto = view.progress.applied_upto.max(view.floor);
        let (records, _) = ledger.next_records(applied_upto, view.head, usize::MAX)?;
        for (offset, summary) in &records {
            topic_retention::apply(rules, &mut ledger, *offset, summary)?;
        }
        self.superseded = Arc::new(ledger.removed());
        self.next_due = UnixMillis::MAX;
        self.expired_upto.resize(rules.all().len(), 0);
        let blocks = txn.open_table(BLOCKS)?;
        for number in 0..rules.all().len() {
            self.expire(&blocks, &ledger, rules, number, now)?;
        }
        (self.view, self.found_at) = (Some(view), now);
        Ok(())
    }

    /// Goes on through the queue of a rule as far as its records are too old.
    fn expire<B, Q, N>(
        &mut self,
        blocks: &B,
        ledger: &Ledger<B, Q, N>,
        rules: &Rules,
        number: usize,
        now: UnixMillis,
    ) -> Result<(), redb::Error>
    where
        B: ReadableTable<Offset, &'static [u8]>,
        Q: ReadableTable<&'static [u8], &'static [u8]>,
        N: ReadableTable<&'static str, &'static [u8]>,
    {
        let rule = &rules.all()[number];
        let Some(max_age) = rule.max_age else {
            return Ok(());
        };
        loop {
            let some = ledger.queue_after(number, self.expired_upto[number])?;
            if some.is_empty() {
                return Ok(());
            }
            for offset in some {
                let topics = &mut self.expired_topics;
                let young = view_at(blocks, offset, |view| {
                    let is_young = rule
                        .too_old_at(now)
                        .is_none_or(|at| view.retention_time(now) > at);
                    if !is_young {
                        for topic in view.topics {
                            topics.insert(topic.into(), offset);
                        }
                    }
                    is_young.then(|| view.retention_time(now))
                })?;
                if let Some(ages_from) = young.flatten() {
                    self.next_due = self.next_due.min(due_at(Some(max_age), ages_from));
                    return Ok(());
                }
                self.expired_upto[number] = offset;
            }
        }
    }

    /// The newest removed offset after `after` that readers of a scope are to hear of.
    fn newest(&self, after: Offset, scope: &Scope) -> Option<Offset> {
        let expired = match scope {
            Scope::Topics(topics) => topics
                .iter()
                .filter_map(|topic| self.expired_topics.get(topic.as_str()).copied())
                .max(),
            Scope::All => self.expired_topics.values().copied().max(),
            Scope::Matching(pattern) => self
                .expired_topics
                .iter()
                .filter(|(topic, offset)| **offset > after && pattern.matches(topic))
                .map(|(_, offset)| *offset)
                .max(),
        };
        let superseded = self.superseded.newest(after, scope);
        superseded.max(expired.filter(|offset| *offset > after))
    }
}

/// What the bound by age of the whole log asks for.
#[derive(Default)]
struct ByAge {
    found_at: UnixMillis,
    /// For which state of the log, and when, the rules had been applied: a rule may take the next record.
    rules_found: Option<(LogView, UnixMillis)>,
    /// Everything up to here is too old.
    upto: Offset,
    /// The next record, and when it is too old; [`Offset::MAX`] when there was none.
    next: Offset,
    next_due: UnixMillis,
    /// Up to where there were records.
    head: Offset,
}

impl ByAge {
    fn is_outdated(
        &self,
        view: LogView,
        now: UnixMillis,
        rules_found: Option<(LogView, UnixMillis)>,
    ) -> bool {
        let was_at_end = self.next == Offset::MAX;
        now < self.found_at
            || rules_found != self.rules_found
            || now >= self.next_due
            || self.next <= view.floor
            || was_at_end && view.head > self.head
    }

    /// Goes on through the log as far as its records are too old; returns the next, and from when its age counts.
    fn pass(
        &mut self,
        blocks: &impl ReadableTable<Offset, &'static [u8]>,
        view: LogView,
        (now, too_old): (UnixMillis, UnixMillis),
        due: &Due,
    ) -> Result<Option<(Offset, UnixMillis)>, redb::Error> {
        self.upto = self.upto.max(view.floor);
        self.head = view.head;
        for entry in blocks.range(self.upto + 1..)? {
            let (last, bytes) = entry?;
            let last = last.value();
            let Ok(block) = RecordBlock::decode(last, bytes.value()) else {
                // What is damaged goes with what is before it, but not the newest.
                if last >= view.head {
                    return Ok(None);
                }
                self.upto = last;
                continue;
            };
            for (offset, bytes) in block.records_from(self.upto + 1) {
                if offset > view.head {
                    return Ok(None);
                }
                if bytes.is_empty() && offset <= view.progress.newest_removed {
                    continue;
                }
                match RecordView::decode(offset, bytes) {
                    // It goes by its rule, and the floor passes it with the next record.
                    Ok(record) if due.has(offset, &record) => continue,
                    Ok(record) if record.retention_time(now) > too_old => {
                        return Ok(Some((offset, record.retention_time(now))));
                    }
                    Err(_) if offset >= view.head => return Ok(None),
                    Ok(_) | Err(_) => self.upto = offset,
                }
            }
        }
        Ok(None)
    }
}
