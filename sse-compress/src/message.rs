//! The compressor of single messages.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use flate2::Crc;

use crate::{
    deflater::Deflater,
    envelope, gzip,
    level::Level,
    stats::{CompressionStats, Counters},
};

/// The size above which messages are compressed unless configured otherwise: 1 KiB.
///
/// Below about 300 bytes the envelope and base64 eat the gain; between that and 1 KiB the gain is not worth a decoder's
/// time in the page.
pub const DEFAULT_THRESHOLD_BYTES: usize = 1024;

/// Puts large messages into a gzip and base64 envelope, and counts what that gained.
///
/// One compressor serves all threads. It keeps the encoders it has used (about 330 KiB each) and lends one to each call, so
/// that a message costs no large allocation; at most [`MAX_SPARE_ENCODERS`](Self::MAX_SPARE_ENCODERS) are kept.
///
/// ```
/// use sse_compress::MessageCompressor;
///
/// let compressor = MessageCompressor::default();
/// assert_eq!(compressor.compress(r#"{"progress":3,"total":10}"#), None); // too small to gain
///
/// let large = format!("[{}0]", r#"{"status":"processing"},"#.repeat(100));
/// let envelope = compressor.compress(&large).expect("worth it");
/// assert!(envelope.starts_with(r#"{"compressed":true,"encoding":"gzip","original_size":"#));
/// assert!(compressor.stats().ratio() < 0.2);
/// ```
pub struct MessageCompressor {
    threshold_bytes: usize,
    level: AtomicU8,
    spare: Mutex<Vec<Encoder>>,
    counters: Counters,
}

impl MessageCompressor {
    /// The number of idle encoders that are kept for reuse; together no more than 6 MiB with their buffers.
    ///
    /// More threads than these may compress at once; the ones too many allocate an encoder, which takes microseconds.
    pub const MAX_SPARE_ENCODERS: usize = 8;

    /// A compressor for messages of more than `threshold_bytes` bytes.
    #[must_use]
    pub fn new(threshold_bytes: usize, level: Level) -> Self {
        Self {
            threshold_bytes,
            level: AtomicU8::new(level as u8),
            spare: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// The size up to which messages are left alone.
    #[must_use]
    pub fn threshold_bytes(&self) -> usize {
        self.threshold_bytes
    }

    /// How hard the next message is compressed.
    #[must_use]
    pub fn level(&self) -> Level {
        let level = self.level.load(Relaxed);
        Level::ALL
            .into_iter()
            .find(|&known| known as u8 == level)
            .unwrap_or_default()
    }

    /// Compresses later messages at another level, for instance a faster one under load.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Relaxed);
    }

    /// The envelope of `data`, or `None` when `data` is better sent as it is: it is no larger than the threshold, or its
    /// envelope would be no smaller.
    ///
    /// The envelope is one line of ASCII. Gives up as soon as the output is too long to be a gain, so incompressible data
    /// costs no more memory than its own size. Takes 10–25 µs per KiB, as [`Level`] says.
    #[must_use]
    pub fn compress(&self, data: &str) -> Option<String> {
        let envelope = (data.len() > self.threshold_bytes)
            .then(|| self.envelope(data))
            .flatten();
        match &envelope {
            Some(envelope) => self.counters.compressed(data.len(), envelope.len()),
            None => self.counters.passed(data.len()),
        }
        envelope
    }

    /// What was gained so far.
    #[must_use]
    pub fn stats(&self) -> CompressionStats {
        self.counters.snapshot()
    }

    fn envelope(&self, data: &str) -> Option<String> {
        let budget = envelope::gzip_budget(data.len())?;
        let mut encoder = self.borrow();
        let envelope = encoder
            .gzip(data.as_bytes(), budget)
            .map(|gzipped| envelope::write(data.len(), gzipped));
        self.give_back(encoder);
        envelope
    }

    fn borrow(&self) -> Encoder {
        let level = self.level();
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        spare.map_or_else(|| Encoder::new(level), |spare| spare.at(level))
    }

    fn give_back(&self, encoder: Encoder) {
        let encoder = encoder.trimmed();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < Self::MAX_SPARE_ENCODERS {
            spare.push(encoder);
        } else {
            drop(spare); // a large value is dropped without the lock
            drop(encoder);
        }
    }
}

impl Default for MessageCompressor {
    /// A compressor with [`DEFAULT_THRESHOLD_BYTES`] and [`Level::Balanced`].
    fn default() -> Self {
        Self::new(DEFAULT_THRESHOLD_BYTES, Level::default())
    }
}

impl fmt::Debug for MessageCompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageCompressor")
            .field("threshold_bytes", &self.threshold_bytes)
            .field("level", &self.level())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// An encoder and the buffer that it writes to.
struct Encoder {
    level: Level,
    deflater: Deflater,
    buffer: Vec<u8>,
}

impl Encoder {
    fn new(level: Level) -> Self {
        Self {
            level,
            deflater: Deflater::new(level.for_messages()),
            buffer: Vec::new(),
        }
    }

    fn at(mut self, level: Level) -> Self {
        self.deflater.reset();
        if self.level != level {
            self.deflater.set_level(level.for_messages());
            self.level = level;
        }
        self
    }

    /// `plain` as one gzip member, or `None` if that takes more than `budget` bytes.
    fn gzip(&mut self, plain: &[u8], budget: usize) -> Option<&[u8]> {
        self.buffer.clear();
        self.buffer.reserve(budget);
        self.buffer.extend_from_slice(&gzip::HEAD);
        if !self
            .deflater
            .finish_within_capacity(plain, &mut self.buffer)
        {
            return None;
        }
        let mut crc = Crc::new();
        crc.update(plain);
        self.buffer
            .extend_from_slice(&gzip::trailer(crc.sum(), plain.len() as u64));
        (self.buffer.len() <= budget).then_some(&self.buffer)
    }

    /// Gives the memory of an unusually large message back.
    fn trimmed(mut self) -> Self {
        if self.buffer.capacity() > MAX_KEPT_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
        self
    }
}

/// A buffer up to this size is kept with its encoder; about as large as the encoder itself.
const MAX_KEPT_BUFFER_BYTES: usize = 384 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_encoders_and_their_buffers_are_bounded() {
        let compressor = MessageCompressor::new(16, Level::Fast);
        let lent: Vec<_> = (0..2 * MessageCompressor::MAX_SPARE_ENCODERS)
            .map(|_| compressor.borrow())
            .collect();
        lent.into_iter()
            .for_each(|encoder| compressor.give_back(encoder));
        assert_eq!(
            compressor.spare.lock().unwrap().len(),
            MessageCompressor::MAX_SPARE_ENCODERS
        );

        assert!(compressor.compress(&"large ".repeat(1 << 20)).is_some());
        for spare in compressor.spare.lock().unwrap().iter() {
            assert!(spare.buffer.capacity() <= MAX_KEPT_BUFFER_BYTES);
        }
    }

    #[test]
    fn one_thread_needs_one_encoder() {
        let compressor = MessageCompressor::new(16, Level::Fast);
        for round in 0..100 {
            assert!(
                compressor
                    .compress(&format!("{round} {}", "again and again ".repeat(50)))
                    .is_some()
            );
        }
        assert_eq!(compressor.spare.lock().unwrap().len(), 1);
    }
}
