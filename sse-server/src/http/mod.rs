//! The hub over HTTP. Everything here turns requests into calls of the [`Hub`] and its answers into
//! responses; nothing is decided here but what the contract says.
//!
//! [`HubService`] is independent of the server: it takes any [`http::Request`] and gives an
//! [`http::Response`], so it can be mounted in a hyper or axum application.

mod assets;
mod audited;
mod body;
mod callers;
mod connections;
mod erase;
mod framing;
mod guard;
mod health;
mod jobs;
mod named_subscriptions;
mod panics;
mod poll;
mod problem;
mod publication;
mod publish;
mod query;
mod request;
mod request_body;
mod revocations;
mod routes;
mod settings;
mod stream;
mod subscription_change;
mod tickets;
mod unavailable;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use serde::Serialize;

pub use body::Body;
pub(crate) use body::Takeover;
pub use guard::{AllowedHost, AllowedOrigin, InvalidHost, InvalidOrigin};
pub use problem::Problem;
pub(crate) use problem::REFUSED_RETRY_AFTER;
pub use publication::{PUBLICATION_OVERHEAD_BYTES, Publications, parse as parse_publications};
pub use settings::{HttpConfig, OpensHub};
use settings::{Live, Reloads};
pub use unavailable::Refusals;

use crate::access::budget::{Account, Budget, NoMemory};
use crate::access::{
    Caller, NoPlace, Peer, Place, PlaceLimits, Places, Sockets, UntrustedProxyWarning,
};
use crate::dialect::Operation;
use crate::hub::Hub;
use audited::RequestLine;
use callers::{cookies, goes_by_certificate};
pub(crate) use guard::OverTls;
use guard::Site;
use query::Query;
use request::{Request, Upgrade};
use routes::{Matched, Offer, Router};

/// The hub as an HTTP service. Cloning it is cheap.
#[derive(Clone)]
pub struct HubService {
    hub: Hub,
    live: Arc<Live>,
    router: Arc<Router>,
    /// Where its connections and requests are counted.
    sockets: Sockets,
    requests: Places,
    proxy_warning: Arc<UntrustedProxyWarning>,
    /// Where the streams that are asked for here go.
    shard: Option<usize>,
    /// The server that calls it takes connections over for WebSockets, which hyper does otherwise.
    upgrades_by_server: bool,
}

impl HubService {
    /// A service of this hub.
    #[must_use]
    pub fn new(hub: Hub, config: HttpConfig) -> Self {
        Self {
            sockets: hub.sockets().clone(),
            requests: hub.requests().clone(),
            hub,
            live: Arc::new(Live::new(config)),
            router: Arc::new(Router::new(Offer::Everything)),
            proxy_warning: Arc::default(),
            shard: None,
            upgrades_by_server: false,
        }
    }

    /// The same service without management, for a listener that strangers reach: statistics, metrics, the detailed health, the
    /// list of connections and administration are 404 there. `/livez` and `/readyz` stay.
    #[must_use]
    pub fn without_management(&self) -> Self {
        Self {
            router: Arc::new(Router::new(Offer::WithoutManagement)),
            ..self.clone()
        }
    }

    /// The same service, with places of its own for connections and requests: however many others take, an administrator finds
    /// one.
    pub(crate) fn for_administrators(&self) -> Self {
        let limits = PlaceLimits {
            max: ADMINISTRATORS,
            max_per_address: ADMINISTRATORS,
        };
        Self {
            sockets: Sockets::new(limits),
            requests: Places::new(limits),
            ..self.clone()
        }
    }

    /// Where its connections are counted.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The same service, for a server that takes connections over for WebSockets, and whose streams all go to one shard of the
    /// pool.
    pub(crate) fn for_server(&self, shard: Option<usize>) -> Self {
        Self {
            shard,
            upgrades_by_server: true,
            ..self.clone()
        }
    }

    /// The hub behind it.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers one request of the client at `ip`, or of the clients behind it if that is a
    /// [trusted proxy](HttpConfig::trusted_proxies).
    ///
    /// The future is small and ends with the response's head; a stream goes on in its body. A WebSocket goes on in a task of
    /// its own, on the connection that hyper upgrades: serve the connection with upgrades.
    pub async fn handle<B>(&self, request: http::Request<B>, ip: IpAddr) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.answer(request, Peer::Ip(ip.to_canonical())).await
    }

    /// The same for any peer that a socket may have.
    pub(crate) async fn answer<B>(&self, request: http::Request<B>, peer: Peer) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let config = self.config();
        let proxies = &config.trusted_proxies;
        self.proxy_warning
            .look_at_headers(proxies, peer, request.headers());
        let address = proxies.address_of(peer, request.headers());
        let site = Site::of(&request);
        let origin = guard::origin(&config, request.headers(), &site);
        let hears = unavailable::hears(request.method(), request.headers(), config.refusals);
        let is_framed = framing::closes(&request);
        let line = self.hub.audit().is_on().then(|| RequestLine::of(&request));
        // Whoever is known by then, when the request is refused.
        let mut known = None;
        let mut response = match self.check(&config, &request, site.host.as_deref()) {
            Ok(()) => {
                let answer = self.dispatch(&config, request, address, (&origin, &site), &mut known);
                match panics::contained(answer).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(problem)) => {
                        self.audit_refusal(line.as_ref(), known.as_ref(), address, &problem);
                        unavailable::answer(problem, hears)
                    }
                    Err(panics::Panicked) => {
                        self.hub.metrics().record_panic();
                        panics::problem().into_response()
                    }
                }
            }
            Err(problem) => {
                self.audit_refusal(line.as_ref(), None, address, &problem);
                problem.into_response()
            }
        };
        guard::finish(&config, &origin, response.headers_mut());
        if is_framed && self.upgrades_by_server {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }

    /// The answer to a request that there is no memory for.
    pub(crate) fn refuse<B>(
        &self,
        request: &http::Request<B>,
        refused: NoMemory,
    ) -> Response<Body> {
        let config = self.config();
        let origin = guard::origin(&config, request.headers(), &Site::of(request));
        let mut response = Problem::from(refused).into_response();
        guard::finish(&config, &origin, response.headers_mut());
        response
    }

    /// Checks what is the same for all routes.
    fn check<B>(
        &self,
        config: &HttpConfig,
        request: &http::Request<B>,
        host: Option<&str>,
    ) -> Result<(), Problem> {
        framing::check(request)?;
        // Whoever calls the service in its own process need not make up a name for it.
        let needs_host = self.upgrades_by_server && request.version() == Version::HTTP_11;
        let hosts = hosts_named(request);
        if needs_host && !request.headers().contains_key(header::HOST) {
            return guard::check_host(config, None, hosts, needs_host);
        }
        guard::check_host(config, host, hosts, needs_host)?;
        guard::check_told_hosts(config, request.headers())
    }

    async fn dispatch<B>(
        &self,
        config: &HttpConfig,
        request: http::Request<B>,
        address: IpAddr,
        (origin, site): (&guard::Origin, &Site),
        known: &mut Option<Caller>,
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
            return Err(method_not_allowed(&matched, &head.method, path));
        };
        let changes = operation.is_guarded(&head.method);
        guard::check_origin(origin, &head.headers, changes)?;
        let query = Query::parse(head.uri.query())?;
        let id = matched.id.clone().transpose();
        let id = id.map_err(|problem| Problem::bad_field("id", problem))?;
        let id = id.unwrap_or_default();
        if operation == Operation::Stream && query.get("durable").is_some() {
            guard::check_page(config, origin, &head.headers, site)?;
        }
        let cookies = cookies(config, operation, &head.headers, &query);
        if cookies.is_some() || goes_by_certificate(config, operation, &head, &query) {
            guard::check_cookies(config, origin, &head.headers, site)?;
        }
        let mut shown = self.presented(address, &head, cookies.as_ref(), &query)?;
        if operation == Operation::Erase {
            // There these name whose events go, and not who asks.
            (shown.user_id, shown.session_id) = (None, None);
        }
        let caller = self.caller(config, shown).await?;
        let opens_stream = matches!(operation, Operation::Stream | Operation::WebSocket);
        let renewable = opens_stream.then(|| config.authentication.renewable(&caller, &shown));
        let renewable = renewable.flatten().map(Box::new);
        let audit = self.hub.audit();
        let action = operation.audited_as().filter(|_| audit.is_on());
        let line = action.map(|_| RequestLine::from(&head));
        if audit.is_on() {
            *known = Some(caller.clone());
        }
        if operation.is_administration() {
            caller
                .check_admin()
                .map_err(|error| refusal(&caller, error.into()))?;
        }
        let place = self.place(operation, &query, address)?;
        let budget = self.hub.budget();
        let mut permit = budget.try_take(Account::Bodies, address, 0)?;
        let body = if operation.takes_body() {
            let max_bytes = match operation.is_of_jobs() {
                // Parsed, JSON is many times as large as its text.
                true => self.hub.config().max_job_bytes.saturating_mul(2),
                false => usize::MAX,
            };
            let max_bytes = max_bytes.min(config.max_body_bytes);
            request_body::read(body, &head.headers, max_bytes, &mut permit).await?
        } else {
            Bytes::new()
        };
        if operation.publishes() {
            publish::take_bytes(&self.hub, &caller, body.len())?;
        }
        if operation.is_of_jobs() {
            publish::take_events(&self.hub, &caller, 1, body.len())?;
        }
        let upgrade = self.upgrade(&head, operation);
        let is_read = head.method.is_safe();
        let request = Request {
            hub: &self.hub,
            authentication: &config.authentication,
            reloads: &self.live.reloads,
            renewable,
            router: &self.router,
            caller,
            method: head.method,
            headers: head.headers,
            query,
            body,
            id,
            dialect,
            shard: self.shard,
            upgrade,
            max_body_bytes: config.max_body_bytes,
        };
        let sender = request.caller.clone();
        let response = perform(operation, request)
            .await
            .map_err(|problem| refusal(&sender, problem))?;
        if let (Some(action), Some(line)) = (action, &line) {
            let what = response.extensions().get::<audited::What>();
            audit.write(&line.done(&sender, action, response.status(), what));
        }
        let response = hold_answer(response, budget, address, is_read)?;
        Ok(response.map(|body| body.in_place(place)))
    }

    /// Writes into the audit log that somebody was refused for what they may do, or how much.
    fn audit_refusal(
        &self,
        line: Option<&RequestLine>,
        known: Option<&Caller>,
        address: IpAddr,
        problem: &Problem,
    ) {
        if let Some(line) = line
            && audited::is_refusal(problem.status)
        {
            self.hub
                .audit()
                .write(&line.refused(known, address, problem));
        }
    }

    /// A place for a request, until the client has its answer. None for one that waits, as it takes a stream's, and none for those
    /// that look whether the hub lives.
    fn place(
        &self,
        operation: Operation,
        query: &Query,
        address: IpAddr,
    ) -> Result<Option<Place>, Problem> {
        let waits = operation.can_wait() && !query.seconds("wait", poll::MAX_WAIT)?.is_zero();
        if waits || operation.is_probe() {
            return Ok(None);
        }
        let taken = self.requests.take(address);
        taken.map(Some).map_err(|refused| {
            let detail = match refused {
                NoPlace::Full(max) => format!(
                    "{max} requests are being answered, and no more are taken at once (--max-requests)"
                ),
                NoPlace::TooManyFromAddress(max) => format!(
                    "{max} requests from this address are being answered, and no more are taken at once \
                     (--max-requests-per-ip)"
                ),
            };
            Problem::unavailable(detail, REFUSED_RETRY_AFTER)
        })
    }

    /// What says that a proxy is not trusted.
    pub(crate) fn proxy_warning(&self) -> &UntrustedProxyWarning {
        &self.proxy_warning
    }

    /// How the connection of a request can be given to a WebSocket.
    fn upgrade(&self, head: &Parts, operation: Operation) -> Option<Upgrade> {
        if operation != Operation::WebSocket || head.version != Version::HTTP_11 {
            return None;
        }
        if self.upgrades_by_server {
            return Some(Upgrade::ByServer);
        }
        head.extensions
            .get::<OnUpgrade>()
            .cloned()
            .map(Upgrade::ByHyper)
    }
}

/// Does what a route is for. Every handler gets the request whole, and with it the caller.
async fn perform(operation: Operation, request: Request<'_>) -> Result<Response<Body>, Problem> {
    match operation {
        Operation::Index => Ok(text(request.router.index())),
        Operation::Asset(folder) => assets::file(&request, folder, &request.id),
        Operation::TestPage => assets::file(&request, "static", "sse-test/index.html"),
        Operation::Console => assets::file(&request, "static", "console/index.html"),
        Operation::Stream => stream::open(request).await,
        Operation::WebSocket => websocket::open(request).await,
        Operation::Publish => publish::publish(request).await,
        Operation::TestEvent => publish::test_event(request).await,
        Operation::Poll => poll::poll(request).await,
        Operation::Subscribe => subscription_change::change(request).await,
        Operation::NamedSubscriptions => named_subscriptions::list(&request),
        Operation::NamedSubscription => named_subscriptions::one(&request),
        Operation::DeleteNamedSubscription => named_subscriptions::delete(request).await,
        Operation::AckNamedSubscription => named_subscriptions::ack(request).await,
        Operation::ResetNamedSubscription => named_subscriptions::reset(request).await,
        Operation::Connections => connections::list(&request),
        Operation::Connection => connections::one(&request),
        Operation::CloseConnection => connections::close(&request),
        Operation::Cleanup => connections::clean_up(&request),
        Operation::RenewConnection => connections::renew(&request),
        Operation::MakeTicket => tickets::make(&request),
        Operation::Revoke => revocations::revoke(request).await,
        Operation::Erase => erase::erase(request).await,
        Operation::Stats => health::stats(&request),
        Operation::Health => health::health(&request),
        Operation::StreamHealth => health::stream_health(&request),
        Operation::Metrics => Ok(health::metrics(&request)),
        Operation::Live => Ok(text("ok\n")),
        Operation::Ready => health::ready(&request),
        Operation::Jobs => jobs::list(&request),
        Operation::CreateJob => jobs::create(request).await,
        Operation::Job => jobs::one(request).await,
        Operation::JobProgress => jobs::progress(request).await,
        Operation::JobComplete => jobs::complete(request).await,
        Operation::JobError => jobs::error(request).await,
        Operation::JobCancel => jobs::cancel(request).await,
    }
}

/// The refusal of somebody who has not shown who they are is to do so.
fn refusal(caller: &Caller, problem: Problem) -> Problem {
    if problem.needs_grant && caller.credential().is_none() {
        return Problem::unauthorized(problem.detail, None);
    }
    problem
}

/// Lets an answer hold its memory until the client has it. A small one is among what every connection takes, and what was done
/// is told in any case.
fn hold_answer(
    response: Response<Body>,
    budget: &Budget,
    address: IpAddr,
    is_read: bool,
) -> Result<Response<Body>, Problem> {
    let bytes = response.body().unheld_bytes();
    if bytes <= SMALL_ANSWER_BYTES {
        return Ok(response);
    }
    match budget.try_take(Account::Answers, address, bytes) {
        Ok(permit) => Ok(response.map(|body| body.held_by(permit))),
        Err(refused) if is_read => Err(refused.into()),
        Err(_) => Ok(response),
    }
}

/// How many connections, and requests at once, administrators have of their own: some scrapers and people.
const ADMINISTRATORS: usize = 64;

/// An answer up to this size needs no permit.
const SMALL_ANSWER_BYTES: usize = 4 << 10;

fn method_not_allowed(matched: &Matched<'_>, method: &Method, path: &str) -> Problem {
    let allow = matched.allow();
    Problem {
        allow: Some(allow.as_str().into()),
        ..Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not possible at {path}; possible are {allow}"),
        )
    }
}

impl std::fmt::Debug for HubService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubService")
            .field("config", &self.config())
            .finish_non_exhaustive()
    }
}

/// How many hosts a request names in `Host` headers. An authority that differs from them is one more: of HTTP/2 (RFC 9113,
/// section 8.3.1), and of an absolute target, which a proxy in front goes by (RFC 9112, section 3.2.2).
fn hosts_named<B>(request: &http::Request<B>) -> usize {
    let headers = request.headers().get_all(header::HOST);
    let is_other = |authority: &str| {
        headers
            .iter()
            .any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()))
    };
    let authority = request.uri().authority();
    let one_more = authority.is_some_and(|authority| is_other(authority.as_str()));
    headers.iter().count() + usize::from(one_more)
}

/// A 200 with JSON.
fn json(value: &impl Serialize) -> Result<Response<Body>, Problem> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    // Its permit is for its bytes, and not for the room that it was written in.
    let mut response = Response::new(Body::full(bytes.into_boxed_slice()));
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
