//! Whatever a connection begins with, a PROXY header is found whole or refused: without a panic, within its bound, whichever way the
//! bytes are cut, and never more of them are taken than belong to it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sse_server::access::proxy_protocol::{address, missing_bytes};

/// As a socket is read: as many bytes as are certainly the header's, at most `step` at a time. How many that were.
fn read(input: &[u8], step: usize) -> Option<usize> {
    let mut read = 0;
    loop {
        let missing = missing_bytes(&input[..read]).ok()?;
        if missing == 0 {
            // A line that is shorter than any header is whole only by where a read ends, and malformed.
            return address(&input[..read]).is_ok().then_some(read);
        }
        if read == input.len() {
            return None;
        }
        read = input.len().min(read + missing.min(step));
    }
}

fuzz_target!(|input: (usize, &[u8])| {
    let (step, bytes) = input;
    let length = read(bytes, usize::MAX);
    assert_eq!(length, read(bytes, 1));
    assert_eq!(length, read(bytes, step % 40 + 1));
    let Some(length) = length else { return };
    assert!(length <= 16 + (4 << 10));
    // What comes behind it changes nothing.
    let mut longer = bytes[..length].to_vec();
    longer.extend_from_slice(b"GET / HTTP/1.1\r\n");
    assert_eq!(read(&longer, usize::MAX), Some(length));
});
