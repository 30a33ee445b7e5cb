//! The decoder under [`Decompressor`](crate::Decompressor).

use flate2::{Decompress, FlushDecompress, Status};

/// The decoder of one gzip member or one deflate stream.
pub(crate) struct Inflater(Box<Decompress>);

/// What one call did.
pub(crate) struct Inflated {
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
    pub(crate) status: Result<Ended, Corrupt>,
}

/// Whether the member has come to its end, and all of it is given out.
#[derive(PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

/// The input is not in this coding.
pub(crate) struct Corrupt;

impl Inflater {
    pub(crate) fn gzip() -> Self {
        Self(Box::new(Decompress::new_gzip(WINDOW_BITS)))
    }

    pub(crate) fn deflate(is_zlib: bool) -> Self {
        Self(Box::new(Decompress::new(is_zlib)))
    }

    pub(crate) fn run(&mut self, input: &[u8], out: &mut [u8]) -> Inflated {
        let inner = &mut self.0;
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
}

/// Deflate's largest window, which every decoder of gzip must have.
const WINDOW_BITS: u8 = 15;
