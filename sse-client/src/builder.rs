//! The settings of an event source. [`build`](EventSourceBuilder::build) checks them all, once.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde::Serialize;
use sse_protocol::{EventId, Limits};

use crate::attempt::Plan;
use crate::backoff::{ReconnectPolicy, Spread};
use crate::clock;
use crate::content::DEFAULT_MAX_RATIO;
use crate::credentials::Credentials;
use crate::dedupe::Dedupe;
use crate::error::Error;
use crate::event_source::{EventSource, Parts};
use crate::machine::Machine;
use crate::poll::PollFallback;
use crate::position::{Keeper, PositionStore};
use crate::redirect::RedirectPolicy;
use crate::request::Template;
use crate::transport::Connector;
use crate::verdict::Mode;

/// Builds an [`EventSource`].
///
/// ```
/// use std::time::Duration;
/// use sse_client::{EventSource, ReconnectPolicy};
///
/// let events = EventSource::builder("https://hub.example/events")
///     .topic("job/42")
///     .bearer("secret")
///     .last_event_id("1-1041")
///     .reconnect(ReconnectPolicy::default().max_attempts(10))
///     .idle_timeout(Duration::from_secs(90))
///     .build()?;
/// # Ok::<(), sse_client::Error>(())
/// ```
#[must_use = "nothing happens before `build`"]
pub struct EventSourceBuilder {
    /// The first thing that was wrong; told by `build`.
    template: Result<Template, Error>,
    connector: Option<Connector>,
    credentials: Option<Box<dyn Credentials>>,
    redirects: RedirectPolicy,
    mode: Mode,
    reconnect: Option<ReconnectPolicy>,
    repeat_unsafe: bool,
    last_event_id: Option<EventId>,
    store: Option<Box<dyn PositionStore>>,
    save_interval: Duration,
    dedupe: Option<usize>,
    idle_timeout: Option<Duration>,
    limits: Limits,
    max_ratio: u32,
    error_body_limit: usize,
    fallback: Option<PollFallback>,
}

impl EventSource {
    /// A source of events from `url`, with every default: resilient mode, resume, reconnect for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `url` is not an http or https URL.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Begins to describe a source; [`build`](EventSourceBuilder::build) checks everything.
    pub fn builder(url: impl AsRef<str>) -> EventSourceBuilder {
        EventSourceBuilder::new(url.as_ref())
    }
}

impl EventSourceBuilder {
    fn new(url: &str) -> Self {
        Self {
            template: Template::new(url, sse_protocol::media::EVENT_STREAM),
            connector: None,
            credentials: None,
            redirects: RedirectPolicy::default(),
            mode: Mode::default(),
            reconnect: None,
            repeat_unsafe: false,
            last_event_id: None,
            store: None,
            save_interval: SAVE_INTERVAL,
            dedupe: None,
            idle_timeout: Some(IDLE_TIMEOUT),
            limits: Limits::new(),
            max_ratio: DEFAULT_MAX_RATIO,
            error_body_limit: ERROR_BODY_LIMIT_BYTES,
            fallback: None,
        }
    }

    fn edit(mut self, edit: impl FnOnce(&mut Template) -> Result<(), Error>) -> Self {
        if let Ok(template) = &mut self.template
            && let Err(error) = edit(template)
        {
            self.template = Err(error);
        }
        self
    }

    /// The connector: time limits, proxies, TLS. Default: [`Connector::default`].
    pub fn connector(mut self, connector: Connector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// The method. Default GET.
    ///
    /// A method that is not idempotent, such as POST, is sent again only when the first request was
    /// certainly not carried out; see [`repeat_unsafe`](Self::repeat_unsafe).
    pub fn method(self, method: Method) -> Self {
        self.edit(|template| {
            template.method = method;
            Ok(())
        })
    }

    /// Adds a header to every request, replacing those of the same name.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.edit(|template| {
            let name = name
                .try_into()
                .map_err(|_| Error::config("bad header name"))?;
            let value = value
                .try_into()
                .map_err(|_| Error::config(format!("bad value for header {name}")))?;
            template.headers.insert(name, value);
            Ok(())
        })
    }

    /// Adds headers to every request, replacing those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.edit(|template| {
            template.headers.extend(headers);
            Ok(())
        })
    }

    /// Adds a header that is never sent to another origin, like `Authorization` and `Cookie`.
    pub fn sensitive_header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.edit(|template| {
            let name = name
                .try_into()
                .map_err(|_| Error::config("bad header name"))?;
            let mut value: HeaderValue = value
                .try_into()
                .map_err(|_| Error::config(format!("bad value for header {name}")))?;
            value.set_sensitive(true);
            template.headers.insert(name.clone(), value);
            template.sensitive.push(name);
            Ok(())
        })
    }

    /// Sends `Authorization: Bearer` with this token. For one that expires see
    /// [`credentials`](Self::credentials).
    pub fn bearer(self, token: &str) -> Self {
        self.edit(|template| {
            let header =
                crate::credentials::bearer(token).map_err(|_| Error::config("bad bearer token"))?;
            template.headers.extend(header);
            Ok(())
        })
    }

    /// Asks `provider` for headers before every attempt, and once more after a 401 or 403.
    pub fn credentials(mut self, provider: impl Credentials) -> Self {
        self.credentials = Some(Box::new(provider));
        self
    }

    /// The body of every request. Bytes, because it is sent again on every reconnect.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.edit(|template| {
            template.body = body.into();
            Ok(())
        })
    }

    /// A JSON body, its `Content-Type`, and POST as the method: how APIs of language models are asked.
    pub fn json<T: Serialize + ?Sized>(self, body: &T) -> Self {
        self.edit(|template| {
            let body =
                serde_json::to_vec(body).map_err(|error| Error::config(error.to_string()))?;
            template.body = body.into();
            template.method = Method::POST;
            template
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(())
        })
    }

    /// Subscribes to a topic of the hub: adds `topic=` to the query. May be called several times.
    pub fn topic(self, topic: &str) -> Self {
        self.edit(|template| {
            template.url.query_pairs_mut().append_pair("topic", topic);
            Ok(())
        })
    }

    /// Subscribes to event types of the hub: adds `subscribe=` to the query, separated by commas.
    pub fn subscribe<I>(self, event_types: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let types: Vec<_> = event_types
            .into_iter()
            .map(|t| t.as_ref().to_owned())
            .collect();
        self.edit(|template| {
            template
                .url
                .query_pairs_mut()
                .append_pair("subscribe", &types.join(","));
            Ok(())
        })
    }

    /// Resumes after this event. A position from a [store](Self::position) wins.
    pub fn last_event_id(mut self, id: impl AsRef<str>) -> Self {
        match EventId::new(id.as_ref()) {
            Ok(id) => {
                self.last_event_id = Some(id);
                self
            }
            Err(error) => self.edit(|_| Err(Error::config(error.to_string()))),
        }
    }

    /// Keeps the position in `store`: [`build`](Self::build) loads it, and reading the source saves it.
    pub fn position(mut self, store: impl PositionStore) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// The shortest time between two saves of the position. Default 1 s.
    ///
    /// After a crash, the events of this time come again.
    pub fn save_interval(mut self, interval: Duration) -> Self {
        self.save_interval = interval;
        self
    }

    /// Leaves out events whose own id is among the latest `ids`. Off by default.
    pub fn dedupe(mut self, ids: usize) -> Self {
        self.dedupe = Some(ids);
        self
    }

    /// [`Mode::Resilient`] (default) or [`Mode::Standard`]. The mode also decides how far delays are spread, whatever
    /// the [policy](Self::reconnect).
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// When and how often to try again. Default: that of the [mode](Self::mode).
    pub fn reconnect(mut self, policy: ReconnectPolicy) -> Self {
        self.reconnect = Some(policy);
        self
    }

    /// How redirects are treated.
    pub fn redirects(mut self, policy: RedirectPolicy) -> Self {
        self.redirects = policy;
        self
    }

    /// Sends requests that are not idempotent again although they may have been carried out. A repeated POST
    /// to a language model costs as much as the first.
    pub fn repeat_unsafe(mut self) -> Self {
        self.repeat_unsafe = true;
        self
    }

    /// Gives a connection up when nothing, not even a comment, arrived for this long. Default 45 s: a
    /// hub's heartbeat comes every 30 s at the latest. Time in which the consumer does not read does not
    /// count.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Never gives up a connection because it is silent.
    pub fn no_idle_timeout(mut self) -> Self {
        self.idle_timeout = None;
        self
    }

    /// How long lines and events may be. Default 16 MiB each.
    ///
    /// A larger event is dropped and told by [`Notice::Dropped`](crate::Notice::Dropped), and the source goes on behind
    /// it. [`Error::Impassable`] ends the source when that is not possible.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Does not ask for compressed content.
    pub fn no_compression(self) -> Self {
        self.edit(|template| {
            template.decode_content = false;
            Ok(())
        })
    }

    /// How many bytes may come out of each byte of compressed content before it is treated as a decompression bomb.
    /// Default 400; the first MiB is free.
    pub fn max_compression_ratio(mut self, ratio: u32) -> Self {
        self.max_ratio = ratio.max(1);
        self
    }

    /// How much of the body of a refusal is kept in the error. Default 8 KiB.
    pub fn error_body_limit(mut self, bytes: usize) -> Self {
        self.error_body_limit = bytes;
        self
    }

    /// Polls when streams fail repeatedly, or are refused for good. Off by default.
    pub fn poll_fallback(mut self, fallback: PollFallback) -> Self {
        self.fallback = Some(fallback);
        self
    }

    /// Checks everything and loads the stored position. Nothing is connected before the source is polled.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for the first thing that cannot work, [`Error::Position`] when a stored position
    /// cannot be read.
    pub fn build(self) -> Result<EventSource, Error> {
        let template = self.template?;
        let (mode_policy, spread) = match self.mode {
            Mode::Resilient => (ReconnectPolicy::default(), Spread::Full),
            Mode::Standard => (ReconnectPolicy::standard(), Spread::Tenth),
        };
        let policy = ReconnectPolicy {
            spread,
            ..self.reconnect.unwrap_or(mode_policy)
        };
        let mut keeper = Keeper::new(self.store, self.save_interval);
        let stored = keeper.load().map_err(|source| Error::Position {
            source: std::sync::Arc::from(source),
        })?;
        let fallback = self.fallback.as_ref().map(PollFallback::policy);
        let poll_plan = self
            .fallback
            .map(|fallback| fallback.plan(&template.url, self.limits))
            .transpose()?;
        Ok(EventSource::from_parts(Parts {
            machine: Machine::new(policy, fallback, clock::now()),
            poll_plan,
            limits: self.limits,
            last_event_id: stored.or(self.last_event_id),
            keeper,
            dedupe: self.dedupe.map(Dedupe::new),
            idle_timeout: self.idle_timeout,
            plan: Plan {
                template,
                connector: self.connector.unwrap_or_default(),
                credentials: self.credentials,
                redirects: self.redirects,
                mode: self.mode,
                repeat_unsafe: self.repeat_unsafe,
                error_body_limit: self.error_body_limit,
                max_ratio: self.max_ratio,
            },
        }))
    }
}

/// A hub's heartbeat comes every 30 s; half as long again allows for a late one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// A crash repeats the events of one second; a stated guess.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Enough for a problem document or an API's error.
const ERROR_BODY_LIMIT_BYTES: usize = 8 * 1024;
