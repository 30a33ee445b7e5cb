//! What may happen to two cohorts and their clients.

use proptest::prelude::*;

use crate::payload::{event, noise, summary};

/// One thing that happens to a cohort, or to the clients of two.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Batch {
        cohort: usize,
        text: Vec<u8>,
    },
    Apart {
        cohort: usize,
        text: Vec<u8>,
    },
    Join {
        cohort: usize,
    },
    /// Somebody would be in step again if the cohort began anew.
    RequestFullFlush {
        cohort: usize,
    },
    /// A client misses the next block.
    Lag {
        client: prop::sample::Index,
    },
    /// A client gets bytes of its own.
    Own {
        client: prop::sample::Index,
        text: Vec<u8>,
    },
    /// A client goes on with the other cohort.
    Move {
        client: prop::sample::Index,
    },
    Leave {
        client: prop::sample::Index,
    },
}

fn text(max_run: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u64..50).prop_map(|number| event(number).into_bytes()),
        2 => (0u64..5, 100usize..6000).prop_map(|(seed, bytes)| summary(seed, bytes).into_bytes()),
        1 => (0u64..5, 0usize..40_000).prop_map(|(seed, bytes)| noise(seed, bytes).into_bytes()),
        1 => (0..max_run).prop_map(|bytes| vec![b'a'; bytes]),
    ]
}

/// Anything that happens, with runs of one byte shorter than `max_run`: more than a window and a block should fit in.
pub(crate) fn happening(max_run: usize) -> impl Strategy<Value = Happening> {
    let client = any::<prop::sample::Index>;
    let text = move || text(max_run);
    prop_oneof![
        12 => (0usize..2, text()).prop_map(|(cohort, text)| Happening::Batch { cohort, text }),
        1 => (0usize..2, text()).prop_map(|(cohort, text)| Happening::Apart { cohort, text }),
        4 => (0usize..2).prop_map(|cohort| Happening::Join { cohort }),
        2 => (0usize..2).prop_map(|cohort| Happening::RequestFullFlush { cohort }),
        2 => client().prop_map(|client| Happening::Lag { client }),
        2 => (client(), text()).prop_map(|(client, text)| Happening::Own { client, text }),
        1 => client().prop_map(|client| Happening::Move { client }),
        1 => client().prop_map(|client| Happening::Leave { client }),
    ]
}
