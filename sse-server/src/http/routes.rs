//! The one table of routes. A dialect is a row here: a path that means an operation of the hub, and how
//! that path's clients want it said. There is no second implementation behind any of them.

use std::collections::BTreeMap;

use http::Method;

use super::query::decode;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Index,
    Stream,
    WebSocket,
    Publish,
    TestEvent,
    Poll,
    Subscribe,
    NamedSubscriptions,
    NamedSubscription,
    DeleteNamedSubscription,
    AckNamedSubscription,
    ResetNamedSubscription,
    Connections,
    Connection,
    CloseConnection,
    Stats,
    Health,
    StreamHealth,
    Metrics,
    Live,
    Ready,
    Jobs,
    CreateJob,
    Job,
    JobProgress,
    JobComplete,
    JobError,
    JobCancel,
}

/// How the clients of a path want an operation said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// As the contract has it.
    Canonical,
    /// Large messages come in the compressed envelope, and jobs' events are `job_progress` and so on.
    Enhanced,
}

use Dialect::{Canonical, Enhanced};

const ROUTES: &[(&str, &str, Operation, Dialect)] = &[
    ("GET", "/", Operation::Index, Canonical),
    // The stream.
    ("GET", "/events", Operation::Stream, Canonical),
    ("GET", "/sse", Operation::Stream, Enhanced),
    ("GET", "/sse/events", Operation::Stream, Canonical),
    ("GET", "/stream", Operation::Stream, Canonical),
    ("GET", "/events/ws", Operation::WebSocket, Canonical),
    // Publishing.
    ("POST", "/events", Operation::Publish, Canonical),
    ("POST", "/events/broadcast", Operation::Publish, Canonical),
    ("POST", "/sse/test-event", Operation::TestEvent, Canonical),
    // Without a stream.
    ("GET", "/events/poll", Operation::Poll, Canonical),
    // Connections.
    (
        "POST",
        "/events/subscriptions",
        Operation::Subscribe,
        Canonical,
    ),
    ("POST", "/sse/subscribe", Operation::Subscribe, Canonical),
    // Named subscriptions.
    (
        "GET",
        "/events/subscriptions",
        Operation::NamedSubscriptions,
        Canonical,
    ),
    (
        "GET",
        "/events/subscriptions/{id}",
        Operation::NamedSubscription,
        Canonical,
    ),
    (
        "DELETE",
        "/events/subscriptions/{id}",
        Operation::DeleteNamedSubscription,
        Canonical,
    ),
    (
        "POST",
        "/events/subscriptions/{id}/ack",
        Operation::AckNamedSubscription,
        Canonical,
    ),
    (
        "POST",
        "/events/subscriptions/{id}/reset",
        Operation::ResetNamedSubscription,
        Canonical,
    ),
    (
        "GET",
        "/events/connections",
        Operation::Connections,
        Canonical,
    ),
    ("GET", "/events/status", Operation::Connections, Canonical),
    ("GET", "/sse/connections", Operation::Connections, Canonical),
    (
        "GET",
        "/events/connections/{id}",
        Operation::Connection,
        Canonical,
    ),
    (
        "DELETE",
        "/events/connections/{id}",
        Operation::CloseConnection,
        Canonical,
    ),
    // How it fares.
    ("GET", "/events/stats", Operation::Stats, Canonical),
    ("GET", "/sse/stats", Operation::Stats, Canonical),
    ("GET", "/health", Operation::Health, Canonical),
    ("GET", "/sse/health", Operation::StreamHealth, Enhanced),
    ("GET", "/metrics", Operation::Metrics, Canonical),
    ("GET", "/livez", Operation::Live, Canonical),
    ("GET", "/readyz", Operation::Ready, Canonical),
    // Jobs.
    ("GET", "/jobs", Operation::Jobs, Canonical),
    ("POST", "/jobs", Operation::CreateJob, Canonical),
    ("GET", "/jobs/{id}", Operation::Job, Canonical),
    (
        "POST",
        "/jobs/{id}/progress",
        Operation::JobProgress,
        Canonical,
    ),
    (
        "POST",
        "/jobs/{id}/complete",
        Operation::JobComplete,
        Canonical,
    ),
    ("POST", "/jobs/{id}/error", Operation::JobError, Canonical),
    ("POST", "/jobs/{id}/cancel", Operation::JobCancel, Canonical),
];

type Methods = Vec<(Method, Operation, Dialect)>;

/// Finds the row for a request.
pub(super) struct Router {
    paths: matchit::Router<Methods>,
}

/// The rows of one path.
pub(super) struct Matched<'a> {
    methods: &'a Methods,
    /// What stands at `{id}`, decoded, or what is wrong with it.
    pub(super) id: Option<Result<String, &'static str>>,
}

impl Router {
    pub(super) fn new() -> Self {
        let mut by_path: BTreeMap<&str, Methods> = BTreeMap::new();
        for (method, path, operation, dialect) in ROUTES {
            let method = method.parse().expect("the table names methods");
            by_path
                .entry(path)
                .or_default()
                .push((method, *operation, *dialect));
        }
        let mut paths = matchit::Router::new();
        for (path, methods) in by_path {
            paths
                .insert(path, methods)
                .expect("the table's paths do not contradict each other");
        }
        Self { paths }
    }

    pub(super) fn find(&self, path: &str) -> Option<Matched<'_>> {
        let path = if path.len() > 1 {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        let matched = self.paths.at(path).ok()?;
        let id = matched.params.get("id").map(decode);
        Some(Matched {
            methods: matched.value,
            id,
        })
    }
}

impl Operation {
    /// Whether its requests have a body to be read.
    pub(super) fn takes_body(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::TestEvent
                | Self::Subscribe
                | Self::AckNamedSubscription
                | Self::ResetNamedSubscription
                | Self::CreateJob
                | Self::JobProgress
                | Self::JobComplete
                | Self::JobError
                | Self::JobCancel
        )
    }

    /// Whether its body is the state of a job, or a part of it.
    pub(super) fn is_of_jobs(self) -> bool {
        matches!(
            self,
            Self::CreateJob
                | Self::JobProgress
                | Self::JobComplete
                | Self::JobError
                | Self::JobCancel
        )
    }

    /// Whether a page of another origin must not ask for it. A browser lets any page open a WebSocket, and read it.
    pub(super) fn is_guarded(self, method: &Method) -> bool {
        self == Self::WebSocket || (*method != Method::GET && *method != Method::HEAD)
    }
}

impl Matched<'_> {
    /// What the method does here; HEAD is GET without a body.
    pub(super) fn operation(&self, method: &Method) -> Option<(Operation, Dialect)> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let row = self.methods.iter().find(|(known, ..)| known == method)?;
        Some((row.1, row.2))
    }

    /// The methods there are, as an `Allow` header has them.
    pub(super) fn allow(&self) -> String {
        let mut methods: Vec<&str> = self
            .methods
            .iter()
            .map(|(method, ..)| method.as_str())
            .collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

/// A page that says what there is, for people who look.
pub(super) fn index() -> String {
    let mut text = String::from("A hub for Server-Sent Events. There is:\n\n");
    for (method, path, ..) in ROUTES.iter().skip(1) {
        text.push_str(&format!("{method:>6} {path}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_path_and_method() {
        let router = Router::new();
        for (method, path, operation, dialect) in ROUTES {
            let path = path.replace("{id}", "a%20b");
            let matched = router.find(&path).unwrap();
            assert_eq!(
                matched.operation(&method.parse().unwrap()),
                Some((*operation, *dialect)),
                "{path}"
            );
            assert!(matched.id.is_none_or(|id| id.as_deref() == Ok("a b")));
        }
        assert!(router.find("/nothing").is_none());
        assert_eq!(
            router.find("/events").unwrap().allow(),
            "GET, POST, HEAD, OPTIONS"
        );
        assert_eq!(
            router.find("/events/").unwrap().operation(&Method::PUT),
            None
        );
    }
}
