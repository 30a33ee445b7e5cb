//! Credentials, asked for before every attempt.

use std::future::Future;
use std::pin::Pin;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, StatusCode};

/// The error of a provider that has no credentials.
pub type CredentialsError = Box<dyn std::error::Error + Send + Sync>;

/// The future of one attempt's headers.
pub type CredentialsFuture<'a> =
    Pin<Box<dyn Future<Output = Result<HeaderMap, CredentialsError>> + Send + 'a>>;

/// Gives the headers that identify the client: a bearer token, a cookie.
///
/// It is asked before every attempt, so a token may expire while a stream is open. When the server
/// answers 401 or 403, it is asked once more with [`Ask::refused`] set, and the request is sent again with
/// what it gave; a second refusal is final. What it gives is never sent to another origin.
///
/// A function that returns a future is a provider:
///
/// ```
/// use sse_client::{EventSource, bearer};
///
/// let events = EventSource::builder("https://hub.example/events")
///     .credentials(|ask: sse_client::Ask| async move {
///         let token = if ask.refused.is_some() { "renewed" } else { "cached" };
///         Ok(bearer(token)?)
///     })
///     .build()?;
/// # Ok::<(), sse_client::Error>(())
/// ```
pub trait Credentials: Send + Sync + 'static {
    /// The headers for the next request.
    fn headers(&self, ask: Ask) -> CredentialsFuture<'_>;
}

/// What is known when credentials are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// The status with which the previous credentials were refused within this attempt: 401 or 403.
    pub refused: Option<StatusCode>,
}

impl<F, Fut> Credentials for F
where
    F: Fn(Ask) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<HeaderMap, CredentialsError>> + Send + 'static,
{
    fn headers(&self, ask: Ask) -> CredentialsFuture<'_> {
        Box::pin(self(ask))
    }
}

/// The `Authorization` header for a bearer token, marked as sensitive.
///
/// # Errors
///
/// When the token has characters that no header can carry.
pub fn bearer(token: &str) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}
