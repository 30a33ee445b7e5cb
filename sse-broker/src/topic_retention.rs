//! Topic retention: which records the rules of topics remove, decided here for every backend.
//!
//! The rules are applied to each record once, in the order of the log, after it was committed. A record belongs
//! to the one rule that all its topics have, or to none. The rule's account and the lists of its topics' newest
//! records then say what is too much, and the oldest of that is removed. So the cost is that of the records that
//! came and went, and the outcome does not depend on how they were grouped into commits.
//!
//! A backend keeps what must be remembered in between, behind [`RuleStore`]:
//!
//! * the *queue* of a rule that counts: the offsets of its records, oldest first, and their *account*;
//! * the *newest* of each topic whose rule keeps the latest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Offset, TopicRetention, UnixMillis};

/// The rules, and which topic has which.
pub(crate) struct Rules {
    rules: Arc<[TopicRetention]>,
    /// Topics that were asked about before: patterns are matched once as long as this has room.
    known: Mutex<HashMap<Box<str>, Option<usize>>>,
}

/// As many topics as are remembered with their rule; then it is all forgotten. Some ten megabytes.
const MAX_KNOWN: usize = 65_536;

impl Rules {
    pub(crate) fn new(rules: &[TopicRetention]) -> Self {
        Self {
            rules: rules.into(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn all(&self) -> &Arc<[TopicRetention]> {
        &self.rules
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A number that changes with the rules; 0 for none.
    #[cfg(feature = "disk")]
    pub(crate) fn fingerprint(rules: &[TopicRetention]) -> u64 {
        if rules.is_empty() {
            return 0;
        }
        let mut hash = crate::record::Fingerprint::default();
        for rule in rules {
            hash.number(rule.topics.len() as u64);
            rule.topics
                .iter()
                .for_each(|topic| hash.text(topic.as_str()));
            let age = rule.max_age.map(|age| age.as_secs_f64().to_bits());
            let latest = rule.keep_latest.map(|n| u64::from(n.get()));
            for number in [age, rule.max_records, rule.max_bytes, latest] {
                hash.number(number.map_or(0, |number| number.saturating_add(1)));
            }
        }
        hash.0.max(1)
    }

    /// The rule that all these topics have.
    pub(crate) fn rule_of<'a>(&self, mut topics: impl Iterator<Item = &'a str>) -> Option<usize> {
        let rule = self.rule_of_topic(topics.next()?)?;
        topics
            .all(|topic| self.rule_of_topic(topic) == Some(rule))
            .then_some(rule)
    }

    /// The first rule that means the topic.
    pub(crate) fn rule_of_topic(&self, topic: &str) -> Option<usize> {
        if self.rules.is_empty() {
            return None;
        }
        if let Some(known) = self.known.lock().get(topic) {
            return *known;
        }
        // Patterns are matched while no lock is held.
        let found = self.rules.iter().position(|rule| rule.means(topic));
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(topic.into(), found);
        found
    }
}

/// What the records of a rule come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) records: u64,
    pub(crate) weight_bytes: u64,
}

impl Account {
    fn add(&mut self, weight_bytes: u64) {
        self.records += 1;
        self.weight_bytes += weight_bytes;
    }

    fn subtract(&mut self, weight_bytes: u64) {
        self.records = self.records.saturating_sub(1);
        // What was damaged when it went has left its weight behind.
        let rest = self.weight_bytes.saturating_sub(weight_bytes);
        self.weight_bytes = if self.records == 0 { 0 } else { rest };
    }
}

/// What the rules look at in a record.
pub(crate) trait RecordSummary {
    fn topics(&self) -> impl Iterator<Item = &str>;
    fn retention_time(&self, now: UnixMillis) -> UnixMillis;
    fn weight_bytes(&self) -> u64;
}

/// What a backend keeps for the rules.
pub(crate) trait RuleStore {
    type Summary: RecordSummary;
    type Error;

    fn account(&mut self, rule: usize) -> Result<&mut Account, Self::Error>;
    /// Puts a record at the end of a rule's queue.
    fn enqueue(&mut self, rule: usize, offset: Offset);
    /// The first of a rule's queue.
    fn first(&mut self, rule: usize) -> Result<Option<Offset>, Self::Error>;
    /// Takes a record out of a rule's queue, wherever it stands.
    fn dequeue(&mut self, rule: usize, offset: Offset);
    /// The newest records of a topic, oldest first; for changing.
    fn newest(&mut self, topic: &str) -> Result<&mut VecDeque<Offset>, Self::Error>;
    /// A record, when it is there and whole.
    fn summary(&mut self, offset: Offset) -> Result<Option<Self::Summary>, Self::Error>;
    /// Removes a record from the log; `announced` when its topics' readers are to hear of it.
    fn remove(
        &mut self,
        offset: Offset,
        summary: Self::Summary,
        announced: bool,
    ) -> Result<(), Self::Error>;
}

/// Applies the rules to the next record of the log, and removes what is too much then.
pub(crate) fn apply<S: RuleStore>(
    rules: &Rules,
    store: &mut S,
    offset: Offset,
    summary: &S::Summary,
) -> Result<(), S::Error> {
    let Some(number) = rules.rule_of(summary.topics()) else {
        return Ok(());
    };
    let all = Arc::clone(rules.all());
    let rule = &all[number];
    if rule.is_counted() {
        store.account(number)?.add(summary.weight_bytes());
        store.enqueue(number, offset);
    }
    if let Some(keep) = rule.keep_latest {
        let keep = keep.get().min(TopicRetention::MAX_KEEP_LATEST);
        let mut superseded = BTreeSet::new();
        for topic in summary.topics() {
            let newest = store.newest(topic)?;
            if newest.back() != Some(&offset) {
                newest.push_back(offset);
            }
            while newest.len() > keep as usize {
                superseded.extend(newest.pop_front());
            }
        }
        for offset in superseded {
            // A value that another replaced is no loss; what is gone of a history is one.
            remove(
                rule,
                number,
                store,
                offset,
                Reason::Superseded {
                    announced: keep > 1,
                },
            )?;
        }
    }
    loop {
        let Account {
            records,
            weight_bytes,
        } = *store.account(number)?;
        if !rule.is_counted() || !rule.is_over(records, weight_bytes) {
            return Ok(());
        }
        let Some(first) = store.first(number)? else {
            // Damage has left a count of what is not there.
            *store.account(number)? = Account::default();
            return Ok(());
        };
        remove(rule, number, store, first, Reason::TooMuch)?;
    }
}

/// Removes what is too old at `now`, `budget` records at most; false when there is more of it.
pub(crate) fn expire<S: RuleStore>(
    rules: &Rules,
    store: &mut S,
    now: UnixMillis,
    budget: usize,
) -> Result<bool, S::Error> {
    let mut left = budget;
    for (number, rule) in rules.all().iter().enumerate() {
        let Some(too_old) = rule.too_old_at(now) else {
            continue;
        };
        while let Some(first) = store.first(number)? {
            let ages_from = store.summary(first)?.map(|it| it.retention_time(now));
            if ages_from.is_some_and(|at| at > too_old) {
                break;
            }
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            remove(rule, number, store, first, Reason::TooMuch)?;
        }
    }
    Ok(true)
}

/// Takes a record that the bounds of the whole log have removed out of what is kept for its rule.
pub(crate) fn forget<S: RuleStore>(
    rules: &Rules,
    store: &mut S,
    offset: Offset,
    summary: &S::Summary,
) -> Result<(), S::Error> {
    let Some(number) = rules.rule_of(summary.topics()) else {
        return Ok(());
    };
    let all = Arc::clone(rules.all());
    forget_in(&all[number], number, store, offset, summary)
}

#[derive(Clone, Copy)]
enum Reason {
    Superseded { announced: bool },
    TooMuch,
}

fn remove<S: RuleStore>(
    rule: &TopicRetention,
    number: usize,
    store: &mut S,
    offset: Offset,
    reason: Reason,
) -> Result<(), S::Error> {
    let Some(summary) = store.summary(offset)? else {
        // Damaged: it is out of the rule's account, and stays in the log to be announced.
        if rule.is_counted() {
            store.account(number)?.subtract(0);
            store.dequeue(number, offset);
        }
        return Ok(());
    };
    let announced = match reason {
        Reason::Superseded { announced } => {
            // One of its other topics may still have it among its newest.
            for topic in summary.topics() {
                if store.newest(topic)?.contains(&offset) {
                    return Ok(());
                }
            }
            announced
        }
        Reason::TooMuch => true,
    };
    forget_in(rule, number, store, offset, &summary)?;
    store.remove(offset, summary, announced)
}

/// Takes a record out of all that is kept for its rule.
fn forget_in<S: RuleStore>(
    rule: &TopicRetention,
    number: usize,
    store: &mut S,
    offset: Offset,
    summary: &S::Summary,
) -> Result<(), S::Error> {
    if rule.is_counted() {
        store.account(number)?.subtract(summary.weight_bytes());
        store.dequeue(number, offset);
    }
    if rule.keep_latest.is_some() {
        for topic in summary.topics() {
            let newest = store.newest(topic)?;
            if newest.contains(&offset) {
                newest.retain(|at| *at != offset);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Topic, TopicPattern};

    #[derive(Debug)]
    struct Beginning(&'static str);

    impl TopicPattern for Beginning {
        fn matches(&self, topic: &str) -> bool {
            topic.starts_with(self.0)
        }

        fn as_str(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn a_record_has_the_rule_that_all_its_topics_have() {
        let exact = TopicRetention::of([Arc::new(Topic::new("job/1").expect("a topic")) as _]);
        let jobs = TopicRetention::of([Arc::new(Beginning("job/")) as _]);
        let rules = Rules::new(&[exact, jobs]);
        for (topics, rule) in [
            (&["job/1"][..], Some(0)),
            (&["job/2"], Some(1)),
            (&["job/2", "job/3", "job/2"], Some(1)),
            (&["job/1", "job/2"], None),
            (&["job/2", "other"], None),
            (&["other"], None),
            (&[], None),
        ] {
            // The second time it is remembered.
            for _ in 0..2 {
                assert_eq!(rules.rule_of(topics.iter().copied()), rule, "{topics:?}");
            }
        }
    }
}
