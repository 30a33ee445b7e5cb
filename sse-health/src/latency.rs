//! How long deliveries take.

use std::{
    fmt,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Measures latencies: over the last minute, and in total.
///
/// Latencies are counted in 736 buckets, exact to a microsecond up to 64 µs and then 32 to each doubling, up to 134 s. A
/// quantile is therefore never too low, and too high by at most 1/32 (3.2 %) plus a microsecond; mean and maximum are exact.
///
/// The window is made of [`SLICES`](Self::SLICES) slices of [`SLICE`](Self::SLICE), so it covers the last 50 to 60 seconds.
/// [`record`](Self::record) takes two or three relaxed atomic operations. When a slice begins, the first to record in it takes a
/// lock for a few microseconds, and whoever comes meanwhile waits. A recorder that is held up between reading
/// the time and counting, for longer than a whole window, counts into a later slice; nothing is ever lost.
///
/// About 18 KiB. Where cores contend for it, keep one for each and [`merge`](Distribution::merge) the distributions.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sse_health::LatencyMonitor;
///
/// let start = Instant::now();
/// let monitor = LatencyMonitor::new(start);
/// for ms in 1..=100 {
///     monitor.record(Duration::from_millis(ms), start);
/// }
/// let latency = monitor.window(start).summary().expect("something was recorded");
/// assert_eq!(latency.mean, Duration::from_micros(50_500));
/// assert_eq!(latency.max, Duration::from_millis(100));
/// assert!((95..=98).contains(&latency.p95.as_millis()));
///
/// let later = start + Duration::from_secs(120);
/// assert_eq!(monitor.window(later).summary(), None);
/// assert_eq!(monitor.total().count(), 100);
/// ```
pub struct LatencyMonitor {
    origin: Instant,
    slices: [Slice; Self::SLICES],
    /// What was counted in slices that have been used again since.
    retired: Mutex<Distribution>,
}

struct Slice {
    /// One more than the number of the slice of time that is counted here; 0 before the first.
    number: AtomicU64,
    buckets: [AtomicU32; BUCKETS],
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl LatencyMonitor {
    /// The slices of the window.
    pub const SLICES: usize = 6;
    /// The length of a slice.
    pub const SLICE: Duration = Duration::from_secs(10);

    /// A monitor that counts from `origin` on.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            slices: [const { Slice::new() }; Self::SLICES],
            retired: Mutex::new(Distribution::new()),
        }
    }

    /// Counts one delivery that took `latency` and ended at `now`. Latencies above 134 s count as that.
    pub fn record(&self, latency: Duration, now: Instant) {
        self.record_many(latency, 1, now);
    }

    /// Counts `count` deliveries that took as long. Costs as much as one: whoever delivers the same thing to many collects
    /// them, which matters most where several threads deliver.
    pub fn record_many(&self, latency: Duration, count: u32, now: Instant) {
        if count == 0 {
            return;
        }
        let number = self.number(now);
        let slice = &self.slices[(number % Self::SLICES as u64) as usize];
        if slice.number.load(Acquire) == number || self.begin(slice, number) {
            slice.record(latency, count);
        } else {
            // `now` is older than the window.
            self.retired.lock().record_many(latency, count);
        }
    }

    /// The latencies of the last 50 to 60 seconds.
    #[must_use]
    pub fn window(&self, now: Instant) -> Distribution {
        let newest = self.number(now);
        let oldest = newest.saturating_sub(Self::SLICES as u64 - 1).max(1);
        let mut sum = Distribution::new();
        for slice in &self.slices {
            if (oldest..=newest).contains(&slice.number.load(Acquire)) {
                slice.add_to(&mut sum);
            }
        }
        sum
    }

    /// All latencies since the beginning.
    #[must_use]
    pub fn total(&self) -> Distribution {
        let retired = self.retired.lock(); // so that no slice is moved there meanwhile
        let mut sum = retired.clone();
        for slice in &self.slices {
            slice.add_to(&mut sum);
        }
        sum
    }

    fn number(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() / Self::SLICE.as_secs() + 1
    }

    /// Makes `slice` count for `number`. False if it already counts for a later one.
    #[cold]
    fn begin(&self, slice: &Slice, number: u64) -> bool {
        let mut retired = self.retired.lock();
        let current = slice.number.load(Relaxed);
        if current < number {
            slice.move_to(&mut retired);
            slice.number.store(number, Release);
        }
        current <= number
    }
}

impl fmt::Debug for LatencyMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyMonitor")
            .field("total", &self.total().summary())
            .finish_non_exhaustive()
    }
}

impl Slice {
    const fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            sum_nanos: AtomicU64::new(0),
            max_nanos: AtomicU64::new(0),
        }
    }

    fn record(&self, latency: Duration, count: u32) {
        let nanos = nanos(latency);
        self.buckets[bucket(nanos)].fetch_add(count, Relaxed);
        self.sum_nanos
            .fetch_add(nanos.saturating_mul(count.into()), Relaxed);
        // Most latencies are no new maximum; a load is cheaper than an exclusive access.
        if self.max_nanos.load(Relaxed) < nanos {
            self.max_nanos.fetch_max(nanos, Relaxed);
        }
    }

    fn add_to(&self, sum: &mut Distribution) {
        for (total, count) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += u64::from(count.load(Relaxed));
        }
        sum.sum_nanos += u128::from(self.sum_nanos.load(Relaxed));
        sum.max_nanos = sum.max_nanos.max(self.max_nanos.load(Relaxed));
    }

    fn move_to(&self, sum: &mut Distribution) {
        for (total, count) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += u64::from(count.swap(0, Relaxed));
        }
        sum.sum_nanos += u128::from(self.sum_nanos.swap(0, Relaxed));
        sum.max_nanos = sum.max_nanos.max(self.max_nanos.swap(0, Relaxed));
    }
}

/// Counted latencies. About 6 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct Distribution {
    buckets: Box<[u64; BUCKETS]>,
    sum_nanos: u128,
    max_nanos: u64,
}

impl Distribution {
    /// No latencies.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            sum_nanos: 0,
            max_nanos: 0,
        }
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Counts `count` latencies that are the same.
    pub fn record_many(&mut self, latency: Duration, count: u32) {
        if count == 0 {
            return;
        }
        let nanos = nanos(latency);
        self.buckets[bucket(nanos)] += u64::from(count);
        self.sum_nanos += u128::from(nanos) * u128::from(count);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (total, count) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *total += count;
        }
        self.sum_nanos += other.sum_nanos;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// How many latencies were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many latencies did not exceed `bound`. Those that came within 1/32 of it may be left out.
    #[must_use]
    pub fn count_up_to(&self, bound: Duration) -> u64 {
        let bound = nanos(bound);
        // The buckets that lie wholly at or below the bound.
        let end = bucket(bound) + usize::from(highest_nanos(bucket(bound)) == bound);
        self.buckets[..end].iter().sum()
    }

    /// The sum of all latencies, exact.
    #[must_use]
    pub fn sum(&self) -> Duration {
        let seconds = u64::try_from(self.sum_nanos / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, (self.sum_nanos % 1_000_000_000) as u32)
    }

    /// The mean; zero if nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.sum_nanos.checked_div(self.count().into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The largest; zero if nothing was counted.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The latency that a share `q` of all does not exceed, by the nearest rank; zero if nothing was counted.
    ///
    /// Never below the exact value, and above it by at most 1/32 of it plus a microsecond. `q` is brought into 0 to 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        // The rank counts from one. `as` brings NaN and negatives to zero.
        let rank = ((q.min(1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (index, &in_bucket) in self.buckets.iter().enumerate() {
            seen += in_bucket;
            if seen >= rank {
                // The last bucket is open above, and no bucket reaches beyond the maximum.
                let nanos = if index == BUCKETS - 1 {
                    self.max_nanos
                } else {
                    highest_nanos(index)
                };
                return Duration::from_nanos(nanos.min(self.max_nanos));
            }
        }
        Duration::ZERO
    }

    /// The figures that a report shows, or `None` if nothing was counted.
    #[must_use]
    pub fn summary(&self) -> Option<LatencySummary> {
        let count = self.count();
        (count > 0).then(|| LatencySummary {
            count,
            mean: self.mean(),
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.max(),
        })
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("summary", &self.summary())
            .finish_non_exhaustive()
    }
}

/// The figures of a [`Distribution`] that reports show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencySummary {
    /// How many deliveries these figures describe.
    pub count: u64,
    /// The mean, exact.
    pub mean: Duration,
    /// The median.
    pub p50: Duration,
    /// What 95 of 100 do not exceed.
    pub p95: Duration,
    /// What 99 of 100 do not exceed.
    pub p99: Duration,
    /// The largest, exact.
    pub max: Duration,
}

/// 2^5 buckets for each doubling: a relative error of 1/32.
const PRECISION_BITS: u32 = 5;
const LINEAR: u64 = 1 << PRECISION_BITS;

/// Latencies up to 2^27 µs (134 s) are told apart. A delivery that takes longer has met a timeout before.
const RANGE_BITS: u32 = 27;
const MAX_NANOS: u64 = ((1 << RANGE_BITS) - 1) * 1000;

const BUCKETS: usize = (LINEAR as usize) * (RANGE_BITS - PRECISION_BITS + 1) as usize;

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos())
        .unwrap_or(u64::MAX)
        .min(MAX_NANOS)
}

/// The bucket of a latency, which is rounded up to whole microseconds so that quantiles are never too low.
fn bucket(nanos: u64) -> usize {
    let micros = nanos.div_ceil(1000);
    let bits = u64::BITS - micros.leading_zeros();
    let shift = bits.saturating_sub(PRECISION_BITS + 1);
    // For shift = 0 the index is the value; each further shift adds a row of 32.
    (u64::from(shift) * LINEAR + (micros >> shift)) as usize
}

/// The highest latency that falls into a bucket.
fn highest_nanos(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / LINEAR).saturating_sub(1);
    let micros = ((bucket - shift * LINEAR + 1) << shift) - 1;
    micros * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_cover_the_range_in_order_and_without_a_hole() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(MAX_NANOS), BUCKETS - 1);
        for index in 0..BUCKETS {
            let highest = highest_nanos(index);
            assert_eq!(bucket(highest), index);
            if index + 1 < BUCKETS {
                assert_eq!(bucket(highest + 1), index + 1);
            }
        }
    }
}
