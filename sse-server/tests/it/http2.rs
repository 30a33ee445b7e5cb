//! A client of HTTP/2 that writes its frames by hand, because no library leaves a window shut for long.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::client::{DEADLINE, Wire};
use crate::server::Server;

/// The bytes of a frame (RFC 9113, section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A frame as it was read.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Takes the first frame, if it is there whole.
    fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let (head, rest) = buffer.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let frame = Self {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: rest.get(..length)?.to_vec(),
        };
        buffer.drain(..9 + length);
        Some(frame)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The error code that a stream is reset with whose client takes nothing.
pub(crate) const CANCEL: u32 = 8;

/// A connection without TLS, and what came on it.
pub(crate) struct Http2 {
    wire: Wire,
    pub(crate) data: BTreeMap<u32, Vec<u8>>,
    pub(crate) ended: Vec<u32>,
    pub(crate) reset: BTreeMap<u32, u32>,
    pongs: usize,
    is_going: bool,
}

impl Http2 {
    /// Connects; each stream may send so many bytes.
    pub(crate) fn connect(server: &Server, window: u32) -> Self {
        Self::begin(Wire::connect(server.address), window)
    }

    pub(crate) fn begin(mut wire: Wire, window: u32) -> Self {
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        wire.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        wire.write(&frame(SETTINGS, 0, 0, &settings));
        Self {
            wire,
            data: BTreeMap::new(),
            ended: Vec::new(),
            reset: BTreeMap::new(),
            pongs: 0,
            is_going: false,
        }
    }

    pub(crate) fn get(&mut self, stream: u32, path: &str) {
        // GET, http, a path and an authority that are not indexed (RFC 7541, section 6).
        let mut head = b"\x82\x86\x04".to_vec();
        head.push(u8::try_from(path.len()).unwrap());
        head.extend(path.as_bytes());
        head.extend(b"\x01\x09localhost");
        let flags = END_STREAM | END_HEADERS;
        self.wire.write(&frame(HEADERS, flags, stream, &head));
    }

    /// Lets a stream, or with 0 the connection, send more.
    pub(crate) fn open_window(&mut self, stream: u32, bytes: u32) {
        let bytes = bytes.to_be_bytes();
        self.wire.write(&frame(WINDOW_UPDATE, 0, stream, &bytes));
    }

    /// Reads one frame; false when the connection has ended.
    #[track_caller]
    pub(crate) fn read(&mut self) -> bool {
        let Some(frame) = self.next_frame() else {
            return false;
        };
        match frame.kind {
            DATA => {
                let data = self.data.entry(frame.stream).or_default();
                data.extend_from_slice(&frame.payload);
                if frame.flags & END_STREAM != 0 {
                    self.ended.push(frame.stream);
                }
            }
            RST_STREAM => {
                let code = frame.payload[..4].try_into().unwrap();
                self.reset.insert(frame.stream, u32::from_be_bytes(code));
            }
            PING if frame.flags & ACK != 0 => self.pongs += 1,
            GOAWAY => self.is_going = true,
            _ => {}
        }
        true
    }

    #[track_caller]
    fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.wire.buffer) {
                return Some(frame);
            }
            if !self.wire.fill() {
                return None;
            }
        }
    }

    /// Reads until something holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(self.read(), "the connection ended before {what}");
            assert!(Instant::now() < deadline, "waited in vain for {what}");
        }
    }

    /// Whether the connection still answers.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        let pongs = self.pongs;
        self.wire.write(&frame(PING, 0, 0, b"say pong"));
        self.until("a pong", |it| it.pongs > pongs);
        assert!(!self.is_going);
    }

    pub(crate) fn text(&self, stream: u32) -> String {
        let data = self.data.get(&stream).cloned().unwrap_or_default();
        String::from_utf8(data).unwrap()
    }
}
