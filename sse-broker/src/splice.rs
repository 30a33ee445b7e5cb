//! [`Splice`]: takes a reader from the log into the live window, with nothing lost and nothing twice.

use crate::{Bounds, Epoch, Gap, GapReason, Offset, Page, Position, Rendered, ResumeFrom};

/// What a reader does next on its way from the log to the live window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the window whether it holds all that comes after this offset, and say so to
    /// [`Splice::handle_window`].
    Join {
        /// How far the reader has got.
        after: Offset,
    },
    /// Read the page after this offset, and show it to [`Splice::handle_page`] before writing it.
    Read {
        /// How far the reader has got.
        after: Offset,
    },
    /// The window serves the reader after this offset, until it falls out:
    /// [`Splice::handle_lag`].
    Live {
        /// How far the reader had got when it joined.
        after: Offset,
    },
}

/// A reader's way from where it left off, through the log, into the live window.
///
/// Resume is nothing but placing a cursor: the window is asked first, and only a reader that has
/// fallen out of it reads the log, page by page, until the window holds what comes next. Nothing is
/// queued on the way, so a reader that is slow to catch up costs no memory. The machine knows no
/// broker and no pool; what it is told is numbers:
///
/// ```text
///              floor > after            page
///    ┌── Join ───────────────▶ Read ───────────┐
///    │    ▲                                    │
///    │    ├────────────────────────────────────┘
///    │    │ lagged
///    └─▶ Live      floor ≤ after
/// ```
///
/// Who follows it writes each record after the reader's position once, in order, or writes the
/// [`Gap`] first; what it asks of the two sides is this:
///
/// * a record can be read from the log before it enters the window (so the window may be asked for
///   an offset that it has not reached yet, and must then leave out what comes up to it);
/// * the window, when it says that its floor is `f`, holds all later records that concern the reader.
///
/// ```
/// # use sse_broker::{Bounds, Epoch, Page, ResumeFrom, Splice, Step};
/// let bounds = Bounds { epoch: Epoch(1), floor: 0, head: 9 };
/// let (mut splice, gap) = Splice::begin(ResumeFrom::Earliest, bounds);
/// assert_eq!(gap, None);
/// assert_eq!(splice.step(), Step::Join { after: 0 });
/// splice.handle_window(5); // the window has only what comes after 5
/// assert_eq!(splice.step(), Step::Read { after: 0 });
/// splice.handle_page(&Page { upto: 9, ..Page::default() });
/// splice.handle_window(5);
/// assert_eq!(splice.step(), Step::Live { after: 9 });
/// ```
#[derive(Clone, Debug)]
pub struct Splice {
    epoch: Epoch,
    after: Offset,
    state: State,
    /// Whether the reader counts on what comes after `after`. One that asked for all that is kept
    /// does not until it has read its first page: what is trimmed before that was never promised.
    promised: bool,
    /// The newest removed offset that the reader has heard of.
    removed: Offset,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `stuck`: the page before this had nothing to offer.
    Join {
        stuck: bool,
    },
    Read,
    Live,
}

impl Splice {
    /// Places the cursor; the gap, where there is one, is to be written before anything else.
    #[must_use]
    pub fn begin(from: ResumeFrom, bounds: Bounds) -> (Self, Option<Gap>) {
        let (after, gap) = from.resolve(bounds);
        let splice = Self {
            epoch: bounds.epoch,
            after,
            state: State::Join { stuck: false },
            promised: from != ResumeFrom::Earliest,
            removed: 0,
        };
        (splice, gap)
    }

    /// What to do next.
    #[must_use]
    pub fn step(&self) -> Step {
        let after = self.after;
        match self.state {
            State::Join { .. } => Step::Join { after },
            State::Read => Step::Read { after },
            State::Live => Step::Live { after },
        }
    }

    /// How far the reader has got: it has all that concerns it up to here, or has heard of the gap.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.after,
        }
    }

    /// Takes the window's answer to [`Step::Join`]: it holds all after `floor`.
    ///
    /// The gap it may return is the way out when log and window contradict each other (the window
    /// has lost what the log never had): such a reader joins behind the gap instead of asking
    /// forever.
    pub fn handle_window(&mut self, floor: Offset) -> Option<Gap> {
        let State::Join { stuck } = self.state else {
            return None;
        };
        if floor <= self.after {
            self.state = State::Live;
            self.promised = true;
            None
        } else if stuck {
            self.state = State::Live;
            self.promised = true;
            Some(self.skip_to(floor, floor))
        } else {
            self.state = State::Read;
            None
        }
    }

    /// Takes the page that [`Step::Read`] asked for; its gap is to be written before its records.
    #[must_use = "the gap is to be written before the page's records"]
    pub fn handle_page(&mut self, page: &Page) -> Option<Gap> {
        let first = page.records.first().map(|first| first.position.offset);
        self.handle_read(first, page.upto, page.trimmed, page.removed)
    }

    /// The same for a page that came as bytes.
    #[must_use = "the gap is to be written before the page's bytes"]
    pub fn handle_rendered(&mut self, page: &Rendered) -> Option<Gap> {
        self.handle_read(page.first, page.upto, page.trimmed, page.removed)
    }

    fn handle_read(
        &mut self,
        first: Option<Offset>,
        upto: Offset,
        trimmed: bool,
        removed: Option<Offset>,
    ) -> Option<Gap> {
        let lost_upto = first.map_or(upto, |first| first.saturating_sub(1));
        let from = self.position();
        let mut gap = self.handle_removed(removed);
        if trimmed && self.promised && lost_upto > self.after {
            let until = gap.map_or(0, |gap| gap.until.offset);
            gap = Some(self.skip_to(lost_upto, until));
        } else if let Some(gap) = &mut gap {
            // What comes next is known now.
            gap.from = Some(from);
            self.after = self.after.max(lost_upto);
            gap.to = self.position();
            gap.until = gap.until.max(gap.to);
        }
        self.state = State::Join {
            stuck: upto <= self.after && gap.is_none(),
        };
        self.after = self.after.max(upto);
        self.promised = true;
        gap
    }

    /// Takes what [`Page::removed`] says, from a page or before the first: a gap that the reader has not
    /// heard of yet. Its stream goes on where it was, with what is left.
    pub fn handle_removed(&mut self, removed: Option<Offset>) -> Option<Gap> {
        let offset = removed.filter(|offset| *offset > self.after.max(self.removed))?;
        self.removed = offset;
        self.promised.then(|| Gap {
            from: Some(self.position()),
            to: self.position(),
            until: Position {
                epoch: self.epoch,
                offset,
            },
            reason: GapReason::Thinned,
        })
    }

    /// The reader has fallen out of the window after `after`: it reads the log again from there.
    pub fn handle_lag(&mut self, after: Offset) {
        self.after = self.after.max(after);
        self.state = State::Join { stuck: false };
    }

    fn skip_to(&mut self, offset: Offset, until: Offset) -> Gap {
        let from = Some(self.position());
        self.after = offset;
        Gap {
            from,
            to: self.position(),
            until: Position {
                epoch: self.epoch,
                offset: until.max(offset),
            },
            reason: GapReason::Trimmed,
        }
    }
}
