//! The clients that people have, as they are when one sets nothing: each hands on every event when it comes and not with the
//! next one, alone on its topic and as a later reader of one that is already read.
//!
//! The clients are the scripts in `clients/`, at the versions of the lists beside them; `cargo xtask setup` installs those.
//!
//! With `SSE_CLIENTS_MEASURE=1` the test measures instead, and prints the table of `docs/clients.md`.

pub(crate) mod reading;

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::hub::{Hub, wait_until};
use crate::relay::Relay;
use reading::{Reading, Scripts};

/// A client, and what it asks for by itself.
struct Client {
    name: &'static str,
    how: How,
    asks_for_gzip: bool,
}

/// How a client is run.
enum How {
    Node(&'static str),
    Python(&'static str),
    /// The program built from `clients/reader.go`.
    Go,
    /// A program that prints what it reads.
    Prints(&'static [&'static str]),
    /// In this process, with or without the feature `gzip`.
    Reqwest(bool),
    /// In the browser: its `EventSource` or its `fetch`.
    Chromium(fn(&Browser, &str, &str)),
}

const CLIENTS: [Client; 24] = [
    asks("Node's fetch", How::Node("fetch.mjs")),
    asks("undici, fetch", How::Node("undici-fetch.mjs")),
    asks_not("undici, request", How::Node("undici-request.mjs")),
    asks("axios", How::Node("axios.mjs")),
    asks("got", How::Node("got.mjs")),
    asks_not("eventsource 2", How::Node("eventsource-2.mjs")),
    asks("eventsource 3", How::Node("eventsource-3.mjs")),
    asks("eventsource 4", How::Node("eventsource-4.mjs")),
    asks("fetch-event-source", How::Node("fetch-event-source.mjs")),
    asks("requests", How::Python("requests_.py")),
    asks_not("urllib3", How::Python("urllib3_.py")),
    asks("httpx", How::Python("httpx_.py")),
    asks("aiohttp", How::Python("aiohttp_.py")),
    asks_not("sseclient", How::Python("sseclient_.py")),
    asks("sseclient-py", How::Python("sseclient_py.py")),
    asks("httpx-sse", How::Python("httpx_sse_.py")),
    asks("Go's net/http", How::Go),
    asks_not("reqwest", How::Reqwest(false)),
    asks("reqwest, feature gzip", How::Reqwest(true)),
    asks_not("curl -N", How::Prints(&["curl", "-sN"])),
    asks(
        "curl -N --compressed",
        How::Prints(&["curl", "-sN", "--compressed"]),
    ),
    asks_not("wget -qO-", How::Prints(&["wget", "-qO-"])),
    asks("Chromium's EventSource", How::Chromium(Browser::listen)),
    asks("Chromium's fetch", How::Chromium(Browser::fetch)),
];

/// A client that asks for gzip by itself.
const fn asks(name: &'static str, how: How) -> Client {
    Client {
        name,
        how,
        asks_for_gzip: true,
    }
}

const fn asks_not(name: &'static str, how: How) -> Client {
    Client {
        name,
        how,
        asks_for_gzip: false,
    }
}

#[test]
fn every_client_hands_on_each_event_when_it_comes() {
    let scripts = Scripts::lay_out();
    let page = Page::serve();
    let hub = Hub::start(&[
        "--ephemeral",
        "--allowed-origin",
        &page.origin(),
        // Nothing but events pushes events on.
        "--heartbeat",
        "4m",
    ]);
    let browser = page.open_and_wait();
    let relay = Relay::watch(hub.address());
    let mut story = Story {
        hub: &hub,
        browser: &browser,
        topics: vec![SHARED.to_owned()],
        said: Vec::new(),
    };

    // The shared topic has a reader, and a past, before the clients come.
    let url = story.url(hub.address(), SHARED);
    let first = Reading::program(&["curl", "-sN", "--compressed"], &url);
    wait_until("the first reader is connected", || hub.connections() == 1);
    for count in 1..4 {
        story.say();
        wait_until("it reads", || first.heard().events.len() == count);
    }
    story.said.clear();
    let mut streams: Vec<Stream> = Vec::new();
    for (n, client) in CLIENTS.iter().enumerate() {
        let topic = format!("own-{n}");
        let alone = story.url(relay.address(), &topic);
        streams.push(client.start(&scripts, &browser, "alone", &alone));
        story.topics.push(topic);
        streams.push(client.start(&scripts, &browser, "joining", &url));
    }
    wait_until("all are connected", || {
        for stream in &streams {
            let (_, end) = story.heard(stream);
            assert!(end.is_empty(), "{} begins with {end}", stream.name);
        }
        hub.connections() == 1 + streams.len() as u64
    });

    if std::env::var_os("SSE_CLIENTS_MEASURE").is_some() {
        story.measure(&streams);
        return;
    }
    let mut failures = Vec::new();
    // Each when the one before is there: nothing else is written that could push it on.
    for _ in 0..STEPS {
        story.say();
        failures.extend(story.until_heard(&mut streams));
        std::thread::sleep(QUIET);
    }
    for _ in 0..BURST {
        story.say();
        std::thread::sleep(BETWEEN);
    }
    failures.extend(story.until_heard(&mut streams));
    assert!(
        failures.is_empty(),
        "after {HELD_BACK:?} without another event:\n{}",
        failures.join("\n")
    );
    for (n, client) in CLIENTS.iter().enumerate() {
        let passed = relay.passed(&format!("topic=own-{n} "));
        let asks = passed.asked_for.contains("gzip");
        let coding = if client.asks_for_gzip { "gzip" } else { "" };
        assert_eq!(
            (asks, passed.coding.as_str()),
            (client.asks_for_gzip, coding),
            "{} asks for {:?}",
            client.name,
            passed.asked_for
        );
    }
}

/// Node's `fetch` took the end of a connection that was said to close for the end of the stream. What it had of an answer seemed
/// whole, and `fetch-event-source`, which comes back after an error alone, stayed away.
#[test]
fn a_killed_hub_is_an_error_to_fetch_and_one_that_leaves_is_none() {
    let scripts = Scripts::lay_out();
    let mut hub = Hub::start(&["--ephemeral", "--retry", "200ms"]);
    let url = hub.events();
    let fetch = scripts.node("fetch.mjs", &url);
    let again = scripts.node("fetch-event-source.mjs", &url);
    wait_until("both are connected", || hub.connections() == 2);
    hub.kill();
    for reading in [&fetch, &again] {
        wait_until("the client knows of the end", || {
            !reading.heard().ends.is_empty()
        });
        let heard = reading.heard();
        assert!(heard.ends[0].starts_with("error "), "{:?}", heard.ends);
    }
    hub.start_again();
    wait_until("one is back", || hub.connections() == 1);
    let fetch = scripts.node("fetch.mjs", &url);
    wait_until("both are connected again", || hub.connections() == 2);
    assert!(hub.ends_well());
    for reading in [&fetch, &again] {
        wait_until("the client knows of the end", || {
            reading.heard().ends.last().is_some_and(|end| end == "end")
        });
    }
}

/// A stream that a client reads.
struct Stream {
    name: String,
    from: From,
    has_failed: bool,
}

/// Who tells what a stream has brought.
enum From {
    Reading(Reading),
    /// The browser, under the stream's name.
    Browser,
}

impl Client {
    fn start(&self, scripts: &Scripts, browser: &Browser, place: &str, url: &str) -> Stream {
        let name = format!("{}, {place}", self.name);
        let from = match self.how {
            How::Node(script) => From::Reading(scripts.node(script, url)),
            How::Python(script) => From::Reading(scripts.python(script, url)),
            How::Go => From::Reading(scripts.go(url)),
            How::Prints(command) => From::Reading(Reading::program(command, url)),
            How::Reqwest(gzip) => From::Reading(Reading::reqwest(gzip, url)),
            How::Chromium(read) => {
                read(browser, &name, url);
                From::Browser
            }
        };
        Stream {
            name,
            from,
            has_failed: false,
        }
    }
}

/// What is published, in order, to every topic alike.
struct Story<'a> {
    hub: &'a Hub,
    browser: &'a Browser,
    topics: Vec<String>,
    /// Each with its moment.
    said: Vec<(String, u64)>,
}

impl Story<'_> {
    fn url(&self, address: &str, topic: &str) -> String {
        format!("http://{address}/events?topic={topic}")
    }

    fn say(&mut self) {
        let data = format!(r#"{MARK}{},"text":"wörd after wörd"}}"#, self.said.len());
        let now = now_micros();
        let events: Vec<_> = self
            .topics
            .iter()
            .map(|topic| json!({"data": data, "topic": topic}))
            .collect();
        self.hub.post(&json!(events));
        self.said.push((data, now));
    }

    /// Waits until every stream has handed on all that was said, and names those that hold it back.
    fn until_heard(&self, streams: &mut [Stream]) -> Vec<String> {
        let deadline = Instant::now() + HELD_BACK;
        loop {
            let mut late = Vec::new();
            for stream in streams.iter_mut().filter(|stream| !stream.has_failed) {
                let (heard, end) = self.heard(stream);
                if heard
                    .iter()
                    .map(|it| &it.0)
                    .eq(self.said.iter().map(|it| &it.0))
                {
                    continue;
                }
                let count = heard.len();
                let all = self.said.len();
                late.push(format!("{}: {count} events of {all} {end}", stream.name));
                stream.has_failed = Instant::now() > deadline;
            }
            if late.is_empty() || Instant::now() > deadline {
                return late;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The events that a stream has brought, each with its moment, and how it ended if it did.
    fn heard(&self, stream: &Stream) -> (Vec<(String, u64)>, String) {
        match &stream.from {
            From::Reading(reading) => {
                let heard = reading.heard();
                (heard.events.clone(), heard.ends.join(", "))
            }
            From::Browser => self.browser.heard_at(&stream.name),
        }
    }

    /// Prints how late each client is: with ten events a second, and with one in ten seconds.
    fn measure(&mut self, streams: &[Stream]) {
        let begun = self.said.len();
        for _ in 0..200 {
            self.say();
            std::thread::sleep(Duration::from_millis(100));
        }
        let slow = self.said.len();
        for _ in 0..6 {
            std::thread::sleep(Duration::from_secs(10));
            self.say();
        }
        std::thread::sleep(Duration::from_secs(10));
        for stream in streams {
            let (heard, end) = self.heard(stream);
            let mut row = format!("| {} |", stream.name);
            for said in [&self.said[begun..slow], &self.said[slow..]] {
                let delay = |(data, at): &(String, u64)| {
                    let heard = heard.iter().find(|it| it.0 == *data)?;
                    Some(heard.1.saturating_sub(*at))
                };
                let mut delays: Vec<u64> = said.iter().filter_map(delay).collect();
                delays.sort_unstable();
                let at = |share: usize| {
                    delays.get((delays.len() * share / 100).min(delays.len().saturating_sub(1)))
                };
                let shown = |it: Option<&u64>| {
                    it.map_or("none".to_owned(), |it| {
                        format!("{}.{:01}", it / 1000, it % 1000 / 100)
                    })
                };
                write!(row, " {} | {} |", shown(at(50)), shown(at(99))).unwrap();
                if delays.len() < said.len() {
                    write!(row, " {} of {}", delays.len(), said.len()).unwrap();
                }
            }
            println!("{row} {end}");
        }
    }
}

pub(crate) fn now_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// What an event of the test's begins with, and none of the hub's own.
pub(crate) const MARK: &str = r#"{"tick":"#;
/// The topic that already has a reader.
const SHARED: &str = "shared";
/// Events that are waited for one by one.
const STEPS: usize = 8;
/// The pause behind each of them.
const QUIET: Duration = Duration::from_millis(250);
/// Events that are waited for together, and the time between two of them.
const BURST: usize = 40;
const BETWEEN: Duration = Duration::from_millis(25);
/// An event that is not handed on for so long, and no other follows, is held back. A busy machine may take a second or two.
const HELD_BACK: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
