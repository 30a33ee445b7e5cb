//! What reading leads to, and where its text lies.

use alloc::string::String;

use crate::error::LimitExceeded;
use crate::input::{Input, push_lossy};
use crate::line::Assembler;
use crate::retry::Retry;

/// What the caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    Events,
}

/// Where the reading of data lines stopped.
pub(crate) enum DataLines<'c> {
    /// After an event.
    Event(&'c str),
    /// Before a line that the chunk does not end.
    Cut,
    /// Before a line that has this length, and is read by itself.
    Long(usize),
    /// Before anything else.
    Other,
}

impl DataLines<'_> {
    /// Before a line whose end is not in the window.
    pub(crate) fn without_end(input: &Input<'_>) -> Self {
        if input.is_all_text() {
            Self::Cut
        } else {
            Self::Other
        }
    }
}

/// What a line led to, and where its text lies.
pub(crate) enum Step<'c> {
    Event(Data<'c>),
    LentComment(&'c str),
    /// A comment in the decoder's buffer.
    Comment,
    Retry(Retry),
    Dropped(LimitExceeded),
}

/// Where the data of an event lies.
pub(crate) enum Data<'c> {
    /// In the chunk.
    Lent(&'c str),
    Held(Held),
}

/// Where the decoder holds the data of an event.
pub(crate) enum Held {
    /// In the block.
    Block,
    /// In the line that was finished last, from this offset on, and not checked yet.
    Line(usize),
}

impl Held {
    /// The text; where a line is malformed, it is written into the block's data.
    #[inline(never)]
    pub(crate) fn text<'v>(
        self,
        lines: &'v Assembler,
        data: &'v mut String,
        is_data_used: &mut bool,
    ) -> &'v str {
        match self {
            // Without the LF that the standard takes away at last.
            Self::Block => data.strip_suffix('\n').unwrap_or_default(),
            Self::Line(at) => {
                let value = &lines.finished()[at..];
                simdutf8::basic::from_utf8(value).unwrap_or_else(|_| {
                    push_lossy(data, value);
                    *is_data_used = true;
                    data
                })
            }
        }
    }
}
