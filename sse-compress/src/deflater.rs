//! A raw deflate encoder that leaves nothing inside.

use flate2::{Compress, Compression, FlushCompress, Status};

/// A raw deflate encoder. Holds about 330 KiB, allocated at once (measured with zlib-rs 0.6.8).
pub(crate) struct Deflater {
    inner: Compress,
}

impl Deflater {
    pub(crate) fn new(level: Compression) -> Self {
        Self {
            inner: Compress::new(level, false),
        }
    }

    /// Forgets all history: what follows refers to nothing before.
    ///
    /// After [`flush`](Self::flush) the output stands at a byte boundary outside any block, so the blocks of the new
    /// stream may follow those of the old one. This is a full flush without a byte of output.
    pub(crate) fn reset(&mut self) {
        self.inner.reset();
    }

    pub(crate) fn set_level(&mut self, level: Compression) {
        if self.inner.set_level(level).is_err() {
            // Only a stream with unwritten output refuses; a new encoder costs an allocation and is always right.
            *self = Self::new(level);
        }
    }

    /// Appends all of `plain`, compressed, so that a decoder of what was written has every byte of it.
    pub(crate) fn flush(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if !plain.is_empty() {
            // A sync flush, not a full one: the history stays.
            self.run(plain, out, FlushCompress::Sync);
        }
    }

    /// Ends the stream at once if everything fits into the spare capacity of `out`.
    pub(crate) fn finish_within_capacity(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        matches!(
            self.inner.compress_vec(plain, out, FlushCompress::Finish),
            Ok(Status::StreamEnd)
        )
    }

    fn run(&mut self, mut plain: &[u8], out: &mut Vec<u8>, flush: FlushCompress) {
        loop {
            // A guess that fits most events at once; what does not fit costs another turn.
            out.reserve(plain.len() / 3 + MIN_ROOM_BYTES);
            let before = self.inner.total_in();
            self.inner
                .compress_vec(plain, out, flush)
                .expect("deflate has no input that it refuses, and the stream is not ended");
            let consumed = self.inner.total_in() - before;
            plain = &plain[consumed as usize..];
            // A flush is complete when the encoder left room in the output (zlib's manual, deflate).
            if plain.is_empty() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

impl core::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

/// Room for a flush marker (five bytes) and the start of a block; a guess, and no more than a loss of speed when wrong.
const MIN_ROOM_BYTES: usize = 64;
