//! What is guarded before any body is read: the method, the host, the origin.

use crate::server::Server;

#[test]
fn a_method_that_is_not_there_is_answered_by_those_that_are() {
    let server = Server::start();
    let routes = routes(&server);
    for (_, path) in &routes {
        let mut expected: Vec<_> = routes
            .iter()
            .filter(|(_, other)| other == path)
            .map(|(method, _)| method.as_str())
            .collect();
        if expected.contains(&"GET") {
            expected.push("HEAD");
        }
        expected.push("OPTIONS");
        expected.sort_unstable();
        for wrong in ["PUT", "PATCH", "PROPFIND"] {
            let reply = server.request(wrong, path, &[], b"{}");
            reply.problem(405);
            let mut allow: Vec<_> = reply.header("allow").unwrap().split(", ").collect();
            allow.sort_unstable();
            assert_eq!(allow, expected, "{path}");
        }
        let options = server.request("OPTIONS", path, &[], b"");
        assert_eq!(options.status, 204);
        assert!(options.header("allow").unwrap().contains("OPTIONS"));
    }
}

#[test]
fn no_route_answers_to_a_name_that_nobody_configured() {
    let server = Server::with(&["--allowed-host", "hub.example"]);
    let head = server.head();
    let port = server.address.port();
    for (method, path) in routes(&server) {
        for host in [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("localhost.evil.example:{port}"),
        ] {
            let reply = server.request(&method, &path, &[("Host", &host)], b"{\"data\":1}");
            reply.problem(421);
        }
    }
    assert_eq!(server.head(), head);
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "hub.example".to_owned(),
        "HUB.example:80".to_owned(),
        "hub.example.".to_owned(),
        format!("localhost.:{port}"),
        "[::1]".to_owned(),
    ] {
        assert_eq!(
            server
                .request("GET", "/livez", &[("Host", &host)], b"")
                .status,
            200,
            "{host}"
        );
    }
    for host in [
        "",
        "a b",
        "evil.example, localhost",
        "me@localhost",
        "localhost:x",
    ] {
        let status = server
            .request("GET", "/livez", &[("Host", host)], b"")
            .status;
        assert!(status == 400 || status == 421, "{host:?}: {status}");
    }
    // The name in the request line is one too.
    let reply = server.request(
        "GET",
        "http://evil.example/livez",
        &[("Host", "evil.example")],
        b"",
    );
    assert_eq!(reply.status, 421);
}

#[test]
fn a_page_from_elsewhere_may_change_nothing_and_read_nothing() {
    let server = Server::with(&["--allowed-origin", "https://app.example"]);
    let connection = server.open("/events");
    let connection_path = format!("/events/connections/{}", connection.connection_id());
    let head = server.head();
    for foreign in [
        "https://evil.example",
        "null",
        "https://app.example.evil.example",
        "http://localhost:1",
    ] {
        for (method, path) in routes(&server) {
            if method == "GET" {
                continue;
            }
            let path = path.replace("/events/connections/x", &connection_path);
            let reply = server.request(&method, &path, &[("Origin", foreign)], b"{\"data\":1}");
            reply.problem(403);
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
        let reply = server.request("GET", "/health", &[("Origin", foreign)], b"");
        assert_eq!(reply.header("access-control-allow-origin"), None);
        let reply = server.request(
            "OPTIONS",
            "/events",
            &[
                ("Origin", foreign),
                ("Access-Control-Request-Method", "POST"),
            ],
            b"",
        );
        assert_eq!(reply.header("access-control-allow-origin"), None);
        assert_eq!(reply.header("access-control-allow-methods"), None);
    }
    assert_eq!(server.head(), head);
    assert_eq!(server.active(), 1, "a foreign page closed a connection");

    // The page that is on the list, and the hub's own.
    let known = [("Origin", "https://app.example")];
    let reply = server.request("POST", "/events", &known, b"{\"data\":1}");
    reply.ok();
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    // There are no cookies that it takes.
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    let reply = server.request("POST", "/events", &known, b"{");
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://app.example"),
        "errors can be read too"
    );
    let reply = server.request("OPTIONS", "/events", &known, b"");
    assert!(
        reply
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    assert!(
        reply
            .header("access-control-allow-headers")
            .unwrap()
            .contains("last-event-id")
    );
    let own = format!("http://{}", server.address);
    server
        .request("POST", "/events", &[("Origin", &own)], b"{\"data\":1}")
        .ok();
}

#[test]
fn a_host_may_be_allowed_with_a_port_or_with_all_below_it() {
    let server = Server::with(&["--allowed-host", "hub:8443, *.example.com"]);
    for (host, status) in [
        ("hub:8443", 200),
        ("HUB.:8443", 200),
        ("hub", 421),
        ("hub:8080", 421),
        ("a.example.com", 200),
        ("a.b.Example.com.:1", 200),
        ("example.com", 421),
        ("badexample.com", 421),
    ] {
        let reply = server.request("GET", "/livez", &[("Host", host)], b"");
        assert_eq!(reply.status, status, "{host}: {}", reply.text());
    }
}

#[test]
fn an_allowed_page_may_send_what_libraries_add_and_read_what_answers_carry() {
    let origins = "https://app.example:443/, http://localhost:3000";
    let server = Server::with(&["--allowed-origin", origins]);
    for origin in ["https://app.example", "http://localhost:3000"] {
        let asked = "traceparent, tracestate, baggage, sentry-trace, x-requested-with, idempotency-key, \
                     x-datadog-trace-id, x-b3-traceid, x-request-id, content-type, last-event-id, authorization";
        let reply = server.request(
            "OPTIONS",
            "/events",
            &[
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", asked),
            ],
            b"",
        );
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        let allowed = reply.header("access-control-allow-headers").unwrap();
        let allowed: Vec<_> = allowed.split(", ").collect();
        for name in asked.split(", ") {
            assert!(allowed.contains(&name), "{name}");
        }
        let mut seen = std::collections::BTreeSet::new();
        let created = server.request("POST", "/jobs", &[("Origin", origin)], b"{\"title\":\"t\"}");
        let refused = server.request("PUT", "/jobs", &[("Origin", origin)], b"{}");
        let polled = server.request("GET", "/events/poll", &[("Origin", origin)], b"");
        for reply in [&created, &refused, &polled] {
            let exposed = reply.header("access-control-expose-headers").unwrap();
            let exposed: Vec<_> = exposed.split(", ").collect();
            for name in ["location", "retry-after", "link"] {
                assert!(exposed.contains(&name), "{name}");
            }
            for (name, _) in &reply.headers {
                let name = name.to_ascii_lowercase();
                let is_for_the_browser =
                    NOT_FOR_PAGES.contains(&name.as_str()) || name.starts_with("access-control-");
                assert!(
                    is_for_the_browser || exposed.contains(&name.as_str()),
                    "{name}"
                );
                seen.insert(name);
            }
        }
        assert!(
            seen.contains("location") && seen.contains("allow"),
            "{seen:?}"
        );
    }
}

/// Headers that every page may read, and those that speak to browsers and proxies alone.
const NOT_FOR_PAGES: &[&str] = &[
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
    "connection",
    "cross-origin-resource-policy",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "x-content-type-options",
];

/// The routes as the index lists them, `{id}` filled in.
fn routes(server: &Server) -> Vec<(String, String)> {
    let index = server.get("/").text();
    let routes: Vec<_> = index
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(method, path)| {
            ["GET", "POST", "DELETE"].contains(method) && path.starts_with('/')
        })
        .map(|(method, path)| (method.to_owned(), path.replace("{id}", "x")))
        .collect();
    assert!(routes.len() > 25, "{index}");
    routes
}
