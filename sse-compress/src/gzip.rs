//! The few bytes of gzip (RFC 1952) and of deflate (RFC 1951) that we write ourselves.

/// The start of a gzip member: deflate, no flags, no time, unknown system (RFC 1952, section 2.3).
pub(crate) const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block with fixed codes: it ends a deflate stream at a byte boundary (RFC 1951, section 3.2.3).
pub(crate) const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// The most that one stored block holds (RFC 1951, section 3.2.4).
const STORED_BLOCK_BYTES: usize = 0xffff;

/// What stands before the bytes of a stored block that begins at a byte boundary.
const STORED_HEAD_BYTES: usize = 5;

/// The end of a gzip member: the checksum, and the length modulo 2^32.
pub(crate) fn trailer(crc: u32, len: u64) -> [u8; 8] {
    let len = len as u32; // ISIZE is defined as the low 32 bits
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.to_le_bytes());
    trailer[4..].copy_from_slice(&len.to_le_bytes());
    trailer
}

/// An empty stored block at a byte boundary: what a sync flush ends with.
///
/// zlib hands on every byte that it has decoded. Go's `compress/flate` hands nothing on at the end of a block, not even of a
/// stored one, until an empty stored block comes or its window of 32 KiB is full. So every write must end with one.
const FLUSH: [u8; STORED_HEAD_BYTES] = [0, 0, 0, 0xff, 0xff];

/// Appends `plain` as stored blocks and a flush, which can stand at any byte boundary of a deflate stream.
///
/// Costs five bytes for each 64 KiB begun, and five for the flush. An empty text appends nothing.
pub(crate) fn store(plain: &[u8], out: &mut Vec<u8>) {
    if plain.is_empty() {
        return;
    }
    let blocks = plain.len().div_ceil(STORED_BLOCK_BYTES);
    out.reserve(plain.len() + STORED_HEAD_BYTES * (blocks + 1));
    for part in plain.chunks(STORED_BLOCK_BYTES) {
        let len = part.len() as u16; // a chunk is no longer than 0xffff
        out.push(0); // not the last block, stored; five bits of padding
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&FLUSH);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of stored blocks: the texts in them, up to the end of the bytes.
    fn blocks(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut blocks = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<STORED_HEAD_BYTES>() {
            let [kind, low, high, not_low, not_high] = *head;
            assert_eq!([kind, !low, !high], [0, not_low, not_high]);
            let (text, rest) = rest.split_at(usize::from(u16::from_le_bytes([low, high])));
            blocks.push(text);
            bytes = rest;
        }
        assert!(bytes.is_empty(), "half a head");
        blocks
    }

    #[test]
    fn a_text_becomes_the_fewest_stored_blocks_and_an_empty_one() {
        for (len, expected) in [
            (1, &[1, 0][..]),
            (65_534, &[65_534, 0]),
            (65_535, &[65_535, 0]),
            (65_536, &[65_535, 1, 0]),
            (131_070, &[65_535, 65_535, 0]),
            (131_071, &[65_535, 65_535, 1, 0]),
        ] {
            let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let mut out = Vec::new();
            store(&text, &mut out);
            let blocks = blocks(&out);
            let lens: Vec<usize> = blocks.iter().map(|block| block.len()).collect();
            assert_eq!(lens, expected);
            assert!(blocks.concat() == text);
        }
    }

    #[test]
    fn room_for_stored_blocks_is_made_once_and_exactly() {
        for len in [1, 65_535, 65_536, 200_000] {
            let mut out = Vec::new();
            store(&vec![b'a'; len], &mut out);
            assert_eq!(out.capacity(), out.len().max(8), "{len}");
        }
    }

    #[test]
    fn an_empty_text_is_no_write() {
        let mut out = Vec::new();
        store(b"", &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn the_trailer_has_the_checksum_and_the_low_half_of_the_length() {
        let trailer = trailer(0x0403_0201, 0x9_0807_0605);
        assert_eq!(trailer, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
