//! Runs: offsets in order, many in one entry, under a name.
//!
//! The table `topics` has runs of each topic's records, `queues` those of each rule's.

use redb::{ReadableTable, StorageError, Table};

use super::checked::checksum;
use crate::Offset;
use crate::encoding::{Damaged, Rest, put_number};

/// How many offsets an entry of `topics` holds at most: a page's worth.
pub(super) const MAX_RUN: usize = 512;

/// The key of a topic's run that begins at `first`. A topic holds no control character, so NUL ends
/// it and keys of a topic lie side by side in the order of their offsets.
pub(super) fn run_key(topic: &str, first: Offset) -> Vec<u8> {
    let mut key = Vec::with_capacity(topic.len() + 9);
    key.extend_from_slice(topic.as_bytes());
    key.push(0);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The value for ascending offsets of which the first stands in the key.
pub(super) fn run_value(key: &[u8], offsets: &[Offset]) -> Vec<u8> {
    let mut value = Vec::with_capacity(offsets.len() * 2 + 4);
    for pair in offsets.windows(2) {
        put_number(&mut value, pair[1].saturating_sub(pair[0]));
    }
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

/// The offsets of a run, ascending.
pub(super) fn run_offsets(key: &[u8], value: &[u8]) -> Result<Vec<Offset>, Damaged> {
    let first = key
        .last_chunk::<8>()
        .map(|bytes| Offset::from_be_bytes(*bytes))
        .ok_or(Damaged)?;
    let (differences, stored) = value.split_last_chunk::<4>().ok_or(Damaged)?;
    if checksum(key, differences) != u32::from_le_bytes(*stored) {
        return Err(Damaged);
    }
    let mut rest = Rest(differences);
    let mut offsets = vec![first];
    let mut last = first;
    while !rest.0.is_empty() {
        last = last.checked_add(rest.number()?).ok_or(Damaged)?;
        offsets.push(last);
    }
    Ok(offsets)
}

/// Takes offsets, which ascend, out of the runs of `topic`. Costs the runs that they are in.
pub(super) fn take_out_of_runs(
    runs: &mut Table<'_, &'static [u8], &'static [u8]>,
    topic: &str,
    offsets: &[Offset],
) -> Result<(), StorageError> {
    let mut rest = offsets;
    while let Some(next) = rest.first() {
        let (first, upto) = (run_key(topic, 0), run_key(topic, *next));
        let found = match runs.range::<&[u8]>(&*first..=&*upto)?.next_back() {
            None => None,
            Some(entry) => {
                let (key, value) = entry?;
                let run = run_offsets(key.value(), value.value());
                run.ok().map(|run| (key.value().to_vec(), run))
            }
        };
        let Some((key, run)) = found else {
            rest = &rest[1..];
            continue;
        };
        let last = run.last().copied().unwrap_or_default();
        let within = rest.partition_point(|offset| *offset <= last).max(1);
        let (taken, after) = rest.split_at(within);
        rest = after;
        let kept: Vec<_> = run
            .iter()
            .copied()
            .filter(|offset| taken.binary_search(offset).is_err())
            .collect();
        if kept.len() == run.len() {
            continue;
        }
        runs.remove(&*key)?;
        if let Some(first) = kept.first() {
            let key = run_key(topic, *first);
            runs.insert(&*key, &*run_value(&key, &kept))?;
        }
    }
    Ok(())
}

/// The topic in a run's key; for people, so what is no text is shown as near as can be.
pub(super) fn topic_of(key: &[u8]) -> String {
    let topic = key.len().saturating_sub(RUN_KEY_TAIL_BYTES);
    String::from_utf8_lossy(&key[..topic]).into_owned()
}

/// NUL and the first offset, behind the topic.
const RUN_KEY_TAIL_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written_or_found_out() {
        for offsets in [vec![1], vec![5, 6, 7], vec![1, 1_000, u64::MAX]] {
            let key = run_key("job/42", offsets[0]);
            let value = run_value(&key, &offsets);
            assert_eq!(run_offsets(&key, &value), Ok(offsets.clone()));
            for at in 0..value.len() {
                let mut flipped = value.clone();
                flipped[at] ^= 1;
                assert_eq!(run_offsets(&key, &flipped), Err(Damaged));
                assert_eq!(run_offsets(&key, &value[..at]), Err(Damaged));
            }
            assert_eq!(
                run_offsets(&run_key("job/43", offsets[0]), &value),
                Err(Damaged)
            );
        }
        assert_eq!(run_offsets(b"", b""), Err(Damaged));
    }

    #[test]
    fn runs_of_a_topic_lie_side_by_side_in_order() {
        let mut keys: Vec<_> = ["a", "a/b", "ab", "b"]
            .iter()
            .flat_map(|topic| [0, 1, 255, 256, u64::MAX].map(|first| run_key(topic, first)))
            .collect();
        let in_order = keys.clone();
        keys.sort();
        assert_eq!(keys, in_order);
    }
}
