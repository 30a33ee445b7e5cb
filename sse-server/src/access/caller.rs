//! Who sends a request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sse_broker::{InvalidTopic, Topic};
use sse_pool::{Routed, Visibility};

use crate::units::Quoted;

/// Who sends a request: the address, and the identities that give access to private events.
///
/// It is made once, before anything else is done for the request. Everything that asks whether somebody may have
/// something asks the caller.
///
/// ```
/// # use sse_server::access::Caller;
/// let caller = Caller::new([127, 0, 0, 1].into(), Some("ann"), None)?;
/// assert_eq!(caller.user(), Some("ann"));
/// # Ok::<(), sse_server::access::InvalidIdentity>(())
/// ```
#[derive(Clone, Debug)]
pub struct Caller {
    address: IpAddr,
    user: Option<Arc<str>>,
    session: Option<Arc<str>>,
    visibility: Visibility,
}

/// A user or session whose name cannot be part of a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a valid name: {reason}", Quoted(.value))]
pub struct InvalidIdentity {
    /// `user_id` or `session_id`.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Caller {
    /// A caller that is this user and this session; an empty name is none.
    ///
    /// # Errors
    ///
    /// When a name cannot be part of a topic.
    pub fn new(
        address: IpAddr,
        user: Option<&str>,
        session: Option<&str>,
    ) -> Result<Self, InvalidIdentity> {
        let user = user.filter(|name| !name.is_empty());
        let session = session.filter(|name| !name.is_empty());
        let mut own = Vec::new();
        for (field, prefix, name) in [
            ("session_id", "session", session),
            ("user_id", "user", user),
        ] {
            let Some(name) = name else { continue };
            let topic =
                Topic::new(format!("{prefix}/{name}")).map_err(|error| InvalidIdentity {
                    field,
                    value: name.to_owned(),
                    reason: match error {
                        InvalidTopic::ControlCharacter => "it holds a control character".to_owned(),
                        InvalidTopic::TooLong { .. } => format!(
                            "it has {} bytes, and {} are taken",
                            name.len(),
                            Topic::MAX_BYTES - prefix.len() - 1
                        ),
                        other => other.to_string(),
                    },
                })?;
            own.push(Arc::clone(topic.as_arc()));
        }
        Ok(Self {
            address,
            user: user.map(Arc::from),
            session: session.map(Arc::from),
            visibility: Visibility::owning(own),
        })
    }

    /// A caller of whom only the address is known.
    #[must_use]
    pub fn anonymous(address: IpAddr) -> Self {
        Self {
            address,
            user: None,
            session: None,
            visibility: Visibility::default(),
        }
    }

    /// Where it comes from, for the limits per address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The user that it is.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The session that it is.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// What it may have.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// Whether it may have something that is not delivered to a connection: a record that is polled, a job.
    #[must_use]
    pub fn may_have(&self, what: &impl Routed) -> bool {
        self.visibility.allows(what, None)
    }
}

#[cfg(test)]
impl Caller {
    /// The same with these topics granted, which nothing can say over HTTP.
    pub(crate) fn granted(self, topics: sse_pool::TopicFilter) -> Self {
        Self {
            visibility: self.visibility.with_granted(topics),
            ..self
        }
    }
}

/// The application that embeds the hub, at the loopback address.
impl Default for Caller {
    fn default() -> Self {
        Self::anonymous(Ipv4Addr::LOCALHOST.into())
    }
}
