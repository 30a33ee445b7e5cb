//! Finding line ends, without asking each time which kernel this machine has.

/// A search for the first CR or LF.
///
/// `memchr2` goes through a pointer to the best kernel, and sets that up anew, at each call. For lines of 80 bytes this
/// costs a fifth of the whole search, so on x86-64, where kernels are chosen at run time, the choice is made once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineEndSearch {
    #[cfg(target_arch = "x86_64")]
    avx2: Option<memchr::arch::x86_64::avx2::memchr::Two>,
}

impl LineEndSearch {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            avx2: memchr::arch::x86_64::avx2::memchr::Two::new(b'\r', b'\n'),
        }
    }

    /// The offset of the first CR or LF; for lines that are probably long.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = &self.avx2 {
            return avx2.find(bytes);
        }
        memchr::memchr2(b'\r', b'\n', bytes)
    }

    /// The offset of the first CR or LF; within the first eight bytes without a call, which would cost as much for
    /// eight bytes as for sixty-four.
    #[inline]
    pub(crate) fn line_end(&self, bytes: &[u8]) -> Option<usize> {
        if let Some(head) = bytes.first_chunk::<8>()
            && let Some(at) = line_end_in_word(u64::from_le_bytes(*head))
        {
            return Some(at);
        }
        self.line_end_after_word(bytes)
    }

    /// The same, if it is known that it is not in the first eight bytes, where there are so many.
    #[inline(never)]
    fn line_end_after_word(&self, bytes: &[u8]) -> Option<usize> {
        match bytes.len() {
            0..8 => short_line_end(bytes),
            8..=16 => {
                let (_, tail) = bytes.split_last_chunk::<8>()?;
                line_end_in_word(u64::from_le_bytes(*tail)).map(|at| bytes.len() - 8 + at)
            }
            _ => self.find(&bytes[8..]).map(|at| at + 8),
        }
    }
}

/// The offset of the first CR or LF in less than eight bytes.
#[inline]
fn short_line_end(bytes: &[u8]) -> Option<usize> {
    let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) else {
        return bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    };
    let word = u64::from(u32::from_le_bytes(*tail)) << 32 | u64::from(u32::from_le_bytes(*head));
    // A byte that is in both is found in the head.
    line_end_in_word(word).map(|at| if at < 4 { at } else { at + bytes.len() - 8 })
}

#[inline]
fn line_end_in_word(word: u64) -> Option<usize> {
    let found = line_ends(word);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// Marks the high bit of the lowest byte that is CR or LF; bits above that mean nothing.
#[inline]
const fn line_ends(word: u64) -> u64 {
    const LF: u64 = u64::from_le_bytes([b'\n'; 8]);
    const CR: u64 = u64::from_le_bytes([b'\r'; 8]);
    zero_bytes(word ^ LF) | zero_bytes(word ^ CR)
}

/// Marks the high bit of the lowest byte that is zero; bits above that mean nothing.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The length of the unfinished line at the end of a chunk of one to sixteen bytes in which only comments and blank
/// lines begin; `None` if any other line does, or the chunk has another length or ends with CR. The first byte begins a line unless it
/// is `within_line`.
///
/// All lines are told at once, which takes as long as a search for the end of one.
#[inline]
pub(crate) fn quiet_rest_len(chunk: &[u8], within_line: bool) -> Option<usize> {
    let len = chunk.len();
    if len > 16 || matches!(chunk.last(), None | Some(b'\r')) {
        return None;
    }
    let (Some(head), Some(tail)) = (chunk.first_chunk::<8>(), chunk.last_chunk::<8>()) else {
        let bytes = LineEnds::of(short_word(chunk));
        let first = if within_line {
            0
        } else {
            LineEnds::FIRST >> (8 * (8 - len))
        };
        return (bytes.begin_others(first) == 0).then(|| bytes.rest_len().min(len));
    };
    let head = LineEnds::of(u64::from_be_bytes(*head));
    let tail = LineEnds::of(u64::from_be_bytes(*tail));
    let first = if within_line { 0 } else { LineEnds::FIRST };
    // Where the words overlap, the head tells what the tail begins with.
    let ninth = if len == 16 { head.ends << 56 } else { 0 };
    if head.begin_others(first) | tail.begin_others(ninth) != 0 {
        return None;
    }
    Some(if tail.ends != 0 {
        tail.rest_len()
    } else if head.ends != 0 {
        head.rest_len() + len - 8
    } else {
        len
    })
}

/// Less than eight bytes as the low bytes of a word, the last of them the lowest.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) else {
        return bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    };
    // A byte that is in both lies at the same place.
    let head = u64::from(u32::from_be_bytes(*head)) << (8 * (bytes.len() - 4));
    head | u64::from(u32::from_be_bytes(*tail))
}

/// What each byte of a word is, told by its high bit; the highest byte is the first.
struct LineEnds {
    /// CR or LF.
    ends: u64,
    /// Neither CR, LF nor a colon; only high bits mean anything.
    others: u64,
}

impl LineEnds {
    const FIRST: u64 = 0x80 << 56;

    #[inline]
    const fn of(word: u64) -> Self {
        const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
        let not_ends = bytes_differ(word, b'\n') & bytes_differ(word, b'\r');
        Self {
            ends: !not_ends & HIGH,
            others: not_ends & bytes_differ(word, b':'),
        }
    }

    /// Marks the bytes that begin a line which is neither blank nor a comment; `first` is what the line ends do not tell.
    #[inline]
    const fn begin_others(&self, first: u64) -> u64 {
        (self.ends >> 8 | first) & self.others
    }

    /// How many bytes there are after the last line end.
    #[inline]
    const fn rest_len(&self) -> usize {
        self.ends.trailing_zeros() as usize / 8
    }
}

/// Marks the high bit of each byte that is not this one; the other bits mean nothing.
#[inline]
const fn bytes_differ(word: u64, byte: u8) -> u64 {
    const LOW_BITS: u64 = u64::from_le_bytes([0x7F; 8]);
    let differing = word ^ u64::from_le_bytes([byte; 8]);
    ((differing & LOW_BITS) + LOW_BITS) | differing
}

/// The length of the two line ends that `bytes` begin with, if they are the same and known to be whole.
#[inline]
pub(crate) fn two_line_ends_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', b'\n', ..] => Some(2),
        [b'\r', b'\n', b'\r', b'\n', ..] => Some(4),
        _ => None,
    }
}

/// The length of the line end that `bytes` begin with, if it is known to be whole.
#[inline]
pub(crate) fn blank_line_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        [b'\r', _, ..] => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn the_first_line_end_is_found_wherever_it_is() {
        let search = LineEndSearch::new();
        for len in 0..40 {
            for at in 0..len {
                for end in [b'\r', b'\n'] {
                    let mut bytes = vec![b'\x0B'; len];
                    bytes[at..].fill(b'\n');
                    bytes[at] = end;
                    assert_eq!(search.line_end(&bytes), Some(at));
                }
            }
            let none = vec![b'\x8A'; len];
            assert_eq!(search.line_end(&none), None);
        }
    }

    /// The same, a byte at a time.
    fn quiet_rest_len_by_bytes(chunk: &[u8], within_line: bool) -> Option<usize> {
        let mut begins = !within_line;
        let mut len = 0;
        for byte in chunk {
            match byte {
                b'\r' | b'\n' => (begins, len) = (true, 0),
                b':' => (begins, len) = (false, len + 1),
                _ if begins => return None,
                _ => len += 1,
            }
        }
        (chunk.len() <= 16 && chunk.last() != Some(&b'\r')).then_some(len)
    }

    #[test]
    fn a_chunk_is_quiet_if_only_comments_and_blank_lines_begin_in_it() {
        let mut quiet = 0;
        for kinds in (0..50_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            // Rarely anything but a comment's text, or most chunks would not be quiet.
            let bytes: Vec<u8> = (0..17)
                .map(|at| match kinds >> (3 * at) & 7 {
                    0 | 1 => b':',
                    2 => b'\n',
                    3 if kinds % 3 == 0 => b'\r',
                    4 if kinds % 5 == 0 => b'\x8A',
                    5 if kinds % 7 == 0 => b'x',
                    _ => b';',
                })
                .collect();
            for len in 1..=bytes.len() {
                for within_line in [false, true] {
                    let chunk = &bytes[..len];
                    let expected = quiet_rest_len_by_bytes(chunk, within_line);
                    assert_eq!(quiet_rest_len(chunk, within_line), expected, "{chunk:?}");
                    quiet += usize::from(expected.is_some() && len > 8);
                }
            }
        }
        assert!(quiet > 10_000, "{quiet}");
    }
}
