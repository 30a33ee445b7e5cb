//! How often things happen.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Counts occurrences: in the last minute, and in total.
///
/// The minute is made of slices of five seconds; what is counted reaches back 60 to 65 seconds, so the last
/// minute is always whole. Adding takes two atomic operations and never waits. A slice holds up to 2^32 - 1.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::SlidingCounter;
///
/// let start = Instant::now();
/// let errors = SlidingCounter::new(start);
/// errors.add(3, start + Duration::from_secs(30));
/// assert_eq!(errors.last_minute(start + Duration::from_secs(85)), 3);
/// assert_eq!(errors.last_minute(start + Duration::from_secs(100)), 0);
/// assert_eq!(errors.total(), 3);
/// ```
pub struct SlidingCounter {
    origin: Instant,
    /// In the upper half one more than the number of the slice of time, in the lower its count. One word, so that they
    /// change together.
    slices: [AtomicU64; SLICES],
    total: AtomicU64,
}

impl SlidingCounter {
    /// A counter that begins at `origin`.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            slices: [const { AtomicU64::new(0) }; SLICES],
            total: AtomicU64::new(0),
        }
    }

    /// Counts `n` occurrences at `now`.
    pub fn add(&self, n: u32, now: Instant) {
        self.total.fetch_add(n.into(), Relaxed);
        let number = self.number(now);
        let slice = &self.slices[number as usize % SLICES];
        // The closure gives `None` if the slice has moved on: `now` is older than the window then.
        let _ = slice.fetch_update(Relaxed, Relaxed, |word| {
            let (current, count) = unpack(word);
            match current.cmp(&number) {
                std::cmp::Ordering::Less => Some(pack(number, n)),
                std::cmp::Ordering::Equal => Some(pack(number, count.saturating_add(n))),
                std::cmp::Ordering::Greater => None,
            }
        });
    }

    /// How many there were in the last minute.
    #[must_use]
    pub fn last_minute(&self, now: Instant) -> u64 {
        let newest = self.number(now);
        let oldest = newest.saturating_sub(SLICES as u32 - 1).max(1);
        self.slices
            .iter()
            .map(|slice| unpack(slice.load(Relaxed)))
            .filter(|(number, _)| (oldest..=newest).contains(number))
            .map(|(_, count)| u64::from(count))
            .sum()
    }

    /// The mean rate per second over the last minute, or since the beginning if that is less.
    #[must_use]
    pub fn per_second(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.origin);
        let into_slice = Duration::from_nanos((since.as_nanos() % SLICE.as_nanos()) as u64);
        let covered = since.min(WINDOW + into_slice);
        // In its first second a server has no rate worth the name.
        self.last_minute(now) as f64 / covered.max(Duration::from_secs(1)).as_secs_f64()
    }

    /// How many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    fn number(&self, now: Instant) -> u32 {
        let slices = now.saturating_duration_since(self.origin).as_secs() / SLICE.as_secs() + 1;
        u32::try_from(slices).unwrap_or(u32::MAX) // reached after 680 years
    }
}

impl fmt::Debug for SlidingCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingCounter")
            .field("total", &self.total())
            .finish_non_exhaustive()
    }
}

fn pack(number: u32, count: u32) -> u64 {
    u64::from(number) << 32 | u64::from(count)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

const WINDOW: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_secs(5);

/// The slices of a minute, and the one that is being filled.
const SLICES: usize = 13;

/// The traffic of a server: what was published, delivered, and went wrong.
#[derive(Debug)]
pub struct Traffic {
    /// Events taken from publishers.
    pub published: SlidingCounter,
    /// Events that a reader's connection has taken.
    pub delivered: SlidingCounter,
    /// Readers that were let go because they took nothing, or that missed events.
    pub failed: SlidingCounter,
    /// Events that readers missed, at most: what is between the two ends of a gap.
    pub missed: SlidingCounter,
    /// Errors of any kind that an operator should know of.
    pub errors: SlidingCounter,
}

impl Traffic {
    /// Counters that begin at `origin`.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            published: SlidingCounter::new(origin),
            delivered: SlidingCounter::new(origin),
            failed: SlidingCounter::new(origin),
            missed: SlidingCounter::new(origin),
            errors: SlidingCounter::new(origin),
        }
    }

    /// The figures that a report shows.
    #[must_use]
    pub fn summary(&self, now: Instant) -> TrafficSummary {
        TrafficSummary {
            published_total: self.published.total(),
            delivered_total: self.delivered.total(),
            failed_total: self.failed.total(),
            missed_total: self.missed.total(),
            errors_total: self.errors.total(),
            delivered_last_minute: self.delivered.last_minute(now),
            failed_last_minute: self.failed.last_minute(now),
            missed_last_minute: self.missed.last_minute(now),
            errors_last_minute: self.errors.last_minute(now),
            published_per_second: self.published.per_second(now),
            delivered_per_second: self.delivered.per_second(now),
        }
    }
}

/// The figures of [`Traffic`] that reports show.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TrafficSummary {
    /// Events taken from publishers since the start.
    pub published_total: u64,
    /// Deliveries since the start.
    pub delivered_total: u64,
    /// Readers that took nothing or missed events, since the start.
    pub failed_total: u64,
    /// Events that readers missed since the start, at most.
    pub missed_total: u64,
    /// Errors since the start.
    pub errors_total: u64,
    /// Deliveries in the last minute.
    pub delivered_last_minute: u64,
    /// Readers that took nothing or missed events, in the last minute.
    pub failed_last_minute: u64,
    /// Events that readers missed in the last minute, at most.
    pub missed_last_minute: u64,
    /// Errors in the last minute.
    pub errors_last_minute: u64,
    /// The mean rate of publishing over the last minute.
    pub published_per_second: f64,
    /// The mean rate of delivery over the last minute.
    pub delivered_per_second: f64,
}

impl TrafficSummary {
    /// Deliveries made, or missed, in the last minute.
    #[must_use]
    pub fn attempted_last_minute(&self) -> u64 {
        self.delivered_last_minute
            .saturating_add(self.missed_last_minute)
    }

    /// Deliveries made, divided by those that should have been, over the last minute; 1 if there was none.
    #[must_use]
    pub fn success_rate(&self) -> f64 {
        match self.attempted_last_minute() {
            0 => 1.0,
            attempted => self.delivered_last_minute as f64 / attempted as f64,
        }
    }
}
