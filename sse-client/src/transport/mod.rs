//! Connections: dial, proxy, TLS, HTTP/1.1 or HTTP/2.
//!
//! Every attempt makes its own connection; dropping the [`Connection`] closes the socket. There is no pool: a stream
//! occupies its connection for as long as it lives.

mod io;
mod tls;
mod version;

pub use version::HttpVersion;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower_service::Service;
use url::Url;

use crate::error::{Cause, Error};
use crate::request::Body;
use io::{Io, cause, text};

/// How connections are made: time limits, proxies, TLS, the HTTP version.
///
/// Cheap to clone; sources and publishers that share one share its settings and its certificates.
///
/// ```
/// use std::time::Duration;
/// use sse_client::Connector;
///
/// let connector = Connector::builder()
///     .connect_timeout(Duration::from_secs(2))
///     .no_proxy()
///     .build();
/// # let _ = connector;
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connect_timeout: Duration,
    header_timeout: Duration,
    version: HttpVersion,
    proxies: Option<Matcher>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    tls: OnceLock<Result<tls::Config, Cause>>,
}

impl Default for Connector {
    fn default() -> Self {
        Self::builder().build()
    }
}

/// Builds a [`Connector`].
#[derive(Debug)]
#[must_use]
pub struct ConnectorBuilder {
    connect_timeout: Duration,
    header_timeout: Duration,
    version: HttpVersion,
    proxies: Option<Matcher>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl ConnectorBuilder {
    /// The time for name lookup, dialling, proxy and TLS handshake together. Default 5 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The time from the request to the response head. Default 15 s.
    ///
    /// A server sends a stream's head at once, so this is not the time to the first event.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.header_timeout = limit;
        self
    }

    /// The HTTP version. Default [`HttpVersion::Auto`].
    pub fn version(mut self, version: HttpVersion) -> Self {
        self.version = version;
        self
    }

    /// Uses no proxy, even if the environment names one.
    pub fn no_proxy(mut self) -> Self {
        self.proxies = None;
        self
    }

    /// Uses this proxy for every request instead of the environment's.
    pub fn proxy(mut self, proxy: &str) -> Self {
        self.proxies = Some(Matcher::builder().all(proxy.to_owned()).build());
        self
    }

    /// Uses this TLS configuration instead of the platform's certificates: a private authority, a client
    /// certificate. The protocols it names (ALPN) are replaced to fit [`version`](Self::version).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The connector.
    #[must_use]
    pub fn build(self) -> Connector {
        let tls = OnceLock::new();
        #[cfg(feature = "tls")]
        if let Some(config) = self.tls {
            let _ = tls.set(Ok(tls::Config::with(config, self.version)));
        }
        Connector {
            shared: Arc::new(Shared {
                connect_timeout: self.connect_timeout,
                header_timeout: self.header_timeout,
                version: self.version,
                proxies: self.proxies,
                tls,
            }),
        }
    }
}

impl Connector {
    /// A builder with the defaults: proxies as the environment names them (`HTTP_PROXY`, `HTTPS_PROXY`,
    /// `ALL_PROXY`, `NO_PROXY`), the platform's certificates.
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder {
            connect_timeout: CONNECT_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            version: HttpVersion::default(),
            proxies: Some(Matcher::from_env()),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The time from the request to the response head.
    pub(crate) fn header_timeout(&self) -> Duration {
        self.shared.header_timeout
    }

    /// Connects to `url`'s host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what was dialled.
    pub(crate) async fn connect(&self, url: &Url) -> Result<Connection, Error> {
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let limit = self.shared.connect_timeout;
        match tokio::time::timeout(limit, self.dial(url)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(source)) => Err(Error::Connect {
                host: host.to_owned(),
                source,
            }),
            Err(_) => Err(Error::ConnectTimeout {
                host: host.to_owned(),
                limit,
            }),
        }
    }

    async fn dial(&self, url: &Url) -> Result<Connection, Cause> {
        let uri: Uri = url[..url::Position::AfterPath].parse().map_err(cause)?;
        let secure = url.scheme() == "https";
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        let proxy = self
            .shared
            .proxies
            .as_ref()
            .and_then(|proxies| proxies.intercept(&uri));
        let mut forward = None;
        let stream: TcpStream = match proxy {
            None => tcp.call(uri).await.map_err(cause)?.into_inner(),
            Some(proxy) if proxy.uri().scheme_str() != Some("http") => {
                let scheme = proxy.uri().scheme_str().unwrap_or("no").to_owned();
                return Err(text(format!(
                    "a proxy with the scheme {scheme} is not supported, only http"
                )));
            }
            Some(proxy) if secure => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                tunnel.call(uri).await.map_err(cause)?.into_inner()
            }
            Some(proxy) => {
                let stream = tcp
                    .call(proxy.uri().clone())
                    .await
                    .map_err(cause)?
                    .into_inner();
                forward = Some(Forward {
                    auth: proxy.basic_auth().cloned(),
                });
                stream
            }
        };
        if secure {
            let (stream, h2) = self.encrypt(url, stream).await?;
            return handshake(stream, h2, None).await;
        }
        let h2 = self.shared.version == HttpVersion::Http2 && forward.is_none();
        handshake(Box::new(stream), h2, forward).await
    }

    #[cfg(feature = "tls")]
    async fn encrypt(&self, url: &Url, stream: TcpStream) -> Result<(Box<dyn Io>, bool), Cause> {
        let version = self.shared.version;
        let config = self
            .shared
            .tls
            .get_or_init(|| tls::Config::platform(version))
            .as_ref();
        config.map_err(Clone::clone)?.connect(url, stream).await
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async)]
    async fn encrypt(&self, _: &Url, _: TcpStream) -> Result<(Box<dyn Io>, bool), Cause> {
        Err(text(
            "https needs the cargo feature `tls`, which this build lacks".to_owned(),
        ))
    }
}

/// A plain request goes through a proxy that forwards it.
struct Forward {
    auth: Option<HeaderValue>,
}

async fn handshake(
    stream: Box<dyn Io>,
    h2: bool,
    forward: Option<Forward>,
) -> Result<Connection, Cause> {
    let io = TokioIo::new(stream);
    if h2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(H2_WINDOW_BYTES)
            .initial_connection_window_size(H2_WINDOW_BYTES)
            .max_header_list_size(MAX_HEAD_BYTES)
            .handshake(io)
            .await
            .map_err(cause)?;
        let task = tokio::spawn(async move { log_end(connection.await) });
        return Ok(Connection {
            sender: Sender::Http2(sender),
            forward: None,
            _task: Task(task),
        });
    }
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES as usize)
        .handshake(io)
        .await
        .map_err(cause)?;
    let task = tokio::spawn(async move { log_end(connection.await) });
    Ok(Connection {
        sender: Sender::Http1(sender),
        forward,
        _task: Task(task),
    })
}

fn log_end(end: Result<(), hyper::Error>) {
    if let Err(error) = end {
        tracing::trace!(error = %error, "connection ended");
    }
}

/// A connection to one server. Dropping it closes the socket.
pub(crate) struct Connection {
    sender: Sender,
    forward: Option<Forward>,
    _task: Task,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Whether requests need the absolute form of their URL.
    pub(crate) fn wants_absolute_form(&self) -> bool {
        matches!(self.sender, Sender::Http2(_)) || self.forward.is_some()
    }

    /// Whether another request can be sent on it, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Sends the request and waits for the head of the response.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Body>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Error> {
        if let Some(Forward { auth: Some(auth) }) = &self.forward {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, auth.clone());
        }
        let answer = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    // HTTP/2 has no Host header; the authority stands in the URL.
                    request.headers_mut().remove(http::header::HOST);
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(Error::transport),
            Err(_) => Err(Error::HeaderTimeout { limit }),
        }
    }
}

/// Ends the connection's task when dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Three handshakes on a slow mobile network fit; a stated guess.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream's head needs no work; a stated guess.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// The watchdog is quicker; this clears sockets of sources whose watchdog is off.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// What one response head may take, and what is read ahead of the consumer at most.
const MAX_HEAD_BYTES: u32 = 64 * 1024;
/// What HTTP/2 may send ahead of the consumer.
const H2_WINDOW_BYTES: u32 = 256 * 1024;
