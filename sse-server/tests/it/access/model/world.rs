//! The world of the model: a hub, those who have tokens for it, and their readers.

use std::time::{Duration, Instant};

use fastrand::Rng;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::{Event, Holder, MARK, Named, PATTERNS, Rule, TOPICS, TYPES, USERS, Wish};
use crate::access::{Guarded, now, signed};
use crate::client::{DEADLINE, Stream, Wire};
use crate::frames::{HANDSHAKE, TEXT, WebSocket};

/// As many readers are open at most.
const OPEN: usize = 14;

enum Source {
    Stream(Box<Stream>),
    Socket(Box<WebSocket>),
}

/// An open reader.
struct Reader {
    source: Source,
    id: String,
    holder: usize,
    wish: Wish,
    /// What must come, in order.
    expected: Vec<usize>,
}

impl Reader {
    fn new(stream: Stream, holder: usize, wish: Wish) -> Self {
        Self {
            id: stream.connection_id(),
            source: Source::Stream(Box::new(stream)),
            holder,
            wish,
            expected: Vec::new(),
        }
    }

    /// The numbers that came up to a mark; nothing after them where it ended instead.
    fn came(&mut self, mark: &str) -> (Vec<usize>, bool) {
        let mut numbers = Vec::new();
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(
                Instant::now() < until,
                "no {mark} came after {numbers:?}: {:?}",
                self.wish
            );
            let (name, data) = match &mut self.source {
                Source::Stream(stream) => match stream.try_next() {
                    Ok(event) => (event.name, event.data),
                    Err(_) => return (numbers, false),
                },
                Source::Socket(socket) => match socket.frame() {
                    None => return (numbers, false),
                    Some(frame) if frame.opcode == TEXT => {
                        let event: Value = serde_json::from_slice(&frame.payload).unwrap();
                        let data = match &event["data"] {
                            Value::String(text) => text.clone(),
                            data => data.to_string(),
                        };
                        (event["event"].as_str().unwrap_or("").to_owned(), data)
                    }
                    Some(_) => continue,
                },
            };
            match &*name {
                MARK if data == mark => return (numbers, true),
                "gap" => panic!("a gap: {data}"),
                // Marks of before it was open do not come; heartbeats and the hub's last word have no number.
                _ => numbers.extend(data.parse::<usize>().ok()),
            }
        }
    }
}

pub(super) struct World {
    hub: Guarded,
    root: String,
    pub(super) rng: Rng,
    holders: Vec<Holder>,
    readers: Vec<Reader>,
    /// A named subscription that begins with what is published from the last look on.
    named: Option<(String, usize, Wish)>,
    /// What was published since the last look at everything, and the position before it.
    lately: Vec<Event>,
    since: String,
    pub(super) published: usize,
    made: usize,
    pub(super) delivered: usize,
}

impl World {
    pub(super) fn start(seed: u64) -> Self {
        let hub = Guarded::start(&[
            "--heartbeat",
            "1s",
            "--max-connections-per-ip",
            "100000",
            "--max-connections-per-user",
            "100000",
        ]);
        let root = root();
        let mut world = Self {
            since: head(&hub, &root),
            root,
            hub,
            rng: Rng::with_seed(seed),
            holders: Vec::new(),
            readers: Vec::new(),
            named: None,
            lately: Vec::new(),
            published: 0,
            made: 0,
            delivered: 0,
        };
        for _ in 0..8 {
            let holder = world.holder(3600);
            world.holders.push(holder);
        }
        world
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    fn topic(&mut self) -> String {
        match self.rng.u8(..10) {
            0..7 => self.pick(&TOPICS).to_owned(),
            7..9 => format!("user/{}", self.pick(&USERS).1),
            _ => format!("session/s{}", self.rng.u8(..3)),
        }
    }

    fn named(&mut self) -> Named {
        match self.rng.u8(..10) {
            0..6 => Named::Exact(self.topic()),
            6 => Named::Every,
            _ => self.pick(&PATTERNS),
        }
    }

    fn rules(&mut self) -> Vec<Rule> {
        (0..self.rng.usize(..5))
            .map(|_| Rule {
                topic: self.named(),
                types: (self.rng.u8(..4) == 0).then(|| self.pick(&TYPES)),
            })
            .collect()
    }

    fn wish(&mut self) -> Wish {
        let topics = (0..self.rng.usize(..4)).map(|_| self.named()).collect();
        let types = match self.rng.u8(..4) {
            0 => vec![self.pick(&TYPES)],
            _ => Vec::new(),
        };
        Wish { topics, types }
    }

    /// A new token, for somebody in particular or for anyone.
    fn holder_named(&mut self, user: Option<usize>, session: Option<u8>, seconds: u64) -> Holder {
        self.made += 1;
        let (subscribe, publish) = (self.rules(), self.rules());
        let jti = format!("t{}", self.made);
        let mut read: Vec<Value> = subscribe.iter().map(Rule::json).collect();
        read.push(json!(MARK));
        let expires_at = now() + seconds;
        let mut claims = json!({
            "jti": jti,
            "iat": now() - 10,
            "exp": expires_at,
            "sse": {"subscribe": read, "publish": publish.iter().map(Rule::json).collect::<Vec<_>>()},
        });
        if let Some(user) = user {
            claims["sub"] = USERS[user].0.into();
        }
        if let Some(session) = session {
            claims["sid"] = format!("s{session}").into();
        }
        Holder {
            token: signed(&Header::new(Algorithm::HS256), &claims),
            jti,
            user: user.map(|user| USERS[user].1.to_owned()),
            session: session.map(|session| format!("s{session}")),
            subscribe,
            publish,
            is_revoked: false,
            expires_at,
        }
    }

    fn holder(&mut self, seconds: u64) -> Holder {
        let user = (self.rng.u8(..4) > 0).then(|| self.rng.usize(..USERS.len()));
        let session = (self.rng.u8(..2) > 0).then(|| self.rng.u8(..3));
        self.holder_named(user, session, seconds)
    }

    /// What `status` must be for whoever may (200) and may not.
    fn expect(status: u16, holder: &Holder, may: bool, what: &dyn std::fmt::Debug) {
        let right = match (holder.is_revoked, may) {
            (true, _) => 401,
            (false, true) => 200,
            (false, false) => 403,
        };
        assert_eq!(status, right, "{holder:?} {what:?}");
    }

    pub(super) fn publish(&mut self) {
        let is_root = self.rng.bool();
        let holder = self.rng.usize(..self.holders.len());
        let mut topics = vec![self.topic()];
        if self.rng.u8(..3) == 0 {
            topics.push(self.topic());
        }
        topics.dedup();
        let mut event = Event {
            number: self.published,
            topics,
            event_type: self.pick(&TYPES),
            connection: None,
        };
        if is_root && self.rng.u8(..6) == 0 && !self.readers.is_empty() {
            let to = self.rng.usize(..self.readers.len());
            let id = self.readers[to].id.clone();
            event.topics = vec![format!("connection/{id}")];
            event.connection = Some(id);
        }
        let owners = |prefix: &str| {
            let mut topics: Vec<_> = (event.topics.iter())
                .filter(|topic| topic.starts_with(prefix))
                .collect();
            topics.dedup();
            topics.len()
        };
        if owners("user/") > 1 || owners("session/") > 1 {
            // Reaches nobody, and is refused as such.
            return;
        }
        let body =
            json!({"topic": event.topics, "event_type": event.event_type, "data": event.number});
        let token = match is_root {
            true => self.root.clone(),
            false => self.holders[holder].token.clone(),
        };
        let reply = self.hub.post(&token, "/events", &body);
        let by = &self.holders[holder];
        if !is_root {
            Self::expect(reply.status, by, by.may_publish(&event), &event);
        }
        if reply.status != 200 {
            assert!(!is_root, "{}", reply.text());
            return;
        }
        self.published += 1;
        for reader in &mut self.readers {
            let holder = &self.holders[reader.holder];
            if holder.gets(&event, &reader.wish, Some(&reader.id)) {
                reader.expected.push(event.number);
            }
        }
        self.lately.push(event);
    }

    pub(super) fn open(&mut self) {
        let holder = self.rng.usize(..self.holders.len());
        let wish = self.wish();
        self.open_as(holder, wish);
    }

    fn open_as(&mut self, holder: usize, wish: Wish) {
        if self.readers.len() == OPEN {
            let gone = self.rng.usize(..OPEN);
            drop(self.readers.swap_remove(gone));
        }
        let who = self.holders[holder].clone();
        let authorization = who.authorization();
        let mut headers = vec![("Authorization", authorization.as_str())];
        let query = wish.query();
        let (source, id, status) = if self.rng.u8(..3) == 0 {
            headers.extend(HANDSHAKE);
            let path = format!("/events/ws?{query}");
            let mut wire = Wire::connect(self.hub.server.address);
            wire.write(&self.hub.server.bytes("GET", &path, &headers, None));
            let may = who.may_open(&wish) && !who.is_revoked;
            if may {
                let socket = WebSocket::greeted(wire);
                let id = socket.connected["connection_id"].as_str().unwrap();
                let id = id.to_owned();
                (Some(Source::Socket(Box::new(socket))), id, 200)
            } else {
                let status = wire.reply(false).unwrap().status;
                (None, String::new(), status)
            }
        } else {
            if self.rng.bool() {
                headers.push(("Accept-Encoding", "gzip"));
            }
            let path = format!("/events?{query}");
            match self.hub.server.try_open(&path, &headers) {
                Ok(stream) => {
                    let id = stream.connection_id();
                    (Some(Source::Stream(Box::new(stream))), id, 200)
                }
                Err(reply) => (None, String::new(), reply.status),
            }
        };
        Self::expect(status, &who, who.may_open(&wish), &wish);
        if let Some(source) = source {
            self.readers.push(Reader {
                source,
                id,
                holder,
                wish,
                expected: Vec::new(),
            });
        }
    }

    /// Other wishes for an open connection, by its owner or by somebody else.
    pub(super) fn change(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let reader = self.rng.usize(..self.readers.len());
        let owner = self.readers[reader].holder;
        let by = match self.rng.bool() {
            true => owner,
            false => self.rng.usize(..self.holders.len()),
        };
        let wish = self.wish();
        let (exact, patterns) = wish.split();
        let body = json!({
            "connection_id": self.readers[reader].id,
            "topics": patterns,
            "topic_exact": exact,
            "event_types": wish.types(),
        });
        // What has not been taken yet is judged by the new wishes, so everything is taken first.
        self.check();
        let Some(reader) = (self.readers.iter()).position(|it| it.id == body["connection_id"])
        else {
            return;
        };
        let who = &self.holders[by];
        let reply = self.hub.post(&who.token, "/events/subscriptions", &body);
        let is_its_own = self.controls(by, owner);
        if !is_its_own && !who.is_revoked {
            assert_eq!(reply.status, 404, "{who:?} {body}");
            return;
        }
        // The stream's own rights decide.
        let owner = &self.holders[owner];
        Self::expect(reply.status, who, owner.may_open(&wish), &body);
        if reply.status == 200 {
            self.readers[reader].wish = wish;
        }
    }

    /// Whether a connection of one holder is another's too: that of nobody in particular is whoever's who knows its name.
    fn controls(&self, by: usize, of: usize) -> bool {
        let (by, of) = (&self.holders[by], &self.holders[of]);
        let is_same = |of: &Option<String>, by: &Option<String>| of.is_none() || of == by;
        is_same(&of.user, &by.user) && is_same(&of.session, &by.session)
    }

    fn is_same_caller(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.holders[a], &self.holders[b]);
        (&a.user, &a.session) == (&b.user, &b.session)
    }

    /// A new token for an open stream.
    pub(super) fn renew(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        self.check();
        if self.readers.is_empty() {
            return;
        }
        let reader = self.rng.usize(..self.readers.len());
        let owner = self.readers[reader].holder;
        let is_same = self.rng.bool();
        let next = if is_same {
            let of = self.holders[owner].clone();
            let user = USERS.iter().position(|it| Some(it.1) == of.user.as_deref());
            let session = of.session.as_deref().map(|it| it[1..].parse().unwrap());
            self.holder_named(user, session, 3600)
        } else {
            self.holder(3600)
        };
        self.holders.push(next);
        let next = self.holders.len() - 1;
        let path = format!("/events/connections/{}/token", self.readers[reader].id);
        let reply = self
            .hub
            .post(&self.holders[next].token, &path, &Value::Null);
        let who = &self.holders[next];
        if !self.is_same_caller(next, owner) {
            assert_eq!(reply.status, 404, "{who:?} {}", reply.text());
            return;
        }
        let wish = &self.readers[reader].wish;
        Self::expect(reply.status, who, who.may_open(wish), wish);
        if reply.status == 200 {
            self.readers[reader].holder = next;
        }
    }

    /// A token is revoked, and its streams end.
    pub(super) fn revoke(&mut self) {
        self.check();
        let holder = self.rng.usize(..self.holders.len());
        let jti = self.holders[holder].jti.clone();
        let body = json!({"jti": jti});
        self.hub.post(&self.root, "/admin/revocations", &body).ok();
        self.holders[holder].is_revoked = true;
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.readers)
            .into_iter()
            .partition(|reader| reader.holder == holder);
        self.readers = stay;
        for mut reader in gone {
            let (numbers, reached) = reader.came("never");
            assert!(numbers.is_empty() && !reached, "{numbers:?}");
        }
        // Somebody comes for who left.
        self.named = None;
        let next = self.holder(3600);
        self.holders[holder] = next;
    }

    /// A stream whose token soon expires: it gets what it may up to then, and nothing of what comes later.
    pub(super) fn expire(&mut self) {
        let who = self.holder(1);
        let wish = self.wish();
        if !who.may_open(&wish) {
            return;
        }
        self.check();
        let path = format!("/events?{}", wish.query());
        let authorization = who.authorization();
        let opened = (self.hub.server).try_open(&path, &[("Authorization", &authorization)]);
        let Ok(mut stream) = opened else { return };
        while now() <= who.expires_at + 1 {
            // A poll brings a thousand at most.
            match self.lately.len() {
                ..500 => self.publish(),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        let last = self.published;
        self.publish();
        let (events, _) = stream.rest();
        assert_eq!(events.last().unwrap().name, "unavailable");
        let came: Vec<usize> = (events.iter())
            .filter_map(|event| event.data.parse().ok())
            .collect();
        let before = self.lately.iter().filter(|event| event.number < last);
        let expected: Vec<usize> = before
            .filter(|event| who.gets(event, &wish, None))
            .map(|event| event.number)
            .collect();
        assert!(
            expected.starts_with(&came),
            "{who:?} {wish:?} {came:?} {expected:?}"
        );
        self.delivered += came.len();
    }

    /// What is somebody else's does not exist.
    pub(super) fn look_at_foreign(&mut self) {
        let by = self.rng.usize(..self.holders.len());
        let who = self.holders[by].clone();
        if who.is_revoked {
            return;
        }
        let reader = self.rng.usize(..OPEN);
        if let Some(reader) = self.readers.get(reader) {
            let path = format!("/events/connections/{}", reader.id);
            let seen = self.hub.get(&who.token, &path).status;
            let right = if self.controls(by, reader.holder) {
                200
            } else {
                404
            };
            assert_eq!(
                seen, right,
                "{path} {who:?} {:?}",
                self.holders[reader.holder]
            );
        }
        let owner = self.rng.usize(..USERS.len());
        let job = format!("j{}", self.published);
        let created = json!({"job_id": job, "user_id": USERS[owner].1});
        let created = self.hub.post(&self.root, "/jobs", &created).status;
        if created == 201 {
            let seen = self.hub.get(&who.token, &format!("/jobs/{job}")).status;
            let is_granted = who.may_read(&format!("user/{}", USERS[owner].1));
            let right = if is_granted { 200 } else { 404 };
            assert_eq!(seen, right, "{job} {who:?}");
            let gone = json!({});
            self.hub
                .post(&self.root, &format!("/jobs/{job}/cancel"), &gone)
                .ok();
        }
        // The job's events are not part of the model, nor are the tokens that nobody reads with any more.
        self.readers.clear();
        self.holders.truncate(8);
        self.named = None;
        self.lately.clear();
        self.since = head(&self.hub, &self.root);
    }

    /// What every open reader got, and what a poll and a replay bring of the same.
    pub(super) fn check(&mut self) {
        let mark = format!("m{}", self.made);
        self.made += 1;
        let body = json!({"topic": MARK, "event_type": MARK, "data": mark});
        self.hub.post(&self.root, "/events", &body).ok();
        for reader in &mut self.readers {
            let (numbers, reached) = reader.came(&mark);
            let expected = std::mem::take(&mut reader.expected);
            let who = &self.holders[reader.holder];
            assert!(reached, "ended early: {who:?}");
            let wrong: Vec<_> = (self.lately.iter())
                .filter(|it| numbers.contains(&it.number) != expected.contains(&it.number))
                .collect();
            assert_eq!(numbers, expected, "{wrong:?} {who:?} {:?}", reader.wish);
            self.delivered += numbers.len();
        }
        let holder = self.rng.usize(..self.holders.len());
        let wish = self.wish();
        let who = self.holders[holder].clone();
        if who.may_open(&wish) && !who.is_revoked {
            let expected = self.expected(&who, &wish);
            let query = format!("{}&after={}&limit=1000", wish.query(), self.since);
            let polled = self
                .hub
                .get(&who.token, &format!("/events/poll?{query}"))
                .ok();
            let polled: Vec<usize> = (polled["events"].as_array().unwrap().iter())
                .filter(|event| event["event"] != MARK)
                .filter_map(|event| event["data"].as_str().unwrap().parse().ok())
                .collect();
            let wrong: Vec<_> = (self.lately.iter())
                .filter(|it| polled.contains(&it.number) != expected.contains(&it.number))
                .collect();
            assert_eq!(polled, expected, "polled {wrong:?} {who:?} {wish:?}");
            let query = format!("/events?{}&last_event_id={}", wish.query(), self.since);
            let stream = self.hub.open(&who.token, &query);
            let mut replay = Reader::new(stream, holder, wish);
            let (numbers, reached) = replay.came(&mark);
            assert!(reached);
            assert_eq!(numbers, expected, "replayed {who:?} {:?}", replay.wish);
            self.delivered += 2 * expected.len();
        }
        self.read_named(&mark);
        self.lately.clear();
        self.since = head(&self.hub, &self.root);
        self.name_one();
    }

    /// A stream under a name, which somebody begins and leaves.
    fn name_one(&mut self) {
        let holder = self.rng.usize(..self.holders.len());
        let wish = self.wish();
        let who = &self.holders[holder];
        if who.is_revoked || !who.may_open(&wish) {
            return;
        }
        let name = format!("n{}", self.made);
        let query = format!("/events?{}&durable={name}", wish.query());
        drop(self.hub.open(&who.token, &query));
        self.named = Some((name, holder, wish));
    }

    /// What comes under the name, and that it is nobody else's.
    fn read_named(&mut self, mark: &str) {
        let Some((name, holder, wish)) = self.named.take() else {
            return;
        };
        let by = self.rng.usize(..self.holders.len());
        let path = format!("/events/subscriptions/{name}");
        let (who, other) = (&self.holders[holder], &self.holders[by]);
        let is_its_own = match (&who.user, &who.session) {
            (Some(_), _) => who.user == other.user,
            (None, Some(_)) => who.session == other.session,
            (None, None) => true,
        };
        if !other.is_revoked && !is_its_own {
            self.hub.get(&other.token, &path).problem(404);
        }
        if who.is_revoked {
            return;
        }
        let query = format!("/events?{}&durable={name}", wish.query());
        let stream = self.hub.open(&who.token, &query);
        let expected = self.expected(who, &wish);
        let mut named = Reader::new(stream, holder, wish);
        let (numbers, reached) = named.came(mark);
        assert!(reached);
        assert_eq!(numbers, expected, "named {who:?} {:?}", named.wish);
        self.delivered += expected.len();
        drop(named);
        self.hub
            .request(&self.root, "DELETE", &path, &Value::Null)
            .ok();
    }

    /// What somebody gets of what was published lately, through no connection in particular.
    fn expected(&self, who: &Holder, wish: &Wish) -> Vec<usize> {
        (self.lately.iter())
            .filter(|event| who.gets(event, wish, None))
            .map(|event| event.number)
            .collect()
    }
}

/// An administrator for as long as the model may run.
fn root() -> String {
    let claims = json!({
        "exp": now() + 24 * 3600,
        "sse": {"publish": ["*"], "subscribe": ["*", "user/*", "session/*"], "admin": true, "issue": true},
    });
    signed(&Header::new(Algorithm::HS256), &claims)
}

/// The position of the newest event.
fn head(hub: &Guarded, root: &str) -> String {
    let stats = hub.get(root, "/events/stats").ok();
    stats["log"]["head"].as_str().unwrap().to_owned()
}
