//! The application is asked who callers are: what it is shown, what its answers do, and what happens without one.

mod failing;
mod matrix;
mod renewing;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{secret_file, token};
use crate::client::{Wire, eventually};
use crate::server::{Server, command, folder};

/// A request to the application.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) line: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| value.as_str())
    }
}

/// An application that answers as its function says, and remembers what it was asked.
pub(super) struct App {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl App {
    pub(super) fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer)
    }

    fn at(address: SocketAddr, answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answer = Arc::new(answer);
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                std::thread::spawn(move || serve(socket, &heard, &*answer));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}/authenticate?from=hub", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A hub that asks it.
    fn hub(&self, flags: &[&str]) -> Server {
        let url = self.url();
        let mut all = vec!["--auth-url", &url];
        all.extend(flags);
        Server::with(&all)
    }
}

fn serve(mut socket: TcpStream, heard: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Vec<u8>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break end;
            }
            let mut chunk = [0; 4096];
            match socket.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(n) => buffer.extend_from_slice(&chunk[..n]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let asked = Asked {
            line: lines.next().unwrap().to_owned(),
            headers: lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
        };
        heard.lock().unwrap().push(asked.clone());
        let answer = answer(&asked);
        // Nothing to say is the end of the connection.
        if answer.is_empty() || socket.write_all(&answer).is_err() {
            return;
        }
    }
}

pub(super) fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into()
}

pub(super) fn good(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn poll(hub: &Server, headers: &[(&str, &str)]) -> crate::client::Reply {
    hub.request("GET", "/events/poll?topic=news", headers, b"")
}

/// The users `ann` and `bob` by token or cookie; everyone else is not known.
fn users(asked: &Asked) -> Vec<u8> {
    let shown = asked.header("authorization").or(asked.header("cookie"));
    match shown {
        Some("Bearer ann" | "sid=ann") => good(
            r#"{"user": "ann", "session": "s1", "grants": {"subscribe": ["news"], "publish": ["news"]}, "theme": "dark"}"#,
        ),
        Some("Bearer bob") => good("{\"user\": \"b/b\"}"),
        Some("Bearer banned") => status("403 Forbidden"),
        _ => status("401 Unauthorized"),
    }
}

#[test]
fn its_answer_says_who_a_caller_is_and_what_it_may_do() {
    let app = App::start(users);
    let hub = app.hub(&["--anonymous", r#"{"subscribe": ["open"]}"#]);
    let ann = bearer("ann");
    let headers = [("Authorization", ann.as_str())];
    let mut stream = hub.open_with("/events", &headers);
    for topic in ["news", "user/ann", "session/s1"] {
        let published = hub.request(
            "POST",
            "/events",
            &[headers[0], ("Content-Type", "application/json")],
            json!({"topic": topic, "data": topic})
                .to_string()
                .as_bytes(),
        );
        match topic {
            "news" => {
                published.ok();
            }
            _ => {
                published.problem(403);
            }
        }
    }
    assert_eq!(stream.next().data, "news");
    assert!(hub.try_open("/events?topic=secret", &headers).is_err());
    // What it does not grant, nobody has; what everyone has, it need not grant.
    let bob = bearer("bob");
    poll(&hub, &[("Authorization", &bob)]).problem(403);
    hub.open_with(
        "/events?topic=open&topic=user/b%252Fb",
        &[("Authorization", &bob)],
    );
    for (token, expected) in [("banned", 403), ("nobody", 401)] {
        let token = bearer(token);
        poll(&hub, &[("Authorization", &token)]).problem(expected);
        let reply = hub.request(
            "GET",
            "/events/poll?topic=open",
            &[("Authorization", &token)],
            b"",
        );
        reply.problem(expected);
        assert_eq!(reply.header("www-authenticate").is_some(), expected == 401);
    }
    // Whoever shows nothing is not asked about.
    let before = app.asked().len();
    hub.get("/events/poll?topic=open").ok();
    poll(&hub, &[]).problem(401);
    poll(&hub, &[("Cookie", "sid=ann")]).problem(401);
    poll(&hub, &[("Authorization", "Basic YTpi")]).problem(401);
    assert_eq!(app.asked().len(), before);
}

#[test]
fn it_is_shown_what_decides_and_no_other_cookie_and_no_ticket() {
    let app = App::start(users);
    let hub = app.hub(&["--auth-cookie", "sid", "--auth-cookie", "role"]);
    let cookies = ("Cookie", "a=1; sid=ann; sid2=2; b=3");
    hub.open_with("/events?topic=news", &[cookies]);
    let asked = app.asked();
    assert_eq!(asked[0].line, "GET /authenticate?from=hub HTTP/1.1");
    for (name, expected) in [
        ("cookie", Some("sid=ann")),
        ("authorization", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-original-method", Some("GET")),
        ("x-original-uri", Some("/events?topic=news")),
    ] {
        assert_eq!(asked[0].header(name), expected, "{name}");
    }
    let ann = bearer("ann");
    let both = [("Authorization", ann.as_str()), ("Cookie", "x=1; role=r")];
    poll(&hub, &both).ok();
    let asked = app.asked();
    assert_eq!(asked[1].header("authorization"), Some("Bearer ann"));
    assert_eq!(asked[1].header("cookie"), Some("role=r"));
    poll(&hub, &[("Cookie", "a=1; b=2")]).problem(401);
    // What is open to all needs no answer.
    for path in ["/", "/livez", "/readyz"] {
        let reply = hub.request("GET", path, &[("Cookie", "sid=new")], b"");
        assert_eq!(reply.status, 200);
    }
    // A ticket says who its caller is, whatever cookies come with it.
    let made = hub
        .request("POST", "/events/tickets", &[cookies], b"{}")
        .ok();
    let ticket = made["ticket"].as_str().unwrap();
    let path = format!("/events?topic=news&ticket={ticket}");
    let stream = hub.open_with(&path, &[("Cookie", "sid=another")]);
    let path = format!("/events/connections/{}", stream.connection_id());
    let shown = hub.request("GET", &path, &[cookies], b"").ok();
    assert_eq!(shown["user_id"], "ann");
    assert_eq!(app.asked().len(), 2);
}

#[test]
fn streams_and_polls_tell_whose_they_are_and_no_name() {
    let app = App::start(|asked| match asked.header("cookie") {
        Some("sid=1") => good(r#"{"user": "ann", "session": "secret"}"#),
        Some("sid=2") => good(r#"{"user": "ann", "session": "other"}"#),
        Some("sid=3") => good(r#"{"user": "anns", "session": "ecret"}"#),
        Some("sid=4") => good(r#"{"user": "ann"}"#),
        Some("sid=5") => good(r#"{"session": "ann"}"#),
        _ => good("{}"),
    });
    let hub = app.hub(&[
        "--auth-cookie",
        "sid",
        "--anonymous",
        r#"{"subscribe": ["news"]}"#,
    ]);
    let told = |cookie: &str| {
        let polled = poll(&hub, &[("Cookie", cookie)]).ok();
        let stream = hub.open_with("/events?topic=news", &[("Cookie", cookie)]);
        assert_eq!(stream.connected["identity"], polled["identity"]);
        polled["identity"].as_str().map(str::to_owned)
    };
    let mut all: Vec<String> = (1..=5)
        .map(|n| told(&format!("sid={n}")).unwrap())
        .collect();
    assert_eq!(told("sid=1").unwrap(), all[0]);
    assert!(all.iter().all(|identity| identity.len() == 32));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
    assert_eq!((told("sid=6"), told("a=1")), (None, None), "nobody's");
}

#[test]
fn tokens_that_the_hub_checks_itself_do_not_go_there() {
    let app = App::start(|_| good(r#"{"user": "app"}"#));
    let folder = folder();
    let secret = secret_file(&folder);
    let tokens = folder.path().join("tokens.json");
    let hub = app.hub(&[
        "--jwt-secret",
        secret.to_str().unwrap(),
        "--token-file",
        tokens.to_str().unwrap(),
        "--authenticated",
        r#"{"subscribe": ["news"]}"#,
    ]);
    let signed = token(json!({"sub": "ann"}));
    poll(&hub, &[("Authorization", &bearer(&signed))]).ok();
    for wrong in ["a.b.c", "sse_0123_abc", &format!("{signed}x")] {
        poll(&hub, &[("Authorization", &bearer(wrong))]).problem(401);
    }
    assert_eq!(app.asked().len(), 0);
    for its_own in ["opaque", "a.b", "a.b.c.d"] {
        poll(&hub, &[("Authorization", &bearer(its_own))]).ok();
    }
    assert_eq!(app.asked().len(), 3);
    // Without keys for them, tokens that look like a JWT are the application's too; those of the hub never are.
    let hub = app.hub(&["--authenticated", r#"{"subscribe": ["news"]}"#]);
    poll(&hub, &[("Authorization", &bearer("a.b.c"))]).ok();
    poll(&hub, &[("Authorization", &bearer("sse_0123_abc"))]).problem(401);
    assert_eq!(app.asked().len(), 4);
}

#[test]
fn answers_are_kept_for_the_same_question_and_not_for_another() {
    let app = App::start(users);
    let hub = app.hub(&["--auth-cookie", "sid"]);
    let ask = |token: &str| poll(&hub, &[("Authorization", &bearer(token))]).status;
    for _ in 0..3 {
        assert_eq!((ask("ann"), ask("banned"), ask("nobody")), (200, 403, 401));
    }
    assert_eq!(app.asked().len(), 3, "refusals are kept too");
    let ann = bearer("ann");
    let with_cookie = [("Authorization", ann.as_str()), ("Cookie", "sid=x")];
    poll(&hub, &with_cookie).ok();
    poll(&hub, &with_cookie).ok();
    assert_eq!(app.asked().len(), 4);
    let from = "127.0.0.2".parse().unwrap();
    let other = |hub: &Server| {
        let mut wire = Wire::connect_from(hub.address, from, None).unwrap();
        let headers = [("Authorization", ann.as_str())];
        wire.write(&hub.bytes("GET", "/events/poll?topic=news", &headers, Some(b"")));
        wire.reply(false).unwrap().ok()
    };
    other(&hub);
    other(&hub);
    let asked = app.asked();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[4].header("x-forwarded-for"), Some("127.0.0.2"));
    // Nothing is kept where that was said.
    let hub = app.hub(&["--auth-cache", "0s"]);
    for token in ["ann", "ann", "nobody", "nobody"] {
        poll(&hub, &[("Authorization", &bearer(token))]);
    }
    assert_eq!(app.asked().len(), 9);
}

#[test]
fn a_kept_answer_is_asked_for_again_when_its_time_is_over() {
    let app = App::start(|asked| match asked.header("authorization") {
        Some("Bearer short") => good(r#"{"user": "ann", "expires_in": 1}"#),
        Some("Bearer long") => good(r#"{"user": "ann", "expires_in": 3600}"#),
        _ => status("401 Unauthorized"),
    });
    let hub = app.hub(&["--authenticated", r#"{"subscribe": ["news"]}"#]);
    let asked_for = |token: &str| {
        let shown = bearer(token);
        poll(&hub, &[("Authorization", &shown)]);
        let asked = app.asked();
        let of = asked
            .iter()
            .filter(|it| it.header("authorization") == Some(&shown));
        of.count()
    };
    asked_for("long");
    for over in ["short", "refused"] {
        let begun = Instant::now();
        assert_eq!(asked_for(over), 1);
        eventually("it is asked again", || (asked_for(over) > 1).then_some(()));
        let kept = begun.elapsed();
        assert!(kept >= Duration::from_millis(900), "{over}: {kept:?}");
    }
    assert_eq!(asked_for("long"), 1);
}

#[test]
fn two_hundred_requests_at_once_ask_once() {
    let app = App::start(|_| {
        std::thread::sleep(Duration::from_millis(500));
        good(r#"{"user": "ann", "grants": {"subscribe": ["news"]}}"#)
    });
    let hub = app.hub(&["--auth-cache", "0s", "--auth-timeout", "60s"]);
    let ann = bearer("ann");
    // All are there before the first is sent.
    let mut wires: Vec<Wire> = (0..200).map(|_| Wire::connect(hub.address)).collect();
    let request = hub.bytes(
        "GET",
        "/events/poll?topic=news",
        &[("Authorization", &ann)],
        Some(b""),
    );
    for wire in &mut wires {
        wire.write(&request);
    }
    for mut wire in wires {
        wire.reply(false).unwrap().ok();
    }
    assert_eq!(app.asked().len(), 1);
}

#[test]
fn different_questions_are_asked_sixty_four_at_once_and_the_others_wait_or_are_refused() {
    let at_once: Arc<Mutex<(usize, usize)>> = Arc::default();
    let counted = Arc::clone(&at_once);
    let app = App::start(move |_| {
        {
            let mut at_once = counted.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        std::thread::sleep(Duration::from_millis(700));
        counted.lock().unwrap().0 -= 1;
        good(r#"{"grants": {"subscribe": ["news"]}}"#)
    });
    let ask_all = |hub: &Server| {
        let mut wires: Vec<Wire> = (0..100).map(|_| Wire::connect(hub.address)).collect();
        for (n, wire) in wires.iter_mut().enumerate() {
            let shown = bearer(&format!("t{n}"));
            let headers = [("Authorization", shown.as_str())];
            wire.write(&hub.bytes("GET", "/events/poll?topic=news", &headers, Some(b"")));
        }
        let replies: Vec<u16> = wires
            .iter_mut()
            .map(|wire| wire.reply(false).unwrap().status)
            .collect();
        replies.iter().filter(|status| **status == 200).count()
    };
    assert_eq!(ask_all(&app.hub(&["--auth-timeout", "60s"])), 100);
    assert!(at_once.lock().unwrap().1 <= 64);
    assert_eq!(ask_all(&app.hub(&["--auth-timeout", "200ms"])), 0);
}

#[test]
fn a_stream_ends_with_the_session_and_goes_on_where_it_has_no_end() {
    // When it is asked again about the short one, it does not answer.
    let is_told = std::sync::atomic::AtomicBool::new(false);
    let app = App::start(move |asked| match asked.header("authorization").unwrap() {
        "Bearer short" if is_told.swap(true, std::sync::atomic::Ordering::Relaxed) => Vec::new(),
        "Bearer short" => good(r#"{"user": "ann", "expires_in": 1.5}"#),
        "Bearer over" => good(r#"{"user": "ann", "expires_in": 0}"#),
        _ => good(r#"{"user": "ann", "grants": {"publish": ["*"]}}"#),
    });
    let hub = app.hub(&["--authenticated", r#"{"subscribe": ["news"]}"#]);
    let open = |token: &str| hub.open_with("/events", &[("Authorization", &bearer(token))]);
    let (mut ends, mut renewed, mut stays) = (open("short"), open("short"), open("long"));
    let long = bearer("long");
    let headers = [("Authorization", long.as_str())];
    let path = format!("/events/connections/{}/token", renewed.connection_id());
    let answer = hub.request("POST", &path, &headers, b"").ok();
    assert_eq!(answer["expires_at"], Value::Null);
    let (events, _) = ends.rest();
    let last = events.last().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.json()["code"]),
        ("unavailable", &json!("expired"))
    );
    hub.request(
        "POST",
        "/events",
        &headers,
        br#"{"topic": "news", "data": "on"}"#,
    )
    .ok();
    assert_eq!(
        (stays.next().data, renewed.next().data),
        ("on".into(), "on".into())
    );
    poll(&hub, &[("Authorization", &bearer("over"))]).problem(401);
}

#[test]
fn a_cookie_counts_only_from_a_page_that_is_known_and_the_application_is_not_asked_before() {
    let app = App::start(users);
    let hub = app.hub(&[
        "--auth-cookie",
        "sid",
        "--allowed-origin",
        "https://app.example",
    ]);
    let own = format!("http://{}", hub.address);
    let own_page = format!("{own}/page");
    let event = br#"{"topic": "news", "data": 1}"#;
    let request = |method: &str, path: &str, origin: &[(&str, &str)]| {
        let mut headers = vec![("Cookie", "sid=ann"), ("Content-Type", "text/plain")];
        headers.extend(origin);
        let body: &[u8] = if method == "POST" { event } else { b"" };
        hub.request(method, path, &headers, body)
    };
    let changes = [
        ("POST", "/events"),
        ("POST", "/events/tickets"),
        ("DELETE", "/events/connections/x"),
    ];
    let reads = [
        ("GET", "/events"),
        ("GET", "/events/ws"),
        ("GET", "/events/poll?topic=news"),
    ];
    for foreign in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "https://app.example.evil.example")],
        &[
            ("Origin", "https://evil.example"),
            ("Sec-Fetch-Site", "same-origin"),
        ],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        // The same host with another scheme.
        &[("Origin", &own), ("Sec-Fetch-Site", "cross-site")],
        &[("Referer", "https://evil.example/")],
        // A page that lets its browser say nothing.
        &[("User-Agent", "Mozilla/5.0 (X11) Firefox/140.0")],
    ] {
        for (method, path) in changes.into_iter().chain(reads) {
            let reply = request(method, path, foreign);
            assert_eq!(reply.status, 403, "{method} {path} {foreign:?}");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(app.asked().len(), 0, "it was asked for a foreign page");
    for known in [
        &[
            ("Origin", "https://app.example"),
            ("Sec-Fetch-Site", "cross-site"),
        ][..],
        &[("Origin", "https://app.example")],
        &[("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", &own)],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Referer", &own_page)],
        &[],
    ] {
        request("POST", "/events", known).ok();
        let reply = request("GET", "/events/poll?topic=news", known);
        reply.ok();
        let is_listed = known.contains(&("Origin", "https://app.example"));
        let credentials = reply.header("access-control-allow-credentials");
        assert_eq!(credentials, is_listed.then_some("true"), "{known:?}");
        let mut headers = vec![("Cookie", "sid=ann")];
        headers.extend(known);
        assert!(
            hub.try_open("/events?topic=news", &headers).is_ok(),
            "{known:?}"
        );
    }
    // A token is not sent along unseen, but what a foreign page asks for is refused in any case.
    let ann = bearer("ann");
    let foreign = ("Origin", "https://evil.example");
    for cookie in ["other=1", "sid=ann"] {
        let headers = [("Authorization", &*ann), ("Cookie", cookie), foreign];
        poll(&hub, &headers).problem(403);
        poll(&hub, &headers[..2]).ok();
    }
    poll(&hub, &[("Authorization", &ann), foreign]).problem(403);

    // Where any origin may come, it may not with cookies.
    let hub = app.hub(&["--auth-cookie", "sid", "--allowed-origin", "*"]);
    let reply = poll(&hub, &[("Cookie", "sid=ann"), foreign]);
    reply.problem(403);
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    poll(&hub, &[("Authorization", &ann), foreign]).ok();
}

#[test]
fn settings_that_could_not_work_are_refused() {
    for (flags, said) in [
        (&["--auth-cookie", "sid"][..], "--auth-url"),
        (&["--auth-timeout", "1s"], "--auth-url"),
        (&["--auth-cache", "1s"], "--auth-url"),
        (&["--auth-url", "app.example"], "--auth-url"),
        (&["--auth-url", "ftp://app.example/"], "http://"),
        (&["--auth-url", "http://u:p@app.example/"], "user name"),
        (
            &["--auth-url", "http://a/", "--auth-cookie", "a=b"],
            "name of a cookie",
        ),
        (
            &["--auth-url", "http://a/", "--auth-timeout", "0s"],
            "--auth-timeout",
        ),
    ] {
        let output = command()
            .args(["--listen", "127.0.0.1:0", "--ephemeral"])
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(said),
            "{flags:?}: {text}"
        );
    }
}
