//! How a thread that is busy for long yields its processor.

use std::time::{Duration, Instant};

/// How long a reading thread may go on before it yields.
///
/// Where no processor is idle, a thread that is woken waits until a running one has used up its time slice, some
/// milliseconds; and a publish is several threads that wake each other. A reading thread therefore yields every
/// 20 µs, which costs half a microsecond when nobody waits. Its next turn is half as long as the others took, so
/// that a busy machine slows a replay down to a third and cannot stop it.
#[derive(Debug)]
pub(super) struct YieldBudget {
    /// Until then this thread may go on.
    turn_ends: Instant,
}

impl Default for YieldBudget {
    fn default() -> Self {
        Self {
            turn_ends: Instant::now() + TURN,
        }
    }
}

impl YieldBudget {
    /// Yields the processor when the turn is over.
    pub(super) fn yield_when_spent(&mut self) {
        let begun = Instant::now();
        if begun >= self.turn_ends {
            std::thread::yield_now();
            let back = Instant::now();
            self.turn_ends = back + TURN.max((back - begun) / 2);
        }
    }
}

/// How long others may have to wait: much less than a commit takes, and much more than the check costs.
const TURN: Duration = Duration::from_micros(20);
