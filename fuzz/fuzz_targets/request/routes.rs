//! What can be asked for, by path.

/// A path and how the hub's answer to it is judged.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub kind: Kind,
    /// Which fields its body has.
    pub family: Family,
}

/// What an answer costs is bounded alike for all routes of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A text that is always the same.
    Text,
    /// Figures of the hub: `/metrics` and others.
    Figures,
    Stream,
    Socket,
    Publish,
    Poll,
    /// The subscriptions of a stream, or a named subscription.
    Subscription,
    /// Connections, jobs, named subscriptions, one or all.
    Look,
    /// A job is created or changed.
    Job,
    /// There is no such path.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Events,
    Change,
    Place,
    NewJob,
    Progress,
    Complete,
    Error,
}

impl Family {
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Events => &[
                "data",
                "event_type",
                "event",
                "type",
                "topic",
                "topics",
                "id",
                "session_filter",
                "session_id",
                "user_id",
                "project_id",
                "subscription_filter",
                "retry",
                "priority",
                "ttl_seconds",
                "other",
            ],
            Self::Change => &[
                "connection_id",
                "event_types",
                "subscribe",
                "topics",
                "topic",
                "topic_exact",
                "project_id",
                "last_event_id",
                "other",
            ],
            Self::Place => &["position", "id", "other"],
            Self::NewJob => &["job_id", "title", "topic", "total"],
            Self::Progress => &[
                "progress",
                "total",
                "message",
                "step",
                "educational_content",
                "details",
                "timestamp",
                "result",
                "error",
            ],
            Self::Complete => &["result", "message"],
            Self::Error => &["error", "message"],
        }
    }
}

/// How the answer to a method at a path is judged.
pub fn kind(method: &http::Method, path: &str) -> Kind {
    let method = match method.as_str() {
        "HEAD" => "GET",
        other => other,
    };
    let path = match path.len() {
        1 => path,
        _ => path.strip_suffix('/').unwrap_or(path),
    };
    let is_meant = |template: &str| {
        let mut parts = template.split('/').zip(path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts.all(|(part, given)| part == "{id}" || part == given)
    };
    let of_method = || ROUTES.iter().filter(|route| route.method == method);
    // A path without a name in it goes before one with.
    let route = of_method()
        .find(|route| route.path == path)
        .or_else(|| of_method().find(|route| is_meant(route.path)));
    route.map_or(Kind::Nothing, |route| route.kind)
}

const fn route(method: &'static str, path: &'static str, kind: Kind, family: Family) -> Route {
    Route {
        method,
        path,
        kind,
        family,
    }
}

/// Every route of the hub, those with much behind them more than once, and a path that is none.
pub static ROUTES: [Route; 40] = [
    route("GET", "/events", Kind::Stream, Family::Events),
    route("GET", "/sse", Kind::Stream, Family::Events),
    route("GET", "/events", Kind::Stream, Family::Events),
    route("GET", "/stream", Kind::Stream, Family::Events),
    route("GET", "/sse/events", Kind::Stream, Family::Events),
    route("GET", "/events/ws", Kind::Socket, Family::Events),
    route("POST", "/events", Kind::Publish, Family::Events),
    route("POST", "/events", Kind::Publish, Family::Events),
    route("POST", "/events/broadcast", Kind::Publish, Family::Events),
    route("POST", "/sse/test-event", Kind::Publish, Family::Events),
    route("GET", "/events/poll", Kind::Poll, Family::Events),
    route("GET", "/events/poll", Kind::Poll, Family::Events),
    route(
        "POST",
        "/events/subscriptions",
        Kind::Subscription,
        Family::Change,
    ),
    route("POST", "/sse/subscribe", Kind::Subscription, Family::Change),
    route("GET", "/events/subscriptions", Kind::Look, Family::Place),
    route(
        "GET",
        "/events/subscriptions/{id}",
        Kind::Look,
        Family::Place,
    ),
    route(
        "DELETE",
        "/events/subscriptions/{id}",
        Kind::Subscription,
        Family::Place,
    ),
    route(
        "POST",
        "/events/subscriptions/{id}/ack",
        Kind::Subscription,
        Family::Place,
    ),
    route(
        "POST",
        "/events/subscriptions/{id}/reset",
        Kind::Subscription,
        Family::Place,
    ),
    route("GET", "/events/connections", Kind::Look, Family::Events),
    route("GET", "/events/status", Kind::Look, Family::Events),
    route(
        "GET",
        "/events/connections/{id}",
        Kind::Look,
        Family::Events,
    ),
    route(
        "DELETE",
        "/events/connections/{id}",
        Kind::Look,
        Family::Events,
    ),
    route("GET", "/sse/connections", Kind::Look, Family::Events),
    route("GET", "/events/stats", Kind::Figures, Family::Events),
    route("GET", "/sse/stats", Kind::Figures, Family::Events),
    route("GET", "/health", Kind::Figures, Family::Events),
    route("GET", "/sse/health", Kind::Figures, Family::Events),
    route("GET", "/metrics", Kind::Figures, Family::Events),
    route("GET", "/", Kind::Text, Family::Events),
    route("GET", "/livez", Kind::Text, Family::Events),
    route("GET", "/readyz", Kind::Text, Family::Events),
    route("GET", "/jobs", Kind::Look, Family::NewJob),
    route("POST", "/jobs", Kind::Job, Family::NewJob),
    route("GET", "/jobs/{id}", Kind::Look, Family::NewJob),
    route("POST", "/jobs/{id}/progress", Kind::Job, Family::Progress),
    route("POST", "/jobs/{id}/complete", Kind::Job, Family::Complete),
    route("POST", "/jobs/{id}/error", Kind::Job, Family::Error),
    route("POST", "/jobs/{id}/cancel", Kind::Job, Family::Error),
    route("GET", "/nothing/{id}", Kind::Nothing, Family::Events),
];
