//! Who may talk to the hub from a browser.
//!
//! A page from anywhere can make its visitor's browser send requests to a hub on that visitor's
//! machine. These rules stop it, for every route alike:
//!
//! * **Host.** A name that an attacker's DNS points at 127.0.0.1 arrives in `Host`. So only IP
//!   addresses, `localhost` and the names that were configured are answered (DNS rebinding). The same holds for the names that
//!   a proxy passes on in `X-Forwarded-Host` or `Forwarded`.
//! * **Origin.** A browser names the page's origin on every cross-origin request that changes
//!   something, that a script may read, and on every WebSocket handshake. So a request with an `Origin` that is neither the hub's
//!   own nor configured is refused (403), and its answer has no CORS header. Over HTTPS a page of plain HTTP is not the hub's own.
//!
//! * **Cookies and client certificates.** A browser sends them along whoever made it send the request. So where they show who a
//!   caller is, a request that has them comes from the hub's own origin or from one that is on the list by name, or it is refused (403).
//!
//! A GET that changes something, such as the stream of a named subscription, which ends the stream of its last reader, is told
//! from one that a foreign page makes without an `Origin` (an image, a script) by `Sec-Fetch-Site`, or by `Referer`.

mod host;
mod origin;
mod site;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

pub use host::{AllowedHost, InvalidHost};
pub use origin::{AllowedOrigin, InvalidOrigin};

use host::RequestHost;
use origin::RequestOrigin;
pub(crate) use site::OverTls;
pub(super) use site::Site;

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
    check_name(config, "the Host header", host)
}

/// Checks the hosts that a proxy says its client has named. They decide nothing, but a name that an attacker has pointed at the
/// hub is no better for a proxy that put its own one into `Host`.
pub(super) fn check_told_hosts(config: &HttpConfig, headers: &HeaderMap) -> Result<(), Problem> {
    site::told_hosts(headers).try_for_each(|host| check_name(config, "the forwarded host", &host))
}

fn check_name(config: &HttpConfig, what: &str, host: &str) -> Result<(), Problem> {
    let Some(named) = RequestHost::parse(host) else {
        return Err(Problem::bad_request(format!(
            "{what} {} is not a host name",
            Quoted(host)
        )));
    };
    let is_known = named.is_local_or_address()
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.allows(&named));
    if is_known {
        return Ok(());
    }
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

/// Sorts the `Origin` of a request.
pub(super) fn origin(config: &HttpConfig, headers: &HeaderMap, site: &Site) -> Origin {
    let Some(given) = headers.get(header::ORIGIN) else {
        return Origin::Same;
    };
    // `null` is what a sandboxed page sends, wherever it comes from: never a known origin.
    match given
        .to_str()
        .ok()
        .and_then(|text| sort(config, text, site))
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

fn sort(config: &HttpConfig, origin: &str, site: &Site) -> Option<Known> {
    let origin = RequestOrigin::parse(origin)?;
    let mut listed = config.allowed_origins.iter();
    if listed.any(|allowed| allowed.is(&origin)) {
        return Some(Known::Allowed);
    }
    let host = site.host.as_deref().and_then(RequestHost::parse)?;
    let is_own = site.may_have(origin.scheme()) && origin.is_of(&host);
    is_own.then_some(Known::Same)
}

/// Refuses what a foreign page must not do: anything that names its origin, and what changes something also where only
/// `Sec-Fetch-Site` tells.
pub(super) fn check_origin(
    origin: &Origin,
    headers: &HeaderMap,
    changes: bool,
) -> Result<(), Problem> {
    let is_foreign = match (origin, headers.get(FETCH_SITE)) {
        (Origin::Foreign, _) => true,
        (Origin::Same, Some(site)) if changes && !headers.contains_key(header::ORIGIN) => {
            !is_own_site(site)
        }
        _ => false,
    };
    match is_foreign {
        true => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not read or publish here; add the origin with --allowed-origin",
        )),
        false => Ok(()),
    }
}

/// Whether `Sec-Fetch-Site` says that the hub's own page made a request, or the visitor's own hand.
fn is_own_site(site: &HeaderValue) -> bool {
    matches!(site.as_bytes(), b"same-origin" | b"none")
}

/// Refuses a GET that changes something when a foreign page makes it.
pub(super) fn check_page(
    config: &HttpConfig,
    origin: &Origin,
    headers: &HeaderMap,
    site: &Site,
) -> Result<(), Problem> {
    let is_any = config.allowed_origins.iter().any(AllowedOrigin::is_any);
    let is_named = headers.contains_key(header::ORIGIN);
    let is_own = match (is_named, headers.get(FETCH_SITE)) {
        _ if is_any => true,
        (true, _) => *origin != Origin::Foreign,
        (false, Some(said)) => is_own_site(said),
        // Browsers send neither on plain HTTP.
        (false, None) => is_of_known_page(config, headers, site),
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
    site: &Site,
) -> Result<(), Problem> {
    let is_own = match (origin, headers.get(FETCH_SITE)) {
        (Origin::Allowed(_), _) => true,
        (Origin::Any | Origin::Foreign, _) => false,
        // It knows the scheme too, which `Host` does not say.
        (Origin::Same, Some(said)) => is_own_site(said),
        (Origin::Same, None) if headers.contains_key(header::ORIGIN) => true,
        // On plain HTTP browsers send neither with a GET; programs never do.
        (Origin::Same, None) => is_of_known_page(config, headers, site),
    };
    if is_own {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "pages of this origin may not come with cookies or a client certificate; add the origin with --allowed-origin, by its name",
    ))
}

/// Whether the page that made a request is of a known origin, or no browser made it. A page can keep a browser from saying
/// which it is.
fn is_of_known_page(config: &HttpConfig, headers: &HeaderMap, site: &Site) -> bool {
    let Some(page) = headers.get(header::REFERER) else {
        let agent = headers.get(header::USER_AGENT);
        return !agent.is_some_and(|agent| agent.as_bytes().starts_with(BROWSER));
    };
    let page = page.to_str().ok().and_then(origin_of_page);
    page.is_some_and(|page| sort(config, page, site).is_some())
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
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static("same-site"));
    }
}

/// Where the page of a request comes from, as browsers say it over HTTPS and to this machine (Fetch Metadata, section 2.3).
const FETCH_SITE: &str = "sec-fetch-site";
/// How the `User-Agent` of every browser begins.
const BROWSER: &[u8] = b"Mozilla/";
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

    fn site(host: &str) -> Site {
        let request = http::Request::builder().header(header::HOST, host);
        Site::of(&request.body(()).unwrap())
    }

    #[test]
    fn over_https_a_page_of_plain_http_is_foreign() {
        let own = |site: &Site, origin: &'static str| {
            let headers =
                HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            super::origin(&config(), &headers, site) == Origin::Same
        };
        let request = |proto: Option<&str>| {
            let mut request = http::Request::builder().header(header::HOST, "hub.example");
            if let Some(proto) = proto {
                request = request.header("x-forwarded-proto", proto);
            }
            request.body(()).unwrap()
        };
        let mut over_tls = request(None);
        over_tls.extensions_mut().insert(OverTls);
        for (site, plain) in [
            (Site::of(&request(None)), true),
            (Site::of(&request(Some("http"))), true),
            (Site::of(&request(Some("HTTPS"))), false),
            (Site::of(&over_tls), false),
        ] {
            assert!(own(&site, "https://hub.example"));
            assert_eq!(own(&site, "http://hub.example"), plain, "{site:?}");
        }
    }

    #[test]
    fn every_host_that_a_proxy_tells_of_is_checked_too() {
        let is_known = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                value.parse::<HeaderValue>().unwrap(),
            )]);
            check_told_hosts(&config(), &headers).is_ok()
        };
        for (name, value, known) in [
            ("x-forwarded-host", "hub.example", true),
            ("x-forwarded-host", "hub.example:443, localhost", true),
            ("x-forwarded-host", "evil.example", false),
            ("x-forwarded-host", "hub.example, evil.example", false),
            ("x-forwarded-host", "", false),
            ("forwarded", "for=192.0.2.1;proto=https", true),
            ("forwarded", "for=192.0.2.1;host=hub.example", true),
            (
                "forwarded",
                "host=\"hub.example:443\", for=a;Host=evil.example",
                false,
            ),
            ("forwarded", "host=\"hub.example", false),
        ] {
            assert_eq!(is_known(name, value), known, "{name}: {value}");
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
        let sort = |origin| super::origin(&config(), &headers(origin), &site("localhost:8080"));
        assert_eq!(sort("http://localhost:8080"), Origin::Same);
        assert!(matches!(sort("https://app.example"), Origin::Allowed(_)));
        for foreign in [
            "https://evil.example",
            "null",
            "http://localhost:8081",
            "https://app.example.evil.example",
        ] {
            assert_eq!(sort(foreign), Origin::Foreign, "{foreign}");
            for changes in [true, false] {
                assert!(check_origin(&sort(foreign), &headers(foreign), changes).is_err());
            }
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
        let origin = super::origin(&config, &asked, &site("localhost:8080"));
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
            let site = site("hub.example");
            let origin = origin(&config(), &map, &site);
            check_page(&config(), &origin, &map, &site).is_ok()
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
            &[
                ("referer", "http://hub.example/"),
                ("user-agent", "Mozilla/5.0"),
            ],
            &[("user-agent", "curl/8.0")],
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
            // A page that lets its browser say nothing.
            &[("user-agent", "Mozilla/5.0")],
        ] {
            assert!(!is_let_in(foreign), "{foreign:?}");
        }
    }
}
