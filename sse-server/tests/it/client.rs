//! A small HTTP client that hides nothing: it can send what no well-behaved client would, and it sees how a stream
//! ended.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use flate2::write::GzDecoder;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use sse_protocol::Decoder;

/// As long as anything may take on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Tries until `condition` gives something, and fails after the deadline.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut named = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {self:?}"),
        }
    }

    /// The answer's JSON, if it is a good answer.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(
            matches!(self.status, 200 | 201),
            "{} {}",
            self.status,
            self.text()
        );
        self.json()
    }

    /// The problem it tells, after a look at its form.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let json = self.json();
        for field in ["type", "title", "status", "detail"] {
            assert!(!json[field].is_null(), "no {field} in {json}");
        }
        assert_eq!(json["status"], status);
        json
    }
}

/// A socket and what was read from it but not yet used.
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) buffer: Vec<u8>,
    /// At most so many bytes are read at once, and before each read so long a pause is made.
    pub(crate) pace: Option<(usize, Duration)>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_socket(TcpStream::connect(address).unwrap())
    }

    /// Connects from another address of this machine, perhaps with a small receive buffer.
    pub(crate) fn connect_from(
        address: SocketAddr,
        from: IpAddr,
        receive_buffer_bytes: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&address.into())?;
        Ok(Self::from_socket(socket.into()))
    }

    pub(crate) fn from_socket(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            socket,
            buffer: Vec::new(),
            pace: None,
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Reads a little more; false when the peer has ended. Anything but bytes within the deadline fails the test.
    #[track_caller]
    pub(crate) fn fill(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.try_fill() {
                Ok(more) => return more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(
                        Instant::now() < deadline,
                        "nothing came; so far: {}",
                        String::from_utf8_lossy(&self.buffer)
                    );
                }
                Err(_) => return false,
            }
        }
    }

    /// Reads a little more, or tells within a moment that nothing came (`WouldBlock`).
    fn try_fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        let mut at_once = chunk.len();
        if let Some((bytes, pause)) = self.pace {
            std::thread::sleep(pause);
            at_once = bytes;
        }
        match self.socket.read(&mut chunk[..at_once]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        }
    }

    /// Reads an answer's head.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap();
        let mut words = status_line.splitn(3, ' ');
        Some(Reply {
            version: words.next().unwrap().to_owned(),
            status: words.next().unwrap().parse().unwrap(),
            headers: lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        })
    }

    /// Reads a whole answer; `None` when the peer ends before its head is there.
    #[track_caller]
    pub(crate) fn reply(&mut self, is_head_request: bool) -> Option<Reply> {
        let mut reply = self.head()?;
        if is_head_request || reply.status == 204 || reply.status == 304 {
            return Some(reply);
        }
        let mut framing = Framing::of(&reply);
        loop {
            match framing.take(&mut self.buffer) {
                Taken::Bytes(bytes) => reply.body.extend_from_slice(&bytes),
                Taken::Ended => return Some(reply),
                Taken::NotYet => {
                    if !self.fill() {
                        assert!(
                            matches!(framing, Framing::UntilClose),
                            "cut in the middle of {reply:?}"
                        );
                        return Some(reply);
                    }
                }
            }
        }
    }

    /// Reads a whole answer, or nothing where the peer ended before it was whole.
    pub(crate) fn reply_or_cut(&mut self) -> Option<Reply> {
        while self.fill() {}
        let whole = find(&self.buffer, b"\r\n\r\n").is_some() && self.buffer.ends_with(b"}");
        if whole { self.reply(false) } else { None }
    }

    /// Whether the peer has ended the connection, after reading what it still sent.
    #[track_caller]
    pub(crate) fn is_ended(&mut self) -> bool {
        while self.fill() {}
        true
    }
}

/// Where a body ends.
#[derive(Debug)]
enum Framing {
    Length(usize),
    /// Chunked; the chunk under way has so many bytes left, its line end included.
    Chunked,
    UntilClose,
}

enum Taken {
    Bytes(Vec<u8>),
    NotYet,
    Ended,
}

impl Framing {
    fn of(reply: &Reply) -> Self {
        if reply.header("transfer-encoding") == Some("chunked") {
            Self::Chunked
        } else if let Some(length) = reply.header("content-length") {
            Self::Length(length.parse().unwrap())
        } else {
            Self::UntilClose
        }
    }

    fn take(&mut self, buffer: &mut Vec<u8>) -> Taken {
        match self {
            Self::Length(0) => Taken::Ended,
            _ if buffer.is_empty() => Taken::NotYet,
            Self::Length(left) => {
                let n = buffer.len().min(*left);
                *left -= n;
                Taken::Bytes(buffer.drain(..n).collect())
            }
            Self::UntilClose => Taken::Bytes(std::mem::take(buffer)),
            Self::Chunked => {
                let Some(line) = find(buffer, b"\r\n") else {
                    return Taken::NotYet;
                };
                let size = std::str::from_utf8(&buffer[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                let end = line + 2 + size + 2;
                if buffer.len() < end {
                    return Taken::NotYet;
                }
                let bytes = buffer[line + 2..end - 2].to_vec();
                assert_eq!(&buffer[end - 2..end], b"\r\n", "a chunk ends its line");
                buffer.drain(..end);
                if size == 0 {
                    Taken::Ended
                } else {
                    Taken::Bytes(bytes)
                }
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// An event as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: String,
    pub(crate) retry_millis: Option<u64>,
}

impl Event {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_str(&self.data) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {self:?}"),
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last chunk, as a server ends what it wants to end.
    Clean,
    /// In the middle, as a network or a dying server does.
    Cut,
}

/// A stream of events, opened and greeted.
pub(crate) struct Stream {
    wire: Wire,
    framing: Framing,
    /// Where the stream comes in gzip.
    gunzip: Option<GzDecoder<Vec<u8>>>,
    decoder: Decoder,
    events: VecDeque<Event>,
    end: Option<End>,
    /// All bytes of the stream so far, decompressed.
    pub(crate) raw: Vec<u8>,
    pub(crate) reply: Reply,
    pub(crate) connected: Value,
    /// What to resume from.
    pub(crate) last_id: String,
}

impl Stream {
    /// Opens a stream by a request that was sent already; the refusal when it is one.
    #[track_caller]
    pub(crate) fn read(mut wire: Wire) -> Result<Self, Reply> {
        let Some(mut head) = wire.head() else {
            panic!("the server ended without an answer")
        };
        let mut framing = Framing::of(&head);
        if head.status != 200 {
            loop {
                match framing.take(&mut wire.buffer) {
                    Taken::Bytes(bytes) => head.body.extend_from_slice(&bytes),
                    Taken::Ended => return Err(head),
                    Taken::NotYet if wire.fill() => {}
                    Taken::NotYet => return Err(head),
                }
            }
        }
        let is_gzip = head.header("content-encoding") == Some("gzip");
        let mut stream = Self {
            wire,
            framing,
            gunzip: is_gzip.then(|| GzDecoder::new(Vec::new())),
            decoder: Decoder::new(),
            events: VecDeque::new(),
            end: None,
            raw: Vec::new(),
            reply: head,
            connected: Value::Null,
            last_id: String::new(),
        };
        let connected = stream.next();
        assert_eq!(connected.name, "connected", "{connected:?}");
        stream.connected = connected.json();
        Ok(stream)
    }

    pub(crate) fn connection_id(&self) -> String {
        self.connected["connection_id"].as_str().unwrap().to_owned()
    }

    /// The next event that is not a heartbeat.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Event {
        loop {
            let event = self.next_or_ping();
            if event.name != "ping" {
                return event;
            }
        }
    }

    /// The next event, heartbeats too.
    #[track_caller]
    pub(crate) fn next_or_ping(&mut self) -> Event {
        match self.try_next() {
            Ok(event) => event,
            Err(end) => panic!("the stream ended ({end:?}) while an event was expected"),
        }
    }

    /// The next event, or how the stream ended before there was one.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> Result<Event, End> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Some(id) = &event.id {
                    self.last_id.clone_from(id);
                }
                return Ok(event);
            }
            if let Some(end) = self.end {
                return Err(end);
            }
            match self.framing.take(&mut self.wire.buffer) {
                Taken::Bytes(bytes) => self.decode(&bytes),
                Taken::Ended => self.end = Some(End::Clean),
                Taken::NotYet => {
                    if !self.wire.fill() {
                        let until_close = matches!(self.framing, Framing::UntilClose);
                        self.end = Some(if until_close { End::Clean } else { End::Cut });
                    }
                }
            }
        }
    }

    fn decode(&mut self, bytes: &[u8]) {
        let unpacked = self.gunzip.as_mut().map(|gunzip| {
            gunzip.write_all(bytes).expect("gzip");
            gunzip.flush().expect("gzip");
            std::mem::take(gunzip.get_mut())
        });
        let bytes = unpacked.as_deref().unwrap_or(bytes);
        self.raw.extend_from_slice(bytes);
        let mut feed = self.decoder.feed(bytes);
        while let Some(event) = feed.next_event() {
            self.events.push_back(Event {
                id: event.id().map(str::to_owned),
                name: event.event_type().to_owned(),
                data: event.data().to_owned(),
                retry_millis: event.retry().map(|retry| retry.as_millis()),
            });
        }
    }

    /// The next `n` events, heartbeats left out.
    #[track_caller]
    pub(crate) fn take(&mut self, n: usize) -> Vec<Event> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Events up to and with the first one of this type.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let is_last = event.name == name;
            events.push(event);
            if is_last {
                return events;
            }
        }
    }

    /// Everything up to the end, and how that was.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            match self.try_next() {
                Ok(event) => events.push(event),
                Err(end) => return (events, end),
            }
        }
    }

    /// The socket, to do to it what one likes.
    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }
}

/// Runs a curl command line as curl would, against the server under test instead of the port that stands in it.
///
/// Knows what the documents use: `-X`, `-H`, `-d`, `-N`, `-s`, quotes and line continuations.
pub(crate) fn curl_request(line: &str, address: SocketAddr) -> Vec<u8> {
    let words = shell_words(line);
    let mut words = words.iter().map(String::as_str);
    assert_eq!(words.next(), Some("curl"));
    let (mut method, mut url, mut data) = (None, None, None);
    let mut headers = vec![
        ("User-Agent".to_owned(), "curl/8.0".to_owned()),
        ("Accept".to_owned(), "*/*".to_owned()),
    ];
    while let Some(word) = words.next() {
        match word {
            "-X" => method = words.next(),
            "-d" => data = words.next(),
            "-N" | "-s" => {}
            "-H" => {
                let (name, value) = words.next().unwrap().split_once(':').unwrap();
                headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
            option if option.starts_with('-') => panic!("curl's {option} is not known here"),
            address => url = Some(address),
        }
    }
    let url = url.unwrap().strip_prefix("http://").unwrap();
    let (host, path) = url
        .split_once('/')
        .map_or((url, "/".to_owned()), |(h, p)| (h, format!("/{p}")));
    let name = host.split(':').next().unwrap();
    let method = method.unwrap_or(if data.is_some() { "POST" } else { "GET" });
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {name}:{}\r\n",
        address.port()
    );
    if let Some(data) = data {
        let has_type = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !has_type {
            headers.push((
                "Content-Type".into(),
                "application/x-www-form-urlencoded".into(),
            ));
        }
        headers.push(("Content-Length".into(), data.len().to_string()));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(data.unwrap_or_default());
    request.into_bytes()
}

fn shell_words(line: &str) -> Vec<String> {
    let line = line.replace("\\\n", " ");
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
