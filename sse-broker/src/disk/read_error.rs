//! What a reader is told when the file cannot be read.

use super::meta::MetaError;
use crate::ReadError;

pub(super) fn storage_error(error: impl Into<redb::Error>) -> ReadError {
    ReadError::Storage {
        reason: error.into().to_string().into(),
    }
}

pub(super) fn damaged_meta(error: MetaError) -> ReadError {
    match error {
        MetaError::Redb(error) => storage_error(*error),
        MetaError::Damaged(reason) => ReadError::Storage {
            reason: reason.into(),
        },
        MetaError::NewerFormat(_) | MetaError::OlderFormat(_) => ReadError::Storage {
            reason: "it has another format".into(),
        },
    }
}
