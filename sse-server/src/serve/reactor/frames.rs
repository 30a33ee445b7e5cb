//! What many readers get alike, put together once.

use std::time::Instant;

use bytes::Bytes;

use crate::clock::Moment;
use crate::hub::{Batch, Hub, LeftOut, Metrics};
use crate::serve::chunks::chunk;
use crate::wire::Format;

/// The last few batches: the readers of a topic get the same ones, one after another.
#[derive(Debug, Default)]
pub(super) struct Frames {
    recent: [Memo; RECENT],
    next: usize,
    /// The last block of a cohort, and the chunk with it.
    chunked: Option<(Bytes, Bytes)>,
}

#[derive(Debug, Default)]
struct Memo {
    format: Format,
    is_chunked: bool,
    offsets: Vec<u64>,
    left_out: LeftOut,
    /// `None` when nothing of it is to be written.
    framed: Option<Framed>,
    /// Readers that have got it since that was last recorded: one counter that all cores share is then written to once
    /// for all of them.
    readers: u32,
}

/// A batch as it goes over the wire.
#[derive(Debug)]
struct Framed {
    wire: Bytes,
    events: u64,
    /// How many bytes the events have, without the chunk around them.
    event_bytes: usize,
    /// When the oldest event was committed.
    oldest: Instant,
}

/// As many different batches are looked at for each reader. A stated guess.
const RECENT: usize = 4;

impl Frames {
    /// Where the bytes of a batch are, for [`wire`](Self::wire); until the next batch is asked for.
    pub(super) fn find(
        &mut self,
        format: Format,
        is_chunked: bool,
        hub: &Hub,
        batch: &Batch,
        left_out: LeftOut,
        moment: Moment,
    ) -> usize {
        let known = self.recent.iter().position(|memo| {
            memo.offsets.len() == batch.len()
                && memo.is_chunked == is_chunked
                && memo.format == format
                && memo.left_out == left_out
                && std::iter::zip(&memo.offsets, batch)
                    .all(|(offset, entry)| *offset == entry.offset)
        });
        known.unwrap_or_else(|| {
            self.next = (self.next + 1) % RECENT;
            let memo = &mut self.recent[self.next];
            memo.record(hub.metrics(), moment.now);
            memo.format = format;
            memo.is_chunked = is_chunked;
            memo.left_out = left_out;
            memo.offsets.clear();
            memo.offsets.extend(batch.iter().map(|entry| entry.offset));
            memo.framed = hub
                .join_frames(format, batch, left_out, moment)
                .map(|written| Framed {
                    event_bytes: written.bytes.len(),
                    events: written.events,
                    oldest: written.oldest,
                    wire: if is_chunked {
                        chunk(&written.bytes)
                    } else {
                        written.bytes
                    },
                });
            self.next
        })
    }

    /// The bytes of a batch for one reader more; `None` when all of it was left out.
    pub(super) fn wire(&mut self, at: usize) -> Option<&Bytes> {
        let memo = self.recent.get_mut(at)?;
        memo.readers += 1;
        memo.framed.as_ref().map(|framed| &framed.wire)
    }

    /// A chunk with bytes that mostly are those that were asked for last.
    pub(super) fn chunk(&mut self, bytes: &Bytes) -> Bytes {
        match &self.chunked {
            // They are kept, so nothing else can be in their place.
            Some((known, wire))
                if known.as_ptr() == bytes.as_ptr() && known.len() == bytes.len() =>
            {
                wire.clone()
            }
            _ => {
                let wire = chunk(bytes);
                self.chunked = Some((bytes.clone(), wire.clone()));
                wire
            }
        }
    }

    /// Records what was delivered at `now`.
    pub(super) fn record(&mut self, metrics: &Metrics, now: Instant) {
        for memo in &mut self.recent {
            memo.record(metrics, now);
        }
    }

    /// Forgets everything: nothing of it is needed while all readers wait.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Memo {
    fn record(&mut self, metrics: &Metrics, now: Instant) {
        let readers = std::mem::take(&mut self.readers);
        if let Some(framed) = &self.framed {
            let latency = now.saturating_duration_since(framed.oldest);
            let bytes = framed.event_bytes * readers as usize;
            metrics.record_deliveries(latency, readers, framed.events, bytes, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_put_into_a_chunk_once_and_others_of_their_length_are_not_taken_for_them()
    {
        let mut frames = Frames::default();
        let (one, two) = (Bytes::from(vec![b'1'; 3]), Bytes::from(vec![b'2'; 3]));
        let wire = frames.chunk(&one);
        assert_eq!(wire[..], *b"3\r\n111\r\n");
        assert_eq!(frames.chunk(&one.clone()).as_ptr(), wire.as_ptr());
        assert_eq!(frames.chunk(&two)[..], *b"3\r\n222\r\n");
    }
}
