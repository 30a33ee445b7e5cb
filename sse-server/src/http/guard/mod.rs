//! Who may talk to the hub from a browser.
//!
//! A page from anywhere can make its visitor's browser send requests to a hub on that visitor's
//! machine. Two rules stop it, for every route alike:
//!
//! * **Host.** A name that an attacker's DNS points at 127.0.0.1 arrives in `Host`. So only IP
//!   addresses, `localhost` and the names that were configured are answered (DNS rebinding).
//! * **Origin.** A browser names the page's origin on every cross-origin request that changes
//!   something, and on every WebSocket handshake. So a request with an `Origin` that is neither the hub's
//!   own nor configured may read nothing (no CORS header), change nothing and open no WebSocket (403).
//!
//! * **Cookies and client certificates.** A browser sends them along whoever made it send the request. So where they show who a
//!   caller is, a request that has them comes from the hub's own origin or from one that is on the list by name, or it is refused (403).
//!
//! A GET that changes something, such as the stream of a named subscription, which ends the stream of its last reader, is told
//! from one that a foreign page makes without an `Origin` (an image, a script) by `Sec-Fetch-Site`, or by `Referer`.

mod host;
mod origin;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

pub use host::{AllowedHost, InvalidHost};
pub use origin::{AllowedOrigin, InvalidOrigin};

use host::RequestHost;
use origin::RequestOrigin;

use super::HttpConfig;
use super::body::Body;
use super::problem::Problem;
use crate::units::Quoted;

/// What the `Origin` of a request lets it do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// None was given, or the hub's own.
    Same,
    /// Another one, which is on the list.
    Allowed(HeaderValue),
    /// Another one, where the list says that any will do: it may do what it can do without cookies.
    Any,
    /// Another one, which is not.
    Foreign,
}

/// Checks the `Host` of a request.
pub(super) fn check_host(
    config: &HttpConfig,
    host: Option<&str>,
    host_headers: usize,
    is_needed: bool,
) -> Result<(), Problem> {
    // RFC 9112, section 3.2: of two, a proxy in front may have looked at the other one.
    if host_headers > 1 {
        return Err(Problem::bad_request(
            "the request has more than one Host header",
        ));
    }
    let Some(host) = host else {
        // RFC 9112, section 3.2. HTTP/1.0 has no Host, and no browser speaks it.
        return match is_needed {
            true => Err(Problem::bad_request("the request has no Host header")),
            false => Ok(()),
        };
    };
    let Some(named) = RequestHost::parse(host) else {
        return Err(Problem::bad_request(format!(
            "the Host header {} is not a host name",
            Quoted(host)
        )));
    };
    let is_known = named.is_local_or_address()
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.allows(&named));
    if is_known {
        Ok(())
    } else {
        let port = named
            .port
            .map_or_else(String::new, |port| format!(" on port {port}"));
        Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this hub does not answer to the host name {}{port}; add it with --allowed-host",
                Quoted(named.name)
            ),
        ))
    }
}

/// Sorts the `Origin` of a request.
pub(super) fn origin(config: &HttpConfig, headers: &HeaderMap, host: Option<&str>) -> Origin {
    let Some(given) = headers.get(header::ORIGIN) else {
        return Origin::Same;
    };
    // `null` is what a sandboxed page sends, wherever it comes from: never a known origin.
    match given
        .to_str()
        .ok()
        .and_then(|text| sort(config, text, host))
    {
        Some(Known::Allowed) => return Origin::Allowed(given.clone()),
        Some(Known::Same) => return Origin::Same,
        None => {}
    }
    if config.allowed_origins.iter().any(AllowedOrigin::is_any) {
        Origin::Any
    } else {
        Origin::Foreign
    }
}

/// An origin that is known: on the list, or the hub's own.
enum Known {
    Allowed,
    Same,
}

fn sort(config: &HttpConfig, origin: &str, host: Option<&str>) -> Option<Known> {
    let origin = RequestOrigin::parse(origin)?;
    let mut listed = config.allowed_origins.iter();
    if listed.any(|allowed| allowed.is(&origin)) {
        return Some(Known::Allowed);
    }
    let host = host.and_then(RequestHost::parse)?;
    origin.is_of(&host).then_some(Known::Same)
}

/// Refuses what a foreign page must not do.
pub(super) fn check_origin(origin: &Origin, method: &Method) -> Result<(), Problem> {
    match origin {
        Origin::Foreign if *method != Method::GET && *method != Method::HEAD => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not publish or open a WebSocket here; add the origin with --allowed-origin",
        )),
        _ => Ok(()),
    }
}

/// Refuses a GET that changes something when a foreign page makes it.
pub(super) fn check_page(
    config: &HttpConfig,
    origin: &Origin,
    headers: &HeaderMap,
    host: Option<&str>,
) -> Result<(), Problem> {
    let is_any = config.allowed_origins.iter().any(AllowedOrigin::is_any);
    let is_named = headers.contains_key(header::ORIGIN);
    let is_own = match (is_named, headers.get("sec-fetch-site")) {
        _ if is_any => true,
        (true, _) => *origin != Origin::Foreign,
        (false, Some(site)) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        // Browsers send neither on plain HTTP.
        (false, None) => is_of_known_page(config, headers, host),
    };
    if is_own {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "pages of this origin may not read a named subscription here; add the origin with --allowed-origin",
    ))
}

/// Refuses a request that shows who sends it by cookies or by a client certificate when a foreign page makes it. An origin that may come because any may
/// is foreign too.
pub(super) fn check_cookies(
    config: &HttpConfig,
    origin: &Origin,
    headers: &HeaderMap,
    host: Option<&str>,
) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site");
    let is_own = match (origin, site) {
        (Origin::Allowed(_), _) => true,
        (Origin::Any | Origin::Foreign, _) => false,
        // It knows the scheme too, which `Host` does not say.
        (Origin::Same, Some(site)) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        (Origin::Same, None) if headers.contains_key(header::ORIGIN) => true,
        // On plain HTTP browsers send neither with a GET; programs never do.
        (Origin::Same, None) => is_of_known_page(config, headers, host),
    };
    if is_own {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "pages of this origin may not come with cookies or a client certificate; add the origin with --allowed-origin, by its name",
    ))
}

/// Whether the page that made a request is of a known origin, or not told.
fn is_of_known_page(config: &HttpConfig, headers: &HeaderMap, host: Option<&str>) -> bool {
    headers.get(header::REFERER).is_none_or(|page| {
        let page = page.to_str().ok().and_then(origin_of_page);
        page.is_some_and(|page| sort(config, page, host).is_some())
    })
}

/// The origin of the page at a URL: what stands before its path.
fn origin_of_page(url: &str) -> Option<&str> {
    let authority = url.find("://")? + 3;
    let path = url[authority..].find(['/', '?', '#']);
    Some(path.map_or(url, |path| &url[..authority + path]))
}

/// Answers the question a browser asks before a cross-origin request that is not a simple one.
pub(super) fn preflight(origin: &Origin, allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        headers.insert(header::ALLOW, allow.clone());
        if matches!(origin, Origin::Allowed(_) | Origin::Any) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(ALLOWED_HEADERS),
            );
            headers.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static("7200"),
            );
        }
    }
    response
}

/// Adds what every answer carries.
pub(super) fn finish(config: &HttpConfig, origin: &Origin, headers: &mut HeaderMap) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let allowed = match origin {
        Origin::Allowed(origin) => {
            // Without cookies and certificates there is nothing that a page could send along unseen.
            let authentication = &config.authentication;
            if authentication.takes_cookies() || authentication.takes_certificates() {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
            Some(origin.clone())
        }
        Origin::Any => Some(HeaderValue::from_static("*")),
        Origin::Same | Origin::Foreign => None,
    };
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED_HEADERS),
        );
    }
    if let Ok(name) = HeaderName::try_from("cross-origin-resource-policy") {
        headers.insert(name, HeaderValue::from_static("same-site"));
    }
}

/// What a page may send beside the headers that need no question. The hub itself needs few of them; libraries for tracing
/// and fetching add the others to every request, and one that is missing here would fail the whole request.
/// `X-Forwarded-For` and its like are a proxy's to say, so they are not here.
const ALLOWED_HEADERS: &str = "content-type, last-event-id, cache-control, authorization, idempotency-key, \
     accept, if-none-match, if-modified-since, if-match, prefer, pragma, priority, user-agent, \
     traceparent, tracestate, baggage, sentry-trace, \
     b3, x-b3-traceid, x-b3-spanid, x-b3-parentspanid, x-b3-sampled, x-b3-flags, uber-trace-id, \
     x-datadog-trace-id, x-datadog-parent-id, x-datadog-origin, x-datadog-sampling-priority, x-datadog-tags, \
     x-amzn-trace-id, x-cloud-trace-context, newrelic, elastic-apm-traceparent, \
     request-id, request-context, correlation-context, x-request-id, x-correlation-id, x-trace-id, \
     x-dynatrace, x-dtc, x-dtpc, x-dtreferer, \
     x-requested-with, x-csrf-token, x-xsrf-token, x-api-key, ngrok-skip-browser-warning";

/// What a page may read of an answer beside the headers that every page may.
const EXPOSED_HEADERS: &str = "location, retry-after, link, allow, etag, date, \
     content-encoding, www-authenticate";

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HttpConfig {
        HttpConfig {
            allowed_hosts: vec!["hub.example".parse().unwrap()],
            allowed_origins: vec!["https://app.example".parse().unwrap()],
            ..HttpConfig::default()
        }
    }

    #[test]
    fn names_that_nobody_configured_are_not_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:80",
            "192.168.0.7",
            "hub.example:443",
            "localhost.",
            "localhost.:8080",
            "127.0.0.1.:8080",
        ] {
            assert!(check_host(&config(), Some(host), 1, true).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8080",
        ] {
            let problem = check_host(&config(), Some(host), 1, true).unwrap_err();
            assert_eq!(problem.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        for host in ["a b", "me@localhost", "localhost:port"] {
            let problem = check_host(&config(), Some(host), 1, true).unwrap_err();
            assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{host}");
        }
        let check = |host, headers, is_needed| check_host(&config(), host, headers, is_needed);
        assert!(check(Some("localhost"), 2, true).is_err());
        assert!(check(None, 0, true).is_err());
        assert!(check(None, 0, false).is_ok());
    }

    #[test]
    fn a_foreign_page_may_not_publish() {
        let headers = |origin: &'static str| {
            HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
        };
        let sort = |origin| super::origin(&config(), &headers(origin), Some("localhost:8080"));
        assert_eq!(sort("http://localhost:8080"), Origin::Same);
        assert!(matches!(sort("https://app.example"), Origin::Allowed(_)));
        for foreign in [
            "https://evil.example",
            "null",
            "http://localhost:8081",
            "https://app.example.evil.example",
        ] {
            assert_eq!(sort(foreign), Origin::Foreign, "{foreign}");
            assert!(check_origin(&sort(foreign), &Method::POST).is_err());
            assert!(check_origin(&sort(foreign), &Method::GET).is_ok());
        }
    }

    #[test]
    fn any_origin_may_come_but_without_cookies() {
        let config = HttpConfig {
            allowed_origins: vec!["*".parse().unwrap()],
            ..HttpConfig::default()
        };
        let asked = HeaderMap::from_iter([(
            header::ORIGIN,
            HeaderValue::from_static("https://a.example"),
        )]);
        let origin = super::origin(&config, &asked, Some("localhost:8080"));
        assert_eq!(origin, Origin::Any);
        let mut headers = HeaderMap::new();
        finish(&config, &origin, &mut headers);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn a_preflight_allows_what_libraries_add_and_nothing_of_a_proxy() {
        let origin = Origin::Allowed(HeaderValue::from_static("https://app.example"));
        let answer = preflight(&origin, "GET, POST");
        let allowed = answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS]
            .to_str()
            .unwrap();
        let allowed: Vec<_> = allowed.split(", ").collect();
        for name in [
            "traceparent",
            "tracestate",
            "baggage",
            "sentry-trace",
            "x-requested-with",
            "idempotency-key",
            "b3",
            "x-datadog-trace-id",
            "x-request-id",
            "last-event-id",
            "authorization",
        ] {
            assert!(allowed.contains(&name), "{name}");
        }
        for name in &allowed {
            let parsed: HeaderName = name.parse().unwrap();
            assert_eq!(parsed.as_str(), *name);
            assert!(!name.starts_with("x-forwarded") && *name != "forwarded");
        }
        let foreign = preflight(&Origin::Foreign, "GET, POST");
        assert!(
            !foreign
                .headers()
                .contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS)
        );
    }

    #[test]
    fn a_get_that_changes_something_is_refused_to_foreign_pages() {
        let is_let_in = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            let host = Some("hub.example");
            let origin = origin(&config(), &map, host);
            check_page(&config(), &origin, &map, host).is_ok()
        };
        for own in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "none")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://app.example"),
            ],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://hub.example"),
            ],
            &[("referer", "https://app.example/page?q=1")],
            &[("referer", "http://hub.example/")],
        ] {
            assert!(is_let_in(own), "{own:?}");
        }
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://evil.example"),
            ],
            &[("sec-fetch-site", "none"), ("origin", "null")],
            &[("referer", "https://evil.example/?https://app.example/")],
            &[("referer", "https://app.example.evil.example/")],
            &[("referer", "about:client")],
        ] {
            assert!(!is_let_in(foreign), "{foreign:?}");
        }
    }
}
