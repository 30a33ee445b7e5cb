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

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{ReadableTable, WriteTransaction};
use tokio::sync::oneshot;

use super::block::Block;
use super::codec::{RecordView, encode};
use super::commit::{self, Done, Group};
use super::ids::{self, IdAt};
use super::open::{LogState, Place, put_meta};
use super::states::StateCall;
use super::storage::{Failure, Watch};
use super::tables::{BLOCKS, IDS, META, TOPICS, run_key, run_offsets};
use super::{DurableConfig, Shared};
use crate::queue::Batch;
use crate::{AppendError, Appended, NewRecord, Record, Retention, Trimmed, UnixMillis};

/// A record with its bytes, which the publisher's own thread has made.
pub(super) struct Encoded {
    pub(super) content: NewRecord,
    pub(super) bytes: Vec<u8>,
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
    trimming: Option<TrimCalls>,
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
struct TrimCalls {
    too_old: Option<UnixMillis>,
    records: u64,
    answers: Vec<oneshot::Sender<Result<Trimmed, AppendError>>>,
}

/// How many records a commit trims at most: some milliseconds.
const MAX_TRIM: u64 = 4096;

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
        self.load_ids();
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

    /// Before anything is written, but while readers are served already.
    fn load_ids(&mut self) {
        let loaded = match self.shared.slot.lend() {
            Some(db) => self.shared.index.load_ids(&db, &self.state),
            None => Ok(()),
        };
        if let Err(error) = loaded {
            // An id that is not found would be stored twice.
            self.mode = Mode::Fenced(error.to_string().into());
        }
    }

    fn begin_trimming(&mut self, call: TrimCall) {
        let trimming = self.trimming.get_or_insert_with(|| TrimCalls {
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
            let group = Group {
                batches: &mut group,
                states: &states,
                too_old: self.trimming.as_ref().and_then(|calls| calls.too_old),
                is_trim_called: self.trimming.is_some(),
            };
            commit::commit(&db, &self.config, &self.state, &self.shared.index, group)
        };
        let outcome = match (self.watch.failure(), outcome) {
            // redb was told that all is well; it is not.
            (Some(failure), outcome) => {
                if let Ok(done) = outcome {
                    done.take_back(&self.shared.index);
                }
                Err(failure)
            }
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
        let opened = opened.map_err(|error| {
            self.shared.slot.close();
            Arc::from(format!("after the disk was full: {error}"))
        })?;
        self.watch = Arc::clone(&opened.watch);
        let index = &self.shared.index;
        let undo = || -> Result<(), redb::Error> {
            if opened.state.head > self.state.head {
                commit::take_back(&opened.db, self.state.head)?;
            }
            index.replace(opened.read_recent(&index.ids)?);
            Ok(())
        };
        let undone = undo().map_err(|error| Arc::from(error.to_string()));
        self.state.floor = opened.state.floor;
        self.state.floor_weight = opened.state.floor_weight;
        self.shared.slot.bring(opened.db);
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
        done.note(&self.shared.index, &group);
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
            // When it fails, the next to open the log takes this for a crash: rightly.
            let _ = commit::write_end(&db, &self.state, &self.shared.index);
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

fn is_over(retention: &Retention, state: &LogState) -> bool {
    retention.is_over(
        state.head - state.floor,
        state.head_weight - state.floor_weight,
    )
}

/// What was trimmed.
pub(super) struct Trimming {
    pub(super) records: u64,
    /// Whether there is more to do.
    pub(super) has_more: bool,
    /// The ids that no record has any more.
    pub(super) ids: Vec<IdAt>,
}

/// Takes out the oldest records as far as retention asks, but not many more than [`MAX_TRIM`].
///
/// The floor moves record by record; a block leaves the file when all of it is below.
pub(super) fn trim(
    txn: &WriteTransaction,
    retention: &Retention,
    too_old: Option<UnixMillis>,
    state: &mut LogState,
) -> Result<Trimming, redb::Error> {
    let mut done = Trimming {
        records: 0,
        has_more: false,
        ids: Vec::new(),
    };
    if !is_over(retention, state) && too_old.is_none() {
        return Ok(done);
    }
    let mut topics: HashSet<Box<str>> = HashSet::new();
    let old_floor = state.floor;
    let mut blocks = txn.open_table(BLOCKS)?;
    'blocks: for entry in blocks.range(state.floor + 1..)? {
        let (last, bytes) = entry?;
        let last = last.value();
        if state.floor - old_floor >= MAX_TRIM {
            done.has_more = true;
            break;
        }
        let Ok(block) = Block::decode(last, bytes.value()) else {
            // What is damaged goes with what is before it, but not the newest.
            if last >= state.head {
                break;
            }
            state.floor = last;
            continue;
        };
        for (offset, bytes) in block.records_from(state.floor + 1) {
            let view = RecordView::decode(offset, bytes);
            let goes = is_over(retention, state)
                || view.is_ok_and(|view| too_old.is_some_and(|time| view.published_at <= time))
                || view.is_err() && offset < state.head;
            if !goes {
                break 'blocks;
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
            }
        }
    }
    done.records = state.floor - old_floor;
    if done.records == 0 {
        return Ok(done);
    }
    blocks.retain_in(..=state.floor, |_, _| false)?;

    let mut lists = txn.open_table(IDS)?;
    lists.retain_in(..=state.floor, |last, value| {
        // What a damaged list has forgotten is passed over when it is found.
        done.ids
            .extend(ids::list(&last.to_le_bytes(), value).into_iter().flatten());
        false
    })?;
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
    Ok(done)
}
