//! What is kept for the rules of topics between commits, and what changes of it.
//!
//! The tables are read as far as it is asked for, and changes are collected in memory. A commit writes them with
//! [`Ledger::finish`]; a reader, which only wants to know what the rules will remove, drops them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use redb::{ReadableTable, Table, WriteTransaction};

use super::block::RecordBlock;
use super::checked::{checked, with_checksum};
use super::codec::{RecordView, TopicCache};
use super::log_state::{LogState, RuleProgress};
use super::runs::{MAX_RUN, run_key, run_offsets, run_value, take_out_of_runs};
use super::scan::view_at;
use super::tables::{ACCOUNTS, BLOCKS, META, NEWEST, QUEUES};
use super::tombstones;
use crate::record::retention_time;
use crate::topic_retention::{Account, RecordSummary, RuleStore, Rules};
use crate::{Offset, UnixMillis};

/// What the rules look at in a record, copied out of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    topics: Vec<Box<str>>,
    published_at: UnixMillis,
    ages_from: Option<UnixMillis>,
    weight_bytes: u64,
    running_weight: u64,
}

impl Summary {
    pub(super) fn new(view: &RecordView<'_>) -> Self {
        Self {
            topics: view.topics.map(Box::from).collect(),
            published_at: view.published_at,
            ages_from: view.ages_from,
            weight_bytes: view.weight_bytes(),
            running_weight: view.running_weight,
        }
    }
}

impl RecordSummary for Summary {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(AsRef::as_ref)
    }

    fn retention_time(&self, now: UnixMillis) -> UnixMillis {
        retention_time(self.published_at, self.ages_from, now)
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// What is kept for the rules, as far as it was asked for, and what is to change.
pub(super) struct Ledger<Blocks, Queues, Named> {
    blocks: Blocks,
    queues: Queues,
    accounts: Named,
    newest: Named,
    floor: Offset,
    rules: Vec<Queue>,
    /// The newest of topics that were asked for, and what they were before.
    loaded: HashMap<Box<str>, (VecDeque<Offset>, Vec<Offset>)>,
    /// Whether the ids of removed records are to be remembered.
    keeps_ids: bool,
    removed: tombstones::Batch,
    totals: RuleProgress,
}

/// The ledger of a commit.
pub(super) type WriteLedger<'txn> = Ledger<
    Table<'txn, Offset, &'static [u8]>,
    Table<'txn, &'static [u8], &'static [u8]>,
    Table<'txn, &'static str, &'static [u8]>,
>;

/// The queue of a rule: in its table, less what is to go, and then what is to come.
struct Queue {
    /// The rule's number: with other rules all is made anew.
    name: String,
    account: Option<(Account, Account)>,
    /// What was read of the table and is not done with.
    front: VecDeque<Offset>,
    /// Where reading goes on; `None` at the end.
    next_run: Option<Offset>,
    gone: BTreeSet<Offset>,
    come: BTreeSet<Offset>,
}

impl Queue {
    fn new(number: usize) -> Self {
        Self {
            name: number.to_string(),
            account: None,
            front: VecDeque::new(),
            next_run: Some(0),
            gone: BTreeSet::new(),
            come: BTreeSet::new(),
        }
    }
}

impl<Blocks, Queues, Named> Ledger<Blocks, Queues, Named>
where
    Blocks: ReadableTable<Offset, &'static [u8]>,
    Queues: ReadableTable<&'static [u8], &'static [u8]>,
    Named: ReadableTable<&'static str, &'static [u8]>,
{
    /// Of these tables; a log's floor is told apart, because what is up to it is of no interest any more.
    pub(super) fn new(
        (blocks, queues, accounts, newest): (Blocks, Queues, Named, Named),
        rules: &Rules,
        floor: Offset,
        keeps_ids: bool,
    ) -> Self {
        Self {
            blocks,
            queues,
            accounts,
            newest,
            floor,
            rules: (0..rules.all().len()).map(Queue::new).collect(),
            loaded: HashMap::new(),
            keeps_ids,
            removed: tombstones::Batch::default(),
            totals: RuleProgress::default(),
        }
    }

    /// The next whole records after `after`, `max` at most, and up to where these are all.
    pub(super) fn next_records(
        &self,
        after: Offset,
        upto: Offset,
        max: usize,
    ) -> Result<(Vec<(Offset, Summary)>, Offset), redb::Error> {
        let mut records = Vec::new();
        for entry in self.blocks.range(after + 1..)? {
            let (last, bytes) = entry?;
            let Ok(block) = RecordBlock::decode(last.value(), bytes.value()) else {
                continue;
            };
            for (offset, bytes) in block.records_from(after + 1) {
                if offset > upto {
                    return Ok((records, upto));
                }
                if records.len() >= max {
                    return Ok((records, offset - 1));
                }
                if let Ok(view) = RecordView::decode(offset, bytes) {
                    records.push((offset, Summary::new(&view)));
                }
            }
        }
        Ok((records, upto.max(after)))
    }

    /// The next offsets of a rule's queue after `after`, some of them; none at its end.
    pub(super) fn queue_after(
        &self,
        rule: usize,
        after: Offset,
    ) -> Result<Vec<Offset>, redb::Error> {
        let queue = &self.rules[rule];
        let (first, here) = (run_key(&queue.name, 0), run_key(&queue.name, after));
        let last = run_key(&queue.name, Offset::MAX);
        let before = self.queues.range::<&[u8]>(&*first..=&*here)?.next_back();
        let later = (Bound::Excluded(&*here), Bound::Included(&*last));
        for entry in before.into_iter().chain(self.queues.range::<&[u8]>(later)?) {
            let (key, value) = entry?;
            let run = run_offsets(key.value(), value.value()).unwrap_or_default();
            let is_next = |at: &Offset| *at > after.max(self.floor) && !queue.gone.contains(at);
            let next: Vec<_> = run.into_iter().filter(is_next).collect();
            if !next.is_empty() {
                return Ok(next);
            }
        }
        let later = (Bound::Excluded(after), Bound::Unbounded);
        Ok(queue.come.range(later).copied().collect())
    }

    /// How many records were removed.
    pub(super) fn removed_records(&self) -> u64 {
        self.totals.records
    }

    /// What was removed, when nothing is to be written.
    pub(super) fn removed(&mut self) -> tombstones::Batch {
        std::mem::take(&mut self.removed)
    }
}

impl<'txn> WriteLedger<'txn> {
    pub(super) fn open(
        txn: &'txn WriteTransaction,
        rules: &Rules,
        floor: Offset,
    ) -> Result<Self, redb::Error> {
        let tables = (
            txn.open_table(BLOCKS)?,
            txn.open_table(QUEUES)?,
            txn.open_table(ACCOUNTS)?,
            txn.open_table(NEWEST)?,
        );
        Ok(Self::new(tables, rules, floor, true))
    }

    /// The same, and the ids of what it removes are free again.
    pub(super) fn forgetting_ids(self) -> Self {
        Self {
            keeps_ids: false,
            ..self
        }
    }

    /// Takes the removed records out of their blocks.
    fn rewrite_blocks(&mut self) -> Result<(), redb::Error> {
        let mut from = 0;
        while let Some(next) = self.removed.first_from(from) {
            let (last, rewritten) = match self.blocks.range(next..)?.next() {
                None => break,
                Some(entry) => {
                    let (last, bytes) = entry?;
                    let last = last.value();
                    // It was whole when it was looked at.
                    let block = RecordBlock::decode(last, bytes.value()).ok();
                    let bytes = block.map(|block| block.without(|at| self.removed.has(at)));
                    (last, bytes)
                }
            };
            match rewritten {
                Some(Some(bytes)) => _ = self.blocks.insert(last, &*bytes)?,
                Some(None) => _ = self.blocks.remove(last)?,
                None => {}
            }
            from = last + 1;
        }
        Ok(())
    }

    /// Takes out the runs of queues that end at or before the floor.
    pub(super) fn forget_queues_upto(&mut self, floor: Offset) -> Result<(), redb::Error> {
        for rule in &mut self.rules {
            // The floor has taken them; they need not be taken one by one.
            rule.gone = rule.gone.split_off(&(floor + 1));
            let (first, last) = (run_key(&rule.name, 0), run_key(&rule.name, floor));
            let is_gone = |key: &[u8], value: &[u8]| {
                run_offsets(key, value)
                    .map_or(true, |run| run.last().is_none_or(|last| *last <= floor))
            };
            self.queues
                .retain_in::<&[u8], _>(&*first..=&*last, |key, value| !is_gone(key, value))?;
        }
        Ok(())
    }

    /// Writes what has changed, but for the indexes.
    pub(super) fn finish(
        mut self,
        txn: &WriteTransaction,
        state: &mut LogState,
    ) -> Result<tombstones::Batch, redb::Error> {
        self.rewrite_blocks()?;
        let Self {
            blocks,
            queues,
            accounts,
            newest,
            rules,
            loaded,
            removed,
            totals,
            ..
        } = self;
        drop(blocks);
        write_rules(queues, accounts, rules)?;
        write_newest(newest, loaded)?;

        let progress = &mut state.retention;
        progress.records += totals.records;
        progress.weight_bytes += totals.weight_bytes;
        progress.newest_removed = progress.newest_removed.max(totals.newest_removed);
        progress.newest_removed_weight = progress
            .newest_removed_weight
            .max(totals.newest_removed_weight);
        let forgotten = removed.store(txn)?;
        progress.forgotten_upto = progress.forgotten_upto.max(forgotten);
        progress.put(&mut txn.open_table(META)?)?;
        Ok(removed)
    }
}

fn write_rules(
    mut queues: Table<'_, &'static [u8], &'static [u8]>,
    mut accounts: Table<'_, &'static str, &'static [u8]>,
    rules: Vec<Queue>,
) -> Result<(), redb::Error> {
    for rule in rules {
        let gone: Vec<_> = rule.gone.into_iter().collect();
        take_out_of_runs(&mut queues, &rule.name, &gone)?;
        let come: Vec<_> = rule.come.into_iter().collect();
        for run in come.chunks(MAX_RUN) {
            let key = run_key(&rule.name, run[0]);
            queues.insert(&*key, &*run_value(&key, run))?;
        }
        if let Some((account, before)) = rule.account
            && account != before
        {
            let mut bytes = account.records.to_le_bytes().to_vec();
            bytes.extend_from_slice(&account.weight_bytes.to_le_bytes());
            let value = with_checksum(rule.name.as_bytes(), &bytes);
            accounts.insert(&*rule.name, &*value)?;
        }
    }
    Ok(())
}

fn write_newest(
    mut newest: Table<'_, &'static str, &'static [u8]>,
    loaded: HashMap<Box<str>, (VecDeque<Offset>, Vec<Offset>)>,
) -> Result<(), redb::Error> {
    for (topic, (offsets, before)) in loaded {
        if offsets.iter().eq(&before) {
            continue;
        }
        match offsets.front() {
            Some(first) => {
                let offsets: Vec<_> = offsets.iter().copied().collect();
                let mut value = first.to_be_bytes().to_vec();
                value.extend(run_value(&run_key(&topic, *first), &offsets));
                newest.insert(&*topic, &*value)?;
            }
            None => _ = newest.remove(&*topic)?,
        }
    }
    Ok(())
}

impl<Blocks, Queues, Named> RuleStore for Ledger<Blocks, Queues, Named>
where
    Blocks: ReadableTable<Offset, &'static [u8]>,
    Queues: ReadableTable<&'static [u8], &'static [u8]>,
    Named: ReadableTable<&'static str, &'static [u8]>,
{
    type Summary = Summary;
    type Error = redb::Error;

    fn account(&mut self, rule: usize) -> Result<&mut Account, redb::Error> {
        let rule = &mut self.rules[rule];
        if rule.account.is_none() {
            let stored = self.accounts.get(&*rule.name)?;
            let bytes = stored
                .as_ref()
                .and_then(|value| checked(rule.name.as_bytes(), value.value()).ok())
                .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let number = |at: usize| {
                bytes.map_or(0, |bytes| {
                    u64::from_le_bytes(bytes[at..].first_chunk().copied().unwrap_or_default())
                })
            };
            let account = Account {
                records: number(0),
                weight_bytes: number(8),
            };
            rule.account = Some((account, account));
        }
        let (account, _) = rule.account.as_mut().expect("it was put there just now");
        Ok(account)
    }

    fn enqueue(&mut self, rule: usize, offset: Offset) {
        self.rules[rule].come.insert(offset);
    }

    fn first(&mut self, rule: usize) -> Result<Option<Offset>, redb::Error> {
        let rule = &mut self.rules[rule];
        loop {
            while let Some(first) = rule.front.front() {
                if *first > self.floor && !rule.gone.contains(first) {
                    return Ok(Some(*first));
                }
                rule.front.pop_front();
            }
            let Some(from) = rule.next_run else {
                return Ok(rule.come.first().copied());
            };
            let (from, last) = (run_key(&rule.name, from), run_key(&rule.name, Offset::MAX));
            rule.next_run = None;
            if let Some(entry) = self.queues.range::<&[u8]>(&*from..=&*last)?.next() {
                let (key, value) = entry?;
                let begins = key
                    .value()
                    .last_chunk()
                    .map_or(0, |b| Offset::from_be_bytes(*b));
                rule.next_run = begins.checked_add(1);
                // A damaged run is passed over: its records stay until the floor takes them.
                rule.front = run_offsets(key.value(), value.value())
                    .unwrap_or_default()
                    .into();
            }
        }
    }

    fn dequeue(&mut self, rule: usize, offset: Offset) {
        let rule = &mut self.rules[rule];
        if !rule.come.remove(&offset) {
            rule.gone.insert(offset);
        }
    }

    fn newest(&mut self, topic: &str) -> Result<&mut VecDeque<Offset>, redb::Error> {
        if !self.loaded.contains_key(topic) {
            let stored = self.newest.get(topic)?;
            let offsets = stored.as_ref().and_then(|value| {
                let (first, value) = value.value().split_first_chunk()?;
                run_offsets(&run_key(topic, Offset::from_be_bytes(*first)), value).ok()
            });
            let offsets = offsets.unwrap_or_default();
            let newest = offsets.iter().copied().collect();
            self.loaded.insert(topic.into(), (newest, offsets));
        }
        let (newest, _) = self
            .loaded
            .get_mut(topic)
            .expect("it was put there just now");
        Ok(newest)
    }

    fn summary(&mut self, offset: Offset) -> Result<Option<Summary>, redb::Error> {
        if self.removed.has(offset) {
            return Ok(None);
        }
        Ok(view_at(&self.blocks, offset, |view| Summary::new(&view))?)
    }

    fn remove(
        &mut self,
        offset: Offset,
        summary: Summary,
        announced: bool,
    ) -> Result<(), redb::Error> {
        let old_id = if self.keeps_ids {
            view_at(&self.blocks, offset, |view| {
                let id = view.publisher_id()?.to_owned();
                let record = view.to_record(&mut TopicCache::default()).ok()?;
                Some((id, record.fingerprint()))
            })?
            .flatten()
        } else {
            None
        };
        let totals = &mut self.totals;
        totals.records += 1;
        totals.weight_bytes += summary.weight_bytes;
        totals.newest_removed = totals.newest_removed.max(offset);
        totals.newest_removed_weight = totals.newest_removed_weight.max(summary.running_weight);
        self.removed.add(offset, summary.topics, old_id, announced);
        Ok(())
    }
}
