//! Who sends a request.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use sse_broker::{InvalidTopic, Topic, UnixMillis};
use sse_pool::{AddressKey, ClientInfo, ConnectionInfo, Held, Routed, Selector, Visibility};

use super::grants::{Forbidden, Grants};
use crate::units::Quoted;

/// Who sends a request: the address, the identities that give access to private events, and the grants.
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
    grants: Grants,
    visibility: Visibility,
    credential: Option<Arc<Credential>>,
}

/// What a connection keeps of its caller, beside what the pool knows: by it the caller is known again.
#[derive(Clone, Debug)]
struct Rights {
    grants: Grants,
    credential: Option<Arc<Credential>>,
}

/// What a caller has shown to be who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credential {
    /// What it is.
    pub kind: CredentialKind,
    /// Its own name, by which it can be revoked: `jti` of a token.
    pub id: Option<Arc<str>>,
    /// When it was given, where it says so.
    pub issued_at: Option<UnixMillis>,
    /// Until when it holds.
    pub expires_at: Option<UnixMillis>,
}

/// The ways in which callers show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// A signed token of the application.
    Jwt,
    /// A token that the hub's operator has made.
    ApiToken,
    /// The application was asked.
    Application,
    /// A ticket, made for a client that can send no header.
    Ticket,
    /// The certificate of its connection.
    Certificate,
}

/// As what a caller is counted, for limits that are not its address's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted<'a> {
    /// As this user.
    User(&'a str),
    /// As this session, of no user in particular.
    Session(&'a str),
    /// As whoever has this token, which names neither.
    Token(&'a str),
    /// As its address.
    Address(AddressKey),
}

impl Counted<'_> {
    /// What it is.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Session(_) => "session",
            Self::Token(_) => "token",
            Self::Address(_) => "address",
        }
    }
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.noun();
        match self {
            Self::User(name) | Self::Session(name) | Self::Token(name) => {
                write!(f, "{noun} {}", Quoted(name))
            }
            Self::Address(AddressKey::V4(octets)) => {
                write!(f, "{noun} {}", Ipv4Addr::from(*octets))
            }
            Self::Address(AddressKey::V6(first)) => {
                let prefix = u128::from(u64::from_be_bytes(*first)) << 64;
                write!(f, "{noun} {}/64", Ipv6Addr::from(prefix))
            }
        }
    }
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
    /// A caller that is this user and this session, and may do everything; an empty name is none.
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
        let grants = Grants::everything();
        Ok(Self {
            address,
            user: user.map(Arc::from),
            session: session.map(Arc::from),
            visibility: grants.visibility(own),
            grants,
            credential: None,
        })
    }

    /// A caller of whom only the address is known, and that may do everything.
    #[must_use]
    pub fn anonymous(address: IpAddr) -> Self {
        Self {
            address,
            user: None,
            session: None,
            grants: Grants::everything(),
            visibility: Visibility::default(),
            credential: None,
        }
    }

    /// The same caller with these grants.
    #[must_use]
    pub fn with_grants(self, grants: Grants) -> Self {
        Self {
            visibility: grants.visibility(self.visibility.own().to_vec()),
            grants,
            ..self
        }
    }

    /// The same caller, who has shown this.
    #[must_use]
    pub fn with_credential(self, credential: Arc<Credential>) -> Self {
        Self {
            credential: Some(credential),
            ..self
        }
    }

    /// The same caller at another address.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        Self { address, ..self }
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

    /// What it may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What it has shown to be who it is; `None` for one that was not asked.
    #[must_use]
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }

    /// One word for the user and session that it has shown to be, the same for the same two, which tells neither: pages compare it,
    /// and a session's name may be a secret. `None` for whoever has shown neither.
    pub(crate) fn identity(&self) -> Option<String> {
        self.credential.as_ref()?;
        let (user, session) = (self.user(), self.session());
        user.or(session)?;
        let mut names = Context::new(&SHA256);
        for name in [user, session] {
            // The length in front keeps a user's end from being a session's beginning, and 0 from being an empty name.
            names.update(&name.map_or(0, |name| name.len() + 1).to_le_bytes());
            names.update(name.unwrap_or_default().as_bytes());
        }
        let first = *names.finish().as_ref().first_chunk()?;
        Some(format!("{:032x}", u128::from_be_bytes(first)))
    }

    /// As what it is counted: the user that it has shown to be, else the session, else the token. Whoever has shown nothing
    /// is counted by its address, whatever user it says that it is; and so is a ticket that names nobody, as a page has it that
    /// anyone may open.
    pub(crate) fn counted_as(&self) -> Counted<'_> {
        let address = Counted::Address(self.address.into());
        let Some(credential) = &self.credential else {
            return address;
        };
        let token = credential.id.as_deref();
        let token = token.filter(|_| credential.kind != CredentialKind::Ticket);
        let user = self.user().map(Counted::User);
        let session = self.session().map(Counted::Session);
        user.or(session)
            .or(token.map(Counted::Token))
            .unwrap_or(address)
    }

    /// What the pool is to know of it.
    pub(crate) fn client_info(&self, user_agent: Option<&str>) -> ClientInfo {
        let is_known = self.credential.is_some() || self.grants != Grants::everything();
        ClientInfo {
            user_agent: user_agent.map(Arc::from),
            session: self.session.clone(),
            user: self.user.clone(),
            visibility: self.visibility.clone(),
            held: is_known.then(|| {
                Arc::new(Rights {
                    grants: self.grants.clone(),
                    credential: self.credential.clone(),
                }) as Arc<dyn Held>
            }),
        }
    }

    /// The caller that opened a connection.
    pub(crate) fn of(connection: &ConnectionInfo) -> Self {
        let client = &connection.client;
        let held = client.held.as_deref().map(|held| held as &dyn Any);
        let rights = held.and_then(|held| held.downcast_ref::<Rights>());
        Self {
            address: connection.ip.into(),
            user: client.user.clone(),
            session: client.session.clone(),
            grants: rights.map_or_else(Grants::everything, |rights| rights.grants.clone()),
            visibility: client.visibility.clone(),
            credential: rights.and_then(|rights| rights.credential.clone()),
        }
    }

    /// Whether it is the same user and session, or administers the hub. A caller without either is whoever knows the name of
    /// what is asked for.
    #[must_use]
    pub fn is_or_administers(&self, other: &Self) -> bool {
        self.owns(other.user(), other.session())
    }

    /// No longer than its credential holds: nobody waits for what they may not have when it comes.
    #[must_use]
    pub fn no_longer_than_valid(&self, wait: Duration, now: UnixMillis) -> Duration {
        let expires_at = self
            .credential
            .as_ref()
            .and_then(|credential| credential.expires_at);
        match expires_at {
            Some(expires_at) => wait.min(Duration::from_millis(expires_at.saturating_sub(now))),
            None => wait,
        }
    }

    /// What it may read of what it asks for.
    ///
    /// # Errors
    ///
    /// As [`Grants::narrow`].
    pub fn narrow(&self, asked: &Selector) -> Result<Selector, Forbidden> {
        self.grants.narrow(asked, self.visibility.own())
    }

    /// Whether it may publish events of this type to these topics.
    ///
    /// # Errors
    ///
    /// As [`Grants::check_publish`], for the first topic that is refused.
    pub fn check_publish<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a str>,
        event_type: &str,
    ) -> Result<(), Forbidden> {
        let mut topics = topics.into_iter();
        topics.try_for_each(|topic| self.grants.check_publish(topic, event_type))
    }

    /// Whether it may do what only those may who administer the hub.
    ///
    /// # Errors
    ///
    /// [`Forbidden::Admin`] when it may not.
    pub fn check_admin(&self) -> Result<(), Forbidden> {
        match self.grants.is_admin() {
            true => Ok(()),
            false => Err(Forbidden::Admin),
        }
    }

    /// Whether something that this user and session began is its own, or it administers the hub. What is nobody's in particular
    /// belongs to whoever knows its name.
    #[must_use]
    pub fn owns(&self, user: Option<&str>, session: Option<&str>) -> bool {
        let is_same = |theirs: Option<&str>, own: Option<&str>| theirs.is_none() || theirs == own;
        self.grants.is_admin() || is_same(user, self.user()) && is_same(session, self.session())
    }

    /// What it may have.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// Whether it may have something that is not delivered to a connection, such as a job: one of the topics on which its events
    /// are must be granted.
    #[must_use]
    pub fn may_have<'a>(
        &self,
        what: &impl Routed,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> bool {
        let may_read = |topic: &str| {
            self.grants.is_everything()
                || self.grants.may_subscribe(topic)
                || self.visibility.own().iter().any(|own| &**own == topic)
        };
        self.visibility.allows(what, None) && topics.into_iter().any(may_read)
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
