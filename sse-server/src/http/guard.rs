//! Who may talk to the hub from a browser.
//!
//! A page from anywhere can make its visitor's browser send requests to a hub on that visitor's
//! machine. Two rules stop it, for every route alike:
//!
//! * **Host.** A name that an attacker's DNS points at 127.0.0.1 arrives in `Host`. So only IP
//!   addresses, `localhost` and the names that were configured are answered (DNS rebinding).
//! * **Origin.** A browser names the page's origin on every cross-origin request that changes
//!   something. So a request with an `Origin` that is neither the hub's own nor configured may read
//!   nothing (no CORS header) and change nothing (403).

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, uri::Authority,
};

use super::HttpConfig;
use super::body::Body;
use super::problem::Problem;

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
) -> Result<(), Problem> {
    // RFC 9112, section 3.2: of two, a proxy in front may have looked at the other one.
    if host_headers > 1 {
        return Err(Problem::bad_request(
            "the request has more than one Host header",
        ));
    }
    // HTTP/1.0 has no Host, and no browser speaks it.
    let Some(host) = host else { return Ok(()) };
    let authority: Authority = host.parse().map_err(|_| {
        Problem::bad_request(format!("the Host header {host:?} is not a host name"))
    })?;
    let name = authority.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let known = bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || config
            .allowed_hosts
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(name));
    if known {
        Ok(())
    } else {
        Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "this hub does not answer to the host name {name:?}; add it with --allowed-host"
            ),
        ))
    }
}

/// Sorts the `Origin` of a request.
pub(super) fn origin(config: &HttpConfig, headers: &HeaderMap, host: Option<&str>) -> Origin {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Origin::Same;
    };
    let Ok(text) = origin.to_str() else {
        return Origin::Foreign;
    };
    // `null` is what a sandboxed page sends, wherever it comes from: never a known origin.
    let is_listed = |allowed: &String| allowed.eq_ignore_ascii_case(text);
    if text != "null" && config.allowed_origins.iter().any(is_listed) {
        return Origin::Allowed(origin.clone());
    }
    let own = text.split_once("://").is_some_and(|(_, authority)| {
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    if own {
        Origin::Same
    } else if config.allowed_origins.iter().any(|allowed| allowed == "*") {
        Origin::Any
    } else {
        Origin::Foreign
    }
}

/// Refuses what a foreign page must not do.
pub(super) fn check_origin(origin: &Origin, method: &Method) -> Result<(), Problem> {
    match origin {
        Origin::Foreign if *method != Method::GET && *method != Method::HEAD => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of this origin may not publish here; add the origin with --allowed-origin",
        )),
        _ => Ok(()),
    }
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
                HeaderValue::from_static(
                    "content-type, last-event-id, cache-control, authorization",
                ),
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
pub(super) fn finish(origin: &Origin, headers: &mut HeaderMap) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let allowed = match origin {
        Origin::Allowed(origin) => {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
            Some(origin.clone())
        }
        Origin::Any => Some(HeaderValue::from_static("*")),
        Origin::Same | Origin::Foreign => None,
    };
    if let Some(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after, location"),
        );
    }
    if let Ok(name) = HeaderName::try_from("cross-origin-resource-policy") {
        headers.insert(name, HeaderValue::from_static("same-site"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> HttpConfig {
        HttpConfig {
            allowed_hosts: vec!["hub.example".into()],
            allowed_origins: vec!["https://app.example".into()],
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
        ] {
            assert!(check_host(&config(), Some(host), 1).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8080",
        ] {
            let problem = check_host(&config(), Some(host), 1).unwrap_err();
            assert_eq!(problem.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        assert!(check_host(&config(), Some("a b"), 1).is_err());
        assert!(check_host(&config(), Some("localhost"), 2).is_err());
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
            allowed_origins: vec!["*".into()],
            ..HttpConfig::default()
        };
        let asked = HeaderMap::from_iter([(
            header::ORIGIN,
            HeaderValue::from_static("https://a.example"),
        )]);
        let origin = super::origin(&config, &asked, Some("localhost:8080"));
        assert_eq!(origin, Origin::Any);
        let mut headers = HeaderMap::new();
        finish(&origin, &mut headers);
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
