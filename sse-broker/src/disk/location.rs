//! Where a log is kept: a folder that is locked while it is open, or a storage that a test brings.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, StorageBackend};

use super::error::OpenError;
use super::seal::{NewEpoch, Place, SEAL_FILE_NAME, Seal, SealFile};
use crate::{Epoch, LogTime, Offset};

/// The log's file within its folder.
pub(super) const FILE_NAME: &str = "events.redb";

/// What a log is created as, until it is complete.
const NEW_FILE_NAME: &str = "events.redb.new";

/// Held while a log is open, so that a second hub is refused before it looks at anything.
pub(super) const LOCK_FILE_NAME: &str = "lock";

/// How every redb file begins.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Where the log is kept; it can be opened again.
pub(super) struct Location {
    /// For messages.
    pub(super) path: PathBuf,
    open: Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>,
    /// Free bytes of the disk, where that is known.
    available_bytes: Box<dyn Fn() -> Option<u64> + Send>,
    /// Of a log in a folder.
    seal: Option<RefCell<Sealed>>,
    /// Locked as long as this lives.
    _lock: Option<File>,
}

/// The seal of a log's file, and where the file was found.
struct Sealed {
    file: SealFile,
    place: Place,
    /// What the owner of the clock has said since.
    time: Option<LogTime>,
}

impl Location {
    /// The log in `folder`, made when there is none.
    pub(super) fn folder(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        let lock = lock_folder(folder)?;
        let path = folder.join(FILE_NAME);
        if !path.try_exists().map_err(unusable(&path))? {
            create(folder, &path)?;
        }
        let mut magic = Vec::new();
        let file = open_read_write(&path, false).map_err(unusable(&path))?;
        file.take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(unusable(&path))?;
        if magic != MAGIC {
            return Err(OpenError::NotALog { path });
        }
        let seal = Sealed {
            file: SealFile::open(folder).map_err(unusable(&folder.join(SEAL_FILE_NAME)))?,
            place: Place::of(&path).map_err(unusable(&path))?,
            time: None,
        };
        let (to_open, to_measure) = (path.clone(), folder.to_owned());
        Ok(Self {
            path,
            open: Box::new(move || {
                let file = open_read_write(&to_open, false)?;
                let backend = redb::backends::FileBackend::new(file).map_err(io::Error::other)?;
                Ok(Box::new(backend))
            }),
            available_bytes: Box::new(move || available_bytes(&to_measure)),
            seal: Some(RefCell::new(seal)),
            _lock: Some(lock),
        })
    }

    /// A log on whatever `open` opens.
    pub(super) fn storage(
        open: impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + 'static,
        available_bytes: impl Fn() -> Option<u64> + Send + 'static,
    ) -> Self {
        Self {
            path: PathBuf::from("the given storage"),
            open: Box::new(open),
            available_bytes: Box::new(available_bytes),
            seal: None,
            _lock: None,
        }
    }

    /// What the file is to be taken for, by its stamp, epoch and newest record; `None` for what it was.
    pub(super) fn judge(
        &self,
        stamp: Option<u64>,
        epoch: Epoch,
        head: Offset,
        is_same_log: bool,
    ) -> Option<NewEpoch> {
        // Files of the formats before 4 have no stamp.
        let (seal, stamp) = (self.seal.as_ref()?.borrow(), stamp?);
        Seal::judge(seal.file.seal, seal.place, stamp, epoch, head, is_same_log)
    }

    /// Draws the next stamp and notes it in the seal, before the file has it; nothing where there is no seal.
    pub(super) fn next_stamp(&self) -> io::Result<Option<u64>> {
        let Some(sealed) = &self.seal else {
            return Ok(None);
        };
        let mut sealed = sealed.borrow_mut();
        let next_stamp = Epoch::random().0;
        let seal = Seal {
            next_stamp,
            ..sealed.file.seal.unwrap_or_default()
        };
        sealed.file.write(seal)?;
        sealed.file.sync()?;
        Ok(Some(next_stamp))
    }

    /// Notes that the file has the next stamp, and what is acknowledged of it.
    pub(super) fn seal(&self, epoch: Epoch, head: Offset) -> io::Result<()> {
        let Some(sealed) = &self.seal else {
            return Ok(());
        };
        let mut sealed = sealed.borrow_mut();
        let before = sealed.file.seal.unwrap_or_default();
        let seal = Seal {
            stamp: before.next_stamp,
            place: sealed.place.to_remember(),
            epoch: epoch.0,
            head,
            time: sealed.time.unwrap_or(before.time),
            ..before
        };
        if seal == before {
            return Ok(());
        }
        sealed.file.write(seal)
    }

    /// Takes the time for the next [`seal`](Self::seal).
    pub(super) fn note_time(&self, time: LogTime) {
        if let Some(sealed) = &self.seal {
            sealed.borrow_mut().time = Some(time);
        }
    }

    /// The time that the seal has.
    pub(super) fn last_time(&self) -> Option<LogTime> {
        let seal = self.seal.as_ref()?.borrow().file.seal?;
        Some(seal.time).filter(|time| *time != LogTime::default())
    }

    /// Whether the file is still where it was opened; else what became of it. Costs one `stat`.
    pub(super) fn check_place(&self) -> Result<(), Arc<str>> {
        let Some(sealed) = &self.seal else {
            return Ok(());
        };
        let path = self.path.display();
        match Place::of(&self.path) {
            Ok(place) if place == sealed.borrow().place => Ok(()),
            Ok(_) => Err(format!("{path} was replaced while the hub had it open; nothing is stored until the hub is started again").into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{path} was removed while the hub had it open; nothing more is stored. What it held can be read until the hub stops: started again, it begins an empty log").into())
            }
            Err(error) => Err(format!("{path} cannot be found: {error}").into()),
        }
    }

    pub(super) fn available_bytes(&self) -> Option<u64> {
        (self.available_bytes)()
    }

    /// Opens what the bytes are in.
    pub(super) fn open_storage(&self) -> Result<Box<dyn StorageBackend>, OpenError> {
        (self.open)().map_err(|source| OpenError::Unusable {
            path: self.path.clone(),
            source,
        })
    }
}

/// Makes the folder when there is none, and locks it for as long as the file is held.
pub(super) fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Unusable { path, source }
    };
    std::fs::create_dir_all(folder).map_err(unusable(folder))?;
    let lock_path = folder.join(LOCK_FILE_NAME);
    let lock = open_read_write(&lock_path, true).map_err(unusable(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: folder.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(OpenError::Unusable {
            path: lock_path,
            source,
        }),
    }
}

fn open_read_write(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}

/// Makes an empty log under another name and moves it into place when it is whole, so that a file
/// under the log's name is a log or none of ours.
fn create(folder: &Path, path: &Path) -> Result<(), OpenError> {
    let new = folder.join(NEW_FILE_NAME);
    let unusable = |source| OpenError::Unusable {
        path: new.clone(),
        source,
    };
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let db = Database::create(&new).map_err(|error| match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(source)) => unusable(source),
        other => unusable(io::Error::other(other)),
    })?;
    drop(db);
    std::fs::rename(&new, path).map_err(unusable)?;
    // So that the name is as safe as the file. Not every system can sync a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(unix)]
fn available_bytes(folder: &Path) -> Option<u64> {
    let stats = rustix::fs::statvfs(folder).ok()?;
    stats.f_bavail.checked_mul(stats.f_frsize)
}

#[cfg(not(unix))]
fn available_bytes(_: &Path) -> Option<u64> {
    None
}

/// Whether there is nothing in a folder, or no folder.
pub(super) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
