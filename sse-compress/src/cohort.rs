//! One encoder for all readers of the same events.
//!
//! A deflate block may refer back to bytes that came before it in the *decoded* text, at most 32 KiB back. So a block
//! that was made once can be sent to every reader whose decoded text ends with the same bytes, as far back as the block may
//! refer; how those bytes were encoded for that reader does not matter. That gives the whole scheme:
//!
//! * The encoder flushes after every batch, so each [`CohortBlock`] begins and ends at a byte boundary, and knows its *reach*: how
//!   far back it may refer.
//! * Whatever a reader is sent, also stored bytes, ends in an empty stored block, `00 00 FF FF`. Some inflaters, Go's among
//!   them, hand text on only there.
//! * A [`CohortReader`] knows how many bytes in a row it has had from this cohort. Is that at least the reach, it takes the
//!   compressed bytes; if not, it takes the same text as stored blocks, which refer to nothing, and comes closer.
//! * When a newcomer waits, the encoder forgets its history at the next batch, which zlib calls a full flush, at most once per
//!   so many bytes. The reach is then zero and everybody takes the compressed bytes.
//! * Each reader has a gzip head of its own and, at a clean end, a checksum over what it was sent. The encoder keeps one running
//!   checksum, and the reader's is worked out from it at the end (see `crc.rs`), so a block costs a reader two comparisons.
//!
//! ```text
//!   text       … │ batch 7    │ batch 8    │ batch 9    │ batch 10   │ …
//!   reach            20 000       20 400       0            380           (full flush before batch 9)
//!   old reader       compressed   compressed   compressed   compressed
//!   newcomer at 8                 stored       compressed   compressed
//! ```

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use flate2::Crc;

use crate::{crc, deflater::Deflater, gzip, level::Level};

/// Compresses batches of events once, for every reader that gets the same events.
///
/// All readers of a cohort must be allowed to see all of its data; see the crate's words on what must not be compressed
/// together. Holds about 330 KiB, whatever the number of readers.
///
/// ```
/// use bytes::Bytes;
/// use sse_compress::{Coding, CohortEncoder, Level, decompress_all};
///
/// let mut cohort = CohortEncoder::new(Level::Fast);
/// let early = cohort.join();
/// let mut blocks = vec![cohort.encode(Bytes::from_static(b"data: one\n\n"))];
/// let late = cohort.join();
/// blocks.push(cohort.encode(Bytes::from_static(b"data: two\n\n")));
///
/// for (mut reader, seen, text) in [(early, 0, "data: one\n\ndata: two\n\n"), (late, 1, "data: two\n\n")] {
///     let mut body = reader.head().to_vec();
///     for block in &blocks[seen..] {
///         body.extend_from_slice(block.bytes(reader.take(block)));
///     }
///     body.extend_from_slice(&reader.finish());
///     assert_eq!(decompress_all(Coding::Gzip, &body, 1024)?, text.as_bytes());
/// }
/// # Ok::<(), sse_compress::DecompressError>(())
/// ```
pub struct CohortEncoder {
    cohort: u64,
    deflater: Deflater,
    crc: Crc,
    offset: u64,
    /// Bytes encoded since the history was forgotten.
    history: u64,
    full_flush_requested: bool,
    full_flush_after_bytes: u64,
    scratch: Vec<u8>,
}

impl CohortEncoder {
    /// How many bytes lie between two full flushes for newcomers, unless configured otherwise: 16 KiB, half of deflate's window.
    ///
    /// A full flush costs the old readers the gain of a warm history; a wait costs a newcomer up to so many bytes uncompressed.
    /// Measured with [`Level::Fast`] when a newcomer waits *all* the time, the worst there is: events of 130 bytes shrink to
    /// 0.27 with a full flush each 4 KiB, 0.24 with 16 KiB, and 0.21 without any; events of 2 KiB to 0.60, 0.51 and 0.46.
    pub const DEFAULT_FULL_FLUSH_AFTER_BYTES: u64 = 16 * 1024;

    /// About what one cohort holds, in bytes, whatever the number of its readers: for callers that have a budget for encoders.
    /// Measured as resident memory over 200 encoders that had each taken 64 KiB.
    pub const MEMORY_BYTES: usize = 332 * 1024;

    /// A new cohort. For small events [`Level::Fast`] is the best choice.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::with_full_flush_after(level, Self::DEFAULT_FULL_FLUSH_AFTER_BYTES)
    }

    /// A cohort that forgets its history for a newcomer only after `full_flush_after_bytes` since the last time. Zero serves each
    /// newcomer at once; [`WINDOW_BYTES`](Self::WINDOW_BYTES) or more never forgets and lets newcomers catch up.
    #[must_use]
    pub fn with_full_flush_after(level: Level, full_flush_after_bytes: u64) -> Self {
        Self {
            cohort: NEXT_COHORT.fetch_add(1, Relaxed),
            deflater: Deflater::new(level.for_streams()),
            crc: Crc::new(),
            offset: 0,
            history: 0,
            full_flush_requested: false,
            full_flush_after_bytes,
            scratch: Vec::new(),
        }
    }

    /// How far back deflate can refer (RFC 1951, section 2): 32 KiB.
    pub const WINDOW_BYTES: u64 = 32 * 1024;

    /// A new reader, which gets the batches encoded from now on, or any later run of them.
    pub fn join(&mut self) -> CohortReader {
        self.request_full_flush();
        CohortReader::new()
    }

    /// Asks for a full flush: as soon as enough bytes lie behind the last one, a batch is encoded that refers to nothing before
    /// it, and readers that take stored bytes are in step from there on.
    ///
    /// To be called when [`CohortReader::take`] has answered [`BlockForm::Stored`]: the reader came from another cohort, has caught up
    /// from the log, or was given bytes of its own. Without it such a reader is in step only after a whole window.
    pub fn request_full_flush(&mut self) {
        self.full_flush_requested = true;
    }

    /// Encodes a batch: the bytes of one event or of several that are ready together.
    ///
    /// A batch costs one flush marker (five bytes), so larger batches compress better.
    #[must_use]
    pub fn encode(&mut self, plain: Bytes) -> CohortBlock {
        if self.full_flush_requested
            && self.history >= self.full_flush_after_bytes.min(Self::WINDOW_BYTES)
        {
            self.forget();
        }
        let reach = self.history.min(Self::WINDOW_BYTES);
        if reach == 0 {
            self.full_flush_requested = false;
        }
        self.scratch.clear();
        self.deflater.flush(&plain, &mut self.scratch);
        let compressed = Bytes::copy_from_slice(&self.scratch);
        if self.scratch.capacity() > MAX_KEPT_SCRATCH_BYTES {
            self.scratch = Vec::new();
        }
        self.history += plain.len() as u64;
        self.block(plain, reach, Some(compressed))
    }

    /// Passes a batch on uncompressed, outside of every compression context: for secrets.
    ///
    /// Neither its own length nor any later one depends on what is in it. History starts anew after it.
    #[must_use]
    pub fn encode_apart(&mut self, plain: Bytes) -> CohortBlock {
        self.forget();
        self.block(plain, 0, None)
    }

    fn forget(&mut self) {
        self.deflater.reset();
        self.history = 0;
    }

    fn block(&mut self, plain: Bytes, reach: u64, compressed: Option<Bytes>) -> CohortBlock {
        let start = self.mark();
        self.crc.update(&plain);
        self.offset += plain.len() as u64;
        let end = self.mark();
        CohortBlock {
            cohort: self.cohort,
            start,
            end,
            reach,
            plain,
            compressed,
            stored: OnceLock::new(),
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            offset: self.offset,
            crc: self.crc.sum(),
        }
    }
}

impl fmt::Debug for CohortEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CohortEncoder")
            .field("cohort", &self.cohort)
            .field("offset", &self.offset)
            .field("history", &self.history)
            .field("full_flush_requested", &self.full_flush_requested)
            .finish_non_exhaustive()
    }
}

/// A place in a cohort's text, with the checksum of all text before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    crc: u32,
}

/// A batch, encoded: a run of whole deflate blocks. Shared by all readers of the cohort.
#[derive(Debug)]
pub struct CohortBlock {
    cohort: u64,
    start: Mark,
    end: Mark,
    reach: u64,
    plain: Bytes,
    /// `None` for a batch that stays out of the context: its stored form is all there is.
    compressed: Option<Bytes>,
    stored: OnceLock<Bytes>,
}

impl CohortBlock {
    /// The bytes for a reader that takes the block in `form`.
    ///
    /// The stored form is made when it is first asked for, and shared from then on. The bytes stand for themselves: a reader
    /// that takes a block must be sent all of them. They end in an empty stored block.
    #[must_use]
    pub fn bytes(&self, form: BlockForm) -> &Bytes {
        match (form, &self.compressed) {
            (BlockForm::Compressed, Some(compressed)) => compressed,
            _ => self.stored.get_or_init(|| {
                let mut stored = Vec::new();
                gzip::store(&self.plain, &mut stored);
                stored.into()
            }),
        }
    }

    /// The batch as it was before.
    #[must_use]
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }
}

/// How a reader takes a [`CohortBlock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockForm {
    /// Compressed, the same bytes for all.
    Compressed,
    /// Uncompressed, for a reader that has not had what the compressed form may refer to. Tell the encoder by
    /// [`CohortEncoder::request_full_flush`], so that this ends soon.
    Stored,
}

/// What a cohort must remember of one reader, to give it a gzip stream of its own. About 60 bytes.
#[derive(Debug, Clone)]
pub struct CohortReader {
    /// Of all text before the current run.
    crc: u32,
    len: u64,
    run: Option<Run>,
}

/// Text that a reader had from one cohort without a break.
#[derive(Debug, Clone, Copy)]
struct Run {
    cohort: u64,
    start: Mark,
    end: Mark,
}

impl CohortReader {
    /// A reader that belongs to no cohort yet. [`CohortEncoder::join`] makes one and says that it waits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            crc: 0,
            len: 0,
            run: None,
        }
    }

    /// The bytes that a reader's stream begins with.
    #[must_use]
    pub const fn head(&self) -> &'static [u8] {
        &gzip::HEAD
    }

    /// Takes the next block, and says in which form its bytes go to this reader.
    ///
    /// A reader may leave blocks out (it lagged, or a filter held them back), or take blocks of another cohort: it then
    /// takes stored bytes until it is in step again. It must not take a block twice, as that is what the reader would see.
    pub fn take(&mut self, block: &CohortBlock) -> BlockForm {
        let run = match self.run {
            Some(run) if run.cohort == block.cohort && run.end.offset == block.start.offset => {
                Run {
                    end: block.end,
                    ..run
                }
            }
            _ => {
                self.end_run();
                Run {
                    cohort: block.cohort,
                    start: block.start,
                    end: block.end,
                }
            }
        };
        self.run = Some(run);
        let had = block.start.offset - run.start.offset;
        if had >= block.reach {
            BlockForm::Compressed
        } else {
            BlockForm::Stored
        }
    }

    /// Appends bytes that only this reader gets, such as its greeting or its replay, to `out` as stored blocks, with an empty one
    /// at the end. That costs ten bytes, and five for each further 64 KiB.
    ///
    /// They stand between this reader and what the cohort may refer to, so it takes stored bytes for a while after them.
    /// What many readers get, heartbeats above all, is therefore better a batch of the cohort.
    pub fn take_own(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if plain.is_empty() {
            return;
        }
        self.end_run();
        let mut own = Crc::new();
        own.update(plain);
        self.append(own.sum(), plain.len() as u64);
        gzip::store(plain, out);
    }

    /// Bytes sent so far, before compression.
    #[must_use]
    pub fn total_in(&self) -> u64 {
        self.len + self.run.map_or(0, |run| run.end.offset - run.start.offset)
    }

    /// The bytes that end this reader's stream cleanly: last block, checksum and length.
    #[must_use]
    pub fn finish(mut self) -> [u8; 10] {
        self.end_run();
        let mut end = [0; 10];
        end[..2].copy_from_slice(&gzip::LAST_BLOCK);
        end[2..].copy_from_slice(&gzip::trailer(self.crc, self.len));
        end
    }

    fn end_run(&mut self) {
        if let Some(Run { start, end, .. }) = self.run.take() {
            let len = end.offset - start.offset;
            self.append(crc::difference(start.crc, end.crc, len), len);
        }
    }

    fn append(&mut self, crc: u32, len: u64) {
        self.crc = crc::combine(self.crc, crc, len);
        self.len += len;
    }
}

impl Default for CohortReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells cohorts apart, so that a reader that moves between two is not taken to be in step.
static NEXT_COHORT: AtomicU64 = AtomicU64::new(0);

/// A scratch buffer up to this size is kept between batches.
const MAX_KEPT_SCRATCH_BYTES: usize = 256 * 1024;
