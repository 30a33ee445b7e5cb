//! As much of HTTP/2 as a client needs that asks for much, takes nothing, and answers every PING.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Opens a connection with so many requests on it and a window of zero for each, so that no answer's body can be sent.
pub(super) fn ask_and_take_nothing(
    mut socket: TcpStream,
    path: &str,
    requests: u32,
) -> io::Result<TcpStream> {
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    // SETTINGS_INITIAL_WINDOW_SIZE (4) is zero.
    write_frame(&mut socket, SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])?;
    let mut block = vec![0x82, 0x86]; // :method GET, :scheme http (RFC 7541, appendix A)
    literal(&mut block, 4, path.as_bytes()); // :path
    literal(&mut block, 1, b"localhost"); // :authority
    for number in 0..requests {
        let stream = 2 * number + 1;
        write_frame(
            &mut socket,
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block,
        )?;
    }
    Ok(socket)
}

/// Reads frames until none comes, and answers those that want an answer. False when the connection is over.
pub(super) fn keep_alive(socket: &mut TcpStream, answers: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    match socket.read(&mut buffer) {
        Ok(0) => return false,
        Ok(len) => answers.extend_from_slice(buffer.get(..len).unwrap_or_default()),
        Err(error) => {
            return matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            );
        }
    }
    while let Some((head, rest)) = answers.split_first_chunk::<9>() {
        let [a, b, c, kind, flags, ..] = *head;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let Some(payload) = rest.get(..len) else {
            break;
        };
        let payload = payload.to_vec();
        answers.drain(..9 + len);
        let written = match kind {
            SETTINGS if flags & ACK == 0 => write_frame(socket, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => write_frame(socket, PING, ACK, 0, &payload),
            GOAWAY => return false,
            _ => Ok(()),
        };
        if written.is_err() {
            return false;
        }
    }
    true
}

fn write_frame(
    socket: &mut TcpStream,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> io::Result<()> {
    let len = u32::try_from(payload.len())
        .map_err(io::Error::other)?
        .to_be_bytes();
    let [_, a, b, c] = len;
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    socket.write_all(&frame)
}

/// A header whose name is in the static table, its value as it is (RFC 7541, section 6.2.2).
fn literal(block: &mut Vec<u8>, name: u8, value: &[u8]) {
    block.push(name);
    let len = u8::try_from(value.len()).unwrap_or(u8::MAX);
    // Seven bits hold lengths below 127.
    debug_assert!(len < 127);
    block.push(len);
    block.extend_from_slice(value);
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
