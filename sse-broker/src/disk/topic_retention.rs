//! The rules of topics on disk: what is kept for them between commits, and taking records from the middle.
//!
//! The rules are shown each record once, with a commit after the one that stored it, so that nothing is ever
//! taken for a record that is not safe itself. How far they have come stands in the same commit as what they
//! did; a crash repeats or loses nothing. With other rules than before, all that was kept for the old ones is
//! dropped and the log is shown to the new ones from its floor on, a bounded piece with each commit.

use std::collections::{BTreeSet, HashMap, VecDeque};

use redb::{ReadableTable, Table, WriteTransaction};

use super::block::Block;
use super::codec::{RecordView, TopicCache};
use super::open::{LogState, put_meta};
use super::tables::{
    ACCOUNTS, BLOCKS, MAX_RUN, META, NEWEST, QUEUES, checked, run_key, run_offsets, run_value,
    take_out_of_runs, with_checksum,
};
use super::tombstones;
use crate::topic_retention::{self, Account, RuleStore, Rules, Seen};
use crate::{Offset, UnixMillis};

/// Where the rules stand, and what they have taken. All zero when there never was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thinned {
    /// Which rules they are.
    pub(super) rules: u64,
    /// Everything up to here was shown to them.
    pub(super) shown_upto: Offset,
    /// How many records they have taken above the floor.
    pub(super) records: u64,
    /// And what these weighed.
    pub(super) weight_bytes: u64,
    /// The newest record they have taken.
    pub(super) newest: Offset,
    /// What all records up to that one weighed.
    pub(super) newest_weight: u64,
    /// What was removed up to here may have been forgotten.
    pub(super) forgotten_upto: Offset,
}

impl Thinned {
    pub(super) const BYTES: usize = 7 * 8;

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |n: usize| {
            let bytes = bytes[n * 8..].first_chunk().copied();
            u64::from_le_bytes(bytes.unwrap_or_default())
        };
        Self {
            rules: number(0),
            shown_upto: number(1),
            records: number(2),
            weight_bytes: number(3),
            newest: number(4),
            newest_weight: number(5),
            forgotten_upto: number(6),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = [
            self.rules,
            self.shown_upto,
            self.records,
            self.weight_bytes,
            self.newest,
            self.newest_weight,
            self.forgotten_upto,
        ];
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Whether there is anything to look at but the plain log.
    pub(super) fn is_in_use(&self) -> bool {
        *self != Self::default()
    }

    /// Notes where the rules stand.
    pub(super) fn put(
        self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), redb::StorageError> {
        put_meta(meta, NAME, &self.to_bytes())
    }

    /// Begins anew when the rules are not those that were.
    pub(super) fn begin(
        &mut self,
        txn: &WriteTransaction,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
        rules: u64,
        floor: Offset,
    ) -> Result<(), redb::Error> {
        if self.rules == rules {
            return Ok(());
        }
        txn.delete_table(QUEUES)?;
        txn.delete_table(ACCOUNTS)?;
        txn.delete_table(NEWEST)?;
        self.rules = rules;
        self.shown_upto = floor;
        Ok(self.put(meta)?)
    }
}

/// The entry of `meta`.
pub(super) const NAME: &str = "thinned";

/// How many records the rules are shown in a commit, and take at most: some milliseconds.
const MAX_PIECE: usize = 4096;

/// What the rules have done in a commit.
#[derive(Default)]
pub(super) struct Thinning {
    /// How many records went.
    pub(super) taken: u64,
    /// Whether there is more to do.
    pub(super) has_more: bool,
    /// What is still to be taken out of the indexes.
    pub(super) removed: tombstones::Batch,
}

/// Shows the rules what was committed `upto` here, and takes what is too much and, at `now`, too old.
pub(super) fn thin(
    txn: &WriteTransaction,
    rules: &mut Rules,
    upto: Offset,
    now: Option<UnixMillis>,
    state: &mut LogState,
) -> Result<Thinning, redb::Error> {
    let mut done = Thinning::default();
    if rules.is_empty() {
        return Ok(done);
    }
    state.thinned.shown_upto = state.thinned.shown_upto.max(state.floor);
    if state.thinned.shown_upto >= upto && now.is_none() {
        return Ok(done);
    }
    let mut shelf = Shelf::open(txn, rules, state)?;
    let (piece, shown_upto) = shelf.next_piece(state.thinned.shown_upto, upto)?;
    state.thinned.shown_upto = shown_upto;
    done.has_more = shown_upto < upto;
    for (offset, seen) in &piece {
        topic_retention::feed(rules, &mut shelf, *offset, seen)?;
    }
    if let (Some(now), false) = (now, done.has_more) {
        done.has_more = !topic_retention::expire(rules, &mut shelf, now, MAX_PIECE)?;
    }
    done.taken = shelf.taken.records;
    done.removed = shelf.finish(txn, state)?;
    Ok(done)
}

/// Tells the rules what the bounds of the whole log have taken, and forgets what is known of removed records up
/// to the floor.
pub(super) fn trimmed(
    txn: &WriteTransaction,
    rules: &mut Rules,
    gone: &[(Offset, Taken)],
    state: &mut LogState,
) -> Result<(), redb::Error> {
    if !state.thinned.is_in_use() {
        return Ok(());
    }
    if !rules.is_empty() {
        let mut shelf = Shelf::open(txn, rules, state)?;
        for (offset, seen) in gone {
            if *offset <= state.thinned.shown_upto {
                topic_retention::trimmed(rules, &mut shelf, *offset, seen)?;
            }
        }
        shelf.forget_queues_upto(state.floor)?;
        shelf.finish(txn, state)?;
    }
    tombstones::forget_upto(txn, state.floor)?;
    state.thinned.shown_upto = state.thinned.shown_upto.max(state.floor);
    Ok(state.thinned.put(&mut txn.open_table(META)?)?)
}

/// A record as the rules see it, taken out of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    topics: Vec<Box<str>>,
    published_at: UnixMillis,
    weight_bytes: u64,
    running_weight: u64,
}

impl Taken {
    pub(super) fn new(view: &RecordView<'_>) -> Self {
        Self {
            topics: view.topics.map(Box::from).collect(),
            published_at: view.published_at,
            weight_bytes: view.weight_bytes(),
            running_weight: view.running_weight,
        }
    }
}

impl Seen for Taken {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(AsRef::as_ref)
    }

    fn published_at(&self) -> UnixMillis {
        self.published_at
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

/// What is kept for the rules, as far as this commit has asked for it, and what it will write.
struct Shelf<'txn> {
    blocks: Table<'txn, Offset, &'static [u8]>,
    queues: Table<'txn, &'static [u8], &'static [u8]>,
    accounts: Table<'txn, &'static str, &'static [u8]>,
    newest: Table<'txn, &'static str, &'static [u8]>,
    floor: Offset,
    rules: Vec<Queue>,
    /// The newest of topics that were asked for, and what they were before.
    loaded: HashMap<Box<str>, (VecDeque<Offset>, Vec<Offset>)>,
    removed: tombstones::Batch,
    taken: Thinned,
}

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

impl<'txn> Shelf<'txn> {
    fn open(
        txn: &'txn WriteTransaction,
        rules: &Rules,
        state: &LogState,
    ) -> Result<Self, redb::Error> {
        let queue = |number: usize| Queue {
            name: number.to_string(),
            account: None,
            front: VecDeque::new(),
            next_run: Some(0),
            gone: BTreeSet::new(),
            come: BTreeSet::new(),
        };
        Ok(Self {
            blocks: txn.open_table(BLOCKS)?,
            queues: txn.open_table(QUEUES)?,
            accounts: txn.open_table(ACCOUNTS)?,
            newest: txn.open_table(NEWEST)?,
            floor: state.floor,
            rules: (0..rules.all().len()).map(queue).collect(),
            loaded: HashMap::new(),
            removed: tombstones::Batch::default(),
            taken: Thinned::default(),
        })
    }

    /// The next whole records that the rules have not seen, and up to where these are all.
    fn next_piece(
        &self,
        after: Offset,
        upto: Offset,
    ) -> Result<(Vec<(Offset, Taken)>, Offset), redb::Error> {
        let mut piece = Vec::new();
        for entry in self.blocks.range(after + 1..)? {
            let (last, bytes) = entry?;
            let Ok(block) = Block::decode(last.value(), bytes.value()) else {
                continue;
            };
            for (offset, bytes) in block.records_from(after + 1) {
                if offset > upto {
                    return Ok((piece, upto));
                }
                if piece.len() >= MAX_PIECE {
                    return Ok((piece, offset - 1));
                }
                if let Ok(view) = RecordView::decode(offset, bytes) {
                    piece.push((offset, Taken::new(&view)));
                }
            }
        }
        Ok((piece, upto.max(after)))
    }

    /// Shows a record, when it is there and whole.
    fn look_at<T>(
        &self,
        offset: Offset,
        look: impl FnOnce(RecordView<'_>) -> Option<T>,
    ) -> Result<Option<T>, redb::Error> {
        let Some(entry) = self.blocks.range(offset..)?.next() else {
            return Ok(None);
        };
        let (last, bytes) = entry?;
        Ok(Block::decode(last.value(), bytes.value())
            .ok()
            .and_then(|block| block.record(offset))
            .and_then(|bytes| RecordView::decode(offset, bytes).ok())
            .and_then(look))
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
                    let block = Block::decode(last, bytes.value()).ok();
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
    fn forget_queues_upto(&mut self, floor: Offset) -> Result<(), redb::Error> {
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
    fn finish(
        mut self,
        txn: &WriteTransaction,
        state: &mut LogState,
    ) -> Result<tombstones::Batch, redb::Error> {
        self.rewrite_blocks()?;
        let Self {
            blocks,
            mut queues,
            mut accounts,
            mut newest,
            rules,
            loaded,
            removed,
            taken,
            ..
        } = self;
        drop(blocks);
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
        drop((queues, accounts, newest));

        let thinned = &mut state.thinned;
        thinned.records += taken.records;
        thinned.weight_bytes += taken.weight_bytes;
        thinned.newest = thinned.newest.max(taken.newest);
        thinned.newest_weight = thinned.newest_weight.max(taken.newest_weight);
        let forgotten = removed.store(txn)?;
        thinned.forgotten_upto = thinned.forgotten_upto.max(forgotten);
        thinned.put(&mut txn.open_table(META)?)?;
        Ok(removed)
    }
}

impl RuleStore for Shelf<'_> {
    type Seen = Taken;
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

    fn seen(&mut self, offset: Offset) -> Result<Option<Taken>, redb::Error> {
        if self.removed.has(offset) {
            return Ok(None);
        }
        self.look_at(offset, |view| Some(Taken::new(&view)))
    }

    fn remove(&mut self, offset: Offset, seen: Taken, announced: bool) -> Result<(), redb::Error> {
        let old_id = self.look_at(offset, |view| {
            let id = view.publisher_id()?.to_owned();
            let record = view.to_record(&mut TopicCache::default()).ok()?;
            Some((id, record.fingerprint()))
        })?;
        self.taken.records += 1;
        self.taken.weight_bytes += seen.weight_bytes;
        self.taken.newest = self.taken.newest.max(offset);
        self.taken.newest_weight = self.taken.newest_weight.max(seen.running_weight);
        self.removed.add(offset, seen.topics, old_id, announced);
        Ok(())
    }
}
