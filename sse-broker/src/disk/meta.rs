//! The table `meta`: small facts about the log, each with a checksum behind it.
//!
//! | name | value |
//! |---|---|
//! | `format` | the version of the tables and their values, u32 |
//! | `epoch` | u64 |
//! | `floor` | the newest offset that was trimmed, and what everything up to it weighed, two u64 |
//! | `indexed` | the offset up to which `topics` and `ids` cover the records, u64 |
//! | `id_key` | the key of the hash of publishers' ids, 16 bytes |
//! | `stamp` | which file it is, u64; the seal beside it says the same, see `seal` |
//! | `thinned` | how far topic retention has come and what it has removed, see `log_state` |
//! | `session` | there while a log is open at a level below `fsync`, see `session` |

use redb::{ReadableTable, StorageError, Table};

use super::checked::{checked, with_checksum};

/// The version of tables and values that is written.
pub(super) const FORMAT: u32 = 4;

/// All names that the table has.
pub(super) const NAMES: [&str; 8] = [
    "format", "epoch", "floor", "indexed", "id_key", "stamp", "thinned", "session",
];

/// The oldest that is read. It knew no records for those they are granted to; 3 knew no versions of snapshots.
const OLDEST_FORMAT: u32 = 2;

/// Why the table cannot be used.
pub(super) enum MetaError {
    NewerFormat(u32),
    OlderFormat(u32),
    Damaged(String),
    Redb(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for MetaError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// The format that a log says it has, when it is one that is known here.
pub(super) fn known_format(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u32, MetaError> {
    match get_meta::<4>(meta, "format")?.map(u32::from_le_bytes) {
        Some(found @ OLDEST_FORMAT..=FORMAT) => Ok(found),
        Some(found) if found > FORMAT => Err(MetaError::NewerFormat(found)),
        Some(found) => Err(MetaError::OlderFormat(found)),
        None => Err(MetaError::Damaged(
            "it does not say which format it has".into(),
        )),
    }
}

pub(super) fn get_meta<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<[u8; N]>, MetaError> {
    let Some(value) = meta.get(name)? else {
        return Ok(None);
    };
    match checked(name.as_bytes(), value.value()).map(<[u8; N]>::try_from) {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        _ => Err(MetaError::Damaged(format!(
            "its entry {name:?} is not whole"
        ))),
    }
}

pub(super) fn put_meta(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    name: &str,
    bytes: &[u8],
) -> Result<(), StorageError> {
    meta.insert(name, &*with_checksum(name.as_bytes(), bytes))
        .map(drop)
}
