//! The site that a request is for, as far as the request and its connection tell.

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Request, header};

use crate::access::forwarded_hosts;

/// The host that a request is for, and whether browsers reach it by HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Site {
    /// Its `Host` header, or the authority of HTTP/2 and absolute targets.
    pub(in crate::http) host: Option<String>,
    /// It came over TLS, or a proxy says so. Anyone may say so: then fewer pages are its own.
    pub(super) is_https: bool,
}

/// Among a request's extensions: it came over TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverTls;

impl Site {
    pub(in crate::http) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let named = headers
            .get(header::HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let told = headers.get(FORWARDED_PROTO);
        Self {
            host: named.or_else(|| request.uri().authority().map(ToString::to_string)),
            is_https: request.extensions().get::<OverTls>().is_some()
                || told.is_some_and(|told| told.as_bytes().eq_ignore_ascii_case(b"https")),
        }
    }

    /// Whether pages that came by this scheme may be its own.
    pub(super) fn may_have(&self, scheme: &str) -> bool {
        !self.is_https || scheme.eq_ignore_ascii_case(Scheme::HTTPS.as_str())
    }
}

/// The hosts that a proxy says its client has named, whoever says it.
pub(super) fn told_hosts(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let listed = headers
        .get_all(FORWARDED_HOST)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|host| String::from_utf8_lossy(host.trim_ascii()).into_owned());
    let lines = headers.get_all(header::FORWARDED).into_iter();
    let elements = lines.flat_map(|value| forwarded_hosts(value.as_bytes()));
    listed.chain(elements)
}

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
