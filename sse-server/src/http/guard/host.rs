//! Host names: how they are configured, and how a request's is compared with them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use http::uri::Authority;
use url::Host;

/// A host name the hub answers to: `hub.example`, `hub.example:8443` (only on that port), `*.example.com` (every
/// subdomain, but not `example.com` itself) or `*` (all names).
///
/// Case and a trailing dot do not matter; a name that is not ASCII is turned into punycode, as browsers do.
///
/// ```
/// use sse_server::http::AllowedHost;
///
/// let host: AllowedHost = "Hub.Example.:8080".parse()?;
/// assert_eq!(host.to_string(), "hub.example:8080");
/// assert!("https://hub.example".parse::<AllowedHost>().is_err());
/// # Ok::<(), sse_server::http::InvalidHost>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    name: Name,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Any,
    /// What the names below it end with: `.example.com`.
    Subdomains(Box<str>),
    Exact(Box<str>),
}

/// A text is not a host name that a request could be for; the message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}; write {instead}")]
pub struct InvalidHost {
    text: String,
    problem: &'static str,
    instead: String,
}

impl AllowedHost {
    /// Whether a request for this host is answered.
    pub(super) fn allows(&self, host: &RequestHost<'_>) -> bool {
        let name_fits = match &self.name {
            Name::Any => true,
            Name::Exact(name) => name.eq_ignore_ascii_case(host.name),
            Name::Subdomains(suffix) => host
                .name
                .len()
                .checked_sub(suffix.len())
                .filter(|at| *at > 0)
                .and_then(|at| host.name.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        };
        name_fits && self.port.is_none_or(|port| host.is_on(port))
    }
}

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(given: &str) -> Result<Self, InvalidHost> {
        let text = given.trim();
        let wrong = |problem, instead: &str| InvalidHost {
            text: given.to_owned(),
            problem,
            instead: instead.to_owned(),
        };
        let alone = |problem| {
            let example = format!("the host name alone, for example {}", bare_host(text));
            wrong(problem, &example)
        };
        if text.is_empty() {
            return Err(wrong("is empty", EXAMPLE));
        }
        if text.contains("://") {
            return Err(alone("has a scheme"));
        }
        if text.contains('@') {
            return Err(alone("has a user name"));
        }
        if text.contains(['/', '?', '#', '\\']) {
            return Err(alone("has a path"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("has a blank or control character in it", EXAMPLE));
        }
        let (name, port) = split_port(text).map_err(|problem| wrong(problem, PORT_EXAMPLE))?;
        Ok(Self {
            name: Name::new(name).map_err(|(problem, instead)| wrong(problem, &instead))?,
            port,
        })
    }
}

impl Name {
    fn new(text: &str) -> Result<Self, (&'static str, String)> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(below) = text.strip_prefix("*.") {
            return match canonical(below) {
                Some(name) if name.parse::<IpAddr>().is_err() && !name.starts_with('[') => {
                    Ok(Self::Subdomains(format!(".{name}").into()))
                }
                _ => Err((
                    "names no domain after `*.`",
                    "for example *.example.com".to_owned(),
                )),
            };
        }
        if text.starts_with('.') {
            return Err(("begins with a dot", format!("*{text} for every subdomain")));
        }
        if text.contains('*') {
            return Err((
                "has a `*` that is not a whole first label",
                "*.example.com for every subdomain, or * for all names".to_owned(),
            ));
        }
        canonical(text)
            .map(|name| Self::Exact(name.into()))
            .ok_or_else(|| ("is not a host name", EXAMPLE.to_owned()))
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Any => f.write_str("*")?,
            Name::Subdomains(suffix) => write!(f, "*{suffix}")?,
            Name::Exact(name) => f.write_str(name)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The host that a request is for, without brackets and a trailing dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHost<'a> {
    pub(super) name: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> RequestHost<'a> {
    /// Takes a `Host` apart; `None` when it is not one (RFC 9110, section 7.2: a name and a port, nothing else).
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.contains('@') || text.parse::<Authority>().is_err() {
            return None;
        }
        // An empty port is one that was left out (RFC 3986, section 3.2.3).
        let (name, port) = split_port(text.strip_suffix(':').unwrap_or(text)).ok()?;
        let name = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        Some(Self {
            name: name.strip_suffix('.').unwrap_or(name),
            port,
        })
    }

    /// Whether it is this machine by name or any machine by address: what no DNS entry of an attacker can be.
    pub(super) fn is_local_or_address(&self) -> bool {
        self.name.eq_ignore_ascii_case("localhost") || self.name.parse::<IpAddr>().is_ok()
    }

    /// Without a port it is a scheme's own. Which scheme the client spoke, a proxy may have hidden: so either.
    fn is_on(&self, port: u16) -> bool {
        match self.port {
            Some(own) => own == port,
            None => port == 80 || port == 443,
        }
    }
}

/// Splits `name:port`, `[v6]:port` or either without a port.
pub(super) fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (name, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or("has a bracket that is not closed")? + 1;
        match &text[end..] {
            "" => (text, None),
            rest => match rest.strip_prefix(':') {
                Some(port) => (&text[..end], Some(port)),
                None => return Err("has text after the bracket"),
            },
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    let Some(port) = port else {
        return Ok((name, None));
    };
    match port.parse() {
        Ok(number) if number != 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok((name, Some(number)))
        }
        _ => Err("has a port that is not a number from 1 to 65535"),
    }
}

/// The name in lower case, in punycode and without a trailing dot; an IPv6 address without its brackets.
pub(super) fn canonical(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let has_empty_label = name.split('.').any(str::is_empty) && !name.contains(':');
    if has_empty_label || name.contains('*') {
        return None;
    }
    let bracketed = name.parse::<Ipv6Addr>().map(|_| format!("[{name}]"));
    match Host::parse(bracketed.as_deref().unwrap_or(name)).ok()? {
        Host::Domain(domain) => Some(domain),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

/// The host in a text that has more than that, for an example.
pub(super) fn bare_host(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.trim_start_matches('/');
    let rest = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host).trim();
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        "hub.example"
    } else {
        rest
    }
}

const EXAMPLE: &str = "a host name, for example hub.example";
const PORT_EXAMPLE: &str = "for example hub.example:8080";

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &str, host: &str) -> bool {
        let allowed: AllowedHost = allowed.parse().unwrap();
        allowed.allows(&RequestHost::parse(host).unwrap())
    }

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        for allowed in [
            "hub.example",
            " hub.example ",
            "HUB.Example",
            "hub.example.",
        ] {
            for host in [
                "hub.example",
                "hub.example.",
                "Hub.EXAMPLE:8080",
                "hub.example.:443",
                "hub.example:",
            ] {
                assert!(allows(allowed, host), "{allowed} {host}");
            }
            for host in ["example", "a.hub.example", "hub.example.evil.example"] {
                assert!(!allows(allowed, host), "{allowed} {host}");
            }
        }
        assert!(allows("bücher.example", "xn--bcher-kva.example"));
        assert!(allows("xn--bcher-kva.example", "XN--bcher-kva.example."));
        assert!(allows("*", "anything.example:1"));
    }

    #[test]
    fn a_port_means_only_that_port() {
        assert!(allows("hub:8080", "hub:8080"));
        assert!(allows("hub:8080", "HUB.:8080"));
        for host in ["hub", "hub:", "hub:80", "hub:8081", "other:8080"] {
            assert!(!allows("hub:8080", host), "{host}");
        }
        // A client leaves the scheme's own port out.
        for allowed in ["hub:443", "hub:80"] {
            assert!(allows(allowed, "hub"), "{allowed}");
            assert!(!allows(allowed, "hub:8080"), "{allowed}");
        }
        assert!(allows("*:8080", "any:8080") && !allows("*:8080", "any:8081"));
    }

    #[test]
    fn a_star_means_every_subdomain_and_not_the_domain() {
        for host in ["a.example.com", "a.b.EXAMPLE.com.", "a.example.com:1"] {
            assert!(allows("*.example.com", host), "{host}");
        }
        for host in [
            "example.com",
            "badexample.com",
            "a.example.com.evil.example",
            "a.example.org",
        ] {
            assert!(!allows("*.example.com", host), "{host}");
        }
        assert!(allows("*.example.com:8443", "a.example.com:8443"));
        assert!(!allows("*.example.com:8443", "a.example.com"));
    }

    #[test]
    fn addresses_are_understood_with_and_without_brackets() {
        for (text, name) in [
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("[2001:DB8::1]:8080", "2001:db8::1:8080"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(text.parse::<AllowedHost>().unwrap().to_string(), name);
        }
        let host = RequestHost::parse("[::1]:8080").unwrap();
        assert!(host.is_local_or_address());
        assert_eq!((host.name, host.port), ("::1", Some(8080)));
        assert!(
            RequestHost::parse("localhost.")
                .unwrap()
                .is_local_or_address()
        );
        assert!(
            !RequestHost::parse("localhost..")
                .unwrap()
                .is_local_or_address()
        );
    }

    #[test]
    fn what_could_never_match_is_refused_with_what_to_write() {
        for (text, problem, instead) in [
            ("", "is empty", "hub.example"),
            (" ", "is empty", "hub.example"),
            ("https://hub.example", "has a scheme", "example hub.example"),
            ("http://u@hub:1/x", "has a scheme", "example hub:1"),
            ("http://", "has a scheme", "hub.example"),
            ("me@hub.example", "has a user name", "example hub.example"),
            ("hub.example/", "has a path", "example hub.example"),
            ("hub.example?x", "has a path", "example hub.example"),
            ("a b", "blank", "hub.example"),
            ("a\tb", "blank", "hub.example"),
            ("a\0b", "control", "hub.example"),
            ("hub:", "port", "hub.example:8080"),
            ("hub:0", "port", "hub.example:8080"),
            ("hub:+80", "port", "hub.example:8080"),
            ("hub:http", "port", "hub.example:8080"),
            ("hub:70000", "port", "hub.example:8080"),
            ("[::1", "bracket", "hub.example"),
            ("[::1]x", "bracket", "hub.example"),
            ("[hub]", "not a host name", "hub.example"),
            (".example.com", "dot", "*.example.com"),
            ("*example.com", "`*`", "*.example.com"),
            ("a.*.example", "`*`", "*.example.com"),
            ("*.", "no domain", "*.example.com"),
            ("*.*.example", "no domain", "*.example.com"),
            ("*.192.0.2.1", "no domain", "*.example.com"),
            ("a..b", "not a host name", "hub.example"),
            (".", "dot", "*"),
            ("a|b", "not a host name", "hub.example"),
        ] {
            let error = text.parse::<AllowedHost>().unwrap_err().to_string();
            let (said, written) = error.rsplit_once("; write ").unwrap();
            assert!(said.starts_with(&format!("{text:?} ")), "{error}");
            assert!(said.contains(problem), "{error}");
            assert!(written.contains(instead), "{error}");
        }
    }

    #[test]
    fn a_host_header_is_a_name_and_a_port_and_nothing_else() {
        for host in [
            "",
            "a b",
            "u@localhost",
            "localhost:x",
            "localhost:99999",
            "a, b",
            "[::1",
        ] {
            assert_eq!(RequestHost::parse(host), None, "{host}");
        }
    }
}
