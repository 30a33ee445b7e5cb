//! When each key is due: a table that never grows beyond its bound.
//!
//! This is GCRA, the generic cell rate algorithm (ITU-T I.371, annex A), in its form with one theoretical arrival time for each
//! key. A key whose time has passed is as good as one that was never seen, so its slot is free for others. Where a
//! bucket is full of keys whose time has not, and the table may not grow, the one that is due first gives way: it loses the least, and
//! may have its burst once more.
//!
//! ```text
//!   key: 64 bits of a keyed hash ─▶ shard (its first 6 bits) ─▶ bucket (its last bits) ─▶ one of 16 slots of key and time
//! ```

use parking_lot::Mutex;

/// Sixteen bytes for each key.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The key, where `due` is not over.
    key: u64,
    /// When all that the key has taken is paid for. Zero where there never was one.
    due: u64,
}

/// The theoretical arrival times of keys, in a bounded number of bytes. Times are ticks since some beginning.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    /// As many as a power of two, or none.
    buckets: Vec<[Slot; BUCKET_SLOTS]>,
    max_buckets: usize,
}

impl Table {
    /// A table that takes no more than so many bytes, or some KiB if those are fewer. An empty one takes hardly any.
    pub(super) fn new(max_bytes: usize) -> Self {
        let max = max_bytes / SHARDS / size_of::<[Slot; BUCKET_SLOTS]>();
        let max_buckets = 1 << max.checked_ilog2().unwrap_or(0);
        let shard = || {
            Mutex::new(Shard {
                buckets: Vec::new(),
                max_buckets,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Takes what costs so many ticks, if all that is not paid for then is within `burst`.
    ///
    /// # Errors
    ///
    /// After how many ticks it would be taken. Nothing has changed then.
    pub(super) fn take(&self, key: u64, cost: u64, burst: u64, now: u64) -> Result<(), u64> {
        let mut shard = self.shard(key).lock();
        let due = admit(shard.due(key), cost, burst, now)?;
        *shard.slot(key, now) = Slot { key, due };
        Ok(())
    }

    /// The same, and takes nothing.
    pub(super) fn check(&self, key: u64, cost: u64, burst: u64, now: u64) -> Result<(), u64> {
        let due = self.shard(key).lock().due(key);
        admit(due, cost, burst, now).map(|_| ())
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, key: u64, cost: u64) {
        let mut shard = self.shard(key).lock();
        if let Some(slot) = shard.find(key) {
            slot.due = slot.due.saturating_sub(cost);
        }
    }

    /// How much memory it takes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let shards = self
            .shards
            .iter()
            .map(|shard| shard.lock().buckets.capacity());
        shards.sum::<usize>() * size_of::<[Slot; BUCKET_SLOTS]>()
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        let place = usize::try_from(key >> (u64::BITS - SHARDS.ilog2())).unwrap_or(0);
        &self.shards[place]
    }
}

/// Until when everything is paid for, with what is wanted now; or after how many ticks it will be possible.
fn admit(due: u64, cost: u64, burst: u64, now: u64) -> Result<u64, u64> {
    let due = due.max(now).saturating_add(cost);
    let ahead = due - now;
    match ahead <= burst {
        true => Ok(due),
        false => Err(ahead - burst),
    }
}

impl Shard {
    fn bucket(&self, key: u64) -> usize {
        // Their number is a power of two.
        usize::try_from(key & (self.buckets.len() as u64 - 1)).unwrap_or(0)
    }

    fn find(&mut self, key: u64) -> Option<&mut Slot> {
        if self.buckets.is_empty() {
            return None;
        }
        let bucket = self.bucket(key);
        let mut slots = self.buckets[bucket].iter_mut();
        slots.find(|slot| slot.key == key && slot.due > 0)
    }

    fn due(&mut self, key: u64) -> u64 {
        self.find(key).map_or(0, |slot| slot.due)
    }

    /// The slot of a key, or one that it may have.
    fn slot(&mut self, key: u64, now: u64) -> &mut Slot {
        loop {
            if !self.buckets.is_empty() {
                let bucket = self.bucket(key);
                let slots = &self.buckets[bucket];
                let own = slots
                    .iter()
                    .position(|slot| slot.key == key && slot.due > 0);
                let free = || slots.iter().position(|slot| slot.due <= now);
                let first_due = || (0..BUCKET_SLOTS).min_by_key(|at| slots[*at].due);
                let is_grown = self.buckets.len() >= self.max_buckets;
                let place = own
                    .or_else(free)
                    .or_else(|| first_due().filter(|_| is_grown));
                if let Some(place) = place {
                    return &mut self.buckets[bucket][place];
                }
            }
            self.grow(now);
        }
    }

    /// Doubles the buckets. Each is divided between two, so everything has room.
    fn grow(&mut self, now: u64) {
        let count = (self.buckets.len() * 2).max(1);
        let grown = vec![[Slot::default(); BUCKET_SLOTS]; count];
        let old = std::mem::replace(&mut self.buckets, grown);
        for slot in old.into_iter().flatten().filter(|slot| slot.due > now) {
            let bucket = self.bucket(slot.key);
            let free = self.buckets[bucket].iter_mut().find(|it| it.due == 0);
            if let Some(free) = free {
                *free = slot;
            }
        }
    }
}

/// Locks that callers of different keys do not share.
const SHARDS: usize = 64;
/// With 16, hardly any bucket is full while the table is half empty.
const BUCKET_SLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// GCRA as it is written down, with all the memory in the world.
    #[derive(Default)]
    struct Naive(HashMap<u64, u64>);

    impl Naive {
        fn take(&mut self, key: u64, cost: u64, burst: u64, now: u64) -> Result<(), u64> {
            let arrival = self.0.get(&key).copied().unwrap_or(0).max(now);
            if arrival + cost > now + burst {
                return Err(arrival + cost - burst - now);
            }
            self.0.insert(key, arrival + cost);
            Ok(())
        }
    }

    /// Numbers that are spread as a hash's are.
    fn spread(n: u64) -> u64 {
        // The finalizer of SplitMix64.
        let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    proptest! {
        #[test]
        fn it_decides_as_a_naive_one_does(
            ops in prop::collection::vec((0_u64..300, 1_u64..40, 0_u64..30, 0_u8..8), 1..600),
            burst in 1_u64..200,
        ) {
            let table = Table::new(1 << 20);
            let mut naive = Naive::default();
            let mut now = 0;
            for (key, cost, pause, then) in ops {
                now += pause;
                let key = spread(key);
                prop_assert_eq!(table.check(key, cost, burst, now).is_ok(), naive.take(key, cost, burst, now).is_ok());
                // The naive one has taken it.
                let taken = table.take(key, cost, burst, now);
                if let Err(wait) = taken {
                    // The wait is exact.
                    prop_assert!(cost > burst || table.check(key, cost, burst, now + wait).is_ok());
                    prop_assert!(table.check(key, cost, burst, now + wait - 1).is_err());
                } else if then == 0 {
                    table.give_back(key, cost);
                    *naive.0.get_mut(&key).unwrap() -= cost;
                }
            }
        }

        #[test]
        fn nobody_gets_more_than_a_burst_and_what_the_time_allows(
            ops in prop::collection::vec((1_u64..20, 0_u64..60), 1..300),
            burst in 1_u64..100,
        ) {
            let table = Table::new(0);
            let (mut now, mut taken) = (0, 0);
            for (cost, pause) in ops {
                now += pause;
                if table.take(7, cost, burst, now).is_ok() {
                    taken += cost;
                }
                prop_assert!(taken <= burst + now, "{} at {}", taken, now);
            }
        }

        #[test]
        fn a_full_table_refuses_nobody_that_may_and_forgets_whoever_is_due_first(
            keys in prop::collection::vec(0_u64..5_000, 1..3_000),
        ) {
            // One bucket for each shard: 1,024 keys.
            let table = Table::new(0);
            let mut naive = Naive::default();
            for key in keys {
                let key = spread(key);
                let allowed = naive.take(key, 10, 30, 0);
                // Where it has forgotten somebody it lets more through, and never less.
                prop_assert!(table.take(key, 10, 30, 0).is_ok() || allowed.is_err());
            }
            prop_assert!(table.bytes() <= 64 * 16 * 16);
        }
    }

    #[test]
    fn a_million_keys_are_all_remembered_within_64_mib() {
        let table = Table::new(64 << 20);
        for n in 0..1_000_000 {
            table.take(spread(n), 10, 10, 0).unwrap();
        }
        let forgotten = (0..1_000_000).filter(|n| table.take(spread(*n), 10, 10, 0).is_ok());
        assert_eq!(forgotten.count(), 0);
        assert!(table.bytes() <= 64 << 20, "{} bytes", table.bytes());
    }

    #[test]
    fn ten_million_keys_take_no_more_memory_than_there_may_be() {
        let table = Table::new(64 << 20);
        for n in 0..10_000_000 {
            // Each is another one, and none is ever paid for.
            table.take(spread(n), 1 << 40, 1 << 40, n).unwrap();
        }
        assert!(table.bytes() <= 64 << 20, "{} bytes", table.bytes());
        // The newest are those that it knows.
        let known = (9_990_000..10_000_000).filter(|n| {
            let taken = table.take(spread(*n), 1 << 40, 1 << 40, 10_000_000);
            taken.is_err()
        });
        assert!(known.count() > 9_900);
    }

    #[test]
    fn keys_whose_time_has_passed_make_room_before_it_grows() {
        let table = Table::new(64 << 20);
        for n in 0..1_000_000 {
            table.take(spread(n), 100, 100, n).unwrap();
        }
        // A hundred are not paid for at any time.
        assert!(table.bytes() <= 1 << 20, "{} bytes", table.bytes());
    }
}
