//! Connections, as an application manages them: create, send to one, close one, look at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sse_broker::{Gap, ReadError, ReadRequest, ResumeFrom, Splice, Topic};
use sse_compress::Coding;
use sse_pool::{
    ClientInfo, CloseReason, ConnectionId, ConnectionInfo, ConnectionStatus, Read, Refusal,
    Selector, Start, TopicFilter,
};

use super::named_subscriptions::{NamedSubscriptionError, SubscriptionStart};
use super::{CohortKey, Format, Hub, Publication, PublishError, Published};
use crate::clock;
use crate::session::{EventStream, MAX_CHUNK_BYTES, Prelude, Reader, Session, page_request};
use crate::topic_pattern::{InvalidPattern, UrlPattern, is_pattern};

/// Who wants to be connected, and to what.
///
/// ```
/// # use sse_server::hub::ConnectionRequest;
/// let request = ConnectionRequest {
///     topics: vec!["job/42".into()],
///     event_types: Some(vec!["progress".into(), "complete".into()]),
///     ..ConnectionRequest::from_ip([127, 0, 0, 1].into())
/// };
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionRequest {
    /// The connection's id; one is made when none is given.
    pub id: Option<ConnectionId>,
    /// Where it comes from, for the limit per address.
    pub ip: IpAddr,
    /// What it calls itself.
    pub user_agent: Option<String>,
    /// The session it is: it gets that session's private events.
    pub session: Option<String>,
    /// The user it is: it gets that user's private events.
    pub user: Option<String>,
    /// Topics, URL patterns of topics, or `*`; none means every public topic.
    pub topics: Vec<String>,
    /// The event types it wants; `None` for all.
    pub event_types: Option<Vec<String>>,
    /// From where it goes on: an id it has seen, a position, or `earliest`.
    pub last_event_id: Option<String>,
    /// The name under which the hub keeps its place.
    pub durable: Option<Durable>,
    /// How its events are to be written.
    pub form: Format,
    /// The content coding that its stream is to come in, where there is memory for it: [`EventStream::coding`] tells.
    /// There are encoders for gzip; for any other coding the stream comes as it is.
    pub coding: Coding,
    /// The shard of the pool that it is to be on, below [`HubConfig::shards`](super::HubConfig::shards); `None` for the next in turn.
    pub shard: Option<usize>,
}

impl ConnectionRequest {
    /// A connection to every public topic from now on.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> Self {
        Self {
            id: None,
            ip,
            user_agent: None,
            session: None,
            user: None,
            topics: Vec::new(),
            event_types: None,
            last_event_id: None,
            durable: None,
            form: Format::default(),
            coding: Coding::Identity,
            shard: None,
        }
    }
}

/// The name of a durable subscription: its stream begins after what was acknowledged under that name,
/// or after [`ConnectionRequest::last_event_id`] where that is further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The name.
    pub name: String,
    /// Where a name that is new begins, said as a `last_event_id`; `None` for what comes from now on.
    pub start: Option<String>,
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no place for it; see [`Refusal`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A connection of this id is open.
    #[error("a connection {0} is open already")]
    IdTaken(ConnectionId),
    /// It wants too much.
    #[error("{wanted} subscriptions are wanted, and a connection may have {max}")]
    TooManySubscriptions {
        /// How many topics and types it names.
        wanted: usize,
        /// How many it may.
        max: usize,
    },
    /// A topic it names is none.
    #[error("{topic:?} is no topic: {reason}")]
    InvalidTopic {
        /// What was given.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// Its durable name cannot be used.
    #[error(transparent)]
    Durable(#[from] NamedSubscriptionError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why an event could not be sent to one connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such connection.
    #[error("there is no connection {0}")]
    Unknown(ConnectionId),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// How a live connection's subscriptions are to change.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionChange {
    /// The event types it wants from now on; `None` leaves them, an empty list means all.
    pub event_types: Option<Vec<String>>,
    /// The topics it wants from now on; `None` leaves them, an empty list means every public one.
    pub topics: Option<Vec<String>>,
    /// From where it is to be served (again).
    pub last_event_id: Option<String>,
}

impl Hub {
    /// Connects a reader; the stream's first chunk is ready at once.
    ///
    /// # Errors
    ///
    /// When there is no place, the request is wrong, or the log cannot be read.
    pub async fn connect(&self, request: ConnectionRequest) -> Result<EventStream, ConnectError> {
        let inner = self.inner();
        let selector = inner.selectors.get(
            (request.topics.clone(), request.event_types.clone()),
            |(topics, event_types)| self.selector(topics, event_types.as_deref()),
        )?;
        let permit = inner.pool.admit(request.ip)?;
        let asked = request.last_event_id.as_deref().filter(|id| !id.is_empty());
        let mut is_known_durable = false;
        let from = match (&request.durable, asked) {
            (Some(durable), asked) => {
                let start = durable.start.as_deref();
                let user = request.user.as_deref();
                let SubscriptionStart { from, is_new } = self
                    .named_subscription_start(&durable.name, user, asked, start)
                    .await?;
                is_known_durable = !is_new;
                from
            }
            (None, Some(id)) => ResumeFrom::last_event_id(&*inner.broker, id).await?,
            (None, None) => ResumeFrom::Live,
        };
        let now = clock::now();
        let id = request
            .id
            .unwrap_or_else(|| ConnectionId::from_uuid(*uuid::Uuid::new_v4().as_bytes()));
        let member = if request.coding != Coding::Gzip {
            None
        } else {
            let key = CohortKey {
                topics: request.topics.clone(),
                event_types: request.event_types.clone(),
                session: request.session.clone(),
                user: request.user.clone(),
                form: request.form,
            };
            inner.cohorts.join(key, Arc::clone(&selector))
        };
        let user_agent = request
            .user_agent
            .map(|agent| truncated(&agent, MAX_USER_AGENT_BYTES).to_owned());
        let client = inner.clients.get(
            (user_agent, request.session, request.user),
            |(user_agent, session, user)| {
                Ok::<_, ConnectError>(ClientInfo {
                    user_agent: user_agent.as_deref().map(Arc::from),
                    identities: identities(session.as_deref(), user.as_deref())?,
                    session: session.as_deref().map(Arc::from),
                    user: user.as_deref().map(Arc::from),
                })
            },
        )?;
        let info = ConnectionInfo {
            id: id.clone(),
            ip: request.ip.into(),
            client,
            connected_at_unix_ms: clock::unix_millis(),
        };
        let live_start = matches!(from, ResumeFrom::Live);
        let (mut splice, mut gap) = Splice::begin(from, inner.broker.bounds());
        let start = if live_start {
            Start::Live
        } else {
            Start::After(splice.position().offset)
        };
        let connected = match request.shard {
            Some(shard) => inner
                .pool
                .connect_on(shard, permit, info, selector, start, now),
            None => inner.pool.connect(permit, info, selector, start, now),
        };
        let mut connection = connected.map_err(|error| match error {
            sse_pool::ConnectError::IdInUse => ConnectError::IdTaken(id.clone()),
            _ => ConnectError::TooManySubscriptions {
                wanted: request.topics.len(),
                max: inner.config.max_subscriptions,
            },
        })?;
        if let Some(durable) = &request.durable {
            self.claim_named_subscription(&durable.name, &id);
        }
        if live_start {
            // The place where the pool has put the cursor is where this reader's stream begins.
            splice.handle_lag(connection.cursor());
        }
        let reader = Reader {
            hub: inner,
            key: connection.key(),
        };
        let mut at_hand = Vec::new();
        if !live_start {
            let lagged = {
                let mut cx = Context::from_waker(Waker::noop());
                match connection.poll_read(&mut cx, now, MAX_CHUNK_BYTES, &mut at_hand) {
                    Poll::Ready(Read::Lagged { after, .. }) => Some(after),
                    _ => None,
                }
            };
            if let Some(after) = lagged {
                // It begins with the log, of which something may be gone that concerns it.
                let page = ReadRequest {
                    max_records: 1,
                    max_bytes: 0,
                    ..page_request(reader, after)
                };
                let removed = inner.broker.read(page).await?.removed;
                let thinned = splice.handle_removed(removed);
                gap = match (gap, thinned) {
                    (Some(gap), Some(thinned)) => Some(Gap {
                        until: thinned.until,
                        ..gap
                    }),
                    (gap, thinned) => gap.or(thinned),
                };
            }
        }
        let job_topics: Vec<Topic> = request
            .topics
            .iter()
            .filter(|topic| topic.starts_with("job/") && !is_pattern(topic))
            .filter_map(|topic| Topic::new(topic.as_str()).ok())
            .collect();
        let connected = crate::session::Connected {
            connection_id: &id.to_string(),
            message: "Connected to notification stream",
            subscriptions: request.event_types.as_deref().unwrap_or_default(),
            topics: &request.topics,
            resumed: (asked.is_some() || is_known_durable) && gap.is_none(),
            gap: gap.is_some(),
            durable: request.durable.as_ref().map(|durable| {
                crate::session::NamedSubscriptionJson {
                    name: &durable.name,
                    created: !is_known_durable,
                }
            }),
            timestamp: clock::rfc3339(clock::unix_millis()),
        };
        if gap.is_some() {
            inner.metrics.record_gap();
        }
        let prelude = Prelude::new(
            self,
            &connected,
            splice.position(),
            gap.as_ref(),
            &job_topics,
            request.form,
        );
        let mut session = Session::new(request.form, member, splice, prelude);
        if !at_hand.is_empty() {
            session.open_with(reader, &mut at_hand, now);
        }
        tracing::debug!(connection = %id, ip = %request.ip, topics = ?request.topics, "connected");
        Ok(EventStream::new(
            Arc::clone(inner),
            connection,
            session,
            now,
        ))
    }

    /// Connects a reader under an id of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn create_connection(
        &self,
        client_id: ConnectionId,
        ip: IpAddr,
    ) -> Result<EventStream, ConnectError> {
        self.connect(ConnectionRequest {
            id: Some(client_id),
            ..ConnectionRequest::from_ip(ip)
        })
        .await
    }

    /// Sends an event to one connection alone.
    ///
    /// # Errors
    ///
    /// When there is no such connection, or the event could not be published.
    pub async fn send_to(
        &self,
        id: &ConnectionId,
        publication: Publication,
    ) -> Result<Published, SendError> {
        if self.inner.pool.status(id).is_none() {
            return Err(SendError::Unknown(id.clone()));
        }
        let topics = vec![connection_topic(id)];
        Ok(self
            .publish(Publication {
                topics,
                ..publication
            })
            .await?)
    }

    /// Sends an event to everyone who listens to its topics; the same as [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// When it could not be published.
    pub async fn broadcast(&self, publication: Publication) -> Result<Published, PublishError> {
        self.publish(publication).await
    }

    /// Sends an event to the open connections that `filter` picks; `None` when it picks none.
    ///
    /// The filter sees who is connected now. It costs a look at every connection and an address for
    /// each picked one; topics cost neither.
    ///
    /// # Errors
    ///
    /// When it could not be published.
    pub async fn broadcast_where(
        &self,
        publication: Publication,
        filter: impl FnMut(&ConnectionStatus) -> bool,
    ) -> Result<Option<Published>, PublishError> {
        let topics: Vec<Topic> = self
            .inner
            .pool
            .find(filter)
            .iter()
            .map(connection_topic)
            .collect();
        if topics.is_empty() {
            return Ok(None);
        }
        self.publish(Publication {
            topics,
            ..publication
        })
        .await
        .map(Some)
    }

    /// Ends one connection's stream; false when there is no such connection.
    pub fn close_connection(&self, id: &ConnectionId) -> bool {
        self.inner.pool.close(id, CloseReason::Server)
    }

    /// How one connection fares.
    #[must_use]
    pub fn connection_status(&self, id: &ConnectionId) -> Option<ConnectionStatus> {
        self.inner.pool.status(id)
    }

    /// How every connection fares, `limit` at most.
    #[must_use]
    pub fn connections(&self, limit: usize) -> Vec<ConnectionStatus> {
        self.inner.pool.statuses(None, limit)
    }

    /// Changes a live connection's subscriptions; what it is subscribed to from then on.
    ///
    /// Events that it has not read yet are judged by the new subscriptions.
    ///
    /// # Errors
    ///
    /// `None` inside when there is no such connection.
    pub async fn change_subscriptions(
        &self,
        id: &ConnectionId,
        change: SubscriptionChange,
    ) -> Result<Option<Arc<Selector>>, ConnectError> {
        let inner = self.inner();
        let topics = match &change.topics {
            Some(topics) => Some(self.selector(topics, None)?.topics),
            None => None,
        };
        let labels = match change.event_types.as_deref() {
            Some(types) => Some(self.selector(&[], Some(types))?.labels),
            None => None,
        };
        let updated = inner.pool.update_selector(id, |current| Selector {
            topics: topics.clone().unwrap_or_else(|| current.topics.clone()),
            labels: labels.clone().unwrap_or_else(|| current.labels.clone()),
        });
        let Ok(selector) = updated else {
            return Ok(None);
        };
        if let Some(last_event_id) = change.last_event_id.as_deref().filter(|id| !id.is_empty()) {
            let from = ResumeFrom::last_event_id(&*inner.broker, last_event_id).await?;
            let (after, _gap) = from.resolve(inner.broker.bounds());
            inner.pool.seek(id, after);
        }
        Ok(Some(selector))
    }

    pub(crate) fn selector(
        &self,
        topics: &[String],
        event_types: Option<&[String]>,
    ) -> Result<Selector, ConnectError> {
        let max = self.inner.config.max_subscriptions;
        let wanted = topics.len() + event_types.map_or(0, <[_]>::len);
        if wanted > max {
            return Err(ConnectError::TooManySubscriptions { wanted, max });
        }
        let labels = event_types
            .filter(|types| !types.is_empty())
            .map(|types| types.iter().map(|name| Arc::from(name.as_str())).collect());
        if topics.is_empty() || topics.iter().any(|topic| topic == "*") {
            return Ok(Selector {
                topics: TopicFilter::All,
                labels,
            });
        }
        let invalid = |topic: &str, reason: String| ConnectError::InvalidTopic {
            topic: topic.to_owned(),
            reason,
        };
        let mut exact: Vec<Arc<str>> = Vec::new();
        let mut patterns: Vec<Arc<dyn sse_pool::TopicPattern>> = Vec::new();
        for topic in topics {
            if is_pattern(topic) {
                let pattern = UrlPattern::new(topic)
                    .map_err(|error: InvalidPattern| invalid(topic, error.to_string()))?;
                patterns.push(Arc::new(pattern));
            } else {
                let topic = Topic::new(topic.as_str())
                    .map_err(|error| invalid(topic, error.to_string()))?;
                if !exact.contains(topic.as_arc()) {
                    exact.push(Arc::clone(topic.as_arc()));
                }
            }
        }
        Ok(Selector {
            topics: TopicFilter::Topics {
                exact: exact.into(),
                patterns: patterns.into(),
            },
            labels,
        })
    }
}

/// The private topics that a reader is.
pub(crate) fn identities(
    session: Option<&str>,
    user: Option<&str>,
) -> Result<Arc<[Arc<str>]>, ConnectError> {
    let named = [("session", session), ("user", user)];
    named
        .into_iter()
        .filter_map(|(prefix, name)| {
            name.filter(|name| !name.is_empty())
                .map(|name| format!("{prefix}/{name}"))
        })
        .map(|topic| match Topic::new(topic.as_str()) {
            Ok(topic) => Ok(Arc::clone(topic.as_arc())),
            Err(error) => Err(ConnectError::InvalidTopic {
                topic,
                reason: error.to_string(),
            }),
        })
        .collect()
}

fn connection_topic(id: &ConnectionId) -> Topic {
    Topic::new(format!("connection/{id}"))
        .expect("a connection's id is short and without control characters")
}

fn truncated(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// As much of a user agent as is kept. A stated guess: the usual ones have 120 bytes.
const MAX_USER_AGENT_BYTES: usize = 256;
/// How long a refused reader is told to stay away, before jitter.
pub(crate) const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(5);
