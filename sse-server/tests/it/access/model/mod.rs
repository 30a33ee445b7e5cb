//! Rights, as a model: random users with random grants do random things, and a naive rule, written from the documentation,
//! says what each of them gets.
//!
//! `SSE_MODEL_OPERATIONS=1000000` makes it as long as it should be once before a release; the seed is printed, and
//! `SSE_MODEL_SEED` repeats a run.

mod world;

use std::env;

use serde_json::{Value, json};

use world::World;

/// Names that are easily taken for one another: patterns, escapes, dot segments, one letter in two spellings.
const TOPICS: [&str; 16] = [
    "news",
    "news/",
    "news/../secret",
    "secret",
    "secret/.",
    "room/1",
    "room/%31",
    "room/2/chat",
    "room/*",
    "room/",
    "ROOM/1",
    "caf\u{e9}/1",
    "cafe\u{301}/1",
    "usr/ann",
    "user",
    "sessions/s",
];
/// Users as tokens name them, and as topics do.
const USERS: [(&str, &str); 6] = [
    ("ann", "ann"),
    ("a/b", "a%2Fb"),
    ("a%2Fb", "a%252Fb"),
    ("..", "%2E%2E"),
    ("*", "%2A"),
    ("\u{fc}", "%C3%BC"),
];
/// The topic and the type of what everyone gets, so that it is known up to where they have read.
const MARK: &str = "mark";
const TYPES: [&str; 3] = ["x", "y", "message"];
/// What a grant or a wish names.
#[derive(Clone, Debug, PartialEq)]
enum Named {
    Every,
    Exact(String),
    /// `…*`
    Prefix(&'static str),
    /// `…:id`
    Segment(&'static str),
}

const PATTERNS: [Named; 8] = [
    Named::Prefix("room/"),
    Named::Prefix("n"),
    Named::Prefix("user/"),
    Named::Prefix("user/a"),
    Named::Prefix("us"),
    Named::Prefix("session/"),
    Named::Segment("room/"),
    Named::Segment("user/"),
];

impl Named {
    fn means(&self, topic: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Exact(name) => name == topic,
            Self::Prefix(prefix) => topic.starts_with(prefix),
            Self::Segment(prefix) => topic
                .strip_prefix(prefix)
                .is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        }
    }

    /// The same for somebody who reads: what is somebody's own is only meant where it is named.
    fn means_to_read(&self, topic: &str) -> bool {
        let names_owners = match self {
            Self::Every => false,
            Self::Exact(_) => true,
            Self::Prefix(prefix) | Self::Segment(prefix) => is_private(prefix),
        };
        self.means(topic) && (names_owners || !is_private(topic))
    }

    fn pattern(&self) -> Option<String> {
        match self {
            Self::Every => Some("*".into()),
            Self::Exact(_) => None,
            Self::Prefix(prefix) => Some(format!("{prefix}*")),
            Self::Segment(prefix) => Some(format!("{prefix}:id")),
        }
    }
}

fn is_private(topic: &str) -> bool {
    ["user/", "session/", "connection/"]
        .iter()
        .any(|prefix| topic.starts_with(prefix))
}

#[derive(Clone, Debug)]
struct Rule {
    topic: Named,
    /// None for all.
    types: Option<&'static str>,
}

impl Rule {
    fn json(&self) -> Value {
        let mut rule = match &self.topic {
            Named::Exact(name) => json!({"topic_exact": name}),
            pattern => json!({"topic": pattern.pattern()}),
        };
        if let Some(types) = self.types {
            rule["event_types"] = json!([types]);
        }
        rule
    }

    fn passes(&self, event_type: &str) -> bool {
        self.types.is_none_or(|types| types == event_type)
    }
}

/// Somebody with a token.
#[derive(Clone, Debug)]
struct Holder {
    token: String,
    jti: String,
    /// Both as topics name them.
    user: Option<String>,
    session: Option<String>,
    subscribe: Vec<Rule>,
    publish: Vec<Rule>,
    is_revoked: bool,
    expires_at: u64,
}

impl Holder {
    fn owns(&self, topic: &str) -> bool {
        [("user/", &self.user), ("session/", &self.session)]
            .iter()
            .any(|(prefix, name)| {
                let name = name.as_deref();
                name.is_some_and(|name| topic.strip_prefix(prefix) == Some(name))
            })
    }

    fn may_read(&self, topic: &str) -> bool {
        self.owns(topic) || (self.subscribe.iter()).any(|rule| rule.topic.means_to_read(topic))
    }

    fn may_publish(&self, event: &Event) -> bool {
        event.topics.iter().all(|topic| {
            let rules = &mut self.publish.iter();
            rules.any(|rule| rule.topic.means(topic) && rule.passes(event.event_type))
        })
    }

    /// Whether it may look at an event at all, and gets it with these wishes. `connection` is the one that it reads through.
    fn gets(&self, event: &Event, wish: &Wish, connection: Option<&str>) -> bool {
        if let Some(to) = &event.connection {
            return connection == Some(to) && wish.passes(event.event_type);
        }
        let is_for_it = (event.topics.iter().filter(|topic| is_private(topic)))
            .all(|topic| self.may_read(topic));
        let may_have_it = event.topics.iter().any(|topic| {
            self.owns(topic)
                || (self.subscribe.iter())
                    .any(|rule| rule.topic.means_to_read(topic) && rule.passes(event.event_type))
        });
        let wants_it = event
            .topics
            .iter()
            .any(|topic| self.owns(topic) || (wish.means(topic) && self.may_read(topic)));
        is_for_it && may_have_it && wants_it && wish.passes(event.event_type)
    }

    /// Whether it may have a stream with these wishes.
    fn may_open(&self, wish: &Wish) -> bool {
        wish.wants_all()
            || wish.topics.iter().all(|named| match named {
                Named::Exact(topic) => self.may_read(topic),
                _ => true,
            })
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

/// What a reader asks for; the marks besides.
#[derive(Clone, Debug)]
struct Wish {
    topics: Vec<Named>,
    types: Vec<&'static str>,
}

impl Wish {
    /// `*` is the same as no topic at all, whatever stands beside it.
    fn wants_all(&self) -> bool {
        self.topics.is_empty() || self.topics.contains(&Named::Every)
    }

    fn means(&self, topic: &str) -> bool {
        topic == MARK
            || self.wants_all()
            || self.topics.iter().any(|named| named.means_to_read(topic))
    }

    fn passes(&self, event_type: &str) -> bool {
        self.types.is_empty() || event_type == MARK || self.types.contains(&event_type)
    }

    fn split(&self) -> (Vec<String>, Vec<String>) {
        let mut exact = Vec::new();
        let mut patterns = Vec::new();
        for named in &self.topics {
            match named {
                Named::Exact(name) => exact.push(name.clone()),
                pattern => patterns.extend(pattern.pattern()),
            }
        }
        if !self.topics.is_empty() {
            exact.push(MARK.to_owned());
        }
        (exact, patterns)
    }

    fn types(&self) -> Vec<&'static str> {
        let mut types = self.types.clone();
        if !types.is_empty() {
            types.push(MARK);
        }
        types
    }

    fn query(&self) -> String {
        let (exact, patterns) = self.split();
        let mut query = form_urlencoded::Serializer::new(String::new());
        for topic in exact {
            query.append_pair("topic_exact", &topic);
        }
        for pattern in patterns {
            query.append_pair("topic", &pattern);
        }
        if !self.types.is_empty() {
            query.append_pair("event_types", &self.types().join(","));
        }
        query.finish()
    }
}

#[derive(Clone, Debug)]
struct Event {
    number: usize,
    topics: Vec<String>,
    event_type: &'static str,
    /// The one connection that it is for.
    connection: Option<String>,
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nothing_is_delivered_or_seen_without_a_grant_for_it_at_that_moment() {
    let operations = number("SSE_MODEL_OPERATIONS").unwrap_or(6_000);
    let seed = number("SSE_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("SSE_MODEL_SEED={seed}");
    let mut world = World::start(seed);
    for _ in 0..operations {
        match world.rng.u16(..10_000) {
            0..300 => world.open(),
            300..400 => world.change(),
            400..450 => world.renew(),
            450..470 => world.look_at_foreign(),
            470..570 => world.check(),
            570..575 => world.revoke(),
            575..577 => world.expire(),
            _ => world.publish(),
        }
    }
    world.check();
    println!(
        "{} published, {} delivered",
        world.published, world.delivered
    );
    assert!(world.delivered > 0);
}
