//! Whoever writes a stream, its bytes are the same: random requests, events, and ways of sending and reading, with the body that
//! hyper writes as the reference for the reactor and for a task of the stream's own.
//!
//! A stream's head is compared line by line, its body byte by byte, but for what is made for each stream anew: a
//! connection's id, moments, and the jittered time to come back after. In what chunks a body comes depends on when the
//! writer looked; each must be framed as HTTP/1.1 asks, and on a quiet hub the chunks are the same too.

mod taken_apart;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use socket2::{Domain, SockRef, Socket, Type};
use sse_broker::Topic;
use sse_protocol::{EventId, EventType, Retry};
use sse_server::http::{HttpConfig, HubService};
use sse_server::hub::{Hub, HubConfig, Publication};
use sse_server::serve::{Server, ServerConfig, StreamWriter};
use tokio::sync::watch;

use taken_apart::{Came, normal, taken_apart};

use crate::client::DEADLINE;
use crate::writers::{open, serve};

/// The reference comes first.
const WRITERS: [StreamWriter; 3] = [
    StreamWriter::Hyper,
    StreamWriter::Reactor,
    StreamWriter::Task,
];

/// One reader, and all it does.
#[derive(Clone, Debug)]
struct Reader {
    before: Vec<Before>,
    version: &'static str,
    path: &'static str,
    from_the_earliest: bool,
    topic: Option<&'static str>,
    header: &'static str,
    behind: Vec<u8>,
    /// Where the request is cut on its way.
    cuts: Vec<usize>,
    small_buffer: bool,
    /// Sizes of the reads, in turn.
    reads: Vec<usize>,
    /// Every so many reads there is a pause, but not for ever.
    pause_every: usize,
    pause: Duration,
    leaves: Option<Leaves>,
}

/// A request on the same connection before the stream's.
#[derive(Clone, Copy, Debug)]
enum Before {
    Alive,
    Absent,
    Head,
}

/// A reader that does not read to the end, and after how many bytes.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Closes(usize),
    Resets(usize),
    /// Shuts its sending half, and reads what still comes.
    Shuts(usize),
}

#[derive(Clone, Debug)]
struct Said {
    data: String,
    topic: &'static str,
    event_type: Option<&'static str>,
    has_id: bool,
    retry: Option<u64>,
}

#[derive(Clone, Debug)]
struct Script {
    history: Vec<Said>,
    readers: Vec<Reader>,
    /// Published in so many calls, with or without a pause behind each.
    live: Vec<(Vec<Said>, bool)>,
    window_bytes: usize,
}

fn said() -> impl Strategy<Value = Said> {
    let data = prop_oneof![
        6 => "[ -~]{0,80}",
        2 => "(\r|\n|é|:| |\\PC){0,30}",
        2 => (0..20_000_usize).prop_map(|len| "y".repeat(len)),
        1 => (100_000..250_000_usize).prop_map(|len| "z".repeat(len)),
    ];
    let topic = prop::sample::select(vec!["a", "b", "c"]);
    let event_type = prop::option::of(prop::sample::select(vec!["tick", "message"]));
    let retry = prop::option::weighted(0.1, 0..5000_u64);
    (data, topic, event_type, any::<bool>(), retry).prop_map(
        |(data, topic, event_type, has_id, retry)| Said {
            data,
            topic,
            event_type,
            has_id,
            retry,
        },
    )
}

fn reader() -> impl Strategy<Value = Reader> {
    let before = prop::sample::select(vec![Before::Alive, Before::Absent, Before::Head]);
    let asked = (
        prop::collection::vec(before, 0..3),
        prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
        prop::sample::select(vec!["/events", "/sse", "/stream", "/sse/events"]),
        any::<bool>(),
        prop::sample::select(vec![None, None, Some("a"), Some("b"), Some("*")]),
        prop::sample::select(vec![
            "",
            "",
            "Connection: keep-alive\r\n",
            "Connection: close\r\n",
            "Content-Length: 0\r\n",
            "Accept: text/event-stream\r\nCache-Control: no-cache\r\n",
            // What hyper writes for every writer.
            "Content-Length: 3\r\n\r\nxyz",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ]),
    );
    let behind = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..600),
    ];
    let size = prop_oneof![1..64_usize, 64..5000_usize, 5000..70_000_usize];
    let leaves = prop_oneof![
        4 => Just(None),
        1 => (0..200_000_usize).prop_map(|n| Some(Leaves::Closes(n))),
        1 => (0..200_000_usize).prop_map(|n| Some(Leaves::Resets(n))),
        1 => (0..2_000_usize).prop_map(|n| Some(Leaves::Shuts(n))),
    ];
    let how = (
        behind,
        prop::collection::vec(1..200_usize, 0..4),
        any::<bool>(),
        prop::collection::vec(size, 1..5),
        1..60_usize,
        leaves,
    );
    (asked, how).prop_map(
        |(
            (before, version, path, from_the_earliest, topic, header),
            (behind, cuts, small_buffer, reads, pause_every, leaves),
        )| Reader {
            before,
            version,
            path,
            from_the_earliest,
            topic,
            // HTTP/1.0 knows no chunks: hyper refuses such a request, whoever would write.
            header: if version == "HTTP/1.0" && header.contains("chunked") {
                ""
            } else {
                header
            },
            // Behind a body that hyper reads, other bytes are another request to it: a mistake, for which it hangs up.
            behind: if header.contains("\r\n\r\n") {
                Vec::new()
            } else {
                behind
            },
            cuts,
            small_buffer,
            reads,
            pause_every,
            pause: Duration::from_millis(3),
            leaves,
        },
    )
}

fn script() -> impl Strategy<Value = Script> {
    let calls = (prop::collection::vec(said(), 1..6), any::<bool>());
    (
        prop::collection::vec(said(), 0..12),
        prop::collection::vec(reader(), 1..5),
        prop::collection::vec(calls, 0..8),
        prop::sample::select(vec![32 << 10, 1 << 20, 16 << 20]),
    )
        .prop_map(|(history, readers, live, window_bytes)| Script {
            history,
            readers,
            live,
            window_bytes,
        })
}

impl Said {
    fn publication(&self, number: usize) -> Publication {
        let mut publication = Publication::new(self.data.clone()).to_topic(topic(self.topic));
        if let Some(name) = self.event_type {
            publication = publication.with_type(EventType::new(name).unwrap());
        }
        if self.has_id {
            publication = publication.with_id(EventId::new(format!("own-{number}")).unwrap());
        }
        publication.retry = self.retry.map(Retry::from_millis);
        publication
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

impl Reader {
    /// Something behind the request, or a body, which a stream has no use for.
    fn sends_what_nobody_reads(&self) -> bool {
        !self.behind.is_empty() || self.header.contains("\r\n\r\n")
    }

    fn request(&self) -> Vec<u8> {
        let mut request = Vec::new();
        for before in &self.before {
            let line = match before {
                Before::Alive => "GET /livez",
                Before::Absent => "GET /absent",
                Before::Head => "HEAD /events",
            };
            request.extend_from_slice(
                format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
            );
        }
        let mut query = Vec::new();
        if self.from_the_earliest {
            query.push("last_event_id=earliest".to_owned());
        }
        query.extend(self.topic.map(|topic| format!("topic={topic}")));
        let (header, body) = self
            .header
            .split_once("\r\n\r\n")
            .unwrap_or((self.header, ""));
        let end = if self.header.contains("\r\n\r\n") {
            "\r\n\r\n"
        } else {
            "\r\n"
        };
        request.extend_from_slice(
            format!(
                "GET {}?{} {}\r\nHost: localhost\r\n{header}{end}{body}",
                self.path,
                query.join("&"),
                self.version
            )
            .as_bytes(),
        );
        if self.header.contains("chunked") {
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(&self.behind);
        request
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if self.small_buffer {
            socket.set_recv_buffer_size(4 << 10).unwrap();
            socket.set_tcp_mss(1_400).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = self.request();
        let mut rest = &request[..];
        for cut in &self.cuts {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            // A stream may have begun and the writer have closed its ear.
            let _ = socket.write_all(piece);
            std::thread::sleep(Duration::from_millis(1));
            rest = later;
        }
        let _ = socket.write_all(rest);
        socket
    }

    /// All that comes, or as much as this one wants.
    fn read(&self, mut socket: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut space = vec![0; 70_000];
        for (n, size) in self.reads.iter().cycle().enumerate() {
            match self.leaves {
                Some(Leaves::Closes(after)) if bytes.len() >= after => return bytes,
                Some(Leaves::Resets(after)) if bytes.len() >= after => {
                    SockRef::from(&socket)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                    return bytes;
                }
                Some(Leaves::Shuts(after)) if bytes.len() >= after => {
                    let _ = socket.shutdown(Shutdown::Write);
                }
                _ => {}
            }
            if n % self.pause_every == 0 && n / self.pause_every < MAX_PAUSES {
                std::thread::sleep(self.pause);
            }
            match socket.read(&mut space[..*size]) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&space[..count]),
                // A socket that is closed with unread input is reset.
                Err(error) if self.leaves.is_some() || self.sends_what_nobody_reads() => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    break;
                }
                Err(error) => panic!("{error} after {} bytes", bytes.len()),
            }
        }
        bytes
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(std::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many readers have found their place so far, also those that have left: one that was let in may still be looking for its own.
fn placed(hub: &Hub) -> u64 {
    let stats = hub.stats();
    let open = hub.connections(usize::MAX).len() as u64;
    open + stats.accepted_connections - stats.active_connections as u64
}

/// Does what the script says with all writers at once, and gives what came to each reader by each of them.
async fn play(script: &Script) -> Vec<(Reader, Vec<Vec<u8>>)> {
    let config = HubConfig {
        window_bytes: script.window_bytes,
        heartbeat: None,
        send_timeout: DEADLINE,
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let (end, ended) = watch::channel(());
    let servers = WRITERS.map(|writer| {
        let service = HubService::new(hub.clone(), HttpConfig::default());
        let config = ServerConfig {
            writer,
            // Some read slowly enough for the kernel to give up on them.
            peer_timeout: 2 * DEADLINE,
            ..ServerConfig::default()
        };
        let server = Server::bind(([127, 0, 0, 1], 0).into(), service, config).unwrap();
        let mut ended = ended.clone();
        let told = async move {
            let _ = ended.changed().await;
        };
        (
            server.local_addr(),
            tokio::spawn(server.run(told, DEADLINE)),
        )
    });
    let addresses = [&servers[0], &servers[1], &servers[2]].map(|(address, _)| *address);
    let mut number = 0;
    let mut next = |said: &Said| {
        number += 1;
        said.publication(number)
    };
    for said in &script.history {
        hub.publish(next(said)).await.unwrap();
    }
    let mut reading = Vec::new();
    for reader in &script.readers {
        let mut reads = Vec::new();
        for address in addresses {
            let before = placed(&hub);
            let connecting = reader.clone();
            let socket = tokio::task::spawn_blocking(move || connecting.connect(address));
            let socket = socket.await.unwrap();
            // Each begins with what comes from now on, so all must be there.
            until("it is connected", || placed(&hub) > before).await;
            let reader = reader.clone();
            reads.push(tokio::task::spawn_blocking(move || reader.read(socket)));
        }
        reading.push((reader.clone(), reads));
    }
    for (events, pauses) in &script.live {
        for said in events {
            hub.publish(next(said)).await.unwrap();
        }
        if *pauses {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    end.send_replace(());
    for (_, server) in servers {
        assert_eq!(server.await.unwrap(), 0, "every stream ends by itself");
    }
    let mut came = Vec::new();
    for (reader, reads) in reading {
        let mut bytes = Vec::new();
        for read in reads {
            bytes.push(read.await.unwrap());
        }
        came.push((reader, bytes));
    }
    came
}

fn check(script: &Script) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for (reader, reads) in runtime.block_on(play(script)) {
        let came: Vec<_> = reads
            .iter()
            .map(|bytes| taken_apart(bytes, &reader.before))
            .collect();
        let has_end = |came: &Option<Came>| came.as_ref().is_some_and(|it| it.behind.is_some());
        let is_whole = reader.leaves.is_none() && !reader.sends_what_nobody_reads();
        assert!(
            !is_whole || came.iter().all(has_end),
            "a stream without its end: {reader:?}"
        );
        for (writer, came) in std::iter::zip(WRITERS, &came) {
            let behind = came.as_ref().and_then(|it| it.behind.clone());
            // hyper answers what it finds behind the request once the stream has ended; the others drop it.
            let is_hypers = writer == StreamWriter::Hyper || reader.header.contains("Upgrade");
            let may_answer = is_hypers && !reader.behind.is_empty();
            assert!(
                may_answer || behind.is_none_or(|it| it.is_empty()),
                "{writer:?}: bytes behind the end of {reader:?}"
            );
        }
        let came: Vec<Came> = came.into_iter().flatten().collect();
        let Some((reference, others)) = came.split_first() else {
            continue;
        };
        for other in others {
            assert_eq!(other.heads, reference.heads, "{reader:?}");
            let (one, two) = (reference.body(), other.body());
            if is_whole {
                assert!(one == two, "{}: {reader:?}", difference(&one, &two));
            } else {
                // What came before they left is the beginning of the same; its last block is a piece.
                let common = one.len().min(two.len());
                let common = whole_blocks(&one[..common]).min(whole_blocks(&two[..common]));
                assert!(
                    one[..common] == two[..common],
                    "{}: {reader:?}",
                    difference(&one, &two)
                );
            }
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
}

fn whole_blocks(body: &[u8]) -> usize {
    body.windows(2)
        .rposition(|it| it == b"\n\n")
        .map_or(0, |at| at + 2)
}

fn difference(one: &[u8], two: &[u8]) -> String {
    let at = std::iter::zip(one, two).take_while(|(a, b)| a == b).count();
    let piece = |body: &[u8]| {
        String::from_utf8_lossy(&body[at.saturating_sub(60)..(at + 60).min(body.len())])
            .into_owned()
    };
    format!(
        "{} and {} bytes, at {at} {:?} and {:?}",
        one.len(),
        two.len(),
        piece(one),
        piece(two)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_writes_a_stream_its_bytes_are_the_same(script in script()) {
        check(&script);
    }
}

/// A stream that has ended while its reader takes nothing has last words to be read. Where hyper writes they were lost when
/// it held less than it wants to hold: then it had asked the stream to its end, and the socket was still full.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_end_of_its_stream_whoever_writes() {
    for writer in WRITERS {
        let config = HubConfig {
            send_timeout: DEADLINE,
            ..HubConfig::default()
        };
        let hub = Hub::in_memory(config).await.unwrap();
        let address = serve(&hub, writer);
        let publish = async |name: &str| {
            let publication = Publication::new("w".repeat(1000)).to_topic(topic(name));
            hub.publish(publication).await.unwrap();
            // Each in a write of its own.
            tokio::time::sleep(Duration::from_micros(500)).await;
        };
        let connect = async |name: &'static str| {
            let reader = Reader {
                before: Vec::new(),
                version: "HTTP/1.1",
                path: "/events",
                from_the_earliest: false,
                topic: Some(name),
                header: "",
                behind: Vec::new(),
                cuts: Vec::new(),
                small_buffer: true,
                reads: vec![16 << 10],
                pause_every: 1,
                pause: Duration::ZERO,
                leaves: None,
            };
            let before = hub.connections(100).len();
            let socket = reader.connect(address);
            until("it is connected", || hub.connections(100).len() > before).await;
            (reader, socket)
        };
        // How much the sockets and the writer hold before the stream is asked no more.
        let (_, probe) = connect("probe").await;
        let mut enough: usize = 0;
        while hub.connections(100).iter().all(|it| it.behind_entries < 3) {
            publish("probe").await;
            enough += 1;
        }
        drop(probe);
        until("the probe is gone", || hub.connections(100).is_empty()).await;
        let mut readers = Vec::new();
        for (less, name) in [
            (3, "a"),
            (6, "b"),
            (9, "c"),
            (12, "d"),
            (15, "e"),
            (18, "f"),
        ] {
            let (reader, socket) = connect(name).await;
            let count = enough.saturating_sub(less);
            for _ in 0..count {
                publish(name).await;
            }
            readers.push((count, reader, socket));
        }
        let ending = tokio::spawn({
            let hub = hub.clone();
            async move { hub.shutdown(DEADLINE).await }
        });
        // They are still not reading, for longer than it takes to look after blocked sockets.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        // All at once: the kernel gives up on who takes nothing for long, and one small buffer after the other takes long.
        let reads: Vec<_> = readers
            .into_iter()
            .map(|(count, reader, socket)| {
                let read = tokio::task::spawn_blocking(move || reader.read(socket));
                (count, read)
            })
            .collect();
        for (count, read) in reads {
            let came = taken_apart(&read.await.unwrap(), &[]).unwrap();
            let events = whole_events(&came.body());
            assert!(
                came.behind.is_some() && events > count,
                "{writer:?}: the end is missing after {events} events of {count}"
            );
        }
        assert_eq!(ending.await.unwrap(), 0);
    }
}

/// Each event goes in a write of its own where nothing waits, and so the chunks can be compared.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_quiet_hub_the_chunks_are_the_same_too() {
    let config = HubConfig {
        heartbeat: None,
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let request = "GET /events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut readers: Vec<_> = WRITERS
        .iter()
        .map(|writer| (open(serve(&hub, *writer), request), Vec::new()))
        .collect();
    let data = [
        "one",
        "",
        "two\nlines",
        &"large ".repeat(30_000),
        "é",
        "last",
    ];
    for (n, text) in std::iter::once(&"").chain(&data).enumerate() {
        if n > 0 {
            let publication = Publication::new(*text).to_topic(topic("a"));
            hub.publish(publication).await.unwrap();
        }
        for (socket, read) in &mut readers {
            tokio::task::block_in_place(|| {
                let mut space = [0; 4096];
                while taken_apart(read, &[]).is_none_or(|it| whole_events(&it.body()) <= n) {
                    let count = socket.read(&mut space).unwrap();
                    assert!(count > 0);
                    read.extend_from_slice(&space[..count]);
                }
            });
        }
    }
    let chunks: Vec<Vec<Vec<u8>>> = readers
        .iter()
        .map(|(_, read)| {
            let chunks = taken_apart(read, &[]).unwrap().chunks;
            chunks.iter().map(|chunk| normal(chunk)).collect()
        })
        .collect();
    let lengths = |chunks: &[Vec<u8>]| chunks.iter().map(Vec::len).collect::<Vec<_>>();
    for (writer, other) in std::iter::zip(WRITERS, &chunks) {
        assert!(
            *other == chunks[0],
            "{writer:?}: chunks of {:?}, hyper's are {:?}",
            lengths(other),
            lengths(&chunks[0])
        );
    }
    assert_eq!(chunks[0].len(), 1 + data.len(), "{:?}", lengths(&chunks[0]));
}

fn whole_events(body: &[u8]) -> usize {
    body.windows(2).filter(|it| it == b"\n\n").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_or_a_half_closed_socket_ends_one_stream_and_no_other_whoever_writes() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let request = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for writer in WRITERS {
        let address = serve(&hub, writer);
        let steady = open(address, request);
        for resets in [true, false] {
            let leaving = open(address, request);
            until("both are connected", || hub.connections(10).len() == 2).await;
            // More than sockets hold: it is in the middle of an event that is on its way.
            for _ in 0..8 {
                hub.publish(Publication::new("v".repeat(900_000)))
                    .await
                    .unwrap();
            }
            if resets {
                SockRef::from(&leaving)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                drop(leaving);
            } else {
                leaving.shutdown(Shutdown::Write).unwrap();
                let read = tokio::task::spawn_blocking(move || {
                    let mut leaving = leaving;
                    let _ = std::io::copy(&mut leaving, &mut std::io::sink());
                });
                read.await.unwrap();
            }
            // The steady one has read nothing yet either.
            until("one has left", || hub.connections(10).len() == 1).await;
        }
        let id = hub.connections(10)[0].info.id.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut steady = steady;
            let mut space = vec![0; 70_000];
            let (mut seen, mut last) = (0, 0);
            while seen < 17 {
                let count = steady.read(&mut space).unwrap();
                assert!(count > 0, "it ended after {seen} events");
                for byte in &space[..count] {
                    seen += usize::from(last == b'\n' && *byte == b'\n');
                    last = *byte;
                }
            }
            steady
        });
        let steady = read.await.unwrap();
        hub.close_connection(&id);
        drop(steady);
        until("all have left", || hub.connections(10).is_empty()).await;
    }
}

const MAX_PAUSES: usize = 200;
