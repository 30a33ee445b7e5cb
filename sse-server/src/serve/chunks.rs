//! HTTP/1.1's chunked coding (RFC 9112, section 7.1), for streams that hyper no longer writes.

use bytes::{BufMut, Bytes, BytesMut};

/// A chunk of HTTP/1.1's chunked coding (RFC 9112, section 7.1).
pub(super) fn chunk(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + MAX_CHUNK_FRAME_BYTES);
    write_chunk(bytes, &mut out);
    out.freeze()
}

/// Appends a chunk.
pub(super) fn write_chunk(bytes: &[u8], out: &mut impl BufMut) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = bytes.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// As much as a client may send behind its request, on a socket where nothing is read any more: a pipelined request or two,
/// read and dropped.
pub(super) const MAX_IGNORED_BYTES: usize = 64 << 10;
/// The end of a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Length and two line breaks around a chunk.
const MAX_CHUNK_FRAME_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_its_length_in_hexadecimal() {
        assert_eq!(chunk(&[b'x'; 26])[..4], *b"1a\r\n");
        assert_eq!(chunk(b"hello")[..], *b"5\r\nhello\r\n");
        assert_eq!(chunk(&vec![0; 0x12345])[..7], *b"12345\r\n");
    }
}
