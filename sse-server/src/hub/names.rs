//! Names that many records have in common are held once: topics, owners and labels.
//!
//! Each request brings its names anew. Events of 64 long topics would hold 64 KiB of names each, and all of them the same.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use sse_broker::{Audience, NewRecord, Topic};

/// The names that somebody holds. One that nobody holds any more goes when the table has grown by an eighth.
#[derive(Debug)]
pub(super) struct Names {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Part {
    names: HashSet<Arc<str>>,
    /// How many there may be before those that nobody holds are looked for.
    look_at: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

impl Names {
    /// Lets a new record share its names with those before it, and gives back what its lists have to spare.
    pub(super) fn share(&self, record: &mut NewRecord) {
        record.topics.shrink_to_fit();
        let owners = match &mut record.audience {
            Audience::Owners(owners) => {
                owners.shrink_to_fit();
                &mut owners[..]
            }
            Audience::Everyone | Audience::Granted => &mut [],
        };
        for topic in record.topics.iter_mut().chain(owners) {
            self.share_topic(topic);
        }
    }

    fn share_topic(&self, topic: &mut Topic) {
        let known = {
            let mut part = self.part(topic.as_str()).lock();
            match part.names.get(topic.as_str()) {
                Some(known) => Arc::clone(known),
                None => return part.put(Arc::clone(topic.as_arc())),
            }
        };
        // The text that came with the request goes here, without the lock.
        topic.share_text(&known);
    }

    /// The name, shared.
    pub(super) fn shared(&self, name: &str) -> Arc<str> {
        let mut part = self.part(name).lock();
        if let Some(known) = part.names.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        part.put(Arc::clone(&new));
        new
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "any bits of a hash will do"
    )]
    fn part(&self, name: &str) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(name) as usize % PARTS]
    }

    /// What the table takes, without the names that others hold too.
    pub(super) fn memory_bytes(&self) -> usize {
        let places = self.parts.iter().map(|part| part.lock().names.capacity());
        places.sum::<usize>() * PLACE_BYTES
    }
}

impl Part {
    fn put(&mut self, name: Arc<str>) {
        if self.names.len() >= self.look_at {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            if self.names.len() < self.names.capacity() / 4 {
                self.names.shrink_to(2 * self.names.len());
            }
            self.look_at = self.names.len() + self.names.len() / 8 + SPARE;
        }
        self.names.insert(name);
    }
}

/// Parts of the table, each with a lock of its own, so that looking through one takes no time that anybody notices.
const PARTS: usize = 16;
/// So many names may be left over in each part.
const SPARE: usize = 16;
/// A place in the table: the name's address and length, a byte of its hash, and some room.
const PLACE_BYTES: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_and_go_when_nobody_holds_them() {
        let names = Names::default();
        let topics = |from: usize| -> Vec<Topic> {
            let numbers = from..from + 100;
            numbers
                .map(|n| Topic::new(format!("t/{n}")).unwrap())
                .collect()
        };
        let mut held = Vec::new();
        for round in 0..1_000 {
            for mut topic in topics(0) {
                names.share_topic(&mut topic);
                held.push(topic);
            }
            topics(round * 100)
                .iter_mut()
                .for_each(|topic| names.share_topic(topic));
        }
        for topic in &held[100..] {
            let first = held.iter().find(|first| *first == topic).unwrap();
            assert!(Arc::ptr_eq(topic.as_arc(), first.as_arc()));
        }
        assert!(Arc::ptr_eq(&names.shared("t/7"), held[7].as_arc()));
        let left: usize = names.parts.iter().map(|part| part.lock().names.len()).sum();
        assert!(left <= 100 + 100 / 8 + PARTS * (SPARE + 1), "{left}");
        assert!(names.memory_bytes() < 20_000);
    }
}
