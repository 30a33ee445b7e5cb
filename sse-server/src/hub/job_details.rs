//! What the reporter of a job shows beside what every job has.

use std::fmt;

use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json_text::JsonText;

/// Names and what they stand for, in the order in which they were first given.
///
/// There are few enough to look at them one by one: a job has [`MAX`](Self::MAX) at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details(Vec<(Box<str>, JsonText)>);

impl Details {
    /// As many as a job may have. A stated guess, beyond what anybody shows; each takes about a hundred bytes beside its text.
    pub const MAX: usize = 256;

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What a name stands for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&JsonText> {
        let named = self.iter().find(|(known, _)| *known == name);
        named.map(|(_, json)| json)
    }

    /// Lets a name stand for something, and no longer for what it stood for before.
    pub fn insert(&mut self, name: &str, json: impl Into<JsonText>) {
        let json = json.into();
        match self.0.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = json,
            None => self.0.push((name.into(), json)),
        }
    }

    /// What they take beside the place that they stand in.
    pub(super) fn memory_bytes(&self) -> usize {
        let texts = self
            .0
            .iter()
            .map(|(name, json)| name.len() + ALLOCATION_BYTES + json.memory_bytes());
        self.0.capacity() * size_of::<(Box<str>, JsonText)>() + texts.sum::<usize>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &JsonText)> {
        self.0.iter().map(|(name, json)| (&**name, json))
    }
}

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Details;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Details, M::Error> {
                // What a hub has written has no name twice.
                let mut details = Vec::new();
                while let Some(detail) = map.next_entry()? {
                    details.push(detail);
                }
                Ok(Details(details))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// An allocator's own part of an allocation.
const ALLOCATION_BYTES: usize = 16;
