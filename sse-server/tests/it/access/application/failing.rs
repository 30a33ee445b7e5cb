//! An application that does not say clearly who somebody is: nobody comes in.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use super::{App, bearer, good, poll, status, users};
use crate::client::eventually;
use crate::secure::Files;
use crate::server::{Server, command};

#[test]
fn without_a_clear_answer_nobody_comes_in_and_later_everybody() {
    let app = App::start(|asked| match asked.header("authorization").unwrap() {
        "Bearer slow" => {
            std::thread::sleep(Duration::from_secs(3));
            users(asked)
        }
        "Bearer huge" => good(&format!(
            r#"{{"user": "ann", "x": "{}"}}"#,
            "x".repeat(64 << 10)
        )),
        "Bearer endless" => {
            let mut answer =
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{\"x\": \"".to_vec();
            answer.resize(200 << 10, b'x');
            answer
        }
        "Bearer headers" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
            answer.resize(200 << 10, b'x');
            answer
        }
        "Bearer page" => good("<!doctype html><title>Log in</title>"),
        "Bearer list" => good("[\"ann\"]"),
        "Bearer grants" => good(r#"{"user": "ann", "grants": {"write": ["*"]}}"#),
        "Bearer garbage" => b"\x16\x03\x01 what?\r\n\r\n".to_vec(),
        "Bearer cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}".to_vec(),
        "Bearer elsewhere" => {
            let host = asked.header("host").unwrap();
            format!(
                "HTTP/1.1 302 Found\r\nLocation: http://{host}/login\r\nContent-Length: 0\r\n\r\n"
            )
            .into()
        }
        "Bearer empty" => status("204 No Content"),
        "Bearer missing" => status("404 Not Found"),
        "Bearer broken" => status("500 Internal Server Error"),
        _ => users(asked),
    });
    let flags = [
        "--auth-timeout",
        "1s",
        "--anonymous",
        r#"{"subscribe": ["*"], "publish": ["*"]}"#,
    ];
    let hub = app.hub(&flags);
    let wrong = [
        "slow",
        "huge",
        "endless",
        "headers",
        "page",
        "list",
        "grants",
        "garbage",
        "cut",
        "elsewhere",
        "empty",
        "missing",
        "broken",
    ];
    for token in wrong {
        let shown = bearer(token);
        let headers = [("Authorization", shown.as_str())];
        let reply = poll(&hub, &headers);
        let problem = reply.problem(503);
        assert_eq!(problem["code"], "authentication", "{token}: {problem}");
        assert!(reply.header("retry-after").is_some(), "{token}");
        assert!(hub.try_open("/events", &headers).is_err(), "{token}");
        poll(&hub, &[("Authorization", &bearer("ann"))]).ok();
    }
    let followed = app.asked().iter().any(|it| it.line.contains("/login"));
    assert!(!followed, "a redirect was followed");
    let log = hub.stderr();
    assert!(log.contains("does not say who callers are"), "{log}");
    assert!(!log.contains("Bearer"), "{log}");

    // It is down, and comes back at the same place, whose port no other test takes meanwhile.
    let gone = TcpListener::bind("127.0.0.77:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let hub = Server::with(&["--auth-url", &format!("http://{address}/")]);
    let ann = bearer("ann");
    let headers = [("Authorization", ann.as_str())];
    poll(&hub, &headers).problem(503);
    let browser = [
        ("Accept", "text/event-stream"),
        ("User-Agent", "Mozilla/5.0"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Cookie", "sid=ann"),
    ];
    let _app = App::at(address, users);
    poll(&hub, &headers).ok();

    // An EventSource hears it in a stream, and comes back.
    let hub = Server::with(&["--auth-url", "http://127.0.0.1:1/", "--auth-cookie", "sid"]);
    let reply = hub.request("GET", "/events", &browser, b"");
    assert_eq!(reply.status, 200);
    assert!(
        reply.text().contains("event: unavailable"),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains("retry: "), "{}", reply.text());
}

/// An application that let go of an idle connection just then made the hub answer 503.
#[test]
fn a_kept_connection_that_ends_is_tried_once_more() {
    let count = Mutex::new(0);
    let app = App::start(move |asked| {
        let mut count = count.lock().unwrap();
        *count += 1;
        match *count {
            2 | 4.. => Vec::new(),
            _ => users(asked),
        }
    });
    let hub = app.hub(&["--auth-cache", "0s"]);
    let ask = || poll(&hub, &[("Authorization", &bearer("ann"))]);
    ask().ok();
    ask().ok();
    assert_eq!(app.asked().len(), 3);
    ask().problem(503);
    assert_eq!(
        app.asked().len(),
        5,
        "it is tried once more, and not for ever"
    );
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_no_application() {
    let files = Files::new();
    // A hub speaks TLS well enough: what it answers is 404, and so no answer.
    let certificate = files.certificate();
    let application = Server::with(&[
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        files.key().to_str().unwrap(),
        "--log",
        "debug",
    ]);
    let hub = |trusted: bool| {
        let mut command = command();
        let url = format!("https://localhost:{}/nothing", application.address.port());
        command.args(["--listen", "127.0.0.1:0", "--ephemeral", "--auth-url", &url]);
        if trusted {
            command.env("SSL_CERT_FILE", &certificate);
        }
        Server::spawn(command)
    };
    for (trusted, said) in [(false, "certificate"), (true, "404")] {
        let hub = hub(trusted);
        poll(&hub, &[("Authorization", "Bearer ann")]).problem(503);
        eventually("the log says why", || {
            hub.stderr().contains(said).then_some(())
        });
    }
}
