//! A place where somebody else puts a live reader: what it is told when it hears of that.

use std::sync::Arc;

use sse_broker::{Bounds, Gap, Position, ResumeFrom};
use sse_pool::Seek;

/// Where a reader goes on, and what is missing before that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    at: Position,
    /// The reader hears of this before anything else.
    pub(crate) gap: Option<Gap>,
    /// All that is kept was asked for: what is trimmed before it is read was never promised.
    pub(crate) is_earliest: bool,
}

impl Placement {
    /// Where a log of these bounds can be read on from there.
    pub(crate) fn of(from: ResumeFrom, bounds: Bounds) -> Self {
        let (offset, gap) = from.resolve(bounds);
        Self {
            at: Position {
                epoch: bounds.epoch,
                offset,
            },
            gap,
            is_earliest: from == ResumeFrom::Earliest,
        }
    }

    /// The same for the pool.
    pub(crate) fn seek(self) -> Seek {
        Seek {
            series: self.at.epoch.0,
            after: self.at.offset,
            note: Some(Arc::new(self)),
        }
    }
}
