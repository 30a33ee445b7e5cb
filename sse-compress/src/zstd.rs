//! One zstd encoder for all readers of the same events.
//!
//! A zstd block may use the entropy tables and the offsets of the blocks before it, as well as their text. So other than
//! with deflate a block is of use only to a reader that had *every* block of its frame, and no amount of text
//! makes up for one that is missing. That gives another scheme than the one of [`CohortEncoder`](crate::CohortEncoder):
//!
//! * The cohort has one frame, which never ends for itself, flushed after every batch: the bytes of a batch are blocks.
//! * A [`ZstdReader`] is *inside* that frame and takes these bytes, or it is *outside* and takes each batch as a
//!   frame of its own made of raw blocks, which needs nothing before it. Frames behind each other are one stream
//!   (RFC 8878, section 3.1).
//! * When a newcomer waits, the encoder begins a new frame with the next batch, at most once per so many bytes. There all who have
//!   had what came before are inside again.
//! * Before anything else than the next blocks of its frame, a reader inside gets an empty last block of three bytes.
//!
//! ```text
//!   text          … │ batch 7 │ batch 8 │   batch 9     │ batch 10 │ own bytes │ batch 11 │ …
//!   cohort            blocks    blocks    frame, blocks   blocks                 blocks
//!   old reader        blocks    blocks    E frame, …      blocks                 blocks
//!   newcomer at 8               (raw)     frame, blocks   blocks     E (raw)     (raw)
//! ```
//!
//! `(raw)` is a whole frame, `E` the end of one. Every form of a batch is made once and shared, with the `E` in front that some
//! readers leave out.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ::zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, zstd_sys::ZSTD_EndDirective,
};
use bytes::Bytes;

use crate::{cohort::Form, level::Level};

/// Compresses batches of events once as `Content-Encoding: zstd`, for every reader that gets the same events.
///
/// All readers of a cohort must be allowed to see all of its data; see the crate's words on what must not be compressed
/// together. Holds [`MEMORY_BYTES`](Self::MEMORY_BYTES), whatever the number of readers.
///
/// ```
/// use bytes::Bytes;
/// use sse_compress::{Coding, Level, ZstdCohortEncoder, decompress_all};
///
/// let mut cohort = ZstdCohortEncoder::new(Level::Fast);
/// let early = cohort.join();
/// let mut blocks = vec![cohort.encode(Bytes::from_static(b"data: one\n\n"))];
/// let late = cohort.join();
/// blocks.push(cohort.encode(Bytes::from_static(b"data: two\n\n")));
///
/// for (mut reader, seen, text) in [(early, 0, "data: one\n\ndata: two\n\n"), (late, 1, "data: two\n\n")] {
///     let mut body = Vec::new();
///     for block in &blocks[seen..] {
///         let (_form, bytes) = reader.take(block);
///         body.extend_from_slice(&bytes);
///     }
///     body.extend_from_slice(reader.finish());
///     assert_eq!(decompress_all(Coding::Zstd, &body, 1024)?, text.as_bytes());
/// }
/// # Ok::<(), sse_compress::DecompressError>(())
/// ```
pub struct ZstdCohortEncoder {
    cohort: u64,
    context: CCtx<'static>,
    /// The number of the block that comes next.
    next: u64,
    /// Bytes encoded since the frame began; `None` when the next block begins one.
    history: Option<u64>,
    newcomers: bool,
    refresh_after_bytes: u64,
    scratch: Vec<u8>,
}

impl ZstdCohortEncoder {
    /// How many bytes lie between two frames that begin for newcomers, unless configured otherwise: 16 KiB.
    ///
    /// A new frame costs the readers inside the gain of a warm history; a wait costs a newcomer up to so many bytes
    /// uncompressed. The same as for gzip, where it was measured.
    pub const DEFAULT_REFRESH_AFTER_BYTES: u64 = 16 * 1024;

    /// About what one cohort with [`Level::Fast`] holds, in bytes, whatever the number of its readers: what zstd 1.5.7 itself says
    /// (312,521) and a buffer. A window of 128 KiB makes it 976,409, for 2 to 5
    /// bytes in a hundred.
    pub const MEMORY_BYTES: usize = 332 * 1024;

    /// How far back a block can refer. RFC 9659 allows 8 MiB; this is what a decoder holds for each stream.
    pub const WINDOW_BYTES: u64 = 1 << WINDOW_LOG;

    /// A new cohort. For small events [`Level::Fast`] is the best choice.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self::with_refresh(level, Self::DEFAULT_REFRESH_AFTER_BYTES)
    }

    /// A cohort that begins a frame for a newcomer only `refresh_after_bytes` after the last one began, and a
    /// [window](Self::WINDOW_BYTES) at most. Zero serves each newcomer at once.
    #[must_use]
    pub fn with_refresh(level: Level, refresh_after_bytes: u64) -> Self {
        Self {
            cohort: NEXT_COHORT.fetch_add(1, Relaxed),
            context: context(level),
            next: 0,
            history: None,
            newcomers: false,
            refresh_after_bytes: refresh_after_bytes.min(Self::WINDOW_BYTES),
            scratch: Vec::new(),
        }
    }

    /// A new reader, which gets the batches encoded from now on, or any later run of them.
    pub fn join(&mut self) -> ZstdReader {
        self.welcome();
        ZstdReader::new()
    }

    /// Says that a reader takes raw frames for now, so that a frame begins for it when its time has come.
    ///
    /// To be called when [`ZstdReader::take`] has answered [`Form::Stored`]: without it, such a reader stays outside.
    pub fn welcome(&mut self) {
        self.newcomers = true;
    }

    /// Encodes a batch: the bytes of one event or of several that are ready together.
    ///
    /// A batch costs a block's head (three bytes and what its literals and sequences say of themselves), so larger batches
    /// compress better.
    #[must_use]
    pub fn encode(&mut self, plain: Bytes) -> ZstdBlock {
        if plain.is_empty() {
            return self.block(plain, false, Some(Bytes::new()));
        }
        if self.newcomers
            && self
                .history
                .is_some_and(|history| history >= self.refresh_after_bytes)
        {
            self.begin_frame();
        }
        let opens = self.history.is_none();
        self.scratch.clear();
        if opens {
            self.newcomers = false;
            self.scratch.extend_from_slice(&FRAME_END);
        }
        if self.flush(&plain).is_none() {
            // It had no memory. Whoever is inside is taken out, and the next block begins anew.
            self.scratch = Vec::new();
            return self.encode_apart(plain);
        }
        let packed = Bytes::copy_from_slice(&self.scratch);
        if self.scratch.capacity() > MAX_KEPT_SCRATCH_BYTES {
            self.scratch = Vec::new();
        }
        *self.history.get_or_insert(0) += plain.len() as u64;
        self.block(plain, opens, Some(packed))
    }

    /// Passes a batch on uncompressed, outside of every compression context: for secrets.
    ///
    /// Neither its own length nor any later one depends on what is in it. A new frame begins after it.
    #[must_use]
    pub fn encode_apart(&mut self, plain: Bytes) -> ZstdBlock {
        self.begin_frame();
        self.block(plain, false, None)
    }

    /// Bytes that the encoder holds now.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.context.sizeof() + self.scratch.capacity()
    }

    fn begin_frame(&mut self) {
        // Resetting a session cannot fail; were it to, the context would go on within a frame that nobody is in.
        if self.context.reset(ResetDirective::SessionOnly).is_err() {
            self.context = context(Level::Fast);
        }
        self.history = None;
    }

    /// Appends all of `plain` to the scratch, so that a decoder of what was written has every byte of it.
    fn flush(&mut self, plain: &[u8]) -> Option<()> {
        let mut input = InBuffer::around(plain);
        loop {
            // A guess that fits most events at once; what does not fit costs another turn.
            self.scratch
                .reserve((plain.len() - input.pos()) / 3 + MIN_ROOM_BYTES);
            let filled = self.scratch.len();
            let mut output = OutBuffer::around_pos(&mut self.scratch, filled);
            let left = self
                .context
                .compress_stream2(&mut output, &mut input, ZSTD_EndDirective::ZSTD_e_flush)
                .ok()?;
            if left == 0 && input.pos() == plain.len() {
                return Some(());
            }
        }
    }

    fn block(&mut self, plain: Bytes, opens: bool, packed: Option<Bytes>) -> ZstdBlock {
        let number = self.next;
        self.next += u64::from(!plain.is_empty());
        ZstdBlock {
            cohort: self.cohort,
            number,
            opens,
            plain,
            packed,
            raw: OnceLock::new(),
        }
    }
}

impl fmt::Debug for ZstdCohortEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdCohortEncoder")
            .field("cohort", &self.cohort)
            .field("next", &self.next)
            .field("history", &self.history)
            .field("newcomers", &self.newcomers)
            .finish_non_exhaustive()
    }
}

/// A batch, encoded by a [`ZstdCohortEncoder`]. Shared by all readers of the cohort.
#[derive(Debug)]
pub struct ZstdBlock {
    cohort: u64,
    number: u64,
    /// Whether a frame begins with it; `packed` then has the end of the frame before in front.
    opens: bool,
    plain: Bytes,
    /// `None` for a batch that stays out of the context: its raw frame is all there is.
    packed: Option<Bytes>,
    /// The raw frame, with the end of the frame before in front.
    raw: OnceLock<Bytes>,
}

impl ZstdBlock {
    /// The batch as it was before.
    #[must_use]
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// How many bytes a reader takes for it that is inside the cohort's frame.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        self.packed.as_ref().map_or_else(
            || self.raw().len() - FRAME_END.len(),
            |packed| packed.len() - if self.opens { FRAME_END.len() } else { 0 },
        )
    }

    fn raw(&self) -> &Bytes {
        self.raw.get_or_init(|| {
            let mut raw = FRAME_END.to_vec();
            raw_frame(&self.plain, &mut raw);
            raw.into()
        })
    }
}

/// What a zstd cohort must remember of one reader. A few dozen bytes.
#[derive(Debug, Clone)]
pub struct ZstdReader {
    place: Place,
    total_in: u64,
}

/// ```text
///             any bytes             a block that begins a frame
///   Unbegun ────────────▶ Outside ─────────────────────────────▶ Inside
///                            ▲                                     │
///                            └── bytes of its own, a block missed ─┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has had nothing.
    Unbegun,
    /// Between frames.
    Outside,
    /// In the frame of this cohort, of which it has had all blocks before `next`.
    Inside { cohort: u64, next: u64 },
}

impl ZstdReader {
    /// A reader that belongs to no cohort yet. [`ZstdCohortEncoder::join`] makes one and says that it waits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: Place::Unbegun,
            total_in: 0,
        }
    }

    /// Takes the next block: in which form, and the bytes of it that go to this reader, all of which it must be sent.
    ///
    /// A reader may leave blocks out (it lagged, or a filter held them back), or take blocks of another cohort: it then
    /// takes raw frames until one begins for all. It must not take a block twice, as that is what the reader would see.
    pub fn take(&mut self, block: &ZstdBlock) -> (Form, Bytes) {
        if block.plain.is_empty() {
            return (Form::Packed, Bytes::new());
        }
        self.total_in += block.plain.len() as u64;
        let after = Place::Inside {
            cohort: block.cohort,
            next: block.number + 1,
        };
        let in_step = Place::Inside {
            cohort: block.cohort,
            next: block.number,
        };
        let place = self.place;
        let with_end = match &block.packed {
            Some(packed) if !block.opens && place == in_step => {
                self.place = after;
                return (Form::Packed, packed.clone());
            }
            Some(packed) if block.opens => {
                self.place = after;
                (Form::Packed, packed)
            }
            // Raw because that is all there is: nothing to tell the encoder.
            None => {
                self.place = Place::Outside;
                (Form::Packed, block.raw())
            }
            Some(_) => {
                self.place = Place::Outside;
                (Form::Stored, block.raw())
            }
        };
        let bytes = match place {
            Place::Inside { .. } => with_end.1.clone(),
            Place::Outside | Place::Unbegun => with_end.1.slice(FRAME_END.len()..),
        };
        (with_end.0, bytes)
    }

    /// Appends bytes that only this reader gets, such as its greeting or its replay, to `out` as a raw frame.
    ///
    /// It is outside then, until a frame begins for all: tell the encoder by [`ZstdCohortEncoder::welcome`] when
    /// [`take`](Self::take) says so. What many readers get, heartbeats above all, is therefore better a batch of the cohort.
    pub fn take_own(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if plain.is_empty() {
            return;
        }
        if matches!(self.place, Place::Inside { .. }) {
            out.extend_from_slice(&FRAME_END);
        }
        raw_frame(plain, out);
        self.place = Place::Outside;
        self.total_in += plain.len() as u64;
    }

    /// Bytes sent so far, before compression.
    #[must_use]
    pub fn total_in(&self) -> u64 {
        self.total_in
    }

    /// The bytes that end this reader's stream cleanly: the end of the frame it is in, or an empty frame if it had none.
    #[must_use]
    pub fn finish(self) -> &'static [u8] {
        match self.place {
            Place::Unbegun => &EMPTY_FRAME,
            Place::Outside => &[],
            Place::Inside { .. } => &FRAME_END,
        }
    }
}

impl Default for ZstdReader {
    fn default() -> Self {
        Self::new()
    }
}

fn context(level: Level) -> CCtx<'static> {
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(level.for_zstd()),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::ChecksumFlag(false),
        CParameter::ContentSizeFlag(false),
    ] {
        // All are within zstd's bounds, and a stream without one of them would be a valid stream still.
        let _ = context.set_parameter(parameter);
    }
    context
}

/// Appends `plain` as a frame of raw blocks, which refers to nothing.
fn raw_frame(plain: &[u8], out: &mut Vec<u8>) {
    out.reserve(FRAME_HEAD.len() + plain.len() + 3 * (plain.len() / RAW_BLOCK_BYTES + 1));
    out.extend_from_slice(&FRAME_HEAD);
    let mut blocks = plain.chunks(RAW_BLOCK_BYTES).peekable();
    while let Some(block) = blocks.next() {
        let is_last = u32::from(blocks.peek().is_none());
        let head = (block.len() as u32) << 3 | is_last; // type 0, raw; at most 2^15, so it fits 21 bits
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
}

/// An empty last raw block: it ends a frame (RFC 8878, section 3.1.1.2).
const FRAME_END: [u8; 3] = [1, 0, 0];

/// The head of a frame of ours: magic number; no content size, checksum or dictionary; the window (RFC 8878, section 3.1.1.1).
const FRAME_HEAD: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, WINDOW_DESCRIPTOR];

/// A frame with nothing in it.
const EMPTY_FRAME: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0, WINDOW_DESCRIPTOR, 1, 0, 0];

/// The binary logarithm of the window: 32 KiB, deflate's own.
const WINDOW_LOG: u32 = 15;

/// The window in a frame's head: its exponent above 2^10, and no mantissa (RFC 8878, section 3.1.1.1.2).
const WINDOW_DESCRIPTOR: u8 = ((WINDOW_LOG - 10) << 3) as u8;

/// The most that a block holds: the window, as long as that is no more than 128 KiB (RFC 8878, section 3.1.1.2.4).
const RAW_BLOCK_BYTES: usize = 1 << WINDOW_LOG;

/// Room for the heads of a frame and of a block; a guess, and no more than a loss of speed when wrong.
const MIN_ROOM_BYTES: usize = 64;

/// Tells cohorts apart, so that a reader that moves between two is not taken to be in step.
static NEXT_COHORT: AtomicU64 = AtomicU64::new(0);

/// A scratch buffer up to this size is kept between batches; larger batches than the usual ones are rare.
const MAX_KEPT_SCRATCH_BYTES: usize = 16 * 1024;
