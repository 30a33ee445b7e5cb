//! Blocks: records side by side in one value, so that a commit costs a few insertions and not one for each.
//!
//! ```text
//! u64  offset of the first record
//! u32  how many there are
//! u32  for each, where it ends among their bytes
//! u32  CRC-32 of the offset of the last record and all the bytes before
//! the records, one after the other, each as `codec` writes it, with a checksum of its own
//! ```
//!
//! A record that the rule of a topic has removed has no bytes there any more.
//!
//! The key is the offset of the last record, so that a position is found by going forward. A block
//! holds records of one commit. Damage of a record is the record's own; damage of what stands before
//! them is the block's.

use crate::Offset;
use crate::encoding::Damaged;

/// A block, taken apart but not copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordBlock<'a> {
    pub(super) first: Offset,
    pub(super) last: Offset,
    ends: &'a [[u8; END_BYTES]],
    records: &'a [u8],
}

impl<'a> RecordBlock<'a> {
    /// Reads the block of which `last` is the key.
    pub(super) fn decode(last: Offset, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let (block, is_whole) = Self::parse(last, bytes)?;
        if is_whole() { Ok(block) } else { Err(Damaged) }
    }

    /// Takes it apart, with a way to find out whether what stands before its records is whole.
    pub(super) fn parse(
        last: Offset,
        bytes: &'a [u8],
    ) -> Result<(Self, impl FnOnce() -> bool + 'a), Damaged> {
        let (first, rest) = bytes.split_first_chunk::<8>().ok_or(Damaged)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
        let (first, count) = (u64::from_le_bytes(*first), u32::from_le_bytes(*count));
        if first == 0 || count == 0 || last.checked_sub(first) != Some(u64::from(count) - 1) {
            return Err(Damaged);
        }
        let len = (count as usize).checked_mul(END_BYTES).ok_or(Damaged)?;
        let (ends, rest) = rest.split_at_checked(len).ok_or(Damaged)?;
        let (stored, records) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
        let is_whole =
            move || checksum(last, &bytes[..HEAD_BYTES + len]) == u32::from_le_bytes(*stored);
        let (ends, _) = ends.as_chunks::<END_BYTES>();
        let block = Self {
            first,
            last,
            ends,
            records,
        };
        Ok((block, is_whole))
    }

    /// What the head at the beginning of `bytes` says of its block, when it is whole. Unlike [`decode`](Self::decode) it
    /// needs no key, so that a block is found wherever it lies; `bytes` need not hold all of the block.
    pub(super) fn extent(bytes: &[u8]) -> Option<BlockExtent> {
        let first = u64::from_le_bytes(*bytes.first_chunk()?);
        let count = u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
        if first == 0 || count == 0 || count > MAX_RECORDS {
            return None;
        }
        let last = first.checked_add(u64::from(count) - 1)?;
        let head = HEAD_BYTES + count as usize * END_BYTES;
        let stored = u32::from_le_bytes(*bytes.get(head..)?.first_chunk()?);
        let (ends, _) = bytes[HEAD_BYTES..head].as_chunks::<END_BYTES>();
        // Cheaper than the checksum, and there is no block without any bytes of records.
        let end = ends.last().map_or(0, |end| u32::from_le_bytes(*end));
        if end == 0 || checksum(last, &bytes[..head]) != stored {
            return None;
        }
        let head_bytes = head + CHECKSUM_BYTES;
        Some(BlockExtent {
            first,
            last,
            head_bytes,
            bytes: head_bytes as u64 + u64::from(end),
        })
    }

    /// The bytes of one of its records; nothing when it has no record of this offset.
    pub(super) fn record(&self, offset: Offset) -> Option<&'a [u8]> {
        let n = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        let end = |n: usize| Some(u32::from_le_bytes(*self.ends.get(n)?) as usize);
        let begin = n.checked_sub(1).map_or(Some(0), end)?;
        self.records.get(begin..end(n)?)
    }

    /// Its bytes without some of its records, of which only their places stay; nothing when none is left.
    pub(super) fn without(&self, is_gone: impl Fn(Offset) -> bool) -> Option<Vec<u8>> {
        let records: Vec<&[u8]> = self
            .records_from(self.first)
            .map(|(offset, bytes)| if is_gone(offset) { &[][..] } else { bytes })
            .collect();
        if records.iter().all(|bytes| bytes.is_empty()) {
            return None;
        }
        let mut bytes = Vec::new();
        write(self.first, &records, &mut bytes);
        Some(bytes)
    }

    /// Its records from an offset on; what is no record any more is no bytes.
    pub(super) fn records_from(
        self,
        from: Offset,
    ) -> impl DoubleEndedIterator<Item = (Offset, &'a [u8])> {
        (from.max(self.first)..=self.last)
            .map(move |offset| (offset, self.record(offset).unwrap_or_default()))
    }
}

/// Where a block begins and ends, by its head alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockExtent {
    pub(super) first: Offset,
    pub(super) last: Offset,
    /// How long what stands before its records is.
    pub(super) head_bytes: usize,
    /// How long all of it is.
    pub(super) bytes: u64,
}

/// Puts sealed records of ascending offsets from `first` on into blocks, and shows each with its key.
pub(super) fn each_block<E>(
    first: Offset,
    mut records: &[&[u8]],
    mut put: impl FnMut(Offset, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let space = |record: &&[u8]| record.len() + END_BYTES;
    let mut left: usize = records.iter().map(space).sum();
    let mut first = first;
    let mut bytes = Vec::with_capacity(left.min(PAGES[0]) + HEAD_BYTES + CHECKSUM_BYTES);
    while !records.is_empty() {
        // As much as fills a page; what is left over at the end goes into smaller ones.
        let room = PAGES.into_iter().find(|page| *page <= left);
        let mut taken = 0;
        let mut fits = |record: &&&[u8]| {
            taken += space(record);
            room.is_none_or(|room| taken <= room)
        };
        let count = records.iter().take_while(&mut fits).count().max(1);
        let (now, later) = records.split_at(count);
        let last = first + count as u64 - 1;

        bytes.clear();
        write(first, now, &mut bytes);
        put(last, &bytes)?;

        left -= now.iter().map(space).sum::<usize>();
        records = later;
        first = last + 1;
    }
    Ok(())
}

/// Writes a block of these records, one at least.
fn write(first: Offset, records: &[&[u8]], bytes: &mut Vec<u8>) {
    let last = first + (records.len() as u64).saturating_sub(1);
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    let mut end = 0;
    for record in records {
        end += record.len() as u32;
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    let checksum = checksum(last, bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    for record in records {
        bytes.extend_from_slice(record);
    }
}

fn checksum(last: Offset, head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&last.to_le_bytes());
    hasher.update(head);
    hasher.finalize()
}

const END_BYTES: usize = 4;
const HEAD_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// More records than a block has: each takes 26 bytes at least and its end, and a block fills a page of 16 KiB.
const MAX_RECORDS: u32 = 1024;

/// What stands before the records of a block is not longer.
pub(super) const MAX_HEAD_BYTES: usize =
    HEAD_BYTES + MAX_RECORDS as usize * END_BYTES + CHECKSUM_BYTES;

/// What redb's leaf and our own head take of a page, rounded up.
const PAGE_OVERHEAD_BYTES: usize = 64;

/// How much of a block's records and ends goes into a page of redb's: pages are powers of two, and a
/// value of a little more takes twice the page. A larger page would save insertions that cost
/// nothing any more, and a reader of one record has a page to read.
const PAGES: [usize; 3] = [
    (16 << 10) - PAGE_OVERHEAD_BYTES,
    (8 << 10) - PAGE_OVERHEAD_BYTES,
    (4 << 10) - PAGE_OVERHEAD_BYTES,
];

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn blocks(first: Offset, records: &[Vec<u8>]) -> Vec<(Offset, Vec<u8>)> {
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let mut all = Vec::new();
        let put = |last, bytes: &[u8]| {
            all.push((last, bytes.to_vec()));
            Ok::<_, Infallible>(())
        };
        each_block(first, &records, put).expect("infallible");
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_blocks_of_records_hold_each_of_them_in_order_and_fit_their_pages(
            lens in proptest::collection::vec(prop_oneof![4 => 26..300usize, 1 => 26..40_000usize], 1..300),
            first in 1..u64::MAX / 2,
        ) {
            let records: Vec<_> = (0u8..=255).cycle().zip(&lens).map(|(n, len)| vec![n; *len]).collect();
            let mut expected = first;
            for (last, bytes) in blocks(first, &records) {
                let block = RecordBlock::decode(last, &bytes).expect("whole");
                prop_assert_eq!((block.first, block.last), (expected, last));
                for (offset, record) in block.records_from(0) {
                    prop_assert_eq!(record, &*records[(offset - first) as usize]);
                    prop_assert_eq!(block.record(offset), Some(record));
                }
                prop_assert_eq!(block.record(last + 1), None);
                // Found by its head alone, and with anything behind it.
                let extent = RecordBlock::extent(&[&bytes[..], &[7; 40]].concat()).expect("a head");
                prop_assert_eq!((extent.first, extent.last), (block.first, last));
                prop_assert_eq!(extent.bytes, bytes.len() as u64);
                prop_assert!(extent.head_bytes <= MAX_HEAD_BYTES);
                prop_assert!(bytes.len() <= PAGES[0] + PAGE_OVERHEAD_BYTES || block.first == last);
                expected = last + 1;
            }
            prop_assert_eq!(expected, first + records.len() as u64);
        }

        #[test]
        fn a_block_with_a_flipped_bit_before_its_records_is_found_out(at: prop::sample::Index, bit in 0..8u8) {
            let (last, mut bytes) = blocks(7, &[vec![1; 9], vec![2; 20]]).remove(0);
            let at = at.index(HEAD_BYTES + 2 * END_BYTES + CHECKSUM_BYTES);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(RecordBlock::decode(last, &bytes).err(), Some(Damaged));
            prop_assert_eq!(RecordBlock::extent(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(last: Offset, bytes: Vec<u8>, offset: Offset) {
            if let Ok(block) = RecordBlock::decode(last, &bytes) {
                let _ = block.record(offset);
            }
            let _ = RecordBlock::extent(&bytes);
        }
    }

    #[test]
    fn a_block_in_anothers_place_or_cut_short_has_no_records_that_are_not_its_own() {
        let (last, bytes) = blocks(7, &[vec![1; 9], vec![2; 20]]).remove(0);
        assert_eq!(RecordBlock::decode(last + 1, &bytes).err(), Some(Damaged));
        for len in 0..bytes.len() {
            if let Ok(block) = RecordBlock::decode(last, &bytes[..len]) {
                assert_eq!(block.record(last), None);
            }
        }
    }
}
