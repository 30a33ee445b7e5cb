//! Streams with `Content-Encoding: gzip`: every reader gets the same events as without, and a gzip stream that ends
//! properly, whoever else reads along.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::json;
use sse_broker::Topic;
use sse_compress::Coding;
use sse_protocol::EventId;
use sse_server::Pattern;
use sse_server::hub::{Hub, HubConfig, Publication, SubscriptionChange};
use sse_server::serve::StreamWriter;
use tokio::task::JoinHandle;

use crate::client::{DEADLINE, eventually};
use crate::limits::memory_kib;
use crate::server::Server;
use crate::writers::{events, open, read_to_end, serve, split};

const WRITERS: [StreamWriter; 3] = [
    StreamWriter::Reactor,
    StreamWriter::Task,
    StreamWriter::Hyper,
];

/// A reader that asks for gzip, and is read to its end.
fn packed(address: SocketAddr, query: &str) -> JoinHandle<Stream> {
    reading(open(address, &request(query, "gzip")), "gzip")
}

fn plain(address: SocketAddr, query: &str) -> JoinHandle<Stream> {
    reading(open(address, &request(query, "identity")), "identity")
}

fn request(query: &str, coding: &str) -> String {
    format!("GET /events?{query} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n")
}

struct Stream {
    events: Vec<String>,
    wire_bytes: usize,
}

fn reading(socket: TcpStream, coding: &str) -> JoinHandle<Stream> {
    let coding = Coding::from_name(coding).unwrap();
    tokio::task::spawn_blocking(move || {
        let bytes = read_to_end(socket);
        let (head, body) = split(&bytes, "HTTP/1.1");
        let said = head
            .iter()
            .find_map(|line| line.strip_prefix("content-encoding: "));
        assert_eq!(said.unwrap_or("identity"), coding.name(), "{head:?}");
        let wire_bytes = body.len();
        let body = unpacked(coding, &body);
        Stream {
            events: events(&body),
            wire_bytes,
        }
    })
}

/// All of a stream: of gzip with its checksum and length looked at, and nothing behind it.
fn unpacked(coding: Coding, body: &[u8]) -> Vec<u8> {
    if coding == Coding::Identity {
        return body.to_vec();
    }
    let mut rest = body;
    let mut decoder = GzDecoder::new(&mut rest);
    let mut text = Vec::new();
    decoder.read_to_end(&mut text).expect("a whole gzip stream");
    assert!(rest.is_empty(), "{} bytes behind the end", rest.len());
    text
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn connected(hub: &Hub, readers: usize) {
    until("all are connected", || {
        hub.connections(1000).len() == readers
    })
    .await;
}

/// What a model says, token by token.
fn token(n: usize, topic: &str) -> Publication {
    let data = format!(
        r#"{{"id":"chatcmpl-7QyqpwdfhqwajicIEznoc6Q47XAyW","object":"chat.completion.chunk","created":1677649420,"model":"m-large","choices":[{{"index":0,"delta":{{"content":" word{n}"}},"finish_reason":null}}]}}"#
    );
    Publication::new(data).to_topic(Topic::new(topic).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn early_late_and_resumed_readers_of_every_writer_get_what_an_uncompressed_one_gets() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let addresses = WRITERS.map(|writer| serve(&hub, writer));
    let reference = plain(addresses[0], "topic=a");
    let mut readers: Vec<(usize, JoinHandle<Stream>)> = Vec::new();
    for address in addresses {
        readers.push((0, packed(address, "topic=a")));
    }
    connected(&hub, readers.len() + 1).await;
    let mut sent = 0;
    for late in [40, 300, 3] {
        for _ in 0..late {
            hub.publish(token(sent, "a")).await.unwrap();
            sent += 1;
        }
        for address in addresses {
            readers.push((sent, packed(address, "topic=a")));
            readers.push((0, packed(address, "topic=a&last_event_id=earliest")));
        }
        connected(&hub, readers.len() + 1).await;
    }
    for _ in 0..50 {
        hub.publish(token(sent, "a")).await.unwrap();
        sent += 1;
    }
    assert_eq!(
        hub.shutdown(DEADLINE).await,
        0,
        "every stream ends by itself"
    );
    let reference = reference.await.unwrap().events;
    assert_eq!(reference.len(), sent);
    for (index, (from, reader)) in readers.into_iter().enumerate() {
        let stream = reader.await.unwrap();
        assert_eq!(stream.events, reference[from..], "reader {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_progress_take_less_than_two_fifths_of_the_bytes() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let (compressed, identity) = (packed(address, "topic=a"), plain(address, "topic=a"));
    connected(&hub, 2).await;
    for n in 0..500 {
        hub.publish(token(n, "a")).await.unwrap();
        if n % 5 == 0 {
            // One write each, as it is with a stream in real time.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    let (compressed, identity) = (compressed.await.unwrap(), identity.await.unwrap());
    assert_eq!(compressed.events, identity.events);
    let (packed, plain) = (compressed.wire_bytes, identity.wire_bytes);
    assert!(packed * 5 < plain * 2, "{packed} of {plain} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_encoder_serves_all_readers_of_a_topic_and_goes_with_them() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let readers: Vec<_> = (0..40).map(|_| packed(address, "topic=a")).collect();
    connected(&hub, 40).await;
    for n in 0..100 {
        hub.publish(token(n, "a")).await.unwrap();
    }
    let streams = hub.stats().compression.streams;
    assert_eq!(streams.cohorts, 1);
    until("all is encoded", || hub.stats().events_delivered >= 4000).await;
    let plain: usize = 100 * 300;
    let encoded = hub.stats().compression.streams.bytes_in;
    assert!(encoded < 2 * plain as u64, "{encoded}: each event once");
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    for reader in readers {
        assert_eq!(reader.await.unwrap().events.len(), 100);
    }
    until("it is gone", || {
        hub.stats().compression.streams.cohorts == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_events_reach_their_reader_in_order_and_nobody_else() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let of_a = packed(address, "topic=news&session_id=a");
    let of_b = packed(address, "topic=news&session_id=b");
    let nobody = packed(address, "topic=news");
    connected(&hub, 3).await;
    let direct = hub
        .connections(10)
        .into_iter()
        .find(|status| status.info.client.session.is_none())
        .unwrap();
    for n in 0..60 {
        match n % 4 {
            0 => hub
                .publish(token(n, "session/a"))
                .await
                .map(|_| ())
                .unwrap(),
            1 => hub
                .send_to(&direct.info.id, Publication::new(format!("direct {n}")))
                .await
                .map(|_| ())
                .unwrap(),
            _ => hub.publish(token(n, "news")).await.map(|_| ()).unwrap(),
        }
    }
    assert_eq!(hub.stats().compression.streams.cohorts, 3);
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    let numbers = |stream: &Stream| -> Vec<usize> {
        let number = |event: &String| {
            let text = event.split("word").nth(1).or(event.split("direct ").nth(1));
            let digits = text.unwrap().chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse().unwrap()
        };
        stream.events.iter().map(number).collect()
    };
    let expected =
        |of: &[usize]| -> Vec<usize> { (0..60).filter(|n| of.contains(&(n % 4))).collect() };
    assert_eq!(numbers(&of_a.await.unwrap()), expected(&[0, 2, 3]));
    assert_eq!(numbers(&of_b.await.unwrap()), expected(&[2, 3]));
    assert_eq!(numbers(&nobody.await.unwrap()), expected(&[1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_and_changed_subscriptions_lose_and_repeat_nothing() {
    let config = HubConfig {
        heartbeat: Some(Duration::from_millis(40)),
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    for writer in WRITERS {
        let address = serve(&hub, writer);
        let steady = packed(address, "topic=a");
        connected(&hub, 1).await;
        let changing = packed(address, "topic=a");
        connected(&hub, 2).await;
        let ids: Vec<_> = hub
            .connections(10)
            .into_iter()
            .map(|it| it.info.id.clone())
            .collect();
        for n in 0..30 {
            hub.publish(token(n, "a")).await.unwrap();
            hub.publish(token(1000 + n, "b")).await.unwrap();
            if n == 10 {
                until("what was published is read", || {
                    hub.connections(10).iter().all(|it| it.behind_entries == 0)
                })
                .await;
                let change = SubscriptionChange {
                    topics: Some(vec!["b".to_owned()]),
                    ..SubscriptionChange::default()
                };
                hub.change_subscriptions(&ids[1], change).await.unwrap();
            }
            if n % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        until("all is read", || {
            hub.connections(10).iter().all(|it| it.behind_entries == 0)
        })
        .await;
        for id in &ids {
            hub.close_connection(id);
        }
        let read = [steady.await.unwrap(), changing.await.unwrap()].map(|stream| {
            let words = stream.events.iter().filter_map(|event| {
                let word = event.split(" word").nth(1)?;
                word.split('"').next()?.parse::<usize>().ok()
            });
            words.collect::<Vec<_>>()
        });
        // Which of the two the first id was is the pool's affair.
        let all: Vec<usize> = (0..30).collect();
        let half: Vec<usize> = (0..=10).chain(1011..1030).collect();
        assert!(read.contains(&all), "{writer:?}: {read:?}");
        assert!(read.contains(&half), "{writer:?}: {read:?}");
    }
}

/// Over HTTP/2, and where the service is mounted elsewhere, hyper writes.
#[tokio::test(flavor = "multi_thread")]
async fn the_gap_of_a_changed_subscription_comes_before_its_events_whoever_writes() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    for (writer, coding) in WRITERS
        .into_iter()
        .flat_map(|it| [(it, "identity"), (it, "gzip")])
    {
        let address = serve(&hub, writer);
        let request = request("topic=a", coding);
        let request = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let stream = reading(open(address, &request), coding);
        connected(&hub, 1).await;
        hub.publish(token(1, "a")).await.unwrap();
        until("what was published is read", || {
            hub.connections(10).iter().all(|it| it.behind_entries == 0)
        })
        .await;
        let id = hub.connections(1)[0].info.id.clone();
        let change = SubscriptionChange {
            topics: Some(vec!["b".to_owned()]),
            last_event_id: Some("nobody-knows-it".to_owned()),
            ..SubscriptionChange::default()
        };
        let (_, gap) = hub.change_subscriptions(&id, change).await.unwrap();
        hub.publish(token(2, "a")).await.unwrap();
        hub.publish(token(3, "b")).await.unwrap();
        until("all is read", || {
            hub.connections(10).iter().all(|it| it.behind_entries == 0)
        })
        .await;
        hub.close_connection(&id);
        let events = stream.await.unwrap().events;
        let what = format!("{writer:?} {coding}: {events:?}");
        assert_eq!(events.len(), 3, "{what}");
        assert!(events[0].contains(" word1"), "{what}");
        assert!(events[1].contains("event: gap"), "{what}");
        assert!(events[1].contains("\"unknown_id\""), "{what}");
        assert!(events[1].contains(&gap.unwrap().to.to_string()), "{what}");
        assert!(events[2].contains(" word3"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_past_its_time_is_not_written() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let readers = WRITERS.map(|writer| packed(serve(&hub, writer), "topic=a"));
    connected(&hub, readers.len()).await;
    // The first begins the live stream; those after it find readers that have caught up.
    for n in 0..4 {
        let mut publication = token(n, "a");
        publication.time_to_live = (n % 2 == 1).then_some(Duration::ZERO);
        hub.publish(publication).await.unwrap();
        until("it is read", || {
            hub.connections(10).iter().all(|it| it.behind_entries == 0)
        })
        .await;
    }
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    for reader in readers {
        let events = reader.await.unwrap().events;
        let tokens = events.iter().filter(|event| event.contains(" word"));
        assert_eq!(tokens.count(), 2, "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_never_compressed_comes_as_it_is() {
    let config = HubConfig {
        never_compress: vec![Arc::new(Pattern::new("secret/*").unwrap())],
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let reader = open(address, &request("topic=secret/1&topic=a", "gzip"));
    connected(&hub, 1).await;
    let secret = "the secret that compresses well ".repeat(20);
    for n in 0..6 {
        let topic = if n % 2 == 0 { "secret/1" } else { "a" };
        let publication = Publication::new(secret.clone());
        hub.publish(publication.to_topic(Topic::new(topic).unwrap()))
            .await
            .unwrap();
    }
    let read = tokio::task::spawn_blocking(move || read_to_end(reader));
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    let (_, body) = split(&read.await.unwrap(), "HTTP/1.1");
    let as_it_is = body
        .windows(secret.len())
        .filter(|window| *window == secret.as_bytes())
        .count();
    assert_eq!(as_it_is, 3, "the secret ones, and only these");
    assert_eq!(events(&unpacked(Coding::Gzip, &body)).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_memory_for_it_streams_are_not_compressed() {
    let config = HubConfig {
        // One address alone gets half: enough for two.
        stream_compression_bytes: 2 << 20,
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let mut streams = Vec::new();
    for n in 0..4 {
        let socket = open(address, &request(&format!("topic=own/{n}"), "gzip"));
        connected(&hub, n + 1).await;
        streams.push(tokio::task::spawn_blocking(move || read_to_end(socket)));
    }
    assert_eq!(hub.stats().compression.streams.cohorts, 2);
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    let mut compressed = 0;
    for stream in streams {
        let text = stream.await.unwrap();
        let head = String::from_utf8_lossy(&text[..300]).to_lowercase();
        compressed += usize::from(head.contains("content-encoding: gzip"));
    }
    assert_eq!(compressed, 2);
    assert!(address.ip() == Ipv4Addr::LOCALHOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_streams_are_compressed_each_for_itself_while_there_is_memory() {
    let config = HubConfig {
        // One address alone gets half: enough for two.
        stream_compression_bytes: 2 << 20,
        ..HubConfig::default()
    };
    let hub = Hub::in_memory(config).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let mut readers = Vec::new();
    let come = async |n: usize, session: &str| {
        let socket = open(
            address,
            &request(&format!("topic=news&session_id={session}"), "gzip"),
        );
        connected(&hub, n).await;
        socket
    };
    for (n, session) in ["a", "b", "c", "d"].into_iter().enumerate() {
        readers.push((session, come(n + 1, session).await));
    }
    assert_eq!(hub.stats().compression.streams.cohorts, 2, "the first two");
    // One of them makes room for another.
    drop(readers.remove(0));
    connected(&hub, 3).await;
    until("its memory is free", || {
        hub.stats().compression.streams.cohorts == 1
    })
    .await;
    readers.push(("e", come(4, "e").await));
    assert_eq!(hub.stats().compression.streams.cohorts, 2);
    for n in 0..20 {
        hub.publish(token(n, "news")).await.unwrap();
        for session in ["b", "c", "d", "e"] {
            let private = Publication::new(format!("for {session} {n}"));
            let topic = Topic::new(format!("session/{session}")).unwrap();
            hub.publish(private.to_topic(topic)).await.unwrap();
        }
    }
    let reads: Vec<_> = readers
        .into_iter()
        .map(|(session, socket)| {
            let is_compressed = ["b", "e"].contains(&session);
            let coding = if is_compressed { "gzip" } else { "identity" };
            (session, reading(socket, coding))
        })
        .collect();
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    for (session, read) in reads {
        let events = read.await.unwrap().events;
        assert_eq!(events.len(), 40, "{session}");
        let private = format!("for {session} ");
        let of_it = events.iter().filter(|event| event.contains(&private));
        assert_eq!(of_it.count(), 20, "{session}");
    }
}

/// The real binary's memory with so many readers of one topic, after some events.
fn memory_kib_with(coding: &str, readers: usize) -> u64 {
    let server = Server::with(&["--max-connections-per-ip", "2000", "--heartbeat", "0"]);
    let sockets: Vec<TcpStream> = (0..readers)
        .map(|_| {
            let mut socket = open(server.address, &request("topic=a", coding));
            assert!(socket.read(&mut [0; 2048]).unwrap() > 0);
            socket
        })
        .collect();
    let events: Vec<_> = (0..50)
        .map(|n| json!({"topic": "a", "data": format!("event {n}, and some text with it")}))
        .collect();
    server.publish(&json!(events));
    eventually("all have them", || {
        let stats = server.get("/events/stats").ok();
        let delivered = stats["events_delivered"].as_u64().unwrap();
        (delivered >= 50 * readers as u64).then_some(())
    });
    let memory = memory_kib(&server);
    drop(sockets);
    memory
}

/// An encoder takes some 300 KiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_compressed_stream_takes_no_encoder_of_its_own() {
    let measured = tokio::task::spawn_blocking(move || {
        let each = |coding: &str| {
            let (few, many) = (memory_kib_with(coding, 50), memory_kib_with(coding, 450));
            many.saturating_sub(few) * 1024 / 400
        };
        (each("gzip"), each("identity"))
    });
    let (compressed, plain) = measured.await.unwrap();
    println!("{compressed} bytes each when compressed, {plain} when not");
    assert!(
        compressed <= plain + 2048,
        "{compressed} bytes each when compressed, {plain} when not"
    );
}

/// A reader of gzip as it comes: the bytes of the stream, and what they mean so far.
struct Unpacking {
    socket: TcpStream,
    decoder: flate2::write::GzDecoder<Vec<u8>>,
    /// What is not a whole chunk yet.
    rest: Vec<u8>,
}

impl Unpacking {
    fn open(address: SocketAddr, query: &str) -> Self {
        let mut socket = open(address, &request(query, "gzip"));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(String::from_utf8_lossy(&head).contains("content-encoding: gzip"));
        let decoder = flate2::write::GzDecoder::new(Vec::new());
        let mut it = Self {
            socket,
            decoder,
            rest: Vec::new(),
        };
        it.bytes_until("event: connected");
        it
    }

    /// How many bytes of gzip come until the text has this, and its event's end.
    fn bytes_until(&mut self, text: &str) -> usize {
        let (mut bytes, mut space) = (0, [0; 4096]);
        loop {
            let so_far = String::from_utf8_lossy(self.decoder.get_ref()).into_owned();
            if so_far
                .split_once(text)
                .is_some_and(|(_, behind)| behind.contains("\n\n"))
            {
                return bytes;
            }
            let count = self.socket.read(&mut space).unwrap();
            assert!(count > 0, "it ended with {so_far}");
            self.rest.extend_from_slice(&space[..count]);
            while let Some(line) = self.rest.windows(2).position(|it| it == b"\r\n") {
                let digits = std::str::from_utf8(&self.rest[..line]).unwrap();
                let length = usize::from_str_radix(digits, 16).unwrap();
                if self.rest.len() < line + length + 4 {
                    break;
                }
                let chunk: Vec<u8> = self.rest.drain(..line + length + 4).collect();
                let chunk = &chunk[line + 2..line + 2 + length];
                self.decoder.write_all(chunk).unwrap();
                self.decoder.flush().unwrap();
                bytes += length;
            }
        }
    }
}

/// Were it otherwise, who may publish could guess: what a reader has heard before makes the same text shorter.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_to_one_reader_shapes_no_byte_of_another() {
    let secret = "the password is 7Qk0vZ2mXw9LrT4bNc8Y";
    let mut seen = Vec::new();
    // To the one reader, and to nobody who is there.
    for private in ["session/a", "session/z"] {
        let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
        let address = serve(&hub, StreamWriter::Reactor);
        let publish = async |data: &str, topic: &str, id: &str| {
            let publication = Publication::new(data.to_owned())
                .to_topic(Topic::new(topic).unwrap())
                .with_id(EventId::new(id).unwrap());
            hub.publish(publication).await.unwrap();
        };
        let (mut a, mut b) = tokio::task::block_in_place(|| {
            let [a, b] = ["a", "b"].map(|session| {
                Unpacking::open(address, &format!("topic=news&session_id={session}"))
            });
            (a, b)
        });
        // In step with their cohorts.
        publish("begin", "news", "1").await;
        tokio::task::block_in_place(|| [&mut a, &mut b].map(|it| it.bytes_until("data: begin")));
        publish(secret, private, "2").await;
        publish("between", "news", "3").await;
        tokio::task::block_in_place(|| [&mut a, &mut b].map(|it| it.bytes_until("data: between")));
        publish(&format!("guess: {secret}"), "news", "4").await;
        seen.push(tokio::task::block_in_place(|| {
            [&mut a, &mut b].map(|it| it.bytes_until("data: guess"))
        }));
    }
    let [[a_knows, b_beside], [a_does_not, b_alone]] = seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(b_beside, b_alone, "{seen:?}");
    // And that would have been seen: it is in the stream of the one who knows.
    assert!(a_knows < a_does_not, "{seen:?}");
}

/// The same of a reader that was in the cohort and follows something else since.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_something_else_shapes_no_byte_of_the_cohort_it_was_in() {
    let secret = "the password is 7Qk0vZ2mXw9LrT4bNc8Y";
    let mut seen = Vec::new();
    for topic in ["followed", "followed-by-nobody"] {
        let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
        let address = serve(&hub, StreamWriter::Reactor);
        let publish = async |data: &str, topic: &str| {
            let topic = Topic::new(topic).unwrap();
            let publication = Publication::new(data.to_owned()).to_topic(topic);
            hub.publish(publication).await.unwrap();
        };
        let open = || tokio::task::block_in_place(|| Unpacking::open(address, "topic=news"));
        let mut changing = open();
        let id = hub.connections(1)[0].info.id.clone();
        let mut other = open();
        publish("begin", "news").await;
        tokio::task::block_in_place(|| {
            [&mut changing, &mut other].map(|it| it.bytes_until("data: begin"))
        });
        let change = SubscriptionChange {
            topics: Some(vec!["followed".to_owned()]),
            ..SubscriptionChange::default()
        };
        hub.change_subscriptions(&id, change).await.unwrap();
        publish(secret, topic).await;
        until("it is read by who follows it", || {
            hub.connections(10).iter().all(|it| it.behind_entries == 0)
        })
        .await;
        publish(&format!("guess: {secret}"), "news").await;
        seen.push(tokio::task::block_in_place(|| {
            other.bytes_until("data: guess")
        }));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_asks_for_a_coding_the_hub_does_not_have_gets_the_stream_as_it_is() {
    let hub = Hub::in_memory(HubConfig::default()).await.unwrap();
    let address = serve(&hub, StreamWriter::Reactor);
    let reader = reading(open(address, &request("topic=a", "zstd, br")), "identity");
    connected(&hub, 1).await;
    hub.publish(token(7, "a")).await.unwrap();
    assert_eq!(hub.shutdown(DEADLINE).await, 0);
    assert_eq!(reader.await.unwrap().events.len(), 1);
}
