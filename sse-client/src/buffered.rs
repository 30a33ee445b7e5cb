//! Reading ahead, within bounds.

use std::fmt;
use std::sync::Arc;

use sse_protocol::EventBuf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::event_source::EventSource;
use crate::state::State;

/// How far a source may be read ahead of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit {
    /// Events at most.
    pub events: usize,
    /// Bytes of their data, types and ids at most. A single larger event still passes, alone.
    pub bytes: usize,
}

impl Default for QueueLimit {
    /// 1,024 events and 1 MiB.
    fn default() -> Self {
        Self {
            events: 1024,
            bytes: 1024 * 1024,
        }
    }
}

/// A source read by a task of its own, into a bounded queue; see [`EventSource::buffered`].
///
/// Dropping it ends the source.
pub struct BufferedEvents {
    queue: mpsc::Receiver<(Result<EventBuf, Error>, OwnedSemaphorePermit)>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl EventSource {
    /// Reads the source on a task of its own, so that it reconnects and answers heartbeats of HTTP/2 also while
    /// the consumer is busy. When the queue is full the task stops reading, and the server is slowed down.
    ///
    /// A [kept position](crate::EventSourceBuilder::position) then says what was put into the queue, not what
    /// the consumer has processed: a crash loses what lay in between. Save positions yourself if that matters.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn buffered(mut self, limit: QueueLimit) -> BufferedEvents {
        let (sender, queue) = mpsc::channel(limit.events.max(1));
        let room_bytes = limit
            .bytes
            .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let room = Arc::new(Semaphore::new(room_bytes));
        let state = self.watch_state();
        let task = tokio::spawn(async move {
            while let Some(event) = self.next().await {
                let bytes = event.as_ref().map_or(1, size).clamp(1, room_bytes);
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let Ok(share) = Arc::clone(&room).acquire_many_owned(bytes).await else {
                    return;
                };
                if sender.send((event, share)).await.is_err() {
                    return;
                }
            }
        });
        BufferedEvents { queue, state, task }
    }
}

fn size(event: &EventBuf) -> usize {
    event.data().len() + event.event_type().len() + event.last_event_id().len()
}

impl BufferedEvents {
    /// The next event, as [`EventSource::next`] gives it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses no event.
    pub async fn next(&mut self) -> Option<Result<EventBuf, Error>> {
        self.queue.recv().await.map(|(event, _share)| event)
    }

    /// The state of the source, which may be ahead of what has been taken.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows the state.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How many events wait in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl Drop for BufferedEvents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for BufferedEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedEvents")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
