//! What a cohort does in each content coding, behind one face.
//!
//! An [`Encoder`], its [`Block`]s and its [`Reader`]s are always of one coding: a cohort makes all of them.

use bytes::Bytes;
use sse_compress::{Coding, CohortEncoder, CohortReader, Form, Level};
#[cfg(feature = "zstd")]
use sse_compress::{ZstdBlock, ZstdCohortEncoder, ZstdReader};

#[derive(Debug)]
pub(super) enum Encoder {
    Gzip(CohortEncoder),
    #[cfg(feature = "zstd")]
    Zstd(ZstdCohortEncoder),
}

#[derive(Debug)]
pub(super) enum Block {
    Gzip(sse_compress::Block),
    #[cfg(feature = "zstd")]
    Zstd(ZstdBlock),
}

#[derive(Debug)]
pub(super) enum Reader {
    Gzip(CohortReader),
    #[cfg(feature = "zstd")]
    Zstd(ZstdReader),
}

impl Encoder {
    /// What a cohort in this coding holds; `None` for one in which there are no cohorts.
    pub(super) fn memory_bytes(coding: Coding) -> Option<usize> {
        match coding {
            Coding::Gzip => Some(CohortEncoder::MEMORY_BYTES),
            #[cfg(feature = "zstd")]
            Coding::Zstd => Some(ZstdCohortEncoder::MEMORY_BYTES),
            _ => None,
        }
    }

    /// An encoder for this coding; `None` where [`memory_bytes`](Self::memory_bytes) says so.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        match coding {
            Coding::Gzip => Some(Self::Gzip(CohortEncoder::new(Level::Fast))),
            #[cfg(feature = "zstd")]
            Coding::Zstd => Some(Self::Zstd(ZstdCohortEncoder::new(Level::Fast))),
            _ => None,
        }
    }

    pub(super) fn join(&mut self) -> Reader {
        match self {
            Self::Gzip(encoder) => Reader::Gzip(encoder.join()),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => Reader::Zstd(encoder.join()),
        }
    }

    pub(super) fn welcome(&mut self) {
        match self {
            Self::Gzip(encoder) => encoder.welcome(),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.welcome(),
        }
    }

    pub(super) fn encode(&mut self, plain: Bytes) -> Block {
        match self {
            Self::Gzip(encoder) => Block::Gzip(encoder.encode(plain)),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => Block::Zstd(encoder.encode(plain)),
        }
    }

    pub(super) fn encode_apart(&mut self, plain: Bytes) -> Block {
        match self {
            Self::Gzip(encoder) => Block::Gzip(encoder.encode_apart(plain)),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => Block::Zstd(encoder.encode_apart(plain)),
        }
    }
}

impl Block {
    pub(super) fn plain_len(&self) -> usize {
        match self {
            Self::Gzip(block) => block.plain().len(),
            #[cfg(feature = "zstd")]
            Self::Zstd(block) => block.plain().len(),
        }
    }

    pub(super) fn packed_len(&self) -> usize {
        match self {
            Self::Gzip(block) => block.bytes(Form::Packed).len(),
            #[cfg(feature = "zstd")]
            Self::Zstd(block) => block.packed_len(),
        }
    }
}

impl Reader {
    /// What its stream begins with.
    pub(super) fn head(&self) -> &'static [u8] {
        match self {
            Self::Gzip(reader) => reader.head(),
            #[cfg(feature = "zstd")]
            Self::Zstd(_) => &[],
        }
    }

    pub(super) fn take(&mut self, block: &Block) -> (Form, Bytes) {
        match (self, block) {
            (Self::Gzip(reader), Block::Gzip(block)) => {
                let form = reader.take(block);
                (form, block.bytes(form).clone())
            }
            #[cfg(feature = "zstd")]
            (Self::Zstd(reader), Block::Zstd(block)) => reader.take(block),
            #[cfg(feature = "zstd")]
            _ => unreachable!("a reader takes the blocks of its own cohort"),
        }
    }

    pub(super) fn take_own(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Gzip(reader) => reader.take_own(plain, out),
            #[cfg(feature = "zstd")]
            Self::Zstd(reader) => reader.take_own(plain, out),
        }
    }

    /// The end of its stream.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        match self {
            Self::Gzip(reader) => out.extend_from_slice(&reader.finish()),
            #[cfg(feature = "zstd")]
            Self::Zstd(reader) => out.extend_from_slice(reader.finish()),
        }
    }
}
