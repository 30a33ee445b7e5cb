//! How a thread that is busy for long lets others go first.

use std::time::{Duration, Instant};

/// A thread that reads for a long time, and lets who waits for its processor go first every now and then.
///
/// A thread that is woken waits until a running one has used up its share, some milliseconds, where no processor is
/// idle: and a publish is several threads that wake each other. The reader gives its processor up every 20 µs
/// instead, which costs half a microsecond when nobody wants it. Half as long as the others took then is its own next
/// turn, so that a machine that is busy with something else slows a replay down to a third and not to nothing.
#[derive(Debug)]
pub(super) struct Courtesy {
    /// Until then it is this thread's turn.
    turn_ends: Instant,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self {
            turn_ends: Instant::now() + TURN,
        }
    }
}

impl Courtesy {
    /// Lets others go first, when this thread has had its turn.
    pub(super) fn after_you(&mut self) {
        let begun = Instant::now();
        if begun >= self.turn_ends {
            std::thread::yield_now();
            let back = Instant::now();
            self.turn_ends = back + TURN.max((back - begun) / 2);
        }
    }
}

/// So long nobody waits for a reader: much less than a commit takes, and much more than asking costs.
const TURN: Duration = Duration::from_micros(20);
