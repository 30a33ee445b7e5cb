//! What the bytes of a stream mean for the source: events, and those that it has to go on behind; comments, times, and
//! refusals told in-band.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use sse_protocol::{Decoded, EventId, LimitExceeded};

use super::{EventSource, Link};
use crate::attempt::Failure;
use crate::clock;
use crate::error::{Error, Refusal};
use crate::hub;
use crate::machine::Repair;
use crate::oversize::Place;
use crate::state::{DroppedEvent, Notice};
use crate::verdict::{Remedy, judge_in_band};

impl EventSource {
    /// Decodes until something is worth telling or the inbox is empty.
    pub(super) fn decode_one(&mut self) -> Option<Notice> {
        let (found, used) = self.find_one();
        self.inbox.advance(used);
        if let Link::Streaming(streaming) = &mut self.link
            && !matches!(found, Found::Nothing)
        {
            streaming.consumer_away = true;
        }
        match found {
            Found::Notice(notice) => Some(notice),
            Found::Dropped(limit) => self.dropped(limit),
            Found::Refusal(status, problem) => {
                self.refused(status, problem);
                None
            }
            Found::Nothing => {
                let limit_bytes = self.decoder.limits().max_event_bytes();
                if self.oversize.skip(used, limit_bytes) {
                    self.lose(Error::TooLarge { limit_bytes });
                }
                None
            }
        }
    }

    /// Finds the next thing worth telling in the inbox, and says how many bytes were read.
    fn find_one(&mut self) -> (Found, usize) {
        let mut feed = self.decoder.feed(&self.inbox);
        let found = loop {
            match feed.next() {
                None => break Found::Nothing,
                Some(Decoded::Event(event)) => {
                    if let Link::Streaming(streaming) = &mut self.link
                        && streaming.may_refuse
                    {
                        if let Some(status) = hub::refusal(event.event_type(), event.data()) {
                            break Found::Refusal(status, event.data().to_owned());
                        }
                        streaming.may_refuse = hub::is_preface(event.event_type());
                    }
                    self.machine.handle_event();
                    self.oversize.pass();
                    let known = match (&mut self.dedupe, event.id()) {
                        (Some(dedupe), Some(id)) => !dedupe.is_new(id),
                        _ => false,
                    };
                    if known {
                        self.duplicates += 1;
                        continue;
                    }
                    self.keeper.deliver(event.last_event_id());
                    break Found::Notice(Notice::Event(event.to_buf()));
                }
                Some(Decoded::Comment(text)) => {
                    self.oversize.end();
                    break Found::Notice(Notice::Comment(text.to_owned()));
                }
                Some(Decoded::Retry(retry)) => {
                    self.oversize.end();
                    self.machine.handle_retry(retry.as_duration());
                }
                Some(Decoded::Dropped(limit)) => break Found::Dropped(limit),
                Some(_) => {}
            }
        };
        (found, self.inbox.len() - feed.rest().len())
    }

    /// An event went over a limit. Goes on behind it; or ends, without a notice, if that has been tried.
    fn dropped(&mut self, limit: LimitExceeded) -> Option<Notice> {
        let id = self.decoder.dropped_event_id();
        let id = id
            .and_then(|id| EventId::new(id).ok())
            // Only an id that can be sent helps the next connection.
            .filter(|id| crate::request::header_value(id).is_some());
        let place = self.place(id);
        if self.oversize.meet(&place) {
            self.cannot_pass(place, limit_bytes(limit));
            return None;
        }
        self.machine.handle_setback(clock::now());
        if let Some(id) = &place.id {
            self.decoder.set_last_event_id(id);
            self.keeper.deliver(id.as_str());
        }
        let Place { id, after } = place;
        let dropped = DroppedEvent { limit, id, after };
        tracing::warn!(%dropped);
        if self.decoder.failure().is_some() {
            let limit_bytes = limit_bytes(limit);
            self.lose(Error::TooLarge { limit_bytes });
        }
        Some(Notice::Dropped(dropped))
    }

    pub(super) fn place(&self, id: Option<EventId>) -> Place {
        let after = EventId::new(self.decoder.last_event_id());
        Place {
            id,
            after: after.unwrap_or_default(),
        }
    }

    pub(super) fn cannot_pass(&mut self, place: Place, limit_bytes: usize) {
        let Place { id, after } = place;
        self.fail(Failure {
            error: Error::Impassable {
                limit_bytes,
                id,
                after,
            },
            repair: Repair::Final,
        });
    }

    /// The hub refused the attempt, though the status was 200.
    fn refused(&mut self, status: StatusCode, problem: String) {
        let media = HeaderValue::from_static("application/problem+json");
        let mut body = Bytes::from(problem);
        body.truncate(self.plan.error_body_limit);
        let error = Error::Status(Arc::new(Refusal {
            url: self.url.clone(),
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, media)]),
            body,
        }));
        let repair = match judge_in_band(status, self.plan.mode) {
            Remedy::Wait => Repair::Retry { after: None },
            Remedy::Refresh | Remedy::None => Repair::Hopeless,
        };
        self.machine.handle_setback(clock::now());
        self.fail(Failure { error, repair });
    }
}

/// What the decoder found.
enum Found {
    Nothing,
    Notice(Notice),
    Dropped(LimitExceeded),
    /// The status that a hub refuses with, and its problem document.
    Refusal(StatusCode, String),
}

fn limit_bytes(limit: LimitExceeded) -> usize {
    match limit {
        LimitExceeded::Line { limit_bytes } | LimitExceeded::Event { limit_bytes } => limit_bytes,
        _ => 0,
    }
}
