//! The cookies that the application is shown: those that are named, and no others.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderValue, header};

/// The name of a cookie (RFC 6265, section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(Box<str>);

/// A text is not the name of a cookie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a cookie; write the name alone, for example session")]
pub struct InvalidCookieName(String);

impl FromStr for CookieName {
    type Err = InvalidCookieName;

    fn from_str(text: &str) -> Result<Self, InvalidCookieName> {
        let is_of_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_of_token) {
            return Err(InvalidCookieName(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Those of a request's cookies that are named, in the order in which they came, as one header.
pub(super) fn named(names: &[CookieName], headers: &HeaderMap) -> Option<HeaderValue> {
    if names.is_empty() {
        return None;
    }
    let mut chosen: Vec<u8> = Vec::new();
    // HTTP/2 may send one header for each (RFC 9113, section 8.2.3).
    for cookies in headers.get_all(header::COOKIE) {
        for cookie in cookies.as_bytes().split(|byte| *byte == b';') {
            let cookie = cookie.trim_ascii();
            let name = cookie
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default();
            let name = name.trim_ascii();
            // Without `=` a browser means a value that has no name.
            let has_name = cookie.contains(&b'=');
            if has_name && names.iter().any(|known| known.0.as_bytes() == name) {
                if !chosen.is_empty() {
                    chosen.extend(b"; ");
                }
                chosen.extend(cookie);
            }
        }
    }
    if chosen.is_empty() {
        return None;
    }
    let mut value = HeaderValue::from_bytes(&chosen).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_are_named_are_taken_and_no_others() {
        let names: Vec<CookieName> = ["sid", "connect.sid"].map(|it| it.parse().unwrap()).into();
        let chosen = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(
                    header::COOKIE,
                    HeaderValue::from_bytes(line.as_bytes()).unwrap(),
                );
            }
            named(&names, &headers).map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned())
        };
        for (lines, expected) in [
            (&["sid=1"][..], Some("sid=1")),
            (
                &["a=1; sid=2;connect.sid=s%3A3; b=4"],
                Some("sid=2; connect.sid=s%3A3"),
            ),
            (&["a=1", "sid=2", "b=3", "sid=4"], Some("sid=2; sid=4")),
            (&["sid=a=b"], Some("sid=a=b")),
            (&["sid=\"x\""], Some("sid=\"x\"")),
            (&["sid="], Some("sid=")),
            (&["sid = 1"], Some("sid = 1")),
            (&["SID=1; sid2=1; xsid=1; __Host-sid=1"], None),
            (&["sid"], None),
            (&["a=sid=1"], None),
            (&["a=\"; b=sid=1"], None),
            (&["", ";;"], None),
            (&[], None),
        ] {
            assert_eq!(chosen(lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_name_is_a_name_alone() {
        for name in ["session", "__Host-id", "connect.sid"] {
            assert_eq!(name.parse::<CookieName>().unwrap().to_string(), name);
        }
        for wrong in ["", "a=b", "a;b", "a b", "ä", "a,b"] {
            assert!(wrong.parse::<CookieName>().is_err(), "{wrong}");
        }
    }
}
