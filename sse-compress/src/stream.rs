//! A gzip stream for one reader.

use std::fmt;

use flate2::Crc;

use crate::{deflater::Deflater, gzip, level::Level};

/// Compresses an endless stream for one reader, as `Content-Encoding: gzip`.
///
/// Each [`write`](Self::write) is flushed: whoever has received its output can decode all of its input, so no event waits for
/// the next. A flush costs five bytes, so what is ready at the same time is best written together.
///
/// An encoder holds about 330 KiB. Where many readers get the same events, use a [`CohortEncoder`](crate::CohortEncoder).
///
/// ```
/// use sse_compress::{Coding, Level, StreamEncoder, decompress_all};
///
/// let mut encoder = StreamEncoder::new(Level::Fast);
/// let mut body = Vec::new();
/// encoder.write(b"event: ping\ndata: keep-alive\n\n", &mut body);
/// encoder.write(b"event: ping\ndata: keep-alive\n\n", &mut body);
/// encoder.finish(&mut body);
///
/// let plain = decompress_all(Coding::Gzip, &body, 1024)?;
/// assert_eq!(plain, b"event: ping\ndata: keep-alive\n\n".repeat(2));
/// # Ok::<(), sse_compress::DecompressError>(())
/// ```
pub struct StreamEncoder {
    deflater: Deflater,
    crc: Crc,
    len: u64,
    begun: bool,
}

impl StreamEncoder {
    /// About what one encoder holds, in bytes: for whoever gives out encoders within a budget, and answers without
    /// compression when it is spent. Measured as resident memory over 200 encoders that had each taken 64 KiB.
    pub const MEMORY_BYTES: usize = 332 * 1024;

    /// An encoder at `level`; for small events [`Level::Fast`] is the best choice.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            deflater: Deflater::new(level.for_streams()),
            crc: Crc::new(),
            len: 0,
            begun: false,
        }
    }

    /// Appends `plain`, compressed and flushed, to `out`. The first write begins with gzip's head, even if `plain` is empty.
    pub fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if !self.begun {
            out.extend_from_slice(&gzip::HEAD);
            self.begun = true;
        }
        self.deflater.flush(plain, out);
        self.crc.update(plain);
        self.len += plain.len() as u64;
    }

    /// Ends the stream: appends the last block, the checksum and the length to `out`.
    ///
    /// Without this end a browser still shows every event, but a strict decoder reports the stream as cut off.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.write(b"", out);
        out.extend_from_slice(&gzip::LAST_BLOCK);
        out.extend_from_slice(&gzip::trailer(self.crc.sum(), self.len));
    }

    /// Bytes taken so far, before compression.
    #[must_use]
    pub fn total_in(&self) -> u64 {
        self.len
    }
}

impl fmt::Debug for StreamEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEncoder")
            .field("total_in", &self.len)
            .finish_non_exhaustive()
    }
}
