//! Every route of the hub, tried with `fetch`, forms, beacons, frames, images, scripts, `EventSource` and `WebSocket` from pages of
//! several origins in a real browser. The routes are those that the hub lists itself, so a new one cannot be forgotten. What
//! the browser sends is seen on its way, so nothing counts as refused that the hub was not asked for.

mod around;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};

use self::around::{Around, Sent};
use crate::browser;
use crate::hub::{Hub, wait_until};

/// Whose pages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// An origin that the hub does not list.
    Foreign,
    /// A name of an attacker's that leads to the hub.
    Rebound,
    Allowed,
}

/// A page and its way to the hub. `A` is the port of the allowed origin, `B` of another one, `H` of the hub.
#[derive(Clone, Copy, Debug)]
struct Page {
    of: Of,
    url: &'static str,
    hub: &'static str,
}

const PAGES: [Page; 6] = [
    // The same site, as sites have no ports: all of the visitor's cookies go along.
    Page {
        of: Of::Foreign,
        url: "http://127.0.0.1:B/page",
        hub: "http://127.0.0.1:H",
    },
    // Another site: those of `SameSite=None` go along.
    Page {
        of: Of::Foreign,
        url: "http://evil.test:B/page",
        hub: "http://127.0.0.1:H",
    },
    // From the server of the allowed origin, and yet of no origin.
    Page {
        of: Of::Foreign,
        url: "http://127.0.0.1:A/page?sandbox",
        hub: "http://127.0.0.1:H",
    },
    // A neighbour of a hub that has a name and no certificate: to that one a browser sends no `Sec-Fetch-Site`.
    Page {
        of: Of::Foreign,
        url: "http://app.hub.test:B/page",
        hub: "http://hub.test:H",
    },
    Page {
        of: Of::Rebound,
        url: "http://evil.test:B/page",
        hub: "http://evil.test:H",
    },
    // To the browser the hub is the page's own origin.
    Page {
        of: Of::Rebound,
        url: "http://evil.test:H/page",
        hub: "http://evil.test:H",
    },
];

const ALLOWED: Page = Page {
    of: Of::Allowed,
    url: "http://127.0.0.1:A/page",
    hub: "http://127.0.0.1:H",
};

/// Ways with a method of their own, which is GET.
const WAYS_TO_GET: [&str; 5] = ["frame", "image", "script", "EventSource", "WebSocket"];
/// And POST.
const WAYS_TO_POST: [&str; 3] = ["form of plain text", "form", "beacon"];
/// Ways with the method of the route.
const FETCHES: [&str; 6] = [
    "fetch with cookies",
    "fetch without cookies",
    "fetch with JSON",
    "fetch with a token",
    "no-cors with cookies",
    "no-cors without cookies",
];
/// All that a foreign page may see.
const NOTHING: [&str; 5] = ["opaque", "error", "hidden", "sent", "silence"];

/// One request that would succeed if it came from the right page.
#[derive(Clone, Debug)]
struct Target {
    method: String,
    path: String,
    body: String,
}

/// One thing that a page tried.
struct Tried<'a> {
    target: &'a Target,
    way: &'static str,
    saw: String,
    /// The requests that reached the hub for it.
    sent: Vec<Sent>,
}

/// Paths whose answer is the same for everyone.
const OPEN: [&str; 5] = ["/", "/livez", "/readyz", "/console", "/sse-test"];

impl Target {
    fn is_get(&self) -> bool {
        self.method == "GET"
    }

    /// Whether a cookie changes nothing here.
    fn is_open(&self) -> bool {
        let path = self.path.split('?').next();
        path.is_some_and(|path| OPEN.contains(&path))
    }

    /// The same under a new name, where it is a stream: a GET that changes something.
    fn durable(&self) -> Self {
        Self {
            path: format!("{}?durable=forged", self.path),
            ..self.clone()
        }
    }
}

/// The hub, and everything around it.
struct Trial {
    around: Arc<Around>,
    hub: Hub,
    /// One that lets every page open a WebSocket.
    open: Hub,
    has_login: bool,
    allowed: u16,
    other: u16,
    relay: u16,
    reader: BufReader<TcpStream>,
    connection: String,
}

impl Trial {
    fn new(has_login: bool) -> Self {
        let around = Arc::<Around>::default();
        let allowed = around::serve(&around);
        let other = around::serve(&around);
        let origin = format!("http://127.0.0.1:{allowed}");
        let asked = format!("{origin}/access");
        let mut flags = vec!["--allowed-origin", &origin, "--allowed-host", "hub.test"];
        flags.extend(["--heartbeat-form", "comment"]);
        if has_login {
            flags.extend([
                "--auth-url",
                &asked,
                "--auth-cookie",
                "lax",
                "--auth-cookie",
                "any",
            ]);
        }
        let hub = Hub::start(&flags);
        let relay = around::relay(&around, hub.address());
        let (reader, connection) = read(&hub);
        Self {
            around,
            hub,
            open: Hub::start(&["--allowed-origin", "*"]),
            has_login,
            allowed,
            other,
            relay,
            reader,
            connection,
        }
    }

    /// Asks as somebody who may do everything.
    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut socket = TcpStream::connect(self.hub.address()).unwrap();
        socket
            .write_all(request(method, path, "Connection: close\r\n", body).as_bytes())
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn connections(&self) -> u64 {
        let stats = self.ask("GET", "/events/stats", "");
        stats["active_connections"].as_u64().unwrap()
    }

    /// What a page could have changed.
    fn state(&self) -> Value {
        let list = |path, list, fields: &[&str]| {
            let answer = self.ask("GET", path, "");
            let of_one = |one: &Value| fields.iter().map(|it| one[it].clone()).collect::<Value>();
            answer[list]
                .as_array()
                .unwrap()
                .iter()
                .map(of_one)
                .collect::<Value>()
        };
        json!({
            "head": self.ask("GET", "/events/stats", "")["log"]["head"],
            "events": self.ask("GET", "/events/poll?topic=kept&last_event_id=earliest", "")["events"],
            "jobs": self.ask("GET", "/jobs", ""),
            "named": list("/events/subscriptions", "subscriptions", &["name", "position", "connection_id"]),
            "connections": list(
                "/events/connections",
                "connections",
                &["connection_id", "user_id", "topics", "subscriptions"],
            ),
        })
    }

    /// Every route as the hub lists it, with what it takes to succeed.
    fn targets(&self) -> Vec<Target> {
        let mut socket = TcpStream::connect(self.hub.address()).unwrap();
        socket
            .write_all(request("GET", "/", "Connection: close\r\n", "").as_bytes())
            .unwrap();
        let mut index = String::new();
        socket.read_to_string(&mut index).unwrap();
        let rows = index.split_once("\r\n\r\n").unwrap().1.lines();
        let mut routes: Vec<_> = rows
            .filter_map(|line| line.trim().split_once(' '))
            // Files that any page may load, as from any other site.
            .filter(|(_, path)| path.starts_with('/') && !path.contains("{*"))
            .collect();
        assert!(routes.len() > 35, "{index}");
        routes.push(("GET", "/"));
        // What ends something comes last, and whoever's rights are taken away does nothing after that.
        routes.sort_by_key(|(method, path)| (path.contains("revocations"), *method == "DELETE"));
        let head = self.state()["head"].take();
        routes
            .into_iter()
            .map(|(method, path)| self.target(method, path, &head))
            .collect()
    }

    fn target(&self, method: &str, path: &str, head: &Value) -> Target {
        let last = path.rsplit('/').next().unwrap();
        let job = format!("of-{last}");
        let id = match path.split('/').nth(2) {
            Some("connections") => &self.connection,
            Some("subscriptions") => "mine",
            _ => &job,
        };
        // A value with a `=` can be what a form sends as plain text.
        let body = match (method, path) {
            ("POST", "/jobs") => json!({"title": "forged=forged"}),
            ("POST", path) if path.contains("revocations") => json!({"user": "ann"}),
            ("POST", path) if path.contains("tickets") => json!({"topics": ["forged=forged"]}),
            ("POST", path) if path.ends_with("/ack") || path.ends_with("/reset") => {
                json!({"position": head})
            }
            ("POST", "/events/subscriptions" | "/sse/subscribe") => {
                json!({"connection_id": self.connection, "topics": ["forged=forged"]})
            }
            ("POST", path) if path.starts_with("/jobs/") => json!({"message": "forged=forged"}),
            _ => json!({"topic": "forged", "data": "forged=forged"}),
        };
        let mut path = path.replace("{id}", id);
        if (method, &*path) == ("DELETE", "/events") {
            path.push_str("?topic=kept");
        }
        if path.starts_with("/jobs/") && method == "GET" {
            path = "/jobs/of-progress".to_owned();
        }
        Target {
            method: method.to_owned(),
            path,
            body: body.to_string(),
        }
    }

    /// Shows a page in a browser whose user has logged in, and has it try.
    fn show<'a>(
        &self,
        page: Page,
        tries: Vec<(&'a Target, &'static str)>,
        at_once: usize,
    ) -> Vec<Tried<'a>> {
        let named = |url: &str| {
            url.replace(":A", &format!(":{}", self.allowed))
                .replace(":B", &format!(":{}", self.other))
                .replace(":H", &format!(":{}", self.relay))
        };
        let listed: Vec<Value> = tries
            .iter()
            .map(|(target, way)| {
                json!({"method": target.method, "path": target.path, "body": target.body, "way": way})
            })
            .collect();
        let plan = json!({
            "hub": named(page.hub),
            "open": format!("{}/ws", self.open.events()),
            "told": format!("http://127.0.0.1:{}/told", self.allowed),
            "at_once": at_once,
            "tries": listed,
        });
        *self.around.page.lock().unwrap() =
            include_str!("page.html").replace("PLAN", &plan.to_string());
        self.around.sent.lock().unwrap().clear();
        let host = named(page.hub).rsplit_once(':').unwrap().0.to_owned();
        let login = format!("{host}:{}/login?{}", self.allowed, named(page.url));
        let shown = browser::show(&login);
        let mut told = None;
        wait_until(&format!("{page:?} has tried everything"), || {
            told = self.around.told.lock().unwrap().take();
            told.is_some()
        });
        let for_try = |n: usize| -> Vec<Sent> {
            let marks = [format!("?_={n} "), format!("&_={n} ")];
            let is_for = |it: &&Sent| marks.iter().any(|mark| it.line.contains(mark));
            let sent = self.around.sent.lock().unwrap();
            sent.iter().filter(is_for).cloned().collect()
        };
        // No page is told when its beacons are there.
        let is_beacon = |(_, way): &(_, &str)| *way == "beacon";
        let beacons: Vec<usize> = (0..tries.len()).filter(|n| is_beacon(&tries[*n])).collect();
        wait_until("the beacons are there", || {
            beacons.iter().all(|n| !for_try(*n).is_empty())
        });
        wait_until("the hub has answered everything", || {
            let sent = self.around.sent.lock().unwrap();
            sent.iter().all(|it| it.status.is_some())
        });
        drop(shown);
        let tried = tries.into_iter().zip(told.unwrap()).enumerate();
        tried
            .map(|(n, ((target, way), saw))| Tried {
                target,
                way,
                saw,
                sent: for_try(n),
            })
            .collect()
    }
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ann\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// Opens a stream under a name, and says which connection it is.
fn read(hub: &Hub) -> (BufReader<TcpStream>, String) {
    let mut socket = TcpStream::connect(hub.address()).unwrap();
    socket
        .write_all(request("GET", "/events?topic=mine&durable=mine", "", "").as_bytes())
        .unwrap();
    let mut reader = BufReader::new(socket);
    let connected: Value = serde_json::from_str(&next_data(&mut reader)).unwrap();
    let id = connected["connection_id"].as_str().unwrap().to_owned();
    (reader, id)
}

fn next_data(reader: &mut BufReader<TcpStream>) -> String {
    let mut lines = reader.lines().map_while(Result::ok);
    let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
    data.expect("the stream goes on")
}

/// Everything that a foreign page tries.
fn attacks<'a>(targets: &'a [Target], durable: &'a [Target]) -> Vec<(&'a Target, &'static str)> {
    let mut tries = Vec::new();
    for target in targets {
        let own = match target.is_get() {
            true => &WAYS_TO_GET[..],
            false => &WAYS_TO_POST[..],
        };
        tries.extend(FETCHES.iter().chain(own).map(|way| (target, *way)));
    }
    for target in durable {
        let ways = ["no-cors with cookies", "frame", "image", "EventSource"];
        tries.extend(ways.map(|way| (target, way)));
    }
    tries
}

/// A try of a foreign page: what it saw, and what the hub answered to everything that reached it.
fn check(page: Page, has_login: bool, tried: &Tried<'_>) {
    let Tried {
        target,
        way,
        saw,
        sent,
    } = tried;
    let cell = format!("{page:?}, {way}, {target:?}: saw {saw:?}, {sent:?}");
    // No browser even asks for this.
    let is_impossible = way.starts_with("no-cors") && target.method == "DELETE";
    assert_eq!(sent.is_empty(), is_impossible, "{cell}");
    let is_preflight = |it: &Sent| it.line.starts_with("OPTIONS ");
    for it in sent.iter().filter(|it| !is_preflight(it)) {
        let is_expected = !way.contains("without cookies");
        assert_eq!(it.cookie.is_some(), is_expected, "{cell}");
    }
    if page.of == Of::Rebound {
        assert!(sent.iter().all(|it| it.status == Some(421)), "{cell}");
        let is_told = saw.starts_with("read ") && saw.contains("\"status\":421");
        assert!(is_told || NOTHING.contains(&&**saw), "{cell}");
        return;
    }
    assert!(NOTHING.contains(&&**saw), "{cell}");
    // What is not allowed beforehand does not come.
    let asks_first = sent.iter().any(is_preflight);
    assert!(!asks_first || sent.len() == 1, "{cell}");
    for it in sent.iter().filter(|it| !is_preflight(it)) {
        let status = it.status.unwrap();
        if !it.line.starts_with("GET ") {
            // A method that is not there is refused to everybody.
            assert!([403, 405].contains(&status), "{cell}");
        } else if it.origin.is_some() || it.cookie.is_some() && has_login && !target.is_open() {
            assert_eq!(status, 403, "{cell}");
        }
    }
}

/// The page of the allowed origin can do all that the others could not.
fn check_allowed(trial: &Trial, targets: &[Target]) {
    let ways = match trial.has_login {
        true => ["fetch with cookies", "EventSource", "WebSocket"],
        // There no page is told that it may send any.
        false => [
            "fetch without cookies",
            "EventSource without cookies",
            "WebSocket",
        ],
    };
    let of_target = |target: &Target| match target.is_get() {
        true => ways.to_vec(),
        false => ways[..1].to_vec(),
    };
    let tries = targets
        .iter()
        .flat_map(|target| of_target(target).into_iter().map(move |way| (target, way)));
    let tried = trial.show(ALLOWED, tries.collect(), 1);
    let mut streams = 0;
    let mut websockets = 0;
    for (n, one) in tried.iter().enumerate() {
        let cell = format!("{}, {:?}: {}", one.way, one.target, one.saw);
        if one.way != ways[0] {
            continue;
        }
        let answer = one.saw.strip_prefix("read ").expect(&cell);
        let status: u16 = answer[..3].parse().unwrap();
        let is_stream = answer.contains("event: connected");
        let is_websocket = status == 426;
        // An open hub has no tickets.
        let has_none = status == 400 && answer.contains("nobody needs a ticket");
        let is_good = (200..300).contains(&status) || is_websocket;
        assert!(is_good || !trial.has_login && has_none, "{cell}");
        if one.target.is_get() {
            assert_eq!(tried[n + 1].saw.starts_with("open "), is_stream, "{cell}");
            assert_eq!(
                tried[n + 2].saw.starts_with("open "),
                is_websocket,
                "{cell}"
            );
            streams += usize::from(is_stream);
            websockets += usize::from(is_websocket);
        }
    }
    assert!(streams >= 4 && websockets >= 1, "{streams} {websockets}");
}

fn no_foreign_page_gets_anywhere(has_login: bool) {
    let mut trial = Trial::new(has_login);
    for job in ["progress", "complete", "error", "cancel"] {
        let job = json!({"job_id": format!("of-{job}")});
        trial.ask("POST", "/jobs", &job.to_string());
    }
    trial.ask("POST", "/events", r#"{"topic": "kept", "data": "kept"}"#);
    let before = trial.state();
    assert_eq!(before["events"][0]["data"], "kept");
    let targets = trial.targets();
    let gets = targets.iter().filter(|it| it.is_get());
    let durable: Vec<Target> = gets.map(Target::durable).collect();
    for page in PAGES {
        for tried in trial.show(page, attacks(&targets, &durable), 6) {
            check(page, has_login, &tried);
        }
        // An open hub may have opened a stream that the page could not read.
        wait_until("the reader is alone", || trial.connections() == 1);
        assert_eq!(trial.state(), before, "{page:?}");
    }
    let asked = *trial.around.cookies_asked.lock().unwrap();
    assert_eq!(asked, 0, "the application was asked about a cookie");
    trial.ask(
        "POST",
        "/events",
        r#"{"topic": "mine", "data": "still here"}"#,
    );
    assert_eq!(next_data(&mut trial.reader), "still here");
    check_allowed(&trial, &targets);
}

#[test]
fn no_foreign_page_in_a_browser_reads_or_changes_anything_with_its_visitors_cookies() {
    no_foreign_page_gets_anywhere(true);
}

#[test]
fn no_foreign_page_in_a_browser_reads_or_changes_anything_on_an_open_hub() {
    no_foreign_page_gets_anywhere(false);
}
