//! What the bytes of one chunk turn into.

use super::{Decoded, Decoder};
use crate::input::Input;
use crate::step::{Step, Wanted};
use crate::view::{EventBuf, EventView};

/// The events of one chunk, lent one at a time; see [`Decoder::feed`].
#[derive(Debug)]
pub struct Feed<'d, 'c> {
    pub(super) decoder: &'d mut Decoder,
    pub(super) input: Input<'c>,
}

impl<'d, 'c> Feed<'d, 'c> {
    /// The next thing in the chunk, or `None` when the chunk is used up.
    #[expect(
        clippy::should_implement_trait,
        reason = "a lending iterator cannot be an Iterator"
    )]
    #[inline]
    pub fn next(&mut self) -> Option<Decoded<'_>> {
        Some(match self.step(Wanted::All)? {
            Step::Event(data) => Decoded::Event(self.decoder.view(data)),
            Step::LentComment(text) => Decoded::Comment(text),
            Step::Comment => Decoded::Comment(&self.decoder.comment),
            Step::Retry(retry) => Decoded::Retry(retry),
            Step::Dropped(limit) => Decoded::Dropped(limit),
        })
    }

    /// The next event in the chunk; skips all else.
    ///
    /// A comment that this call has seen the beginning of is skipped whole, also if [`next`](Self::next) is called
    /// for its end.
    #[inline]
    pub fn next_event(&mut self) -> Option<EventView<'_>> {
        if self.input.is_used_up() {
            return None;
        }
        if self.decoder.lines.is_omitting() {
            self.decoder.skip_comments(&mut self.input);
            if self.input.is_used_up() {
                return None;
            }
        }
        let mut step = self.decoder.read(&mut self.input, Wanted::Events)?;
        let data = loop {
            if let Step::Event(data) = step {
                break data;
            }
            step = self.step(Wanted::Events)?;
        };
        Some(self.decoder.view(data))
    }

    /// The bytes of the chunk that have not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'c [u8] {
        self.input.rest()
    }

    /// The events of the chunk as an iterator of owned ones; skips all else.
    #[must_use]
    #[inline]
    pub fn owned(self) -> OwnedEvents<'d, 'c> {
        OwnedEvents { feed: self }
    }

    #[inline]
    fn step(&mut self, wanted: Wanted) -> Option<Step<'c>> {
        if self.input.is_used_up() {
            return None;
        }
        self.decoder.read(&mut self.input, wanted)
    }
}

/// The events of one chunk, owned; see [`Feed::owned`].
#[derive(Debug)]
pub struct OwnedEvents<'d, 'c> {
    feed: Feed<'d, 'c>,
}

impl Iterator for OwnedEvents<'_, '_> {
    type Item = EventBuf;

    #[inline]
    fn next(&mut self) -> Option<EventBuf> {
        self.feed.next_event().map(|event| event.to_buf())
    }
}
