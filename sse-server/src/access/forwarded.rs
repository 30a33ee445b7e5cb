//! The address that a chain of proxies tells of, out of `X-Forwarded-For`, `Forwarded` (RFC 7239) and headers like them.
//!
//! Each proxy adds the address of whoever spoke to it on the right, and passes on what came from the left: a client can write
//! anything there. So the list is read from the right, up to the first address that is not a proxy's own.

use std::net::{IpAddr, Ipv6Addr};

/// How a header writes its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// A list of addresses with commas between them, as in `X-Forwarded-For`. One address is a list too.
    Addresses,
    /// A list of elements with parameters, of which `for` is read, as in `Forwarded`.
    Elements,
}

/// The address of the client: the first one from the right that is not trusted.
///
/// `values` are the header's lines in the order in which they came; together they are one list. `peer` is the address of the
/// proxy that sent them. A hop that cannot be read (`unknown`, a name, `unix:`, anything malformed) says nothing, and whoever
/// wrote it is the last one known: then it is the last trusted address that was read, as it is when all are trusted.
///
/// ```
/// # use std::net::IpAddr;
/// # use sse_server::access::{Syntax, client_address};
/// let is_proxy = |address: IpAddr| address.is_loopback();
/// let client = client_address(
///     [127, 0, 0, 1].into(),
///     [&b"198.51.100.7, 192.0.2.1"[..], b"127.0.0.2"],
///     Syntax::Addresses,
///     is_proxy,
/// );
/// assert_eq!(client, IpAddr::from([192, 0, 2, 1]));
/// ```
pub fn client_address<'a>(
    peer: IpAddr,
    values: impl IntoIterator<Item = &'a [u8], IntoIter: DoubleEndedIterator>,
    syntax: Syntax,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut last = peer;
    // A comma within quotes ends an element too. Else a client could open quotes that swallow what the proxy adds. The
    // addresses have none, so this loses nothing.
    let hops = values
        .into_iter()
        .rev()
        .flat_map(|value| value.rsplit(|byte| *byte == b','));
    for hop in hops {
        let address = std::str::from_utf8(hop).ok().and_then(|hop| match syntax {
            Syntax::Addresses => address(hop.trim_matches(BLANKS)),
            Syntax::Elements => for_parameter(hop.trim_matches(BLANKS)),
        });
        let Some(address) = address else { break };
        last = address;
        if !is_trusted(address) {
            break;
        }
    }
    last
}

/// The address in the `for` parameter of an element of `Forwarded` (RFC 7239, section 4).
fn for_parameter(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if !is_token(name) || !(is_token(value) || is_quoted(value)) {
            return None;
        }
        // A parameter must not come twice.
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    address(found?)
}

/// The hosts in a line of `Forwarded`. One that is written wrongly is given as it stands, so that it is no host.
pub(crate) fn hosts(line: &[u8]) -> impl Iterator<Item = String> {
    // A comma within quotes ends an element too: no host has one.
    let pairs = line.split(|byte| matches!(byte, b',' | b';'));
    pairs.filter_map(|pair| {
        let pair = String::from_utf8_lossy(pair);
        let (name, value) = pair.trim_matches(BLANKS).split_once('=')?;
        let is_host = name.trim_matches(BLANKS).eq_ignore_ascii_case("host");
        let value = value.trim_matches(BLANKS);
        let unquoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        is_host.then(|| unquoted.unwrap_or(value).to_owned())
    })
}

/// An address with or without quotes, brackets and port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `"[2001:db8::1]:4711"`.
fn address(text: &str) -> Option<IpAddr> {
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (host, port) = text.split_once(':')?;
        if !is_port(port) {
            return None;
        }
        IpAddr::V4(host.parse().ok()?)
    };
    Some(address.to_canonical())
}

/// A port, or what stands for it (`obfport`, RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_part)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// A token of HTTP (RFC 9110, section 5.6.2), and what programs write without quotes that belong there: colons and brackets.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// A quoted string without quotes or backslashes inside: no address has any.
fn is_quoted(text: &str) -> bool {
    let inside = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| !inside.contains(['"', '\\']))
}

/// What may stand around an element of a list.
const BLANKS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn is_trusted(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
    }

    fn read(lines: &[&str], syntax: Syntax) -> String {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        client_address(PEER, lines, syntax, is_trusted).to_string()
    }

    #[test]
    fn a_list_is_read_from_the_right_up_to_the_first_that_is_no_proxy() {
        for (lines, client) in [
            (&[][..], "10.0.0.1"),
            (&["192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9,192.0.2.1 ,\t10.0.0.7"], "192.0.2.1"),
            (&["198.51.100.9", "192.0.2.1", "10.0.0.7"], "192.0.2.1"),
            (&["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, ::ffff:10.0.0.5"], "192.0.2.1"),
            // What cannot be read ends the reading.
            (&["192.0.2.1, unknown"], "10.0.0.1"),
            (&["192.0.2.1, unknown, 10.0.0.7"], "10.0.0.7"),
            (&["192.0.2.1,"], "10.0.0.1"),
            (&["192.0.2.1", ""], "10.0.0.1"),
            (&["192.0.2.1, unix:"], "10.0.0.1"),
            (&["192.0.2.1, _hidden"], "10.0.0.1"),
            (&["192.0.2.1, 1.2.3"], "10.0.0.1"),
            (&["192.0.2.1, 1.2.3.4:"], "10.0.0.1"),
            (&["192.0.2.1, 1.2.3.4:123456"], "10.0.0.1"),
            (&["192.0.2.1, [2001:db8::1"], "10.0.0.1"),
            (&["192.0.2.1, [2001:db8::1]4711"], "10.0.0.1"),
            (&["192.0.2.1, fe80::1%eth0"], "10.0.0.1"),
            (&["192.0.2.1, \"1.2.3.4"], "10.0.0.1"),
        ] {
            assert_eq!(read(lines, Syntax::Addresses), client, "{lines:?}");
        }
    }

    #[test]
    fn every_host_in_forwarded_is_found() {
        for (line, expected) in [
            ("for=192.0.2.1;proto=http", &[][..]),
            ("for=192.0.2.1;host=hub.example", &["hub.example"]),
            (
                "Host=\"hub.example:8080\";for=a, host=b ; proto=http",
                &["hub.example:8080", "b"],
            ),
            ("host=\"a, host=evil\"", &["\"a", "evil\""]),
            ("host", &[]),
            ("host=", &[""]),
        ] {
            let found: Vec<String> = hosts(line.as_bytes()).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (lines, client) in [
            (&["for=192.0.2.1"][..], "192.0.2.1"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
            (&["for=192.0.2.1;proto=http;by=203.0.113.43"], "192.0.2.1"),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
            (&["for=192.0.2.43", "for=10.0.0.3;proto=http"], "192.0.2.43"),
            (&["for=\"192.0.2.1:_port\""], "192.0.2.1"),
            // haproxy writes an IPv6 address so.
            (
                &["proto=http;for=\"[2001:db8::1]\";host=hub"],
                "2001:db8::1",
            ),
            // nginx writes a port without quotes, if it is told to.
            (&["for=192.0.2.1:4711"], "192.0.2.1"),
            (&["for=192.0.2.1, for=unknown"], "10.0.0.1"),
            (&["for=192.0.2.1, for=_SEVKISEK"], "10.0.0.1"),
            (&["for=192.0.2.1, for=\"_gazonk\""], "10.0.0.1"),
            (&["for=192.0.2.1, by=10.0.0.2"], "10.0.0.1"),
            (&["for=192.0.2.1, 198.51.100.17"], "10.0.0.1"),
            (
                &["for=192.0.2.1, for=198.51.100.1;for=198.51.100.2"],
                "10.0.0.1",
            ),
            (&["for=192.0.2.1, for=\"198.51.100.1"], "10.0.0.1"),
        ] {
            assert_eq!(read(lines, Syntax::Elements), client, "{lines:?}");
        }
    }

    /// A client that opens quotes would else have what the proxy adds read as a part of what it wrote itself.
    #[test]
    fn quotes_that_a_client_opens_do_not_swallow_what_the_proxy_adds() {
        for forged in [
            "for=\"",
            "for=203.0.113.9;x=\"",
            "for=203.0.113.9, for=\"x",
            "\"",
        ] {
            let line = format!("{forged}, for=\"[2001:db8::1]\"");
            assert_eq!(read(&[&line], Syntax::Elements), "2001:db8::1", "{forged}");
        }
    }

    /// A hop as somebody writes it, and the address that is in it.
    fn hop() -> impl Strategy<Value = (String, Option<IpAddr>)> {
        let address = prop_oneof![
            (10_u8..12, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| IpAddr::from([a, b, c, d])),
            any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        ];
        let written = (address, 0_u8..4, any::<u16>()).prop_map(|(address, form, port)| {
            let text = match (address, form) {
                (_, 0) => address.to_string(),
                (IpAddr::V6(_), 1) => format!("[{address}]"),
                (IpAddr::V6(_), 2) => format!("\"[{address}]:{port}\""),
                (_, 1) => format!("\"{address}\""),
                _ => SocketAddr::new(address, port).to_string(),
            };
            (text, Some(address.to_canonical()))
        });
        let unreadable = "(unknown|_[a-z]{1,5}|[a-z]{0,4}|)".prop_map(|text: String| {
            let is_address = text.parse::<IpAddr>().is_ok();
            assert!(!is_address, "{text}");
            (text, None)
        });
        prop_oneof![8 => written, 1 => unreadable]
    }

    /// What the rule says, written the other way round: of the addresses behind the last hop that cannot be read, the last one
    /// that is not trusted, or else the first.
    fn naive(hops: &[Option<IpAddr>]) -> IpAddr {
        let readable = hops.rsplit(Option::is_none).next().unwrap_or_default();
        let readable: Vec<IpAddr> = readable.iter().copied().flatten().collect();
        let untrusted = readable.iter().copied().rfind(|it| !is_trusted(*it));
        untrusted.or(readable.first().copied()).unwrap_or(PEER)
    }

    proptest! {
        #[test]
        fn any_list_in_any_lines_gives_what_the_rule_says(
            hops in prop::collection::vec((hop(), any::<bool>()), 0..8),
            is_forwarded in any::<bool>(),
        ) {
            let mut lines: Vec<String> = Vec::new();
            for ((text, address), begins_line) in &hops {
                let text = match (is_forwarded, address) {
                    (true, Some(IpAddr::V6(address))) => format!("proto=http;for=\"[{address}]\""),
                    (true, Some(address)) => format!("for={address}"),
                    (true, None) => format!("for={text}"),
                    (false, _) => text.clone(),
                };
                match lines.last_mut() {
                    Some(line) if !begins_line => *line = format!("{line}, {text}"),
                    _ => lines.push(text),
                }
            }
            let syntax = if is_forwarded { Syntax::Elements } else { Syntax::Addresses };
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let addresses: Vec<_> = hops.iter().map(|((_, address), _)| *address).collect();
            prop_assert_eq!(read(&lines, syntax), naive(&addresses).to_string());
        }

        #[test]
        fn what_a_client_writes_never_hides_what_the_proxy_adds(forged in "[ -~]{0,40}") {
            let list = read(&[&format!("{forged}, 192.0.2.1")], Syntax::Addresses);
            prop_assert_eq!(list, "192.0.2.1");
            let element = read(&[&format!("{forged}, for=192.0.2.1")], Syntax::Elements);
            prop_assert_eq!(element, "192.0.2.1");
        }
    }
}
