//! Reading what a server sends: response heads, chunked bodies, events.
//!
//! Everything here works on bytes that arrive in any pieces, and copies only what a piece leaves
//! unfinished: a load generator that is slower than the server measures itself.

use memchr::memchr;
use memchr::memmem::find;

/// What a response's head says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) is_chunked: bool,
    pub(crate) is_event_stream: bool,
    pub(crate) is_gzip: bool,
    pub(crate) content_length: Option<usize>,
    /// Bytes of the head, its empty line included.
    pub(crate) len: usize,
}

impl Head {
    /// The head that `bytes` begin with; `None` when its empty line has not arrived.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let len = find(bytes, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..len]).to_ascii_lowercase();
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let mut head = Self {
            status: status.and_then(|word| word.parse().ok()).unwrap_or(0),
            is_chunked: false,
            is_event_stream: false,
            is_gzip: false,
            content_length: None,
            len,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name {
                "transfer-encoding" => head.is_chunked = value.ends_with("chunked"),
                "content-type" => head.is_event_stream = value.starts_with("text/event-stream"),
                "content-encoding" => head.is_gzip = value == "gzip",
                "content-length" => head.content_length = value.parse().ok(),
                _ => {}
            }
        }
        Some(head)
    }
}

/// A whole response to a publish in `bytes`: its status and its length; `None` when there is more
/// to come.
pub(crate) fn whole_response(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = Head::parse(bytes)?;
    if head.is_chunked {
        let end = find(&bytes[head.len - 2..], b"\r\n0\r\n\r\n");
        let short = bytes[head.len..]
            .starts_with(b"0\r\n\r\n")
            .then_some(head.len + 5);
        return short
            .or_else(|| Some(head.len - 2 + end? + 7))
            .map(|len| (head.status, len));
    }
    let len = head.len + head.content_length.unwrap_or(0);
    (bytes.len() >= len).then_some((head.status, len))
}

/// The framing of a body, and how far in it a reader is.
///
/// ```text
/// Size ──line end──▶ Data{left} ──left = 0──▶ DataEnd ──line end──▶ Size
///   └── size 0 ──▶ End
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The body is what comes until the connection ends.
    Plain,
    /// In the line with a chunk's size; an extension, from `;` on, is passed over.
    Size {
        value: usize,
        extension: bool,
    },
    Data {
        left: usize,
    },
    /// In the line end after a chunk's data.
    DataEnd,
    /// After the last chunk.
    End,
}

/// A body that breaks the rules of chunked framing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Framing {
    pub(crate) fn of(head: &Head) -> Self {
        if head.is_chunked {
            Self::Size {
                value: 0,
                extension: false,
            }
        } else {
            Self::Plain
        }
    }

    /// Moves the body's own bytes to the front of `bytes` and returns how many there are.
    pub(crate) fn strip(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        let mut kept = 0;
        let mut at = 0;
        while at < bytes.len() {
            match self {
                Self::Plain => return Ok(bytes.len()),
                Self::End => return Ok(kept),
                Self::Data { left } => {
                    let len = (*left).min(bytes.len() - at);
                    bytes.copy_within(at..at + len, kept);
                    kept += len;
                    at += len;
                    *left -= len;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                }
                Self::DataEnd => {
                    match bytes[at] {
                        b'\r' => {}
                        b'\n' => {
                            *self = Self::Size {
                                value: 0,
                                extension: false,
                            };
                        }
                        _ => return Err(Broken),
                    }
                    at += 1;
                }
                Self::Size { value, extension } => {
                    match bytes[at] {
                        b'\n' if *value == 0 => *self = Self::End,
                        b'\n' => *self = Self::Data { left: *value },
                        b'\r' => {}
                        _ if *extension => {}
                        b';' => *extension = true,
                        digit => {
                            let digit = (digit as char).to_digit(16).ok_or(Broken)?;
                            *value = (*value << 4) | digit as usize;
                        }
                    }
                    at += 1;
                }
            }
        }
        Ok(kept)
    }
}

/// Calls `on_data` with the data of each whole event in `bytes`, and returns how many bytes they
/// take; the rest is the beginning of an event.
///
/// The servers measured here write `data` as one line. Of several in one event the last is
/// reported, which the comparison with what was published then finds.
pub(crate) fn events(bytes: &[u8], mut on_data: impl FnMut(&[u8])) -> usize {
    let mut done = 0;
    let mut at = 0;
    let mut data = None;
    while let Some(len) = memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + len];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += len + 1;
        if line.is_empty() {
            if let Some(data) = data.take() {
                on_data(data);
            }
            done = at;
        } else if let Some(value) = line.strip_prefix(b"data:") {
            data = Some(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(parts: &[&[u8]]) -> Result<Vec<u8>, Broken> {
        let mut framing = Framing::Size {
            value: 0,
            extension: false,
        };
        let mut body = Vec::new();
        for part in parts {
            let mut part = part.to_vec();
            let len = framing.strip(&mut part)?;
            body.extend_from_slice(&part[..len]);
        }
        Ok(body)
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let wire = b"5\r\nhello\r\n11;name=value\r\n, readers of all!\r\n0\r\n\r\n";
        for cut in 0..wire.len() {
            let body = stripped(&[&wire[..cut], &wire[cut..]]);
            assert_eq!(body.as_deref(), Ok(&b"hello, readers of all!"[..]), "{cut}");
        }
    }

    #[test]
    fn a_chunk_without_its_line_end_is_broken() {
        assert_eq!(stripped(&[b"2\r\nabc\r\n"]), Err(Broken));
        assert_eq!(stripped(&[b"x\r\n"]), Err(Broken));
    }

    #[test]
    fn an_event_counts_once_its_empty_line_is_there() {
        let wire = b": hello\n\nid: 1\ndata: a\n\ndata:b\r\n\r\ndata: c\n";
        let mut seen = Vec::new();
        let used = events(wire, |data| seen.push(data.to_vec()));
        assert_eq!(seen, [b"a", b"b"]);
        assert_eq!(&wire[used..], b"data: c\n");
    }

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        let plain = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(whole_response(plain), Some((202, plain.len())));
        assert_eq!(whole_response(&plain[..plain.len() - 1]), None);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(whole_response(chunked), Some((200, chunked.len())));
        assert_eq!(whole_response(&chunked[..chunked.len() - 1]), None);
        let empty = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(whole_response(empty), Some((200, empty.len())));
    }
}
