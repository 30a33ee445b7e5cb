//! Who gets what: every way to read gives exactly what a naive rule, written from the documentation, says.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::Stream;
use crate::frames::WebSocket;
use crate::server::Server;

/// Who reads, and what is asked for.
#[derive(Clone, Debug)]
struct Reader {
    user: Option<&'static str>,
    session: Option<&'static str>,
    topics: Vec<Named>,
    types: Vec<&'static str>,
}

/// A topic as a reader names it.
#[derive(Clone, Copy, Debug)]
enum Named {
    Exact(&'static str),
    /// A pattern: what stands before its `*`.
    Prefix(&'static str),
    /// A name that looks like a pattern.
    AsItIs(&'static str),
}

#[derive(Clone, Debug)]
struct Event {
    event_type: Option<&'static str>,
    topics: Vec<&'static str>,
    user: Option<&'static str>,
    session: Option<&'static str>,
    /// Addressed to the reader of this number among those that are open from the start, or to nobody.
    connection: Option<usize>,
}

const TOPICS: [&str; 7] = [
    "news",
    "room/1",
    "room/2",
    "room/*",
    "user/a",
    "session/s",
    "user/b",
];
const TYPES: [&str; 2] = ["x", "y"];
/// The connection of this number does not exist.
const NOBODY: usize = 99;

impl Reader {
    /// The rule: the type is wanted, every audience is the reader's own, it is addressed to no connection or to this one,
    /// and one of its topics is selected or the reader's own.
    fn gets(&self, event: &Event, number: Option<usize>) -> bool {
        let event_type = event.event_type.unwrap_or("message");
        if !self.types.is_empty() && !self.types.contains(&event_type) {
            return false;
        }
        let owned: Vec<String> = [("user", self.user), ("session", self.session)]
            .into_iter()
            .filter_map(|(kind, name)| Some(format!("{kind}/{}", name?)))
            .collect();
        let is_own = |topic: &str| owned.iter().any(|own| own == topic);
        let audience = event.audience();
        if !audience.iter().all(|topic| is_own(topic)) {
            return false;
        }
        if event.connection.is_some() && event.connection != number {
            return false;
        }
        if event.connection.is_some() && event.connection == number {
            return true;
        }
        let topics = event.routes();
        topics
            .iter()
            .any(|topic| is_own(topic) || self.selects(topic))
    }

    fn selects(&self, topic: &str) -> bool {
        let is_private = ["user/", "session/", "connection/"]
            .iter()
            .any(|prefix| topic.starts_with(prefix));
        if self.topics.is_empty() {
            return !is_private;
        }
        self.topics.iter().any(|named| match named {
            Named::Exact(name) | Named::AsItIs(name) => *name == topic,
            Named::Prefix(prefix) => !is_private && topic.starts_with(prefix),
        })
    }

    fn query(&self, case: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("user_id", self.user), ("session_id", self.session)] {
            if let Some(value) = value {
                query.append_pair(name, &format!("{value}-{case}"));
            }
        }
        for named in &self.topics {
            match named {
                Named::Exact(name) => query.append_pair("topic", &in_case(name, case)),
                Named::Prefix(prefix) => query.append_pair("topic", &format!("{prefix}*")),
                Named::AsItIs(name) => query.append_pair("topic_exact", &in_case(name, case)),
            };
        }
        // The last event of a case comes to everyone.
        if !self.topics.is_empty() {
            query.append_pair("topic", &format!("end-{case}"));
        }
        if !self.types.is_empty() {
            query.append_pair("event_types", &format!("{},end", self.types.join(",")));
        }
        query.finish()
    }
}

impl Event {
    /// The topics that make it private.
    fn audience(&self) -> Vec<String> {
        let named = [("user", self.user), ("session", self.session)];
        let named = named
            .into_iter()
            .filter_map(|(kind, name)| Some(format!("{kind}/{}", name?)));
        let topics = self.topics.iter().map(|topic| (*topic).to_owned());
        let mut private: Vec<String> = topics
            .filter(|topic| topic.starts_with("user/") || topic.starts_with("session/"))
            .collect();
        private.extend(named);
        private
    }

    /// Whether it is for two users or two sessions, which no reader is.
    fn contradicts_itself(&self) -> bool {
        ["user/", "session/"].iter().any(|kind| {
            let mut owners = self.audience();
            owners.retain(|owner| owner.starts_with(kind));
            owners.iter().any(|owner| *owner != owners[0])
        })
    }

    /// The topics that it is published to: those it names, else its audience, else the default.
    fn routes(&self) -> Vec<String> {
        let named: Vec<String> = self
            .topics
            .iter()
            .map(|topic| (*topic).to_owned())
            .collect();
        match (
            named.is_empty() && self.connection.is_none(),
            self.audience(),
        ) {
            (false, _) => named,
            (true, audience) if audience.is_empty() => vec!["public".to_owned()],
            (true, audience) => audience,
        }
    }

    fn json(&self, number: usize, case: &str, connections: &[String]) -> Value {
        let mut topics: Vec<String> = self
            .topics
            .iter()
            .map(|topic| in_case(topic, case))
            .collect();
        if let Some(to) = self.connection {
            let id = connections.get(to).map_or("nobody", String::as_str);
            topics.push(format!("connection/{id}"));
        }
        let mut json = json!({"data": number});
        if !topics.is_empty() {
            json["topic"] = json!(topics);
        }
        for (field, value) in [("user_id", self.user), ("session_filter", self.session)] {
            if let Some(value) = value {
                json[field] = format!("{value}-{case}").into();
            }
        }
        if let Some(event_type) = self.event_type {
            json["event_type"] = event_type.into();
        }
        json
    }
}

/// Users and sessions of one case are not those of another; rooms are shared, and each case begins behind the one before.
fn in_case(topic: &str, case: &str) -> String {
    if topic.starts_with("user/") || topic.starts_with("session/") {
        format!("{topic}-{case}")
    } else {
        topic.to_owned()
    }
}

fn reader() -> impl Strategy<Value = Reader> {
    let named = prop_oneof![
        3 => prop::sample::select(&TOPICS[..3]).prop_map(Named::Exact),
        1 => prop::sample::select(&TOPICS[4..]).prop_map(Named::Exact),
        2 => prop::sample::select(&["room/", "n", "user/", "sess"][..]).prop_map(Named::Prefix),
        1 => prop::sample::select(&TOPICS[..]).prop_map(Named::AsItIs),
    ];
    (
        prop::option::of(prop::sample::select(&["a", "b"][..])),
        prop::option::of(prop::sample::select(&["s", "t"][..])),
        prop::collection::vec(named, 0..3),
        prop::sample::subsequence(&TYPES[..], 0..=1),
    )
        .prop_map(|(user, session, topics, types)| Reader {
            user,
            session,
            topics,
            types,
        })
}

fn event() -> impl Strategy<Value = Event> {
    (
        prop::option::of(prop::sample::select(&TYPES[..])),
        prop::sample::subsequence(&TOPICS[..], 0..3),
        prop::option::weighted(0.2, prop::sample::select(&["a", "b"][..])),
        prop::option::weighted(0.2, prop::sample::select(&["s", "t"][..])),
        prop::option::weighted(0.2, prop_oneof![0..READERS, Just(NOBODY)]),
    )
        .prop_map(|(event_type, topics, user, session, connection)| Event {
            event_type,
            topics,
            user,
            session,
            connection,
        })
}

/// Readers of a case that are open from its start.
const READERS: usize = 3;

/// The numbers of a case's events up to its end, from each that came.
fn numbers(mut next: impl FnMut() -> (String, Value), case: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let (name, data) = next();
        if name == "end" && data == case {
            return numbers;
        }
        assert_ne!(name, "gap");
        // The hub's own words have no number.
        numbers.extend(data.as_u64());
    }
}

fn of_stream(stream: &mut Stream, case: &str) -> Vec<u64> {
    let next = || {
        let event = stream.next();
        (
            event.name.clone(),
            serde_json::from_str(&event.data).unwrap_or(Value::String(event.data)),
        )
    };
    numbers(next, case)
}

fn of_socket(socket: &mut WebSocket, case: &str) -> Vec<u64> {
    numbers(
        || {
            let event = socket.event();
            (
                event["event"].as_str().unwrap().to_owned(),
                event["data"].clone(),
            )
        },
        case,
    )
}

/// What each way of reading brought for one world.
fn check(server: &Server, case: &str, readers: &[Reader], events: &[Event]) {
    let start = server.head();
    let query = |reader: &Reader| reader.query(case);
    let mut live: Vec<Stream> = readers
        .iter()
        .map(|it| server.open(&format!("/events?{}", query(it))))
        .collect();
    let ids: Vec<String> = live.iter().map(Stream::connection_id).collect();
    let mut sockets: Vec<WebSocket> = readers
        .iter()
        .map(|it| WebSocket::open(server, &format!("?{}", query(it))))
        .collect();
    // One whose wishes come after it has been opened.
    let mut changed: Vec<WebSocket> = Vec::new();
    for reader in readers {
        let first = Reader {
            topics: vec![Named::Exact("none")],
            types: Vec::new(),
            ..reader.clone()
        };
        let mut socket = WebSocket::open(server, &format!("?{}", first.query(case)));
        let of = |want: fn(&Named) -> Option<String>| {
            reader.topics.iter().filter_map(want).collect::<Vec<_>>()
        };
        let exact = of(|named| match named {
            Named::AsItIs(name) | Named::Exact(name) => Some((*name).to_owned()),
            Named::Prefix(_) => None,
        });
        let exact: Vec<String> = exact.iter().map(|name| in_case(name, case)).collect();
        let patterns = of(|named| match named {
            Named::Prefix(prefix) => Some(format!("{prefix}*")),
            _ => None,
        });
        let mut message = json!({"type": "subscribe", "topics": patterns, "topic_exact": exact});
        if !reader.types.is_empty() {
            message["event_types"] = json!([reader.types.clone(), vec!["end"]].concat());
        }
        if reader.topics.is_empty() && reader.types.is_empty() {
            message["topics"] = json!(["none"]);
        }
        assert_eq!(socket.ask(&message)["type"], "subscribed", "{message}");
        changed.push(socket);
    }
    let durable = |it: &Reader, n: usize| format!("/events?{}&durable=d-{case}-{n}", query(it));
    for (n, reader) in readers.iter().enumerate() {
        // It is known from now on, and its place is here.
        drop(server.open(&durable(reader, n)));
    }
    for (number, event) in events.iter().enumerate() {
        let json = event.json(number, case, &ids);
        match event.contradicts_itself() {
            false => drop(server.publish(&json)),
            true => drop(server.post("/events", &json).problem(400)),
        }
    }
    server.publish(
        &json!({"event_type": "end", "data": case, "topic": ["public", format!("end-{case}")]}),
    );
    for (n, reader) in readers.iter().enumerate() {
        let expected = |number: Option<usize>, reader: &Reader| -> Vec<u64> {
            let wanted = events
                .iter()
                .zip(0..)
                .filter(|(event, _)| reader.gets(event, number));
            wanted.map(|(_, number)| number).collect()
        };
        let as_other = expected(None, reader);
        assert_eq!(
            of_stream(&mut live[n], case),
            expected(Some(n), reader),
            "live {reader:?}"
        );
        assert_eq!(
            of_socket(&mut sockets[n], case),
            as_other,
            "WebSocket {reader:?}"
        );
        let late = Reader {
            topics: if reader.topics.is_empty() {
                vec![Named::Exact("none")]
            } else {
                reader.topics.clone()
            },
            ..reader.clone()
        };
        assert_eq!(
            of_socket(&mut changed[n], case),
            expected(None, &late),
            "changed {reader:?}"
        );
        let path = format!("/events?{}&last_event_id={start}", query(reader));
        assert_eq!(
            of_stream(&mut server.open(&path), case),
            as_other,
            "replay {reader:?}"
        );
        let socket = format!("?{}&last_event_id={start}", query(reader));
        let mut socket = WebSocket::open(server, &socket);
        assert_eq!(
            of_socket(&mut socket, case),
            as_other,
            "replayed WebSocket {reader:?}"
        );
        let path = durable(reader, n);
        assert_eq!(
            of_stream(&mut server.open(&path), case),
            as_other,
            "named {reader:?}"
        );
        let path = format!("/events/poll?{}&after={start}&limit=1000", query(reader));
        let polled = server.get(&path).ok();
        let mut polled = polled["events"].as_array().unwrap().iter();
        let next = || {
            let event = polled.next().expect("the end is polled, too");
            let data = event["data"].as_str().unwrap();
            let data = serde_json::from_str(data).unwrap_or_else(|_| data.into());
            (event["event"].as_str().unwrap().to_owned(), data)
        };
        assert_eq!(numbers(next, case), as_other, "polled {reader:?}");
    }
}

#[test]
fn every_way_to_read_brings_what_the_naive_rule_says() {
    let server = Server::with(&["--max-connections-per-ip", "10000"]);
    let count = std::cell::Cell::new(0);
    let world = (
        prop::collection::vec(reader(), READERS),
        prop::collection::vec(event(), 1..12),
    );
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((readers, events) in world)| {
        count.set(count.get() + 1);
        check(&server, &format!("c{}", count.get()), &readers, &events);
    });
}
