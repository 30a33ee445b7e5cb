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

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::commit::{self, Committed, Group};
use super::config::DiskConfig;
use super::location::Location;
use super::log_state::LogState;
use super::open::open;
use super::panics::caught;
use super::pending::{Encoded, EpochCall, EraseCall, StateCall, TrimCall};
use super::shared::{Pace, Shared, Work};
use super::storage::{Failure, Watch};
use crate::queue::Batch;
use crate::topic_retention::Rules;
use crate::{AppendError, Durability, Offset, Tail, Trimmed, UnixMillis};

/// What part of a commit's time is worth spending on a fuller group.
const PATIENCE: u32 = 8;

pub(super) struct Writer {
    shared: Arc<Shared>,
    location: Location,
    config: DiskConfig,
    rules: Arc<Rules>,
    watch: Arc<Watch>,
    state: LogState,
    mode: Mode,
    trimming: Option<TrimCalls>,
    /// Whether there is more to do for retention than the last commit did.
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
    now: UnixMillis,
    records: u64,
    answers: Vec<oneshot::Sender<Result<Trimmed, AppendError>>>,
}

/// What a commit may need of the disk besides a few times what it stores.
const COMMIT_RESERVE_BYTES: u64 = 256 * 1024;

/// How many times the bytes of a group its commit may take: pages are copied, half filled, indexed.
const COMMIT_FACTOR: u64 = 4;

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        location: Location,
        config: DiskConfig,
        watch: Arc<Watch>,
        state: LogState,
    ) -> Self {
        let rules = Arc::clone(&shared.retention.rules);
        let is_behind = config
            .retention
            .is_over(state.records(), state.weight_bytes())
            || !rules.is_empty() && state.retention.applied_upto < state.head;
        Self {
            shared,
            location,
            rules,
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
                epochs,
                erases,
                is_closing,
            } = self.shared.next_work(!has_more, self.pace);
            for call in trims {
                self.begin_trimming(call);
            }
            for call in epochs {
                self.begin_epoch(call);
            }
            for call in erases {
                self.erase(call);
            }
            let is_idle = group.is_empty() && states.is_empty();
            if is_idle && !is_closing && !has_more && self.trimming.is_none() {
                self.check_place_while_idle();
                continue;
            }
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

    /// Stops all writing until the log is opened again.
    fn fence(&mut self, reason: Arc<str>) {
        self.shared.health.lock().fenced = Some(Arc::clone(&reason));
        self.mode = Mode::Fenced(reason);
    }

    /// Notices, while nothing is to be written, that the file has been removed or replaced.
    fn check_place_while_idle(&mut self) {
        if !matches!(self.mode, Mode::Writing) {
            return;
        }
        if let Err(reason) = self.location.check_place() {
            self.fence(reason);
        }
    }

    /// Before anything is written, but while readers are served already.
    fn load_ids(&mut self) {
        let loaded = match self.shared.database.lend() {
            Some(db) => self.shared.index.load_ids(&db, &self.state),
            None => Ok(()),
        };
        if let Err(error) = loaded {
            // An id that is not found would be stored twice.
            self.fence(error.to_string().into());
        }
    }

    fn begin_trimming(&mut self, call: TrimCall) {
        let trimming = self.trimming.get_or_insert_with(|| TrimCalls {
            now: call.now,
            records: 0,
            answers: Vec::new(),
        });
        trimming.now = trimming.now.max(call.now);
        trimming.answers.push(call.answer);
    }

    /// Goes on under another epoch, and tells the tail.
    fn begin_epoch(&mut self, call: EpochCall) {
        let begun = self.ready_for(&VecDeque::new()).and_then(|()| {
            if call.epoch == self.state.epoch {
                return Ok(());
            }
            let Some(db) = self.shared.database.lend() else {
                return Err(AppendError::Closed);
            };
            let outcome = commit::begin_epoch(&db, call.epoch);
            drop(db);
            self.outcome_of(outcome.map_err(|reason| Failure {
                is_full: false,
                reason,
            }))?;
            self.state.epoch = call.epoch;
            self.check_and_seal(self.state.head)?;
            self.shared.set_bounds(&self.state);
            let bounds = self.state.bounds();
            self.tell(|tail| tail.epoch_changed(bounds));
            Ok(())
        });
        let _ = call.answer.send(begun.map(|()| self.state.bounds()));
    }

    /// Removes records in a commit of their own.
    fn erase(&mut self, call: EraseCall) {
        let erased = self.ready_for(&VecDeque::new()).and_then(|()| {
            let Some(db) = self.shared.database.lend() else {
                return Err(AppendError::Closed);
            };
            let (rules, index) = (&self.rules, &self.shared.index);
            let outcome = commit::erase(&db, rules, &self.state, index, &call.offsets);
            drop(db);
            let done = self.outcome_of(outcome.map_err(|reason| Failure {
                is_full: false,
                reason,
            }))?;
            self.check_and_seal(self.state.head)?;
            self.state = done.state;
            done.note(&self.shared.index, &VecDeque::new());
            self.shared.set_bounds(&self.state);
            Ok(done.trimmed)
        });
        let _ = call.answer.send(erased);
    }

    /// What became of a commit: a failure takes the log to the mode that it asks for.
    fn outcome_of<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, AppendError> {
        // redb may have been told that all is well when it is not.
        let failure = match (self.watch.failure(), outcome) {
            (Some(failure), _) | (None, Err(failure)) => failure,
            (None, Ok(done)) => return Ok(done),
        };
        if failure.is_full {
            self.mode = Mode::Full {
                since: Instant::now(),
            };
            return Err(AppendError::Full);
        }
        self.fence(Arc::clone(&failure.reason));
        Err(AppendError::Unknown {
            reason: failure.reason,
        })
    }

    /// The last step before what was committed is acknowledged: checks that the file is still in its place, and notes the new
    /// head in the seal.
    fn check_and_seal(&mut self, head: Offset) -> Result<(), AppendError> {
        if let Err(reason) = self.location.check_place() {
            self.fence(Arc::clone(&reason));
            return Err(AppendError::Unknown { reason });
        }
        if self.config.durability != Durability::Memory {
            self.note_time();
            // Where it cannot be written, the seal asks for less than there is, and no more is lost than without one.
            let _ = self.location.seal(self.state.epoch, head);
        }
        Ok(())
    }

    fn note_time(&self) {
        if let Some(time) = self.shared.time.lock().take() {
            self.location.note_time(time);
        }
    }

    /// Tells the tail, where there is one.
    fn tell(&mut self, tell: impl FnOnce(&dyn Tail)) {
        let Some(tail) = self.shared.tail.get() else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| tell(&**tail))).is_err() {
            // What it was to hear is safe, but readers may have missed it.
            self.fence("the tail panicked".into());
        }
    }

    /// Commits one group and a piece of trimming, and answers.
    fn round(&mut self, mut group: VecDeque<Batch<Encoded>>, states: Vec<StateCall>) {
        if let Err(error) = self.ready_for(&group) {
            return self.refuse(group, states, &error);
        }
        let outcome = {
            let Some(db) = self.shared.database.lend() else {
                return self.refuse(group, states, &AppendError::Closed);
            };
            let group = Group {
                batches: &mut group,
                states: &states,
                now: self.trimming.as_ref().map(|calls| calls.now),
            };
            let (rules, index) = (&self.rules, &self.shared.index);
            commit::commit(&db, &self.config, rules, &self.state, index, group)
        };
        if let (Some(_), Ok(done)) = (self.watch.failure(), &outcome) {
            done.take_back(&self.shared.index);
        }
        let outcome = outcome.map_err(|reason| Failure {
            is_full: false,
            reason,
        });
        match self.outcome_of(outcome).and_then(|done| {
            let head = done.state.head;
            self.check_and_seal(head)
                .inspect_err(|_| done.take_back(&self.shared.index))?;
            Ok(done)
        }) {
            Ok(done) => self.finish(group, states, done),
            Err(error) => self.refuse(group, states, &error),
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
                .location
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
                self.fence(Arc::clone(&reason));
                AppendError::Fenced { reason }
            })?;
            self.mode = Mode::Writing;
        }
        Ok(())
    }

    /// Opens the log anew after a full disk, and takes out what the failed commit may have left: its
    /// publishers were told that nothing was stored.
    fn reopen(&mut self) -> Result<(), Arc<str>> {
        self.shared.database.take_away();
        let opened = open(&self.location, &self.config, Some(self.state.epoch));
        let opened = opened.map_err(|error| {
            self.shared.database.close();
            Arc::from(format!("after the disk was full: {error}"))
        })?;
        self.watch = Arc::clone(&opened.watch);
        let index = &self.shared.index;
        if opened.state.head < self.state.head {
            self.shared.database.close();
            return Err("after the disk was full, records that were acknowledged are gone".into());
        }
        let undo = || -> Result<(), redb::Error> {
            if opened.state.head > self.state.head {
                commit::take_back(&opened.db, self.state.head)?;
            }
            index.replace(opened.read_recent(&index.ids)?);
            Ok(())
        };
        let undo = || undo().map_err(|error| error.to_string());
        let undone = caught(undo, std::convert::identity).map_err(Arc::from);
        self.state.floor = opened.state.floor;
        self.state.floor_weight = opened.state.floor_weight;
        self.state.retention = opened.state.retention;
        self.shared.database.bring(opened.db);
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
            batch.answer(Err(error.clone()));
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

    fn finish(&mut self, group: VecDeque<Batch<Encoded>>, states: Vec<StateCall>, done: Committed) {
        let before = self.state.head;
        self.state = done.state;
        self.is_behind = done.has_more_to_trim;
        done.note(&self.shared.index, &group);
        self.shared.set_bounds(&self.state);
        if self.state.head > before {
            let stored: Vec<_> = commit::stored(&group, &done.outcomes)
                .map(|(_, encoded)| Arc::clone(&encoded.record))
                .collect();
            self.tell(|tail| tail.committed(&stored));
        }
        for (batch, outcomes) in group.into_iter().zip(done.outcomes) {
            batch.answer(Ok(outcomes));
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
                self.shared.retention.has_trimmed(trimming.now);
                for answer in self.trimming.take().into_iter().flat_map(|t| t.answers) {
                    let _ = answer.send(Ok(trimmed));
                }
            }
        }
    }

    /// Writes what is left, notes that this was a clean end, and lets the file go.
    fn close(self) {
        if matches!(self.mode, Mode::Writing)
            && let Some(db) = self.shared.database.lend()
        {
            self.watch.skip_sync(false);
            // When it fails, the next to open the log takes this for a crash: rightly.
            self.note_time();
            let stamp = self.location.next_stamp().unwrap_or_default();
            let written = commit::write_end(&db, &self.state, &self.shared.index, stamp);
            if written.is_ok() && self.watch.failure().is_none() {
                let _ = self.location.seal(self.state.epoch, self.state.head);
            }
        }
        let close = || self.shared.database.close();
        let _ = catch_unwind(AssertUnwindSafe(close));
        drop(self.location);
    }
}

/// Tells publishers and readers that the writer has ended, also when it panicked.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.has_closed();
    }
}
