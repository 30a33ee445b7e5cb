//! The one thread that writes.
//!
//! It takes all that waits, puts it into one transaction, commits, and only then tells the tail and
//! answers; what arrived meanwhile is the next group. Trimming goes along in the same transactions, a
//! bounded piece at a time.
//!
//! ```text
//!              disk full                       any other failure
//!   Full ◀───────────────── Writing ──────────────────────────────▶ Fenced
//!     │                        ▲
//!     └────────────────────────┘
//!       opened again, with what was refused taken out
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use super::codec::{RecordView, TopicCache, encode, seal};
use super::open::{LogState, Place, panic_message, put_meta};
use super::states::{self, StateCall};
use super::storage::{Failure, Watch};
use super::tables::{
    IDS, MAX_RUN, META, RECORDS, SNAPSHOTS, TOPICS, run_key, run_offsets, run_value, with_checksum,
};
use super::{DurableConfig, Shared};
use crate::queue::Batch;
use crate::{
    AppendError, Appended, Durability, NewRecord, Offset, Position, Record, Retention, Snapshot,
    Trimmed, UnixMillis,
};

/// A record with its bytes, which the publisher's own thread has made.
pub(super) struct Encoded {
    pub(super) content: NewRecord,
    bytes: Vec<u8>,
}

impl Encoded {
    pub(super) fn new(content: NewRecord) -> Self {
        let bytes = encode(&content);
        Self { content, bytes }
    }
}

/// A call of `trim` that waits for its end.
pub(super) struct TrimCall {
    pub(super) now: UnixMillis,
    pub(super) answer: oneshot::Sender<Result<Trimmed, AppendError>>,
}

/// What the writer takes from the queue at once.
pub(super) struct Work {
    pub(super) group: VecDeque<Batch<Encoded>>,
    pub(super) trims: Vec<TrimCall>,
    pub(super) states: Vec<StateCall>,
    pub(super) is_closing: bool,
}

/// What the last commit says about the next.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    /// How many publishers it answered.
    pub(super) last_group: usize,
    /// How long is worth waiting for them: a small part of what it took.
    pub(super) patience: Duration,
}

/// What part of a commit's time is worth spending on a fuller group.
const PATIENCE: u32 = 8;

pub(super) struct Writer {
    shared: Arc<Shared>,
    place: Place,
    config: DurableConfig,
    watch: Arc<Watch>,
    state: LogState,
    mode: Mode,
    trimming: Option<Trimming>,
    /// Whether the bounds by count and bytes ask for more than the last commit trimmed.
    is_behind: bool,
    pace: Pace,
}

enum Mode {
    Writing,
    /// The disk was full in the middle of a commit; the storage is frozen until it is opened again.
    Full {
        since: Instant,
    },
    Fenced(Arc<str>),
}

/// Trimming by age that is under way.
struct Trimming {
    too_old: Option<UnixMillis>,
    records: u64,
    answers: Vec<oneshot::Sender<Result<Trimmed, AppendError>>>,
}

/// How many records a commit trims at most: some milliseconds.
const MAX_TRIM: usize = 4096;

/// What a commit may need of the disk besides a few times what it stores.
const COMMIT_RESERVE_BYTES: u64 = 256 * 1024;

/// How many times the bytes of a group its commit may take: pages are copied, half filled, indexed.
const COMMIT_FACTOR: u64 = 4;

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        place: Place,
        config: DurableConfig,
        watch: Arc<Watch>,
        state: LogState,
    ) -> Self {
        let is_behind = is_over(&config.retention, &state);
        Self {
            shared,
            place,
            config,
            watch,
            state,
            mode: Mode::Writing,
            trimming: None,
            is_behind,
            pace: Pace::default(),
        }
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) {
        let ended = Ended(Arc::clone(&self.shared));
        loop {
            let has_more = self.trimming.is_some() || self.is_behind;
            let Work {
                group,
                trims,
                states,
                is_closing,
            } = self.shared.next_work(!has_more, self.pace);
            for call in trims {
                self.begin_trimming(call);
            }
            let is_idle = group.is_empty() && states.is_empty();
            let (begun, last_group) = (Instant::now(), group.len());
            self.round(group, states);
            self.pace = Pace {
                last_group,
                patience: begun.elapsed() / PATIENCE,
            };
            if is_closing && is_idle {
                break;
            }
        }
        // Trimming may have been under way.
        self.refuse(VecDeque::new(), Vec::new(), &AppendError::Closed);
        self.close();
        drop(ended);
    }

    fn begin_trimming(&mut self, call: TrimCall) {
        let trimming = self.trimming.get_or_insert_with(|| Trimming {
            too_old: None,
            records: 0,
            answers: Vec::new(),
        });
        trimming.too_old = trimming
            .too_old
            .max(self.config.retention.too_old_at(call.now));
        trimming.answers.push(call.answer);
    }

    /// Commits one group and a piece of trimming, and answers.
    fn round(&mut self, mut group: VecDeque<Batch<Encoded>>, states: Vec<StateCall>) {
        if let Err(error) = self.ready_for(&group) {
            return self.refuse(group, states, &error);
        }
        let outcome = {
            let Some(db) = self.shared.slot.lend() else {
                return self.refuse(group, states, &AppendError::Closed);
            };
            let too_old = self.trimming.as_ref().and_then(|trimming| trimming.too_old);
            let commit = || {
                commit(
                    &db,
                    &self.config,
                    &self.state,
                    &mut group,
                    &states,
                    too_old,
                    self.trimming.is_some(),
                )
            };
            // A damaged file may make redb panic.
            catch_unwind(AssertUnwindSafe(commit))
                .unwrap_or_else(|panic| Err(panic_message(&*panic).into()))
        };
        let outcome = match (self.watch.failure(), outcome) {
            // redb was told that all is well; it is not.
            (Some(failure), _) => Err(failure),
            (None, outcome) => outcome.map_err(|reason| Failure {
                is_full: false,
                reason,
            }),
        };
        match outcome {
            Ok(done) => self.finish(group, states, done),
            Err(failure) => {
                let error = if failure.is_full {
                    self.mode = Mode::Full {
                        since: Instant::now(),
                    };
                    AppendError::Full
                } else {
                    self.mode = Mode::Fenced(Arc::clone(&failure.reason));
                    AppendError::Fenced {
                        reason: failure.reason,
                    }
                };
                self.refuse(group, states, &error);
            }
        }
    }

    /// Whether anything can be written now; opens the log again when the disk was full and is not.
    fn ready_for(&mut self, group: &VecDeque<Batch<Encoded>>) -> Result<(), AppendError> {
        if let Mode::Fenced(reason) = &self.mode {
            return Err(AppendError::Fenced {
                reason: Arc::clone(reason),
            });
        }
        let weight: usize = group.iter().map(|batch| batch.weight_bytes).sum();
        // Trimming is let through: it is how space comes back, and what the reserve is for.
        if weight > 0 || matches!(self.mode, Mode::Full { .. }) {
            let needed = (weight as u64).saturating_mul(COMMIT_FACTOR) + COMMIT_RESERVE_BYTES;
            let needed = needed.saturating_add(self.config.min_free_bytes);
            if self
                .place
                .available_bytes()
                .is_some_and(|available| available < needed)
            {
                return Err(AppendError::Full);
            }
        }
        if let Mode::Full { since } = self.mode {
            // Opening may mean to check the whole file: not for every publisher that knocks.
            if since.elapsed() < self.config.full_retry_after {
                return Err(AppendError::Full);
            }
            self.reopen().map_err(|reason| {
                self.mode = Mode::Fenced(Arc::clone(&reason));
                AppendError::Fenced { reason }
            })?;
            self.mode = Mode::Writing;
        }
        Ok(())
    }

    /// Opens the log anew after a full disk, and takes out what the failed commit may have left: its
    /// publishers were told that nothing was stored.
    fn reopen(&mut self) -> Result<(), Arc<str>> {
        self.shared.slot.take_away();
        let opened = self.place.open(&self.config, Some(self.state.epoch));
        let (db, watch, found) = opened.map_err(|error| {
            self.shared.slot.close();
            Arc::from(format!("after the disk was full: {error}"))
        })?;
        self.watch = watch;
        let undone = if found.head > self.state.head {
            take_back(&db, self.state.head, found.head).map_err(|e| Arc::from(e.to_string()))
        } else {
            Ok(())
        };
        self.state.floor = found.floor;
        self.state.floor_weight = found.floor_weight;
        self.shared.slot.bring(db);
        undone
    }

    fn refuse(
        &mut self,
        group: VecDeque<Batch<Encoded>>,
        states: Vec<StateCall>,
        error: &AppendError,
    ) {
        for call in states {
            let _ = call.answer.send(Err(error.clone()));
        }
        for batch in group {
            let _ = batch.answer.send(Err(error.clone()));
        }
        for answer in self
            .trimming
            .take()
            .into_iter()
            .flat_map(|trimming| trimming.answers)
        {
            let _ = answer.send(Err(error.clone()));
        }
        self.is_behind = false;
    }

    fn finish(&mut self, group: VecDeque<Batch<Encoded>>, states: Vec<StateCall>, done: Done) {
        self.state = done.state;
        self.is_behind = done.has_more_to_trim && is_over(&self.config.retention, &self.state);
        self.shared.set_bounds(&self.state);
        let mut stored = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for (batch, outcomes) in group.into_iter().zip(done.outcomes) {
            for (record, outcome) in batch.records.into_iter().zip(&outcomes) {
                if let Appended::Stored(position) = *outcome {
                    stored.push(Arc::new(Record {
                        position,
                        content: record.content,
                    }));
                }
            }
            answers.push((batch.answer, outcomes));
        }
        if let (Some(tail), false) = (self.shared.tail.get(), stored.is_empty()) {
            let tell = || tail.committed(&stored);
            if catch_unwind(AssertUnwindSafe(tell)).is_err() {
                // Its records are safe, but readers may have missed them.
                self.mode = Mode::Fenced("the tail panicked".into());
            }
        }
        for (answer, outcomes) in answers {
            // Whoever dropped the future does not want the answer.
            let _ = answer.send(Ok(outcomes));
        }
        for call in states {
            let _ = call.answer.send(Ok(()));
        }
        if let Some(trimming) = &mut self.trimming {
            trimming.records += done.trimmed;
            if !done.has_more_to_trim {
                let trimmed = Trimmed {
                    records: trimming.records,
                    floor: self.state.floor,
                };
                for answer in self.trimming.take().into_iter().flat_map(|t| t.answers) {
                    let _ = answer.send(Ok(trimmed));
                }
            }
        }
    }

    /// Writes what is left, notes that this was a clean end, and lets the file go.
    fn close(self) {
        if matches!(self.mode, Mode::Writing)
            && let Some(db) = self.shared.slot.lend()
        {
            self.watch.skip_sync(false);
            let ended = || -> Result<(), redb::Error> {
                let txn = db.begin_write()?;
                txn.open_table(META)?.remove("session")?;
                Ok(txn.commit()?)
            };
            // When it fails, the next to open the log takes this for a crash: rightly.
            let _ = catch_unwind(AssertUnwindSafe(ended));
        }
        let close = || self.shared.slot.close();
        let _ = catch_unwind(AssertUnwindSafe(close));
        drop(self.place);
    }
}

/// Tells, however the writer came to its end, that there is nobody any more to write.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.has_closed();
    }
}

/// What a commit did.
pub(super) struct Done {
    pub(super) outcomes: Vec<Vec<Appended>>,
    pub(super) state: LogState,
    trimmed: u64,
    has_more_to_trim: bool,
}

fn is_over(retention: &Retention, state: &LogState) -> bool {
    retention.is_over(
        state.head - state.floor,
        state.head_weight - state.floor_weight,
    )
}

/// One transaction: a group's records and their indexes, and a piece of trimming.
pub(super) fn commit(
    db: &Database,
    config: &DurableConfig,
    before: &LogState,
    group: &mut VecDeque<Batch<Encoded>>,
    states: &[StateCall],
    too_old: Option<UnixMillis>,
    is_trim_called: bool,
) -> Result<Done, Arc<str>> {
    let mut run = || -> Result<Done, redb::Error> {
        let mut state = *before;
        let mut txn = db.begin_write()?;
        if config.durability == Durability::Memory && !is_trim_called {
            // What is told by the time is also when this level goes to the disk.
            txn.set_durability(redb::Durability::None)?;
        }
        let outcomes = decide(&txn, group, &mut state)?;
        if state.head > before.head {
            store(&txn, group, &outcomes, &mut state)?;
        }
        states::store(&txn, states)?;
        let (trimmed, has_more_to_trim) = trim(&txn, &config.retention, too_old, &mut state)?;
        let is_flush = config.durability == Durability::Memory && is_trim_called;
        if state.head > before.head || trimmed > 0 || is_flush || !states.is_empty() {
            txn.commit()?;
        } else {
            txn.abort()?;
        }
        Ok(Done {
            outcomes,
            state,
            trimmed,
            has_more_to_trim,
        })
    };
    run().map_err(|error| error.to_string().into())
}

/// Gives each record its offset, or finds that its id is known. Writes the index of ids.
fn decide(
    txn: &WriteTransaction,
    group: &VecDeque<Batch<Encoded>>,
    state: &mut LogState,
) -> Result<Vec<Vec<Appended>>, redb::Error> {
    let mut outcomes: Vec<Vec<Appended>> = Vec::with_capacity(group.len());
    let all = || group.iter().flat_map(|batch| &batch.records);
    let has_ids = all().any(|record| record.content.publisher_id().is_some());
    let mut ids = if has_ids {
        Some(txn.open_table(IDS)?)
    } else {
        None
    };
    let mut new: HashMap<&str, (Position, &NewRecord)> = HashMap::new();
    for batch in group {
        let mut answers = Vec::with_capacity(batch.records.len());
        for Encoded { content, .. } in &batch.records {
            let position = Position {
                epoch: state.epoch,
                offset: state.head + 1,
            };
            if let (Some(id), Some(ids)) = (content.publisher_id(), &mut ids) {
                let id = id.as_str();
                let compare = |known: &NewRecord, at: Position| {
                    if known.says_the_same_as(content) {
                        Appended::Duplicate(at)
                    } else {
                        Appended::Conflict(at)
                    }
                };
                if let Some((at, known)) = new.get(id) {
                    answers.push(compare(known, *at));
                    continue;
                }
                let before = ids
                    .insert(id.as_bytes(), position.offset)?
                    .map(|at| at.value());
                if let Some(offset) = before
                    && let Some(known) = retained(txn, offset, state)?
                {
                    ids.insert(id.as_bytes(), offset)?;
                    answers.push(compare(
                        &known,
                        Position {
                            epoch: state.epoch,
                            offset,
                        },
                    ));
                    continue;
                }
                new.insert(id, (position, content));
            }
            state.head += 1;
            answers.push(Appended::Stored(position));
        }
        outcomes.push(answers);
    }
    Ok(outcomes)
}

/// The retained record at an offset. One that is damaged is as good as gone: its id may be stored anew.
fn retained(
    txn: &WriteTransaction,
    offset: Offset,
    state: &LogState,
) -> Result<Option<NewRecord>, redb::Error> {
    if offset <= state.floor {
        return Ok(None);
    }
    let records = txn.open_table(RECORDS)?;
    let bytes = records.get(offset)?;
    Ok(bytes.and_then(|bytes| {
        let view = RecordView::decode(offset, bytes.value()).ok()?;
        view.to_record(&mut TopicCache::default()).ok()
    }))
}

/// Writes the records that are new, the index of topics, and the snapshots.
fn store(
    txn: &WriteTransaction,
    group: &mut VecDeque<Batch<Encoded>>,
    outcomes: &[Vec<Appended>],
    state: &mut LogState,
) -> Result<(), redb::Error> {
    let new = group
        .iter_mut()
        .zip(outcomes)
        .flat_map(|(batch, outcomes)| {
            batch
                .records
                .iter_mut()
                .zip(outcomes)
                .filter_map(|(record, outcome)| match outcome {
                    Appended::Stored(position) => Some((position.offset, record)),
                    _ => None,
                })
        });
    let mut by_topic: Vec<(&str, Offset)> = Vec::new();
    let mut snapshots: Vec<(&str, &Snapshot)> = Vec::new();
    {
        let mut records = txn.open_table(RECORDS)?;
        // Offsets ascend, so all go into the gap at the end: about three times as fast as inserting.
        let mut end = records.upper_bound_mut(Bound::<Offset>::Unbounded)?;
        for (offset, record) in new {
            state.head_weight += record.content.weight_bytes() as u64;
            seal(&mut record.bytes, offset, state.head_weight);
            end.insert_before(offset, &*record.bytes)?;
            let content = &record.content;
            by_topic.extend(content.topics.iter().map(|topic| (topic.as_str(), offset)));
            if let (Some(topic), Some(snapshot)) = (content.topics.first(), &content.snapshot) {
                snapshots.push((topic.as_str(), snapshot));
            }
        }
        end.close()?;
    }

    by_topic.sort_unstable();
    by_topic.dedup();
    let mut topics = txn.open_table(TOPICS)?;
    for of_one_topic in by_topic.chunk_by(|a, b| a.0 == b.0) {
        for run in of_one_topic.chunks(MAX_RUN) {
            let offsets: Vec<_> = run.iter().map(|(_, offset)| *offset).collect();
            let key = run_key(run[0].0, offsets[0]);
            let value = run_value(&key, &offsets);
            topics.insert(&*key, &*value)?;
        }
    }

    if !snapshots.is_empty() {
        let mut table = txn.open_table(SNAPSHOTS)?;
        for (topic, snapshot) in snapshots {
            match snapshot {
                Snapshot::Put(bytes) => {
                    table.insert(topic, &*with_checksum(topic.as_bytes(), bytes))?;
                }
                Snapshot::Remove => _ = table.remove(topic)?,
            }
        }
    }
    Ok(())
}

/// Takes out the oldest records as far as retention asks, but no more than [`MAX_TRIM`]; says how many
/// went and whether there is more to do.
fn trim(
    txn: &WriteTransaction,
    retention: &Retention,
    too_old: Option<UnixMillis>,
    state: &mut LogState,
) -> Result<(u64, bool), redb::Error> {
    if !is_over(retention, state) && too_old.is_none() {
        return Ok((0, false));
    }
    let mut records = txn.open_table(RECORDS)?;
    let mut topics: HashSet<Box<str>> = HashSet::new();
    let mut ids: Vec<(Box<str>, Offset)> = Vec::new();
    let old_floor = state.floor;
    let mut has_more = false;
    for (count, entry) in records.range(state.floor + 1..)?.enumerate() {
        let (offset, bytes) = entry?;
        let offset = offset.value();
        let view = RecordView::decode(offset, bytes.value());
        // What is damaged at the log's end goes with the rest.
        let goes = is_over(retention, state)
            || view.is_ok_and(|view| too_old.is_some_and(|time| view.published_at <= time))
            || view.is_err() && offset < state.head;
        if !goes {
            break;
        }
        if count == MAX_TRIM {
            has_more = true;
            break;
        }
        state.floor = offset;
        if let Ok(view) = view {
            state.floor_weight = view
                .running_weight
                .clamp(state.floor_weight, state.head_weight);
            for topic in view.topics {
                if !topics.contains(topic) {
                    topics.insert(topic.into());
                }
            }
            ids.extend(view.id.map(|id| (id.into(), offset)));
        }
    }
    if state.floor == old_floor {
        return Ok((0, false));
    }
    let trimmed = state.floor - old_floor;
    records.retain_in(..=state.floor, |_, _| false)?;

    if !ids.is_empty() {
        let mut table = txn.open_table(IDS)?;
        for (id, offset) in ids {
            // The id may have been stored anew since, after damage.
            if table
                .get(id.as_bytes())?
                .is_some_and(|at| at.value() == offset)
            {
                table.remove(id.as_bytes())?;
            }
        }
    }
    let mut runs = txn.open_table(TOPICS)?;
    for topic in topics {
        let (first, last) = (run_key(&topic, 0), run_key(&topic, state.floor));
        let is_gone = |key: &[u8], value: &[u8]| {
            // A damaged run that begins below the floor is of no use either.
            run_offsets(key, value).map_or(true, |offsets| {
                offsets.last().is_none_or(|last| *last <= state.floor)
            })
        };
        runs.retain_in::<&[u8], _>(&*first..=&*last, |key, value| !is_gone(key, value))?;
    }
    let mut floor = state.floor.to_le_bytes().to_vec();
    floor.extend_from_slice(&state.floor_weight.to_le_bytes());
    put_meta(&mut txn.open_table(META)?, "floor", &floor)?;
    Ok((trimmed, has_more))
}

/// Takes out the records after `head`, which were never acknowledged, and what points at them.
fn take_back(db: &Database, head: Offset, found: Offset) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        let mut records = txn.open_table(RECORDS)?;
        let mut ids = txn.open_table(IDS)?;
        let mut runs = txn.open_table(TOPICS)?;
        for entry in records.range(head + 1..=found)? {
            let (offset, bytes) = entry?;
            let Ok(view) = RecordView::decode(offset.value(), bytes.value()) else {
                continue;
            };
            if let Some(id) = view.id {
                ids.remove(id.as_bytes())?;
            }
            for topic in view.topics {
                let (first, last) = (run_key(topic, head + 1), run_key(topic, Offset::MAX));
                runs.retain_in::<&[u8], _>(&*first..=&*last, |_, _| false)?;
            }
        }
        records.retain_in(head + 1.., |_, _| false)?;
    }
    Ok(txn.commit()?)
}
