//! The log's seal: a small file beside the log that says where the log's file is, which one it is, and how far it was
//! acknowledged.
//!
//! redb keeps two versions of its root and goes back to the older when the newer is damaged, without a word. And a file
//! cannot tell that it is a copy. So what the file must hold when it is opened again is written outside of it:
//!
//! * the *head*, the newest acknowledged offset, written after each commit and before its publishers are answered. It is not
//!   synced: what a process wrote outlives it, and after a loss of power an older seal asks for less than the disk has;
//! * a *stamp*, a random number that is drawn at each start and clean end and that the log's file has too: an older state
//!   of the file has another;
//! * the file's *place*, its device and inode: a copy has another. A device may get another number when the machine is
//!   started again, so the device counts only until then.
//!
//! A file that does not match its seal gets a new epoch ([`NewEpoch`]). The new stamp is written to the seal first, beside the
//! old one, and then to the file: a crash between the two leaves a file that matches either.
//!
//! ```text
//! "sse-seal"            then twice, at 512 and at 1024, written in turns; the higher number is the newer:
//! u64  number of this writing       u64  stamp          u64  next stamp, or the same
//! u64  device   u64  inode          u64  boot of the machine
//! u64  epoch    u64  head
//! u64  the time by which records age            u64  the wall clock
//! u32  CRC-32 of the bytes before
//! ```

use std::fs::File;
use std::io;
use std::path::Path;

use super::checked::{checked, with_checksum};
use super::session::boot_id;
use crate::record::Fingerprint;
use crate::{Epoch, LogTime, Offset};

/// The seal's file within the log's folder.
pub(super) const SEAL_FILE_NAME: &str = "events.seal";

const MAGIC: &[u8; 8] = b"sse-seal";

/// What a seal says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    /// Which file it is the seal of.
    pub(super) stamp: u64,
    /// What the stamp is about to become; the same when it is not.
    pub(super) next_stamp: u64,
    /// Where the file is; nowhere when that is not known.
    pub(super) place: Place,
    pub(super) epoch: u64,
    /// The newest record that was acknowledged.
    pub(super) head: Offset,
    /// What time it was; all zero when nobody has said.
    pub(super) time: LogTime,
}

/// Where a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    device: u64,
    inode: u64,
    /// Which run of the machine gave the device its number.
    boot: u64,
}

impl Place {
    /// Where the file at `path` is. Elsewhere than on Unix all files are in one place.
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata(path)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            boot: 0,
        })
    }

    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path)?;
        Ok(Self {
            device: 1,
            inode: 1,
            boot: 0,
        })
    }

    /// The same, to be remembered beyond this run of the machine.
    pub(super) fn to_remember(self) -> Self {
        let mut hash = Fingerprint::default();
        let boot = boot_id().unwrap_or_default();
        boot.iter().for_each(|byte| hash.number(u64::from(*byte)));
        Self {
            boot: hash.0,
            ..self
        }
    }

    /// Whether a file that was remembered to be there may be here.
    fn may_be(self, here: Self) -> bool {
        let here = here.to_remember();
        self.inode == here.inode && (self.device == here.device || self.boot != here.boot)
    }
}

/// Why a log has another epoch than when it was last open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewEpoch {
    /// It was not closed, at a level at which its newest records may not have reached the disk.
    #[error("it was not closed, and what it acknowledged last may not have reached the disk")]
    Unsynced,
    /// Its newest commits are damaged and it opens at an older one: records that were acknowledged are gone.
    #[error("its newest commits are damaged: {} acknowledged records after {found} are gone", acknowledged - found)]
    FellBack {
        /// The newest record that is there.
        found: Offset,
        /// The newest that was acknowledged.
        acknowledged: Offset,
    },
    /// The file is a copy, an import, or an older state that was put back.
    #[error("{0}; to go on as the same log, open it once with same-log")]
    Moved(&'static str),
}

impl Seal {
    /// What the file at `here`, with this stamp, epoch and newest record, is to be taken for; `None` for what it was.
    pub(super) fn judge(
        seal: Option<Self>,
        here: Place,
        stamp: u64,
        epoch: Epoch,
        head: Offset,
        is_same_log: bool,
    ) -> Option<NewEpoch> {
        let moved = |why| (!is_same_log).then_some(NewEpoch::Moved(why));
        let Some(seal) = seal else {
            return moved("it was imported, or copied here without its seal");
        };
        if seal.stamp != stamp && seal.next_stamp != stamp {
            return moved("another state of its file was put here");
        }
        if seal.epoch == epoch.0 && seal.head > head {
            return Some(NewEpoch::FellBack {
                found: head,
                acknowledged: seal.head,
            });
        }
        if !seal.place.may_be(here) {
            return moved("its file was copied here");
        }
        None
    }

    fn to_bytes(self, number: u64) -> Vec<u8> {
        let Place {
            device,
            inode,
            boot,
        } = self.place;
        let Self {
            stamp,
            next_stamp,
            epoch,
            head,
            time: LogTime { age, wall },
            ..
        } = self;
        let numbers = [
            number, stamp, next_stamp, device, inode, boot, epoch, head, age, wall,
        ];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        with_checksum(MAGIC, &bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<(u64, Self)> {
        // The first seals had no time.
        let bytes = [SEAL_BYTES, SEAL_BYTES - 16]
            .into_iter()
            .find_map(|len| checked(MAGIC, bytes.get(..len)?).ok())?;
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |n: usize| numbers.get(n).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let seal = Self {
            stamp: number(1),
            next_stamp: number(2),
            place: Place {
                device: number(3),
                inode: number(4),
                boot: number(5),
            },
            epoch: number(6),
            head: number(7),
            time: LogTime {
                age: number(8),
                wall: number(9),
            },
        };
        Some((number(0), seal))
    }
}

const SEAL_BYTES: usize = 10 * 8 + 4;

/// Where the two writings stand: in different sectors, so that one that is torn leaves the other.
const PLACES: [u64; 2] = [512, 1024];

/// The seal's file, open.
#[derive(Debug)]
pub(super) struct SealFile {
    file: File,
    number: u64,
    /// What it says; nothing when there was none, or it is damaged.
    pub(super) seal: Option<Seal>,
}

impl SealFile {
    /// Opens the seal in `folder`; makes an empty one when there is none.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SEAL_FILE_NAME);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(path)?;
        let bytes = read_all(&file)?;
        let (number, seal) = newest(&bytes).unzip();
        if bytes.is_empty() {
            write_at(&file, 0, MAGIC)?;
        }
        Ok(Self {
            file,
            number: number.unwrap_or(0),
            seal,
        })
    }

    /// Writes what the seal says from here on. A torn writing leaves the one before.
    pub(super) fn write(&mut self, seal: Seal) -> io::Result<()> {
        self.number += 1;
        let at = PLACES[(self.number % 2) as usize];
        write_at(&self.file, at, &seal.to_bytes(self.number))?;
        self.seal = Some(seal);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What the seal in `folder` says, where there is one that is whole; makes none.
pub(super) fn look(folder: &Path) -> Option<Seal> {
    let file = File::open(folder.join(SEAL_FILE_NAME)).ok()?;
    newest(&read_all(&file).ok()?).map(|(_, seal)| seal)
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, 4096), &mut bytes)?;
    Ok(bytes)
}

/// The newer of the two writings, and its number.
fn newest(bytes: &[u8]) -> Option<(u64, Seal)> {
    let writings = PLACES
        .iter()
        .filter_map(|at| Seal::from_bytes(bytes.get(usize::try_from(*at).ok()?..)?));
    writings.max_by_key(|(number, _)| *number)
}

#[cfg(unix)]
fn write_at(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    io::Write::write_all(&mut file, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place {
        device: 1,
        inode: 2,
        boot: 0,
    };

    fn seal() -> Seal {
        Seal {
            stamp: 7,
            next_stamp: 7,
            place: HERE.to_remember(),
            epoch: 9,
            head: 100,
            time: LogTime { age: 5, wall: 6 },
        }
    }

    #[test]
    fn a_seal_without_the_time_is_read() {
        let bytes = seal().to_bytes(3);
        assert_eq!(Seal::from_bytes(&bytes), Some((3, seal())));
        let old = with_checksum(MAGIC, &bytes[..64]);
        let time = LogTime::default();
        let old = Seal::from_bytes(&[&old[..], &[0; 40]].concat());
        assert_eq!(old, Some((3, Seal { time, ..seal() })));
    }

    fn judged(seal: Option<Seal>, here: Place, stamp: u64, head: Offset) -> Option<NewEpoch> {
        Seal::judge(seal, here, stamp, Epoch(9), head, false)
    }

    #[test]
    fn a_file_that_is_what_and_where_it_was_is_the_same_log() {
        assert_eq!(judged(Some(seal()), HERE, 7, 100), None);
        // A commit that was not acknowledged may be there.
        assert_eq!(judged(Some(seal()), HERE, 7, 101), None);
        // The machine was started anew in between, and the device has another number.
        let mut before = seal();
        before.place.boot ^= 1;
        before.place.device = 5;
        assert_eq!(judged(Some(before), HERE, 7, 100), None);
        // A crash between the two stamps.
        let mut between = seal();
        between.next_stamp = 8;
        assert_eq!(judged(Some(between), HERE, 7, 100), None);
        assert_eq!(judged(Some(between), HERE, 8, 100), None);
    }

    #[test]
    fn a_file_that_is_not_is_another_log_unless_the_operator_says_otherwise() {
        let elsewhere = Place { inode: 3, ..HERE };
        for (seal, here, stamp) in [
            (None, HERE, 7),
            (Some(seal()), HERE, 6),
            (Some(seal()), elsewhere, 7),
        ] {
            let found = judged(seal, here, stamp, 100);
            assert!(matches!(found, Some(NewEpoch::Moved(_))), "{found:?}");
            assert_eq!(Seal::judge(seal, here, stamp, Epoch(9), 100, true), None);
        }
        // What was acknowledged is gone, whatever the operator says.
        let fell_back = Some(NewEpoch::FellBack {
            found: 99,
            acknowledged: 100,
        });
        let found = Seal::judge(Some(seal()), elsewhere, 7, Epoch(9), 99, true);
        assert_eq!(found, fell_back);
    }

    #[test]
    fn a_torn_writing_leaves_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = SealFile::open(folder.path()).expect("made");
        assert_eq!(file.seal, None);
        for head in 1..=5 {
            file.write(Seal { head, ..seal() }).expect("written");
        }
        let path = folder.path().join(SEAL_FILE_NAME);
        let whole = std::fs::read(&path).expect("readable");
        let newest = PLACES[(5 % 2) as usize] as usize;
        for at in newest..newest + SEAL_BYTES {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).expect("written");
            let read = SealFile::open(folder.path()).expect("readable").seal;
            assert_eq!(read.map(|seal| seal.head), Some(4), "torn at {at}");
        }
    }
}
