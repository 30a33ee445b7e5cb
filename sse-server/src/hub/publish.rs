//! Publishing: checked, appended to the log, and answered when it is safe.

use std::sync::atomic::Ordering;

use sse_broker::{AppendError, Appended, Durability, NewRecord, Position, Topic};
use sse_pool::ConnectionId;
use sse_protocol::EventType;

use super::{DEFAULT_TOPIC, Hub, Inner, Publication, RESERVED_EVENT_TYPES};
use crate::access::Caller;
use crate::audit::{Cut, Fact, Topics};
use crate::clock;
use crate::units::Quoted;

/// What became of a published event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id that readers see: the publisher's own, or the position.
    pub id: String,
    /// Its place in the order.
    pub position: Position,
    /// How safe it is.
    pub durability: Durability,
    /// Whether the same event was there already; then nothing new was stored or delivered.
    pub duplicate: bool,
}

/// Why an event was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The hub sends this type itself.
    #[error("the event type `{0}` is the hub's own")]
    ReservedEventType(String),
    /// The hub was told to take only certain types.
    #[error("the event type `{event_type}` is not allowed here; allowed are {allowed}")]
    EventTypeNotAllowed {
        /// The type.
        event_type: String,
        /// Those that are.
        allowed: String,
    },
    /// It has more data than the hub takes.
    #[error("the data has {bytes} bytes, and an event may have {max} at most")]
    TooLarge {
        /// How much it has.
        bytes: usize,
        /// How much it may have.
        max: usize,
    },
    /// It is for a connection that is not open.
    #[error("there is no connection {}", Quoted(.0))]
    NoSuchConnection(String),
    /// Its id belongs to another event.
    #[error("the id was published with other content before, at {0}")]
    Conflict(Position),
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    Draining,
    /// The log did not take it.
    #[error("the log did not take it")]
    Log(#[from] AppendError),
}

/// One of many publications is wrong, so none was published.
#[derive(Clone, Debug, thiserror::Error)]
#[error("event {index}: {source}")]
pub struct RefusedPublication {
    /// Which, counted from 0.
    pub index: usize,
    /// Why.
    pub source: PublishError,
}

impl Hub {
    /// Publishes one event. It answers when the event is as safe as [`durability`](Self::durability) says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the event back; only its answer is lost. With an id of the
    /// publisher's own, publishing again is safe.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(&self, publication: Publication) -> Result<Published, PublishError> {
        let mut results = self
            .publish_all(vec![publication])
            .await
            .map_err(|refused| refused.source)?;
        results.pop().unwrap_or(Err(PublishError::Draining))
    }

    /// Publishes several events side by side in the order; one result for each.
    ///
    /// # Errors
    ///
    /// When one is wrong or the log does not take them; then none is published. A conflict of one
    /// event's id is that event's result and does not hinder the others.
    pub async fn publish_all(
        &self,
        publications: Vec<Publication>,
    ) -> Result<Vec<Result<Published, PublishError>>, RefusedPublication> {
        for (index, publication) in publications.iter().enumerate() {
            self.check(publication)
                .map_err(|source| RefusedPublication { index, source })?;
        }
        let now = clock::unix_millis();
        let records: Vec<_> = publications
            .into_iter()
            .map(|publication| publication.into_record(now))
            .collect();
        self.append(records)
            .await
            .map_err(|source| RefusedPublication { index: 0, source })
    }

    /// The same for a caller, whose name goes into the audit log with what was stored.
    pub(crate) async fn publish_as(
        &self,
        caller: &Caller,
        publications: Vec<Publication>,
    ) -> Result<Vec<Result<Published, PublishError>>, RefusedPublication> {
        let audit = self.audit();
        if !audit.is_on() {
            return self.publish_all(publications).await;
        }
        let told: Vec<_> = publications.iter().map(Told::of).collect();
        let results = self.publish_all(publications).await?;
        for (told, result) in told.iter().zip(&results) {
            if let Ok(published) = result {
                audit.write(&told.fact(caller, published));
            }
        }
        Ok(results)
    }

    /// Appends records of the hub's own or checked ones.
    pub(crate) async fn append(
        &self,
        mut records: Vec<NewRecord>,
    ) -> Result<Vec<Result<Published, PublishError>>, PublishError> {
        let inner = &self.inner;
        if inner.age_clock.lock().is_apart() {
            let ages_from = self.age_now();
            for record in &mut records {
                record.ages_from = Some(ages_from);
            }
        }
        let _publishing = Publishing::begin(inner)?;
        let ids: Vec<_> = records
            .iter()
            .map(|record| record.event.id.clone())
            .collect();
        for record in &mut records {
            inner.names.share(record);
        }
        let appended = inner.broker.append(records).await;
        self.note_append(appended.as_ref().err());
        let appended = appended?;
        let durability = self.durability();
        let results = ids.into_iter().zip(appended).map(|(id, appended)| {
            let (position, duplicate) = match appended {
                Appended::Stored(position) => (position, false),
                Appended::Duplicate(position) => (position, true),
                Appended::Conflict(position) => return Err(PublishError::Conflict(position)),
                _ => return Err(PublishError::Log(AppendError::Closed)),
            };
            let id = id.map_or_else(|| position.to_string(), |id| id.as_str().to_owned());
            Ok(Published {
                id,
                position,
                durability,
                duplicate,
            })
        });
        Ok(results.collect())
    }

    fn has_connection(&self, name: &str) -> bool {
        let id = name.parse::<ConnectionId>();
        id.is_ok_and(|id| self.connection_status(&id).is_some())
    }

    fn check(&self, publication: &Publication) -> Result<(), PublishError> {
        let config = &self.inner.config;
        let event_type = publication
            .event_type
            .as_ref()
            .map_or("message", |event_type| event_type.as_str());
        if RESERVED_EVENT_TYPES.contains(&event_type) {
            return Err(PublishError::ReservedEventType(event_type.to_owned()));
        }
        if let Some(allowed) = &config.allowed_event_types
            && !allowed.contains(event_type)
        {
            let allowed = allowed
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(PublishError::EventTypeNotAllowed {
                event_type: event_type.to_owned(),
                allowed,
            });
        }
        // What names connections is for these alone.
        let named = || {
            publication
                .topics
                .iter()
                .filter_map(|topic| topic.under("connection"))
        };
        if let Some(first) = named().next()
            && !named().any(|name| self.has_connection(name))
        {
            return Err(PublishError::NoSuchConnection(first.to_owned()));
        }
        if publication.data.len() > config.max_event_bytes {
            return Err(PublishError::TooLarge {
                bytes: publication.data.len(),
                max: config.max_event_bytes,
            });
        }
        Ok(())
    }
}

/// What is told of an event when it is stored.
struct Told {
    topics: Vec<Topic>,
    event_type: Option<EventType>,
    bytes: usize,
}

impl Told {
    fn of(publication: &Publication) -> Self {
        let topics = match publication.topics.is_empty() {
            true => publication.audience.clone(),
            false => publication.topics.clone(),
        };
        Self {
            topics,
            event_type: publication.event_type.clone(),
            bytes: publication.data.len(),
        }
    }

    fn fact<'a>(&'a self, caller: &'a Caller, published: &'a Published) -> Fact<'a> {
        let topics = self.topics.iter().map(Topic::as_str);
        let default = self.topics.is_empty().then_some(DEFAULT_TOPIC);
        Fact::Published {
            who: caller.into(),
            topics: Topics(topics.chain(default).collect()),
            event_type: self.event_type.as_ref().map(|it| Cut(it.as_str())),
            id: Cut(&published.id),
            position: published.position.to_string(),
            bytes: self.bytes,
            duplicate: published.duplicate,
        }
    }
}

/// A publish under way, so that a shutdown can wait for it.
struct Publishing<'a>(&'a Inner);

impl<'a> Publishing<'a> {
    fn begin(inner: &'a Inner) -> Result<Self, PublishError> {
        inner.publishing.fetch_add(1, Ordering::AcqRel);
        let publishing = Self(inner);
        let serving = inner.phase.lock().is_ready();
        if serving {
            Ok(publishing)
        } else {
            Err(PublishError::Draining)
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if self.0.publishing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}
