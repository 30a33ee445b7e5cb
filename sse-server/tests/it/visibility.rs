//! Who gets what: every way to read gives exactly what a naive rule, written from the documentation, says.

use std::cell::RefCell;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Stream;
use crate::frames::WebSocket;
use crate::server::{Server, folder};

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
        // The marks in a case come to everyone.
        if !self.topics.is_empty() {
            query.append_pair("topic", &format!("end-{case}"));
        }
        if !self.types.is_empty() {
            query.append_pair("event_types", &format!("{},end", self.types.join(",")));
        }
        query.finish()
    }

    /// The same reader with another's wishes.
    fn with_wishes_of(&self, other: &Self) -> Self {
        Self {
            topics: other.topics.clone(),
            types: other.types.clone(),
            ..self.clone()
        }
    }

    /// The topics that it names, and the patterns.
    fn names(&self, case: &str) -> (Vec<String>, Vec<String>) {
        let (mut exact, mut patterns) = (Vec::new(), Vec::new());
        for named in &self.topics {
            match named {
                Named::Exact(name) | Named::AsItIs(name) => exact.push(in_case(name, case)),
                Named::Prefix(prefix) => patterns.push(format!("{prefix}*")),
            }
        }
        (exact, patterns)
    }

    /// Its types, and that of the marks; none for all.
    fn types(&self) -> Vec<&'static str> {
        let mut types = self.types.clone();
        if !types.is_empty() {
            types.push("end");
        }
        types
    }

    /// What exchanges the wishes of an open connection for these.
    fn change(&self, connection: &str, case: &str) -> Value {
        let (mut exact, patterns) = self.names(case);
        if !self.topics.is_empty() {
            exact.push(format!("end-{case}"));
        }
        json!({
            "connection_id": connection,
            "topics": patterns,
            "topic_exact": exact,
            "event_types": self.types(),
        })
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
        prop::option::weighted(0.25, prop_oneof![0..OPEN, Just(NOBODY)]),
    )
        .prop_map(|(event_type, topics, user, session, connection)| Event {
            event_type,
            topics,
            user,
            session,
            connection,
        })
}

/// Readers of a case, each of whom reads in every way.
const READERS: usize = 3;
/// As many connections are open from its start.
const OPEN: usize = READERS * 7;

/// A connection that is open from a case's start.
struct Open {
    way: &'static str,
    source: Source,
    /// Who reads, up to the middle of the case and from there on.
    reads_as: [Reader; 2],
    /// Its wishes are exchanged in the middle.
    is_turned: bool,
}

enum Source {
    Stream(Box<Stream>),
    Socket(WebSocket),
}

impl Source {
    fn id(&self) -> String {
        match self {
            Self::Stream(stream) => stream.connection_id(),
            Self::Socket(socket) => {
                let id = &socket.connected["connection_id"];
                id.as_str().unwrap().to_owned()
            }
        }
    }

    /// The type and the data of what comes next.
    fn next(&mut self) -> (String, Value) {
        match self {
            Self::Stream(stream) => {
                let event = stream.next();
                let data = serde_json::from_str(&event.data);
                (event.name, data.unwrap_or(Value::String(event.data)))
            }
            Self::Socket(socket) => {
                let event = socket.event();
                let name = event["event"].as_str().unwrap().to_owned();
                (name, event["data"].clone())
            }
        }
    }

    /// The numbers of the events up to a mark.
    fn numbers(&mut self, mark: &str) -> Vec<usize> {
        numbers(|| self.next(), mark)
    }
}

/// The numbers of the events up to a mark, from each that came.
fn numbers(mut next: impl FnMut() -> (String, Value), mark: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let (name, data) = next();
        if name == "end" && data == mark {
            return numbers;
        }
        assert_ne!(name, "gap");
        // Marks and the hub's own words have no number.
        let number = data.as_u64();
        numbers.extend(number.map(|number| usize::try_from(number).unwrap()));
    }
}

/// A server and everything that was published to it, in cases one after another.
struct World {
    server: Server,
    _folder: Option<TempDir>,
    /// The case of each event; its place is its number.
    history: Vec<(usize, Event)>,
    cases: usize,
}

impl World {
    /// The log in memory or on disk; all of it in the window, or hardly anything, so that every replay reads the log.
    fn start(number: usize) -> Self {
        let mut flags = vec!["--max-connections-per-ip", "10000"];
        // Enough for a coding of every reader's own.
        flags.extend(["--stream-compression", "256MiB"]);
        if number.is_multiple_of(2) {
            flags.extend(["--window", "1KiB"]);
        }
        let folder = (number % 4 < 2).then(folder);
        let server = match &folder {
            Some(folder) => Server::on_disk(folder.path(), &flags),
            None => Server::with(&flags),
        };
        Self {
            server,
            _folder: folder,
            history: Vec::new(),
            cases: 0,
        }
    }

    fn stream(&self, path: &str, coding: &str) -> Source {
        let headers = [("Accept-Encoding", coding)];
        let stream = self.server.open_with(path, &headers);
        let said = stream.reply.header("content-encoding");
        assert_eq!(said.unwrap_or("identity"), coding, "{path}");
        Source::Stream(Box::new(stream))
    }

    fn socket(&self, query: &str) -> Source {
        Source::Socket(WebSocket::open(&self.server, &format!("?{query}")))
    }

    /// The connections of one reader that are open from the start; `other` says what some of them want at first.
    fn open(&self, reader: &Reader, other: &Reader, case: &str) -> Vec<Open> {
        let path = format!("/events?{}", reader.query(case));
        let still = |way, source| Open {
            way,
            source,
            reads_as: [reader.clone(), reader.clone()],
            is_turned: false,
        };
        let at_first = reader.with_wishes_of(other);
        let query = at_first.query(case);
        let turned = |way, source| Open {
            way,
            source,
            reads_as: [at_first.clone(), reader.clone()],
            is_turned: true,
        };
        let path_at_first = format!("/events?{query}");
        let open = vec![
            still("stream", self.stream(&path, "identity")),
            still("gzip stream", self.stream(&path, "gzip")),
            still("WebSocket", self.socket(&reader.query(case))),
            self.subscribed(reader, case),
            turned("turned stream", self.stream(&path_at_first, "identity")),
            turned("turned gzip stream", self.stream(&path_at_first, "gzip")),
            turned("turned WebSocket", self.socket(&query)),
        ];
        assert_eq!(open.len() * READERS, OPEN);
        open
    }

    /// One whose wishes come over the WebSocket, once that is open.
    fn subscribed(&self, reader: &Reader, case: &str) -> Open {
        let none = Reader {
            topics: vec![Named::Exact("none")],
            types: Vec::new(),
            ..reader.clone()
        };
        let mut socket = WebSocket::open(&self.server, &format!("?{}", none.query(case)));
        let (exact, patterns) = reader.names(case);
        let mut message = json!({"type": "subscribe", "topics": patterns, "topic_exact": exact});
        if !reader.types.is_empty() {
            message["event_types"] = json!(reader.types());
        }
        // More topics are never all of them.
        let mut reads_as = reader.clone();
        if reader.topics.is_empty() {
            reads_as.topics = none.topics;
        }
        if reader.topics.is_empty() && reader.types.is_empty() {
            message["topics"] = json!(["none"]);
        }
        assert_eq!(socket.ask(&message)["type"], "subscribed", "{message}");
        Open {
            way: "subscribed WebSocket",
            source: Source::Socket(socket),
            reads_as: [reads_as.clone(), reads_as],
            is_turned: false,
        }
    }

    fn publish(&mut self, event: &Event, case: &str, connections: &[String]) {
        let json = event.json(self.history.len(), case, connections);
        let answer = self.server.post("/events", &json);
        if event.contradicts_itself() {
            answer.problem(400);
        } else if event.connection.is_some() && answer.status == 404 {
            // There is no such connection, so it was not published.
            return;
        } else {
            answer.ok();
        }
        self.history.push((self.cases, event.clone()));
    }

    fn mark(&self, mark: &str, case: &str) {
        let topics = ["public".to_owned(), format!("end-{case}")];
        let mark = json!({"event_type": "end", "data": mark, "topic": topics});
        self.server.publish(&mark);
    }

    /// What the rule gives a reader of the events from a number on, where its connection has this number.
    fn expected(&self, from: usize, reader: &Reader, connection: Option<usize>) -> Vec<usize> {
        let gets = |(case, event): &(usize, Event)| match *case == self.cases {
            true => reader.gets(event, connection),
            // The users, sessions and connections of another case are others.
            false => event.audience().is_empty() && reader.gets(event, None),
        };
        (from..self.history.len())
            .filter(|&number| gets(&self.history[number]))
            .collect()
    }

    /// Checks what each way of reading brings in one more case.
    fn check(&mut self, readers: &[Reader], events: &[Event]) {
        self.cases += 1;
        let case = format!("c{}", self.cases);
        let (start, first) = (self.server.head(), self.history.len());
        let mut open = Vec::new();
        for (n, reader) in readers.iter().enumerate() {
            let other = &readers[(n + 1) % readers.len()];
            open.extend(self.open(reader, other, &case));
        }
        let ids: Vec<String> = open.iter().map(|open| open.source.id()).collect();
        let named = |n: usize, reader: &Reader| {
            format!("/events?{}&durable=d-{case}-{n}", reader.query(&case))
        };
        for (n, reader) in readers.iter().enumerate() {
            // It is known from now on, and its place is here.
            drop(self.server.open(&named(n, reader)));
        }

        let (before, behind) = events.split_at(events.len() / 2);
        for event in before {
            self.publish(event, &case, &ids);
        }
        let (middle, half) = (format!("{case} half"), self.history.len());
        self.mark(&middle, &case);
        let mut came: Vec<Vec<usize>> = Vec::new();
        for (open, id) in open.iter_mut().zip(&ids) {
            came.push(open.source.numbers(&middle));
            if open.is_turned {
                let change = open.reads_as[1].change(id, &case);
                let changed = self.server.post("/events/subscriptions", &change);
                assert_eq!(changed.ok()["status"], "subscribed", "{change}");
            }
        }
        for event in behind {
            self.publish(event, &case, &ids);
        }
        self.mark(&case, &case);

        for (number, (open, mut came)) in open.iter_mut().zip(came).enumerate() {
            came.extend(open.source.numbers(&case));
            let [before, behind] = &open.reads_as;
            let mut expected = self.expected(first, before, Some(number));
            expected.retain(|&number| number < half);
            expected.extend(self.expected(half, behind, Some(number)));
            assert_eq!(came, expected, "{} {:?}", open.way, open.reads_as);
        }
        for (n, reader) in readers.iter().enumerate() {
            let query = reader.query(&case);
            let replay = format!("{query}&last_event_id={start}");
            let all = format!("/events?{query}&last_event_id=earliest");
            let path = format!("/events?{replay}");
            let this_case = self.expected(first, reader, None);
            let every_case = self.expected(0, reader, None);
            for (way, mut source, expected) in [
                ("replay", self.stream(&path, "identity"), &this_case),
                ("gzip replay", self.stream(&path, "gzip"), &this_case),
                ("replayed WebSocket", self.socket(&replay), &this_case),
                (
                    "named",
                    self.stream(&named(n, reader), "identity"),
                    &this_case,
                ),
                ("earliest", self.stream(&all, "identity"), &every_case),
                ("gzip earliest", self.stream(&all, "gzip"), &every_case),
            ] {
                assert_eq!(source.numbers(&case), *expected, "{way} {reader:?}");
            }
            let polled = self.polled(&query, &start, &case);
            assert_eq!(polled, this_case, "polled {reader:?}");
        }
    }

    fn polled(&self, query: &str, after: &str, mark: &str) -> Vec<usize> {
        let path = format!("/events/poll?{query}&after={after}&limit=1000");
        let polled = self.server.get(&path).ok();
        let mut polled = polled["events"].as_array().unwrap().iter();
        let next = || {
            let event = polled.next().expect("the mark is polled, too");
            let data = event["data"].as_str().unwrap();
            let data = serde_json::from_str(data).unwrap_or_else(|_| data.into());
            (event["event"].as_str().unwrap().to_owned(), data)
        };
        numbers(next, mark)
    }
}

/// So many cases have one server, whose log the next case begins behind.
const CASES_PER_WORLD: usize = 20;

#[test]
fn every_way_to_read_brings_what_the_naive_rule_says() {
    let worlds = RefCell::new((0, World::start(0)));
    let case = (
        prop::collection::vec(reader(), READERS),
        prop::collection::vec(event(), 1..12),
    );
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((readers, events) in case)| {
        let (number, world) = &mut *worlds.borrow_mut();
        if world.cases == CASES_PER_WORLD {
            *number += 1;
            *world = World::start(*number);
        }
        world.check(&readers, &events);
    });
}
