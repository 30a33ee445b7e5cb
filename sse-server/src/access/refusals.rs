//! What a limit refuses: counted, and told now and then.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often one limit has refused somebody.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    total: AtomicU64,
    untold: Mutex<Untold>,
}

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    /// The first of them.
    example: Option<String>,
    told_at: Option<Instant>,
}

/// Refusals that are worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusalsToTell {
    /// How many there were since the last line.
    pub(crate) count: u64,
    /// Who met the first of them.
    pub(crate) example: String,
}

impl Refusals {
    /// Somebody was refused.
    pub(crate) fn record(&self, who: &impl Display) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut untold = self.untold.lock();
        untold.count += 1;
        untold.example.get_or_insert_with(|| who.to_string());
    }

    /// How often, since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// What is to be told now: something at most once in ten seconds.
    pub(crate) fn to_tell(&self, now: Instant) -> Option<RefusalsToTell> {
        let mut untold = self.untold.lock();
        let was_told_lately = untold
            .told_at
            .is_some_and(|at| now.saturating_duration_since(at) < PAUSE);
        if was_told_lately {
            return None;
        }
        let example = untold.example.take()?;
        untold.told_at = Some(now);
        Some(RefusalsToTell {
            count: std::mem::take(&mut untold.count),
            example,
        })
    }
}

/// Between two lines of one limit. A stated guess: a log can be read at that pace.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_burst_of_refusals_is_one_line_and_what_follows_comes_in_the_next_one() {
        let refusals = Refusals::default();
        let begun = clock::now();
        let told = |seconds| {
            let told = refusals.to_tell(begun + Duration::from_secs(seconds));
            told.map(|it| (it.count, it.example))
        };
        assert_eq!(told(0), None);
        for who in ["ann", "bob", "bob"] {
            refusals.record(&who);
        }
        assert_eq!(told(1), Some((3, "ann".to_owned())));
        refusals.record(&"cleo");
        refusals.record(&"ann");
        assert_eq!(told(2), None);
        assert_eq!(told(10), None);
        assert_eq!(told(11), Some((2, "cleo".to_owned())));
        assert_eq!(told(30), None);
        assert_eq!(refusals.total(), 5);
    }
}
