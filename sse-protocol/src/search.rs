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
}
