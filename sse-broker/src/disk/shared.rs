//! What publishers, readers and the writer share, and how the writer gets its work.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::due::ReadRetention;
use super::index::Index;
use super::log_state::LogState;
use super::pending::{Encoded, EpochCall, EraseCall, StateCall, TrimCall};
use super::shared_database::SharedDatabase;
use crate::queue::{Batch, Waiting};
use crate::{Bounds, LogHealth, LogTime, Tail};

/// What publishers, readers and the writer share.
pub(super) struct Shared {
    pub(super) database: SharedDatabase,
    pub(super) index: Index,
    pub(super) queue: Mutex<Queue>,
    pub(super) changed: Condvar,
    pub(super) bounds: Mutex<Bounds>,
    pub(super) health: Mutex<LogHealth>,
    pub(super) tail: OnceLock<Arc<dyn Tail>>,
    pub(super) max_group_bytes: usize,
    pub(super) retention: ReadRetention,
    /// The time that was said last, for the seal.
    pub(super) time: Mutex<Option<LogTime>>,
    /// The time that the seal had when the log was opened.
    pub(super) last_time: Option<LogTime>,
}

pub(super) struct Queue {
    pub(super) waiting: Waiting<Encoded>,
    pub(super) trims: Vec<TrimCall>,
    pub(super) states: Vec<StateCall>,
    pub(super) epochs: Vec<EpochCall>,
    pub(super) erases: Vec<EraseCall>,
    pub(super) life: Life,
}

pub(super) enum Life {
    Open,
    /// Nothing more is taken; these wait for the end.
    Closing(Vec<oneshot::Sender<()>>),
    Closed,
}

/// How often an idle writer looks whether its file is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the writer takes from the queue at once; nothing at all when it has waited for long.
#[derive(Default)]
pub(super) struct Work {
    pub(super) group: VecDeque<Batch<Encoded>>,
    pub(super) trims: Vec<TrimCall>,
    pub(super) states: Vec<StateCall>,
    pub(super) epochs: Vec<EpochCall>,
    pub(super) erases: Vec<EraseCall>,
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

impl Shared {
    /// Takes all that waits; when `may_wait`, waits until there is something.
    ///
    /// Publishers that were answered together come back together, each at its own moment: a commit
    /// that takes only the first of them makes all others wait for it. So when fewer wait than were
    /// answered last, the writer lets the other threads run a little, and looks again.
    pub(super) fn next_work(&self, may_wait: bool, pace: Pace) -> Work {
        let mut queue = self.queue.lock();
        let mut has_lingered = false;
        loop {
            let is_closing = !matches!(queue.life, Life::Open);
            let has_work = !queue.waiting.is_empty()
                || !queue.trims.is_empty()
                || !queue.states.is_empty()
                || !queue.epochs.is_empty()
                || !queue.erases.is_empty();
            let is_first_of_many = (1..pace.last_group).contains(&queue.waiting.len());
            if is_first_of_many && !is_closing && !has_lingered {
                has_lingered = true;
                let begun = Instant::now();
                while queue.waiting.len() < pace.last_group && begun.elapsed() < pace.patience {
                    MutexGuard::unlocked(&mut queue, std::thread::yield_now);
                }
            }
            if has_work || is_closing || !may_wait {
                let group = queue.waiting.take_group(self.max_group_bytes);
                let trims = std::mem::take(&mut queue.trims);
                let states = std::mem::take(&mut queue.states);
                let epochs = std::mem::take(&mut queue.epochs);
                let erases = std::mem::take(&mut queue.erases);
                return Work {
                    group,
                    trims,
                    states,
                    epochs,
                    erases,
                    is_closing,
                };
            }
            if self.changed.wait_for(&mut queue, LOOK_EVERY).timed_out() {
                // Nothing to do, and time to see whether the file is still there.
                return Work::default();
            }
        }
    }

    pub(super) fn set_bounds(&self, state: &LogState) {
        *self.bounds.lock() = state.bounds();
    }

    /// The writer is at its end.
    pub(super) fn has_closed(&self) {
        let (life, waiting, trims, states, epochs, erases) = {
            let mut queue = self.queue.lock();
            let life = std::mem::replace(&mut queue.life, Life::Closed);
            (
                life,
                queue.waiting.take_group(usize::MAX),
                std::mem::take(&mut queue.trims),
                std::mem::take(&mut queue.states),
                std::mem::take(&mut queue.epochs),
                std::mem::take(&mut queue.erases),
            )
        };
        // Without their senders those who wait are told, too: after a panic there may be some.
        drop((waiting, trims, states, epochs, erases));
        if let Life::Closing(waiting) = life {
            for closed in waiting {
                let _ = closed.send(());
            }
        }
    }
}
