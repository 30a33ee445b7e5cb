//! Any header of any proxy gives an address, without a panic; how its list is cut into lines does not matter; and whatever a client
//! writes, the address that the proxy adds on the right is the one that counts.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use sse_server::access::{Syntax, client_address};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
}

fuzz_target!(|input: (Vec<&[u8]>, bool)| {
    let (lines, is_forwarded) = input;
    let syntax = if is_forwarded {
        Syntax::Elements
    } else {
        Syntax::Addresses
    };
    let read = |lines: &[&[u8]]| client_address(PEER, lines.iter().copied(), syntax, is_trusted);
    let found = read(&lines);
    let hops: Vec<&[u8]> = lines
        .iter()
        .flat_map(|line| line.split(|byte| *byte == b','))
        .collect();
    assert_eq!(found, read(&hops));
    assert_eq!(found, read(&[&lines.join(&b","[..])]));
    let added: &[u8] = if is_forwarded {
        b"for=\"[2001:db8::7]:80\";proto=https"
    } else {
        b"2001:db8::7"
    };
    let real = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]);
    let mut longer = lines.clone();
    longer.push(added);
    assert_eq!(read(&longer), real);
    assert_eq!(read(&[&longer.join(&b","[..])]), real);
    // A trusted proxy behind that one hides nothing.
    longer.push(if is_forwarded {
        b"for=10.0.0.2"
    } else {
        b"10.0.0.2:4711"
    });
    assert_eq!(read(&longer), real);
});
