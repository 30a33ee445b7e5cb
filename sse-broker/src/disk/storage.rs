//! The file under redb, with a way to fail that keeps the readers alive.
//!
//! redb answers a failed write or sync by refusing everything, reads included, until it has been
//! opened again. But what was committed before is still there and readers may have it. So the first
//! failure *freezes* the storage: redb is told that all is well, what it writes from then on goes
//! into memory, over the file and never into it, and the failure is kept for the writer to find. The
//! writer looks after each commit, before anybody is answered, and fences itself; nothing of the
//! failed commit is acknowledged, told or read (readers stop at the last good offset), no sync is
//! tried a second time, and the file stays as the failure left it until it is opened anew.
//!
//! What is kept in memory is the rest of one commit, so the writer's bound on a group bounds it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

/// What the writer knows of the storage that redb holds.
#[derive(Debug, Default)]
pub(super) struct Watch {
    is_frozen: AtomicBool,
    /// Whether a sync is a sync: not at the levels below `fsync`, but when opening and closing.
    skips_sync: AtomicBool,
    frozen: Mutex<Option<Frozen>>,
}

#[derive(Debug)]
struct Frozen {
    failure: Failure,
    /// How long redb believes the file to be.
    len: u64,
    /// The pages that were written since, by number.
    written: BTreeMap<u64, Vec<u8>>,
}

/// Why the storage is frozen.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) is_full: bool,
    pub(super) reason: Arc<str>,
}

impl Failure {
    fn of(doing: &str, error: &io::Error) -> Self {
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        Self {
            is_full,
            reason: format!("{doing} failed: {error}").into(),
        }
    }
}

impl Watch {
    /// The first failure, once there was one.
    pub(super) fn failure(&self) -> Option<Failure> {
        if !self.is_frozen.load(Ordering::Acquire) {
            return None;
        }
        self.frozen
            .lock()
            .as_ref()
            .map(|frozen| frozen.failure.clone())
    }

    pub(super) fn skip_sync(&self, skip: bool) {
        self.skips_sync.store(skip, Ordering::Release);
    }
}

/// A storage that freezes at its first failure.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Box<dyn StorageBackend>,
    watch: Arc<Watch>,
}

impl Guarded {
    pub(super) fn new(inner: Box<dyn StorageBackend>, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }

    /// Runs `frozen` on a frozen storage, else `act`, and freezes when that fails.
    fn act_or_freeze(
        &self,
        doing: &str,
        act: impl FnOnce() -> io::Result<()>,
        then: impl FnOnce(&mut Frozen) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.watch.is_frozen.load(Ordering::Acquire) {
            let Err(error) = act() else { return Ok(()) };
            let len = self.inner.len()?;
            let failure = Failure::of(doing, &error);
            let frozen = Frozen {
                failure,
                len,
                written: BTreeMap::new(),
            };
            self.watch.frozen.lock().get_or_insert(frozen);
            self.watch.is_frozen.store(true, Ordering::Release);
        }
        self.watch.frozen.lock().as_mut().map_or(Ok(()), then)
    }
}

impl Frozen {
    fn write(&mut self, file: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let page = at / PAGE_BYTES;
            let bytes = match self.written.entry(page) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let mut bytes = vec![0; PAGE_BYTES as usize];
                    read_or_zero(file, page * PAGE_BYTES, &mut bytes)?;
                    entry.insert(bytes)
                }
            };
            let from = (at % PAGE_BYTES) as usize;
            let len = rest.len().min(bytes.len() - from);
            bytes[from..from + len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            at += len as u64;
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    /// Lays what was written over what the file has.
    fn patch(&self, offset: u64, out: &mut [u8]) {
        let end = offset + out.len() as u64;
        for (page, data) in self
            .written
            .range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES))
        {
            let at = page * PAGE_BYTES;
            let (from, to) = (offset.max(at), end.min(at + PAGE_BYTES));
            let len = (to - from) as usize;
            let (into, of) = ((from - offset) as usize, (from - at) as usize);
            out[into..into + len].copy_from_slice(&data[of..of + len]);
        }
    }
}

/// Reads what the file has; what lies behind its end was never written to it and is zero.
fn read_or_zero(file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let there = file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
    let (within, beyond) = out.split_at_mut(there);
    beyond.fill(0);
    if within.is_empty() {
        Ok(())
    } else {
        file.read(offset, within)
    }
}

/// How finely what was written since is kept: redb's own page size.
const PAGE_BYTES: u64 = 4096;

impl StorageBackend for Guarded {
    fn len(&self) -> io::Result<u64> {
        if self.watch.is_frozen.load(Ordering::Acquire)
            && let Some(frozen) = self.watch.frozen.lock().as_ref()
        {
            return Ok(frozen.len);
        }
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.watch.is_frozen.load(Ordering::Acquire) {
            return self.inner.read(offset, out);
        }
        read_or_zero(&*self.inner, offset, out)?;
        if let Some(frozen) = self.watch.frozen.lock().as_ref() {
            frozen.patch(offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.act_or_freeze(
            "growing the file",
            || self.inner.set_len(len),
            |frozen| {
                frozen.len = len;
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.watch.skips_sync.load(Ordering::Acquire) {
            return Ok(());
        }
        self.act_or_freeze("syncing the file", || self.inner.sync_data(), |_| Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let act = || self.inner.write(offset, data);
        self.act_or_freeze("writing the file", act, |frozen| {
            frozen.write(&*self.inner, offset, data)
        })
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight bytes of `7`, and everything but reading fails.
    #[derive(Debug)]
    struct Broken;

    impl StorageBackend for Broken {
        fn len(&self) -> io::Result<u64> {
            Ok(8)
        }

        fn read(&self, _: u64, out: &mut [u8]) -> io::Result<()> {
            out.fill(7);
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(io::Error::other("no sync"))
        }

        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::Error::other("no write"))
        }
    }

    #[test]
    fn a_frozen_storage_reads_what_was_written_over_what_the_file_has() {
        let watch = Arc::new(Watch::default());
        let guarded = Guarded::new(Box::new(Broken), Arc::clone(&watch));
        assert!(watch.failure().is_none());
        guarded.set_len(16).expect("swallowed");
        let failure = watch.failure().expect("kept");
        assert!(failure.is_full);
        guarded.sync_data().expect("swallowed");
        guarded.write(6, &[1, 2, 3, 4]).expect("swallowed");
        guarded.write(6, &[9]).expect("swallowed");
        assert_eq!(guarded.len().expect("a length"), 16);
        let mut out = [0xff; 12];
        guarded.read(4, &mut out).expect("readable");
        assert_eq!(out, [7, 7, 9, 2, 3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(watch.failure().expect("the first").reason, failure.reason);
    }
}
