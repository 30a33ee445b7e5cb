//! Searching for line ends, without asking each time which kernel this machine has.

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

    /// The offset of the first CR or LF.
    #[inline]
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = &self.avx2 {
            return avx2.find(bytes);
        }
        memchr::memchr2(b'\r', b'\n', bytes)
    }
}
