//! Finds in the order of their offsets, however many there are: sorted in pieces on the disk, and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use super::source::read_at;
use crate::Offset;

/// A block that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Find {
    /// Its first record.
    pub(super) first: Offset,
    /// Its last.
    pub(super) last: Offset,
    /// A checksum of all of its bytes: copies of a block that are not the same are told apart by it.
    pub(super) digest: u32,
    /// Where in the file; [`Find::REACHED`] says only that the database still has it.
    pub(super) at: u64,
}

impl Find {
    /// Not a place: the block is in a page that the database still reaches.
    pub(super) const REACHED: u64 = u64::MAX;

    const BYTES: usize = 28;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.digest.to_le_bytes());
        bytes[20..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| {
            let chunk = bytes[at..].first_chunk().copied();
            u64::from_le_bytes(chunk.unwrap_or_default())
        };
        let digest = bytes[16..].first_chunk().copied();
        Self {
            first: number(0),
            last: number(8),
            digest: u32::from_le_bytes(digest.unwrap_or_default()),
            at: number(20),
        }
    }
}

/// Takes finds in any order.
pub(super) struct Sorter {
    file: BufWriter<File>,
    /// Removes the file in the end, where that could not be done at once.
    _name: Option<Removed>,
    waiting: Vec<Find>,
    /// Of each sorted piece in the file, where it begins and ends.
    pieces: Vec<(u64, u64)>,
    max_waiting: usize,
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Sorter {
    /// Keeps what does not fit into memory in a file at `path`, which is gone when this is.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Self::with_room_for(path, MAX_WAITING)
    }

    fn with_room_for(path: &Path, max_waiting: usize) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(path)?;
        // An open file without a name goes with the process, whatever becomes of it.
        let name = match cfg!(unix) && std::fs::remove_file(path).is_ok() {
            true => None,
            false => Some(Removed(path.to_owned())),
        };
        Ok(Self {
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            _name: name,
            waiting: Vec::new(),
            pieces: Vec::new(),
            max_waiting,
        })
    }

    pub(super) fn push(&mut self, find: Find) -> io::Result<()> {
        self.waiting.push(find);
        if self.waiting.len() < self.max_waiting {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> io::Result<()> {
        self.waiting.sort_unstable();
        let begin = self.file.stream_position()?;
        for find in &self.waiting {
            self.file.write_all(&find.to_bytes())?;
        }
        let end = begin + (self.waiting.len() * Find::BYTES) as u64;
        self.pieces.push((begin, end));
        self.waiting.clear();
        Ok(())
    }

    /// All of them in order.
    pub(super) fn sorted(mut self) -> io::Result<Sorted> {
        self.spill()?;
        self.file.flush()?;
        let mut sorted = Sorted {
            file: self
                .file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?,
            _name: self._name,
            pieces: Vec::new(),
            next: BinaryHeap::new(),
        };
        for (n, (at, end)) in self.pieces.into_iter().enumerate() {
            sorted.pieces.push(Piece {
                at,
                end,
                read: Vec::new(),
            });
            sorted.advance(n)?;
        }
        Ok(sorted)
    }
}

/// Gives finds in order.
pub(super) struct Sorted {
    file: File,
    _name: Option<Removed>,
    pieces: Vec<Piece>,
    /// The next of each piece.
    next: BinaryHeap<Reverse<(Find, usize)>>,
}

struct Piece {
    at: u64,
    end: u64,
    /// Read, and still to be given: the next is the last.
    read: Vec<Find>,
}

impl Sorted {
    /// The next, which stays.
    pub(super) fn peek(&self) -> Option<Find> {
        self.next.peek().map(|Reverse((find, _))| *find)
    }

    pub(super) fn pop(&mut self) -> io::Result<Option<Find>> {
        let Some(Reverse((find, piece))) = self.next.pop() else {
            return Ok(None);
        };
        self.advance(piece)?;
        Ok(Some(find))
    }

    fn advance(&mut self, n: usize) -> io::Result<()> {
        let piece = &mut self.pieces[n];
        if piece.read.is_empty() && piece.at < piece.end {
            let len = (piece.end - piece.at).min((READ_FINDS * Find::BYTES) as u64);
            let mut bytes = vec![0; len as usize];
            read_at(&self.file, piece.at, &mut bytes)?;
            piece.at += len;
            let (finds, _) = bytes.as_chunks::<{ Find::BYTES }>();
            piece.read.extend(finds.iter().rev().map(Find::from_bytes));
        }
        if let Some(find) = piece.read.pop() {
            self.next.push(Reverse((find, n)));
        }
        Ok(())
    }
}

/// So many finds are in memory while they are collected: 32 MiB.
const MAX_WAITING: usize = 1 << 20;
/// So many of each piece while they are given: 16 KiB, and a log of 100 GiB in small blocks has some hundred pieces.
const READ_FINDS: usize = 512;
const WRITE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_come_in_order_however_many_pieces_they_were_sorted_in() {
        let folder = tempfile::tempdir().expect("a folder");
        for (count, room) in [(0, 3), (1, 3), (3, 3), (2_000, 3), (2_000, 5_000)] {
            let random = &mut fastrand::Rng::with_seed(count);
            let path = folder.path().join("finds");
            let mut sorter = Sorter::with_room_for(&path, room).expect("a file");
            let mut expected = Vec::new();
            for _ in 0..count {
                let first = random.u64(1..500);
                let find = Find {
                    first,
                    last: first + random.u64(0..3),
                    digest: random.u32(..),
                    at: random.u64(..),
                };
                expected.push(find);
                sorter.push(find).expect("written");
            }
            expected.sort_unstable();
            let mut sorted = sorter.sorted().expect("read");
            let mut given = Vec::new();
            while let Some(next) = sorted.peek() {
                assert_eq!(sorted.pop().expect("read"), Some(next));
                given.push(next);
            }
            assert_eq!(given, expected);
            drop(sorted);
            assert!(!path.exists(), "nothing is left");
        }
    }
}
