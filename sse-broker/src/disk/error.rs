//! Why a log could not be opened, and why a tool gave up.

use std::io;
use std::path::{Path, PathBuf};

use super::meta::{FORMAT, MetaError};
use super::panics;
use crate::{Offset, ReadError};

/// Why a log could not be opened. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or a file in it cannot be made, read or written.
    #[error("cannot use {path} for the log: {source}", path = .path.display())]
    Unusable {
        /// What cannot be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another hub has it open.
    #[error("the log in {path} is in use by another process", path = .path.display())]
    InUse {
        /// The log's folder.
        path: PathBuf,
    },
    /// There is no log, and none is to be made.
    #[error("there is no event log in {path}", path = .path.display())]
    NoLog {
        /// The folder.
        path: PathBuf,
    },
    /// There is a file of that name, but it is no log.
    #[error("{path} is not an event log", path = .path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version of this program.
    #[error("{path} has the format {found}, newer than {FORMAT}, the newest known here", path = .path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was written by an older version of this program, from before the first release.
    #[error("{path} has the format {found}, which only the version that wrote it can read: export it there and import the copy here", path = .path.display())]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is damaged beyond what can be left out and announced.
    #[error("{path} is damaged: {reason}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The storage failed while it was being opened.
    #[error("{path} cannot be opened: {reason}", path = .path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
}

impl OpenError {
    /// The table `meta` of the log at `path` cannot be used.
    pub(super) fn meta(path: &Path, error: MetaError) -> Self {
        let path = || path.to_owned();
        match error {
            MetaError::NewerFormat(found) => OpenError::NewerFormat {
                path: path(),
                found,
            },
            MetaError::OlderFormat(found) => OpenError::OlderFormat {
                path: path(),
                found,
            },
            MetaError::Damaged(reason) => OpenError::Damaged {
                path: path(),
                reason,
            },
            MetaError::Redb(error) => Self::storage(path(), *error),
        }
    }

    /// redb cannot open the file at `path`.
    pub(super) fn database(path: &Path, error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
                path: path.to_owned(),
            },
            other => Self::storage(path.to_owned(), other.into()),
        }
    }

    /// redb found the file at `path` damaged, or could not read or write it.
    pub(super) fn storage(path: PathBuf, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                OpenError::Unusable { path, source }
            }
            redb::Error::Io(error)
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                OpenError::Storage {
                    path,
                    reason: error.to_string(),
                }
            }
            other => OpenError::Damaged {
                path,
                reason: other.to_string(),
            },
        }
    }
}

/// Why a tool gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogToolError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage failed.
    #[error("the log cannot be read or written: {0}")]
    Storage(String),
    /// The folder of a new log must be empty.
    #[error("{path} is not empty", path = .0.display())]
    NotEmpty(PathBuf),
    /// There is nothing of a log in the file that could be saved.
    #[error("nothing of an event log can be found in {path}", path = .0.display())]
    NothingFound(PathBuf),
    /// Records must come in the order of their offsets.
    #[error("the record at {offset} comes after the one at {after}")]
    OutOfOrder {
        /// The record's offset.
        offset: Offset,
        /// The newest that was taken.
        after: Offset,
    },
    /// Two records of a new log have one id.
    #[error("the record at {0} has the id of an earlier one")]
    SameId(Offset),
}

impl<E: Into<redb::Error>> From<E> for LogToolError {
    fn from(error: E) -> Self {
        Self::Storage(error.into().to_string())
    }
}

impl LogToolError {
    /// What a reader of the log would have been told.
    pub(super) fn read(error: ReadError) -> Self {
        Self::Storage(match error {
            ReadError::Storage { reason } => reason.to_string(),
            other => other.to_string(),
        })
    }
}

/// Runs a tool's work on the file, which may be damaged.
pub(super) fn caught<T>(act: impl FnOnce() -> Result<T, LogToolError>) -> Result<T, LogToolError> {
    panics::caught(act, LogToolError::Storage)
}
