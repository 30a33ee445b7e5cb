//! The offsets of one topic's records, in order.

use std::collections::VecDeque;

use redb::ReadOnlyTable;

use super::read_error::storage_error;
use super::runs::{run_key, run_offsets};
use crate::encoding::Damaged;
use crate::{Offset, ReadError};

/// The offsets of one topic, run by run, and then those that are in no run yet.
pub(super) struct TopicCursor {
    runs: redb::Range<'static, &'static [u8], &'static [u8]>,
    run: VecDeque<Offset>,
    recent: std::vec::IntoIter<Offset>,
    /// Only what comes after this; a run may have been written since `recent` was looked at.
    after: Offset,
}

impl TopicCursor {
    pub(super) fn new(
        runs: &ReadOnlyTable<&'static [u8], &'static [u8]>,
        topic: &str,
        recent: Vec<Offset>,
        start: Offset,
    ) -> Result<Result<Self, Damaged>, ReadError> {
        let (first, from, last) = (
            run_key(topic, 0),
            run_key(topic, start),
            run_key(topic, Offset::MAX),
        );
        // The run that began at or before `start` may reach beyond it.
        let before = runs
            .range::<&[u8]>(&*first..=&*from)
            .map_err(storage_error)?
            .next_back();
        let mut run = VecDeque::new();
        if let Some(entry) = before {
            let (key, value) = entry.map_err(storage_error)?;
            let Ok(offsets) = run_offsets(key.value(), value.value()) else {
                return Ok(Err(Damaged));
            };
            run.extend(offsets);
        }
        let after = (
            std::ops::Bound::Excluded(&*from),
            std::ops::Bound::Included(&*last),
        );
        let runs = runs.range::<&[u8]>(after).map_err(storage_error)?;
        Ok(Ok(Self {
            runs,
            run,
            recent: recent.into_iter(),
            after: start,
        }))
    }

    pub(super) fn next(&mut self) -> Result<Result<Option<Offset>, Damaged>, ReadError> {
        loop {
            let next = match self.run.pop_front() {
                Some(next) => next,
                None => match self.runs.next() {
                    Some(entry) => {
                        let (key, value) = entry.map_err(storage_error)?;
                        match run_offsets(key.value(), value.value()) {
                            Ok(offsets) => self.run = offsets.into(),
                            Err(Damaged) => return Ok(Err(Damaged)),
                        }
                        continue;
                    }
                    None => match self.recent.next() {
                        Some(next) => next,
                        None => return Ok(Ok(None)),
                    },
                },
            };
            if next > self.after {
                self.after = next;
                return Ok(Ok(Some(next)));
            }
        }
    }
}
