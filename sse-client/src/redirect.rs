//! Which redirects are followed, and what is not sent along.
//!
//! A redirect may move a request to another server, so what was meant for the first one is dropped as soon as
//! scheme, host or port change: the `Authorization`, `Cookie` and `Proxy-Authorization` headers, those the caller
//! marked, everything from the credentials' provider, and the resume position, which can be a secret as well. It is
//! not sent again when a later hop leads back.
//!
//! Every attempt starts from the original URL, as the standard has it: nothing is remembered.

use http::header::{HeaderValue, LOCATION};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// How redirects are treated.
///
/// ```
/// use sse_client::RedirectPolicy;
///
/// let none = RedirectPolicy::none();
/// let usual = RedirectPolicy::default().limit(5);
/// assert_ne!(none, usual);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RedirectPolicy {
    limit: u32,
    allow_downgrade: bool,
    share_position: bool,
}

impl Default for RedirectPolicy {
    fn default() -> Self {
        Self {
            limit: LIMIT,
            allow_downgrade: false,
            share_position: false,
        }
    }
}

impl RedirectPolicy {
    /// Follows no redirect: each is an error.
    pub fn none() -> Self {
        Self::default().limit(0)
    }

    /// How many hops one attempt may take. Default 10.
    pub fn limit(mut self, hops: u32) -> Self {
        self.limit = hops;
        self
    }

    /// Also follows from https to http, which anyone on the way can read and change.
    pub fn allow_downgrade(mut self) -> Self {
        self.allow_downgrade = true;
        self
    }

    /// Sends `Last-Event-ID` to other origins too.
    pub fn share_position(mut self) -> Self {
        self.share_position = true;
        self
    }

    /// Where `status` with these headers leads from `hop`.
    pub(crate) fn follow(
        &self,
        hop: &Hop,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Hop, RedirectError> {
        if hop.count >= self.limit {
            return Err(RedirectError::TooMany { limit: self.limit });
        }
        let location = headers
            .get(LOCATION)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        if location.is_empty() {
            return Err(RedirectError::NoLocation);
        }
        let location = String::from_utf8_lossy(location);
        let mut url = hop
            .url
            .join(&location)
            .map_err(|_| RedirectError::BadLocation {
                location: location.chars().take(200).collect(),
            })?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(RedirectError::BadLocation {
                location: location.chars().take(200).collect(),
            });
        }
        if hop.url.scheme() == "https" && url.scheme() == "http" && !self.allow_downgrade {
            return Err(RedirectError::Downgrade);
        }
        // Credentials in a Location are the redirecting server's idea, not the caller's.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let foreign = hop.foreign || url.origin() != hop.url.origin();
        let becomes_get = match status {
            StatusCode::SEE_OTHER => hop.method != Method::GET && hop.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => hop.method == Method::POST,
            _ => false,
        };
        Ok(Hop {
            url,
            method: if becomes_get {
                Method::GET
            } else {
                hop.method.clone()
            },
            with_body: hop.with_body && !becomes_get,
            foreign,
            share_position: !foreign || self.share_position,
            count: hop.count + 1,
        })
    }
}

/// One request of an attempt: the original one, or one that a redirect led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) url: Url,
    pub(crate) method: Method,
    pub(crate) with_body: bool,
    /// Whether the chain ever left the original origin.
    pub(crate) foreign: bool,
    /// Whether the resume position may be sent along.
    pub(crate) share_position: bool,
    pub(crate) count: u32,
}

impl Hop {
    pub(crate) fn first(url: Url, method: Method) -> Self {
        Self {
            url,
            method,
            with_body: true,
            foreign: false,
            share_position: true,
            count: 0,
        }
    }
}

/// Why a redirect was not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// More hops than allowed: most likely a loop.
    #[error("more than {limit} in a row")]
    TooMany {
        /// The configured limit.
        limit: u32,
    },
    /// A redirect without a `Location`, or with an empty one.
    #[error("the answer has no Location header")]
    NoLocation,
    /// A `Location` that is not an http or https URL.
    #[error("{location:?} is not an http or https URL")]
    BadLocation {
        /// Its beginning.
        location: String,
    },
    /// From https to http.
    #[error("it leads from https to http")]
    Downgrade,
}

/// Whether this status is a redirect that is followed. 300, 304, 305 and 306 are not.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Browsers allow 20, curl 50 when asked to follow; no honest event stream needs more than two or three.
const LIMIT: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(url: &str, method: Method) -> Hop {
        Hop::first(Url::parse(url).unwrap(), method)
    }

    fn follow(hop: &Hop, status: u16, location: &str) -> Result<Hop, RedirectError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        RedirectPolicy::default().follow(hop, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn a_relative_location_stays_at_home_and_keeps_everything() {
        let hop = from("http://hub:8080/a/b?x=1", Method::GET);
        let next = follow(&hop, 307, "../c?y=2").unwrap();
        assert_eq!(next.url.as_str(), "http://hub:8080/c?y=2");
        assert!(!next.foreign && next.share_position);
    }

    #[test]
    fn another_scheme_host_or_port_is_foreign_and_stays_foreign() {
        for elsewhere in ["https://hub/", "http://other/", "http://hub:81/"] {
            let next = follow(&from("http://hub/", Method::GET), 302, elsewhere).unwrap();
            assert!(next.foreign && !next.share_position, "{elsewhere}");
            let home = follow(
                &next,
                302,
                if next.url.scheme() == "https" {
                    "https://hub/x"
                } else {
                    "http://hub/"
                },
            );
            assert!(home.unwrap().foreign, "what was dropped does not come back");
        }
        assert!(
            !follow(&from("http://hub/", Method::GET), 302, "http://hub:80/x")
                .unwrap()
                .foreign
        );
    }

    #[test]
    fn the_method_changes_as_browsers_do_it() {
        let post = from("http://hub/", Method::POST);
        for (status, method, body) in [
            (301, Method::GET, false),
            (302, Method::GET, false),
            (303, Method::GET, false),
            (307, Method::POST, true),
            (308, Method::POST, true),
        ] {
            let next = follow(&post, status, "/x").unwrap();
            assert_eq!((next.method, next.with_body), (method, body), "{status}");
        }
        let put = from("http://hub/", Method::PUT);
        assert_eq!(follow(&put, 302, "/x").unwrap().method, Method::PUT);
        assert_eq!(follow(&put, 303, "/x").unwrap().method, Method::GET);
    }

    #[test]
    fn what_cannot_be_followed_is_an_error_and_no_loop() {
        let hop = from("https://hub/", Method::GET);
        let none = RedirectPolicy::default().follow(&hop, StatusCode::FOUND, &HeaderMap::new());
        assert_eq!(none, Err(RedirectError::NoLocation));
        assert_eq!(follow(&hop, 302, ""), Err(RedirectError::NoLocation));
        assert_eq!(
            follow(&hop, 302, "http://hub/"),
            Err(RedirectError::Downgrade)
        );
        assert!(matches!(
            follow(&hop, 302, "file:///etc/passwd"),
            Err(RedirectError::BadLocation { .. })
        ));
        assert!(matches!(
            follow(&hop, 302, "https://[bad"),
            Err(RedirectError::BadLocation { .. })
        ));
        let mut round = hop;
        let mut hops = 0;
        let end = loop {
            match follow(&round, 302, "/again") {
                Ok(next) => round = next,
                Err(error) => break error,
            }
            hops += 1;
        };
        assert_eq!(
            (hops, end),
            (LIMIT, RedirectError::TooMany { limit: LIMIT })
        );
    }

    #[test]
    fn credentials_in_a_location_are_not_taken() {
        let next = follow(&from("http://hub/", Method::GET), 302, "http://a:b@hub/x").unwrap();
        assert_eq!(next.url.as_str(), "http://hub/x");
    }
}
