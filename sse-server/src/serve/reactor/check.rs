//! Time-outs of connections: heartbeats that are due, and an end for sockets that take nothing.

use std::time::Instant;

use super::Reactor;
use super::table::Ticks;
use crate::clock::Moment;
use crate::hub::Reader;
use crate::serve::FRAME_TIMEOUTS;
use crate::serve::chunks::chunk;

impl Reactor {
    /// Sends the heartbeats that are due, and lets go of sockets that have taken nothing for too long: a turn's worth of
    /// connections, for they may all be due at once.
    pub(super) fn check(&mut self, from: usize, moment: Moment) {
        let end = from + CHECKS_PER_TURN;
        self.unchecked = (end < self.table.end()).then_some(end);
        let ticks = Ticks::since(self.origin, moment.now);
        let heartbeat_millis = self
            .hub
            .heartbeat_interval()
            .map(|interval| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX));
        for slot in from..end.min(self.table.end()) {
            let Some(entry) = self.table.at(slot) else {
                continue;
            };
            let key = entry.key;
            let reader = Reader {
                hub: &self.hub,
                key,
            };
            if let Some(more) = &entry.more {
                let timeout = self.hub.config().send_timeout;
                let is_over = |since: Option<Instant>, timeout| {
                    since.is_some_and(|it| moment.now.saturating_duration_since(it) >= timeout)
                };
                if is_over(more.blocked_since, timeout)
                    || is_over(more.holds_since, timeout * FRAME_TIMEOUTS)
                {
                    reader.stalled(moment.now);
                    self.remove(key);
                    continue;
                }
                let is_busy = more.session.as_ref().is_some_and(|it| !it.is_live());
                if is_busy || !more.unsent.is_empty() || more.is_last {
                    continue;
                }
            }
            if heartbeat_millis
                .is_some_and(|interval| ticks.millis_after(entry.last_write) >= interval)
            {
                let session = entry.more.as_mut().and_then(|more| more.session.as_mut());
                let bytes = match session {
                    Some(session) => session.heartbeat(reader, moment),
                    None => reader.heartbeat(entry.format, moment.now),
                };
                let wire = if entry.is_chunked {
                    chunk(&bytes)
                } else {
                    bytes
                };
                self.send(key, &wire, moment);
            }
        }
    }
}

/// Connections checked before events and requests get a turn: ten microseconds when nothing is due, some three
/// milliseconds when all get a heartbeat.
const CHECKS_PER_TURN: usize = 1024;
