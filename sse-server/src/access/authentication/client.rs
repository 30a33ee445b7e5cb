//! Asking other servers over HTTP: the application, and whoever publishes keys. It follows no redirect, uses no proxy, and reads no more than an answer may have.

use std::error::Error as _;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;
use url::Url;

use super::application::{Answer, InvalidApplication, Question};

/// Asks at one URL, over connections that it keeps open.
#[derive(Debug)]
pub(super) struct Client {
    uri: Uri,
    http: legacy::Client<Connector, Empty<Bytes>>,
}

impl Client {
    pub(super) fn new(url: &Url) -> Result<Self, InvalidApplication> {
        let wrong = |reason: &str| InvalidApplication(format!("{url}: {reason}"));
        if !url.username().is_empty() || url.password().is_some() {
            // Not shown: it holds a secret.
            return Err(InvalidApplication(
                "the URL holds a user name, which is never sent; leave it out".to_owned(),
            ));
        }
        if url.fragment().is_some() {
            return Err(wrong("a fragment (#) is never sent; leave it out"));
        }
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|_| wrong("its host cannot be in a certificate"))?;
                let provider = Arc::new(aws_lc_rs::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .and_then(|builder| builder.with_platform_verifier())
                    .map_err(|error| wrong(&error.to_string()))?;
                let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
                Some((connector, name))
            }
            _ => return Err(wrong("write a URL that begins with http:// or https://")),
        };
        let uri = Uri::try_from(url.as_str()).map_err(|error| wrong(&error.to_string()))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(Connector { tcp, tls });
        Ok(Self { uri, http })
    }

    /// Gets what is there, and for how long its `Cache-Control` lets it be kept; the reason when that does not work.
    pub(super) async fn get(&self) -> Result<(Bytes, Option<Duration>), String> {
        let response = self.http.request(self.bare_request()).await;
        let response = response.map_err(|error| chain(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        let kept = response.headers().get(header::CACHE_CONTROL);
        let kept = kept.and_then(|value| max_age(value.to_str().ok()?));
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(|error| {
            format!("its answer cannot be read, or has more than {MAX_ANSWER_BYTES} bytes: {error}")
        })?;
        Ok((body.to_bytes(), kept))
    }

    /// Asks; the reason when no answer comes.
    pub(super) async fn ask(&self, question: Question) -> Result<Answer, String> {
        let mut response = self.http.request(self.request(&question)).await;
        // The connection was kept open, and the application had just let go of it.
        if response.as_ref().is_err_and(is_cut) {
            response = self.http.request(self.request(&question)).await;
        }
        let response = response.map_err(|error| chain(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Ok(Answer {
                status,
                body: Bytes::new(),
            });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(|error| {
            format!("its answer cannot be read, or has more than {MAX_ANSWER_BYTES} bytes: {error}")
        })?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }

    fn bare_request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("sse-server/", env!("CARGO_PKG_VERSION"))),
        );
        request
    }

    fn request(&self, question: &Question) -> Request<Empty<Bytes>> {
        let mut request = self.bare_request();
        let headers = request.headers_mut();
        let address = HeaderValue::try_from(question.address.to_string()).ok();
        for (name, value) in [
            (header::AUTHORIZATION.as_str(), &question.authorization),
            (header::COOKIE.as_str(), &question.cookies),
            ("x-forwarded-for", &address),
            ("x-original-method", &Some(question.method.clone())),
            ("x-original-uri", &Some(question.target.clone())),
        ] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        request
    }
}

/// How long an answer may be kept (RFC 9111, section 5.2.2): not at all with `no-store` or `no-cache`.
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut age = None;
    for directive in cache_control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse().ok();
                age = seconds.map(Duration::from_secs);
            }
            _ => {}
        }
    }
    age
}

/// Whether a connection ended before there was any of an answer.
fn is_cut(error: &legacy::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(hyper::Error::is_incomplete_message)
}

/// An error with its causes: the last one often says what is wrong.
fn chain(error: &legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Opens connections, encrypted where the URL says so.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Socket, Cause>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        self.tcp.poll_ready(context).map_err(Cause::from)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.tcp.call(uri);
        let tls = self.tls.clone();
        Box::pin(async move {
            let tcp = tcp.await?;
            let Some((connector, name)) = tls else {
                return Ok(Socket::Plain(tcp));
            };
            let encrypted = connector.connect(name, tcp.into_inner()).await?;
            Ok(Socket::Encrypted(Box::new(TokioIo::new(encrypted))))
        })
    }
}

/// A connection to who is asked.
enum Socket {
    Plain(TokioIo<TcpStream>),
    Encrypted(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Encrypted(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Encrypted(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Encrypted(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Encrypted(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

/// The largest answer: more than 256 grants with long names need.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// The largest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long an unused connection stays open: shorter than most servers leave theirs.
const POOL_IDLE: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_may_be_kept() {
        let seconds = |text| max_age(text).map(|age| age.as_secs());
        for (text, expected) in [
            ("public, max-age=600", Some(600)),
            ("MAX-AGE=\"5\"", Some(5)),
            ("max-age=600, no-store", Some(0)),
            ("no-cache", Some(0)),
            ("max-age=x", None),
            ("max-age=-1", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_without_its_secret() {
        for (url, said) in [
            ("ftp://a/", "http:// or https://"),
            ("http://u:hunter2@a/", "user name"),
            ("https://a/#b", "fragment"),
        ] {
            let error = Client::new(&url.parse().unwrap()).unwrap_err().to_string();
            assert!(
                error.contains(said) && !error.contains("hunter2"),
                "{error}"
            );
        }
        for url in [
            "http://a",
            "http://[::1]:80/x?y",
            "https://127.0.0.1/",
            "https://[::1]/",
        ] {
            Client::new(&url.parse().unwrap()).unwrap();
        }
    }
}
