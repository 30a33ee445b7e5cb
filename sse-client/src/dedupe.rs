//! Dropping events that came before, by their id.
//!
//! A hub delivers at least once: an event that was delivered, but whose id was not saved before a crash,
//! comes again. The ids of the latest events are remembered, within a bound; only an event's *own* id
//! counts, because events without one carry that of an earlier event.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Remembers the latest ids.
#[derive(Debug)]
pub(crate) struct Dedupe {
    seen: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
    capacity: usize,
    bytes: usize,
}

impl Dedupe {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            seen: HashSet::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
            bytes: 0,
        }
    }

    /// Whether `id` is new; remembers it. The empty id, which resets the position, always is.
    pub(crate) fn is_new(&mut self, id: &str) -> bool {
        if id.is_empty() {
            return true;
        }
        if self.seen.contains(id) {
            return false;
        }
        if id.len() > MAX_BYTES / 2 {
            // Not worth the whole memory: such an id is never recognised.
            return true;
        }
        let id: Arc<str> = id.into();
        self.bytes += id.len();
        self.seen.insert(Arc::clone(&id));
        self.order.push_back(id);
        while self.order.len() > self.capacity || self.bytes > MAX_BYTES {
            if let Some(oldest) = self.order.pop_front() {
                self.bytes -= oldest.len();
                self.seen.remove(&oldest);
            }
        }
        true
    }
}

/// What all remembered ids may take together.
const MAX_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_recognised_until_enough_others_came() {
        let mut dedupe = Dedupe::new(3);
        for id in ["1", "2", "3"] {
            assert!(dedupe.is_new(id));
        }
        assert!(!dedupe.is_new("1"));
        assert!(dedupe.is_new("4"));
        assert!(dedupe.is_new("1"), "pushed out by then");
        assert!(
            dedupe.is_new("") && dedupe.is_new(""),
            "the empty id says nothing"
        );
    }

    #[test]
    fn huge_ids_do_not_grow_memory() {
        let mut dedupe = Dedupe::new(1_000_000);
        for n in 0..20 {
            dedupe.is_new(&format!("{n}{}", "x".repeat(1024 * 1024)));
        }
        assert!(dedupe.bytes <= MAX_BYTES && dedupe.order.len() == dedupe.seen.len());
        assert!(dedupe.is_new(&"y".repeat(MAX_BYTES)) && dedupe.is_new(&"y".repeat(MAX_BYTES)));
    }
}
