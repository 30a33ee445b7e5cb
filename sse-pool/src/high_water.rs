//! When a hash table should give memory back.

/// How full a table has been since it was last shrunk.
///
/// A table's own `capacity` does not tell: it shrinks with every removal that leaves a tombstone, while the
/// buckets stay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HighWater(usize);

impl HighWater {
    /// Notes the length after an insertion.
    pub(crate) fn grown(&mut self, len: usize) {
        self.0 = self.0.max(len);
    }

    /// Notes the length after a removal; answers the capacity to shrink to when most of it is unused.
    ///
    /// At least three quarters go each time, so shrinking costs a constant per removal.
    pub(crate) fn shrunk(&mut self, len: usize) -> Option<usize> {
        if self.0 <= SMALL || len >= self.0 / 8 {
            return None;
        }
        self.0 = len * 2;
        Some(self.0)
    }
}

/// Below this many elements a table is left alone.
const SMALL: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_table_that_empties_is_shrunk_to_nothing_in_few_steps() {
        let mut table: HashMap<u32, u32> = HashMap::new();
        let mut high = HighWater::default();
        for n in 0..100_000 {
            table.insert(n, n);
            high.grown(table.len());
        }
        let mut shrinks = 0;
        for n in 0..100_000 {
            table.remove(&n);
            if let Some(capacity) = high.shrunk(table.len()) {
                table.shrink_to(capacity);
                shrinks += 1;
            }
        }
        assert!(table.capacity() <= 128, "{}", table.capacity());
        assert!(shrinks < 12, "{shrinks}");
    }
}
