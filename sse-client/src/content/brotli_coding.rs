//! Content-Encoding br (RFC 7932).

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf as _, Bytes};

use super::ContentError;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

pub(super) struct Brotli {
    state: State,
    ended: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let state = BrotliState::new(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Self {
            state,
            ended: false,
        }
    }

    pub(super) fn step(
        &mut self,
        input: &mut Bytes,
        out: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        const DAMAGED: ContentError = ContentError::Damaged { coding: "br" };
        if self.ended {
            return if input.is_empty() {
                Ok(())
            } else {
                Err(DAMAGED)
            };
        }
        out.resize(super::STEP_BYTES, 0);
        let (mut available_in, mut taken) = (input.len(), 0);
        let (mut available_out, mut written, mut total) = (out.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut taken,
            input,
            &mut available_out,
            &mut written,
            out,
            &mut total,
            &mut self.state,
        );
        out.truncate(written);
        input.advance(taken);
        match result {
            BrotliResult::ResultFailure => return Err(DAMAGED),
            BrotliResult::ResultSuccess => self.ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.ended
    }
}
