//! Publishing to a hub, so that a retry never stores twice.
//!
//! Every event that leaves here has an id: its own, or one made for it. The hub stores an id once, so a
//! request whose answer got lost can be sent again without asking what became of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::attempt::{read_into, read_some};
use crate::backoff::ReconnectPolicy;
use crate::content::{ContentDecoder, DEFAULT_MAX_RATIO};
use crate::credentials::{Ask, Credentials};
use crate::error::{Error, Refusal};
use crate::publication::{Publication, Receipt};
use crate::request::{Body, Template};
use crate::retry_after::retry_after;
use crate::transport::{Connection, Connector};

/// Publishes events to a hub.
///
/// It keeps one connection and sends one request at a time, so events arrive in the order in which they were
/// published. For several at once, clone it: each clone has a connection of its own.
///
/// ```no_run
/// # async fn example() -> Result<(), sse_client::Error> {
/// use sse_client::{Publication, Publisher};
///
/// let mut publisher = Publisher::new("http://127.0.0.1:8080/events")?;
/// let receipt = publisher.publish(Publication::text("hello").topic("news")).await?;
/// println!("{} is as safe as {:?} makes it", receipt.id, receipt.durability);
/// # Ok(())
/// # }
/// ```
pub struct Publisher {
    settings: Arc<Settings>,
    connection: Option<Connection>,
}

struct Settings {
    template: Template,
    connector: Connector,
    credentials: Option<Box<dyn Credentials>>,
    policy: ReconnectPolicy,
    on_retry: Option<OnRetry>,
}

type OnRetry = Box<dyn Fn(&Error, Duration) + Send + Sync>;

impl Clone for Publisher {
    /// A publisher with the same settings and a connection of its own.
    fn clone(&self) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            connection: None,
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("template", &self.settings.template)
            .finish_non_exhaustive()
    }
}

/// Builds a [`Publisher`].
#[must_use = "nothing happens before `build`"]
pub struct PublisherBuilder {
    template: Result<Template, Error>,
    connector: Option<Connector>,
    credentials: Option<Box<dyn Credentials>>,
    policy: ReconnectPolicy,
    on_retry: Option<OnRetry>,
}

impl PublisherBuilder {
    /// The connector: time limits, proxies, TLS.
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Adds a header to every request.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        if let Ok(template) = &mut self.template {
            match (name.try_into(), value.try_into()) {
                (Ok(name), Ok(value)) => {
                    template.headers.insert(name, value);
                }
                _ => self.template = Err(Error::config("bad header")),
            }
        }
        self
    }

    /// Adds headers to every request, replacing those of the same names.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        if let Ok(template) = &mut self.template {
            template.headers.extend(headers);
        }
        self
    }

    /// Sends `Authorization: Bearer` with this token.
    pub fn bearer(mut self, token: &str) -> Self {
        if let Ok(template) = &mut self.template {
            match crate::credentials::bearer(token) {
                Ok(header) => template.headers.extend(header),
                Err(_) => self.template = Err(Error::config("bad bearer token")),
            }
        }
        self
    }

    /// Asks `provider` for headers before every request, and once more after a 401 or 403.
    pub fn credentials(mut self, provider: impl Credentials) -> Self {
        self.credentials = Some(Box::new(provider));
        self
    }

    /// When to try again, and how often. Default: as for streams, but for at most 60 s and ten attempts.
    pub fn retry(mut self, policy: ReconnectPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Calls `tell` with the error and the delay each time before it waits and tries again. It runs on the task that
    /// publishes, so it should be short.
    pub fn on_retry(mut self, tell: impl Fn(&Error, Duration) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Box::new(tell));
        self
    }

    /// The publisher. Nothing is connected before the first publish.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for the first thing that cannot work.
    pub fn build(self) -> Result<Publisher, Error> {
        let mut template = self.template?;
        template.method = Method::POST;
        let settings = Settings {
            template,
            connector: self.connector.unwrap_or_default(),
            credentials: self.credentials,
            policy: self.policy,
            on_retry: self.on_retry,
        };
        Ok(Publisher {
            settings: Arc::new(settings),
            connection: None,
        })
    }
}

/// How one request ended badly.
struct Failure {
    error: Error,
    /// Whether it may be sent again.
    retry: bool,
    after: Option<Duration>,
    /// The connection was an old one, which the server may have closed meanwhile.
    stale: bool,
}

impl Failure {
    fn last(error: Error) -> Self {
        Self {
            error,
            retry: false,
            after: None,
            stale: false,
        }
    }

    fn connecting(error: Error) -> Self {
        if error.is_untrusted() {
            Self::last(error)
        } else {
            Self::passing(error)
        }
    }

    fn passing(error: Error) -> Self {
        Self {
            error,
            retry: true,
            after: None,
            stale: false,
        }
    }
}

impl Publisher {
    /// A publisher to `url`, usually the hub's `/events`, with every default.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `url` is not an http or https URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Begins to describe a publisher.
    pub fn builder(url: impl AsRef<str>) -> PublisherBuilder {
        PublisherBuilder {
            template: Template::new(url.as_ref(), "application/json"),
            connector: None,
            credentials: None,
            policy: ReconnectPolicy::default()
                .max_attempts(MAX_ATTEMPTS)
                .max_elapsed(MAX_ELAPSED),
            on_retry: None,
        }
    }

    /// Publishes one event and waits until it is as safe as the receipt says.
    ///
    /// # Errors
    ///
    /// The hub's refusal, or the failure of the last attempt allowed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the event was stored. Publish it again under the same id
    /// ([`Publication::id`]) to be sure that it is, once.
    pub async fn publish(&mut self, mut publication: Publication) -> Result<Receipt, Error> {
        publication.ensure_id(|| Uuid::new_v4().to_string());
        let body = serde_json::to_vec(&publication).map_err(|e| Error::config(e.to_string()))?;
        let body = Bytes::from(body);
        let mut retries = Retries::default();
        loop {
            let failure = match self.send(&body, "application/json").await {
                Ok(answer) => return parse(&answer),
                Err(failure) => failure,
            };
            retries.wait(&self.settings, failure).await?;
        }
    }

    /// Publishes many events in one request, in order, and gives one result for each.
    ///
    /// After a temporary failure, the first event that failed and all after it are sent again, so that the order stays.
    /// The hub recognises what it had stored already by its id.
    ///
    /// # Errors
    ///
    /// When no answer came, or the request was refused as a whole. Then it is unknown what was stored; publish the same
    /// events under the same ids again to be sure.
    pub async fn publish_all(
        &mut self,
        publications: impl IntoIterator<Item = Publication>,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let run = Uuid::new_v4();
        for (n, mut publication) in publications.into_iter().enumerate() {
            publication.ensure_id(|| format!("{run}-{n}"));
            let mut line =
                serde_json::to_vec(&publication).map_err(|e| Error::config(e.to_string()))?;
            line.push(b'\n');
            lines.push(line);
        }
        let mut results: Vec<Result<Receipt, Error>> = Vec::with_capacity(lines.len());
        let mut retries = Retries::default();
        while results.len() < lines.len() {
            let rest = &lines[results.len()..];
            let body = Bytes::from(rest.concat());
            let answer = match self.send(&body, "application/x-ndjson").await {
                Ok(answer) => answer,
                Err(failure) => {
                    retries.wait(&self.settings, failure).await?;
                    continue;
                }
            };
            let answers = self.parse_many(&answer, rest.len())?;
            let passing = answers
                .iter()
                .position(|a| a.as_ref().is_err_and(is_passing));
            let done = passing.unwrap_or(answers.len());
            if done > 0 {
                retries = Retries::default();
            }
            let mut answers = answers.into_iter();
            results.extend(answers.by_ref().take(done));
            if let Some(Err(error)) = answers.next() {
                let failure = Failure::passing(error);
                if let Err(error) = retries.wait(&self.settings, failure).await {
                    // The rest was not stored: the hub said so.
                    results.push(Err(error));
                    results.extend(answers);
                }
            }
        }
        Ok(results)
    }

    fn parse_many(
        &self,
        answer: &[u8],
        expected: usize,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        // One event is answered by an object, several by an array.
        let elements: Vec<&RawValue> = if answer.trim_ascii_start().starts_with(b"[") {
            serde_json::from_slice(answer).map_err(unexpected)?
        } else {
            vec![serde_json::from_slice(answer).map_err(unexpected)?]
        };
        if elements.len() != expected {
            let reason = format!("{} results for {expected} events", elements.len());
            return Err(Error::Answer { reason });
        }
        elements
            .into_iter()
            .map(|raw| self.parse_element(raw.get()))
            .collect()
    }

    /// A receipt, or the problem that takes its place.
    fn parse_element(&self, text: &str) -> Result<Result<Receipt, Error>, Error> {
        #[derive(Deserialize)]
        struct Problem {
            status: u16,
        }
        if let Ok(receipt) = serde_json::from_str(text) {
            return Ok(Ok(receipt));
        }
        let problem: Problem = serde_json::from_str(text).map_err(unexpected)?;
        let status = StatusCode::from_u16(problem.status).map_err(|_| Error::Answer {
            reason: format!("status {}", problem.status),
        })?;
        let media = HeaderValue::from_static("application/problem+json");
        Ok(Err(Error::Status(Arc::new(Refusal {
            url: self.settings.template.url.clone(),
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, media)]),
            body: Bytes::copy_from_slice(text.as_bytes()),
        }))))
    }

    /// Sends one request, on the kept connection if it is still open, and once more with new credentials.
    async fn send(&mut self, body: &Bytes, media: &'static str) -> Result<Bytes, Failure> {
        let settings = Arc::clone(&self.settings);
        let limit = settings.connector.header_timeout() + PUBLISH_TIME;
        let mut refused = None;
        loop {
            let credentials = settings.ask(refused).await?;
            let (mut connection, stale) = self.connection().await?;
            let absolute = connection.wants_absolute_form();
            let request = settings.request(body, media, &credentials, absolute)?;
            let response = connection.send(request, limit).await;
            let response = response.map_err(|error| Failure {
                stale,
                ..Failure::passing(error)
            })?;
            if response.status().is_success() {
                let answer = read_answer(response, limit).await?;
                self.connection = Some(connection);
                return Ok(answer);
            }
            let renewable = matches!(response.status().as_u16(), 401 | 403);
            if renewable && refused.is_none() && settings.credentials.is_some() {
                refused = Some(response.status());
                continue;
            }
            return Err(settings.refusal(response).await);
        }
    }

    /// The kept connection, and that it may be stale; or a new one.
    async fn connection(&mut self) -> Result<(Connection, bool), Failure> {
        match self.connection.take() {
            Some(connection) if connection.is_usable() => Ok((connection, true)),
            _ => {
                let url = &self.settings.template.url;
                let connection = self.settings.connector.connect(url).await;
                Ok((connection.map_err(Failure::connecting)?, false))
            }
        }
    }
}

impl Settings {
    async fn ask(&self, refused: Option<StatusCode>) -> Result<HeaderMap, Failure> {
        let Some(provider) = &self.credentials else {
            return Ok(HeaderMap::new());
        };
        provider.headers(Ask { refused }).await.map_err(|source| {
            Failure::passing(Error::Credentials {
                source: Arc::from(source),
            })
        })
    }

    fn request(
        &self,
        body: &Bytes,
        media: &'static str,
        credentials: &HeaderMap,
        absolute: bool,
    ) -> Result<Request<Body>, Failure> {
        let mut template = self.template.clone();
        template.body = body.clone();
        template
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(media));
        template
            .request(&template.first_hop(), None, credentials, absolute)
            .map_err(Failure::last)
    }

    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let (head, body) = response.into_parts();
        let after = retry_after(&head.headers, SystemTime::now());
        let body = match ContentDecoder::new(&head.headers, DEFAULT_MAX_RATIO) {
            Ok(content) => read_some(body, content, ERROR_BODY_LIMIT_BYTES).await,
            Err(_) => Bytes::new(),
        };
        let error = Error::Status(Arc::new(Refusal {
            url: self.template.url.clone(),
            status: head.status,
            headers: head.headers,
            body,
        }));
        Failure {
            retry: is_passing(&error),
            error,
            after,
            stale: false,
        }
    }
}

/// Reads the body of an answer that says success.
async fn read_answer(response: Response<Incoming>, limit: Duration) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    let content = ContentDecoder::new(&head.headers, DEFAULT_MAX_RATIO)
        .map_err(|error| Failure::last(error.into()))?;
    let mut text = BytesMut::new();
    let reading = read_into(body, content, MAX_ANSWER_BYTES, &mut text);
    match tokio::time::timeout(limit, reading).await {
        Ok(Ok(true)) => Ok(text.freeze()),
        Ok(Ok(false)) => {
            let reason = "it is too large".to_owned();
            Err(Failure::last(Error::Answer { reason }))
        }
        Ok(Err(error)) => Err(Failure::passing(error)),
        Err(_) => Err(Failure::passing(Error::HeaderTimeout { limit })),
    }
}

/// Counts and spaces the attempts of one publish.
#[derive(Default)]
struct Retries {
    failures: u32,
    began: Option<tokio::time::Instant>,
}

impl Retries {
    /// Waits before the next attempt, or gives the error back when there is none.
    async fn wait(&mut self, settings: &Settings, failure: Failure) -> Result<(), Error> {
        let policy = &settings.policy;
        let now = tokio::time::Instant::now();
        let began = *self.began.get_or_insert(now);
        if failure.stale && self.failures == 0 {
            // Nothing is wrong but the age of the connection: a new one, at once.
            return Ok(());
        }
        let delay = policy.delay(self.failures, None, failure.after, fastrand::f64());
        self.failures += 1;
        let out_of_attempts = policy
            .max_attempts
            .is_some_and(|most| self.failures >= most);
        let out_of_time = policy
            .max_elapsed
            .is_some_and(|limit| now + delay > began + limit);
        if !failure.retry || !policy.enabled || out_of_attempts || out_of_time {
            return Err(failure.error);
        }
        tracing::debug!(error = %failure.error.report(), ?delay, "publish failed, trying again");
        if let Some(tell) = &settings.on_retry {
            tell(&failure.error, delay);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Whether the hub may take the same thing later.
fn is_passing(error: &Error) -> bool {
    error
        .status()
        .is_some_and(|s| matches!(s.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504))
}

fn parse(answer: &[u8]) -> Result<Receipt, Error> {
    serde_json::from_slice(answer).map_err(unexpected)
}

#[expect(clippy::needless_pass_by_value, reason = "fits `map_err`")]
fn unexpected(error: serde_json::Error) -> Error {
    Error::Answer {
        reason: error.to_string(),
    }
}

const MAX_ATTEMPTS: u32 = 10;
const MAX_ELAPSED: Duration = Duration::from_secs(60);
/// A durable commit on a slow disk, on top of what a stream's head may take.
const PUBLISH_TIME: Duration = Duration::from_secs(15);
/// A receipt is about 120 bytes; tens of thousands of them fit.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
const ERROR_BODY_LIMIT_BYTES: usize = 8 * 1024;
