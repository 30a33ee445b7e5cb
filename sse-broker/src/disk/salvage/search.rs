//! What is found by looking at every byte of the file, whether or not the database still reaches it.
//!
//! A block of records is known by its head, whose checksum covers where it stands in the log; each of its records has a
//! checksum of its own. So neither needs the pages around it. Small values, snapshots and states, are known by the page
//! that they are in, a leaf of redb's at a multiple of 4 KiB, and by a checksum that covers their key:
//!
//! ```text
//! u8  1 for a leaf    u8  of no meaning    u16  how many entries
//! u32  for each, where its key ends        u32  for each, where its value ends
//! the keys, then the values
//! ```
//!
//! The bytes of a whole record are not looked at again: a publisher may have written something there that looks like
//! a block.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;

use super::super::block::{BlockExtent, MAX_HEAD_BYTES, RecordBlock};
use super::super::checked::checked;
use super::super::codec::RecordView;
use super::super::error::LogToolError;
use super::super::meta;
use super::super::snapshots;
use super::sorted::Find;
use super::source::Source;
use crate::{Offset, Topic};

/// What was found beside blocks.
#[derive(Default)]
pub(super) struct Found {
    /// How many blocks.
    pub(super) blocks: u64,
    /// The largest offset that a block has.
    pub(super) head: Offset,
    /// The highest floor.
    pub(super) floor: Option<Offset>,
    /// The newest version of each topic's snapshot.
    pub(super) snapshots: BTreeMap<Topic, (Offset, Bytes)>,
    /// States by their keys.
    pub(super) states: BTreeMap<Box<str>, Bytes>,
    /// How many bytes the disk could not give.
    pub(super) unreadable_bytes: u64,
}

/// Looks at every byte, shows each block, and tells now and then how many bytes it has looked at.
pub(super) fn search(
    source: &Source,
    found_block: &mut dyn FnMut(Find) -> Result<(), LogToolError>,
    looked_at: &mut dyn FnMut(u64),
) -> Result<Found, LogToolError> {
    let mut search = Search {
        source,
        found: Found::default(),
        known: BinaryHeap::new(),
    };
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(source.len()).unwrap_or(usize::MAX))];
    let mut at = 0;
    while at < source.len() {
        looked_at(at);
        let there = (source.len() - at).min(buffer.len() as u64) as usize;
        let bytes = &mut buffer[..there];
        let unreadable = source.read_what_is_readable(at, bytes);
        search.found.unreadable_bytes += unreadable;
        // What may begin near the end is looked at with the next buffer, in which all of its head is.
        let is_last = at + there as u64 == source.len();
        let searched = if is_last {
            there
        } else {
            there - OVERLAP_BYTES
        };
        at = search.look_at(at, bytes, searched, found_block)?;
    }
    looked_at(source.len());
    Ok(search.found)
}

struct Search<'a> {
    source: &'a Source,
    found: Found,
    /// Stretches of the file that are known for whole records, the next first.
    known: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Search<'_> {
    /// Looks at the first `searched` of these bytes, which begin at `at` in the file; returns where to go on.
    fn look_at(
        &mut self,
        at: u64,
        bytes: &[u8],
        searched: usize,
        found_block: &mut dyn FnMut(Find) -> Result<(), LogToolError>,
    ) -> Result<u64, LogToolError> {
        let mut n = 0;
        while n < searched {
            let here = at + n as u64;
            if let Some(behind) = self.behind_what_is_known(here) {
                n = usize::try_from(behind - at).unwrap_or(usize::MAX);
                continue;
            }
            if here.is_multiple_of(PAGE_BYTES) {
                self.look_at_page(here, &bytes[n..]);
            }
            if may_begin_block(&bytes[n..])
                && let Some(extent) = RecordBlock::extent(&bytes[n..])
            {
                found_block(self.look_at_block(here, &bytes[n..], extent))?;
            }
            n += 1;
        }
        Ok(at + n as u64)
    }

    /// Where what is known ends, when this byte is within it.
    fn behind_what_is_known(&mut self, here: u64) -> Option<u64> {
        while let Some(Reverse((begin, end))) = self.known.peek().copied() {
            if begin > here {
                return None;
            }
            self.known.pop();
            if end > here {
                return Some(end);
            }
        }
        None
    }

    /// A block of this extent is here.
    fn look_at_block(&mut self, here: u64, bytes: &[u8], extent: BlockExtent) -> Find {
        let mut all = Vec::new();
        // A file that is cut short may have the first records of its last block.
        let there = extent.bytes.min(self.source.len() - here);
        let len = usize::try_from(there).unwrap_or(usize::MAX);
        let bytes = match bytes.get(..len) {
            Some(bytes) => bytes,
            None => {
                all.resize(len, 0);
                self.source.read_what_is_readable(here, &mut all);
                &all
            }
        };
        let BlockExtent { first, last, .. } = extent;
        let mut begin = here + extent.head_bytes as u64;
        if let Ok(block) = RecordBlock::decode(last, bytes) {
            self.known.push(Reverse((here + 1, begin)));
            for (offset, record) in block.records_from(first) {
                let end = begin + record.len() as u64;
                if RecordView::decode(offset, record).is_ok() {
                    self.known.push(Reverse((begin, end)));
                }
                begin = end;
            }
        }
        self.found.blocks += 1;
        self.found.head = self.found.head.max(last);
        Find {
            first,
            last,
            digest: crc32fast::hash(bytes),
            at: here,
        }
    }

    /// Takes the small values of a page that is a leaf of a table of texts.
    fn look_at_page(&mut self, here: u64, bytes: &[u8]) {
        let [1, _, low, high, ..] = *bytes else {
            return;
        };
        let count = usize::from(u16::from_le_bytes([low, high]));
        let keys = 4 + 8 * count;
        let Some(ends) = bytes.get(4..keys) else {
            return;
        };
        let (ends, _) = ends.as_chunks::<4>();
        let ends = ends.iter().map(|end| u64::from(u32::from_le_bytes(*end)));
        let ends: Vec<u64> = std::iter::once(keys as u64).chain(ends).collect();
        // Keys first, then values, each behind the one before, and within the file.
        let is_leaf = count > 0
            && ends.is_sorted()
            && ends
                .last()
                .is_some_and(|end| here + end <= self.source.len());
        if !is_leaf {
            return;
        }
        let len = |n: usize| ends[n + 1] - ends[n];
        for n in 0..count {
            if len(n) > MAX_KEY_BYTES || len(count + n) > MAX_VALUE_BYTES {
                continue;
            }
            let key = self.piece(here, bytes, ends[n]..ends[n + 1]);
            let value = self.piece(here, bytes, ends[count + n]..ends[count + n + 1]);
            if let Ok(key) = std::str::from_utf8(&key) {
                self.take_value(key, &value);
            }
        }
    }

    /// A piece of the page that begins here.
    fn piece(&self, here: u64, bytes: &[u8], piece: std::ops::Range<u64>) -> Vec<u8> {
        let (begin, end) = (piece.start as usize, piece.end as usize);
        if let Some(bytes) = bytes.get(begin..end) {
            return bytes.to_owned();
        }
        let mut bytes = vec![0; end - begin];
        self.source
            .read_what_is_readable(here + piece.start, &mut bytes);
        bytes
    }

    fn take_value(&mut self, key: &str, value: &[u8]) {
        if let Some((version, bytes)) = snapshots::decode_versioned(key, value) {
            let Ok(topic) = Topic::new(key) else { return };
            let newest = self.found.snapshots.entry(topic).or_default();
            if version >= newest.0 {
                *newest = (version, Bytes::copy_from_slice(bytes));
            }
            return;
        }
        let Ok(bytes) = checked(key.as_bytes(), value) else {
            return;
        };
        if meta::NAMES.contains(&key) {
            if key == "floor"
                && let Some(floor) = bytes.first_chunk()
            {
                let floor = Offset::from_le_bytes(*floor);
                self.found.floor = self.found.floor.max(Some(floor));
            }
            return;
        }
        // Other tables have numbers under the names of topics and rules.
        if key.contains('\0') || bytes.len() == 8 || bytes.len() == 16 {
            return;
        }
        self.found
            .states
            .insert(key.into(), Bytes::copy_from_slice(bytes));
    }
}

/// Whether a block may begin here, by what is quick to see: few records, and an offset below 2⁵⁶.
fn may_begin_block(bytes: &[u8]) -> bool {
    let Some([first @ .., c0, c1, c2, c3]) = bytes.first_chunk::<12>() else {
        return false;
    };
    *c3 == 0 && *c2 == 0 && first[7] == 0 && (*c0 != 0 || *c1 != 0) && first != &[0; 8]
}

/// What is read at once.
const BUFFER_BYTES: usize = 4 << 20;
/// The head of a block or a leaf that begins before is whole within a buffer: a leaf's is its number of entries, of two
/// bytes, times eight.
const OVERLAP_BYTES: usize = {
    let leaf = 4 + 8 * (u16::MAX as usize);
    if leaf > MAX_HEAD_BYTES {
        leaf
    } else {
        MAX_HEAD_BYTES
    }
};
/// No topic and no key of a state is longer.
const MAX_KEY_BYTES: u64 = 4096;
/// A value that is larger is not searched for: what merely looks like a page must not cost memory. A stated guess.
const MAX_VALUE_BYTES: u64 = 16 << 20;
/// Where redb's pages begin.
const PAGE_BYTES: u64 = 4096;
