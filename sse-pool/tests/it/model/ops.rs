//! What may happen to a pool, and how it is made up.

use std::sync::Arc;

use proptest::prelude::*;
use sse_pool::{ConnectionId, Selector, TopicFilter};

use crate::support::*;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Connect {
        name: u8,
        batch: bool,
        shard: u8,
        selector: Wish,
        own: Vec<u8>,
        granted: Option<Vec<u8>>,
        start: Option<u8>,
    },
    Append(Vec<NewEntry>),
    Read {
        reader: u8,
        max_bytes: u8,
    },
    Update {
        reader: u8,
        selector: Wish,
    },
    Seek {
        reader: u8,
        back: u8,
    },
    Drop {
        reader: u8,
    },
    Close {
        reader: u8,
    },
    Touch {
        reader: u8,
    },
    Sweep,
    Wait {
        seconds: u8,
    },
}

#[derive(Clone, Debug)]
pub(super) struct NewEntry {
    pub(super) step: u8,
    pub(super) size: u8,
    pub(super) topics: Vec<u8>,
    /// The names that a reader must own; `None`: one of the topics must be granted to it.
    pub(super) owners: Option<Vec<u8>>,
    pub(super) recipients: Vec<u8>,
    pub(super) label: Option<u8>,
}

/// A selector, as the generator makes it.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    all: bool,
    exact: Vec<u8>,
    patterns: Vec<u8>,
    labels: Option<Vec<u8>>,
}

pub(super) const TOPICS: [&str; 6] = ["aa", "ab", "b", "c", "me", "you"];
pub(super) const OWN: [&str; 2] = ["me", "you"];
const PATTERNS: [&str; 3] = ["a", "b", "y"];
pub(super) const LABELS: [&str; 2] = ["x", "y"];
const NAMES: u8 = 8;

pub(super) fn pick(from: &[&str], which: &[u8]) -> Arc<[Arc<str>]> {
    which
        .iter()
        .map(|&n| Arc::from(from[usize::from(n) % from.len()]))
        .collect()
}

pub(super) fn name(n: u8) -> ConnectionId {
    id(&format!("r{}", n % NAMES))
}

impl Wish {
    pub(super) fn selector(&self) -> Selector {
        let patterns = self
            .patterns
            .iter()
            .map(|&n| prefix(PATTERNS[usize::from(n) % 3]))
            .collect();
        Selector {
            topics: if self.all {
                TopicFilter::All
            } else {
                TopicFilter::Topics {
                    exact: pick(&TOPICS, &self.exact),
                    patterns,
                }
            },
            labels: self.labels.as_deref().map(|labels| pick(&LABELS, labels)),
            held: None,
        }
    }
}

fn few(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=max)
}

fn wish() -> impl Strategy<Value = Wish> {
    // Often one of two topics and nothing else: such readers are read together.
    let exact = prop_oneof![2 => (0..2_u8).prop_map(|n| vec![n]), 1 => few(3)];
    let patterns = prop_oneof![4 => Just(vec![]), 1 => few(2)];
    (
        prop::bool::weighted(0.2),
        exact,
        patterns,
        prop::option::weighted(0.3, few(2)),
    )
        .prop_map(|(all, exact, patterns, labels)| Wish {
            all,
            exact,
            patterns,
            labels,
        })
}

fn new_entry() -> impl Strategy<Value = NewEntry> {
    let rarely = || prop_oneof![5 => Just(vec![]), 1 => few(2)];
    (
        1..4_u8,
        0..20_u8,
        few(3),
        prop_oneof![5 => Just(Some(vec![])), 1 => few(2).prop_map(Some), 1 => Just(None)],
        rarely(),
        any::<Option<u8>>(),
    )
        .prop_map(|(step, size, topics, owners, recipients, label)| NewEntry {
            step,
            size,
            topics,
            owners,
            recipients,
            label,
        })
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let reader = any::<u8>();
    let own = prop_oneof![2 => Just(vec![]), 1 => few(2)];
    let granted = || prop::option::weighted(0.3, few(2));
    prop_oneof![
        4 => (reader, prop::bool::weighted(0.7), any::<u8>(), wish(), own, granted(), any::<Option<u8>>()).prop_map(
            |(name, batch, shard, selector, own, granted, start)| Op::Connect {
                name, batch, shard, selector, own, granted, start,
            }
        ),
        8 => prop::collection::vec(new_entry(), 0..4).prop_map(Op::Append),
        10 => (reader, any::<u8>()).prop_map(|(reader, max_bytes)| Op::Read { reader, max_bytes }),
        1 => (reader, wish()).prop_map(|(reader, selector)| Op::Update { reader, selector }),
        1 => (reader, 0..20_u8).prop_map(|(reader, back)| Op::Seek { reader, back }),
        1 => reader.prop_map(|reader| Op::Drop { reader }),
        1 => reader.prop_map(|reader| Op::Close { reader }),
        1 => reader.prop_map(|reader| Op::Touch { reader }),
        1 => Just(Op::Sweep),
        1 => (0..7_u8).prop_map(|seconds| Op::Wait { seconds }),
    ]
}
