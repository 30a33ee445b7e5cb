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
