//! What the source does while it is polled. It waits, reads and writes; what to do next is decided by the
//! [machine](crate::machine).

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::Body as _;
use sse_protocol::{Ending, EventId};

use super::{EventSource, Link, Streaming};
use crate::attempt::{Answer, Failure, Stream};
use crate::clock;
use crate::error::Error;
use crate::machine::{Outcome, Repair, Step};
use crate::row::Via;
use crate::state::{CloseReason, Interruption, Notice, Opened, State};
use crate::watchdog::Watchdog;

impl EventSource {
    pub(super) fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
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
                if let Err(error) = std::task::ready!(self.poll_stream(cx, now)) {
                    self.lose(error);
                }
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
        self.oversize.begin();
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
                    tracing::warn!(
                        "the last event id cannot be sent in a header; resuming without it"
                    );
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
                    self.inbox = page.frames;
                    self.machine.handle_polled(now);
                }
                Poll::Ready(Err(failure)) => self.fail_poll(failure),
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
            may_refuse: true,
        }));
    }

    /// Fills the inbox from the stream.
    fn poll_stream(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), Error>> {
        let Link::Streaming(streaming) = &mut self.link else {
            return Poll::Ready(Ok(()));
        };
        if let Some(chunk) = streaming.stream.content.next_chunk()? {
            self.inbox = chunk;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut streaming.stream.body).poll_frame(cx) {
            Poll::Ready(Some(frame)) => {
                if let Ok(data) = frame.map_err(Error::transport)?.into_data() {
                    if let Some(watchdog) = &mut streaming.watchdog {
                        watchdog.feed(clock::moment(now));
                    }
                    streaming.stream.content.push(data);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(None) => {
                streaming.stream.content.finish()?;
                Poll::Ready(Err(match self.decoder.finish() {
                    Ending::Truncated => Error::CutShort,
                    Ending::Clean => Error::Ended,
                }))
            }
            Poll::Pending => self.poll_silence(cx, now),
        }
    }

    /// Nothing to read: saves the position, looks at the watchdog, and sleeps.
    fn poll_silence(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), Error>> {
        // A block with an id and no data moves the position without an event.
        self.keeper.deliver(self.decoder.last_event_id());
        self.keeper.come_back();
        if self.save_position(now).is_err() {
            return Poll::Ready(Ok(()));
        }
        let Link::Streaming(streaming) = &mut self.link else {
            return Poll::Ready(Ok(()));
        };
        let moment = clock::moment(now);
        let away = std::mem::take(&mut streaming.consumer_away);
        let mut wake = self.keeper.next_save(now);
        if let Some(watchdog) = &mut streaming.watchdog {
            if away {
                watchdog.resume(moment);
            }
            if watchdog.expired(moment) {
                let limit = self.idle_timeout.unwrap_or_default();
                return Poll::Ready(Err(Error::Idle { limit }));
            }
            let look = watchdog.next_look(moment);
            wake = Some(wake.map_or(look, |wake| wake.min(look)));
        }
        match wake {
            Some(at) => self.poll_timer(cx, at).map(Ok),
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

    /// A poll failed. A page over the limit that comes again is the end, as such an event is.
    fn fail_poll(&mut self, failure: Failure) {
        if let Error::TooLarge { limit_bytes } = failure.error {
            let place = self.place(None);
            if self.oversize.meet(&place) {
                return self.cannot_pass(place, limit_bytes);
            }
        }
        self.fail(failure);
    }

    /// The open stream is lost.
    pub(super) fn lose(&mut self, error: Error) {
        let repair = self.plan.repair_after_sending();
        self.fail(Failure { error, repair });
    }

    /// An attempt or a stream failed.
    pub(super) fn fail(&mut self, Failure { error, repair }: Failure) {
        self.link = Link::None;
        self.inbox = Bytes::new();
        let now = clock::now();
        let over =
            matches!(error, Error::Ended) && (repair == Repair::Final || !self.machine.may_retry());
        let attempt = self.machine.attempt();
        match self.machine.handle_failure(now, repair, fastrand::f64()) {
            Outcome::RetryAt(retry_at) => {
                let next_attempt = self.machine.attempt();
                let retry_in = retry_at.saturating_duration_since(now);
                tracing::debug!(error = %error.report(), attempt, ?retry_in, "interrupted");
                self.state.send_replace(State::Waiting {
                    until: retry_at,
                    attempt: next_attempt,
                    error: error.clone(),
                });
                let interruption = Interruption {
                    error,
                    attempt,
                    next_attempt,
                    retry_at,
                    retry_in,
                };
                self.notices.push_back(Notice::Interrupted(interruption));
            }
            Outcome::GiveUp if over => self.end(CloseReason::Ended),
            Outcome::GiveUp => self.end(CloseReason::Failed { error, attempt }),
        }
    }

    pub(super) fn end(&mut self, reason: CloseReason) {
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
