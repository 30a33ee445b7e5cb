//! Resuming: where in the log a reader goes on, and the gap that it must hear of first.

use crate::{Bounds, Broker, Offset, Position, ReadError};

/// From where a reader wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// From now on.
    Live,
    /// From the oldest record that is kept.
    Earliest,
    /// After a position it has read.
    Position(Position),
    /// After the record with a publisher's id, as [`Broker::locate`] found it: `None` when no
    /// retained record has that id.
    Id(Option<Offset>),
}

impl ResumeFrom {
    /// Reads a `Last-Event-ID`: `earliest`, a position, or else a publisher's id, which costs a look
    /// into the broker's index of ids.
    ///
    /// A text that reads as a position is one: [`Record::public_id`](crate::Record::public_id) never
    /// shows a publisher's id that does.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub async fn last_event_id(
        broker: &dyn Broker,
        last_event_id: &str,
    ) -> Result<Self, ReadError> {
        if last_event_id == "earliest" {
            return Ok(Self::Earliest);
        }
        if let Ok(position) = last_event_id.parse() {
            return Ok(Self::Position(position));
        }
        match sse_protocol::EventId::new(last_event_id) {
            Ok(id) => Ok(Self::Id(broker.locate(id).await?)),
            // What can be no id was never sent as one.
            Err(_) => Ok(Self::Id(None)),
        }
    }

    /// The offset to read on from, and the gap that the reader hears of first.
    #[must_use]
    pub fn resolve(self, bounds: Bounds) -> (Offset, Option<Gap>) {
        let Bounds { epoch, floor, head } = bounds;
        let gap = |from, to, reason| {
            (
                to,
                Some(Gap {
                    from,
                    to: Position { epoch, offset: to },
                    until: Position { epoch, offset: to },
                    reason,
                }),
            )
        };
        let asked = match self {
            Self::Live => return (head, None),
            Self::Earliest => return (floor, None),
            Self::Id(None) => return gap(None, head, GapReason::UnknownId),
            Self::Id(Some(offset)) => Position { epoch, offset },
            Self::Position(position) => position,
        };
        if asked.epoch != epoch {
            gap(Some(asked), head, GapReason::ForeignEpoch)
        } else if asked.offset > head {
            gap(Some(asked), head, GapReason::BeyondHead)
        } else if asked.offset < floor {
            gap(Some(asked), floor, GapReason::Trimmed)
        } else {
            (asked.offset, None)
        }
    }
}

/// A stretch of the order in which a reader may have missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position that the reader is known to have had, as far as it said one.
    pub from: Option<Position>,
    /// Where it goes on: what it gets next comes after this.
    pub to: Position,
    /// The newest position of which something may be missing. It is beyond [`to`](Self::to) when records of
    /// other topics in between are still kept, and come.
    pub until: Position,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// How many records lie between its ends, of whatever topics; nothing where the ends belong to different logs, or the first is
    /// not known.
    #[must_use]
    pub fn missed_at_most(&self) -> Option<u64> {
        let from = self.from.filter(|from| from.epoch == self.to.epoch)?;
        Some(self.until.offset.saturating_sub(from.offset))
    }
}

/// Why a reader may have missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The position belongs to another log, or to one that may have lost what it acknowledged.
    ForeignEpoch,
    /// The position was never given out by this log.
    BeyondHead,
    /// No retained record has this id.
    UnknownId,
    /// What came next is no longer kept, or was damaged.
    Trimmed,
    /// Some of what came next is no longer kept, by the retention of its topic; what else there is follows.
    Thinned,
    /// The reader was late, and events of low priority were left out for it.
    LowPriority,
}

impl GapReason {
    /// Its name in the `gap` event: `foreign_epoch`, `beyond_head`, `unknown_id`, `trimmed`,
    /// `thinned`, `low_priority`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignEpoch => "foreign_epoch",
            Self::BeyondHead => "beyond_head",
            Self::UnknownId => "unknown_id",
            Self::Trimmed => "trimmed",
            Self::Thinned => "thinned",
            Self::LowPriority => "low_priority",
        }
    }
}

impl std::fmt::Display for GapReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    const BOUNDS: Bounds = Bounds {
        epoch: Epoch(7),
        floor: 10,
        head: 20,
    };

    fn at(epoch: u64, offset: Offset) -> ResumeFrom {
        ResumeFrom::Position(Position {
            epoch: Epoch(epoch),
            offset,
        })
    }

    #[test]
    fn a_position_that_is_kept_is_continued_without_a_gap() {
        for offset in 10..=20 {
            assert_eq!(at(7, offset).resolve(BOUNDS), (offset, None));
            assert_eq!(ResumeFrom::Id(Some(offset)).resolve(BOUNDS), (offset, None));
        }
        assert_eq!(ResumeFrom::Live.resolve(BOUNDS), (20, None));
        assert_eq!(ResumeFrom::Earliest.resolve(BOUNDS), (10, None));
    }

    #[test]
    fn a_position_that_cannot_be_continued_is_a_gap_and_never_a_guess() {
        for (from, to, reason) in [
            (at(8, 15), 20, GapReason::ForeignEpoch),
            (at(7, 21), 20, GapReason::BeyondHead),
            (at(7, u64::MAX), 20, GapReason::BeyondHead),
            (at(7, 9), 10, GapReason::Trimmed),
            (at(7, 0), 10, GapReason::Trimmed),
            (ResumeFrom::Id(None), 20, GapReason::UnknownId),
        ] {
            let (after, gap) = from.resolve(BOUNDS);
            let gap = gap.expect("a gap");
            assert_eq!(
                (after, gap.to.offset, gap.reason),
                (to, to, reason),
                "{from:?}"
            );
        }
    }
}
