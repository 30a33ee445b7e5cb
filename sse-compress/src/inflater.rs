//! The decoders under [`Decompressor`](crate::Decompressor), one call alike for each.

use flate2::{Decompress, FlushDecompress, Status};
#[cfg(feature = "zstd")]
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// The decoder of one member or frame.
pub(crate) enum Inflater {
    Deflate(Box<Decompress>),
    #[cfg(feature = "zstd")]
    Zstd(Box<Decoder<'static>>),
}

/// What one call did.
pub(crate) struct Inflated {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
    pub(crate) status: Result<Ended, Corrupt>,
}

/// Whether the member or frame has come to its end, and all of it is given out.
#[derive(PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

/// The input is none of this coding.
pub(crate) struct Corrupt;

impl Inflater {
    pub(crate) fn gzip() -> Self {
        Self::Deflate(Box::new(Decompress::new_gzip(WINDOW_BITS)))
    }

    pub(crate) fn deflate(is_zlib: bool) -> Self {
        Self::Deflate(Box::new(Decompress::new(is_zlib)))
    }

    #[cfg(feature = "zstd")]
    pub(crate) fn zstd() -> Result<Self, Corrupt> {
        let mut decoder = Decoder::new().map_err(|_| Corrupt)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))
            .map_err(|_| Corrupt)?;
        Ok(Self::Zstd(Box::new(decoder)))
    }

    pub(crate) fn run(&mut self, input: &[u8], out: &mut [u8]) -> Inflated {
        match self {
            Self::Deflate(inner) => {
                let (before_in, before_out) = (inner.total_in(), inner.total_out());
                let status = inner.decompress(input, out, FlushDecompress::None);
                Inflated {
                    consumed: (inner.total_in() - before_in) as usize,
                    produced: (inner.total_out() - before_out) as usize,
                    status: match status {
                        Ok(Status::StreamEnd) => Ok(Ended::Yes),
                        Ok(_) => Ok(Ended::No),
                        Err(_) => Err(Corrupt),
                    },
                }
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(inner) => {
                let (mut source, mut sink) = (InBuffer::around(input), OutBuffer::around(out));
                let status = inner.run(&mut source, &mut sink);
                Inflated {
                    consumed: source.pos(),
                    produced: sink.pos(),
                    status: match status {
                        // Nothing is wanted any more: the frame is at its end.
                        Ok(0) => Ok(Ended::Yes),
                        Ok(_) => Ok(Ended::No),
                        Err(_) => Err(Corrupt),
                    },
                }
            }
        }
    }
}

/// Deflate's largest window, which every decoder of gzip must have.
const WINDOW_BITS: u8 = 15;

/// The largest window that a sender may ask for: 8 MiB (RFC 9659, section 3).
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG: u32 = 23;
