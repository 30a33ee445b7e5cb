//! What the audit log says of a request: never its query, its headers or its body.

use std::net::IpAddr;

use http::request::Parts;
use http::{Method, StatusCode};

use super::problem::Problem;
use crate::access::Caller;
use crate::audit::{Cut, Fact, Who};

/// A request's method and path.
pub(super) struct RequestLine {
    method: Method,
    path: String,
}

/// What a request changes that its path does not name; a handler puts it into its response's extensions.
#[derive(Clone)]
pub(super) struct What(pub(super) String);

impl RequestLine {
    pub(super) fn of<B>(request: &http::Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        }
    }

    pub(super) fn refused<'a>(
        &'a self,
        known: Option<&'a Caller>,
        address: IpAddr,
        problem: &'a Problem,
    ) -> Fact<'a> {
        Fact::Refused {
            who: known.map_or_else(|| Who::at(address), Who::from),
            method: Cut(self.method.as_str()),
            path: Cut(&self.path),
            status: problem.status.as_u16(),
            detail: Cut(&problem.detail),
        }
    }

    pub(super) fn done<'a>(
        &'a self,
        caller: &'a Caller,
        action: &'static str,
        status: StatusCode,
        what: Option<&'a What>,
    ) -> Fact<'a> {
        Fact::Done {
            who: caller.into(),
            action,
            method: Cut(self.method.as_str()),
            path: Cut(&self.path),
            status: status.as_u16(),
            what: what.map(|what| Cut(&what.0)),
        }
    }
}

impl From<&Parts> for RequestLine {
    fn from(head: &Parts) -> Self {
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
        }
    }
}

/// Whether a status says that somebody may not do something, or not so much of it. What is merely wrong is none.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 421 | 429 | 503 | 507)
}
