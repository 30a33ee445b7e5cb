//! Snapshots of topics as the file has them: the bytes, and which version they are.
//!
//! ```text
//! the bytes
//! u64  the offset of the record that put them
//! u32  CRC-32 of the topic, a NUL, and all the bytes before
//! ```
//!
//! Up to format 3 there was no version, and the checksum had no NUL. Such a value is read as version 1: the log had a
//! record, and whatever replaces the value has a larger offset.

use redb::{ReadableTable, StorageError, Table};

use super::checked::{checked, with_checksum};
use crate::encoding::Damaged;
use crate::{Offset, Snapshot};

/// What an older value counts as.
const UNKNOWN_VERSION: Offset = 1;

/// A snapshot's version and bytes.
pub(super) fn decode<'a>(topic: &str, value: &'a [u8]) -> Result<(Offset, &'a [u8]), Damaged> {
    match decode_versioned(topic, value) {
        Some(decoded) => Ok(decoded),
        None => Ok((UNKNOWN_VERSION, checked(topic.as_bytes(), value)?)),
    }
}

/// The same, of a value that has a version.
pub(super) fn decode_versioned<'a>(topic: &str, value: &'a [u8]) -> Option<(Offset, &'a [u8])> {
    let (bytes, version) = checked(&key(topic), value).ok()?.split_last_chunk()?;
    Some((Offset::from_le_bytes(*version), bytes))
}

/// Changes a topic's snapshot by the record at `version`.
pub(super) fn store(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    topic: &str,
    snapshot: &Snapshot,
    version: Offset,
) -> Result<(), StorageError> {
    match snapshot {
        Snapshot::Put(bytes) => {
            let mut value = bytes.to_vec();
            value.extend_from_slice(&version.to_le_bytes());
            table.insert(topic, &*with_checksum(&key(topic), &value))?;
        }
        Snapshot::Remove => _ = table.remove(topic)?,
    }
    Ok(())
}

/// The version of a topic's snapshot; 0 when there is none. One that is damaged has the version that nobody expects.
pub(super) fn version(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    topic: &str,
) -> Result<Offset, StorageError> {
    let value = table.get(topic)?;
    Ok(value.map_or(0, |value| {
        decode(topic, value.value()).map_or(Offset::MAX, |(version, _)| version)
    }))
}

fn key(topic: &str) -> Vec<u8> {
    [topic.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_from_before_versions_is_read_and_one_of_another_topic_is_not() {
        let old = with_checksum(b"job/1", b"state");
        assert_eq!(decode("job/1", &old), Ok((UNKNOWN_VERSION, &b"state"[..])));
        assert_eq!(decode("job/2", &old), Err(Damaged));
        let mut value = b"state".to_vec();
        value.extend_from_slice(&7u64.to_le_bytes());
        let new = with_checksum(b"job/1\0", &value);
        assert_eq!(decode("job/1", &new), Ok((7, &b"state"[..])));
        assert_eq!(decode("job/2", &new), Err(Damaged));
    }
}
