//! Compression for Server-Sent Events: the message envelope, flushed gzip streams, one encoder shared by
//! many readers, and decompression that cannot be made to explode.
//!
//! An event stream can be made smaller in two places, and they do not exclude each other:
//!
//! * **The message.** [`MessageCompressor`] puts one large `data` value into a JSON envelope of gzip and base64,
//!   `{"compressed":true,"encoding":"gzip","original_size":…,"data":"…"}`. Every proxy lets it through, the page
//!   opens it with any gzip library, and an event is compressed once however many readers it has. Base64 gives a
//!   third of the gain back, and small events gain nothing, so a threshold stands before it. [`open_envelope`]
//!   is the way back.
//! * **The stream.** `Content-Encoding: gzip`, chosen by [`AcceptEncoding`], compresses across events, so that small
//!   events of one shape shrink to a few bytes each. [`CohortEncoder`] does it. It flushes at
//!   every write: an event that waits in a compressor is an event that has not been delivered.
//!
//! A deflate encoder holds about 330 KiB, so ten thousand readers with one each would hold 3 GiB and compress the same
//! event ten thousand times. [`CohortEncoder`] compresses it once for all readers of the same events: a reader is a
//! [`CohortReader`] of a few dozen bytes, may join at any time, and still gets a gzip stream of its own with a right
//! checksum.
//!
//! What comes back from a network is decoded by [`Decompressor`], which bounds the output of each step, the total and
//! the ratio, and reports corrupt and truncated input as errors.
//!
//! This crate knows nothing of events, readers or HTTP types: bytes and header text go in, bytes come out.
//!
//! # What must not be compressed together
//!
//! Whoever can choose part of a compressed text and see its compressed length can guess the rest of it (the CRIME and
//! BREACH attacks). So one compression context never holds the data of readers with different rights, and
//! a secret goes through [`CohortEncoder::encode_apart`], which leaves it out of every context.
//!
//! # Example
//!
//! ```
//! use sse_compress::{Level, MessageCompressor, open_envelope};
//!
//! let compressor = MessageCompressor::new(1024, Level::Balanced);
//! let summary = format!(r#"{{"summary":"{}"}}"#, "the speaker explains the model ".repeat(100));
//!
//! let envelope = compressor.compress(&summary).expect("3 KiB of prose become smaller");
//! assert!(envelope.len() < summary.len() / 2);
//! assert_eq!(open_envelope(&envelope, 1 << 20)?, Some(summary));
//! # Ok::<(), sse_compress::EnvelopeError>(())
//! ```

mod cohort;
mod crc;
mod decompress;
mod deflater;
mod envelope;
mod governor;
mod gzip;
mod inflater;
mod level;
mod message;
mod negotiate;
mod stats;

pub use cohort::{BlockForm, CohortBlock, CohortEncoder, CohortReader};
pub use decompress::{DecompressError, Decompressor, Limits, Step, decompress_all};
pub use envelope::{EnvelopeError, open_envelope};
pub use governor::LevelGovernor;
pub use level::{Level, ParseLevelError};
pub use message::{DEFAULT_THRESHOLD_BYTES, MessageCompressor};
pub use negotiate::{AcceptEncoding, Coding, Quality};
pub use stats::CompressionStats;
