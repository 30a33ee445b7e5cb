//! Every way of placing a reader's cursor, against a list of all events and two numbers a reader: either each kept event after
//! the place comes once, in order, or a gap is told before anything else.
//!
//! The places: a connect with an id, a position, `earliest` or nothing; a change of a live connection's subscriptions; a named
//! subscription's resume, acknowledgement and reset; a poll. What happens meanwhile: events come, the log forgets old ones, the
//! window is smaller than the log, the log begins another epoch, readers are slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use sse_broker::{Broker, Epoch, MemoryBroker, MemoryConfig, Retention, Topic};
use sse_protocol::{Decoder, EventId};
use sse_server::access::Caller;
use sse_server::hub::{
    Hub, HubConfig, Interest, NamedSubscription, Overflow, PollRequest, Publication,
    SubscriptionChange, SubscriptionPlace,
};
use sse_server::session::{ConnectionRequest, EventStream};

use crate::frames::WebSocket;
use crate::server::Server;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 2] = ["one", "two"];

/// Where somebody wants to go on.
#[derive(Clone, Copy, Debug)]
enum From {
    Earliest,
    /// The position of one of the events that were published, counted back from the newest; perhaps of an older epoch.
    Position(usize),
    /// The publisher's id of such an event.
    Id(usize),
    /// So far beyond the newest.
    Beyond(u64),
    Foreign,
    Unknown,
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        2 => Just(From::Earliest),
        6 => (0..40usize).prop_map(From::Position),
        4 => (0..40usize).prop_map(From::Id),
        1 => (1..5u64).prop_map(From::Beyond),
        1 => Just(From::Foreign),
        1 => Just(From::Unknown),
    ]
}

/// Bits of [`TOPICS`]; none means every topic.
type Wanted = u8;

#[derive(Clone, Debug)]
enum Op {
    Publish {
        topic: usize,
        count: usize,
    },
    Connect {
        from: Option<From>,
        wanted: Wanted,
        is_pattern: bool,
        name: Option<usize>,
        start: Option<From>,
    },
    Change {
        reader: usize,
        from: From,
        wanted: Wanted,
    },
    Reset {
        name: usize,
        /// `None` for the newest.
        from: Option<From>,
    },
    Ack {
        name: usize,
        from: From,
    },
    Poll {
        from: Option<From>,
        wanted: Wanted,
        limit: usize,
    },
    /// A reader takes this many chunks.
    Read {
        reader: usize,
        chunks: usize,
    },
    BeginEpoch,
}

fn op() -> impl Strategy<Value = Op> {
    let wanted = 0..8u8;
    prop_oneof![
        8 => (0..3usize, 1..12usize).prop_map(|(topic, count)| Op::Publish { topic, count }),
        5 => (
            prop::option::of(from()),
            wanted.clone(),
            any::<bool>(),
            prop::option::weighted(0.4, 0..2usize),
            prop::option::of(from()),
        )
            .prop_map(|(from, wanted, is_pattern, name, start)| Op::Connect {
                from,
                wanted,
                is_pattern,
                name,
                start,
            }),
        6 => (any::<usize>(), from(), wanted.clone())
            .prop_map(|(reader, from, wanted)| Op::Change { reader, from, wanted }),
        3 => (0..2usize, prop::option::of(from())).prop_map(|(name, from)| Op::Reset { name, from }),
        3 => (0..2usize, from()).prop_map(|(name, from)| Op::Ack { name, from }),
        4 => (prop::option::of(from()), wanted, 1..9usize)
            .prop_map(|(from, wanted, limit)| Op::Poll { from, wanted, limit }),
        8 => (any::<usize>(), 1..5usize).prop_map(|(reader, chunks)| Op::Read { reader, chunks }),
        1 => Just(Op::BeginEpoch),
    ]
}

#[derive(Clone, Debug)]
struct Logged {
    /// In which it was published. The log keeps it in the next one, too.
    epoch: u64,
    offset: u64,
    topic: usize,
}

/// Where a reader is, as far as anyone could know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    epoch: u64,
    after: u64,
    /// It cannot go on exactly there: nothing may come before a gap.
    owes_gap: bool,
    /// It asked for all that is kept, and has got nothing yet.
    is_earliest: bool,
}

struct Reader {
    stream: EventStream,
    decoder: Decoder,
    at: At,
    wanted: Wanted,
    is_ended: bool,
}

struct World {
    runtime: tokio::runtime::Runtime,
    broker: Arc<MemoryBroker>,
    hub: Hub,
    log: Vec<Logged>,
    epoch: u64,
    readers: Vec<Reader>,
    /// What each name has acknowledged.
    names: BTreeMap<usize, (u64, u64)>,
    /// The reader of each name, by its connection's id.
    holders: BTreeMap<usize, String>,
}

fn wants(wanted: Wanted, topic: usize) -> bool {
    wanted == 0 || wanted & (1 << topic) != 0
}

impl World {
    fn new(kept: u64, window: usize, overflow: Overflow) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let broker = MemoryBroker::new(MemoryConfig {
            epoch: Epoch(1),
            retention: Retention {
                max_records: Some(kept),
                ..Retention::default()
            },
            ..MemoryConfig::default()
        });
        let config = HubConfig {
            window_events: window,
            overflow,
            heartbeat: None,
            ..HubConfig::default()
        };
        let hub = runtime.block_on(Hub::open(config, broker.clone())).unwrap();
        Self {
            runtime,
            broker,
            hub,
            log: Vec::new(),
            epoch: 1,
            readers: Vec::new(),
            names: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    fn text(&self, from: From) -> String {
        let back = |n: usize| self.log.iter().rev().nth(n % self.log.len().max(1));
        match from {
            From::Earliest => "earliest".to_owned(),
            From::Position(n) => back(n).map_or("nothing".to_owned(), |it| {
                format!("{:016x}-{}", it.epoch, it.offset)
            }),
            From::Id(n) => back(n).map_or("nothing".to_owned(), |it| {
                format!("id-{}-{}", it.epoch, it.offset)
            }),
            From::Beyond(n) => format!("{:016x}-{}", self.epoch, self.broker.bounds().head + n),
            From::Foreign => "00000000000000ff-3".to_owned(),
            From::Unknown => "nobody knows it".to_owned(),
        }
    }

    /// What the naive reader makes of such a text, now.
    fn placed(&self, text: &str) -> At {
        let bounds = self.broker.bounds();
        let at = |after, owes_gap| At {
            epoch: bounds.epoch.0,
            after,
            owes_gap,
            is_earliest: false,
        };
        if text == "earliest" {
            return At {
                is_earliest: true,
                ..at(bounds.floor, false)
            };
        }
        let found = self.log.iter().find(|it| {
            text == format!("{:016x}-{}", it.epoch, it.offset)
                || text == format!("id-{}-{}", it.epoch, it.offset)
        });
        let is_id = text.starts_with("id-");
        match found {
            Some(it) if it.epoch == bounds.epoch.0 || is_id => {
                // Of an id nothing is known once its event is gone; a position is good as long as nothing behind it is.
                let is_known = it.offset > bounds.floor || !is_id && it.offset == bounds.floor;
                at(it.offset, !is_known)
            }
            _ => at(bounds.head, true),
        }
    }

    fn interest(wanted: Wanted, is_pattern: bool) -> Interest {
        let topics = TOPICS.iter().enumerate();
        let topics = topics.filter(|(n, _)| wanted & (1 << n) != 0);
        Interest {
            topics: topics
                .map(|(_, topic)| match is_pattern {
                    true => format!("{topic}{{x}}?"),
                    false => (*topic).to_owned(),
                })
                .collect(),
            ..Interest::default()
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Publish { topic, count } => {
                for _ in 0..count {
                    let offset = self.broker.bounds().head + 1;
                    let id = format!("id-{}-{offset}", self.epoch);
                    let publication = Publication::new(self.log.len().to_string())
                        .with_id(EventId::new(&*id).unwrap())
                        .to_topic(Topic::new(TOPICS[topic]).unwrap());
                    let published = self.runtime.block_on(self.hub.publish(publication));
                    let position = published.unwrap().position;
                    assert_eq!((position.epoch.0, position.offset), (self.epoch, offset));
                    self.log.push(Logged {
                        epoch: self.epoch,
                        offset,
                        topic,
                    });
                }
            }
            Op::Connect {
                from,
                wanted,
                is_pattern,
                name,
                start,
            } => self.connect(from, wanted, is_pattern, name, start),
            Op::Change {
                reader,
                from,
                wanted,
            } => {
                let text = self.text(from);
                let at = self.placed(&text);
                let Some(n) = reader.checked_rem(self.readers.len()) else {
                    return;
                };
                let change = SubscriptionChange {
                    topics: Some(Self::interest(wanted, false).topics),
                    last_event_id: Some(text),
                    ..SubscriptionChange::default()
                };
                let id = self.readers[n].stream.id();
                let changed = self
                    .runtime
                    .block_on(self.hub.change_subscriptions(&id, change));
                if let Ok((_, gap)) = changed {
                    assert_eq!(gap.is_some(), at.owes_gap, "the answer says so, too");
                    self.readers[n].at = at;
                    self.readers[n].wanted = wanted;
                }
            }
            Op::Reset { name, from } => {
                let place = match from.map(|from| self.text(from)) {
                    None => SubscriptionPlace::Latest,
                    Some(text) if text == "earliest" => SubscriptionPlace::Earliest,
                    Some(text) => SubscriptionPlace::Event(text),
                };
                let at = match &place {
                    SubscriptionPlace::Event(text) => self.placed(text),
                    SubscriptionPlace::Earliest => self.placed("earliest"),
                    _ => At {
                        owes_gap: false,
                        ..self.placed("")
                    },
                };
                let caller = Caller::default();
                let done = self.runtime.block_on(self.hub.reset_named_subscription(
                    NAMES[name],
                    &caller,
                    place,
                ));
                let Ok(status) = done else { return };
                self.names
                    .insert(name, (status.acked.epoch.0, status.acked.offset));
                let holder = self.holders.get(&name);
                for reader in &mut self.readers {
                    if holder == Some(&reader.stream.id().to_string()) {
                        reader.at = at;
                    }
                }
            }
            Op::Ack { name, from } => {
                let place = SubscriptionPlace::Event(self.text(from));
                let caller = Caller::default();
                let done = self.runtime.block_on(self.hub.ack_named_subscription(
                    NAMES[name],
                    &caller,
                    place,
                ));
                if let Ok(status) = done {
                    self.names
                        .insert(name, (status.acked.epoch.0, status.acked.offset));
                }
            }
            Op::Poll {
                from,
                wanted,
                limit,
            } => self.poll(from, wanted, limit),
            Op::Read { reader, chunks } => {
                if let Some(n) = reader.checked_rem(self.readers.len()) {
                    for _ in 0..chunks {
                        self.read(n);
                    }
                }
            }
            Op::BeginEpoch => {
                self.epoch += 1;
                let begun = self.broker.begin_epoch(Epoch(self.epoch));
                self.runtime.block_on(begun).unwrap();
            }
        }
    }

    fn connect(
        &mut self,
        from: Option<From>,
        wanted: Wanted,
        is_pattern: bool,
        name: Option<usize>,
        start: Option<From>,
    ) {
        let text = from.map(|from| self.text(from));
        let start = start.map(|from| self.text(from));
        let live = At {
            owes_gap: false,
            ..self.placed("")
        };
        let at_text = |text: &Option<String>| text.as_ref().map(|text| self.placed(text));
        let at = match name.map(|name| self.names.get(&name).copied()) {
            None => at_text(&text).unwrap_or(live),
            // A new name.
            Some(None) => at_text(&text).or(at_text(&start)).unwrap_or(live),
            Some(Some((epoch, offset))) => {
                let acked = match epoch == self.epoch {
                    true => At {
                        after: offset,
                        owes_gap: offset < self.broker.bounds().floor,
                        ..live
                    },
                    false => At {
                        owes_gap: true,
                        ..live
                    },
                };
                match at_text(&text) {
                    Some(at) if !at.owes_gap && epoch != self.epoch => At {
                        is_earliest: false,
                        ..at
                    },
                    Some(at) if !at.owes_gap && at.after >= offset => At {
                        is_earliest: false,
                        ..at
                    },
                    _ => acked,
                }
            }
        };
        let request = ConnectionRequest {
            interest: Self::interest(wanted, is_pattern),
            last_event_id: text,
            subscription: name.map(|name| NamedSubscription {
                name: NAMES[name].to_owned(),
                start,
            }),
            ..ConnectionRequest::from(Caller::default())
        };
        let Ok(stream) = self.runtime.block_on(self.hub.connect(request)) else {
            assert!(name.is_some(), "only names are refused");
            return;
        };
        if let Some(name) = name {
            let before = self.holders.insert(name, stream.id().to_string());
            // It was replaced, and is not read to its end.
            self.readers
                .retain(|it| Some(it.stream.id().to_string()) != before);
            let status = self
                .hub
                .named_subscription(NAMES[name], &Caller::default())
                .unwrap();
            self.names
                .insert(name, (status.acked.epoch.0, status.acked.offset));
        }
        self.readers.push(Reader {
            stream,
            decoder: Decoder::new(),
            at,
            wanted,
            is_ended: false,
        });
        // What it begins with is said before anybody moves it.
        let last = self.readers.len() - 1;
        self.read(last);
    }

    fn poll(&mut self, from: Option<From>, wanted: Wanted, limit: usize) {
        let text = from.map(|from| self.text(from));
        let at = text.as_ref().map(|text| self.placed(text));
        let polled = self.runtime.block_on(self.hub.poll(PollRequest {
            caller: Caller::default(),
            interest: Self::interest(wanted, false),
            after: text,
            wait: Duration::ZERO,
            limit,
        }));
        let polled = polled.unwrap();
        let Some(at) = at else {
            assert_eq!((polled.records.len(), polled.gap), (0, None));
            return;
        };
        assert_eq!(polled.gap.is_some(), at.owes_gap);
        let floor = self.broker.bounds().floor;
        let after = polled.gap.map_or(at.after, |gap| gap.to.offset);
        let kept = self.log.iter().filter(|it| {
            it.offset > after.max(floor)
                && it.offset <= polled.position.offset
                && wants(wanted, it.topic)
        });
        let expected: Vec<u64> = kept.map(|it| it.offset).collect();
        let got: Vec<u64> = polled.records.iter().map(|it| it.position.offset).collect();
        assert_eq!(got, expected, "up to {}", polled.position);
        let is_all = polled.position.offset == self.broker.bounds().head;
        assert!(got.len() == limit || is_all, "it could have read on");
    }

    /// Lets a reader take a chunk, if there is one; false when there is none.
    fn read(&mut self, n: usize) -> bool {
        let _inside = self.runtime.enter();
        let Reader {
            stream,
            decoder,
            at,
            wanted,
            is_ended,
        } = &mut self.readers[n];
        let mut cx = Context::from_waker(Waker::noop());
        let bytes = match stream.poll_chunk(&mut cx) {
            Poll::Pending => return false,
            Poll::Ready(None) => {
                *is_ended = true;
                return false;
            }
            Poll::Ready(Some(bytes)) => bytes,
        };
        let floor = self.broker.bounds().floor;
        let mut feed = decoder.feed(&bytes);
        while let Some(event) = feed.next_event() {
            match event.event_type() {
                "connected" => continue,
                "gap" => {
                    let gap: Value = serde_json::from_str(event.data()).unwrap();
                    let position = |name: &str| {
                        let text = gap[name].as_str().unwrap();
                        let (epoch, offset) = text.split_once('-').unwrap();
                        let epoch = u64::from_str_radix(epoch, 16).unwrap();
                        (epoch, offset.parse::<u64>().unwrap())
                    };
                    let (epoch, after) = position("to");
                    let is_true = at.owes_gap || epoch != at.epoch || floor > at.after;
                    assert!(is_true, "nothing is missing: {gap} at {at:?}");
                    assert!(epoch != at.epoch || after >= at.after || at.owes_gap);
                    *at = At {
                        epoch,
                        after,
                        owes_gap: false,
                        is_earliest: false,
                    };
                }
                _ => {
                    let number: usize = event.data().parse().unwrap();
                    let got = &self.log[number];
                    assert!(!at.owes_gap, "{got:?} before the gap of {at:?}");
                    assert!(wants(*wanted, got.topic), "{got:?} is not wanted");
                    assert!(got.offset > at.after, "{got:?} again at {at:?}");
                    let missed = self.log.iter().find(|it| {
                        it.offset > at.after
                            && it.offset < got.offset
                            && wants(*wanted, it.topic)
                            && (!at.is_earliest || it.offset > floor)
                    });
                    assert!(missed.is_none(), "{missed:?} is missing before {got:?}");
                    at.after = got.offset;
                    at.is_earliest = false;
                }
            }
        }
        true
    }

    /// Everybody reads what there is, and has all of it then.
    fn end(&mut self) {
        for n in 0..self.readers.len() {
            let is_done = (0..10_000).any(|_| {
                if self.read(n) {
                    return false;
                }
                let (reader, floor) = (&self.readers[n], self.broker.bounds().floor);
                let at = reader.at;
                let missing = self.log.iter().any(|it| {
                    it.offset > at.after
                        && wants(reader.wanted, it.topic)
                        && (!at.is_earliest || it.offset > floor)
                });
                let is_whole = at.epoch == self.epoch && !at.owes_gap && !missing;
                let is_done = is_whole || reader.is_ended;
                if !is_done {
                    // Something of the hub's own is still under way.
                    self.runtime.block_on(tokio::task::yield_now());
                }
                is_done
            });
            let (at, wanted) = (self.readers[n].at, self.readers[n].wanted);
            assert!(is_done, "reader {n} of {wanted:#b} waits at {at:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_kept_event_after_a_cursor_comes_once_and_in_order_or_a_gap_comes_first(
        kept in 3..40u64,
        window in 1..30usize,
        drops_oldest in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let overflow = match drops_oldest {
            true => Overflow::DropOldest,
            false => Overflow::Disconnect,
        };
        let mut world = World::new(kept, window, overflow);
        for op in ops {
            world.play(op);
        }
        world.end();
    }
}

#[test]
fn states_of_jobs_that_were_shown_hide_no_event_that_is_asked_for_again() {
    let server = Server::start();
    server.post("/jobs", &json!({"job_id": "1"})).ok();
    server
        .post("/jobs/1/progress", &json!({"progress": 1}))
        .ok();
    let mut stream = server.open("/events?topic=job/1");
    assert_eq!(
        stream.next().name,
        "status",
        "the state that it begins with"
    );
    let change = json!({
        "connection_id": stream.connection_id(),
        "topics": ["job/1"],
        "last_event_id": "earliest",
    });
    server.post("/events/subscriptions", &change).ok();
    let names: Vec<String> = stream.take(2).into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["status", "progress"]);
}

#[test]
fn a_websocket_hears_of_the_gap_of_a_changed_subscription_before_its_events() {
    let server = Server::start();
    let mut socket = WebSocket::open(&server, "?topic=a");
    let id = socket.connected["connection_id"].clone();
    let change = json!({"connection_id": id, "topics": ["b"], "last_event_id": "nobody-knows-it"});
    let changed = server.post("/events/subscriptions", &change).ok();
    assert_eq!(changed["gap_reason"], "unknown_id");
    server.publish(&json!({"topic": "b", "data": 1}));
    let gap = socket.event();
    assert_eq!(gap["event"], "gap");
    assert_eq!(gap["data"]["reason"], "unknown_id");
    assert_eq!(socket.event()["data"], 1);
}
