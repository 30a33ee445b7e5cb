//! What is done with a line or an event that goes over a limit.

use super::{Decoder, State};
use crate::error::LimitExceeded;
use crate::limits::Excess;
use crate::step::Step;

impl Decoder {
    /// The line that ends with `end` so far is over the line limit; but it may have gone over the event limit
    /// at an earlier byte, and what is reported must not depend on the cutting.
    #[cold]
    pub(super) fn exceed_line(&mut self, end: &[u8]) -> Step<'static> {
        let limit_bytes = self.limits.max_line_bytes();
        let held = self.lines.partial();
        let excess = (held.len() + end.len()).saturating_sub(limit_bytes);
        let value_len = if self.lines.is_omitting() {
            None
        } else {
            data_value_len(held, end)
        };
        match value_len {
            Some(len)
                if limit_bytes >= DATA_NAME.len()
                    && self.block.bytes() + len.saturating_sub(excess) + 1
                        > self.limits.max_event_bytes() =>
            {
                self.exceed_event()
            }
            _ => self.exceed(LimitExceeded::Line { limit_bytes }),
        }
    }

    #[cold]
    pub(super) fn exceed_event(&mut self) -> Step<'static> {
        self.exceed(LimitExceeded::Event {
            limit_bytes: self.limits.max_event_bytes(),
        })
    }

    /// Drops the block under construction and decides how to go on.
    fn exceed(&mut self, limit: LimitExceeded) -> Step<'static> {
        self.dropped_has_id = self.block.head.has_id;
        self.block.clear();
        self.dropped_events += 1;
        self.state = match self.limits.excess() {
            Excess::Drop => State::Skipping,
            Excess::Fail => State::Failed(limit),
        };
        Step::Dropped(limit)
    }
}

/// How long the value is of a data line that begins with `held` and goes on with `rest`; `None` if it is
/// another line, or cannot be told yet.
pub(super) fn data_value_len(held: &[u8], rest: &[u8]) -> Option<usize> {
    let mut line = held.iter().chain(rest);
    if !DATA_NAME.iter().all(|byte| line.next() == Some(byte)) {
        return None;
    }
    let space = usize::from(line.next() == Some(&b' '));
    Some(held.len() + rest.len() - DATA_NAME.len() - space)
}

pub(super) const DATA_NAME: &[u8] = b"data:";
