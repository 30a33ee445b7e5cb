//! Content-Encoding zstd (RFC 8878), whose frames may follow each other.

use bytes::{Buf as _, Bytes};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::ContentError;

const DAMAGED: ContentError = ContentError::Damaged { coding: "zstd" };

pub(super) struct Zstd {
    decoder: Decoder<'static>,
    /// What zstd still wants for the current frame; 0 at a frame's end.
    hint: usize,
    /// Whether the last step filled its buffer, so that more may come out without more input.
    filled: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, ContentError> {
        let mut decoder = Decoder::new().map_err(|_| DAMAGED)?;
        // RFC 9659: a sender must not ask for a window over 8 MiB.
        decoder
            .set_parameter(DParameter::WindowLogMax(23))
            .map_err(|_| DAMAGED)?;
        Ok(Self {
            decoder,
            hint: 1,
            filled: false,
        })
    }

    pub(super) fn step(
        &mut self,
        input: &mut Bytes,
        out: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        if input.is_empty() && !self.filled {
            // Nothing more can come out.
            return Ok(());
        }
        out.resize(super::STEP_BYTES, 0);
        let mut source = InBuffer::around(input);
        let mut sink = OutBuffer::around(out.as_mut_slice());
        self.hint = self
            .decoder
            .run(&mut source, &mut sink)
            .map_err(|_| DAMAGED)?;
        let (taken, written) = (source.pos(), sink.pos());
        // At a frame's end nothing is held back, and a call without input would begin a new one.
        self.filled = written == out.len() && self.hint != 0;
        out.truncate(written);
        input.advance(taken);
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.hint == 0
    }
}
