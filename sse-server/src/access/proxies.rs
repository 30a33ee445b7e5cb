//! Whose word counts for an address: the proxies that are trusted, and the one header that they tell it in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

use super::forwarded::{Syntax, client_address};

/// Who is at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A machine, or the client that a proxy told of at the beginning of the connection.
    Ip(IpAddr),
    /// A program on this machine, over a Unix socket.
    Unix,
}

impl Peer {
    /// The address that it counts under: 127.0.0.1 for a Unix socket.
    #[must_use]
    pub fn address(self) -> IpAddr {
        match self {
            Self::Ip(address) => address,
            Self::Unix => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// Whether it is in a network of one's own, where proxies are.
    fn is_private(self) -> bool {
        match self {
            Self::Ip(address) => is_private(address),
            Self::Unix => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Peers that are trusted as proxies: a network, an address, `private` or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// A network.
    Network(IpNet),
    /// The networks that anyone may use for their own: RFC 1918, loopback, link-local, and unique local addresses of IPv6.
    Private,
    /// Peers on a Unix socket.
    Unix,
}

impl TrustedProxy {
    fn is(self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Network(network), Peer::Ip(address)) => network.contains(&address),
            (Self::Private, Peer::Ip(address)) => is_private(address),
            (Self::Unix, Peer::Unix) => true,
            (Self::Unix, Peer::Ip(_)) | (Self::Network(_) | Self::Private, Peer::Unix) => false,
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_private() || address.is_loopback() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// A text that does not say whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} {problem}")]
pub struct InvalidTrustedProxy {
    given: String,
    problem: String,
}

impl FromStr for TrustedProxy {
    type Err = InvalidTrustedProxy;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let wrong = |problem: String| InvalidTrustedProxy {
            given: given.to_owned(),
            problem,
        };
        let text = given.trim();
        match text {
            "private" => return Ok(Self::Private),
            "unix" => return Ok(Self::Unix),
            _ => {}
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                wrong(
                    "is not a network; write one as 10.1.0.0/16 or 2001:db8::/32, or an address, private or unix"
                        .to_owned(),
                )
            })?,
        };
        if network.trunc() != network {
            let (whole, address) = (network.trunc(), network.addr());
            return Err(wrong(format!(
                "has an address within the network; write {whole}, or {address} for that address alone"
            )));
        }
        if network.prefix_len() == 0 {
            return Err(wrong(
                "is every address, so any client could choose its own; name the proxies' networks"
                    .to_owned(),
            ));
        }
        if let IpNet::V6(network) = network
            && network.addr().to_ipv4_mapped().is_some()
        {
            return Err(wrong(
                "is a network of IPv4 in IPv6; write it as IPv4".to_owned(),
            ));
        }
        Ok(Self::Network(network))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Private => f.write_str("private"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// How a trusted proxy tells the address. Nothing else that tells one is looked at, as proxies pass on what clients write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// In this header of each request.
    Named(HeaderName),
    /// In the PROXY protocol, once, before anything else on a connection.
    ProxyProtocol,
}

impl Default for ProxyHeader {
    fn default() -> Self {
        Self::Named(X_FORWARDED_FOR)
    }
}

/// A text that is not the name of a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a header; write X-Forwarded-For, Forwarded, X-Real-IP or PROXY")]
pub struct InvalidProxyHeaderName(String);

impl FromStr for ProxyHeader {
    type Err = InvalidProxyHeaderName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let text = given.trim();
        if text.eq_ignore_ascii_case("proxy") {
            return Ok(Self::ProxyProtocol);
        }
        text.parse()
            .map(Self::Named)
            .map_err(|_| InvalidProxyHeaderName(given.to_owned()))
    }
}

impl fmt::Display for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) if name == X_FORWARDED_FOR => f.write_str("X-Forwarded-For"),
            Self::Named(name) if name == X_REAL_IP => f.write_str("X-Real-IP"),
            Self::Named(name) if name == FORWARDED => f.write_str("Forwarded"),
            Self::Named(name) => f.write_str(name.as_str()),
            Self::ProxyProtocol => f.write_str("PROXY"),
        }
    }
}

/// The proxies that are trusted, and how they tell the address. The default trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Who is trusted.
    pub peers: Vec<TrustedProxy>,
    /// How they tell it.
    pub header: ProxyHeader,
}

impl TrustedProxies {
    /// Whether a peer is a proxy that is trusted.
    #[must_use]
    pub fn trusts(&self, peer: Peer) -> bool {
        self.peers.iter().any(|trusted| trusted.is(peer))
    }

    /// Whether a connection of this peer begins with the PROXY protocol.
    #[must_use]
    pub fn expects_proxy_protocol(&self, peer: Peer) -> bool {
        self.header == ProxyHeader::ProxyProtocol && self.trusts(peer)
    }

    /// The address that a request comes from.
    ///
    /// ```
    /// # use http::HeaderMap;
    /// # use sse_server::access::{Peer, TrustedProxies};
    /// let proxies = TrustedProxies {
    ///     peers: vec!["127.0.0.1".parse()?],
    ///     ..TrustedProxies::default()
    /// };
    /// let mut headers = HeaderMap::new();
    /// headers.insert("x-forwarded-for", "198.51.100.7, 192.0.2.1".parse()?);
    /// let address = |peer: [u8; 4]| proxies.address_of(Peer::Ip(peer.into()), &headers).to_string();
    /// assert_eq!(address([127, 0, 0, 1]), "192.0.2.1");
    /// assert_eq!(address([203, 0, 113, 9]), "203.0.113.9");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn address_of(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let ProxyHeader::Named(name) = &self.header else {
            return peer.address();
        };
        if !self.trusts(peer) {
            return peer.address();
        }
        let values = headers
            .get_all(name)
            .iter()
            .map(http::HeaderValue::as_bytes);
        let syntax = if *name == FORWARDED {
            Syntax::Elements
        } else {
            Syntax::Addresses
        };
        client_address(peer.address(), values, syntax, |address| {
            self.trusts(Peer::Ip(address))
        })
    }
}

/// Says once that a proxy speaks which nobody trusts, so that all its clients are one address.
#[derive(Debug, Default)]
pub(crate) struct UntrustedProxyWarning {
    is_given: AtomicBool,
}

impl UntrustedProxyWarning {
    /// Looks at a request, as long as nothing was said.
    pub(crate) fn look_at_headers(
        &self,
        proxies: &TrustedProxies,
        peer: Peer,
        headers: &HeaderMap,
    ) {
        // With the PROXY protocol the peer may be a client, which may write what it wants.
        let says_nothing = proxies.header == ProxyHeader::ProxyProtocol || proxies.trusts(peer);
        if self.is_given.load(Ordering::Relaxed) || !peer.is_private() || says_nothing {
            return;
        }
        let known = [X_FORWARDED_FOR, FORWARDED, X_REAL_IP];
        let found = known.into_iter().find(|name| headers.contains_key(name));
        if let Some(name) = found {
            self.give(peer, &ProxyHeader::Named(name));
        }
    }

    /// A peer that is not trusted has begun as the PROXY protocol does.
    pub(crate) fn saw_proxy_protocol(&self, peer: Peer) {
        if peer.is_private() {
            self.give(peer, &ProxyHeader::ProxyProtocol);
        }
    }

    fn give(&self, peer: Peer, header: &ProxyHeader) {
        if self.is_given.swap(true, Ordering::Relaxed) {
            return;
        }
        let others = match header {
            ProxyHeader::Named(name) if *name == X_FORWARDED_FOR => String::new(),
            other => format!(" --trusted-proxy-header {other}"),
        };
        tracing::warn!(
            %peer,
            "a proxy that is not trusted tells its clients' addresses in {header}; they are ignored, and all its clients share \
             the limits of one address: trust it with --trusted-proxy {peer}{others}"
        );
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        TrustedProxies {
            peers: texts.iter().map(|text| text.parse().unwrap()).collect(),
            header: ProxyHeader::default(),
        }
    }

    fn ip(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    #[test]
    fn networks_addresses_and_words_say_who_is_trusted() {
        for (text, inside, outside) in [
            ("10.1.0.0/16", &["10.1.255.1"][..], &["10.2.0.1", "::1"][..]),
            ("192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
            ("::ffff:192.0.2.1", &["192.0.2.1"], &["192.0.2.2"]),
            ("2001:db8::/32", &["2001:db8:1::1"], &["2001:db9::1"]),
            (
                " private ",
                &[
                    "10.9.9.9",
                    "172.31.0.1",
                    "192.168.1.1",
                    "127.0.0.1",
                    "169.254.1.1",
                    "::1",
                    "fe80::1",
                    "fd12::1",
                ],
                &["172.32.0.1", "8.8.8.8", "2001:db8::1", "100.64.0.1"],
            ),
            ("unix", &[], &["127.0.0.1", "::1"]),
        ] {
            let proxies = trusted(&[text]);
            for address in inside {
                assert!(proxies.trusts(ip(address)), "{text}: {address}");
            }
            for address in outside {
                assert!(!proxies.trusts(ip(address)), "{text}: {address}");
            }
            assert_eq!(proxies.trusts(Peer::Unix), text == "unix");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_to_write() {
        for (text, advice) in [
            ("", "is not a network"),
            ("proxy.example", "is not a network"),
            ("10.0.0.0/33", "is not a network"),
            ("10.0.0.5/8", "write 10.0.0.0/8, or 10.0.0.5"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ] {
            let error = text.parse::<TrustedProxy>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} ")), "{error}");
            assert!(error.contains(advice), "{text}: {error}");
        }
        assert!("a b".parse::<ProxyHeader>().is_err());
    }

    #[test]
    fn one_header_counts_and_no_other() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "192.0.2.1".parse().unwrap());
        headers.append("forwarded", "for=192.0.2.2".parse().unwrap());
        headers.append("x-real-ip", "192.0.2.3".parse().unwrap());
        headers.append("cf-connecting-ip", "192.0.2.4".parse().unwrap());
        for (name, expected) in [
            ("X-Forwarded-For", "192.0.2.1"),
            ("Forwarded", "192.0.2.2"),
            ("X-Real-IP", "192.0.2.3"),
            ("CF-Connecting-IP", "192.0.2.4"),
            ("PROXY", "127.0.0.1"),
        ] {
            let proxies = TrustedProxies {
                header: name.parse().unwrap(),
                ..trusted(&["127.0.0.1", "unix"])
            };
            assert_eq!(
                proxies.header.to_string().to_lowercase(),
                name.to_lowercase()
            );
            for peer in [ip("127.0.0.1"), Peer::Unix] {
                let address = proxies.address_of(peer, &headers);
                assert_eq!(address.to_string(), expected, "{name}");
            }
            let foreign = proxies.address_of(ip("127.0.0.2"), &headers);
            assert_eq!(foreign.to_string(), "127.0.0.2", "{name}");
            assert_eq!(
                proxies.expects_proxy_protocol(ip("127.0.0.1")),
                name == "PROXY"
            );
        }
    }
}
