//! Web origins: how they are configured, and how a request's is compared with them.

use std::fmt;
use std::str::FromStr;

use super::host::{RequestHost, bare_host, canonical, split_port};

/// A web origin whose pages may read and publish: `https://app.example`, `http://localhost:3000`, or `*` for any, without
/// cookies.
///
/// A trailing slash, the scheme's own port, case and a trailing dot do not matter.
///
/// ```
/// use sse_server::http::AllowedOrigin;
///
/// let origin: AllowedOrigin = "https://App.example:443/".parse()?;
/// assert_eq!(origin.to_string(), "https://app.example");
/// assert!("app.example".parse::<AllowedOrigin>().is_err());
/// # Ok::<(), sse_server::http::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(Allowed);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Any,
    Exact {
        scheme: Box<str>,
        host: Box<str>,
        port: Option<u16>,
    },
}

/// A text is not an origin that a browser could send; the message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}; write {instead}")]
pub struct InvalidOrigin {
    text: String,
    problem: &'static str,
    instead: String,
}

impl AllowedOrigin {
    /// Whether it is `*`.
    pub(super) fn is_any(&self) -> bool {
        self.0 == Allowed::Any
    }

    /// Whether it is just this origin.
    pub(super) fn is(&self, origin: &RequestOrigin<'_>) -> bool {
        match &self.0 {
            Allowed::Any => false,
            Allowed::Exact { scheme, host, port } => {
                scheme.eq_ignore_ascii_case(origin.scheme)
                    && host.eq_ignore_ascii_case(origin.host.name)
                    && *port == origin.port()
            }
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(given: &str) -> Result<Self, InvalidOrigin> {
        let text = given.trim();
        let wrong = |problem, instead: String| InvalidOrigin {
            text: given.to_owned(),
            problem,
            instead,
        };
        if text == "*" {
            return Ok(Self(Allowed::Any));
        }
        if text.is_empty() {
            return Err(wrong("is empty", EXAMPLE.to_owned()));
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(wrong(
                "is what sandboxed pages of any site send",
                "the page's own origin, for example https://app.example".to_owned(),
            ));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong(
                "has a blank or control character in it",
                EXAMPLE.to_owned(),
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(wrong("has no scheme", with_scheme(bare_host(text))));
        };
        let scheme = scheme.to_ascii_lowercase();
        let alone = |problem| wrong(problem, format!("{scheme}://{}", bare_host(text)));
        if !is_scheme(&scheme) {
            return Err(wrong(
                "has no scheme before `://`",
                with_scheme(bare_host(text)),
            ));
        }
        if scheme == "ws" || scheme == "wss" {
            return Err(wrong(
                "has the scheme of a socket, and pages come from http or https",
                format!("http{}://{}", &scheme[2..], bare_host(text)),
            ));
        }
        if rest.contains('@') {
            return Err(alone("has a user name"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(alone("has a path"));
        }
        if authority.contains('*') {
            return Err(wrong(
                "has a `*`, and an origin is either whole or `*` alone",
                "each origin by itself, for example https://app.example".to_owned(),
            ));
        }
        let (host, port) =
            split_port(authority).map_err(|problem| wrong(problem, EXAMPLE.to_owned()))?;
        let host = canonical(host).ok_or_else(|| wrong("has no host name", EXAMPLE.to_owned()))?;
        Ok(Self(Allowed::Exact {
            port: port.filter(|port| default_port(&scheme) != Some(*port)),
            host: host.into(),
            scheme: scheme.into(),
        }))
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Allowed::Any => f.write_str("*"),
            Allowed::Exact { scheme, host, port } => {
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]")?;
                } else {
                    write!(f, "{scheme}://{host}")?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// The origin that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestOrigin<'a> {
    scheme: &'a str,
    host: RequestHost<'a>,
}

impl<'a> RequestOrigin<'a> {
    /// Takes an `Origin` apart; `None` for `null` and for what is not one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        Some(Self {
            scheme,
            host: RequestHost::parse(authority)?,
        })
    }

    /// Whether this is the origin of pages on the host that the request is for.
    pub(super) fn is_of(&self, host: &RequestHost<'_>) -> bool {
        let own = |port| effective_port(self.scheme, port);
        self.host.name.eq_ignore_ascii_case(host.name) && own(self.host.port) == own(host.port)
    }

    pub(super) fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// Its port, unless that is the scheme's own.
    fn port(&self) -> Option<u16> {
        self.host
            .port
            .filter(|port| default_port(self.scheme) != Some(*port))
    }
}

fn effective_port(scheme: &str, port: Option<u16>) -> Option<u16> {
    port.or_else(|| default_port(scheme))
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

/// RFC 3986, section 3.1. Extensions and packaged applications have schemes of their own.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The origin that was most likely meant by a host alone.
fn with_scheme(host: &str) -> String {
    let is_local = RequestHost::parse(host).is_some_and(|host| host.is_local_or_address());
    format!("{}://{host}", if is_local { "http" } else { "https" })
}

const EXAMPLE: &str = "an origin, for example https://app.example";

#[cfg(test)]
mod tests {
    use super::*;

    fn is(allowed: &str, origin: &str) -> bool {
        let allowed: AllowedOrigin = allowed.parse().unwrap();
        RequestOrigin::parse(origin).is_some_and(|origin| allowed.is(&origin))
    }

    #[test]
    fn an_origin_is_the_same_however_it_is_written() {
        for allowed in [
            "https://app.example",
            "https://app.example/",
            "HTTPS://App.Example",
            "https://app.example:443",
            "https://app.example.:443/",
            " https://app.example ",
        ] {
            for origin in ["https://app.example", "https://app.example:443"] {
                assert!(is(allowed, origin), "{allowed} {origin}");
            }
            for origin in [
                "http://app.example",
                "https://app.example:8443",
                "https://a.app.example",
                "https://app.example.evil.example",
                "https://app.example/",
                "https://u@app.example",
                "null",
                "",
            ] {
                assert!(!is(allowed, origin), "{allowed} {origin}");
            }
        }
        assert!(is("http://a:80", "http://a") && !is("http://a:443", "http://a"));
        assert!(is("http://[::1]:3000", "http://[::1]:3000"));
        assert!(is(
            "https://bücher.example",
            "https://xn--bcher-kva.example"
        ));
        assert!(is(
            "chrome-extension://abcdefgh",
            "chrome-extension://abcdefgh"
        ));
        assert!(is("tauri://localhost", "tauri://localhost"));
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_what_to_write() {
        for (text, problem, instead) in [
            ("", "is empty", "https://app.example"),
            ("app.example", "has no scheme", "https://app.example"),
            ("localhost:3000", "has no scheme", "http://localhost:3000"),
            ("//app.example", "has no scheme", "https://app.example"),
            ("://app.example", "has no scheme", "https://app.example"),
            (
                "https://app.example/path",
                "has a path",
                "https://app.example",
            ),
            ("https://app.example//", "has a path", "https://app.example"),
            ("https://app.example?x", "has a path", "https://app.example"),
            ("https://app.example/#", "has a path", "https://app.example"),
            ("https://me@app.example", "user name", "https://app.example"),
            ("https://*.example", "`*`", "https://app.example"),
            ("https://a b", "blank", "https://app.example"),
            ("https://", "no host name", "https://app.example"),
            ("https:///", "no host name", "https://app.example"),
            ("https://a:port", "port", "https://app.example"),
            ("null", "sandboxed", "https://app.example"),
            ("wss://app.example", "socket", "https://app.example"),
            ("file://", "no host name", "https://app.example"),
        ] {
            let error = text.parse::<AllowedOrigin>().unwrap_err().to_string();
            let (said, written) = error.rsplit_once("; write ").unwrap();
            assert!(said.starts_with(&format!("{text:?} ")), "{error}");
            assert!(said.contains(problem), "{error}");
            assert!(written.contains(instead), "{error}");
        }
    }

    #[test]
    fn the_hubs_own_pages_are_known_by_host_and_port() {
        let own = |origin, host| {
            let host = RequestHost::parse(host).unwrap();
            RequestOrigin::parse(origin).is_some_and(|origin| origin.is_of(&host))
        };
        assert!(own("http://localhost:8080", "localhost:8080"));
        assert!(own("http://localhost:8080", "LOCALHOST.:8080"));
        assert!(own("https://hub.example", "hub.example:443"));
        assert!(own("https://hub.example", "hub.example"));
        assert!(!own("http://localhost:8081", "localhost:8080"));
        assert!(!own("http://hub.example", "hub.example:443"));
        assert!(!own("null", "localhost"));
    }
}
