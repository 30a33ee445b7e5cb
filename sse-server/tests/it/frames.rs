//! A WebSocket client that hides nothing: it writes the frames it is told to, right or wrong, and reads them one by one.

use serde_json::Value;

use crate::client::{Reply, Wire};
use crate::server::Server;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The headers of a handshake, with the key of the standard's example.
pub(crate) const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A frame as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) is_last: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame and its reason.
    #[track_caller]
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        let (code, reason) = self.payload.split_at(2);
        let code = u16::from_be_bytes(code.try_into().unwrap());
        (code, String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// An open WebSocket.
pub(crate) struct WebSocket {
    pub(crate) wire: Wire,
    /// What `connected` said.
    pub(crate) connected: Value,
}

impl WebSocket {
    /// Opens one that must be granted, and reads its greeting.
    #[track_caller]
    pub(crate) fn open(server: &Server, query: &str) -> Self {
        Self::over(Wire::connect(server.address), server, query)
    }

    #[track_caller]
    pub(crate) fn over(mut wire: Wire, server: &Server, query: &str) -> Self {
        let path = format!("/events/ws{query}");
        wire.write(&server.bytes("GET", &path, &HANDSHAKE, None));
        Self::greeted(wire)
    }

    /// The handshake was sent already.
    #[track_caller]
    pub(crate) fn greeted(mut wire: Wire) -> Self {
        let head = wire.head().unwrap();
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(
            head.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        let mut socket = Self {
            wire,
            connected: Value::Null,
        };
        let greeting = socket.event();
        assert_eq!(greeting["event"], "connected");
        socket.connected = greeting["data"].clone();
        socket
    }

    /// The next frame, or nothing at the socket's end.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.wire.buffer) {
                self.wire.buffer.drain(..length);
                return Some(frame);
            }
            if !self.wire.fill() {
                assert!(self.wire.buffer.is_empty(), "cut within a frame");
                return None;
            }
        }
    }

    /// The next text message as JSON, pings left out.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Value {
        loop {
            let frame = self.frame().expect("one more message");
            match frame.opcode {
                PING => assert!(frame.payload.is_empty()),
                TEXT => {
                    assert!(frame.is_last);
                    return serde_json::from_slice(&frame.payload).unwrap();
                }
                _ => panic!("{frame:?} {}", String::from_utf8_lossy(&frame.payload)),
            }
        }
    }

    /// Messages up to the close frame, which must be the last before the end: what it says.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().expect("a close frame before the end");
            if frame.opcode == CLOSE {
                let said = frame.close();
                assert_eq!(self.frame(), None, "something after the close frame");
                return said;
            }
        }
    }

    #[track_caller]
    pub(crate) fn write(&mut self, opcode: u8, payload: &[u8]) {
        self.wire.write(&masked(true, opcode, payload));
    }

    /// Sends a request and reads its answer, which must be the next message.
    #[track_caller]
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.write(TEXT, message.to_string().as_bytes());
        self.event()
    }
}

/// Sends a handshake that must be refused.
#[track_caller]
pub(crate) fn refused(server: &Server, method: &str, headers: &[(&str, &str)]) -> Reply {
    let mut wire = Wire::connect(server.address);
    wire.write(&server.bytes(method, "/events/ws", headers, None));
    wire.reply(method == "HEAD").unwrap()
}

/// A frame as a client sends it.
pub(crate) fn masked(is_last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(is_last, opcode, payload.len() as u64, true);
    let key = [0x5a, 0x01, 0xff, 0x80];
    frame.extend_from_slice(&key);
    let key = key.iter().cycle();
    frame.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame's first bytes, up to its length.
pub(crate) fn head(is_last: bool, opcode: u8, length: u64, is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut head = vec![if is_last { 0x80 | opcode } else { opcode }];
    match length {
        0..=125 => head.push(mask | u8::try_from(length).unwrap()),
        126..=0xffff => {
            head.push(mask | 126);
            head.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head
}

/// The frame that the bytes begin with, and its length in bytes. A server masks nothing.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits");
    assert_eq!(second & 0x80, 0, "masked by the server");
    let (start, length) = match second {
        126 => {
            let length = u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap());
            assert!(length > 125, "not the shortest form");
            (4, usize::from(length))
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            assert!(length > 0xffff, "not the shortest form");
            (10, usize::try_from(length).unwrap())
        }
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let frame = Frame {
        is_last: first & 0x80 != 0,
        opcode: first & 0x0f,
        payload,
    };
    Some((frame, start + length))
}
