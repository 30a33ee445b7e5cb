//! One attempt: credentials, connection, request, redirects, and what the answer means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sse_protocol::EventId;
use url::Url;

use crate::content::{ContentDecoder, ContentError};
use crate::credentials::{Ask, Credentials};
use crate::error::{Error, Refusal};
use crate::machine::Repair;
use crate::redirect::{Hop, RedirectPolicy};
use crate::request::Template;
use crate::retry_after::retry_after;
use crate::transport::{Connection, Connector};
use crate::verdict::{Mode, Remedy, Verdict, is_repeatable, judge};

/// What every attempt of one source needs.
pub(crate) struct Plan {
    pub(crate) template: Template,
    pub(crate) connector: Connector,
    pub(crate) credentials: Option<Box<dyn Credentials>>,
    pub(crate) redirects: RedirectPolicy,
    pub(crate) mode: Mode,
    /// Whether a request that is not idempotent may be sent again after it may have been carried out.
    pub(crate) repeat_unsafe: bool,
    pub(crate) error_body_limit: usize,
    pub(crate) max_ratio: u32,
}

/// How an attempt ended well.
pub(crate) enum Answer {
    /// A stream.
    Stream(Box<Stream>),
    /// 204.
    NoContent,
}

/// An open stream.
pub(crate) struct Stream {
    pub(crate) url: Url,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) content: ContentDecoder,
    /// Keeps the connection alive; the socket closes with it.
    pub(crate) _connection: Connection,
}

/// How an attempt ended badly.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) repair: Repair,
}

impl Failure {
    fn hopeless(error: impl Into<Error>) -> Self {
        Self {
            error: error.into(),
            repair: Repair::Hopeless,
        }
    }

    fn retry(error: Error) -> Self {
        Self {
            error,
            repair: Repair::Retry { after: None },
        }
    }
}

impl Plan {
    /// What may be done when the request may have been carried out already.
    pub(crate) fn repair_after_sending(&self) -> Repair {
        if self.repeat_unsafe || is_repeatable(&self.template.method) {
            Repair::Retry { after: None }
        } else {
            Repair::Final
        }
    }

    /// Asks for the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub(crate) async fn open(&self, last_event_id: Option<EventId>) -> Result<Answer, Failure> {
        let limit = self.connector.header_timeout();
        self.exchange(&self.template, EVENT_STREAM, last_event_id.as_ref(), limit)
            .await
    }

    /// Sends a request, follows redirects, renews credentials once, until something of the type `wanted`
    /// comes.
    pub(crate) async fn exchange(
        &self,
        template: &Template,
        wanted: &str,
        last_event_id: Option<&EventId>,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let mut refused = None;
        let mut credentials = self.ask(refused).await?;
        let mut hop = template.first_hop();
        loop {
            let mut connection = self
                .connector
                .connect(&hop.url)
                .await
                .map_err(Failure::retry)?;
            let absolute = connection.wants_absolute_form();
            let request = template
                .request(&hop, last_event_id, &credentials, absolute)
                .map_err(Failure::hopeless)?;
            let response = connection
                .send(request, limit)
                .await
                .map_err(|error| Failure {
                    error,
                    repair: self.repair_after_sending(),
                })?;
            let (status, headers) = (response.status(), response.headers());
            match judge(status, headers, wanted, self.mode, &hop.method) {
                Verdict::Open => return self.accept(hop, response, connection),
                Verdict::NoContent => return Ok(Answer::NoContent),
                Verdict::Redirect => {
                    hop = self
                        .redirects
                        .follow(&hop, status, headers)
                        .map_err(Failure::hopeless)?;
                    tracing::debug!(url = %hop.url, status = status.as_u16(), "redirected");
                }
                Verdict::WrongType => {
                    let refusal = self.refusal(hop, response).await;
                    return Err(Failure::hopeless(Error::ContentType(refusal)));
                }
                Verdict::Refused(Remedy::Refresh)
                    if self.credentials.is_some() && refused.is_none() && !hop.foreign =>
                {
                    refused = Some(status);
                    credentials = self.ask(refused).await?;
                    hop = template.first_hop();
                }
                Verdict::Refused(remedy) => {
                    let after = retry_after(headers, SystemTime::now());
                    let error = Error::Status(self.refusal(hop, response).await);
                    let repair = match remedy {
                        Remedy::Wait => Repair::Retry { after },
                        Remedy::Refresh | Remedy::None => Repair::Hopeless,
                    };
                    return Err(Failure { error, repair });
                }
            }
        }
    }

    async fn ask(&self, refused: Option<StatusCode>) -> Result<HeaderMap, Failure> {
        let Some(credentials) = &self.credentials else {
            return Ok(HeaderMap::new());
        };
        let asked = credentials.headers(Ask { refused }).await;
        asked.map_err(|source| {
            Failure::retry(Error::Credentials {
                source: Arc::from(source),
            })
        })
    }

    fn accept(
        &self,
        hop: Hop,
        response: Response<Incoming>,
        connection: Connection,
    ) -> Result<Answer, Failure> {
        let (head, body) = response.into_parts();
        let content =
            ContentDecoder::new(&head.headers, self.max_ratio).map_err(Failure::hopeless)?;
        Ok(Answer::Stream(Box::new(Stream {
            url: hop.url,
            version: head.version,
            headers: head.headers,
            body,
            content,
            _connection: connection,
        })))
    }

    async fn refusal(&self, hop: Hop, response: Response<Incoming>) -> Arc<Refusal> {
        let (head, body) = response.into_parts();
        let body = match ContentDecoder::new(&head.headers, self.max_ratio) {
            Ok(content) => read_some(body, content, self.error_body_limit).await,
            Err(_) => Bytes::new(),
        };
        Arc::new(Refusal {
            url: hop.url,
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

/// The beginning of a body: at most `limit` bytes, and for [`ERROR_BODY_TIME`] at most.
pub(crate) async fn read_some(body: Incoming, content: ContentDecoder, limit: usize) -> Bytes {
    let mut text = BytesMut::new();
    let _ = tokio::time::timeout(ERROR_BODY_TIME, read_into(body, content, limit, &mut text)).await;
    text.freeze()
}

/// Reads until the body or the limit ends; what came before an error stays in `text`. Says whether all of
/// the body was read.
pub(crate) async fn read_into(
    mut body: Incoming,
    mut content: ContentDecoder,
    limit: usize,
    text: &mut BytesMut,
) -> Result<bool, Error> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::transport)?.into_data() else {
            continue;
        };
        content.push(data);
        while let Some(chunk) = content.next_chunk()? {
            let room = limit - text.len();
            text.extend_from_slice(&chunk[..room.min(chunk.len())]);
            if chunk.len() > room {
                return Ok(false);
            }
        }
    }
    content
        .finish()
        .map_err(|error: ContentError| Error::from(error))?;
    Ok(true)
}

const EVENT_STREAM: &str = sse_protocol::media::EVENT_STREAM;

/// An error is reported although its body does not come.
const ERROR_BODY_TIME: Duration = Duration::from_secs(3);
