//! The request of every attempt: method, URL, headers, body.
//!
//! A request is repeated on every reconnect, so its body is bytes, which can be sent any number of times;
//! a stream that can be read only once does not fit the type.

use std::fmt;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use sse_protocol::EventId;
use url::Url;

use crate::error::Error;
use crate::redirect::Hop;

/// The body of every request this crate sends.
pub(crate) type Body = Full<Bytes>;

/// The request as the caller described it.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) url: Url,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Headers that are never sent to another origin, besides the well-known ones.
    pub(crate) sensitive: Vec<HeaderName>,
    /// Whether to ask for compressed content.
    pub(crate) decode_content: bool,
    pub(crate) accept: HeaderValue,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and body may hold secrets.
        f.debug_struct("Template")
            .field("method", &self.method)
            .field("url", &self.url.as_str())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Checks `url` and moves a user name and password in it into a header, so that they appear in no log.
    pub(crate) fn new(url: &str, accept: &'static str) -> Result<Self, Error> {
        let mut url =
            Url::parse(url).map_err(|error| Error::config(format!("{error}: {url:?}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::config(format!(
                "{:?} is not an http or https URL",
                url.as_str()
            )));
        }
        url.set_fragment(None);
        let mut headers = HeaderMap::new();
        if !url.username().is_empty() || url.password().is_some() {
            headers.insert(AUTHORIZATION, basic(&url)?);
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        Ok(Self {
            url,
            method: Method::GET,
            headers,
            body: Bytes::new(),
            sensitive: Vec::new(),
            decode_content: true,
            accept: HeaderValue::from_static(accept),
        })
    }

    /// The first hop of an attempt: always the original URL.
    pub(crate) fn first_hop(&self) -> Hop {
        Hop::first(self.url.clone(), self.method.clone())
    }

    /// The request for `hop`. `credentials` are added on the original origin only; `absolute` asks for the
    /// absolute form, as a forwarding proxy and HTTP/2 want it.
    pub(crate) fn request(
        &self,
        hop: &Hop,
        last_event_id: Option<&EventId>,
        credentials: &HeaderMap,
        absolute: bool,
    ) -> Result<Request<Body>, Error> {
        let uri = if absolute {
            hop.url.as_str()
        } else {
            origin_form(&hop.url)
        };
        let uri: Uri = uri
            .parse()
            .map_err(|_| Error::config(format!("cannot ask for {uri:?}")))?;
        let body = if hop.with_body {
            self.body.clone()
        } else {
            Bytes::new()
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.entry(ACCEPT).or_insert_with(|| self.accept.clone());
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        if self.decode_content
            && let Some(codings) = crate::content::accept_encoding()
        {
            headers
                .entry(ACCEPT_ENCODING)
                .or_insert(HeaderValue::from_static(codings));
        }
        if !hop.with_body {
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
                headers.remove(name);
            }
        }
        if hop.foreign {
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
                headers.remove(name);
            }
            for name in &self.sensitive {
                headers.remove(name);
            }
        } else {
            for (name, value) in credentials {
                headers.insert(name, value.clone());
            }
        }
        headers.insert(HOST, host(&hop.url)?);
        headers.remove(LAST_EVENT_ID);
        if hop.share_position
            && let Some(value) = last_event_id.and_then(header_value)
        {
            headers.insert(LAST_EVENT_ID, value);
        }
        Ok(request)
    }
}

/// The id as a header value: its raw UTF-8 bytes. `None` for the empty id, which is never sent, for one with
/// control characters, which no header can carry, and for one so long that servers refuse the request.
pub(crate) fn header_value(id: &EventId) -> Option<HeaderValue> {
    let text = id.as_str();
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return None;
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// Path and query.
fn origin_form(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn host(url: &Url) -> Result<HeaderValue, Error> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    HeaderValue::from_str(authority).map_err(|_| Error::config(format!("bad host {authority:?}")))
}

fn basic(url: &Url) -> Result<HeaderValue, Error> {
    use base64::Engine as _;
    let user = percent_decode_str(url.username()).collect::<Vec<u8>>();
    let password = percent_decode_str(url.password().unwrap_or_default()).collect::<Vec<u8>>();
    let pair = [user, vec![b':'], password].concat();
    let text = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    );
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| Error::config("bad user name or password"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Servers take heads of 8 KiB at least, and there are other headers.
const MAX_ID_BYTES: usize = 4096;

pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const AGENT: &str = concat!("sse-client/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::RedirectPolicy;
    use http::StatusCode;
    use http::header::LOCATION;

    fn template() -> Template {
        let mut template =
            Template::new("http://me:p%40ss@hub:8080/e?a=1#frag", "text/event-stream").unwrap();
        template
            .headers
            .insert("x-key", HeaderValue::from_static("secret"));
        template
            .headers
            .insert("x-plain", HeaderValue::from_static("plain"));
        template.sensitive.push(HeaderName::from_static("x-key"));
        template
    }

    fn id(text: &str) -> EventId {
        EventId::new(text).unwrap()
    }

    fn hop_to(template: &Template, location: &'static str) -> Hop {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static(location));
        RedirectPolicy::default()
            .follow(&template.first_hop(), StatusCode::FOUND, &headers)
            .unwrap()
    }

    #[test]
    fn the_first_request_has_what_an_event_source_sends() {
        let template = template();
        let none = HeaderMap::new();
        let request = template
            .request(&template.first_hop(), Some(&id("7-ü")), &none, false)
            .unwrap();
        assert_eq!(request.uri(), "/e?a=1");
        let headers = request.headers();
        assert_eq!(headers[ACCEPT], "text/event-stream");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers[HOST], "hub:8080");
        assert_eq!(headers[AUTHORIZATION], "Basic bWU6cEBzcw==");
        assert_eq!(headers[LAST_EVENT_ID].as_bytes(), "7-ü".as_bytes());
        assert!(!format!("{template:?}").contains("p@ss"));
    }

    #[test]
    fn an_empty_or_unsendable_id_is_left_out() {
        let template = template();
        for unsendable in ["", "a\u{1}b", "\u{7f}", &"x".repeat(5000)] {
            let request = template.request(
                &template.first_hop(),
                Some(&id(unsendable)),
                &HeaderMap::new(),
                false,
            );
            assert!(
                !request.unwrap().headers().contains_key(LAST_EVENT_ID),
                "{unsendable:?}"
            );
        }
    }

    #[test]
    fn secrets_and_the_position_stay_at_home() {
        let template = template();
        let mut credentials = HeaderMap::new();
        credentials.insert("x-token", HeaderValue::from_static("t"));
        let hop = hop_to(&template, "http://elsewhere/e");
        let request = template
            .request(&hop, Some(&id("7")), &credentials, false)
            .unwrap();
        for name in ["authorization", "x-key", "x-token", "last-event-id"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
        assert_eq!(request.headers()["x-plain"], "plain");
        let hop = hop_to(&template, "/other");
        let request = template
            .request(&hop, Some(&id("7")), &credentials, true)
            .unwrap();
        for name in ["authorization", "x-key", "x-token", "last-event-id"] {
            assert!(request.headers().contains_key(name), "{name}");
        }
        assert_eq!(request.uri(), "http://hub:8080/other");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for bad in ["", "hub", "ftp://hub/", "file:///x", "http://"] {
            assert!(Template::new(bad, "*/*").is_err(), "{bad:?}");
        }
    }
}
