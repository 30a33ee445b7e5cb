//! What was granted: every way to read brings what the rule says. And who shares the coding of a stream with whom.

use std::cell::Cell;
use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::write::GzDecoder;
use proptest::prelude::*;
use serde_json::Value;
use sse_broker::{
    Audience, Broker, DiskBroker, DiskConfig, MemoryBroker, MemoryConfig, NewRecord, Topic,
};
use sse_compress::Coding;
use sse_pool::TopicFilter;
use sse_protocol::{Decoder, Event};

use super::{ConnectionRequest, EventStream};
use crate::access::Caller;
use crate::hub::{Hub, HubConfig, Interest, NamedSubscription, PollRequest, SubscriptionChange};
use crate::topic_pattern::{Pattern, is_pattern};
use crate::wire::{Format, Protocol};

/// Who reads, what it was granted, and what it asks for.
#[derive(Clone, Debug)]
struct Reader {
    user: Option<&'static str>,
    session: Option<&'static str>,
    /// Topics and patterns; `*` for all.
    granted: Option<Vec<&'static str>>,
    /// None for every public topic.
    topics: Vec<&'static str>,
    types: Vec<&'static str>,
}

/// An event for those who were granted one of its topics, or for everyone.
#[derive(Clone, Debug)]
struct Published {
    topics: Vec<&'static str>,
    needs_grant: bool,
}

impl Reader {
    /// The rule: one of the topics is followed or the reader's own, and one, perhaps another, was granted.
    fn gets(&self, event: &Published) -> bool {
        let is_own = |topic: &str| {
            let name = topic.strip_prefix("user/");
            name.is_some() && name == self.user
        };
        let follows =
            |topic: &str| self.topics.is_empty() || is_named(&self.topics, topic) || is_own(topic);
        let granted = self.granted.as_deref().unwrap_or_default();
        event.topics.iter().any(|topic| follows(topic))
            && (!event.needs_grant || event.topics.iter().any(|topic| is_named(granted, topic)))
    }

    fn caller(&self) -> Caller {
        let caller = Caller::new([127, 0, 0, 1].into(), self.user, self.session).unwrap();
        match &self.granted {
            None => caller,
            Some(names) if names.contains(&"*") => caller.granted(TopicFilter::All),
            Some(names) => {
                let (patterns, exact): (Vec<&str>, Vec<&str>) =
                    names.iter().partition(|name| is_pattern(name));
                let pattern = |name: &&str| -> Arc<dyn sse_pool::TopicPattern> {
                    Arc::new(Pattern::new(name).unwrap())
                };
                caller.granted(TopicFilter::Topics {
                    exact: exact.into_iter().map(Arc::from).collect(),
                    patterns: patterns.iter().map(pattern).collect(),
                })
            }
        }
    }

    fn interest(&self) -> Interest {
        let mut topics = texts(&self.topics);
        if !topics.is_empty() {
            topics.push(END.to_owned());
        }
        Interest {
            topics,
            exact_topics: Vec::new(),
            event_types: (!self.types.is_empty()).then(|| texts(&self.types)),
        }
    }

    fn request(&self, way: Way, last_event_id: Option<&str>) -> ConnectionRequest {
        ConnectionRequest {
            interest: self.interest(),
            last_event_id: last_event_id.map(str::to_owned),
            format: Format {
                protocol: match way {
                    Way::Socket => Protocol::WebSocket,
                    _ => Protocol::EventStream,
                },
                ..Format::default()
            },
            coding: match way {
                Way::Gzip => Coding::Gzip,
                _ => Coding::Identity,
            },
            ..ConnectionRequest::from(self.caller())
        }
    }
}

fn is_named(names: &[&str], topic: &str) -> bool {
    names.iter().any(|name| match name.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => *name == topic,
    })
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stream,
    Gzip,
    Socket,
}

const WAYS: [Way; 3] = [Way::Stream, Way::Gzip, Way::Socket];
/// The topic of the last event, which comes to everyone.
const END: &str = "end";
const TOPICS: [&str; 4] = ["room/1", "room/2", "hall/1", "news"];

/// An open stream and how to understand it.
struct Open {
    stream: EventStream,
    gunzip: Option<GzDecoder<Vec<u8>>>,
    way: Way,
}

impl Open {
    async fn new(hub: &Hub, way: Way, request: ConnectionRequest) -> Self {
        let stream = hub.connect(request).await.unwrap();
        let is_gzip = stream.coding() == Coding::Gzip;
        assert_eq!(is_gzip, way == Way::Gzip, "there is memory for gzip");
        let gunzip = is_gzip.then(|| GzDecoder::new(Vec::new()));
        Self {
            stream,
            gunzip,
            way,
        }
    }

    /// The numbers of the events up to the last.
    async fn numbers(mut self) -> Vec<usize> {
        let mut text = Vec::new();
        loop {
            let chunk = in_time(self.stream.next_chunk()).await;
            let chunk = chunk.expect("it goes on up to the last event");
            match &mut self.gunzip {
                None => text.extend_from_slice(&chunk),
                Some(gunzip) => {
                    gunzip.write_all(&chunk).unwrap();
                    gunzip.flush().unwrap();
                    text.append(gunzip.get_mut());
                }
            }
            let data = match self.way {
                Way::Socket => messages(&text),
                Way::Stream | Way::Gzip => events(&text),
            };
            if data.last().is_some_and(|last| last == END) {
                return data.iter().filter_map(|it| it.parse().ok()).collect();
            }
        }
    }
}

/// The data of what comes as an event stream.
fn events(text: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new();
    let mut feed = decoder.feed(text);
    let mut data = Vec::new();
    while let Some(event) = feed.next_event() {
        assert_ne!(event.event_type(), "gap");
        data.push(event.data().to_owned());
    }
    data
}

/// The data of what comes as messages of a WebSocket.
fn messages(text: &[u8]) -> Vec<String> {
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let message = |line| {
        let message: Value = serde_json::from_slice(line).unwrap();
        assert_ne!(message["event"], "gap");
        match message["data"].as_str() {
            Some(data) => data.to_owned(),
            None => message["data"].to_string(),
        }
    };
    lines.map(message).collect()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(60), future).await;
    result.expect("it comes in time")
}

async fn publish(hub: &Hub, data: &str, topics: &[&str], audience: Audience) {
    let topics: Vec<Topic> = topics.iter().map(|it| Topic::new(*it).unwrap()).collect();
    let event = Event {
        id: None,
        event_type: None,
        data: data.into(),
        retry: None,
    };
    let now = crate::clock::unix_millis();
    let record = NewRecord {
        audience,
        topics: topics.clone(),
        ..NewRecord::new(topics[0].clone(), event, now)
    };
    for result in hub.append(vec![record]).await.unwrap() {
        result.unwrap();
    }
}

/// Checks what each way of reading brings, at a hub with this log.
async fn check(
    broker: Arc<dyn Broker>,
    window_events: usize,
    readers: &[Reader],
    events: &[Published],
) {
    let config = HubConfig {
        window_events,
        stream_compression_bytes: 256 << 20,
        ..HubConfig::default()
    };
    let hub = Hub::open(config, broker).await.unwrap();
    // What comes before the start is of no concern behind it.
    publish(&hub, "before", &TOPICS, Audience::Granted).await;
    let start = hub.head().to_string();
    let mut open = Vec::new();
    for (n, reader) in readers.iter().enumerate() {
        for way in WAYS {
            let stream = Open::new(&hub, way, reader.request(way, None)).await;
            open.push((n, "open", stream));
            // One whose wishes come later.
            let later = Reader {
                topics: vec!["none"],
                ..reader.clone()
            };
            let stream = Open::new(&hub, way, later.request(way, None)).await;
            let change = SubscriptionChange {
                topics: Some(reader.interest().topics),
                ..SubscriptionChange::default()
            };
            let changed = hub.change_subscriptions(&stream.stream.id(), change).await;
            changed.unwrap();
            open.push((n, "changed", stream));
        }
        let named = named(n, reader);
        drop(Open::new(&hub, Way::Stream, named).await);
    }
    for (number, event) in events.iter().enumerate() {
        let audience = match event.needs_grant {
            true => Audience::Granted,
            false => Audience::Everyone,
        };
        publish(&hub, &number.to_string(), &event.topics, audience).await;
    }
    publish(&hub, END, &[END], Audience::Everyone).await;

    let expected = |reader: &Reader| -> Vec<usize> {
        let numbers = 0..events.len();
        numbers.filter(|&n| reader.gets(&events[n])).collect()
    };
    for (n, how, open) in open {
        let (way, reader) = (open.way, &readers[n]);
        let came = open.numbers().await;
        assert_eq!(came, expected(reader), "{how} {way:?} {reader:?}");
    }
    for (n, reader) in readers.iter().enumerate() {
        for way in WAYS {
            for from in [&*start, "earliest"] {
                let replay = Open::new(&hub, way, reader.request(way, Some(from))).await;
                let came = replay.numbers().await;
                assert_eq!(came, expected(reader), "from {from} {way:?} {reader:?}");
            }
        }
        let named = Open::new(&hub, Way::Stream, named(n, reader)).await;
        assert_eq!(named.numbers().await, expected(reader), "named {reader:?}");
        let polled = hub.poll(PollRequest {
            caller: reader.caller(),
            interest: reader.interest(),
            after: Some(start.clone()),
            wait: Duration::ZERO,
            limit: 1000,
        });
        let polled = polled.await.unwrap().records;
        let data = polled.iter().map(|record| &*record.content.event.data);
        let numbers: Vec<usize> = data.filter_map(|data| data.parse().ok()).collect();
        assert_eq!(numbers, expected(reader), "polled {reader:?}");
    }
}

fn named(number: usize, reader: &Reader) -> ConnectionRequest {
    ConnectionRequest {
        subscription: Some(NamedSubscription {
            name: format!("n{number}"),
            start: None,
        }),
        ..reader.request(Way::Stream, None)
    }
}

fn few(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(of, 0..=most)
}

fn reader() -> impl Strategy<Value = Reader> {
    (
        prop::option::of(prop::sample::select(&["a", "b"][..])),
        prop::option::weighted(
            0.8,
            few(
                &["room/1", "hall/1", "news", "user/a", "room/*", "h*", "*"],
                2,
            ),
        ),
        few(&["room/1", "room/2", "news", "user/a", "room/*", "h*"], 3),
    )
        .prop_map(|(user, granted, topics)| Reader {
            user,
            session: None,
            granted,
            topics,
            types: Vec::new(),
        })
}

fn event() -> impl Strategy<Value = Published> {
    let public = prop::sample::subsequence(&TOPICS[..], 1..3);
    let is_personal = prop::bool::weighted(0.3);
    (public, is_personal, prop::bool::weighted(0.7)).prop_map(
        |(mut topics, is_personal, needs_grant)| {
            if is_personal {
                topics.push("user/a");
            }
            Published {
                topics,
                needs_grant,
            }
        },
    )
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn what_was_granted_comes_by_every_way_to_read_and_nothing_else() {
    let runtime = runtime();
    let number = Cell::new(0_usize);
    let world = (
        prop::collection::vec(reader(), 3),
        prop::collection::vec(event(), 1..12),
    );
    proptest!(cases(100), |((readers, events) in world)| {
        number.set(number.get() + 1);
        // All in the window, or next to nothing: then replays read the log.
        let window_events = if number.get().is_multiple_of(2) { 65_536 } else { 2 };
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let broker: Arc<dyn Broker> = match number.get() % 8 {
                3 | 4 => DiskBroker::open(folder.path(), DiskConfig::default()).unwrap(),
                _ => MemoryBroker::new(MemoryConfig::default()),
            };
            check(broker, window_events, &readers, &events).await;
        });
    });
}

/// Every reader that may share anything.
fn sharing_reader() -> impl Strategy<Value = Reader> {
    (
        prop::option::of(prop::sample::select(&["a", "b"][..])),
        prop::option::weighted(0.3, Just("a")),
        prop::option::of(prop_oneof![few(&["room/1", "room/*"], 2), Just(vec!["*"])]),
        few(&["room/1", "room/*", "news"], 2).prop_shuffle(),
        few(&["x", "y"], 2).prop_shuffle(),
    )
        .prop_map(|(user, session, granted, topics, types)| Reader {
            user,
            session,
            granted,
            topics,
            types,
        })
}

#[test]
fn two_streams_share_a_coding_when_rights_and_wishes_are_equal_and_never_else() {
    let runtime = runtime();
    let hub = runtime
        .block_on(Hub::in_memory(HubConfig::default()))
        .unwrap();
    let cohorts = || hub.stats().compression.streams.cohorts;
    // Any two, which are hardly ever alike, and two that differ in one thing at most.
    let alike = (sharing_reader(), sharing_reader(), 0..6).prop_map(|(one, other, which)| {
        let mut changed = one.clone();
        match which {
            0 => changed.user = other.user,
            1 => changed.session = other.session,
            2 => changed.granted = other.granted,
            3 => changed.topics = other.topics,
            4 => changed.types = other.types,
            _ => {
                changed.topics.reverse();
                changed.types.reverse();
            }
        }
        (one, changed)
    });
    let pair = prop_oneof![1 => (sharing_reader(), sharing_reader()), 3 => alike];
    let (alone, together) = (Cell::new(0), Cell::new(0));
    proptest!(cases(2000), |((one, other) in pair)| {
        prop_assert_eq!(cohorts(), 0);
        let shared = runtime.block_on(async {
            let _one = Open::new(&hub, Way::Gzip, one.request(Way::Gzip, None)).await;
            let _other = Open::new(&hub, Way::Gzip, other.request(Way::Gzip, None)).await;
            cohorts() == 1
        });
        let has_equal_rights = one.user == other.user
            && one.session == other.session
            && one.granted == other.granted;
        let wants_the_same =
            is_same(&one.topics, &other.topics) && is_same(&one.types, &other.types);
        prop_assert_eq!(shared, has_equal_rights && wants_the_same);
        let count = if shared { &together } else { &alone };
        count.set(count.get() + 1);
    });
    let counts = (alone.get(), together.get());
    assert!(
        counts.0 > 300 && counts.1 > 300,
        "(alone, together): {counts:?}"
    );
}

/// Whether these are the same names, in whatever order.
fn is_same(some: &[&str], others: &[&str]) -> bool {
    let sorted = |names: &[&str]| {
        let mut names = texts(names);
        names.sort_unstable();
        names
    };
    sorted(some) == sorted(others)
}
