//! A request as the handlers get it: who sends it, what was asked, and the body.

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use hyper::upgrade::OnUpgrade;

use super::Reloads;
use super::query::Query;
use super::routes::Router;
use crate::access::authentication::Renewable;
use crate::access::{Authentication, Caller};
use crate::dialect::Dialect;
use crate::hub::Hub;

/// Everything that a handler may look at.
pub(super) struct Request<'a> {
    pub(super) hub: &'a Hub,
    pub(super) authentication: &'a Authentication,
    /// What the application can be asked with again, where it has said how long its answer holds.
    pub(super) renewable: Option<Box<Renewable>>,
    /// How often settings were exchanged.
    pub(super) reloads: &'a Reloads,
    /// What can be asked for where the request came in.
    pub(super) router: &'a Router,
    /// Who sends it. No handler looks for a user, a session or an address elsewhere.
    pub(super) caller: Caller,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    /// Read whole; empty for an operation that takes none.
    pub(super) body: Bytes,
    /// What stands at `{id}` in the path, decoded.
    pub(super) id: String,
    /// How the clients of the path want things said.
    pub(super) dialect: &'static Dialect,
    /// The shard of the pool for a stream that is asked for.
    pub(super) shard: Option<usize>,
    /// How the connection can be given to another protocol, where it can.
    pub(super) upgrade: Option<Upgrade>,
    /// The largest message that may be sent over such a connection.
    pub(super) max_body_bytes: usize,
}

/// How a connection is given to another protocol.
pub(super) enum Upgrade {
    /// By the server that called the service: it finds what is spoken next in the response's body.
    ByServer,
    /// By hyper, or a framework on top of it.
    ByHyper(OnUpgrade),
}

impl Request<'_> {
    /// The text of a header; bytes that are not UTF-8 are replaced.
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The client's `User-Agent`.
    pub(super) fn user_agent(&self) -> Option<String> {
        self.header(header::USER_AGENT)
    }

    /// The id of the last event that the client has seen: its header, or what a polyfill puts into the query.
    pub(super) fn last_event_id(&self) -> Option<String> {
        // Bytes that are not UTF-8 were never an id of this hub; they lead to a gap, not to an error.
        self.header("last-event-id")
            .filter(|id| !id.is_empty())
            .or_else(|| self.query.last_event_id().map(str::to_owned))
    }
}
