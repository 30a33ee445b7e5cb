//! Answers and streams as they came, and what two of them have in common.

use super::Before;

/// A stream as it came, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Came {
    /// Those of the answers before the stream, and the stream's own.
    pub(super) heads: Vec<Vec<String>>,
    pub(super) chunks: Vec<Vec<u8>>,
    /// What came behind the stream's end; none when that is missing.
    pub(super) behind: Option<Vec<u8>>,
}

impl Came {
    pub(super) fn body(&self) -> Vec<u8> {
        normal(&self.chunks.concat())
    }
}

/// Takes apart what a connection got: answers with a length, those to `HEAD`, and the stream.
pub(super) fn taken_apart(mut bytes: &[u8], before: &[Before]) -> Option<Came> {
    let mut heads = Vec::new();
    for before in before.iter().map(Some).chain([None]) {
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..end])
            .unwrap()
            .to_ascii_lowercase();
        bytes = &bytes[end..];
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let length = lines
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map(|length| length.parse::<usize>().unwrap());
        let is_chunked = lines
            .iter()
            .any(|line| line == "transfer-encoding: chunked");
        // Over HTTP/1.0 the connection's end is the stream's, whatever hyper says of it.
        let is_old = lines[0].starts_with("http/1.0");
        lines.retain(|line| {
            let is_left_out =
                line.starts_with("date: ") || (is_old && line.starts_with("connection: "));
            !is_left_out
        });
        lines.sort();
        heads.push(lines);
        match before {
            Some(Before::Head) => {}
            Some(Before::Alive | Before::Absent) => bytes = bytes.get(length.unwrap()..)?,
            None if is_chunked => {
                let (chunks, behind) = chunks(bytes);
                return Some(Came {
                    heads,
                    chunks,
                    behind,
                });
            }
            None => {
                let chunks = vec![bytes.to_vec()];
                return Some(Came {
                    heads,
                    chunks,
                    behind: Some(Vec::new()),
                });
            }
        }
    }
    None
}

/// The chunks of a body, the last as far as it came, and what is behind the end, if that was there.
pub(super) fn chunks(mut body: &[u8]) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
    let mut chunks = Vec::new();
    while let Some(line) = body.windows(2).position(|it| it == b"\r\n") {
        let digits = std::str::from_utf8(&body[..line]).unwrap();
        let length = usize::from_str_radix(digits, 16).expect("a chunk's length");
        body = &body[line + 2..];
        if length > 0 {
            chunks.push(body[..length.min(body.len())].to_vec());
        }
        let Some(rest) = body.get(length..) else {
            break;
        };
        assert!(
            b"\r\n".starts_with(&rest[..rest.len().min(2)]),
            "a chunk's end"
        );
        let behind = rest.get(2..);
        if length == 0 {
            return (chunks, behind.map(<[u8]>::to_vec));
        }
        body = behind.unwrap_or_default();
    }
    (chunks, None)
}

/// A body with what is each stream's own made the same: the connection's id, moments, and the hub's own `retry`.
pub(super) fn normal(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest
            .windows(2)
            .position(|it| it == b"\n\n")
            .map_or(rest.len(), |at| at + 2);
        let (block, later) = rest.split_at(end);
        rest = later;
        let is_own = block.starts_with(b"event: connected\n") || block.starts_with(b"event: gap\n");
        if is_own {
            let text = String::from_utf8_lossy(block);
            for line in text.split_inclusive('\n') {
                if line.starts_with("retry: ") {
                    out.extend_from_slice(b"retry: #\n");
                } else {
                    let line = without(line, "\"connection_id\":\"");
                    out.extend_from_slice(without(&line, "\"timestamp\":\"").as_bytes());
                }
            }
        } else if block.starts_with(b"retry: ") && block.len() < 20 {
            out.extend_from_slice(b"retry: #\n\n");
        } else {
            out.extend_from_slice(block);
        }
    }
    out
}

/// The line without what is between `key` and the next quotation mark.
fn without(line: &str, key: &str) -> String {
    let Some((before, value)) = line.split_once(key) else {
        return line.to_owned();
    };
    let after = value.find('"').map_or("", |end| &value[end..]);
    format!("{before}{key}{after}")
}
