//! The event source: the shell around the [machine](crate::machine).
//!
//! Nothing runs behind the consumer's back but hyper's own connection task. All else happens while
//! [`next`](EventSource::next) is awaited: bytes are read when the consumer wants the next event and none
//! is left in the chunk at hand. So back-pressure reaches the socket by itself, memory is one chunk and one
//! event under construction, dropping the source ends everything, and `next` can be cancelled at any point,
//! because nothing lives in its future.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use futures_core::Stream as FuturesStream;
use http_body::Body as _;
use sse_protocol::{Decoded, Decoder, Ending, EventBuf, EventId, Limits};
use tokio::sync::watch;
use tokio::time::Sleep;
use url::Url;

use crate::attempt::{Answer, Failure, Plan, Stream};
use crate::builder::EventSourceBuilder;
use crate::clock;
use crate::dedupe::Dedupe;
use crate::error::Error;
use crate::machine::{Machine, Outcome, Repair, Step, Via};
use crate::poll::{Page, PollPlan};
use crate::position::Keeper;
use crate::state::{CloseReason, Interruption, Notice, Opened, State};
use crate::watchdog::Watchdog;

/// A stream of events from a server, kept open: the native sibling of the browsers' `EventSource`.
///
/// It connects when first polled, reconnects when the connection is lost, and tells the server then where
/// it was. [`next`](Self::next) gives events; an error only when the source has failed for good.
/// [`next_notice`](Self::next_notice) gives everything that happens, interruptions too, and
/// [`state`](Self::state) says at any time how things stand.
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
/// before the one taken last: [`close`](Self::close) says that this one was dealt with too.
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
    last_error: Option<Error>,
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
}

/// Whether an event over the limit is being skipped, and for how long already.
#[derive(Clone, Copy)]
enum Oversize {
    No,
    Skipping { bytes: usize },
}

impl EventSource {
    /// A source of events from `url`, with every default: resilient mode, resume, reconnect for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `url` is no http or https URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Begins to describe a source; everything is checked by
    /// [`build`](EventSourceBuilder::build).
    pub fn builder(url: impl AsRef<str>) -> EventSourceBuilder {
        EventSourceBuilder::new(url.as_ref())
    }

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
            oversize: Oversize::No,
            last_error: None,
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

    /// How things stand.
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
    /// [`dedupe`](EventSourceBuilder::dedupe).
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many events went over a limit and were dropped.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.decoder.dropped_events()
    }

    /// Leaves the current connection and connects anew, at once. Events already received but not yet taken
    /// are given up and come again, as far as the server keeps them.
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
                Some(Notice::Closed(CloseReason::Failed(error))) => {
                    return Poll::Ready(Some(Err(error)));
                }
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.keeper.come_back();
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Poll::Ready(Some(notice));
            }
            if !self.inbox.is_empty() {
                if let Some(notice) = self.decode_one() {
                    return Poll::Ready(Some(notice));
                }
                continue;
            }
            let now = clock::now();
            if let Link::Streaming(_) = self.link {
                std::task::ready!(self.poll_stream(cx, now));
                continue;
            }
            match self.machine.poll(now) {
                Step::Ended => return Poll::Ready(None),
                Step::Wait { until } => {
                    if self.save_position(now).is_err() {
                        continue;
                    }
                    let until = self
                        .keeper
                        .next_save(now)
                        .map_or(until, |save| save.min(until));
                    std::task::ready!(self.poll_timer(cx, until));
                }
                Step::Begin { attempt, via } => self.begin(attempt, via),
                // A stream that is not there any more was left by `reconnect`, which the machine knows.
                Step::Trying { .. } | Step::Read => std::task::ready!(self.poll_link(cx, now)),
            }
        }
    }

    /// Starts an attempt.
    fn begin(&mut self, attempt: u32, via: Via) {
        self.decoder.reset();
        self.oversize = Oversize::No;
        let last = self.decoder.last_event_id();
        let id = (!last.is_empty())
            .then(|| EventId::new(last).ok())
            .flatten();
        match (via, &self.poll_plan) {
            (Via::Poll, Some(poll)) => {
                let (plan, poll) = (Arc::clone(&self.plan), Arc::clone(poll));
                self.state.send_replace(State::Polling);
                self.link = Link::Polling(Box::pin(async move { poll.fetch(&plan, id).await }));
            }
            _ => {
                if let Some(id) = &id
                    && crate::request::header_value(id).is_none()
                {
                    tracing::warn!("the last event id cannot stand in a header; resuming without");
                    self.notices.push_back(Notice::IdNotSent(id.clone()));
                }
                let plan = Arc::clone(&self.plan);
                self.state.send_replace(State::Connecting { attempt });
                self.link = Link::Opening(Box::pin(async move { plan.open(id).await }));
            }
        }
    }

    /// Goes on with an attempt.
    fn poll_link(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        match &mut self.link {
            Link::Opening(opening) => match opening.as_mut().poll(cx) {
                Poll::Ready(Ok(Answer::Stream(stream))) => self.opened(*stream, now),
                Poll::Ready(Ok(Answer::NoContent)) => self.end(CloseReason::NoContent),
                Poll::Ready(Err(failure)) => self.fail(failure),
                Poll::Pending => return self.poll_save(cx, now),
            },
            Link::Polling(polling) => match polling.as_mut().poll(cx) {
                Poll::Ready(Ok(page)) => {
                    self.link = Link::None;
                    self.last_error = None;
                    self.inbox = page.frames;
                    self.machine.handle_polled(now);
                }
                Poll::Ready(Err(failure)) => self.fail(failure),
                Poll::Pending => return self.poll_save(cx, now),
            },
            Link::None | Link::Streaming(_) => {
                // The machine and the link are only ever changed together.
                debug_assert!(false, "no attempt is under way");
                self.machine.reconnect(now);
            }
        }
        Poll::Ready(())
    }

    fn opened(&mut self, stream: Stream, now: Instant) {
        let attempt = self.machine.attempt();
        self.machine.handle_open(now);
        self.last_error = None;
        self.url = stream.url.clone();
        self.state.send_replace(State::Open);
        tracing::debug!(url = %stream.url, attempt, "open");
        self.notices.push_back(Notice::Open(Opened {
            url: stream.url.clone(),
            version: stream.version,
            headers: stream.headers.clone(),
            attempt,
        }));
        let moment = clock::moment(now);
        self.link = Link::Streaming(Box::new(Streaming {
            stream,
            watchdog: self.idle_timeout.map(|limit| Watchdog::new(limit, moment)),
            consumer_away: true,
        }));
    }

    /// Fills the inbox from the stream.
    fn poll_stream(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Link::Streaming(streaming) = &mut self.link else {
            return Poll::Ready(());
        };
        match streaming.stream.content.next_chunk() {
            Ok(Some(chunk)) => {
                self.inbox = chunk;
                return Poll::Ready(());
            }
            Ok(None) => {}
            Err(error) => return Poll::Ready(self.lose(error.into())),
        }
        match Pin::new(&mut streaming.stream.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    if let Some(watchdog) = &mut streaming.watchdog {
                        watchdog.feed(clock::moment(now));
                    }
                    streaming.stream.content.push(data);
                }
                Poll::Ready(())
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(self.lose(Error::transport(error))),
            Poll::Ready(None) => {
                let error = match streaming.stream.content.finish() {
                    Err(error) => error.into(),
                    Ok(()) if self.decoder.finish() == Ending::Truncated => Error::CutShort,
                    Ok(()) => Error::Ended,
                };
                Poll::Ready(self.lose(error))
            }
            Poll::Pending => self.poll_silence(cx, now),
        }
    }

    /// Nothing to read: saves the position, looks at the watchdog, and sleeps.
    fn poll_silence(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        // A block with an id and no data moves the position without an event.
        self.keeper.deliver(self.decoder.last_event_id());
        self.keeper.come_back();
        if self.save_position(now).is_err() {
            return Poll::Ready(());
        }
        let Link::Streaming(streaming) = &mut self.link else {
            return Poll::Ready(());
        };
        let moment = clock::moment(now);
        let away = std::mem::take(&mut streaming.consumer_away);
        let look = match &mut streaming.watchdog {
            None => None,
            Some(watchdog) => {
                if away {
                    watchdog.resume(moment);
                }
                if watchdog.expired(moment) {
                    let limit = self.idle_timeout.unwrap_or_default();
                    return Poll::Ready(self.lose(Error::Idle { limit }));
                }
                Some(watchdog.next_look(moment))
            }
        };
        match [look, self.keeper.next_save(now)]
            .into_iter()
            .flatten()
            .min()
        {
            Some(at) => self.poll_timer(cx, at),
            None => Poll::Pending,
        }
    }

    fn poll_save(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.save_position(now).is_err() {
            return Poll::Ready(());
        }
        match self.keeper.next_save(now) {
            Some(at) => self.poll_timer(cx, at),
            None => Poll::Pending,
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => {
                if self.timer_at != at {
                    timer.as_mut().reset(at.into());
                }
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(at.into()))),
        };
        self.timer_at = at;
        let poll = timer.as_mut().poll(cx);
        if poll.is_ready() {
            self.timer = None;
        }
        poll
    }

    /// Decodes until something is worth telling or the inbox is empty.
    fn decode_one(&mut self) -> Option<Notice> {
        let mut feed = self.decoder.feed(&self.inbox);
        let found = loop {
            match feed.next() {
                None => break None,
                Some(Decoded::Event(event)) => {
                    self.machine.handle_event();
                    self.oversize = Oversize::No;
                    let known = match (&mut self.dedupe, event.id()) {
                        (Some(dedupe), Some(id)) => !dedupe.is_new(id),
                        _ => false,
                    };
                    if known {
                        self.duplicates += 1;
                        continue;
                    }
                    self.keeper.deliver(event.last_event_id());
                    break Some(Notice::Event(event.to_buf()));
                }
                Some(Decoded::Comment(text)) => break Some(Notice::Comment(text.to_owned())),
                Some(Decoded::Retry(retry)) => self.machine.handle_retry(retry.as_duration()),
                Some(Decoded::Dropped(limit)) => {
                    tracing::warn!(error = %limit, "an event was dropped");
                    self.oversize = Oversize::Skipping { bytes: 0 };
                    break Some(Notice::Dropped(limit));
                }
                Some(_) => {}
            }
        };
        let used = self.inbox.len() - feed.rest().len();
        self.inbox.advance(used);
        if found.is_some() {
            if let Link::Streaming(streaming) = &mut self.link {
                streaming.consumer_away = true;
            }
        } else if let Oversize::Skipping { bytes } = &mut self.oversize {
            *bytes = bytes.saturating_add(used);
            let limit_bytes = self.decoder.limits().max_event_bytes();
            if *bytes > limit_bytes.max(MIN_SKIP_BYTES) {
                self.lose(Error::TooLarge { limit_bytes });
            }
        }
        if self.decoder.failure().is_some() {
            let limit_bytes = self.decoder.limits().max_event_bytes();
            self.lose(Error::TooLarge { limit_bytes });
        }
        found
    }

    /// The open stream is lost.
    fn lose(&mut self, error: Error) {
        let repair = self.plan.repair_after_sending();
        self.fail(Failure { error, repair });
    }

    /// An attempt or a stream failed.
    fn fail(&mut self, Failure { error, repair }: Failure) {
        self.link = Link::None;
        self.inbox = Bytes::new();
        let now = clock::now();
        let over =
            matches!(error, Error::Ended) && (repair == Repair::Final || !self.machine.may_retry());
        match self.machine.handle_failure(now, repair, fastrand::f64()) {
            Outcome::RetryAt(retry_at) => {
                let attempt = self.machine.attempt();
                let retry_in = retry_at.saturating_duration_since(now);
                tracing::debug!(error = %error.report(), attempt, ?retry_in, "interrupted");
                self.last_error = Some(error.clone());
                self.state.send_replace(State::Waiting {
                    until: retry_at,
                    attempt,
                    error: error.clone(),
                });
                let interruption = Interruption {
                    error,
                    attempt,
                    retry_at,
                    retry_in,
                };
                self.notices.push_back(Notice::Interrupted(interruption));
            }
            Outcome::GiveUp if over => self.end(CloseReason::Ended),
            Outcome::GiveUp => self.end(CloseReason::Failed(error)),
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.link = Link::None;
        self.inbox = Bytes::new();
        self.machine.stop();
        tracing::debug!(?reason, "closed");
        self.state.send_replace(State::Closed(reason.clone()));
        if let Err(error) = self.keeper.save_now(clock::now()) {
            self.notices.push_back(Notice::NotSaved(Arc::from(error)));
        }
        self.notices.push_back(Notice::Closed(reason));
    }

    /// Saves the position if it is time to; a failure has left a notice.
    fn save_position(&mut self, now: Instant) -> Result<(), ()> {
        self.keeper.save_if_due(now).map_err(|error| {
            tracing::warn!(%error, "the position was not saved");
            self.notices.push_back(Notice::NotSaved(Arc::from(error)));
        })
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
impl FuturesStream for EventSource {
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

/// An event over the limit may go on for this long at least before the connection is given up.
const MIN_SKIP_BYTES: usize = 1024 * 1024;
