//! Opening a stream, step by step: a place, what is wanted, where it begins, a name, the first words.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sse_broker::{Gap, ReadError, ResumeFrom, Splice, Topic};
use sse_compress::Coding;
use sse_pool::{Connection, ConnectionId, ConnectionInfo, Read, Selector, Start};

use super::opening::Opening;
use super::{EventStream, MAX_CHUNK_BYTES, Session, jittered_retry};
use crate::access::Caller;
use crate::clock::{self, Moment};
use crate::hub::{
    AdmissionError, Batch, CohortKey, ConnectionPlace, EncodedRecord, Hub, Interest,
    InvalidInterest, NamedSubscription, NamedSubscriptionError, Reader, SubscriptionStart,
};
use crate::topic_pattern::is_pattern;
use crate::wire::{Format, Greeting, GreetingSubscription};

/// Who wants to be connected, and to what.
///
/// ```
/// # use sse_server::access::Caller;
/// # use sse_server::hub::Interest;
/// # use sse_server::session::ConnectionRequest;
/// let request = ConnectionRequest {
///     interest: Interest {
///         topics: vec!["job/42".into()],
///         event_types: Some(vec!["progress".into(), "complete".into()]),
///         ..Interest::default()
///     },
///     ..ConnectionRequest::from(Caller::default())
/// };
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionRequest {
    /// Who wants it.
    pub caller: Caller,
    /// The connection's id; one is made when none is given.
    pub id: Option<ConnectionId>,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// What it wants.
    pub interest: Interest,
    /// From where it goes on: an id it has seen, a position, or `earliest`.
    pub last_event_id: Option<String>,
    /// The name under which the hub keeps its place.
    pub subscription: Option<NamedSubscription>,
    /// How its events are to be written.
    pub format: Format,
    /// The content coding that its stream is to come in, where there is memory for it: [`EventStream::coding`] tells. Gzip; the
    /// stream comes as it is for any other.
    pub coding: Coding,
    /// Its events are collected, and written at most once in this time; `None` for as soon as they come.
    pub batch: Option<Duration>,
    /// The shard of the pool that it is to be on, below [`HubConfig::shards`](crate::hub::HubConfig::shards); `None` for the next
    /// in turn.
    pub shard: Option<usize>,
}

impl From<Caller> for ConnectionRequest {
    /// A connection to every public topic from now on.
    fn from(caller: Caller) -> Self {
        Self {
            caller,
            id: None,
            user_agent: None,
            interest: Interest::default(),
            last_event_id: None,
            subscription: None,
            format: Format::default(),
            coding: Coding::Identity,
            batch: None,
            shard: None,
        }
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no place for it; see [`AdmissionError`].
    #[error(transparent)]
    Refused(#[from] AdmissionError),
    /// A connection of this id is open.
    #[error("a connection {0} is open already")]
    IdTaken(ConnectionId),
    /// What it asks for is not valid.
    #[error(transparent)]
    Interest(#[from] InvalidInterest),
    /// The name it reads under cannot be used.
    #[error(transparent)]
    Subscription(#[from] NamedSubscriptionError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Hub {
    /// Connects a reader; the stream's first chunk is ready at once.
    ///
    /// # Errors
    ///
    /// When there is no place, the request is wrong, or the log cannot be read.
    pub async fn connect(&self, request: ConnectionRequest) -> Result<EventStream, ConnectError> {
        let id = request
            .id
            .clone()
            .unwrap_or_else(|| ConnectionId::from_uuid(*uuid::Uuid::new_v4().as_bytes()));
        loop {
            if let Some(stream) = self.try_connect(&request, &id).await? {
                return Ok(stream);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Connects a reader; `None` when the log has begun another epoch meanwhile, so that it is not known in which of the
    /// two its place is.
    async fn try_connect(
        &self,
        request: &ConnectionRequest,
        id: &ConnectionId,
    ) -> Result<Option<EventStream>, ConnectError> {
        let selector = self.selector(&request.interest, &request.caller)?;
        let ConnectionPlace { permit, of_user } = self.admit(&request.caller)?;
        let beginning = self.beginning(request).await?;
        let moment = Moment::read();
        let member = self.join_cohort(request, &selector);
        let info = ConnectionInfo {
            held: self.kept_by(
                of_user,
                (&request.caller, id),
                (
                    request.interest.topic_names(),
                    request.user_agent.as_deref(),
                ),
                moment.now,
            ),
            ..self.connection_info(request, id, moment)
        };
        let start = match beginning.from {
            ResumeFrom::Live => Start::Live,
            _ => Start::After(beginning.splice.position().offset),
        };
        let connection = self
            .join_pool(request.shard, permit, info, selector, start, moment)
            .map_err(|error| match error {
                sse_pool::ConnectError::IdInUse => ConnectError::IdTaken(id.clone()),
                _ => ConnectError::Interest(InvalidInterest::TooMany {
                    wanted: request.interest.all_topics().len(),
                    topics: request.interest.all_topics().len(),
                    max: self.config().max_subscriptions,
                }),
            })?;
        if connection.series() != Some(beginning.splice.position().epoch.0) {
            return Ok(None);
        }
        let Some(mut placed) = self.place(beginning, connection, moment).await? else {
            return Ok(None);
        };
        self.expect_end_of_rights(&request.caller);
        if let Some(subscription) = &request.subscription {
            self.claim_named_subscription(&subscription.name, id);
        }
        let opening = self.first_words(request, id, &placed, moment);
        let mut session = Session::new(
            request.format,
            member,
            placed.splice,
            opening,
            request.batch,
        );
        if placed.reads_log_first {
            session.read_log_first();
        } else if !placed.at_hand.is_empty() {
            let reader = Reader {
                hub: self,
                key: placed.connection.key(),
            };
            session.open_with(reader, &mut placed.at_hand, moment);
        }
        tracing::debug!(
            connection = %id,
            ip = %request.caller.address(),
            topics = request.interest.topic_names().join(","),
            user_agent = request.user_agent,
            "connected"
        );
        let stream = EventStream::new(self.clone(), placed.connection, session, moment.now);
        Ok(Some(stream))
    }

    /// Checks all that can be known of a stream without opening it; a refusal is what
    /// [`connect`](Self::connect) would answer now.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn check_connect(&self, request: &ConnectionRequest) -> Result<(), ConnectError> {
        self.selector(&request.interest, &request.caller)?;
        self.check_admission(&request.caller)?;
        if let Some(subscription) = &request.subscription {
            self.check_named_subscription(&subscription.name, &request.caller)?;
        }
        Ok(())
    }

    /// Connects a reader under an id of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn create_connection(
        &self,
        client_id: ConnectionId,
        caller: Caller,
    ) -> Result<EventStream, ConnectError> {
        self.connect(ConnectionRequest {
            id: Some(client_id),
            ..ConnectionRequest::from(caller)
        })
        .await
    }

    /// From where its stream goes on.
    async fn beginning(&self, request: &ConnectionRequest) -> Result<Beginning, ConnectError> {
        let asked = request.last_event_id.as_deref().filter(|id| !id.is_empty());
        let (from, is_known) = match (&request.subscription, asked) {
            (Some(subscription), asked) => {
                let SubscriptionStart { from, is_new } = self
                    .named_subscription_start(subscription, &request.caller, asked)
                    .await?;
                (from, !is_new)
            }
            (None, Some(id)) => (self.resume_from(id).await?, false),
            (None, None) => (ResumeFrom::Live, false),
        };
        let (splice, gap) = Splice::begin(from, self.bounds());
        Ok(Beginning {
            from,
            splice,
            gap,
            is_resuming: asked.is_some() || is_known,
            is_known,
        })
    }

    fn join_cohort(
        &self,
        request: &ConnectionRequest,
        selector: &Arc<Selector>,
    ) -> Option<crate::hub::Member> {
        if request.coding != Coding::Gzip {
            return None;
        }
        let key = CohortKey {
            interest: request.interest.canonical(),
            visibility: request.caller.visibility().clone(),
            format: request.format,
        };
        self.cohorts()
            .join(key, Arc::clone(selector), request.caller.address())
    }

    fn connection_info(
        &self,
        request: &ConnectionRequest,
        id: &ConnectionId,
        moment: Moment,
    ) -> ConnectionInfo {
        ConnectionInfo {
            id: id.clone(),
            ip: request.caller.address().into(),
            client: self.client(request.user_agent.as_deref(), &request.caller),
            connected_at_unix_ms: moment.unix_millis,
            held: None,
        }
    }

    /// Puts the cursor where the stream begins, and finds out whether the window can serve it from there. `None` when the
    /// log has begun another epoch meanwhile.
    async fn place(
        &self,
        beginning: Beginning,
        mut connection: Connection<Arc<EncodedRecord>>,
        moment: Moment,
    ) -> Result<Option<Placed>, ConnectError> {
        let Beginning {
            from,
            mut splice,
            mut gap,
            is_resuming,
            is_known,
        } = beginning;
        let mut at_hand = Vec::new();
        let mut reads_log_first = false;
        if matches!(from, ResumeFrom::Live) {
            // The place where the pool has put the cursor is where this reader's stream begins.
            splice.handle_lag(connection.cursor());
        } else {
            let after = splice.position().offset;
            // Where a rule for single topics has taken events out of the log, the window may hold them still.
            reads_log_first = after < self.bounds().head && self.has_retention_rule(&connection);
            let lagged = match reads_log_first {
                true => Some(after),
                false => match look(&mut connection, moment, &mut at_hand) {
                    Some(Read::Lagged { after, .. }) => Some(after),
                    Some(Read::Reset { .. } | Read::Moved { .. }) => return Ok(None),
                    _ => None,
                },
            };
            if let Some(after) = lagged {
                // It begins with the log, of which something may be gone that concerns it.
                let reader = Reader {
                    hub: self,
                    key: connection.key(),
                };
                let page = self.read(reader.page_request(after, 1, 0)).await?;
                if self.bounds().epoch != splice.position().epoch {
                    return Ok(None);
                }
                let thinned = splice.handle_removed(page.removed);
                gap = match (gap, thinned) {
                    (Some(gap), Some(thinned)) => Some(Gap {
                        until: thinned.until,
                        ..gap
                    }),
                    (gap, thinned) => gap.or(thinned),
                };
            }
        }
        Ok(Some(Placed {
            connection,
            splice,
            gap,
            at_hand,
            reads_log_first,
            is_resuming,
            is_known,
        }))
    }

    fn first_words(
        &self,
        request: &ConnectionRequest,
        id: &ConnectionId,
        placed: &Placed,
        moment: Moment,
    ) -> Opening {
        let interest = &request.interest;
        let plain_topics = interest.topics.iter().filter(|topic| !is_pattern(topic));
        let mut job_topics: Vec<Topic> = Vec::new();
        for name in plain_topics.chain(&interest.exact_topics) {
            // Named twice, a job is told once: a state is thousands of times as large as its name.
            if name.starts_with("job/")
                && let Ok(topic) = Topic::new(name.as_str())
                && !job_topics.contains(&topic)
            {
                job_topics.push(topic);
            }
        }
        let reader = Reader {
            hub: self,
            key: placed.connection.key(),
        };
        let topics = interest.all_topics();
        let greeting = Greeting {
            connection_id: &id.to_string(),
            message: "Connected to notification stream",
            subscriptions: interest.event_types.as_deref().unwrap_or_default(),
            topics: &topics,
            resumed: placed.is_resuming && placed.gap.is_none(),
            gap: placed.gap.is_some(),
            identity: request.caller.identity(),
            durable: request
                .subscription
                .as_ref()
                .map(|subscription| GreetingSubscription {
                    name: &subscription.name,
                    created: !placed.is_known,
                }),
            timestamp: clock::rfc3339(moment.unix_millis),
            at: placed.splice.position(),
            retry: jittered_retry(self.config().retry, reader.chance()),
        };
        if let Some(gap) = &placed.gap {
            self.metrics().record_gap(gap);
        }
        Opening::new(
            self,
            &greeting,
            placed.gap.as_ref(),
            &job_topics,
            request.format,
            request.caller.visibility(),
            moment,
        )
    }
}

/// Takes what the window has for a new reader, and says what it has besides.
fn look(
    connection: &mut Connection<Arc<EncodedRecord>>,
    moment: Moment,
    at_hand: &mut Batch,
) -> Option<Read> {
    let mut cx = Context::from_waker(Waker::noop());
    match connection.poll_read(&mut cx, moment.now, MAX_CHUNK_BYTES, at_hand) {
        Poll::Ready(read) => Some(read),
        Poll::Pending => None,
    }
}

/// Where a stream is to begin.
struct Beginning {
    from: ResumeFrom,
    splice: Splice,
    gap: Option<Gap>,
    /// It goes on where it left off, unless there is a gap.
    is_resuming: bool,
    /// It reads under a name that was known before.
    is_known: bool,
}

/// A reader in its place.
struct Placed {
    connection: Connection<Arc<EncodedRecord>>,
    splice: Splice,
    gap: Option<Gap>,
    /// What the window had for it.
    at_hand: Batch,
    /// It begins with a page of the log, whatever the window holds.
    reads_log_first: bool,
    is_resuming: bool,
    is_known: bool,
}
