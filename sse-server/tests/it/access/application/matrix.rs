//! Every route, asked by every kind of page, with every kind of credential, by every kind of host: one naive rule says what is
//! refused. The routes are those that the hub lists itself, so a new one cannot be forgotten.

use std::io::Read;
use std::net::IpAddr;

use super::{App, good, status};
use crate::client::Wire;
use crate::frames::HANDSHAKE;
use crate::server::Server;

/// Where a request says that it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    /// Nothing is said: a program.
    Untold,
    /// The hub's own page.
    Own,
    /// Another one, which is on the list.
    Listed,
    Foreign,
    /// A foreign one whose browser names no `Origin`: an image, a link, a script.
    Embedded,
}

/// What a browser says in `Origin`; `OWN` is the hub's address.
const PAGES: [(Option<&str>, Page); 13] = [
    (None, Page::Untold),
    (Some("http://OWN"), Page::Own),
    (Some("https://app.example"), Page::Listed),
    (Some("HTTPS://APP.EXAMPLE"), Page::Listed),
    (Some("https://evil.example"), Page::Foreign),
    (Some("null"), Page::Foreign),
    (Some("https://a.app.example"), Page::Foreign),
    (Some("https://app.example.evil.example"), Page::Foreign),
    (Some("https://evilapp.example"), Page::Foreign),
    (Some("https://app.example:8443"), Page::Foreign),
    (Some("http://app.example"), Page::Foreign),
    (Some("http://127.0.0.1:1"), Page::Foreign),
    (None, Page::Embedded),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    Bearer,
    Cookie,
    Ticket,
}

const CREDENTIALS: [Credential; 4] = [
    Credential::None,
    Credential::Bearer,
    Credential::Cookie,
    Credential::Ticket,
];

/// Where a request comes from, what it names in which header, and whether the hub answers to that.
type Host = (&'static str, &'static str, &'static str, bool);

const HOSTS: [Host; 8] = [
    ("127.0.0.1", "Host", "OWN", true),
    ("127.0.0.1", "Host", "evil.example", false),
    ("127.0.0.1", "X-Forwarded-Host", "evil.example", false),
    ("127.0.0.1", "X-Forwarded-Host", "hub.example", true),
    // The trusted proxy.
    ("127.0.0.9", "X-Forwarded-Host", "evil.example", false),
    ("127.0.0.9", "X-Forwarded-Host", "hub.example", true),
    (
        "127.0.0.9",
        "Forwarded",
        "for=192.0.2.1;host=evil.example",
        false,
    ),
    (
        "127.0.0.9",
        "Forwarded",
        "for=192.0.2.1;host=hub.example",
        true,
    ),
];

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Refused for the page, and not for a right that is missing.
    fn is_refused_to_page(&self) -> bool {
        self.status == 403 && self.body.contains("pages of this origin")
    }
}

/// The head of an answer, and what a refusal says; streams are left.
fn ask(server: &Server, from: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let from: IpAddr = from.parse().unwrap();
    let mut wire = Wire::connect_from(server.address, from, None).unwrap();
    let body: Option<&[u8]> = (method == "POST").then_some(b"{\"data\": 1}");
    wire.write(&server.bytes(method, path, headers, body));
    let mut read = Vec::new();
    loop {
        let mut space = [0; 4096];
        let count = wire.socket.read(&mut space).unwrap();
        read.extend_from_slice(&space[..count]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(count > 0, "no answer to {method} {path} {headers:?}");
            continue;
        };
        let status = head[9..12].parse().unwrap();
        if count == 0 || status != 403 || body.ends_with('}') {
            return Answer {
                status,
                head: head.to_owned(),
                body: body.to_owned(),
            };
        }
    }
}

fn routes(server: &Server) -> Vec<(String, String)> {
    let index = server.get("/").text();
    let rows = index.lines().filter_map(|line| {
        let (method, path) = line.trim().split_once(' ')?;
        let path = path.replace("{id}", "x");
        path.starts_with('/').then(|| (method.to_owned(), path))
    });
    let mut routes: Vec<_> = rows.collect();
    routes.push(("GET".to_owned(), "/".to_owned()));
    assert!(routes.len() > 35, "{index}");
    routes
}

struct Matrix {
    server: Server,
    own: String,
}

impl Matrix {
    fn ticket(&self) -> String {
        let headers = [("Authorization", "Bearer ann")];
        let reply = self
            .server
            .request("POST", "/events/tickets", &headers, b"");
        reply.ok()["ticket"].as_str().unwrap().to_owned()
    }

    /// Where the log ends.
    fn head(&self) -> String {
        let headers = [("Authorization", "Bearer ann")];
        let stats = self
            .server
            .request("GET", "/events/stats", &headers, b"")
            .ok();
        stats["log"]["head"].as_str().unwrap().to_owned()
    }

    /// One cell: the request is refused as the rule says, and told to pages as it says.
    fn check(
        &self,
        route: &(String, String),
        page: (Option<&str>, Page),
        shown: Credential,
        host: Host,
    ) {
        let (method, path) = (&*route.0, &*route.1);
        let (origin, kind) = page;
        let origin = origin.map(|origin| origin.replace("OWN", &self.own));
        let (from, host_header, host_value, is_known_host) = host;
        let host_value = host_value.replace("OWN", &self.own);
        let is_handshake = path.ends_with("/ws") && method == "GET";
        let mut headers = vec![
            (host_header, &*host_value),
            ("Content-Type", "application/json"),
        ];
        match is_handshake {
            true => headers.extend(HANDSHAKE),
            false => headers.push(("Connection", "close")),
        }
        if let Some(origin) = &origin {
            headers.push(("Origin", origin));
        }
        if kind == Page::Embedded {
            headers.push(("Sec-Fetch-Site", "cross-site"));
        }
        let mut asked = path.to_owned();
        match shown {
            Credential::None => {}
            Credential::Bearer => headers.push(("Authorization", "Bearer ann")),
            Credential::Cookie => headers.push(("Cookie", "sid=ann")),
            Credential::Ticket => asked = format!("{path}?ticket={}", self.ticket()),
        }
        let answer = ask(&self.server, from, method, &asked, &headers);
        let cell = format!(
            "{method} {path}, {origin:?}, {shown:?}, {host:?}: {}",
            answer.head
        );

        // The rule.
        let is_preflight = method == "OPTIONS";
        let is_file = ["/client/", "/elements/", "/react/", "/static/"]
            .iter()
            .any(|folder| path.starts_with(folder));
        let is_open =
            is_file || ["/", "/livez", "/readyz", "/sse-test", "/console"].contains(&path);
        let changes = is_handshake || ["POST", "DELETE"].contains(&method);
        let by_cookie = shown == Credential::Cookie && !is_open;
        let is_refused = !is_preflight
            && match kind {
                Page::Untold | Page::Own | Page::Listed => false,
                Page::Foreign => true,
                Page::Embedded => changes || by_cookie,
            };
        match (is_known_host, is_refused) {
            (false, _) => assert_eq!(answer.status, 421, "{cell}"),
            (true, is_refused) => {
                assert_ne!(answer.status, 421, "{cell}");
                assert_eq!(answer.is_refused_to_page(), is_refused, "{cell}");
            }
        }
        if is_known_host && !is_refused && shown != Credential::None {
            assert_ne!(answer.status, 401, "{cell}");
        }
        let told = origin.as_deref().filter(|_| kind == Page::Listed);
        assert_eq!(answer.header("access-control-allow-origin"), told, "{cell}");
        let with_cookies = told.map(|_| "true");
        let credentials = answer.header("access-control-allow-credentials");
        assert_eq!(credentials, with_cookies, "{cell}");
        if told.is_none() {
            let methods = answer.header("access-control-allow-methods");
            assert_eq!(methods, None, "{cell}");
        }
    }
}

#[test]
fn no_page_host_or_credential_gets_further_on_any_route_than_one_rule_says() {
    let everything = r#"{"user": "ann", "grants": {"publish": ["*"], "subscribe": ["*"], "issue": true, "admin": true}}"#;
    let app = App::start(move |asked| {
        let shown = [asked.header("authorization"), asked.header("cookie")];
        match shown.contains(&Some("Bearer ann")) || shown.contains(&Some("sid=ann")) {
            true => good(everything),
            false => status("401 Unauthorized"),
        }
    });
    let server = app.hub(&[
        "--auth-cookie",
        "sid",
        "--allowed-origin",
        "https://app.example",
        "--allowed-host",
        "hub.example",
        "--trusted-proxy",
        "127.0.0.9",
    ]);
    let own = server.address.to_string();
    let matrix = Matrix { server, own };
    let routes = routes(&matrix.server);
    let before = matrix.head();
    let is_bad = |page: Page, host: Host| page == Page::Foreign || !host.3;
    // What is refused first: by then nothing has been published.
    for refused in [true, false] {
        for route in &routes {
            for page in PAGES {
                for shown in CREDENTIALS {
                    for (n, host) in HOSTS.into_iter().enumerate() {
                        // Every page at the right host, and every host for some pages.
                        let is_chosen =
                            n == 0 || [None, Some("https://evil.example")].contains(&page.0);
                        if is_chosen && is_bad(page.1, host) == refused {
                            matrix.check(route, page, shown, host);
                        }
                    }
                }
                let preflight = ("OPTIONS".to_owned(), route.1.clone());
                for host in [HOSTS[0], HOSTS[1]] {
                    if is_bad(page.1, host) == refused {
                        matrix.check(&preflight, page, Credential::None, host);
                    }
                }
            }
        }
        if refused {
            assert_eq!(matrix.head(), before, "something was published");
        }
    }
    assert_ne!(matrix.head(), before, "what may publish does");
}
