//! Connections, as an application manages them: send to one, close one, look at all, change what one wants.

use std::sync::Arc;
use std::time::Instant;

use sse_broker::{Gap, ReadError, ResumeFrom, Topic};
use sse_pool::{
    ClientInfo, CloseReason, Connection, ConnectionId, ConnectionInfo, ConnectionStatus,
    HeldByConnection, Permit, ReaderKey, Refusal, Selector, Start,
};

use super::{
    EncodedRecord, Hub, Interest, InvalidInterest, Placement, Publication, PublishError, Published,
    interest,
};
use crate::access::{Caller, TooManyOfUser, UserPlace};
use crate::audit::{AuditLog, Cut, Fact, Topics};
use crate::clock::{self, Moment};

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

/// Why there is no place for a connection. All of these pass: trying again later may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// There is none in all, or none for the address.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user has as many as one may have.
    #[error(transparent)]
    TooManyOfUser(#[from] TooManyOfUser),
}

/// A place for a connection: one of all, which is its address's too, and one of its user's.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    pub(crate) permit: Permit,
    pub(crate) of_user: Option<UserPlace>,
}

/// What a connection keeps until it is gone: its user's place, and who is to be told of when it ends.
#[derive(Debug)]
struct Kept {
    _of_user: Option<UserPlace>,
    told: Option<Box<Told>>,
}

/// A connection whose end is told: in the audit log, where there is one, and in the hub's own at level `debug`.
#[derive(Debug)]
struct Told {
    id: ConnectionId,
    since: Instant,
    audited: Option<(AuditLog, Caller)>,
}

impl HeldByConnection for Kept {
    fn ended(&self, reason: CloseReason) {
        let Some(told) = &self.told else { return };
        let lasted = clock::now().saturating_duration_since(told.since);
        let milliseconds = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(connection = %told.id, %reason, milliseconds, "disconnected");
        if let Some((audit, caller)) = &told.audited {
            audit.write(&Fact::Disconnected {
                who: caller.into(),
                connection: told.id.to_string(),
                reason: reason.as_str(),
                milliseconds,
            });
        }
    }
}

/// How a live connection's subscriptions are to change.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionChange {
    /// The event types it wants from now on; `None` leaves them, an empty list means all.
    pub event_types: Option<Vec<String>>,
    /// The topics and patterns it wants from now on; `None` leaves them, an empty list means every public one.
    pub topics: Option<Vec<String>>,
    /// The same for topics whose names are taken as they are. Where only one of the two is given, the other is empty.
    pub exact_topics: Option<Vec<String>>,
    /// From where it is to be served (again).
    pub last_event_id: Option<String>,
}

/// Why a connection's subscriptions were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no such connection.
    #[error("there is no connection {0}")]
    Unknown(ConnectionId),
    /// What it is to want cannot be.
    #[error(transparent)]
    Interest(#[from] InvalidInterest),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Hub {
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

    /// The same for another reason.
    pub(crate) fn end_connection(&self, id: &ConnectionId, reason: CloseReason) -> bool {
        self.inner.pool.close(id, reason)
    }

    /// How one connection fares.
    #[must_use]
    pub fn connection_status(&self, id: &ConnectionId) -> Option<ConnectionStatus> {
        self.inner.pool.status(id)
    }

    /// How every connection fares, `limit` at most.
    #[must_use]
    pub fn connections(&self, limit: usize) -> Vec<ConnectionStatus> {
        self.connections_after(None, limit)
    }

    /// The same, going on behind the last of a page.
    #[must_use]
    pub fn connections_after(
        &self,
        last: Option<ReaderKey>,
        limit: usize,
    ) -> Vec<ConnectionStatus> {
        self.inner.pool.statuses(last, limit)
    }

    /// Changes a live connection's subscriptions; what it is subscribed to from then on, and what is missing behind the event
    /// after which it is to go on.
    ///
    /// Events that it has not read yet are judged by the new subscriptions.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub async fn change_subscriptions(
        &self,
        id: &ConnectionId,
        change: SubscriptionChange,
    ) -> Result<(Arc<Selector>, Option<Gap>), ChangeError> {
        let names_topics = change.topics.is_some() || change.exact_topics.is_some();
        let wanted = self.selector(
            &Interest {
                topics: change.topics.unwrap_or_default(),
                exact_topics: change.exact_topics.unwrap_or_default(),
                event_types: change.event_types.clone(),
            },
            &self.caller_of(id)?,
        )?;
        let placement = match change.last_event_id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => {
                let from = self.resume_from(id).await?;
                Some(Placement::of(from, self.inner.broker.bounds()))
            }
            None => None,
        };
        let gap = placement.as_ref().and_then(|placement| placement.gap);
        let wanted = interest::asked(&wanted);
        let selector = self.exchange_selector(id, placement, |current| Selector {
            topics: match names_topics {
                true => wanted.topics.clone(),
                false => current.topics.clone(),
            },
            labels: match change.event_types {
                Some(_) => wanted.labels.clone(),
                None => current.labels.clone(),
            },
            held: None,
        })?;
        Ok((selector, gap))
    }

    /// Lets a live connection follow more: topics, patterns and event types. One that follows every topic, or takes every
    /// type, follows only those that are named from then on.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub fn subscribe(
        &self,
        id: &ConnectionId,
        more: &Interest,
    ) -> Result<Arc<Selector>, ChangeError> {
        let max = self.inner.config.max_subscriptions;
        let wanted = interest::asked(&*self.selector(more, &self.caller_of(id)?)?);
        let current = interest::asked(&*self.current_selector(id)?);
        let sum = current.plus(&wanted, more.names_topics());
        let count = sum.topic_count() + sum.labels.as_ref().map_or(0, |labels| labels.len());
        if count > max {
            return Err(InvalidInterest::TooMany {
                wanted: count,
                topics: sum.topic_count(),
                max,
            }
            .into());
        }
        self.exchange_selector(id, None, |current| {
            current.plus(&wanted, more.names_topics())
        })
    }

    /// Lets a live connection follow less. One whose last topic goes follows none, and not every one.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub fn unsubscribe(
        &self,
        id: &ConnectionId,
        less: &Interest,
    ) -> Result<Arc<Selector>, ChangeError> {
        let unwanted = interest::asked(&*self.selector(less, &self.caller_of(id)?)?);
        self.exchange_selector(id, None, |current| {
            current.minus(&unwanted, less.names_topics())
        })
    }

    /// Who opened a connection, and with which rights.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`] when there is no such connection.
    pub fn caller_of(&self, id: &ConnectionId) -> Result<Caller, ChangeError> {
        let status = self.inner.pool.status(id);
        let status = status.ok_or_else(|| ChangeError::Unknown(id.clone()))?;
        Ok(Caller::of(&status.info))
    }

    fn current_selector(&self, id: &ConnectionId) -> Result<Arc<Selector>, ChangeError> {
        let status = self.inner.pool.status(id);
        let status = status.ok_or_else(|| ChangeError::Unknown(id.clone()))?;
        Ok(status.selector)
    }

    /// Lets a connection ask for something else, which its rights narrow, and gives it another place where one is given.
    fn exchange_selector(
        &self,
        id: &ConnectionId,
        mut placement: Option<Placement>,
        change: impl Fn(&Selector) -> Selector,
    ) -> Result<Arc<Selector>, ChangeError> {
        loop {
            let caller = self.caller_of(id)?;
            let next = |current: &Selector| {
                let asked = change(&interest::asked(current));
                self.narrowed(&asked, &caller)
            };
            // What is refused changes nothing, not even the place.
            next(&*self.current_selector(id)?)?;
            let mut refused = None;
            let next = |current: &Selector| {
                next(current).unwrap_or_else(|error| {
                    refused = Some(error);
                    current.clone()
                })
            };
            let pool = &self.inner.pool;
            let updated = match placement.take() {
                Some(placement) => pool.update_selector_and_seek(id, &placement.seek(), next),
                None => pool.update_selector(id, next),
            };
            let updated = updated.map_err(|_| ChangeError::Unknown(id.clone()))?;
            // Where it was given other rights in the meantime, they decide.
            if self.caller_of(id)?.grants() == caller.grants() {
                return match refused {
                    None => Ok(updated),
                    Some(error) => Err(error.into()),
                };
            }
        }
    }

    /// A place for a stream or a waiting request of this caller.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<ConnectionPlace, AdmissionError> {
        // The user's first, so that the pool counts as accepted only what is.
        let of_user = self.inner.user_places.take(caller)?;
        let permit = self.inner.pool.admit(caller.address())?;
        Ok(ConnectionPlace { permit, of_user })
    }

    /// How many streams are open.
    #[must_use]
    pub(crate) fn active_connections(&self) -> usize {
        self.inner.pool.stats().active
    }

    /// Whether there is a place for a caller, without taking it.
    pub(crate) fn check_admission(&self, caller: &Caller) -> Result<(), AdmissionError> {
        self.inner.user_places.check(caller)?;
        Ok(self.inner.pool.check_admission(caller.address())?)
    }

    /// From where a reader goes on that has seen this id.
    pub(crate) async fn resume_from(&self, last_event_id: &str) -> Result<ResumeFrom, ReadError> {
        ResumeFrom::last_event_id(&*self.inner.broker, last_event_id).await
    }

    /// What the pool knows of a client; clients that are alike share it.
    pub(crate) fn client(&self, user_agent: Option<&str>, caller: &Caller) -> Arc<ClientInfo> {
        let user_agent = user_agent.map(|agent| truncated(agent, MAX_USER_AGENT_BYTES).to_owned());
        let visibility = caller.visibility().clone();
        let key = (user_agent, visibility, caller.credential().cloned());
        let known = self.inner.clients.get(key, |(user_agent, ..)| {
            Ok::<_, std::convert::Infallible>(caller.client_info(user_agent.as_deref()))
        });
        let Ok(known) = known;
        known
    }

    /// What a new connection keeps. Writes into the audit log that it began.
    pub(crate) fn kept_by(
        &self,
        of_user: Option<UserPlace>,
        (caller, id): (&Caller, &ConnectionId),
        (topics, user_agent): (Vec<&str>, Option<&str>),
        now: Instant,
    ) -> Option<Arc<dyn HeldByConnection>> {
        let audit = self.audit();
        let audited = audit.is_on().then(|| {
            audit.write(&Fact::Connected {
                who: caller.into(),
                connection: id.to_string(),
                topics: Topics(topics),
                user_agent: user_agent.map(Cut),
            });
            (audit.clone(), caller.clone())
        });
        let is_told = audited.is_some() || tracing::enabled!(tracing::Level::DEBUG);
        let told = is_told.then(|| {
            Box::new(Told {
                id: id.clone(),
                since: now,
                audited,
            })
        });
        let is_needed = of_user.is_some() || told.is_some();
        is_needed.then(|| {
            Arc::new(Kept {
                _of_user: of_user,
                told,
            }) as Arc<dyn HeldByConnection>
        })
    }

    /// Puts a reader into the pool.
    pub(crate) fn join_pool(
        &self,
        shard: Option<usize>,
        permit: Permit,
        info: ConnectionInfo,
        selector: Arc<Selector>,
        start: Start,
        moment: Moment,
    ) -> Result<Connection<Arc<EncodedRecord>>, sse_pool::ConnectError> {
        let pool = &self.inner.pool;
        match shard {
            Some(shard) => pool.connect_on(shard, permit, info, selector, start, moment.now),
            None => pool.connect(permit, info, selector, start, moment.now),
        }
    }
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
