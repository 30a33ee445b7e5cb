//! Three writers, the same bytes: the reactor and a task of the stream's own, on sockets taken back from hyper, and hyper.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sse_broker::Topic;
use sse_protocol::{EventId, EventType};
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Publication};
use sse_server::serve::{Server, ServerConfig, StreamWriter};

use crate::client::DEADLINE;

/// Requests that differ in what a writer must know: version, subscriptions, and what stands behind the head.
const REQUESTS: [&str; 5] = [
    "GET /events?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /events?last_event_id=earliest HTTP/1.0\r\n\r\n",
    "GET /events?topic=b&last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    "GET /sse?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /events?last_event_id=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n",
];

const WRITERS: [StreamWriter; 3] = [
    StreamWriter::Hyper,
    StreamWriter::Reactor,
    StreamWriter::Task,
];

#[tokio::test(flavor = "multi_thread")]
async fn all_writers_send_the_same_bytes() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let addresses = WRITERS.map(|writer| serve(&hub, writer));
    for n in 0..40 {
        hub.publish(publication(n)).await.unwrap();
    }
    // More than one write takes, so that the socket has to be waited for.
    hub.publish(Publication::new("x".repeat(900_000)))
        .await
        .unwrap();

    let readers: Vec<_> = REQUESTS
        .iter()
        .map(|request| {
            let sockets = addresses.map(|address| open(address, request));
            let reads =
                sockets.map(|socket| tokio::task::spawn_blocking(move || read_to_end(socket)));
            (request, reads)
        })
        .collect();
    while hub.connections(100).len() < addresses.len() * REQUESTS.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for n in 40..80 {
        hub.publish(publication(n)).await.unwrap();
    }
    assert_eq!(
        hub.shutdown(DEADLINE).await,
        0,
        "every stream ends by itself"
    );

    for (request, reads) in readers {
        let mut hypers = None;
        for (writer, read) in WRITERS.iter().zip(reads) {
            let bytes = read.await.unwrap();
            let (head, body) = split(&bytes, request);
            let events = events(&body);
            assert!(events.len() >= 40, "{} events", events.len());
            let (hypers_head, hypers_events) =
                hypers.get_or_insert_with(|| (head.clone(), events.clone()));
            assert_eq!(head, *hypers_head, "{writer:?}: the heads for {request:?}");
            assert_eq!(
                events, *hypers_events,
                "{writer:?}: the events for {request:?}"
            );
        }
    }
}

/// Its head does not say that the connection ends, so it must not: a client may send the next request at once.
#[tokio::test(flavor = "multi_thread")]
async fn other_requests_may_follow_a_stream_on_its_connection() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    for writer in WRITERS {
        let mut socket = TcpStream::connect(serve(&hub, writer)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        for _ in 0..3 {
            let head = stream_to_its_end(&hub, &mut socket, "").await;
            assert!(!head.contains("connection:"), "{writer:?}: {head}");
            socket
                .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            let answer = read_until(&mut socket, |text| text.contains("\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{writer:?}: {answer}");
        }
        let head = stream_to_its_end(&hub, &mut socket, "Connection: close\r\n").await;
        assert!(head.contains("connection: close\r\n"), "{writer:?}: {head}");
        assert_eq!(socket.read(&mut [0; 16]).unwrap(), 0, "{writer:?}: the end");
    }
}

/// What came ahead of its time was dropped, so the client must not wait for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_sent_during_a_stream_ends_the_connection_with_it() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    for writer in [StreamWriter::Reactor, StreamWriter::Task] {
        let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut socket = TcpStream::connect(serve(&hub, writer)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        stream_to_its_end(&hub, &mut socket, &format!("\r\n{request}")).await;
        let end = socket.read(&mut [0; 16]);
        assert!(matches!(end, Ok(0) | Err(_)), "{writer:?}: {end:?}");
    }
}

/// Asks for a stream with this behind the request's other headers, closes it once it has begun, reads it to its end and
/// gives its head.
async fn stream_to_its_end(hub: &Hub, socket: &mut TcpStream, more: &str) -> String {
    let mut request = format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{more}");
    if !more.starts_with("\r\n") {
        request.push_str("\r\n");
    }
    socket.write_all(request.as_bytes()).unwrap();
    let begin = read_until(socket, |text| text.contains("connection_id"));
    let id = hub.connections(10)[0].info.id.clone();
    hub.close_connection(&id);
    let rest = if begin.ends_with("0\r\n\r\n") {
        String::new()
    } else {
        read_until(socket, |text| text.ends_with("0\r\n\r\n"))
    };
    let text = begin + &rest;
    text.split_once("\r\n\r\n").unwrap().0.to_lowercase() + "\r\n"
}

fn read_until(socket: &mut TcpStream, is_enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut space = [0; 4096];
    while !is_enough(&text) {
        let count = tokio::task::block_in_place(|| socket.read(&mut space)).unwrap();
        assert!(count > 0, "the connection ended after {text}");
        text.push_str(str::from_utf8(&space[..count]).unwrap());
    }
    text
}

fn publication(n: usize) -> Publication {
    let publication = Publication::new(format!("line {n}\n{}", "é".repeat(n * 37)))
        .with_type(EventType::new("tick").unwrap())
        .to_topic(Topic::new(if n.is_multiple_of(2) { "a" } else { "b" }).unwrap());
    // Some have an id of their own.
    if n.is_multiple_of(3) {
        publication.with_id(EventId::new(format!("own-{n}")).unwrap())
    } else {
        publication
    }
}

pub(crate) fn serve(hub: &Hub, writer: StreamWriter) -> SocketAddr {
    let service = HubService::new(hub.clone(), HttpConfig::default());
    let config = ServerConfig {
        writer,
        ..ServerConfig::default()
    };
    let server = Server::bind(([127, 0, 0, 1], 0).into(), service, config).unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending(), Duration::from_secs(1)));
    address
}

pub(crate) fn open(address: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

pub(crate) fn read_to_end(mut socket: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    socket
        .read_to_end(&mut bytes)
        .expect("the stream ends cleanly");
    bytes
}

/// The lines of the stream's head, sorted and without what names a moment, and its body without the chunks'
/// frames. An answer to an earlier request on the same socket is passed over.
pub(crate) fn split(bytes: &[u8], request: &str) -> (Vec<String>, Vec<u8>) {
    let stream = bytes
        .windows(17)
        .position(|w| w == b"text/event-stream")
        .expect("a stream");
    let begin = bytes[..stream]
        .windows(5)
        .rposition(|w| w == b"HTTP/")
        .unwrap();
    let end = begin
        + bytes[begin..]
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap();
    let head = String::from_utf8(bytes[begin..end].to_vec()).unwrap();
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    assert_eq!(is_chunked, request.contains("HTTP/1.1"), "{head}");
    let mut lines: Vec<String> = head
        .lines()
        .map(str::to_lowercase)
        .filter(|line| !line.starts_with("date:"))
        .collect();
    lines.sort();
    let body = &bytes[end + 4..];
    (
        lines,
        if is_chunked {
            dechunked(body)
        } else {
            body.to_vec()
        },
    )
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let line = body
            .windows(2)
            .position(|w| w == b"\r\n")
            .expect("a chunk's length");
        let length =
            usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        let chunk = &body[line + 2..];
        assert_eq!(&chunk[length..length + 2], b"\r\n");
        if length == 0 {
            return out;
        }
        out.extend_from_slice(&chunk[..length]);
        body = &chunk[length + 2..];
    }
}

/// The blocks of the stream, but for `connected` and the last word on when to come back, which are
/// each reader's own.
pub(crate) fn events(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let own = |block: &&str| {
        !block.contains("event: connected") && !block.starts_with("retry:") && !block.is_empty()
    };
    text.split("\n\n").filter(own).map(str::to_owned).collect()
}
