//! Giving the file's free pages back.

use redb::Database;

/// Moves what is in the file together, and gives the rest back.
pub(super) fn compact(db: &mut Database) -> Result<(), redb::Error> {
    for _ in 0..MAX_COMPACTIONS {
        if !db.compact()? {
            break;
        }
    }
    Ok(())
}

/// Each run of redb's compaction moves what it can; it says when there is nothing left to move.
const MAX_COMPACTIONS: u32 = 32;
