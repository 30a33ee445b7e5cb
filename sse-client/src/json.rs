//! A JSON document from a hub that is fetched repeatedly: statistics, health.

use std::fmt;

use bytes::BytesMut;
use http::HeaderMap;
use serde_json::Value;

use crate::attempt::{Answer, Plan, read_into};
use crate::content::DEFAULT_MAX_RATIO;
use crate::error::Error;
use crate::redirect::RedirectPolicy;
use crate::request::Template;
use crate::transport::Connector;
use crate::verdict::Mode;

/// A JSON document behind a URL: a hub's statistics, a job.
///
/// ```no_run
/// # async fn example() -> Result<(), sse_client::Error> {
/// use sse_client::{Connector, JsonDocument, http::HeaderMap};
///
/// let url = "http://127.0.0.1:8080/events/stats";
/// let mut stats = JsonDocument::new(url, Connector::default(), HeaderMap::new())?;
/// println!("{}", stats.get().await?["connections"]);
/// # Ok(())
/// # }
/// ```
pub struct JsonDocument {
    plan: Plan,
}

impl JsonDocument {
    /// A document at `url`, requested with these headers. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `url` is not an http or https URL.
    pub fn new(url: &str, connector: Connector, headers: HeaderMap) -> Result<Self, Error> {
        let mut template = Template::new(url, "application/json")?;
        template.headers.extend(headers);
        Ok(Self {
            plan: Plan {
                template,
                connector,
                credentials: None,
                redirects: RedirectPolicy::none(),
                mode: Mode::Standard,
                repeat_unsafe: false,
                error_body_limit: MAX_ERROR_BYTES,
                max_ratio: DEFAULT_MAX_RATIO,
            },
        })
    }

    /// Fetches it once.
    ///
    /// # Errors
    ///
    /// When there is no connection, the status is not 200, or the body is not JSON or larger than 4 MiB.
    pub async fn get(&mut self) -> Result<Value, Error> {
        let limit = self.plan.connector.header_timeout();
        let template = &self.plan.template;
        let answer = self
            .plan
            .exchange(template, "application/json", None, limit)
            .await;
        let Answer::Stream(stream) = answer.map_err(|failure| failure.error)? else {
            return Err(Error::Answer {
                reason: "it is empty".to_owned(),
            });
        };
        let mut text = BytesMut::new();
        let reading = read_into(stream.body, stream.content, MAX_BYTES, &mut text);
        match tokio::time::timeout(limit, reading).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                return Err(Error::Answer {
                    reason: "it is too long".to_owned(),
                });
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::Idle { limit }),
        }
        serde_json::from_slice(&text).map_err(|error| Error::Answer {
            reason: error.to_string(),
        })
    }
}

impl fmt::Debug for JsonDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonDocument")
            .field("template", &self.plan.template)
            .finish_non_exhaustive()
    }
}

const MAX_BYTES: usize = 4 * 1024 * 1024;
const MAX_ERROR_BYTES: usize = 8 * 1024;
