//! Decompression with bounds.

use std::fmt;

use thiserror::Error;

use crate::{
    inflater::{Ended, Inflated, Inflater},
    negotiate::Coding,
};

/// Bounds on what compressed input may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most output of one [`step`](Decompressor::step), in bytes; at least one.
    pub step_bytes: usize,
    /// The most output of the whole stream, in bytes. A live stream has no end, so the default is no limit.
    pub total_bytes: u64,
    /// The most output bytes per input byte, once more than [`RATIO_GRACE_BYTES`](Self::RATIO_GRACE_BYTES) came out.
    pub ratio: u32,
}

impl Limits {
    /// How much may come out before the ratio counts: 1 MiB, a guess. A short burst of repetition is no attack.
    pub const RATIO_GRACE_BYTES: u64 = 1024 * 1024;
}

impl Default for Limits {
    /// 64 KiB a step, no limit on the total, 250 bytes out for one in.
    ///
    /// Deflate reaches 1032 to 1. Events that repeat each other word for word reach about 170 to 1 when they are 10 KiB
    /// long, so 250 leaves real streams alone; it is a guess between the two.
    fn default() -> Self {
        Self {
            step_bytes: 64 * 1024,
            total_bytes: u64::MAX,
            ratio: 250,
        }
    }
}

/// Decodes a compressed stream as it arrives, in any pieces, within [`Limits`].
///
/// Reads gzip with one or more members (RFC 1952), and `deflate` both as the standard has it, in zlib's wrapper, and bare as
/// some servers send it. Holds about 48 KiB.
///
/// Input is taken in steps, so that the caller sees, and can bound, what comes out:
///
/// ```
/// use sse_compress::{Coding, CohortEncoder, Decompressor, Level, Limits};
///
/// let mut cohort = CohortEncoder::new(Level::Fast);
/// let mut reader = cohort.join();
/// let block = cohort.encode("data: hello\n\n".into());
/// let mut compressed = reader.head().to_vec();
/// compressed.extend_from_slice(block.bytes(reader.take(&block)));
///
/// let mut decoder = Decompressor::new(Coding::Gzip, Limits::default());
/// let mut plain = Vec::new();
/// for piece in compressed.chunks(7) {
///     let mut rest = piece;
///     loop {
///         let step = decoder.step(rest, &mut plain)?;
///         rest = &rest[step.consumed..];
///         // … take what is in `plain`, here or after the loop …
///         if step.drained {
///             break;
///         }
///     }
/// }
/// assert_eq!(plain, b"data: hello\n\n");
/// # Ok::<(), sse_compress::DecompressError>(())
/// ```
pub struct Decompressor {
    coding: Coding,
    state: State,
    limits: Limits,
    total_in: u64,
    total_out: u64,
}

/// ```text
///            input            end of member
///   Idle ───────────▶ Inside ───────────────▶ Idle { ended: true }
///                        │                         (gzip: another member may follow)
///                        └── bad input, limit ──▶ Failed
/// ```
enum State {
    Idle { ended: bool },
    Inside(Inflater),
    Failed(DecompressError),
}

/// What a [`step`](Decompressor::step) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "input that was not consumed must be given again"]
pub struct Step {
    /// How many bytes of the input were used.
    pub consumed: usize,
    /// How many bytes were appended to the output.
    pub produced: usize,
    /// Whether all input was used and all its output given. If not, step again with the rest, even if that is empty.
    pub drained: bool,
}

impl Decompressor {
    /// A decoder for a stream in `coding`.
    #[must_use]
    pub fn new(coding: Coding, limits: Limits) -> Self {
        let limits = Limits {
            step_bytes: limits.step_bytes.max(1),
            ..limits
        };
        Self {
            coding,
            state: State::Idle { ended: false },
            limits,
            total_in: 0,
            total_out: 0,
        }
    }

    /// Decodes from the start of `input`, appending at most [`Limits::step_bytes`] to `out`.
    ///
    /// # Errors
    ///
    /// [`DecompressError`] when the input is corrupt or a limit is exceeded; every later step then fails in the same way.
    /// What had been decoded before stays in `out`.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, DecompressError> {
        let mut step = Step {
            consumed: 0,
            produced: 0,
            drained: false,
        };
        match self.run(input, out, &mut step) {
            Ok(()) => Ok(step),
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// Checks that the stream came to its proper end.
    ///
    /// A live stream that is simply closed ends as [`Truncated`](DecompressError::Truncated), and so does one that never
    /// began; a reader of events may ignore that, a reader of documents must not.
    ///
    /// # Errors
    ///
    /// [`DecompressError::Truncated`] if the input ended early, or the error that a step had met.
    pub fn finish(&self) -> Result<(), DecompressError> {
        match (&self.state, self.coding) {
            (State::Failed(error), _) => Err(*error),
            (_, Coding::Identity) | (State::Idle { ended: true }, _) => Ok(()),
            _ => Err(DecompressError::Truncated),
        }
    }

    /// Bytes decoded so far.
    #[must_use]
    pub fn total_out(&self) -> u64 {
        self.total_out
    }

    fn run(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        step: &mut Step,
    ) -> Result<(), DecompressError> {
        loop {
            let rest = &input[step.consumed..];
            let room = self.limits.step_bytes - step.produced;
            let inner = match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Idle { .. } if rest.is_empty() => {
                    step.drained = true;
                    return Ok(());
                }
                State::Idle { ended } => match (self.coding, *ended) {
                    (Coding::Identity, _) => {
                        let part = &rest[..rest.len().min(room)];
                        out.extend_from_slice(part);
                        step.consumed += part.len();
                        step.produced += part.len();
                        step.drained = part.len() == rest.len();
                        return self.count(part.len(), part.len());
                    }
                    (Coding::Gzip, _) => {
                        self.state = State::Inside(Inflater::gzip());
                        continue;
                    }
                    (Coding::Deflate, false) => {
                        self.state = State::Inside(Inflater::deflate(is_zlib(rest[0])));
                        continue;
                    }
                    // Nothing may follow the one deflate stream.
                    (Coding::Deflate, true) => return Err(DecompressError::Corrupt),
                },
                State::Inside(inner) => inner,
            };
            if room == 0 {
                return Ok(());
            }

            let piece = room.min(
                rest.len()
                    .saturating_mul(4)
                    .clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES),
            );
            let start = out.len();
            out.resize(start + piece, 0);
            let Inflated {
                consumed,
                produced,
                status,
            } = inner.run(rest, &mut out[start..]);
            out.truncate(start + produced);
            step.consumed += consumed;
            step.produced += produced;
            self.count(consumed, produced)?;
            match status {
                Ok(Ended::Yes) => self.state = State::Idle { ended: true },
                // Room was left, so nothing is held back: the decoder wants more input.
                Ok(_) if produced < piece => {
                    if consumed < rest.len() {
                        // It wants more and does not take what there is; no valid input does this.
                        return Err(DecompressError::Corrupt);
                    }
                    step.drained = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) => return Err(DecompressError::Corrupt),
            }
        }
    }

    fn count(&mut self, consumed: usize, produced: usize) -> Result<(), DecompressError> {
        self.total_in += consumed as u64;
        self.total_out += produced as u64;
        if self.total_out > self.limits.total_bytes {
            return Err(DecompressError::TooLarge {
                limit_bytes: self.limits.total_bytes,
            });
        }
        let allowed = self
            .total_in
            .saturating_mul(self.limits.ratio.into())
            .max(Limits::RATIO_GRACE_BYTES);
        if self.coding != Coding::Identity && self.total_out > allowed {
            return Err(DecompressError::RatioExceeded {
                ratio: self.limits.ratio,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("coding", &self.coding)
            .field("limits", &self.limits)
            .field("total_in", &self.total_in)
            .field("total_out", &self.total_out)
            .finish_non_exhaustive()
    }
}

/// Decodes a whole document that decodes to at most `max_bytes`.
///
/// There is no limit on the ratio, as `max_bytes` bounds the harm. Memory grows with what really comes out.
///
/// # Errors
///
/// [`DecompressError`] when the input is corrupt, cut off, or too large.
pub fn decompress_all(
    coding: Coding,
    input: &[u8],
    max_bytes: usize,
) -> Result<Vec<u8>, DecompressError> {
    let limits = Limits {
        step_bytes: usize::MAX,
        total_bytes: max_bytes as u64,
        ratio: u32::MAX,
    };
    let mut decoder = Decompressor::new(coding, limits);
    let mut out = Vec::new();
    let mut rest = input;
    loop {
        let step = decoder.step(rest, &mut out)?;
        rest = &rest[step.consumed..];
        if step.drained {
            decoder.finish()?;
            return Ok(out);
        }
    }
}

/// Why compressed input was refused. The sender is at fault in each case, and trying again does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The input is not in the coding that was announced, or its checksum is wrong.
    #[error("compressed data is corrupt")]
    Corrupt,
    /// The input ended before the compressed stream did.
    #[error("compressed data is cut off")]
    Truncated,
    /// More came out than [`Limits::total_bytes`].
    #[error("compressed data expands to more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was exceeded.
        limit_bytes: u64,
    },
    /// More came out for the input than [`Limits::ratio`].
    #[error("compressed data expands to more than {ratio} times its size")]
    RatioExceeded {
        /// The limit that was exceeded.
        ratio: u32,
    },
}

/// Tells zlib's wrapper from bare deflate by the first byte.
///
/// A zlib stream with deflate begins with a byte whose low half is 8 (RFC 1950, section 2.2). As bare deflate, that would be a
/// stored block with a bit set in its padding, which encoders leave zero.
fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8
}

/// A decoding call gets four times the length of its input as room, within these bounds.
const MIN_PIECE_BYTES: usize = 2 * 1024;
const MAX_PIECE_BYTES: usize = 64 * 1024;
