//! What is asked: requests that a client could mean, and others that nobody does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, Version};
use http_body::Frame;

use crate::routes::{Family, Kind, ROUTES, Route, kind};

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    /// The hub answers to every host and origin, or to those of its own alone.
    pub is_open: bool,
    /// Most of them are not looked at.
    pub requests: Vec<Asked<'a>>,
}

/// One request.
#[derive(Arbitrary, Debug)]
pub struct Asked<'a> {
    route: u8,
    method: AskedMethod,
    /// What stands at `{id}`.
    id: Text<'a>,
    /// What stands behind the path, now and then.
    tail: (u8, Text<'a>),
    query: Vec<(Name<'a>, Text<'a>)>,
    headers: Vec<(u8, HeaderText<'a>)>,
    body: AskedBody<'a>,
    /// How long the chunks of the body are, used round and round; none means one chunk.
    chunk_lens: Vec<u16>,
    /// The line breaks before the body has ended.
    breaks: u8,
    /// Nothing more arrives before the body has ended.
    stalls: u8,
    http2: bool,
    /// A stream stays open while the next requests are answered.
    pub is_held: bool,
    /// From another address, whose memory is counted apart.
    pub is_other_client: bool,
}

/// That of the route, if it is not said twice that it is another.
#[derive(Arbitrary, Debug)]
enum AskedMethod {
    Own,
    Known(u8, u8),
    Other(u8, u8),
}

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    Breaks,
    Stalls,
}

#[derive(Arbitrary, Debug)]
enum AskedBody<'a> {
    None,
    Raw(&'a [u8]),
    Repeated(&'a [u8], u16),
    /// Objects with the fields that the route knows.
    Objects {
        objects: Vec<Vec<(Name<'a>, Json<'a>)>>,
        times: u16,
        form: Form,
        /// An event may lack its data.
        bare: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Form {
    One,
    Array,
    Lines,
}

#[derive(Arbitrary, Debug)]
enum Json<'a> {
    Text(Text<'a>),
    /// A string with many characters that need escapes.
    Escaped(u8, u16),
    Texts(Vec<Text<'a>>),
    Number(f64),
    Whole(i64),
    Many(&'a str, u16),
    Deep(u8),
    Object(Vec<(Text<'a>, u32)>),
    Raw(&'a str),
}

/// The name of a parameter or a field.
#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Same(u8),
    Usual(u8),
    Other(Text<'a>),
}

/// A text that means something to the hub, or not.
#[derive(Arbitrary, Debug)]
enum Text<'a> {
    Known(u8),
    Literal(&'a str),
    Repeated(&'a str, u16),
    Number(u32),
    /// A place in the hub's log, or near it.
    Position(i8),
    Foreign(u64, u8),
    /// One of the streams that are open.
    Connection(u8),
}

#[derive(Arbitrary, Debug)]
enum HeaderText<'a> {
    Known(u8),
    Text(Text<'a>),
    Bytes(&'a [u8]),
    Many(u8, u16),
}

/// What a request may refer to.
pub struct Known {
    pub epoch_and_head: (sse_broker::Epoch, u64),
    pub connections: Vec<String>,
}

/// A request as it is sent, and what it is.
pub struct Rendered {
    pub kind: Kind,
    pub request: http::Request<Body>,
    /// What of it was on the wire.
    pub bytes: usize,
    /// How many events its body can hold.
    pub objects: usize,
    /// And how many fields and elements, at any depth.
    pub values: usize,
}

impl Asked<'_> {
    /// Writes it; nothing where HTTP has no way to say it.
    pub fn render(&self, known: &Known) -> Option<Rendered> {
        let route = &ROUTES[usize::from(self.route) % ROUTES.len()];
        let mut target = route.path.replace("{id}", &escape(&self.id.render(known)));
        if is_rare(self.tail.0) {
            target.push('/');
            target.push_str(&escape(&self.tail.1.render(known)));
        }
        for (i, (name, value)) in self.query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(&escape(&name.render(&PARAMETERS, known)));
            target.push('=');
            target.push_str(&escape(&value.render(known)));
        }
        target.truncate(MAX_TARGET_BYTES);
        let mut bytes = target.len();
        let uri: Uri = target.parse().ok()?;
        let body = self.body.render(route.family, known);
        bytes += body.len();
        let objects = count_objects(&body);
        let values = body.iter().filter(|byte| b"[{,:".contains(byte)).count();
        let mut request = http::Request::new(Body {
            chunks: chunks(body.into(), &self.chunk_lens),
            end: match (is_rare(self.breaks), is_rare(self.stalls)) {
                (false, false) => End::Whole,
                (true, _) => End::Breaks,
                (false, true) => End::Stalls,
            },
        });
        *request.uri_mut() = uri;
        *request.method_mut() = self.method.render(route)?;
        *request.version_mut() = match self.http2 {
            true => Version::HTTP_2,
            false => Version::HTTP_11,
        };
        for (name, value) in self.headers.iter().take(MAX_HEADERS) {
            let name = HEADERS[usize::from(*name) % HEADERS.len()];
            let mut value = value.render(known);
            value.truncate(MAX_HEADER_BYTES);
            bytes += name.len() + value.len();
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                request
                    .headers_mut()
                    .append(HeaderName::from_static(name), value);
            }
        }
        Some(Rendered {
            kind: kind(request.method(), request.uri().path()),
            request,
            bytes,
            objects,
            values,
        })
    }
}

impl AskedMethod {
    fn render(&self, route: &Route) -> Option<Method> {
        match self {
            Self::Known(chance, number) if chance % 4 == 3 => {
                METHODS[usize::from(*number) % METHODS.len()].parse().ok()
            }
            Self::Other(chance, letter) if is_rare(*chance) => {
                Method::from_bytes(&[b'A' + letter % 26]).ok()
            }
            _ => route.method.parse().ok(),
        }
    }
}

impl AskedBody<'_> {
    fn render(&self, family: Family, known: &Known) -> Vec<u8> {
        let mut body = match self {
            Self::None => Vec::new(),
            Self::Raw(bytes) => bytes.to_vec(),
            Self::Repeated(bytes, times) => repeat(bytes, *times),
            Self::Objects {
                objects,
                times,
                form,
                bare,
            } => {
                let objects: Vec<String> = objects
                    .iter()
                    .map(|fields| object(fields, family, is_rare(*bare), known))
                    .collect();
                let times = if matches!(form, Form::One) { 1 } else { *times };
                let many = |separator: &str| {
                    let all = objects.join(separator);
                    let times = usize::from(times)
                        .min(MAX_BODY_BYTES / (all.len() + 1))
                        .max(1);
                    vec![all; times].join(separator)
                };
                match form {
                    Form::One => many(" "),
                    Form::Array => format!("[{}]", many(",")),
                    Form::Lines => many("\n"),
                }
                .into_bytes()
            }
        };
        body.truncate(MAX_BODY_BYTES);
        body
    }
}

fn object(fields: &[(Name<'_>, Json<'_>)], family: Family, is_bare: bool, known: &Known) -> String {
    let names = family.fields();
    let mut written: Vec<String> = Vec::new();
    let mut has_data = is_bare || family != Family::Events;
    for (name, value) in fields {
        let name = name.render(names, known);
        has_data |= name == "data";
        written.push(format!("{}:{}", quote(&name), value.render(known)));
    }
    if !has_data {
        written.push("\"data\":1".to_owned());
    }
    format!("{{{}}}", written.join(","))
}

impl Json<'_> {
    fn render(&self, known: &Known) -> String {
        match self {
            Self::Text(text) => quote(&text.render(known)),
            Self::Escaped(kind, times) => {
                let text = ["\\u0001", "\\\"", "\\n", "\\ud83d\\ude00", "\u{7f}", "\\\\"];
                let text = text[usize::from(*kind) % text.len()];
                format!("\"{}\"", repeat_text(text, *times))
            }
            Self::Texts(texts) => {
                let texts: Vec<String> = texts
                    .iter()
                    .map(|text| quote(&text.render(known)))
                    .collect();
                format!("[{}]", texts.join(","))
            }
            Self::Number(number) => number.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Many(one, times) => format!("[{}0]", repeat_text(&format!("{one},"), *times)),
            Self::Deep(depth) => {
                let depth = usize::from(*depth);
                format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
            }
            Self::Object(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", quote(&name.render(known))))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }
            Self::Raw(raw) => (*raw).to_owned(),
        }
    }
}

impl Name<'_> {
    fn render(&self, names: &[&str], known: &Known) -> String {
        match self {
            Self::Known(number) | Self::Same(number) | Self::Usual(number) => {
                names[usize::from(*number) % names.len()].to_owned()
            }
            Self::Other(text) => text.render(known),
        }
    }
}

impl Text<'_> {
    fn render(&self, known: &Known) -> String {
        let (epoch, head) = known.epoch_and_head;
        match self {
            Self::Known(number) => TEXTS[usize::from(*number) % TEXTS.len()].to_owned(),
            Self::Literal(text) => (*text).to_owned(),
            Self::Repeated(text, times) => repeat_text(text, *times),
            Self::Number(number) => number.to_string(),
            Self::Position(off) => {
                let offset = head.saturating_add_signed(i64::from(*off));
                sse_broker::Position { epoch, offset }.to_string()
            }
            Self::Foreign(epoch, offset) => {
                let (epoch, offset) = (sse_broker::Epoch(*epoch), u64::from(*offset));
                sse_broker::Position { epoch, offset }.to_string()
            }
            Self::Connection(number) => match known.connections.len() {
                0 => "none".to_owned(),
                len => known.connections[usize::from(*number) % len].clone(),
            },
        }
    }
}

impl HeaderText<'_> {
    fn render(&self, known: &Known) -> Vec<u8> {
        match self {
            Self::Known(number) => HEADER_TEXTS[usize::from(*number) % HEADER_TEXTS.len()]
                .as_bytes()
                .to_vec(),
            Self::Text(text) => text.render(known).into_bytes(),
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Many(byte, times) => repeat(&[*byte], *times),
        }
    }
}

/// A body that arrives in chunks, as one from a socket does.
#[derive(Clone)]
pub struct Body {
    chunks: VecDeque<Bytes>,
    end: End,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Breaks => Poll::Ready(Some(Err(Broken))),
            // Only the end of the time for bodies wakes whoever waits for it.
            End::Stalls => Poll::Pending,
        }
    }
}

/// The client went away.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the line broke")
    }
}

impl std::error::Error for Broken {}

/// The objects of a body that are one by themselves or an element of the one array.
fn count_objects(body: &[u8]) -> usize {
    let (mut objects, mut depth) = (0, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                objects += usize::from(*byte == b'{' && depth < 2);
                depth += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    objects
}

fn chunks(mut body: Bytes, lens: &[u16]) -> VecDeque<Bytes> {
    let mut chunks = VecDeque::new();
    for len in lens.iter().cycle().take(MAX_CHUNKS) {
        if body.len() <= usize::from(*len) {
            break;
        }
        chunks.push_back(body.split_to(usize::from(*len)));
    }
    if !body.is_empty() {
        chunks.push_back(body);
    }
    chunks
}

/// Whether one in sixteen is meant: what spoils most requests is not to spoil most of them.
fn is_rare(chance: u8) -> bool {
    chance % 16 == 15
}

fn repeat(bytes: &[u8], times: u16) -> Vec<u8> {
    let times = usize::from(times).min(MAX_BODY_BYTES / bytes.len().max(1));
    bytes.repeat(times)
}

fn repeat_text(text: &str, times: u16) -> String {
    let times = usize::from(times).min(MAX_BODY_BYTES / text.len().max(1));
    text.repeat(times)
}

/// A text in a part of a URL.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b':' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const METHODS: [&str; 7] = ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"];

const PARAMETERS: [&str; 22] = [
    "topic",
    "topic_exact",
    "subscribe",
    "event_types",
    "project_id",
    "last_event_id",
    "lastEventId",
    "session_id",
    "user_id",
    "durable",
    "compression",
    "stream_compression",
    "after",
    "wait",
    "limit",
    "status",
    "receipts",
    "for",
    "connection_id",
    "_",
    "a",
    "topics",
];

const HEADERS: [&str; 20] = [
    "accept",
    "accept-encoding",
    "last-event-id",
    "content-type",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "origin",
    "host",
    "referer",
    "sec-fetch-site",
    "sec-fetch-mode",
    "user-agent",
    "connection",
    "upgrade",
    "sec-websocket-version",
    "sec-websocket-key",
    "access-control-request-method",
    "x-forwarded-for",
    "forwarded",
];

const HEADER_TEXTS: [&str; 24] = [
    "*/*",
    "text/event-stream",
    "application/json",
    "text/event-stream;q=0.5, */*;q=0",
    "gzip",
    "gzip;q=0, identity",
    "br, zstd, *;q=0.1",
    "identity;q=0",
    "application/x-ndjson",
    "http://localhost",
    "https://app.example",
    "null",
    "localhost",
    "hub.example:8443",
    "[::1]:80",
    "same-origin",
    "cross-site",
    "websocket",
    "Upgrade",
    "13",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "earliest",
    "0",
    "chunked",
];

/// Names and words that meet each other.
const TEXTS: [&str; 34] = [
    "a",
    "b",
    "job/a",
    "session/a",
    "user/a",
    "project/a",
    "connection/a",
    "*",
    "room/:id",
    "a*",
    "{a}?b",
    "files/:path+",
    "\\*",
    "earliest",
    "latest",
    "gzip",
    "none",
    "last",
    "1",
    "0",
    "0.5",
    "10m",
    "progress",
    "complete",
    "a,b",
    "pending",
    "completed",
    "low",
    "high",
    "",
    " a",
    "a\nb",
    "$serde_json::private::Number",
    "1e999",
];

/// As long as a target may be in HTTP/1: the crate `http` takes no longer ones.
const MAX_TARGET_BYTES: usize = 65_000;
const MAX_HEADERS: usize = 16;
const MAX_HEADER_BYTES: usize = 32 << 10;
/// Larger than the hub of this target takes.
pub const MAX_BODY_BYTES: usize = 300 << 10;
/// More chunks than that say nothing new.
const MAX_CHUNKS: usize = 256;
