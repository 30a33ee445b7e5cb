//! The event source: the shell around the [machine](crate::machine).
//!
//! Nothing runs in the background but hyper's own connection task. Everything else happens while
//! [`next`](EventSource::next) is awaited: bytes are read when the consumer wants the next event and none
//! is left in the chunk at hand. So back-pressure reaches the socket by itself, memory is one chunk and one
//! event under construction, dropping the source ends everything, and `next` can be cancelled at any point,
//! because nothing lives in its future.

mod decode;
mod drive;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sse_protocol::{Decoder, EventBuf, EventId, Limits};
use tokio::sync::watch;
use tokio::time::Sleep;
use url::Url;

use crate::attempt::{Answer, Failure, Plan, Stream};
use crate::clock;
use crate::dedupe::Dedupe;
use crate::error::Error;
use crate::machine::Machine;
use crate::oversize::Oversize;
use crate::poll::{Page, PollPlan};
use crate::position::Keeper;
use crate::state::{CloseReason, Notice, State};
use crate::watchdog::Watchdog;

/// A stream of events from a server, kept open: the native sibling of the browsers' `EventSource`.
///
/// It connects when first polled, reconnects when the connection is lost, and tells the server then where
/// it was. [`next`](Self::next) gives events; an error only when the source has failed for good.
/// [`next_notice`](Self::next_notice) gives everything that happens, interruptions too, and
/// [`state`](Self::state) tells the current state at any time.
///
/// ```no_run
/// # async fn example() -> Result<(), sse_client::Error> {
/// use sse_client::EventSource;
///
/// let mut events = EventSource::new("http://127.0.0.1:8080/events?topic=news")?;
/// while let Some(event) = events.next().await {
///     let event = event?;
///     println!("{}: {}", event.event_type(), event.data());
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping it aborts the request and closes the socket. A kept position is saved then, as of the event
/// before the one taken last: [`close`](Self::close) says that this one was processed too.
#[must_use = "a source connects only when it is polled"]
pub struct EventSource {
    plan: Arc<Plan>,
    poll_plan: Option<Arc<PollPlan>>,
    machine: Machine,
    link: Link,
    decoder: Decoder,
    /// Decoded content that the event decoder has not seen yet.
    inbox: Bytes,
    notices: VecDeque<Notice>,
    keeper: Keeper,
    dedupe: Option<Dedupe>,
    duplicates: u64,
    idle_timeout: Option<Duration>,
    oversize: Oversize,
    url: Url,
    state: watch::Sender<State>,
    /// Made when it is first needed, so that a source can be built outside the runtime.
    timer: Option<Pin<Box<Sleep>>>,
    timer_at: Instant,
}

/// What the source is connected to.
enum Link {
    None,
    Opening(Opening),
    Polling(PollFuture),
    Streaming(Box<Streaming>),
}

type Opening = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;
type PollFuture = Pin<Box<dyn Future<Output = Result<Page, Failure>> + Send>>;

struct Streaming {
    stream: Stream,
    watchdog: Option<Watchdog>,
    /// An item was handed out since the body was last found pending: the consumer may have been away.
    consumer_away: bool,
    /// Nothing but what a hub says on its own has come, so that it may still refuse.
    may_refuse: bool,
}

impl EventSource {
    pub(crate) fn from_parts(parts: Parts) -> Self {
        let now = clock::now();
        let mut decoder = Decoder::with_limits(parts.limits);
        if let Some(id) = &parts.last_event_id {
            decoder.set_last_event_id(id);
        }
        let (state, _) = watch::channel(State::Connecting { attempt: 1 });
        Self {
            machine: parts.machine,
            url: parts.plan.template.url.clone(),
            plan: Arc::new(parts.plan),
            poll_plan: parts.poll_plan.map(Arc::new),
            link: Link::None,
            decoder,
            inbox: Bytes::new(),
            notices: VecDeque::new(),
            keeper: parts.keeper,
            dedupe: parts.dedupe,
            duplicates: 0,
            idle_timeout: parts.idle_timeout,
            oversize: Oversize::default(),
            state,
            timer: None,
            timer_at: now,
        }
    }

    /// The next event.
    ///
    /// `Some(Err(_))` comes once, when the source has failed for good; after it, and after a server's 204 or
    /// a [`close`](Self::close), `None` for ever. Interruptions that are being repaired are not errors here;
    /// see [`next_notice`](Self::next_notice).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses no event and no progress.
    pub async fn next(&mut self) -> Option<Result<EventBuf, Error>> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next thing that happens: opened, event, comment, interruption, end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future loses nothing.
    pub async fn next_notice(&mut self) -> Option<Notice> {
        std::future::poll_fn(|cx| self.poll_notice(cx)).await
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows the state, also from another task. While the source is not polled it does not change.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// What a reconnect would resume after; empty if there is nothing to resume after.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.decoder.last_event_id()
    }

    /// The URL of the current or latest connection, after redirects. Its origin is the events' origin.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many events were left out because they had come before; see
    /// [`dedupe`](crate::EventSourceBuilder::dedupe).
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many events went over a limit and were dropped.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.decoder.dropped_events()
    }

    /// Drops the current connection and connects again at once. Events that were received and not yet taken are
    /// dropped; they come again if the server keeps them.
    ///
    /// Nothing happens after the end.
    pub fn reconnect(&mut self) {
        if self.state.borrow().is_closed() {
            return;
        }
        self.link = Link::None;
        self.inbox = Bytes::new();
        self.notices.clear();
        self.decoder.reset();
        self.oversize = Oversize::default();
        self.machine.reconnect(clock::now());
        self.state.send_replace(State::Connecting { attempt: 1 });
    }

    /// Like [`reconnect`](Self::reconnect), resuming after `id` instead; the empty id resumes from nowhere.
    pub fn reconnect_after(&mut self, id: &EventId) {
        self.reconnect();
        self.decoder.set_last_event_id(id);
    }

    /// Ends the source: the request is aborted, the socket closed, the position saved, that of the event
    /// taken last included. Nothing is delivered afterwards; [`next`](Self::next) gives `None`.
    pub fn close(&mut self) {
        if !self.state.borrow().is_closed() {
            self.keeper.come_back();
            self.end(CloseReason::Closed);
            self.notices.clear();
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<EventBuf, Error>>> {
        loop {
            match std::task::ready!(self.poll_notice(cx)) {
                Some(Notice::Event(event)) => return Poll::Ready(Some(Ok(event))),
                Some(Notice::Closed(CloseReason::Failed { error, .. })) => {
                    return Poll::Ready(Some(Err(error)));
                }
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        if let Err(error) = self.keeper.save_now(clock::now()) {
            tracing::warn!(%error, "the position was not saved");
        }
        if !self.state.borrow().is_closed() {
            self.state.send_replace(State::Closed(CloseReason::Closed));
        }
    }
}

/// The events, as [`next`](EventSource::next) gives them.
impl futures_core::Stream for EventSource {
    type Item = Result<EventBuf, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl std::fmt::Debug for EventSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSource")
            .field("url", &self.url.as_str())
            .field("state", &*self.state.borrow())
            .field("last_event_id", &self.last_event_id())
            .finish_non_exhaustive()
    }
}

/// What the builder has checked.
pub(crate) struct Parts {
    pub(crate) plan: Plan,
    pub(crate) poll_plan: Option<PollPlan>,
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    pub(crate) last_event_id: Option<EventId>,
    pub(crate) keeper: Keeper,
    pub(crate) dedupe: Option<Dedupe>,
    pub(crate) idle_timeout: Option<Duration>,
}
