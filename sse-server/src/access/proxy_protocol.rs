//! The PROXY protocol's header, which a proxy sends before anything else on a connection: version 1 as a line of text, version 2
//! in binary.
//!
//! Nothing here reads a socket. [`missing_bytes`] says how many bytes certainly belong to the header, so that whoever reads takes
//! none of what comes behind it.

use std::net::IpAddr;

use ppp::{v1, v2};

/// Bytes that are not a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a PROXY protocol header: {0}")]
pub struct InvalidProxyHeader(&'static str);

/// How many bytes are still missing at least, after these; 0 when the header is whole.
///
/// # Errors
///
/// When no header begins with these bytes, or it is too long.
pub fn missing_bytes(begun: &[u8]) -> Result<usize, InvalidProxyHeader> {
    let is_begun = |prefix: &[u8]| {
        let both = begun.len().min(prefix.len());
        begun[..both] == prefix[..both]
    };
    if is_begun(v2::PROTOCOL_PREFIX) && begun.len() >= v2::PROTOCOL_PREFIX.len() {
        let Some(length) = begun.get(V2_LENGTH_AT..V2_HEAD_BYTES) else {
            return Ok(V2_HEAD_BYTES - begun.len());
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > MAX_V2_BYTES {
            return Err(InvalidProxyHeader("it is too long"));
        }
        return Ok((V2_HEAD_BYTES + length).saturating_sub(begun.len()));
    }
    if begun.len() < V1_PREFIX.len() && is_begun(V1_PREFIX) {
        // As many as the shortest one has, whichever version it is.
        return Ok(SHORTEST_BYTES - begun.len());
    }
    if is_begun(v2::PROTOCOL_PREFIX) {
        return Ok(SHORTEST_BYTES - begun.len());
    }
    if !is_begun(V1_PREFIX) {
        return Err(InvalidProxyHeader("it is not one"));
    }
    match begun.len() {
        _ if begun.ends_with(b"\r\n") => Ok(0),
        length if length >= MAX_V1_BYTES => Err(InvalidProxyHeader("it is too long")),
        length if length < SHORTEST_BYTES => Ok(SHORTEST_BYTES - length),
        _ if begun.ends_with(b"\r") => Ok(1),
        // The line's end has two bytes.
        length => Ok(2.min(MAX_V1_BYTES - length)),
    }
}

/// The address in a header that is whole. `None` when it tells of none: the proxy speaks for itself (`LOCAL`), or does not know
/// (`UNKNOWN`, `UNSPEC`), or its client came over a Unix socket.
///
/// # Errors
///
/// When it is malformed.
pub fn address(header: &[u8]) -> Result<Option<IpAddr>, InvalidProxyHeader> {
    let address = if header.starts_with(v2::PROTOCOL_PREFIX) {
        let header = v2::Header::try_from(header)
            .map_err(|_| InvalidProxyHeader("its version 2 is malformed"))?;
        if header.command == v2::Command::Local {
            return Ok(None);
        }
        if header.protocol == v2::Protocol::Datagram {
            return Err(InvalidProxyHeader("it speaks of datagrams"));
        }
        match header.addresses {
            v2::Addresses::IPv4(addresses) => IpAddr::V4(addresses.source_address),
            v2::Addresses::IPv6(addresses) => IpAddr::V6(addresses.source_address),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => return Ok(None),
        }
    } else {
        let header = v1::Header::try_from(header)
            .map_err(|_| InvalidProxyHeader("its version 1 is malformed"))?;
        match header.addresses {
            v1::Addresses::Tcp4(addresses) => IpAddr::V4(addresses.source_address),
            v1::Addresses::Tcp6(addresses) => IpAddr::V6(addresses.source_address),
            v1::Addresses::Unknown => return Ok(None),
        }
    };
    Ok(Some(address.to_canonical()))
}

/// Whether a connection begins as the PROXY protocol does.
pub(crate) fn is_begun(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_PREFIX) || bytes.starts_with(v2::PROTOCOL_PREFIX)
}

const V1_PREFIX: &[u8] = b"PROXY ";
/// What the specification allows for a line of version 1, with its end.
const MAX_V1_BYTES: usize = 107;
/// `PROXY UNKNOWN` with the line's end.
const SHORTEST_BYTES: usize = 15;
/// Version 2 up to its length.
const V2_HEAD_BYTES: usize = 16;
const V2_LENGTH_AT: usize = 14;
/// Addresses and TLVs of version 2: the specification asks that 536 bytes in all are taken. Certificates' names and ids of
/// networks fit in this many times over.
const MAX_V2_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    /// Reads as the server does: what is missing, and no byte more.
    fn read(mut bytes: &[u8]) -> Result<(Option<IpAddr>, usize), InvalidProxyHeader> {
        let mut begun = Vec::new();
        loop {
            let missing = missing_bytes(&begun)?;
            if missing == 0 {
                return Ok((address(&begun)?, begun.len()));
            }
            if bytes.is_empty() {
                return Err(InvalidProxyHeader("it broke off"));
            }
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            begun.extend(taken);
            bytes = rest;
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn both_versions_are_read_and_nothing_behind_them() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187];
        let mut v6 = Vec::new();
        v6.extend(
            "2001:db8::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        v6.extend([0; 20]);
        // TLVs: the ALPN, and one that nobody knows.
        let tlvs = [&v4[..], &[1, 0, 2, b'h', b'2'], &[0xEE, 0, 1, 7]].concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(),
                ip("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n".to_vec(),
                ip("2001:db8::1"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n".to_vec(),
                ip("192.0.2.1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
                None,
            ),
            (v2(0x21, 0x11, &v4), ip("192.0.2.1")),
            (v2(0x21, 0x21, &v6), ip("2001:db8::1")),
            (v2(0x21, 0x11, &tlvs), ip("192.0.2.1")),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x20, 0x00, &[]), None),
            // What a LOCAL header says besides is not looked at.
            (v2(0x20, 0x11, &v4), None),
        ] {
            let text = String::from_utf8_lossy(&header).into_owned();
            for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"] {
                let all = [&header[..], behind].concat();
                assert_eq!(read(&all), Ok((expected, header.len())), "{text:?}");
            }
            assert!(is_begun(&header));
            for cut in 0..header.len() {
                assert!(read(&header[..cut]).is_err(), "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_a_header_is_refused_as_soon_as_it_shows() {
        for wrong in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 56324 443\r\n",
            b"PROXY TCP5 192.0.2.1 10.0.0.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x2F, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x11, &vec![0; MAX_V2_BYTES + 1]),
        ] {
            assert!(read(wrong).is_err(), "{:?}", String::from_utf8_lossy(wrong));
        }
        assert!(!is_begun(b"GET /"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), begins in 0_usize..3) {
            let begin: &[u8] = [&b""[..], V1_PREFIX, v2::PROTOCOL_PREFIX][begins];
            let _ = read(&[begin, &bytes].concat());
        }

        #[test]
        fn no_byte_behind_a_header_is_taken(
            octets in any::<[u8; 4]>(),
            ports in any::<[u16; 2]>(),
            tlvs in prop::collection::vec(any::<u8>(), 0..100),
            behind in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let source = std::net::Ipv4Addr::from(octets);
            let line = format!("PROXY TCP4 {source} 10.0.0.1 {} {}\r\n", ports[0], ports[1]);
            let body = [&octets[..], &[10, 0, 0, 1, 0, 1, 0, 2], &tlvs].concat();
            for header in [line.into_bytes(), v2(0x21, 0x11, &body)] {
                let all = [&header[..], &behind].concat();
                prop_assert_eq!(read(&all), Ok((Some(IpAddr::V4(source)), header.len())));
            }
        }
    }
}
