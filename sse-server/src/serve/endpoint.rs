//! Where to listen, as people write it, and what came of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens.
///
/// | text | means |
/// |---|---|
/// | `127.0.0.1:8080`, `[::1]:8080` | this address |
/// | `localhost:8080` | both loopback addresses, 127.0.0.1 and ::1, on the same port |
/// | `8080` | 127.0.0.1:8080 |
/// | `:8080`, `*:8080` | all addresses of this machine, IPv4 and IPv6 |
/// | `unix:/run/hub.sock` | a Unix socket |
///
/// ```
/// use sse_server::serve::Endpoint;
///
/// let endpoint: Endpoint = "8080".parse()?;
/// assert_eq!(endpoint.to_string(), "127.0.0.1:8080");
/// assert!(endpoint.is_local());
/// assert!(!":8080".parse::<Endpoint>()?.is_local());
/// # Ok::<(), sse_server::serve::InvalidEndpoint>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// One address; port 0 picks a free one.
    Address(SocketAddr),
    /// Both loopback addresses, on the same port. Without IPv6 it is 127.0.0.1 alone.
    Localhost(u16),
    /// All addresses of this machine. Without IPv6 it is 0.0.0.0 alone.
    Everywhere(u16),
    /// A Unix socket of this path. Its mode is what the umask leaves.
    Unix(PathBuf),
}

/// A text names no place to listen; the message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}; write {instead}")]
pub struct InvalidEndpoint {
    text: String,
    problem: &'static str,
    instead: String,
}

/// What a server has bound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BoundAddress {
    /// An address and the port that was taken.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether only programs on this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
            Self::Localhost(_) | Self::Unix(_) => true,
            Self::Everywhere(_) => false,
        }
    }
}

impl Endpoint {
    /// Whether it means another address each time it is listened on.
    pub(crate) fn picks_a_port(&self) -> bool {
        match self {
            Self::Address(address) => address.port() == 0,
            Self::Localhost(port) | Self::Everywhere(port) => *port == 0,
            Self::Unix(_) => false,
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(given: &str) -> Result<Self, InvalidEndpoint> {
        let text = given.trim();
        let wrong = |problem, instead: String| InvalidEndpoint {
            text: given.to_owned(),
            problem,
            instead,
        };
        if text.is_empty() {
            return Err(wrong("is empty", EXAMPLES.to_owned()));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map_err(|problem| wrong(problem, UNIX_EXAMPLE.to_owned()));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.split('/').next().unwrap_or(rest);
            let instead = Self::from_str(rest).map_or(EXAMPLES.to_owned(), |_| rest.to_owned());
            return Err(wrong("has a scheme", instead));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(['.', ':']) {
            let port = port(text).map_err(|problem| wrong(problem, EXAMPLES.to_owned()))?;
            return Ok(Self::Address((Ipv4Addr::LOCALHOST, port).into()));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            let with_port = SocketAddr::new(ip, 8080).to_string();
            return Err(wrong("has no port", with_port));
        }
        let Some((name, number)) = text.rsplit_once(':') else {
            return Err(wrong("is not an address to listen on", EXAMPLES.to_owned()));
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_localhost = name.eq_ignore_ascii_case("localhost");
        let is_known = is_localhost || name.is_empty() || name == "*" || is_address(name);
        if !is_known {
            return Err(wrong(
                "does not begin with an IP address or localhost",
                EXAMPLES.to_owned(),
            ));
        }
        let port = port(number).map_err(|problem| wrong(problem, format!("{name}:8080")))?;
        if is_address(name) {
            return Err(wrong(
                "is an IPv6 address without brackets",
                format!("[{name}]:{port}"),
            ));
        }
        Ok(if is_localhost {
            Self::Localhost(port)
        } else {
            Self::Everywhere(port)
        })
    }
}

fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
}

fn port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("has no port");
    }
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .ok_or("has a port that is not a number from 0 to 65535")
}

fn unix(path: &str) -> Result<Endpoint, &'static str> {
    // `unix:///run/hub.sock` is how others write it.
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Err("has a host name before its path"),
        None => path,
    };
    if !cfg!(unix) {
        Err("is a Unix socket, and this system has none")
    } else if path.is_empty() {
        Err("names no path")
    } else if path.starts_with('@') || path.contains('\0') {
        Err("is an abstract socket, which is not supported")
    } else if path.ends_with('/') {
        Err("is a folder")
    } else if path.len() > MAX_UNIX_PATH_BYTES {
        Err("is longer than the 103 bytes that a socket's path may have")
    } else {
        Ok(Endpoint::Unix(path.into()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

const EXAMPLES: &str = "for example 127.0.0.1:8080, localhost:8080, :8080 or unix:/run/hub.sock";
const UNIX_EXAMPLE: &str = "for example unix:/run/hub.sock";
/// The least that systems have: `sun_path` is 104 bytes on BSD and macOS, 108 on Linux, with the NUL at the end.
const MAX_UNIX_PATH_BYTES: usize = 103;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen_are_read_as_people_write_them() {
        let address = |text: &str| Endpoint::Address(text.parse().unwrap());
        for (text, endpoint, is_local) in [
            ("127.0.0.1:8080", address("127.0.0.1:8080"), true),
            (" 127.0.0.1:8080 ", address("127.0.0.1:8080"), true),
            ("0.0.0.0:80", address("0.0.0.0:80"), false),
            ("[::1]:0", address("[::1]:0"), true),
            ("[::]:0", address("[::]:0"), false),
            (
                "[::ffff:127.0.0.1]:1",
                address("[::ffff:127.0.0.1]:1"),
                true,
            ),
            ("8080", address("127.0.0.1:8080"), true),
            ("0", address("127.0.0.1:0"), true),
            ("localhost:8080", Endpoint::Localhost(8080), true),
            ("LocalHost.:0", Endpoint::Localhost(0), true),
            (":8080", Endpoint::Everywhere(8080), false),
            ("*:8080", Endpoint::Everywhere(8080), false),
            (
                "unix:/run/x.sock",
                Endpoint::Unix("/run/x.sock".into()),
                true,
            ),
            (
                "unix:///run/x.sock",
                Endpoint::Unix("/run/x.sock".into()),
                true,
            ),
            ("unix:x.sock", Endpoint::Unix("x.sock".into()), true),
        ] {
            let read: Endpoint = text.parse().unwrap();
            assert_eq!((&read, read.is_local()), (&endpoint, is_local), "{text}");
            assert_eq!(read.to_string().parse(), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused_with_what_to_write() {
        for (text, problem, instead) in [
            ("", "is empty", "127.0.0.1:8080"),
            ("nowhere", "not an address", "localhost:8080"),
            ("localhost", "not an address", "localhost:8080"),
            ("localhost:", "no port", "localhost:8080"),
            ("localhost:http", "port", "localhost:8080"),
            ("localhost:+80", "port", "localhost:8080"),
            ("localhost:65536", "port", "localhost:8080"),
            ("65536", "port", "127.0.0.1:8080"),
            ("80x", "port", "127.0.0.1:8080"),
            (":", "no port", ":8080"),
            ("127.0.0.1", "no port", "127.0.0.1:8080"),
            ("127.0.0.1:", "no port", "127.0.0.1:8080"),
            ("127.0.0.1:70000", "port", "127.0.0.1:8080"),
            ("::1", "no port", "[::1]:8080"),
            ("[::1]", "no port", "[::1]:8080"),
            ("2001:db8::1:8080", "no port", "[2001:db8::1:8080]:8080"),
            ("hub.example:8080", "IP address", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "scheme", "write 127.0.0.1:8080"),
            ("http://hub.example", "scheme", "127.0.0.1:8080"),
            ("unix:", "no path", "unix:/run/hub.sock"),
            ("unix://run/x", "host name", "unix:/run/hub.sock"),
            ("unix:@hub", "abstract", "unix:/run/hub.sock"),
            ("unix:/run/", "folder", "unix:/run/hub.sock"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} ")), "{error}");
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains(instead), "{text}: {error}");
        }
        let long = format!("unix:/{}", "x".repeat(103));
        assert!(long.parse::<Endpoint>().is_err());
    }
}
