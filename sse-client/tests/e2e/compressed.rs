//! Compressed streams, read to their end by whatever is out there: Chromium, curl, `gzip`, Python's zlib, and `sse`. Some
//! come first, some late, and some take nothing for so long that they have to be served from the log.

use std::time::Duration;

use serde_json::json;

use crate::browser::{Browser, Page};
use crate::hub::{Hub, self_signed, wait_until};
use crate::programs::{Reader, Source, Start};
use crate::relay::Relay;

#[test]
fn every_program_reads_a_stream_in_gzip_to_its_end() {
    let coding = "gzip";
    let folder = tempfile::tempdir().unwrap();
    let page = Page::serve();
    let hub = Hub::start(&[
        "--ephemeral",
        "--allowed-origin",
        &page.origin(),
        "--window",
        &WINDOW_BYTES.to_string(),
        "--send-timeout",
        "5m",
        "--drain-timeout",
        "1m",
    ]);
    let relay = Relay::start(hub.address(), coding);
    let source = Source {
        address: hub.address(),
        path: "/events?topic=a",
        coding,
        relay: &relay,
        folder: folder.path(),
    };
    let browser = page.open_and_wait();
    let mut story = Story {
        hub: &hub,
        said: Vec::new(),
    };

    let mut early = Reader::all(&source, "early", Start::AtOnce);
    in_browser(&browser, &source, "early");
    story.connected(early.len() + 2);
    story.tokens(300);
    let late_from = story.said.len();
    let late = Reader::all(&source, "late", Start::AtOnce);
    in_browser(&browser, &source, "late");
    let all = early.len() + late.len() + 4;
    story.connected(all);
    story.tokens(300);
    let stuck_from = story.said.len();
    let mut stuck = Reader::all(&source, "stuck", Start::Later);
    let all = all + stuck.len();
    story.connected(all);
    browser.stop();
    // The browser's four, too, have taken part until here.
    story.until_stuck(stuck.len() + 4);
    stuck.iter_mut().for_each(Reader::go_on);
    browser.go_on();
    story.tokens(300);
    story.until_all_is_read(all);

    let said = story.said;
    assert!(hub.ends_well());
    early.extend(late);
    early.extend(stuck);
    for reader in early {
        let (name, events) = reader.events();
        let from = match name.split_once(' ').unwrap().0 {
            "early" => 0,
            "late" => late_from,
            _ => stuck_from,
        };
        assert_same(&name, &events, &said[from..]);
    }
    for (name, from) in [("early", 0), ("late", late_from)] {
        let expected: Vec<u32> = said[from..].iter().map(|data| hash(data)).collect();
        for (name, has_end) in [
            (format!("{name} source"), false),
            (format!("{name} fetch"), true),
        ] {
            assert_heard(&browser, &name, &expected, has_end);
        }
    }
    // The browser's four, and those of `sse`.
    assert_eq!(relay.codings(), [coding; 7]);
}

/// Not `assert_eq`, which would show megabytes.
fn assert_same(name: &str, events: &[String], expected: &[String]) {
    let same = std::iter::zip(events, expected).take_while(|(a, b)| a == b);
    let same = same.count();
    assert!(
        events == expected,
        "{name}: {} events, {} were said, and the first {same} are the same",
        events.len(),
        expected.len()
    );
}

/// Waits until one of the browser's readers has heard all that is expected, and no more, up to a clean end if it sees one.
fn assert_heard(browser: &Browser, name: &str, expected: &[u32], has_end: bool) {
    wait_until(&format!("{name} has told all"), || {
        let (hashes, end) = browser.heard(name);
        hashes.len() >= expected.len() && (end.is_some() || !has_end)
    });
    let (hashes, end) = browser.heard(name);
    assert!(hashes == expected, "{name}: {} events", hashes.len());
    assert_eq!(end.as_deref(), has_end.then_some("clean"), "{name}");
}

/// Has the browser read with `EventSource` and with `fetch`.
fn in_browser(browser: &Browser, source: &Source<'_>, name: &str) {
    let url = format!("http://{}{}", source.relay.address(), source.path);
    browser.listen(&format!("{name} source"), &url);
    browser.fetch(&format!("{name} fetch"), &url);
}

#[test]
fn a_browser_reads_compressed_streams_over_one_encrypted_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = self_signed(folder.path());
    let page = Page::serve();
    let origin = page.origin();
    let mut flags = vec!["--ephemeral", "--allowed-origin", &origin];
    flags.extend(["--tls-cert", &certificate, "--tls-key", &key]);
    let hub = Hub::start_secure(&flags, &certificate);
    let (_, port) = hub.address().rsplit_once(':').unwrap();
    let url = format!("https://localhost:{port}/events?topic=a");
    let browser = page.open_and_wait();
    let mut story = Story {
        hub: &hub,
        said: Vec::new(),
    };
    browser.listen("early source", &url);
    browser.fetch("early fetch", &url);
    story.connected(2);
    story.tokens(100);
    // More than the six connections that a browser would open to a host over HTTP/1.1.
    for n in 0..6 {
        browser.fetch(&format!("late {n}"), &url);
    }
    story.connected(8);
    story.tokens(100);
    story.until_all_is_read(8);
    let stats = hub.get("/events/stats");
    assert_eq!(stats["compression"]["streams"]["cohorts"], 1, "{stats}");
    let said = story.said;
    assert!(hub.ends_well());
    let late = (0..6).map(|n| (format!("late {n}"), 100, true));
    let early = [("early source", false), ("early fetch", true)];
    let early = early.map(|(name, has_end)| (name.to_owned(), 0, has_end));
    for (name, from, has_end) in early.into_iter().chain(late) {
        let expected: Vec<u32> = said[from..].iter().map(|data| hash(data)).collect();
        assert_heard(&browser, &name, &expected, has_end);
    }
}

/// What is published, in order.
struct Story<'a> {
    hub: &'a Hub,
    said: Vec<String>,
}

impl Story<'_> {
    fn connected(&self, count: usize) {
        wait_until(&format!("{count} are connected"), || {
            self.hub.connections() == count as u64
        });
    }

    fn say(&mut self, data: String) {
        self.hub.post(&json!({"data": data, "topic": "a"}));
        self.said.push(data);
    }

    /// What a model says, each token in a request of its own.
    fn tokens(&mut self, count: usize) {
        for _ in 0..count {
            let n = self.said.len();
            self.say(format!(
                r#"{{"object":"chat.completion.chunk","model":"m-large","choices":[{{"index":0,"delta":{{"content":" wörd{n}"}}}}]}}"#
            ));
        }
    }

    /// Publishes what cannot be made smaller until so many readers have fallen out of the window. What their sockets and
    /// they themselves hold is some megabytes.
    fn until_stuck(&mut self, readers: usize) {
        let mut random = fastrand::Rng::with_seed(7);
        let mut before = Vec::new();
        for _ in 0..600 {
            for _ in 0..4 {
                let text: String = (0..PIECE_BYTES).map(|_| random.alphanumeric()).collect();
                self.say(text);
            }
            let now = self.places();
            // Who is far behind and has got nothing since the last look.
            let stuck = now.iter().filter(|place| {
                (self.said.len() - place.1) * PIECE_BYTES > 2 * WINDOW_BYTES
                    && before.contains(*place)
            });
            if stuck.count() >= readers {
                return;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{before:?} of {} were delivered", self.said.len());
    }

    /// Which connection has got everything up to which event.
    fn places(&self) -> Vec<(String, usize)> {
        let list = self.hub.get("/events/connections?limit=100");
        let place = |connection: &serde_json::Value| {
            let text = |name: &str| connection[name].as_str().unwrap().to_owned();
            let offset = text("last_event_id");
            let offset = offset.rsplit_once('-').unwrap().1.parse().unwrap();
            (text("connection_id"), offset)
        };
        list["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(place)
            .collect()
    }

    fn until_all_is_read(&self, readers: usize) {
        wait_until("all is read", || {
            let places = self.places();
            assert_eq!(places.len(), readers, "a reader has left");
            places.iter().all(|place| place.1 == self.said.len())
        });
    }
}

/// FNV-1a over UTF-16, as the page has it.
fn hash(text: &str) -> u32 {
    text.encode_utf16().fold(2_166_136_261, |hash, unit| {
        (hash ^ u32::from(unit)).wrapping_mul(16_777_619)
    })
}

const WINDOW_BYTES: usize = 256 << 10;
const PIECE_BYTES: usize = 16 << 10;
