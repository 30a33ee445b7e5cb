//! A reader with patterns takes what is ready, in chunks, because patterns are foreign code.
//!
//! The lock is visited for a chunk of the window; the chunk is filtered without it, and the next visit goes on
//! from there. A [`Scan`] is how far that has come.

use std::sync::Arc;

use super::{Shard, Step};
use crate::{ConnectionInfo, Entry, Selector};

/// How far a pattern reader's read has come between two visits to the lock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    seeks: u32,
    next_seq: u64,
    cursor: u64,
    taken: usize,
    taken_bytes: usize,
    full: bool,
}

impl Scan {
    /// Takes what is wanted of a chunk, up to the budget.
    pub(crate) fn filter<T>(
        &mut self,
        chunk: Vec<(Arc<Entry<T>>, Option<bool>)>,
        selector: &Selector,
        info: &ConnectionInfo,
        max_bytes: usize,
        out: &mut Vec<Arc<Entry<T>>>,
    ) {
        let visibility = &info.client.visibility;
        for (entry, is_meant) in chunk {
            let is_wanted = || match is_meant {
                Some(is_meant) => selector.wants_known(&*entry, visibility, &info.id, is_meant),
                None => selector.wants(&*entry, visibility, Some(&info.id)),
            };
            if entry.offset > self.cursor && is_wanted() {
                if self.taken > 0 && self.taken_bytes.saturating_add(entry.size_bytes) > max_bytes {
                    self.full = true;
                    return;
                }
                self.taken += 1;
                self.taken_bytes = self.taken_bytes.saturating_add(entry.size_bytes);
                self.cursor = entry.offset;
                out.push(entry);
            } else {
                self.cursor = self.cursor.max(entry.offset);
            }
            self.next_seq += 1;
        }
    }
}

impl<T> Shard<T> {
    pub(super) fn step_scan(
        &mut self,
        slot: u32,
        scan: &mut Option<Scan>,
        out: &mut Vec<Arc<Entry<T>>>,
        out_start: usize,
    ) -> Step<T> {
        let Some(reader) = self.readers.get_mut(slot) else {
            return Step::Nothing;
        };
        let progress = match scan {
            Some(progress) if progress.seeks == reader.seeks => progress,
            _ => {
                out.truncate(out_start);
                scan.insert(Scan {
                    seeks: reader.seeks,
                    next_seq: reader.next_seq,
                    cursor: reader.cursor,
                    ..Scan::default()
                })
            }
        };
        reader.cursor = reader.cursor.max(progress.cursor);
        let lost = reader.cursor < self.window.floor();
        if !lost {
            progress.next_seq = progress.next_seq.max(self.window.base());
        }
        reader.next_seq = progress.next_seq;
        if lost && progress.taken == 0 {
            return self.lag(slot);
        }
        let at_end = !lost && progress.next_seq == self.window.end();
        if at_end {
            reader.cursor = reader.cursor.max(self.window.head());
        }
        if at_end || lost || progress.full {
            let Scan {
                taken, taken_bytes, ..
            } = *progress;
            *scan = None;
            if taken == 0 {
                return Step::Nothing;
            }
            self.totals.count_taken(reader, taken, taken_bytes);
            return Step::Entries { is_all: false };
        }
        Step::Filter {
            chunk: self
                .window
                .meant_from(progress.next_seq)
                .take(SCAN_CHUNK)
                .map(|(entry, meant)| (Arc::clone(entry), meant.by_any(&reader.patterns)))
                .collect(),
            selector: Arc::clone(&reader.selector),
            info: Arc::clone(&reader.info),
        }
    }
}

/// How many entries a pattern reader looks at per visit to the lock.
pub(crate) const SCAN_CHUNK: usize = 64;
