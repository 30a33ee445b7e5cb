//! A disk that forgets: what was not synced may be lost, reordered or torn when the power goes.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// The disk; its files are handles to it.
#[derive(Clone, Debug)]
pub(crate) struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    /// What is safe.
    synced: Vec<u8>,
    /// What the operating system shows: all that was written.
    shown: Vec<u8>,
    /// What was written since the last sync, in order.
    unsynced: Vec<Op>,
    /// How many operations until the power goes.
    power_for: Option<u64>,
    /// How many syncs until one fails, once.
    sync_fails_in: Option<u64>,
    capacity: Option<u64>,
    /// What every write fails with.
    write_fails: Option<io::ErrorKind>,
    /// Syncs wait as long as this is set.
    syncs_are_held: bool,
    operations: u64,
    written_bytes: u64,
    syncs: u64,
    /// One that is open when the power goes does not see what comes after.
    generation: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// What a disk writes at once.
const SECTOR: usize = 512;

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn image(bytes: Vec<u8>) -> Self {
        let disk = Disk {
            synced: bytes.clone(),
            shown: bytes,
            ..Disk::default()
        };
        Self(Arc::new(Mutex::new(disk)))
    }

    pub(crate) fn file(&self) -> io::Result<Box<dyn StorageBackend>> {
        let generation = self.0.lock().generation;
        Ok(Box::new(SimFile {
            disk: Arc::clone(&self.0),
            generation,
        }))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().shown.clone()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    pub(crate) fn written_bytes(&self) -> u64 {
        self.0.lock().written_bytes
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.0.lock().power_for = Some(operations);
    }

    pub(crate) fn fail_a_sync_after(&self, syncs: u64) {
        self.0.lock().sync_fails_in = Some(syncs);
    }

    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    pub(crate) fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().write_fails = kind;
    }

    /// The disk becomes slow: a sync waits until this is taken back.
    pub(crate) fn hold_syncs(&self, held: bool) {
        self.0.lock().syncs_are_held = held;
    }

    /// How many bytes were written and not synced.
    pub(crate) fn unsynced_bytes(&self) -> usize {
        let disk = self.0.lock();
        let len = |op: &Op| match op {
            Op::Write { data, .. } => data.len(),
            Op::SetLen(_) => 0,
        };
        disk.unsynced.iter().map(len).sum()
    }

    /// What is on the disk when the power goes after so many of the unsynced bytes, in order.
    pub(crate) fn torn_after(&self, bytes: usize) -> Vec<u8> {
        let disk = self.0.lock();
        let mut image = disk.synced.clone();
        let mut left = bytes;
        for op in &disk.unsynced {
            match op {
                Op::SetLen(len) => image.resize(*len, 0),
                Op::Write { offset, data } => {
                    let part = &data[..data.len().min(left)];
                    image[*offset..offset + part.len()].copy_from_slice(part);
                    left -= part.len();
                }
            }
        }
        image
    }

    /// The power comes back: of what was not synced, chance keeps some, in any order, torn or whole.
    pub(crate) fn restart(&self, random: &mut fastrand::Rng) {
        let mut disk = self.0.lock();
        disk.generation += 1;
        disk.power_for = None;
        disk.sync_fails_in = None;
        let mut unsynced = std::mem::take(&mut disk.unsynced);
        let mut image = std::mem::take(&mut disk.synced);
        match random.u8(..4) {
            // Nothing of it, all of it, or the first part of it reached the disk...
            0 => unsynced.clear(),
            1 => {}
            2 => unsynced.truncate(random.usize(..=unsynced.len())),
            // ... or any of it, in any order.
            _ => {
                unsynced.retain(|_| random.bool());
                random.shuffle(&mut unsynced);
            }
        }
        let tears = random.bool();
        for op in unsynced {
            match op {
                Op::SetLen(len) => image.resize(len, 0),
                Op::Write { offset, data } => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if tears && random.u8(..4) == 0 {
                            continue;
                        }
                        let at = offset + n * SECTOR;
                        // What lies beyond the file's end is lost with the length.
                        if image.len() >= at + sector.len() {
                            image[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        disk.shown = image.clone();
        disk.synced = image;
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Disk>>,
    generation: u64,
}

impl SimFile {
    /// Counts an operation that changes the disk; without power it fails.
    fn operate<T>(&self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.generation != self.generation || disk.power_for == Some(0) {
            return Err(io::Error::other("the power is out"));
        }
        disk.operations += 1;
        if let Some(power_for) = &mut disk.power_for {
            *power_for -= 1;
        }
        act(&mut disk)
    }
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let there = disk
            .shown
            .get(offset..)
            .and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|disk| {
            if disk.capacity.is_some_and(|capacity| len > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let len = usize::try_from(len).map_err(io::Error::other)?;
            disk.shown.resize(len, 0);
            disk.unsynced.push(Op::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        // No lock is held meanwhile: a disk that syncs can be read.
        while self.disk.lock().syncs_are_held {
            std::thread::yield_now();
        }
        self.operate(|disk| {
            disk.syncs += 1;
            match &mut disk.sync_fails_in {
                Some(0) => {
                    disk.sync_fails_in = None;
                    return Err(io::Error::other("a sync that failed on purpose"));
                }
                Some(n) => *n -= 1,
                None => {}
            }
            for op in std::mem::take(&mut disk.unsynced) {
                match op {
                    Op::SetLen(len) => disk.synced.resize(len, 0),
                    Op::Write { offset, data } => {
                        disk.synced[offset..offset + data.len()].copy_from_slice(&data);
                    }
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|disk| {
            if let Some(kind) = disk.write_fails {
                return Err(kind.into());
            }
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let into = disk.shown.get_mut(offset..offset + data.len());
            into.ok_or(io::ErrorKind::UnexpectedEof)?
                .copy_from_slice(data);
            disk.written_bytes += data.len() as u64;
            disk.unsynced.push(Op::Write {
                offset,
                data: data.to_vec(),
            });
            Ok(())
        })
    }
}
