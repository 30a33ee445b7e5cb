//! The damaged file: read and never written, and read on behind what the disk cannot give any more.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::StorageBackend;

use super::super::error::OpenError;

/// The damaged file.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    len: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unusable)?;
        let len = file.metadata().map_err(unusable)?.len();
        Ok(Self { file, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        read_at(&self.file, at, out)
    }

    /// Reads what can be read; the rest is zero. Returns how many bytes that is.
    pub(super) fn read_what_is_readable(&self, at: u64, out: &mut [u8]) -> u64 {
        if self.read(at, out).is_ok() {
            return 0;
        }
        let mut unreadable = 0;
        for (n, piece) in out.chunks_mut(SECTOR_BYTES).enumerate() {
            if self.read(at + (n * SECTOR_BYTES) as u64, piece).is_err() {
                piece.fill(0);
                unreadable += piece.len() as u64;
            }
        }
        unreadable
    }
}

/// What a disk loses at once: its sectors have as many bytes, or a part of it.
const SECTOR_BYTES: usize = 4096;

#[cfg(unix)]
pub(super) fn read_at(file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(not(unix))]
pub(super) fn read_at(mut file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    io::Read::read_exact(&mut file, out)
}

/// The damaged file for redb: what it writes, to repair for instance, fails, and a storage that is
/// [guarded](super::super::storage::Guarded) then keeps it in memory.
#[derive(Debug)]
pub(super) struct ReadOnly(pub(super) Arc<Source>);

impl StorageBackend for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
