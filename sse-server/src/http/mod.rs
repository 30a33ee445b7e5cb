//! The hub over HTTP. Everything here turns requests into calls of the [`Hub`] and its answers into
//! responses; nothing is decided here but what the contract says.
//!
//! [`HubService`] is independent of the server: it takes any [`http::Request`] and gives an
//! [`http::Response`], so it can be mounted in a hyper or axum application.

mod body;
mod connections;
mod guard;
mod health;
mod jobs;
mod named_subscriptions;
mod poll;
mod problem;
mod publication;
mod publish;
mod query;
mod request_body;
mod routes;
mod stream;
mod subscription_change;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use serde::Serialize;

pub use body::Body;
pub use guard::{AllowedHost, AllowedOrigin, InvalidHost, InvalidOrigin};
pub use problem::Problem;
pub use publication::{Publications, parse as parse_publications};

use crate::hub::Hub;
use query::Query;
use routes::{Operation, Router};

/// What the HTTP side allows.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Host names answered to, besides `localhost` and IP addresses.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Web origins that may read and publish.
    pub allowed_origins: Vec<AllowedOrigin>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 4 << 20,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// The hub as an HTTP service. Cloning it is cheap.
#[derive(Clone)]
pub struct HubService {
    hub: Hub,
    config: Arc<HttpConfig>,
    router: Arc<Router>,
    /// Where the streams that are asked for here go.
    shard: Option<usize>,
}

impl HubService {
    /// A service of this hub.
    #[must_use]
    pub fn new(hub: Hub, config: HttpConfig) -> Self {
        Self {
            hub,
            config: Arc::new(config),
            router: Arc::new(Router::new()),
            shard: None,
        }
    }

    /// The same service, whose streams all go to one shard of the pool.
    pub(crate) fn on_shard(&self, shard: Option<usize>) -> Self {
        Self {
            shard,
            ..self.clone()
        }
    }

    /// The hub behind it.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers one request of the client at `ip`.
    ///
    /// The future is small and ends with the response's head; a stream goes on in its body.
    pub async fn handle<B>(&self, request: Request<B>, ip: IpAddr) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let host = host_of(&request);
        let hosts = hosts_named(&request);
        let origin = guard::origin(&self.config, request.headers(), host.as_deref());
        let mut response = match guard::check_host(&self.config, host.as_deref(), hosts) {
            Ok(()) => match self.dispatch(request, ip, &origin).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            },
            Err(problem) => problem.into_response(),
        };
        guard::finish(&origin, response.headers_mut());
        response
    }

    async fn dispatch<B>(
        &self,
        request: Request<B>,
        ip: IpAddr,
        origin: &guard::Origin,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let Some(matched) = self.router.find(path) else {
            return Err(Problem::not_found(format!(
                "there is nothing at {path}; GET / lists what there is"
            )));
        };
        if head.method == Method::OPTIONS {
            return Ok(guard::preflight(origin, &matched.allow()));
        }
        let Some((operation, dialect)) = matched.operation(&head.method) else {
            let allow = matched.allow();
            return Err(Problem {
                allow: Some(allow.clone()),
                ..Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    format!(
                        "{} is not possible at {path}; possible are {allow}",
                        head.method
                    ),
                )
            });
        };
        guard::check_origin(origin, &head.method)?;
        let query = Query::parse(head.uri.query());
        let id = matched.id.as_deref().unwrap_or_default();
        let read = || request_body::read(body, &head.headers, self.config.max_body_bytes);
        let hub = &self.hub;
        match operation {
            Operation::Index => Ok(text(routes::index())),
            Operation::Stream => stream::open(hub, &head, &query, dialect, ip, self.shard).await,
            Operation::Publish => publish::publish(hub, &read().await?).await,
            Operation::TestEvent => publish::test_event(hub, &read().await?).await,
            Operation::Poll => poll::poll(hub, &query, &head.headers, ip).await,
            Operation::Subscribe => subscription_change::change(hub, &query, &read().await?).await,
            Operation::NamedSubscriptions => named_subscriptions::list(hub, &query),
            Operation::NamedSubscription => named_subscriptions::one(hub, id, &query),
            Operation::DeleteNamedSubscription => {
                named_subscriptions::delete(hub, id, &query).await
            }
            Operation::AckNamedSubscription => {
                named_subscriptions::ack(hub, id, &query, &read().await?).await
            }
            Operation::ResetNamedSubscription => {
                named_subscriptions::reset(hub, id, &query, &read().await?).await
            }
            Operation::Connections => connections::list(hub, &query),
            Operation::Connection => connections::one(hub, id),
            Operation::CloseConnection => connections::close(hub, id),
            Operation::Stats => health::stats(hub),
            Operation::Health => health::health(hub),
            Operation::StreamHealth => health::stream_health(hub),
            Operation::Metrics => Ok(health::metrics(hub)),
            Operation::Live => Ok(text("ok\n")),
            Operation::Ready => health::ready(hub),
            Operation::Jobs => jobs::list(hub, &query),
            Operation::CreateJob => jobs::create(hub, &read().await?).await,
            Operation::Job => jobs::one(hub, id, &query).await,
            Operation::JobProgress => jobs::progress(hub, id, &read().await?).await,
            Operation::JobComplete => jobs::complete(hub, id, &read().await?).await,
            Operation::JobError => jobs::error(hub, id, &read().await?).await,
            Operation::JobCancel => jobs::cancel(hub, id, &read().await?).await,
        }
    }
}

impl std::fmt::Debug for HubService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubService")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The host a request is for: its `Host` header, or the authority of HTTP/2 and absolute targets.
fn host_of<B>(request: &Request<B>) -> Option<String> {
    let header = request
        .headers()
        .get(header::HOST)
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    header.or_else(|| request.uri().authority().map(ToString::to_string))
}

/// How many hosts a request names in `Host` headers. An HTTP/2 authority that differs from them is one more
/// (RFC 9113, section 8.3.1).
fn hosts_named<B>(request: &Request<B>) -> usize {
    let headers = request.headers().get_all(header::HOST);
    let is_other = |authority: &str| {
        headers
            .iter()
            .any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()))
    };
    let authority = request.uri().authority();
    let one_more = request.version() == Version::HTTP_2
        && authority.is_some_and(|authority| is_other(authority.as_str()));
    headers.iter().count() + usize::from(one_more)
}

/// A 200 with JSON.
fn json(value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut response = Response::new(Body::full(bytes));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A 200 with plain text.
fn text(text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
