//! Decompressing what a server has sent.

use std::io::{self, Write};

use flate2::write::GzDecoder;

/// Inflates what comes, as far as it goes.
pub(crate) struct Unpacker(Box<GzDecoder<Vec<u8>>>);

impl Unpacker {
    pub(crate) fn new() -> Self {
        Self(Box::new(GzDecoder::new(Vec::new())))
    }

    /// Takes more; all of its text is there afterwards.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.0.get_ref()
    }

    /// Forgets the first bytes of the text.
    pub(crate) fn forget(&mut self, count: usize) {
        self.0.get_mut().drain(..count);
    }
}
