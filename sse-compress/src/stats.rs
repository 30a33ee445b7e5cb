//! What compression gained.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a [`MessageCompressor`](crate::MessageCompressor) has done since it was made.
///
/// A snapshot of counters that several threads add to: each is exact, together they may be a message apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CompressionStats {
    /// Messages looked at.
    pub messages: u64,
    /// Messages that were put into an envelope.
    pub compressed: u64,
    /// Bytes of the messages that were compressed, before.
    pub bytes_in: u64,
    /// Bytes of their envelopes, base64 included.
    pub bytes_out: u64,
    /// Bytes of the messages that were left as they are.
    pub bytes_passed: u64,
}

impl CompressionStats {
    /// Output divided by input over the compressed messages, as health reports show it: 0.42 means that 58 % was saved.
    ///
    /// 1 while nothing has been compressed.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        ratio(self.bytes_out, self.bytes_in)
    }

    /// Output divided by input over all messages, also those that were too small to compress. 1 before the first.
    #[must_use]
    pub fn overall_ratio(&self) -> f64 {
        ratio(
            self.bytes_out.saturating_add(self.bytes_passed),
            self.bytes_in.saturating_add(self.bytes_passed),
        )
    }
}

fn ratio(output: u64, input: u64) -> f64 {
    if input == 0 {
        1.0
    } else {
        output as f64 / input as f64
    }
}

/// The counters behind [`CompressionStats`]. They publish no other memory, hence the relaxed order.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    passed: AtomicU64,
    compressed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_passed: AtomicU64,
}

impl Counters {
    pub(crate) fn passed(&self, bytes: usize) {
        self.passed.fetch_add(1, Relaxed);
        self.bytes_passed.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn compressed(&self, bytes_in: usize, bytes_out: usize) {
        self.compressed.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes_in as u64, Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> CompressionStats {
        let compressed = self.compressed.load(Relaxed);
        CompressionStats {
            messages: self.passed.load(Relaxed) + compressed,
            compressed,
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            bytes_passed: self.bytes_passed.load(Relaxed),
        }
    }
}
